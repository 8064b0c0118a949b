//! The wanted state of one load balancer as it travels. Untrusted until an amphora has parsed it into a snapshot.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    AmphoraId, CongestionControl, Generation, HealthMonitorId, L7PolicyId, ListenerId,
    LoadBalancerId, MemberId, PoolId,
};

mod announcement;
mod tls;

pub use announcement::AnnouncementSpec;
pub use tls::{
    AlpnProtocol, CertificateSpec, CipherSuite, ClientCertificatesSpec, HstsSpec, ListenerTlsSpec,
    PoolTlsSpec, TlsVersion,
};

/// Everything an amphora needs to know of one load balancer. Shipped whole (D7), applied whole (I10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// Which load balancer this is.
    pub load_balancer: LoadBalancerId,
    /// Its name, for logs and metrics only.
    #[serde(default)]
    pub name: String,
    /// The order of this spec among those of the same load balancer.
    pub generation: Generation,
    /// `false`: no listener is opened, the VIP answers nothing.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The addresses each listener is bound to.
    pub vips: Vec<VipSpec>,
    /// The ports it answers on.
    #[serde(default)]
    pub listeners: Vec<ListenerSpec>,
    /// The pools its listeners send to, and those nobody uses yet: they are health-checked all the same.
    #[serde(default)]
    pub pools: Vec<PoolSpec>,
    /// `true`: another amphora of this host may still listen on the same addresses, and is told to let go once this one
    /// serves. `false`: whoever listens there is a stranger, and the port counts as taken.
    #[serde(default, skip_serializing_if = "is_not")]
    pub takes_over: bool,
    /// How long connections of a member go on that is disabled, of weight 0 or gone, in milliseconds; until they end by
    /// themselves when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_drain_ms: Option<u32>,
    /// How it takes turns with other amphorae at its addresses. When absent the addresses are there already, and are
    /// nobody's to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announcement: Option<AnnouncementSpec>,
    /// Other amphorae that carry it, which tell each other what they learn of sessions. Version 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_peers: Vec<SessionPeerSpec>,
}

/// Another amphora that carries the load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionPeerSpec {
    /// Which one: as its certificate has it.
    pub amphora: AmphoraId,
    /// Where its agent listens, if that is known; it may connect by itself, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SocketAddr>,
}

/// One address of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VipSpec {
    /// The address.
    pub address: IpAddr,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSpec {
    /// Which listener this is.
    pub id: ListenerId,
    /// Its name, for logs and metrics only.
    #[serde(default)]
    pub name: String,
    /// `false`: the port is closed.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What is spoken by clients.
    pub protocol: ListenerProtocol,
    /// The port, 1–65535.
    pub port: u16,
    /// Client connections served at once, over all workers, at least 1. Further ones wait in the kernel's backlog; of UDP
    /// these are sessions, and datagrams of further clients are dropped.
    #[serde(default = "connection_limit_default")]
    pub connection_limit: u32,
    /// Where connections go; without one HTTP answers 503, TCP closes and UDP drops.
    #[serde(default)]
    pub default_pool: Option<PoolId>,
    /// Networks clients may come from, in CIDR notation; empty means everybody.
    #[serde(default)]
    pub allowed_cidrs: Vec<String>,
    /// Timers.
    #[serde(default)]
    pub timeouts: TimeoutsSpec,
    /// Headers added to each request (HTTP listeners only).
    #[serde(default)]
    pub insert_headers: InsertHeadersSpec,
    /// Connections that one source may begin a second, and at once after a second of rest; any number when absent. A
    /// source is an IPv4 address or 64 bits of an IPv6 network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_rate: Option<u32>,
    /// What is done with requests that match, instead of sending them to the default pool; by position (HTTP listeners
    /// only).
    #[serde(default)]
    pub policies: Vec<PolicySpec>,
    /// Which of its requests, connections or sessions are told in the access log; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogSpec>,
    /// TLS around what clients speak; none when absent (HTTP and metrics listeners only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTlsSpec>,
    /// Told to clients in each answer (HTTP listeners with TLS only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<HstsSpec>,
    /// The congestion control of TCP towards clients; the system's own when absent, and as long as it does not have this
    /// one or does not allow it (no UDP listeners).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<CongestionControl>,
}

