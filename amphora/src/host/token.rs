//! The token that lets a host in: `krater1.SECRET.FINGERPRINT`.

use std::{fmt, str::FromStr};

/// A token. The secret is good once; the fingerprint tells the deployment's authority from all others, so that the first
/// contact is not blind.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) secret: String,
    /// SHA-256 of the authority's certificate, hexadecimal.
    pub(crate) fingerprint: String,
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().split('.');
        let (Some("krater1"), Some(secret), Some(fingerprint), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("this is no token for a host: krater host token makes one");
        };
        let is_whole = |part: &str| {
            part.len() == 64
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_whole(secret) || !is_whole(fingerprint) {
            return Err("this token is not whole: copy all of it");
        }
        Ok(Self {
            secret: secret.to_owned(),
            fingerprint: fingerprint.to_owned(),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest is a secret (I13).
        f.debug_struct("Token")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_is_one_and_its_secret_is_not_shown() {
        let (secret, fingerprint) = ("a1".repeat(32), "0f".repeat(32));
        let token: Token = format!("krater1.{secret}.{fingerprint}\n").parse().unwrap();
        assert_eq!((&token.secret, &token.fingerprint), (&secret, &fingerprint));
        assert!(!format!("{token:?}").contains(&secret));
        for wrong in [
            String::new(),
            secret.clone(),
            format!("krater1.{secret}"),
            format!("krater2.{secret}.{fingerprint}"),
            format!("krater1.{secret}.{fingerprint}.x"),
            format!("krater1.{secret}.{}", &fingerprint[1..]),
            format!("krater1.{}.{fingerprint}", secret.to_uppercase()),
        ] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }
}
