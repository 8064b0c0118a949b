//! The pool (reference 7).

use alloc::string::String;
use core::net::IpAddr;

use krater_amphora_api::PoolId;
use serde::{Deserialize, Serialize};

use super::{Description, ListenerProtocol, Name, PoolTls, Tags};

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
    /// How a client is kept with its member.
    #[serde(default)]
    pub session_persistence: Option<SessionPersistence>,
    /// TLS toward members.
    #[serde(default)]
    pub tls: PoolTls,
    /// Its tags.
    pub tags: Tags,
}

impl Pool {
    /// Whether it asks for TLS around what a listener of that protocol passes on as it comes.
    #[must_use]
    pub fn seals_streams_of(&self, listener: ListenerProtocol) -> bool {
        let streams = matches!(listener, ListenerProtocol::Tcp | ListenerProtocol::Https);
        let proxied = matches!(self.protocol, PoolProtocol::Proxy | PoolProtocol::ProxyV2);
        streams && proxied && self.tls.enabled
    }
}

/// What members of a pool speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolProtocol {
    /// A byte stream.
    Tcp,
    /// HTTP/1.1.
    Http,
    /// TLS, passed on as it came.
    Https,
    /// What the listener speaks, behind a line that says whom it is for.
    Proxy,
    /// The same in its binary form.
    ProxyV2,
    /// Datagrams.
    Udp,
    /// Associations.
    Sctp,
}

impl PoolProtocol {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Tcp,
        Self::Http,
        Self::Https,
        Self::Proxy,
        Self::ProxyV2,
        Self::Udp,
        Self::Sctp,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Proxy => "PROXY",
            Self::ProxyV2 => "PROXYV2",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// Whether TLS toward members can be put around it: it is HTTP, or may be.
    #[must_use]
    pub const fn can_be_sealed(self) -> bool {
        matches!(self, Self::Http | Self::Proxy | Self::ProxyV2)
    }

    /// Whether it has neither streams nor what is built on them: UDP and SCTP (reference 19.11).
    #[must_use]
    pub const fn is_streamless(self) -> bool {
        matches!(self, Self::Udp | Self::Sctp)
    }
}

/// How a client is kept with the member it came to first (reference 7.4, 19.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPersistence {
    /// By what a client is known.
    pub kind: PersistenceType,
    /// The application's cookie; with [`PersistenceType::AppCookie`] only.
    pub cookie_name: Option<String>,
    /// How long a client is remembered, in seconds; UDP and SCTP only.
    pub timeout_seconds: Option<u32>,
    /// Which clients count as one, as a netmask; UDP and SCTP only.
    pub granularity: Option<IpAddr>,
}

/// By what a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PersistenceType {
    /// Its address.
    SourceIp,
    /// A cookie of ours.
    HttpCookie,
    /// A cookie of the application's.
    AppCookie,
}

impl PersistenceType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SourceIp, Self::HttpCookie, Self::AppCookie];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceIp => "SOURCE_IP",
            Self::HttpCookie => "HTTP_COOKIE",
            Self::AppCookie => "APP_COOKIE",
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
