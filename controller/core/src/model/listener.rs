//! The listener (reference 6).

use alloc::{string::String, vec::Vec};

use krater_amphora_api::{L7PolicyId, ListenerId, PoolId};
use serde::{Deserialize, Serialize};

use super::{Description, Hsts, ListenerTls, Name, Tags};

/// A listener as the tenant wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its id.
    pub id: ListenerId,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// `false`: the port is closed.
    pub admin_state_up: bool,
    /// What clients speak.
    pub protocol: ListenerProtocol,
    /// The port, 1–65535.
    pub protocol_port: u16,
    /// Concurrent connections; `None` (shown as -1) means the deployment's default.
    pub connection_limit: Option<u32>,
    /// Where connections go.
    pub default_pool: Option<PoolId>,
    /// Its L7 policies in the order of their positions. It may name some that are being deleted or are gone already:
    /// they count no more.
    #[serde(default)]
    pub l7_policies: Vec<L7PolicyId>,
    /// Networks clients may come from, masked to the network address; empty means everybody.
    pub allowed_cidrs: Vec<String>,
    /// Timers, in milliseconds.
    pub timeouts: Timeouts,
    /// Headers added to requests. Kept as the tenant wrote them, keys and values.
    pub insert_headers: InsertHeaders,
    /// TLS toward clients. On protocols without TLS its terms are kept without effect (reference 6.4, remarks).
    #[serde(default)]
    pub tls: ListenerTls,
    /// What browsers are told about coming back over TLS.
    #[serde(default)]
    pub hsts: Hsts,
    /// Its tags.
    pub tags: Tags,
}

/// What clients speak to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// A byte stream.
    Tcp,
    /// HTTP/1.1.
    Http,
    /// TLS that is passed on as it is.
    Https,
    /// HTTP inside TLS that ends here.
    TerminatedHttps,
    /// Datagrams.
    Udp,
    /// Associations.
    Sctp,
    /// The metrics of the load balancer itself.
    Prometheus,
}

impl ListenerProtocol {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Tcp,
        Self::Http,
        Self::Https,
        Self::TerminatedHttps,
        Self::Udp,
        Self::Sctp,
        Self::Prometheus,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::TerminatedHttps => "TERMINATED_HTTPS",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Prometheus => "PROMETHEUS",
        }
    }

    /// Whose ports it takes (reference 6.3).
    #[must_use]
    pub const fn family(self) -> PortFamily {
        match self {
            Self::Tcp | Self::Http | Self::Https | Self::TerminatedHttps | Self::Prometheus => {
                PortFamily::Tcp
            }
            Self::Udp => PortFamily::Udp,
            Self::Sctp => PortFamily::Sctp,
        }
    }
}

/// Ports of one family are told apart from those of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortFamily {
    /// TCP and all that runs over it.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Timers of a listener, in milliseconds, 0–2 073 600 000 (reference 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Client inactivity.
    pub client_data_ms: u32,
    /// Connecting to a member.
    pub member_connect_ms: u32,
    /// Member inactivity.
    pub member_data_ms: u32,
    /// Wait for the client's first bytes.
    pub tcp_inspect_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            client_data_ms: 50_000,
            member_connect_ms: 5_000,
            member_data_ms: 50_000,
            tcp_inspect_ms: 0,
        }
    }
}

/// Headers a listener adds: name and value as the tenant wrote them. Only a case-insensitive `true` activates
/// (reference 6.4, remarks). Names are among those [`header_kind`] knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InsertHeaders(pub alloc::collections::BTreeMap<String, String>);

impl InsertHeaders {
    /// Whether the header `name` is to be inserted.
    #[must_use]
    pub fn inserts(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// What kind of header `name` is, if listeners can add it at all (reference 6.4). Names are case-sensitive.
#[must_use]
pub fn header_kind(name: &str) -> Option<HeaderKind> {
    Some(match name {
        "X-Forwarded-For" | "X-Forwarded-Port" | "X-Forwarded-Proto" => HeaderKind::Forwarded,
        "X-Forwarded-IP" | "X-Client-IP" | "X-Real-IP" => HeaderKind::ClientAddress,
        "X-SSL-Client-Verify"
        | "X-SSL-Client-Has-Cert"
        | "X-SSL-Client-DN"
        | "X-SSL-Client-CN"
        | "X-SSL-Issuer"
        | "X-SSL-Client-SHA1"
        | "X-SSL-Client-Not-Before"
        | "X-SSL-Client-Not-After" => HeaderKind::ClientCertificate,
        _ => return None,
    })
}

/// What a header tells members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// Where and how a client came.
    Forwarded,
    /// The client's address under another name.
    ClientAddress,
    /// The client's certificate: where TLS ends only.
    ClientCertificate,
}
