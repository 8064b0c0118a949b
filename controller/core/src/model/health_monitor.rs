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

/// What a probe does. `http_version` and `domain_name` are accepted on every type (reference 9.3) and shown; they act
/// on HTTP and HTTPS, and TLS-HELLO asks for the server of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MonitorKind {
    /// A TCP handshake.
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
    /// One HTTP request inside TLS.
    Https(HttpMonitor),
    /// A TLS handshake.
    TlsHello {
        /// Shown, no effect.
        http_version: Option<HttpVersion>,
        /// The server asked for.
        domain_name: Option<String>,
    },
    /// A datagram that nobody refuses.
    UdpConnect {
        /// Shown, no effect.
        http_version: Option<HttpVersion>,
        /// Shown, no effect.
        domain_name: Option<String>,
    },
    /// The first half of an SCTP association.
    Sctp {
        /// Shown, no effect.
        http_version: Option<HttpVersion>,
        /// Shown, no effect.
        domain_name: Option<String>,
    },
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
    /// One HTTP request inside TLS.
    Https,
    /// A TLS handshake.
    TlsHello,
    /// A datagram that nobody refuses.
    UdpConnect,
    /// The first half of an SCTP association.
    Sctp,
}

impl MonitorType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Http,
        Self::Https,
        Self::Ping,
        Self::Tcp,
        Self::TlsHello,
        Self::UdpConnect,
        Self::Sctp,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Ping => "PING",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::TlsHello => "TLS-HELLO",
            Self::UdpConnect => "UDP-CONNECT",
            Self::Sctp => "SCTP",
        }
    }

    /// Whether its probe is an HTTP request.
    #[must_use]
    pub const fn asks_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

impl MonitorKind {
    /// The kind of type `monitor` whose probe is `http`, or keeps of it what every type shows.
    #[must_use]
    pub fn new(monitor: MonitorType, http: HttpMonitor) -> Self {
        let HttpMonitor {
            http_version,
            ref domain_name,
            ..
        } = http;
        let domain_name = domain_name.clone();
        match monitor {
            MonitorType::Http => Self::Http(http),
            MonitorType::Https => Self::Https(http),
            MonitorType::Tcp => Self::Tcp {
                http_version,
                domain_name,
            },
            MonitorType::Ping => Self::Ping {
                http_version,
                domain_name,
            },
            MonitorType::TlsHello => Self::TlsHello {
                http_version,
                domain_name,
            },
            MonitorType::UdpConnect => Self::UdpConnect {
                http_version,
                domain_name,
            },
            MonitorType::Sctp => Self::Sctp {
                http_version,
                domain_name,
            },
        }
    }

    /// Its type.
    #[must_use]
    pub const fn monitor_type(&self) -> MonitorType {
        match self {
            Self::Tcp { .. } => MonitorType::Tcp,
            Self::Ping { .. } => MonitorType::Ping,
            Self::Http(_) => MonitorType::Http,
            Self::Https(_) => MonitorType::Https,
            Self::TlsHello { .. } => MonitorType::TlsHello,
            Self::UdpConnect { .. } => MonitorType::UdpConnect,
            Self::Sctp { .. } => MonitorType::Sctp,
        }
    }

    /// Octavia's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.monitor_type().name()
    }

    /// The request it makes, if it makes one.
    #[must_use]
    pub const fn http(&self) -> Option<&HttpMonitor> {
        match self {
            Self::Http(http) | Self::Https(http) => Some(http),
            Self::Tcp { .. }
            | Self::Ping { .. }
            | Self::TlsHello { .. }
            | Self::UdpConnect { .. }
            | Self::Sctp { .. } => None,
        }
    }

    /// The same, to be changed.
    pub const fn http_mut(&mut self) -> Option<&mut HttpMonitor> {
        match self {
            Self::Http(http) | Self::Https(http) => Some(http),
            Self::Tcp { .. }
            | Self::Ping { .. }
            | Self::TlsHello { .. }
            | Self::UdpConnect { .. }
            | Self::Sctp { .. } => None,
        }
    }

    /// The version in the request line and the Host header, which every type has.
    #[must_use]
    pub const fn host(&self) -> (&Option<HttpVersion>, &Option<String>) {
        match self {
            Self::Http(http) | Self::Https(http) => (&http.http_version, &http.domain_name),
            Self::Tcp {
                http_version,
                domain_name,
            }
            | Self::Ping {
                http_version,
                domain_name,
            }
            | Self::TlsHello {
                http_version,
                domain_name,
            }
            | Self::UdpConnect {
                http_version,
                domain_name,
            }
            | Self::Sctp {
                http_version,
                domain_name,
            } => (http_version, domain_name),
        }
    }

    /// The same, to be changed.
    pub const fn host_mut(&mut self) -> (&mut Option<HttpVersion>, &mut Option<String>) {
        match self {
            Self::Http(http) | Self::Https(http) => (&mut http.http_version, &mut http.domain_name),
            Self::Tcp {
                http_version,
                domain_name,
            }
            | Self::Ping {
                http_version,
                domain_name,
            }
            | Self::TlsHello {
                http_version,
                domain_name,
            }
            | Self::UdpConnect {
                http_version,
                domain_name,
            }
            | Self::Sctp {
                http_version,
                domain_name,
            } => (http_version, domain_name),
        }
    }

    /// The version in the request line, shown on every type.
    #[must_use]
    pub const fn http_version(&self) -> Option<HttpVersion> {
        *self.host().0
    }

    /// The Host header, shown on every type.
    #[must_use]
    pub fn domain_name(&self) -> Option<&str> {
        self.host().1.as_deref()
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
