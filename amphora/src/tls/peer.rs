//! What is known of a client from its handshake.

use std::cell::OnceCell;

use http::HeaderValue;
use krater_amphora_core::{certificate::Fact, proxy_protocol};
use rustls::{CipherSuite, HandshakeKind, ProtocolVersion, ServerConnection};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::{Digest, Sha1};
use x509_parser::{
    certificate::X509Certificate, der_parser::asn1_rs::Oid, prelude::FromDer, time::ASN1Time,
    x509::X509Name,
};

/// What a handshake came to, as far as requests and members are told of it.
#[derive(Debug)]
pub(crate) struct Peer {
    version: Option<ProtocolVersion>,
    suite: Option<CipherSuite>,
    server_name: Option<Box<str>>,
    alpn: Option<Box<[u8]>>,
    certificate: Option<CertificateDer<'static>>,
    /// The session was begun over another connection.
    resumed: bool,
    /// Looked into by the first who asks: most clients have no certificate, and of those that have one few are asked.
    facts: OnceCell<Facts>,
}

/// What a client's certificate says.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// The fields of its subject, in their order.
    subject: Vec<(String, String)>,
    dn: HeaderValue,
    cn: HeaderValue,
    issuer: HeaderValue,
    sha1: HeaderValue,
    not_before: HeaderValue,
    not_after: HeaderValue,
}

impl Peer {
    /// What a session knows whose handshake is over.
    pub(super) fn new(session: &ServerConnection) -> Self {
        let chain = session.peer_certificates();
        let first = chain.and_then(|chain| chain.first());
        let suite = session.negotiated_cipher_suite();
        Self {
            version: session.protocol_version(),
            suite: suite.map(|suite| suite.suite()),
            server_name: session.server_name().map(Into::into),
            alpn: session.alpn_protocol().map(Into::into),
            certificate: first.map(|first| first.clone().into_owned()),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            facts: OnceCell::new(),
        }
    }

    /// What the client asked for by name.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether the client showed a certificate. It was found good then: nobody else gets so far.
    pub(crate) const fn shows_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// The first field of that name in the subject of the client's certificate: `CN`, `O` …
    pub(crate) fn subject_field(&self, name: &str) -> Option<&str> {
        self.facts()?.field(name)
    }

    /// What members are told of the client's certificate: as it stands in a header, in quotes where the reference has
    /// them.
    pub(crate) fn header_value(&self, fact: Fact) -> HeaderValue {
        let facts = self.facts();
        let told = |value: fn(&Facts) -> &HeaderValue| match facts {
            Some(facts) => value(facts).clone(),
            None => NOTHING,
        };
        match fact {
            Fact::Verify => HeaderValue::from_static("0"),
            Fact::HasCert if self.shows_certificate() => HeaderValue::from_static("1"),
            Fact::HasCert => HeaderValue::from_static("0"),
            Fact::Dn => told(|facts| &facts.dn),
            Fact::Cn => told(|facts| &facts.cn),
            Fact::Issuer => told(|facts| &facts.issuer),
            Fact::Sha1 => told(|facts| &facts.sha1),
            Fact::NotBefore => told(|facts| &facts.not_before),
            Fact::NotAfter => told(|facts| &facts.not_after),
        }
    }

    /// What members are told ahead of a connection.
    pub(crate) fn proxied(&self) -> proxy_protocol::Tls<'_> {
        let certificate = self.facts().map(|facts| proxy_protocol::Certificate {
            common_name: facts.field("CN"),
            shown_now: !self.resumed,
        });
        proxy_protocol::Tls {
            version: match self.version {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: self.suite.map_or("", cipher_name),
            server_name: self.server_name.as_deref(),
            alpn: self.alpn.as_deref(),
            certificate,
        }
    }

    /// Whether the client was believed for what it had shown in an earlier handshake, and that has ended meanwhile.
    pub(super) fn is_outdated(&self) -> bool {
        let Some(certificate) = self.certificate.as_ref().filter(|_| self.resumed) else {
            return false;
        };
        let now = UnixTime::now().as_secs();
        X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
            let end = u64::try_from(parsed.validity().not_after.timestamp());
            end.is_ok_and(|end| end < now)
        })
    }

    fn facts(&self) -> Option<&Facts> {
        let certificate = self.certificate.as_ref()?;
        Some(self.facts.get_or_init(|| Facts::read(certificate)))
    }
}

