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

impl Reason {
    /// Whether code, step and healing are those of a row of [`CODES`].
    #[must_use]
    pub fn is_known(&self) -> bool {
        CODES
            .iter()
            .any(|row| (row.0, row.1, row.2) == (&*self.code, &*self.step, self.heals))
    }
}

/// All that `status_reason` can say: the code, the step that failed, whether it heals by itself, and what it means.
/// Programs may match on them, so a row never changes and never goes.
pub const CODES: &[(&str, &str, bool, &str)] = &[
    (
        "no_capacity",
        "place",
        true,
        "No amphora has room for the load balancer; it is placed as soon as one has.",
    ),
    (
        "no_such_zone",
        "place",
        true,
        "The deployment has no amphorae in the zone asked for; it is placed as soon as there are.",
    ),
    (
        "no_host",
        "place",
        true,
        "No host has room for another amphora; it is placed as soon as one has.",
    ),
    (
        "no_second_host",
        "place",
        true,
        "Of its two amphorae the second has to be on another host, and none has room; it is placed as soon as one has.",
    ),
    (
        "no_address",
        "place",
        true,
        "Each of its two amphorae needs an address of its own on the subnet of its VIP, and none can be had; it is as soon as one is free.",
    ),
    (
        "no_host_builds_network",
        "place",
        true,
        "No host with room can build the network it is on; it is placed as soon as one can.",
    ),
    (
        "amphora_not_started",
        "start",
        true,
        "The amphora that is to carry it cannot be started; that is tried again.",
    ),
    (
        "amphora_unreachable",
        "apply",
        true,
        "The amphora that carries it does not answer; what was asked for is in force once it does.",
    ),
    (
        "amphora_unreachable",
        "remove",
        true,
        "An amphora that it leaves does not answer and may serve it still; that is asked until it does.",
    ),
    (
        "refused_by_amphora",
        "apply",
        false,
        "The amphora will not carry it as it was asked for; what was in force before still is.",
    ),
    (
        "address_not_released",
        "release",
        true,
        "The network does not take the addresses back; the deletion is done once it does.",
    ),
    (
        "port_in_use",
        "bind",
        true,
        "Somebody else has the listener's port; it is opened once that is free. All else is in force.",
    ),
    (
        "bind_failed",
        "bind",
        true,
        "The listener's port cannot be opened; that is tried again. All else is in force.",
    ),
    (
        "no_cipher",
        "bind",
        false,
        "The deployment prohibits all ciphers that it asks for: it is not served until it asks for others. All else is \
         in force.",
    ),
    (
        "secret_unavailable",
        "secrets",
        true,
        "A certificate, key or list it needs cannot be read from the secret store; what was asked for is in force once \
         it can. What was in force before still is.",
    ),
    (
        "secret_unusable",
        "secrets",
        true,
        "What it needs of the secret store is there and not what it should be; what was asked for is in force once it \
         is. What was in force before still is.",
    ),
];