/// What clients speak to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerProtocol {
    /// A byte stream. With an HTTP default pool the stream is read as HTTP, as HAProxy does.
    Tcp,
    /// HTTP/1.0, HTTP/1.1, and HTTP/2 to clients that begin with its preface.
    Http,
    /// Datagrams.
    Udp,
    /// HTTP, answered with the metrics of the load balancer (API reference 19.13).
    Prometheus,
}

/// What of a listener is told in the access log. Where that goes is a setting of the amphora.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLogSpec {
    /// One in so many, by chance; at least 1, which is all.
    pub one_in: u32,
}

/// Timers of a listener, in milliseconds. A UDP session ends when nothing came from either side for the longer of
/// `client_data_ms` and `member_data_ms`; the other two mean nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsSpec {
    /// Inactivity allowed on the client's side.
    pub client_data_ms: u32,
    /// Time allowed to connect to a member.
    pub member_connect_ms: u32,
    /// Inactivity allowed on the member's side; for HTTP also the time allowed until the answer's head.
    pub member_data_ms: u32,
    /// Longest wait for the client's first bytes before a member is chosen; 0 does not wait.
    pub tcp_inspect_ms: u32,
}

impl Default for TimeoutsSpec {
    /// Octavia's defaults (API reference 20.10).
    fn default() -> Self {
        Self {
            client_data_ms: 50_000,
            member_connect_ms: 5_000,
            member_data_ms: 50_000,
            tcp_inspect_ms: 0,
        }
    }
}

/// Headers that an HTTP listener adds to requests (API reference 19.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InsertHeadersSpec {
    /// Appends a line with the client's address; those the client sent stay.
    pub x_forwarded_for: bool,
    /// Sets the listener's port, replacing what the client sent.
    pub x_forwarded_port: bool,
    /// Sets `http` or, if the client came by TLS, `https`, replacing what the client sent.
    pub x_forwarded_proto: bool,
    /// Sets the client's address, replacing what the client sent.
    pub x_forwarded_ip: bool,
    /// The same under another name.
    pub x_client_ip: bool,
    /// The same under another name.
    pub x_real_ip: bool,
    /// Sets how the client's certificate was judged, `0` for well or if there is none. This and all below replace what
    /// the client sent, and are for listeners with TLS only.
    pub x_ssl_client_verify: bool,
    /// Sets `1` if the client showed a certificate, else `0`.
    pub x_ssl_client_has_cert: bool,
    /// Sets the subject of the client's certificate.
    pub x_ssl_client_dn: bool,
    /// Sets the common name in it.
    pub x_ssl_client_cn: bool,
    /// Sets who issued it.
    pub x_ssl_issuer: bool,
    /// Sets its SHA-1 fingerprint.
    pub x_ssl_client_sha1: bool,
    /// Sets when it begins to be valid.
    pub x_ssl_client_not_before: bool,
    /// Sets when it ends to be valid.
    pub x_ssl_client_not_after: bool,
}

/// One L7 policy (API reference 19.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Which policy this is.
    pub id: L7PolicyId,
    /// What becomes of a request that it matches.
    pub action: PolicyAction,
    /// All of these must match; at least one.
    pub rules: Vec<RuleSpec>,
}

/// What becomes of a request that a policy matches. `P` is how its pool is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyAction<P = PoolId> {
    /// It is refused with 403.
    Reject,
    /// The client is sent to a URL.
    RedirectToUrl {
        /// Where to.
        url: String,
        /// 301, 302, 303, 307 or 308.
        code: u16,
    },
    /// The client is sent to a URL with the path and query of its request behind it.
    RedirectPrefix {
        /// What comes before the path.
        prefix: String,
        /// 301, 302, 303, 307 or 308.
        code: u16,
    },
    /// It goes to this pool.
    RedirectToPool(P),
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// What of the request it looks at.
    pub subject: RuleSubject,
    /// How that is compared with `value`.
    pub comparison: Comparison,
    /// What is compared with.
    pub value: String,
    /// Whether it matches what otherwise would not.
    #[serde(default)]
    pub invert: bool,
}

