//! Who callers are.

use std::fmt;

use async_trait::async_trait;
use krater_controller_core::caller::Caller;
use thiserror::Error;

/// What a request brings along to say who sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `X-Auth-Token`.
    pub token: Option<String>,
    /// `X-Service-Token`: of a service that passes a user's token on, which may have expired meanwhile.
    pub service_token: Option<String>,
    /// `X-Project-Id`, believed only by drivers that trust everybody.
    pub project: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tokens are secrets (I13).
        let given = |token: &Option<String>| token.as_ref().map(|_| "…");
        f.debug_struct("Credentials")
            .field("token", &given(&self.token))
            .field("service_token", &given(&self.service_token))
            .field("project", &self.project)
            .finish()
    }
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unauthenticated {
    /// 401: no token, or one that is not valid.
    #[error("the request you have made requires authentication")]
    Required,
    /// 503: nobody can say right now.
    #[error("{0}")]
    Unavailable(String),
}

/// Somebody who vouches for callers.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Says who sends the request.
    ///
    /// # Errors
    /// [`Unauthenticated`]
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated>;
}
