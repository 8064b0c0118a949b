//! What an amphora says of itself. Reports are whole, and may be followed by what changed since: a lost one costs nothing,
//! since changes that follow nothing that is remembered are answered with the wish for all of it.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    AmphoraId, BootId, ContractVersion, Generation, ListenerId, LoadBalancerId, MemberId, PoolId,
};

/// Who answers: `GET /v1/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Which amphora this is, as in its certificate.
    pub amphora: AmphoraId,
    /// This run of the process.
    pub boot: BootId,
    /// The contract it speaks.
    pub contract: ContractVersion,
    /// The release of the program.
    pub version: String,
    /// Its process id, for operators.
    pub pid: u32,
    /// Number of workers.
    pub workers: u32,
    /// The addresses of its host, or of the network namespace that it lives in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<LinkAddress>,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkAddress {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits tell the network that the link leads to.
    pub prefix_bits: u8,
}

impl LinkAddress {
    /// Whether `other` is on that network.
    #[must_use]
    pub fn reaches(&self, other: IpAddr) -> bool {
        let bits = u32::from(self.prefix_bits);
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                bits <= 32 && differ.checked_shr(32 - bits).unwrap_or_default() == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                bits <= 128 && differ.checked_shr(128 - bits).unwrap_or_default() == 0
            }
            _ => false,
        }
    }
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who sends it.
    pub info: Info,
    /// Counts up within one boot; an older one than the last seen is ignored.
    pub sequence: u64,
    /// Every load balancer it carries.
    pub load_balancers: Vec<LoadBalancerReport>,
    /// Port of its metrics endpoint, if it has one.
    #[serde(default)]
    pub metrics_port: Option<u16>,
}

/// What changed since a report that a controller remembers: a heartbeat of an amphora of which nearly all is as it was. All
/// that is not named is as it was then, and so is [`Report::info`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportChanges {
    /// Who sends it.
    pub amphora: AmphoraId,
    /// This run of the process.
    pub boot: BootId,
    /// The number of the report, or of the changes, that these follow.
    pub since: u64,
    /// As [`Report::sequence`].
    pub sequence: u64,
    /// Load balancers of which anything is another than then, and those that came: each whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancers: Vec<LoadBalancerReport>,
    /// Load balancers that it carries no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<LoadBalancerId>,
}

/// What a controller answers to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReceipt {
    /// `true` asks for the next report at once.
    #[serde(default)]
    pub again: bool,
    /// Whether what was said is remembered, so that the next one may say what changed since.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub remembers: bool,
}

/// One load balancer on one amphora.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancerReport {
    /// Which load balancer.
    pub id: LoadBalancerId,
    /// The generation in force.
    pub generation: Generation,
    /// Its listeners.
    pub listeners: Vec<ListenerReport>,
    /// Its pools.
    pub pools: Vec<PoolReport>,
    /// Whether it has its addresses here, if it takes turns at them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announcement: Option<AnnouncementReport>,
}

/// Whether an amphora has the addresses of a load balancer at which it takes turns with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnouncementReport {
    /// Whether it has.
    pub state: AnnouncementState,
    /// Since when it has them, in milliseconds since 1970 by the clock of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Whether it stands by because a controller said so, and hears nobody else (contract 2).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub aside: bool,
    /// Why it cannot have them, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whose turn it is, as one amphora sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnouncementState {
    /// Its own: it has the addresses.
    Active,
    /// Another's, whose silence it listens for.
    Standby,
    /// It takes no part.
    Down,
}

/// One listener on one amphora.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// Which listener.
    pub id: ListenerId,
    /// Whether it serves.
    #[serde(flatten)]
    pub state: ListenerState,
    /// What it did since the process started.
    pub counters: Counters,
    /// Requests and connections that failed since then, by the name of their [`Cause`](crate::Cause); names that a reader
    /// does not know are of causes that came later. What never happened is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
}

/// Whether a listener serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ListenerState {
    /// It accepts connections.
    Open,
    /// It is at its connection limit.
    Full,
    /// It, or its load balancer, is disabled.
    Disabled,
    /// Its port cannot be had; the amphora tries again each second.
    Failed {
        /// Why, as a sentence.
        reason: String,
    },
}

/// What a listener did. All but the first only ever grow within one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Client connections open now.
    pub active_connections: u64,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Requests that failed by the client's fault.
    pub request_errors: u64,
    /// Client connections accepted.
    pub total_connections: u64,
}

/// One pool on one amphora.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Which pool.
    pub id: PoolId,
    /// Its members.
    pub members: Vec<MemberReport>,
}

/// One member on one amphora.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Which member.
    pub id: MemberId,
    /// What the amphora thinks of it.
    pub health: MemberHealth,
    /// Why it is down, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Connections open to it now.
    #[serde(default)]
    pub active_connections: u64,
    /// Whether it is passed over for a while because connections to it failed.
    #[serde(default)]
    pub out: bool,
}

/// What an amphora thinks of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberHealth {
    /// Nothing probes it: it counts as up.
    NoMonitor,
    /// It is probed, and no probe has ended yet: it counts as up.
    Unproven,
    /// Its probes succeed.
    Up,
    /// Its probes fail.
    Down,
}