/// What of a request a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleSubject {
    /// The host asked for, with its port if there is one; in any case of letters.
    HostName,
    /// The path, without query.
    Path,
    /// Any line of the header of that name, whole or as a list of values.
    Header(String),
    /// The cookie of that name.
    Cookie(String),
    /// `1` if the client showed a certificate, else `0`.
    CertificateShown,
    /// How the client's certificate was judged, as OpenSSL numbers it: `0` for well.
    CertificateVerified,
    /// That field of the subject of the client's certificate: `CN`, `O` …
    CertificateSubject(String),
}

/// How a rule compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// A regular expression finds something.
    Regex,
    /// It begins with the value.
    StartsWith,
    /// It ends with the value.
    EndsWith,
    /// The value is in it.
    Contains,
    /// It is the value.
    EqualTo,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// Which pool this is.
    pub id: PoolId,
    /// Its name, for logs and metrics only.
    #[serde(default)]
    pub name: String,
    /// `false`: as if it had no members.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What is spoken to members.
    pub protocol: PoolProtocol,
    /// How a member is chosen.
    #[serde(default = "round_robin")]
    pub algorithm: Algorithm,
    /// How clients are kept with the member they came to first; without it each choice is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceSpec>,
    /// Its members.
    #[serde(default)]
    pub members: Vec<MemberSpec>,
    /// How their health is judged; without one every member counts as up.
    #[serde(default)]
    pub monitor: Option<MonitorSpec>,
    /// When a member is taken out between probes; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive_health: Option<PassiveHealthSpec>,
    /// How long the share of a member that recovered or was added takes to grow to its weight, in milliseconds; 0: it
    /// has it at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slow_start_ms: u32,
    /// HTTP requests that one member may have under way at once, at least 1; further ones wait. Any number when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_requests: Option<u32>,
    /// TLS to its members, around all else; none when absent (HTTP and PROXY pools only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTlsSpec>,
}

/// When a member that cannot be reached by clients' connections is taken out between probes, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassiveHealthSpec {
    /// Connections in a row that were refused, reset before the member had said anything, or not answered; at least 1.
    pub failures: u32,
    /// How long it is out the first time, in milliseconds, at least 1. Each further time in a row is twice as long.
    pub out_ms: u32,
    /// How long at most. A member that was in as long as this begins anew.
    pub out_max_ms: u32,
    /// How many of the members that could serve may be out at once, in percent, 1–100. One may always be as long as
    /// another one serves, all never.
    pub share_percent: u8,
}

/// What is spoken to the members of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolProtocol {
    /// A byte stream.
    Tcp,
    /// HTTP/1.1.
    Http,
    /// What the listener's clients speak, behind a PROXY header of version 1.
    Proxy,
    /// The same behind a PROXY header of version 2.
    #[serde(rename = "proxy_v2")]
    ProxyV2,
    /// Datagrams.
    Udp,
}

/// How a member is chosen (API reference 19.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// By turns, in proportion to weight.
    RoundRobin,
    /// The fewest open connections in proportion to weight; by turns among equals.
    LeastConnections,
    /// A hash of the client's address.
    SourceIp,
    /// A hash of the client's address and port.
    SourceIpPort,
}

