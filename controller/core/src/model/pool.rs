//! The pool (reference 7).

use krater_amphora_api::PoolId;
use serde::{Deserialize, Serialize};

use super::{Description, Name, Tags};

/// A pool as the tenant wants it. Its members and monitor are rows of their own in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// `false`: as if it had no members.
    pub admin_state_up: bool,
    /// What members speak.
    pub protocol: PoolProtocol,
    /// How a member is chosen.
    pub lb_algorithm: LbAlgorithm,
    /// Its tags.
    pub tags: Tags,
}

/// What members of a pool speak. Those the data plane does not carry yet are refused with 501 at the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolProtocol {
    /// A byte stream.
    Tcp,
    /// HTTP/1.1.
    Http,
}

impl PoolProtocol {
    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
        }
    }
}

/// How a member is chosen (reference 19.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LbAlgorithm {
    /// By turns, in proportion to weight.
    RoundRobin,
    /// Fewest connections in proportion to weight.
    LeastConnections,
    /// By a hash of the client's address.
    SourceIp,
    /// By a hash of the client's address and port.
    SourceIpPort,
}

impl LbAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RoundRobin,
        Self::LeastConnections,
        Self::SourceIp,
        Self::SourceIpPort,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "ROUND_ROBIN",
            Self::LeastConnections => "LEAST_CONNECTIONS",
            Self::SourceIp => "SOURCE_IP",
            Self::SourceIpPort => "SOURCE_IP_PORT",
        }
    }
}