impl Facts {
    fn read(certificate: &[u8]) -> Self {
        let sha1: String = Sha1::digest(certificate)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            // It was read well enough to be believed; what cannot be read of it is not told.
            return Self {
                subject: Vec::new(),
                dn: NOTHING,
                cn: NOTHING,
                issuer: NOTHING,
                sha1: quoted(&sha1),
                not_before: NOTHING,
                not_after: NOTHING,
            };
        };
        let subject = fields(parsed.subject());
        let mut facts = Self {
            dn: quoted(&line(&subject)),
            cn: NOTHING,
            subject,
            issuer: quoted(&line(&fields(parsed.issuer()))),
            not_before: quoted(&moment(&parsed.validity().not_before)),
            not_after: quoted(&moment(&parsed.validity().not_after)),
            sha1: quoted(&sha1),
        };
        facts.cn = quoted(facts.field("CN").unwrap_or_default());
        facts
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.subject
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What is told where there is nothing to tell.
const NOTHING: HeaderValue = HeaderValue::from_static("\"\"");

/// A text as a quoted string (RFC 9110 section 5.6.4). What cannot stand in a header becomes a question mark: a client
/// may have anything in its name that its authority lets pass.
fn quoted(text: &str) -> HeaderValue {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for byte in text.bytes().take(TEXT_BYTES_MAX) {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', byte]),
            0..=31 | 127 => quoted.push(b'?'),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    HeaderValue::try_from(quoted).unwrap_or(NOTHING)
}

/// What OpenSSL calls a cipher suite: members compare with that.
const fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        // There are no others here.
        _ => "",
    }
}

/// What is told of one name, at most: heads of messages have an end.
const TEXT_BYTES_MAX: usize = 4_096;

fn fields(name: &X509Name<'_>) -> Vec<(String, String)> {
    name.iter_attributes()
        .map(|attribute| {
            let value = match attribute.as_str() {
                Ok(text) => text.to_owned(),
                Err(_) => String::from_utf8_lossy(attribute.as_slice()).into_owned(),
            };
            (short_name(attribute.attr_type()), value)
        })
        .collect()
}

fn line(fields: &[(String, String)]) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("/{name}={value}"))
        .collect()
}

/// As a time of this century stands in a certificate; there is no way to write another one so short.
fn moment(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    if time.year() / 100 != 20 {
        return String::new();
    }
    format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        time.year() % 100,
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// What OpenSSL calls a field of a name, as those who compare with it expect.
fn short_name(oid: &Oid<'_>) -> String {
    let id = oid.to_id_string();
    let known = SHORT_NAMES.iter().find(|(known, _)| *known == id);
    known.map_or(id, |(_, name)| (*name).to_owned())
}

const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use rcgen::{DnType, date_time_ymd};
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::testbed::authority::Authority;

    fn facts(spec: &krater_amphora_api::CertificateSpec) -> Facts {
        Facts::read(&CertificateDer::from_pem_slice(spec.chain.as_bytes()).unwrap())
    }

    #[test]
    fn certificates_are_told_as_the_reference_has_it() {
        let authority = Authority::new("Example \"CA\"");
        let facts = facts(&authority.issue_as(1, &["client"], |params| {
            let name = &mut params.distinguished_name;
            *name = rcgen::DistinguishedName::new();
            name.push(DnType::CountryName, "DE");
            name.push(DnType::OrganizationName, "Exämple\r\nX-Evil: 1");
            name.push(DnType::CommonName, "some\\body");
            params.not_before = date_time_ymd(2024, 2, 3);
            params.not_after = date_time_ymd(2090, 12, 31);
        }));
        let texts = [
            &facts.dn,
            &facts.cn,
            &facts.issuer,
            &facts.not_before,
            &facts.not_after,
        ]
        .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap());
        assert_eq!(
            texts,
            [
                r#""/C=DE/O=Exämple??X-Evil: 1/CN=some\\body""#,
                r#""some\\body""#,
                r#""/CN=Example \"CA\"""#,
                r#""240203000000Z""#,
                r#""901231000000Z""#,
            ]
        );
        assert_eq!(facts.field("cn"), Some("some\\body"));
        assert_eq!(facts.field("OU"), None);
        let sha1 = facts.sha1.to_str().unwrap();
        assert!(sha1.len() == 42 && sha1.bytes().all(|byte| !byte.is_ascii_lowercase()));
    }

    #[test]
    fn what_cannot_be_said_in_short_is_not_said() {
        let authority = Authority::new("authority");
        let facts = facts(&authority.issue_as(1, &["client"], |params| {
            params.not_before = date_time_ymd(1999, 1, 1);
            params.not_after = date_time_ymd(2124, 1, 1);
        }));
        assert_eq!((facts.not_before, facts.not_after), (NOTHING, NOTHING));
    }
}
