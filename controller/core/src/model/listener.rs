//! The listener (reference 6).

use alloc::{string::String, vec::Vec};

use krater_amphora_api::{L7PolicyId, ListenerId, PoolId};
use serde::{Deserialize, Serialize};

use super::{Description, Name, Tags};

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
    /// Its tags.
    pub tags: Tags,
}

/// What clients speak to a listener. Those the data plane does not carry yet are refused with 501 at the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// A byte stream.
    Tcp,
    /// HTTP/1.1.
    Http,
}

impl ListenerProtocol {
    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
        }
    }
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
/// (reference 6.4, remarks). Names are among those the data plane inserts.
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
