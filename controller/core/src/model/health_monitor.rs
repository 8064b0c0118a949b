//! The health monitor (reference 9).

use alloc::{string::String, vec::Vec};

use krater_amphora_api::{ExpectedCodes, HealthMonitorId, HttpVersion, PoolId};
use serde::{Deserialize, Serialize};

use super::{Name, Tags};

/// A health monitor as the tenant wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthMonitor {
    /// Its id.
    pub id: HealthMonitorId,
    /// The pool whose members it judges.
    pub pool: PoolId,
    /// Its name.
    pub name: Name,
    /// `false`: nothing is probed, members count as up.
    pub admin_state_up: bool,
    /// What a probe does.
    pub kind: MonitorKind,
    /// Seconds between probes of one member.
    pub delay_seconds: u32,
    /// Seconds a probe may take.
    pub timeout_seconds: u32,
    /// Successes in a row that bring a member back, 1–10.
    pub max_retries: u8,
    /// Failures in a row that take a member out, 1–10.
    pub max_retries_down: u8,
    /// Its tags.
    pub tags: Tags,
}

/// What a probe does. Types the data plane does not carry yet are refused with 501 at the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorKind {
    /// A TCP handshake. `http_version` and `domain_name` are accepted on it without effect (reference 9.3) and shown.
    Tcp {
        /// Shown, no effect.
        http_version: Option<HttpVersion>,
        /// Shown, no effect.
        domain_name: Option<String>,
    },
    /// An ICMP echo.
    Ping {
        /// Shown, no effect.
        http_version: Option<HttpVersion>,
        /// Shown, no effect.
        domain_name: Option<String>,
    },
    /// One HTTP request.
    Http(HttpMonitor),
}

/// The type of a probe, without its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorType {
    /// A TCP handshake.
    Tcp,
    /// An ICMP echo.
    Ping,
    /// One HTTP request.
    Http,
}

impl MonitorType {
    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Ping => "PING",
            Self::Http => "HTTP",
        }
    }
}

impl MonitorKind {
    /// Its type.
    #[must_use]
    pub const fn monitor_type(&self) -> MonitorType {
        match self {
            Self::Tcp { .. } => MonitorType::Tcp,
            Self::Ping { .. } => MonitorType::Ping,
            Self::Http(_) => MonitorType::Http,
        }
    }

    /// Octavia's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.monitor_type().name()
    }

    /// The version in the request line, shown on every type.
    #[must_use]
    pub const fn http_version(&self) -> Option<HttpVersion> {
        match self {
            Self::Tcp { http_version, .. } | Self::Ping { http_version, .. } => *http_version,
            Self::Http(http) => http.http_version,
        }
    }

    /// The Host header, shown on every type.
    #[must_use]
    pub fn domain_name(&self) -> Option<&str> {
        match self {
            Self::Tcp { domain_name, .. } | Self::Ping { domain_name, .. } => {
                domain_name.as_deref()
            }
            Self::Http(http) => http.domain_name.as_deref(),
        }
    }
}

/// The request of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpMonitor {
    /// GET, HEAD, POST, PUT, DELETE, TRACE, OPTIONS, CONNECT or PATCH.
    pub http_method: String,
    /// Path with query, starting with `/`.
    pub url_path: String,
    /// As the tenant wrote it: `200`, `200,202` or `200-204`.
    pub expected_codes: String,
    /// The same, parsed; never empty.
    pub expected: Vec<ExpectedCodes>,
    /// Version in the request line.
    pub http_version: Option<HttpVersion>,
    /// Host header; only with HTTP/1.1.
    pub domain_name: Option<String>,
}
