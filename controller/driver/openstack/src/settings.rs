//! What a deployment says of its identity service.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use http::Uri;
use krater_controller_core::caller::RoleSet;
use secrecy::SecretString;
use thiserror::Error;

/// How to reach an identity service and what to make of its answers.
#[derive(Clone, Debug)]
pub struct KeystoneSettings {
    /// Its address, e.g. `https://identity.example.test/v3`; `/v3` is added when it is missing.
    pub url: String,
    /// Who krater is there: a user that may validate tokens (role `service` or `admin`).
    pub login: Login,
    /// A PEM file with the authorities its certificate may be from; those of this host when `None`.
    pub cafile: Option<PathBuf>,
    /// Which roles count.
    pub role_set: RoleSet,
    /// Roles of which a service token must have one for the user's token beside it to be accepted although expired.
    pub service_roles: BTreeSet<String>,
    /// How long an answer may take, connection included.
    pub timeout: Duration,
    /// What is remembered of tokens.
    pub cache: CacheSettings,
}

/// How krater logs in to the identity service itself.
#[derive(Clone, Debug)]
pub enum Login {
    /// As a user in a project, by names.
    Password {
        /// The user.
        user: String,
        /// The domain of the user.
        user_domain: String,
        /// The password.
        password: SecretString,
        /// The project.
        project: String,
        /// The domain of the project.
        project_domain: String,
    },
    /// By an application credential.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// Its secret.
        secret: SecretString,
    },
}

/// What is remembered of tokens, and how long. Tokens themselves are not kept, only their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Good tokens remembered at once; the least recently used one goes.
    pub tokens_max: usize,
    /// How long a good token counts without being asked about again, at most until it ends. A token that is revoked
    /// is refused within this time.
    pub lifetime: Duration,
    /// How long a refused token stays refused without being asked about again.
    pub refused: Duration,
    /// How long beyond `lifetime` a good token counts while the identity service cannot be reached, at most until
    /// it ends.
    pub outage: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            tokens_max: 10_000,
            lifetime: Duration::from_secs(300),
            refused: Duration::from_secs(10),
            outage: Duration::from_secs(3_600),
        }
    }
}

/// The address of an identity service is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an address like https://identity.example.test/v3")]
pub struct UrlError(pub String);

impl KeystoneSettings {
    /// The address of the v3 API, without a slash at the end.
    ///
    /// # Errors
    /// [`UrlError`]
    pub fn base(url: &str) -> Result<String, UrlError> {
        Self::base_of(url, "/v3")
    }

    pub(crate) fn base_of(url: &str, version: &str) -> Result<String, UrlError> {
        let wrong = || UrlError(url.to_owned());
        let trimmed = url.trim_end_matches('/');
        let uri: Uri = trimmed.parse().map_err(|_| wrong())?;
        let host = uri.host().unwrap_or_default();
        let served = matches!(uri.scheme_str(), Some("http" | "https"));
        // A password in an address would end up in logs and in answers.
        let bare = uri.query().is_none() && !trimmed.contains(['@', '#']);
        if !served || host.is_empty() || !bare {
            return Err(wrong());
        }
        Ok(if trimmed.ends_with(version) {
            trimmed.to_owned()
        } else {
            format!("{trimmed}{version}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_completed_or_refused() {
        for (given, base) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/v3"),
            ("http://127.0.0.1:5000/v3", "http://127.0.0.1:5000/v3"),
            ("https://c.test/identity/", "https://c.test/identity/v3"),
            ("https://[::1]:5000/v3/", "https://[::1]:5000/v3"),
        ] {
            assert_eq!(KeystoneSettings::base(given).as_deref(), Ok(base));
        }
        for wrong in [
            "",
            "identity.test",
            "ftp://identity.test",
            "https://",
            "https:///v3",
            "https://user:password@identity.test",
            "https://identity.test/v3?x=1",
            "https://identity.test/a b",
        ] {
            assert!(KeystoneSettings::base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let logins = [
            Login::Password {
                user: "krater".into(),
                user_domain: "Default".into(),
                password: "hush".into(),
                project: "service".into(),
                project_domain: "Default".into(),
            },
            Login::ApplicationCredential {
                id: "id".into(),
                secret: "hush".into(),
            },
        ];
        for login in logins {
            assert!(!format!("{login:?}").contains("hush"));
        }
    }
}