/// How clients are kept with the member they came to first (API reference 19.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum PersistenceSpec {
    /// By their address.
    SourceIp {
        /// How long somebody is remembered who does not come, in seconds, 1 to [`PERSISTENCE_SECONDS_MAX`]; as long as
        /// there is room when absent.
        #[serde(default)]
        timeout_seconds: Option<u32>,
        /// Which addresses count as one, as a netmask for those of its family; each for itself when absent.
        #[serde(default)]
        granularity: Option<IpAddr>,
    },
    /// By a cookie that is set for them and taken out of their requests (HTTP only).
    HttpCookie,
    /// By a cookie that members set, of that name (HTTP only).
    AppCookie {
        /// The name of the cookie.
        name: String,
    },
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSpec {
    /// Which member this is.
    pub id: MemberId,
    /// Its name, for logs and metrics only.
    #[serde(default)]
    pub name: String,
    /// `false`: out of rotation at once and not probed; connections it has go on.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Where it listens.
    pub address: IpAddr,
    /// The port it listens on, 1–65535.
    pub port: u16,
    /// Its share, 0–256; 0 takes no new connections.
    #[serde(default = "weight_default")]
    pub weight: u16,
    /// Used only while no other member can be.
    #[serde(default)]
    pub backup: bool,
    /// Probed instead of `address`.
    #[serde(default)]
    pub monitor_address: Option<IpAddr>,
    /// Probed instead of `port`.
    #[serde(default)]
    pub monitor_port: Option<u16>,
}

/// How the health of a pool's members is judged (API reference 19.7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorSpec {
    /// Which health monitor this is.
    pub id: HealthMonitorId,
    /// `false`: nothing is probed and every member counts as up.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What a probe does.
    pub probe: ProbeSpec,
    /// Time between two probes of one member.
    pub delay_ms: u32,
    /// Time allowed for one probe, connecting included.
    pub timeout_ms: u32,
    /// Successes in a row that bring a member back, 1–10.
    pub rise: u8,
    /// Failures in a row that take a member out, 1–10. A member just configured is taken out by its first failure.
    pub fall: u8,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum ProbeSpec {
    /// A TCP handshake.
    Tcp,
    /// An ICMP or ICMPv6 echo.
    Ping,
    /// One HTTP request.
    Http(HttpProbeSpec),
    /// One HTTP request inside TLS, whatever the certificate.
    Https(HttpProbeSpec),
    /// A TLS handshake, whatever the certificate.
    TlsHello {
        /// The server asked for; nobody in particular when absent.
        #[serde(default)]
        server_name: Option<String>,
    },
    /// An empty datagram: whoever is not there says so by ICMP, so silence counts as success (UDP pools only).
    UdpConnect,
}

/// The request of an HTTP probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// GET, HEAD, POST …
    pub method: String,
    /// Path with query, starting with `/`.
    pub path: String,
    /// The status codes that count as success.
    pub expected_codes: Vec<ExpectedCodes>,
    /// The version in the request line; HTTP/1.0 when absent.
    #[serde(default)]
    pub version: Option<HttpVersion>,
    /// The Host header; HTTP/1.1 only.
    #[serde(default)]
    pub domain_name: Option<String>,
}

/// An inclusive range of status codes; a single code has both ends equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCodes {
    /// The first code that counts.
    pub first: u16,
    /// The last code that counts.
    pub last: u16,
}

/// HTTP version of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.0
    #[serde(rename = "1.0")]
    Http10,
    /// HTTP/1.1
    #[serde(rename = "1.1")]
    Http11,
}

/// The most memory, in bytes, that a regular expression may be compiled to. It is a part of the contract so that no
/// controller admits what an amphora refuses: both compile it for bytes, without Unicode.
pub const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// The longest time that a client can be remembered without coming, in seconds: 31 days, as in LVS.
pub const PERSISTENCE_SECONDS_MAX: u32 = 31 * 24 * 60 * 60;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes what it may skip by reference"
)]
const fn is_not(flag: &bool) -> bool {
    !*flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes what it may skip by reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

const fn yes() -> bool {
    true
}

const fn round_robin() -> Algorithm {
    Algorithm::RoundRobin
}

const fn weight_default() -> u16 {
    1
}

/// Octavia's `default_connection_limit` (API reference 20.10).
const fn connection_limit_default() -> u32 {
    50_000
}
