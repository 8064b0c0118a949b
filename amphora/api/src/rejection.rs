//! Why a spec was refused, in terms a tenant's error message can be made from; and what an apply answers.

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{Generation, HealthMonitorId, ListenerId, LoadBalancerReport, MemberId, PoolId};

/// One reason against a spec. A refused spec carries every reason at once and changes nothing (I10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The resource the reason is about.
    pub subject: Subject,
    /// One sentence, lower case, no full stop: what is wrong and, where it helps, what would be right.
    pub reason: String,
}

/// The resource a [`Rejection`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "id")]
pub enum Subject {
    /// The load balancer itself.
    LoadBalancer,
    /// One of its listeners.
    Listener(ListenerId),
    /// One of its pools.
    Pool(PoolId),
    /// A member of one of its pools.
    Member(MemberId),
    /// The health monitor of one of its pools.
    HealthMonitor(HealthMonitorId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadBalancer => f.write_str("load balancer"),
            Self::Listener(id) => write!(f, "listener {id}"),
            Self::Pool(id) => write!(f, "pool {id}"),
            Self::Member(id) => write!(f, "member {id}"),
            Self::HealthMonitor(id) => write!(f, "health monitor {id}"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.reason)
    }
}

/// `200`: the spec is in force. The report is of this load balancer right after the swap, so that a controller
/// need not wait for the next heartbeat; a listener whose port is taken shows there as `failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The generation now in force (never older than the one that was sent).
    pub generation: Generation,
    /// The load balancer as it is now.
    pub report: LoadBalancerReport,
}

/// Body of every answer of the agent that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyError {
    /// What went wrong, as a sentence.
    pub message: String,
    /// Every reason against the spec; empty unless the status is `422`.
    #[serde(default)]
    pub rejections: Vec<Rejection>,
    /// The newer generation that is held already; only with status `409`.
    #[serde(default)]
    pub held: Option<Generation>,
}
