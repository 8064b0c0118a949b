//! What the router needs from the rest of the controller: one trait, implemented by the composition root.

use core::fmt;

use async_trait::async_trait;
use krater_controller_core::{
    catalogue::{CatalogueCommand, Edit},
    command::{Command, Operation, QuotaCommand},
    envelope::Envelope,
    query::{Answer, Caller, Query, ResourceId},
    quota::Limits,
    refusal::Refusal,
    tree::TreeView,
};
use thiserror::Error;

/// The controller behind the API.
#[async_trait]
pub trait Application: Send + Sync + 'static {
    /// Says who sends a request. Asked once per request, before anything else is looked at.
    ///
    /// # Errors
    /// [`Unauthenticated`]
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated>;

    /// Makes a change. Returns when it is stored, not when it is in force.
    ///
    /// # Errors
    /// [`Refusal`]
    async fn execute(
        &self,
        caller: &Caller,
        command: Command,
        envelope: &Envelope,
    ) -> Result<Executed, Refusal>;

    /// Changes what a project may have, and answers what it may have then.
    ///
    /// # Errors
    /// [`Refusal`]
    async fn change_quota(
        &self,
        caller: &Caller,
        command: QuotaCommand,
        envelope: &Envelope,
    ) -> Result<Limits, Refusal>;

    /// Changes the fleet. Returns when that is decided, not when it is done.
    ///
    /// # Errors
    /// [`Refusal`]
    async fn operate(
        &self,
        caller: &Caller,
        operation: Operation,
        envelope: &Envelope,
    ) -> Result<(), Refusal>;

    /// Changes the catalogue of flavors and availability zones; says what was written.
    ///
    /// # Errors
    /// [`Refusal`]
    async fn arrange(
        &self,
        caller: &Caller,
        command: CatalogueCommand,
        envelope: &Envelope,
    ) -> Result<Edit, Refusal>;

    /// Answers a question with the [`Answer`] of the same name.
    ///
    /// # Errors
    /// [`Refusal`]
    async fn answer(&self, caller: &Caller, query: Query) -> Result<Answer, Refusal>;
}

/// What a request brings along to say who sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `X-Auth-Token`.
    pub token: Option<String>,
    /// `X-Service-Token`: of a service that passes a user's token on.
    pub service_token: Option<String>,
    /// `X-Project-Id`, believed only where everybody is trusted.
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
    /// 503: nobody can say right now; the sentence says why.
    #[error("{0}")]
    Unavailable(String),
}

/// A change that was stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    /// The tree right after the change, still pending; for deletes too.
    pub view: TreeView,
    /// The resource the command was about.
    pub subject: ResourceId,
    /// Whether this request did it.
    pub novelty: Novelty,
}

/// Whether a change was made by the request that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It was.
    New,
    /// By one before it, under the same idempotency key: the tree is as it is now.
    Repeated,
}
