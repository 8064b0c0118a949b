//! What members are told of a client's certificate, and under which names (reference 19.5).

/// What of a client's certificate a listener tells members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsertCertificate {
    /// How it was judged.
    pub verify: bool,
    /// Whether there is one.
    pub has_cert: bool,
    /// Its subject.
    pub dn: bool,
    /// The common name in that.
    pub cn: bool,
    /// Who issued it.
    pub issuer: bool,
    /// Its SHA-1 fingerprint.
    pub sha1: bool,
    /// When it begins to be valid.
    pub not_before: bool,
    /// When it ends to be valid.
    pub not_after: bool,
}

/// One thing that is told of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// How it was judged.
    Verify,
    /// Whether there is one.
    HasCert,
    /// Its subject.
    Dn,
    /// The common name in that.
    Cn,
    /// Who issued it.
    Issuer,
    /// Its SHA-1 fingerprint.
    Sha1,
    /// When it begins to be valid.
    NotBefore,
    /// When it ends to be valid.
    NotAfter,
}

impl InsertCertificate {
    /// What is to be told, in the order in which it is.
    pub fn facts(self) -> impl Iterator<Item = Fact> {
        let wanted = [
            (self.verify, Fact::Verify),
            (self.has_cert, Fact::HasCert),
            (self.dn, Fact::Dn),
            (self.cn, Fact::Cn),
            (self.issuer, Fact::Issuer),
            (self.sha1, Fact::Sha1),
            (self.not_before, Fact::NotBefore),
            (self.not_after, Fact::NotAfter),
        ];
        wanted
            .into_iter()
            .filter_map(|(wanted, fact)| wanted.then_some(fact))
    }
}

impl Fact {
    /// The header that it is told in, in lower case. Whatever a client sends under that name is taken out.
    #[must_use]
    pub const fn header(self) -> &'static str {
        match self {
            Self::Verify => "x-ssl-client-verify",
            Self::HasCert => "x-ssl-client-has-cert",
            Self::Dn => "x-ssl-client-dn",
            Self::Cn => "x-ssl-client-cn",
            Self::Issuer => "x-ssl-issuer",
            Self::Sha1 => "x-ssl-client-sha1",
            Self::NotBefore => "x-ssl-client-not-before",
            Self::NotAfter => "x-ssl-client-not-after",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn what_is_asked_for_is_told_and_nothing_else() {
        assert_eq!(InsertCertificate::default().facts().count(), 0);
        let asked = InsertCertificate {
            cn: true,
            not_after: true,
            ..InsertCertificate::default()
        };
        let headers: Vec<_> = asked.facts().map(Fact::header).collect();
        assert_eq!(headers, ["x-ssl-client-cn", "x-ssl-client-not-after"]);
        let all = InsertCertificate {
            verify: true,
            has_cert: true,
            dn: true,
            cn: true,
            issuer: true,
            sha1: true,
            not_before: true,
            not_after: true,
        };
        assert_eq!(all.facts().count(), 8);
    }
}
