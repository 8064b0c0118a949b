//! The status enums of the API (reference 18.1).

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Where a resource is on its way into the data plane. Computed from generations, never stored (I7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProvisioningStatus {
    /// In force.
    Active,
    /// Created, not in force yet.
    PendingCreate,
    /// Changed, the change is not in force yet.
    PendingUpdate,
    /// Deleted, still in force.
    PendingDelete,
    /// The last change could not be brought into force; see the [`Reason`].
    Error,
}

impl ProvisioningStatus {
    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::PendingCreate => "PENDING_CREATE",
            Self::PendingUpdate => "PENDING_UPDATE",
            Self::PendingDelete => "PENDING_DELETE",
            Self::Error => "ERROR",
        }
    }
}

/// Whether a resource works, as the data plane last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperatingStatus {
    /// It works.
    Online,
    /// It is disabled, or nothing was heard of it yet.
    Offline,
    /// It works in part.
    Degraded,
    /// It does not work.
    Error,
    /// Nothing judges it.
    NoMonitor,
    /// It finishes what it has and takes nothing new.
    Draining,
}

impl OperatingStatus {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Online,
        Self::Offline,
        Self::Degraded,
        Self::Error,
        Self::NoMonitor,
        Self::Draining,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "ONLINE",
            Self::Offline => "OFFLINE",
            Self::Degraded => "DEGRADED",
            Self::Error => "ERROR",
            Self::NoMonitor => "NO_MONITOR",
            Self::Draining => "DRAINING",
        }
    }

    /// Reads back what [`OperatingStatus::name`] gave.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// Why something is in `ERROR`, for people: shown by the API as `status_reason`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word programs may match on, e.g. `port_in_use`, `amphora_unreachable`, `refused_by_amphora`.
    pub code: String,
    /// One sentence: what is wrong.
    pub message: String,
    /// The step that failed, e.g. `apply`, `place`, `bind`.
    pub step: String,
    /// Whether krater goes on trying by itself.
    pub heals: bool,
}
