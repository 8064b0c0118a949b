//! What a deployment may choose about the API.

use core::num::NonZeroUsize;

/// Choices of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where clients reach the API, e.g. `https://lb.example.test`, for links; the request's own host when `None`.
    pub api_base_uri: Option<String>,
    /// Where tokens come from, named in 401 answers.
    pub identity_uri: Option<String>,
    /// The providers tenants may name; the first is the one meant when none is named.
    pub providers: Vec<Provider>,
    /// The most objects of one page of a list, and the page size when none is asked for.
    pub pagination_max_limit: NonZeroUsize,
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Whether `/healthcheck` answers.
    pub healthcheck: Healthcheck,
}

/// A provider as `GET /providers` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// How tenants name it.
    pub name: String,
    /// What it is, for people.
    pub description: String,
}

/// Whether `/healthcheck` answers (reference 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// 404, the default.
    Disabled,
    /// 200 while the store answers, else 503.
    Enabled,
}

impl Default for Settings {
    /// Octavia's defaults (reference 1.2, 4.5, 13).
    fn default() -> Self {
        Self {
            api_base_uri: None,
            identity_uri: None,
            providers: vec![
                Provider {
                    name: "amphora".into(),
                    description: "The krater amphora driver.".into(),
                },
                Provider {
                    name: "octavia".into(),
                    description: "Deprecated alias of the amphora driver.".into(),
                },
            ],
            pagination_max_limit: NonZeroUsize::new(1000).unwrap_or(NonZeroUsize::MIN),
            body_bytes_max: 114_688,
            healthcheck: Healthcheck::Disabled,
        }
    }
}
