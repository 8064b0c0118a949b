//! The settings of a health monitor, checked.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use krater_amphora_api::{HealthMonitorId, HttpVersion};

/// How the members of a pool are probed and judged (reference 19.7).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonitorConfig {
    /// Which health monitor this is.
    pub id: HealthMonitorId,
    /// What a probe does.
    pub probe: Probe,
    /// Time between the starts of two probes of one member; not zero.
    pub delay: Duration,
    /// Time allowed for one probe, connecting included; not zero.
    pub timeout: Duration,
    /// Successes in a row that bring a member back, 1–10.
    pub rise: u8,
    /// Failures in a row that take a member out, 1–10.
    pub fall: u8,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A TCP handshake: success when it completes.
    Tcp,
    /// An ICMP or ICMPv6 echo: success when it is answered.
    Ping,
    /// One HTTP request: success when the answer's status is an expected one.
    Http(HttpProbe),
    /// The same inside TLS.
    Https(HttpProbe),
    /// A TLS handshake: success when the server has said hello and shown a certificate.
    TlsHello {
        /// The server asked for.
        server_name: Option<String>,
    },
    /// An empty datagram: failure when ICMP says that nobody is there, success on silence or any answer.
    UdpConnect,
}

/// The request of an HTTP probe. Every text in it is safe to be written into a request as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpProbe {
    /// One of the methods of reference 9.2, in capitals.
    pub method: String,
    /// Path with query: starts with `/`, visible ASCII.
    pub path: String,
    /// The version in the request line.
    pub version: HttpVersion,
    /// The Host header, only with HTTP/1.1; without it none is sent.
    pub host: Option<String>,
    /// The status codes that count as success.
    pub expected: ExpectedCodes,
}

/// Status codes that count as success; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedCodes {
    ranges: Vec<(u16, u16)>,
}

impl ExpectedCodes {
    /// From inclusive ranges that were checked.
    pub(crate) const fn new(ranges: Vec<(u16, u16)>) -> Self {
        Self { ranges }
    }

    /// Whether an answer of that status is a success.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}
