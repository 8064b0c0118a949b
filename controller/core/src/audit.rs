//! The audit trail: who changed what, when, and what was refused to whom.

use alloc::string::String;

use jiff::Timestamp;
use krater_amphora_api::LoadBalancerId;
use uuid::Uuid;

use crate::model::ProjectId;

/// Something that was done, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// In which request.
    pub request_id: String,
    /// In which undertaking of the client's.
    pub global_request_id: Option<String>,
    /// By which user.
    pub user: String,
    /// On behalf of which project.
    pub caller_project: Option<ProjectId>,
    /// As what: the caller's personas, by name.
    pub roles: String,
    /// What.
    pub deed: Deed,
    /// To a resource of which kind, as the API calls it.
    pub kind: String,
    /// To which one; of what was refused before it had an id, none.
    pub resource: Option<String>,
    /// In which load balancer.
    pub load_balancer: Option<LoadBalancerId>,
    /// Whose it is.
    pub project: Option<ProjectId>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deed {
    /// POST
    Create,
    /// PUT
    #[default]
    Update,
    /// DELETE
    Delete,
    /// PUT on a `failover`
    Failover,
    /// A secret that changed came into force, or did not.
    Renew,
    /// A certificate in use ends soon, or has ended.
    Expire,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Failover,
        Self::Renew,
        Self::Expire,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Failover => "failover",
            Self::Renew => "renew",
            Self::Expire => "expire",
        }
    }

    /// Reads back what [`Deed::name`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.name() == name)
    }
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored; the same transaction wrote this.
    Done,
    /// It was refused.
    Refused {
        /// With this status code.
        status: u16,
        /// With this sentence, without values that the client sent.
        sentence: String,
    },
}

/// Which entries are wanted, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only in this load balancer.
    pub load_balancer: Option<Uuid>,
    /// Only to this resource.
    pub resource: Option<String>,
    /// Only to what is this project's.
    pub project: Option<String>,
    /// Only by this user.
    pub user: Option<String>,
    /// Only in this request, or this undertaking of a client's.
    pub request_id: Option<String>,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only before then.
    pub until: Option<Timestamp>,
    /// Only older than the entry of this mark.
    pub marker: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What tells it from others; later ones have greater ones.
    pub mark: String,
    /// The entry.
    pub entry: Entry,
}
