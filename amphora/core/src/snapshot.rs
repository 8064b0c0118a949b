//! One load balancer as the data plane believes it: [`SnapshotSpec`] → [`Snapshot`], or every reason why not.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use krater_amphora_api::{
    Algorithm, CongestionControl, Generation, ListenerId, ListenerProtocol, ListenerTlsSpec,
    LoadBalancerId, MemberId, PoolId, PoolProtocol, PoolTlsSpec, Rejection, SessionPeerSpec,
    SnapshotSpec,
};

use crate::{
    certificate::InsertCertificate,
    conduct::ConductConfig,
    forwarded::InsertHeaders,
    gate::{Cidrs, SourceRate},
    hsts::Hsts,
    l7::Policies,
    proxy_protocol,
};

mod announcement;
mod listener;
mod parse;
mod persistence;
mod policy;
mod pool;
mod probe;
mod tls;

pub use crate::monitor::MonitorConfig;
pub use announcement::Announcement;
pub use persistence::{Persistence, SourceAffinity};

/// A load balancer whose settings were checked and mean something.
///
/// I1: one that exists is valid. [`Snapshot::parse`] is the only way to one, and what it lends cannot be changed:
/// every pool named inside resolves, no two listeners share a port, all numbers are within their bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    spec: SnapshotSpec,
    vips: Vec<IpAddr>,
    announcement: Option<Announcement>,
    listeners: Vec<Listener>,
    pools: Vec<Pool>,
    pool_positions: BTreeMap<PoolId, usize>,
}

impl Snapshot {
    /// Checks a spec and prepares it for use.
    ///
    /// # Errors
    ///
    /// Every reason against the spec, at once, in the order of its parts. Never empty.
    pub fn parse(spec: SnapshotSpec) -> Result<Self, Vec<Rejection>> {
        parse::snapshot(spec)
    }

    /// Which load balancer this is.
    #[must_use]
    pub const fn load_balancer(&self) -> LoadBalancerId {
        self.spec.load_balancer
    }

    /// Its name, for logs and metrics only.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its order among the snapshots of the same load balancer.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.spec.generation
    }

    /// `false`: no listener is open.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.spec.enabled
    }

    /// Whether another amphora may still listen on its addresses.
    #[must_use]
    pub const fn takes_over(&self) -> bool {
        self.spec.takes_over
    }

    /// How long connections of members go on that may not be chosen any more; until they end if `None`.
    #[must_use]
    pub fn member_drain(&self) -> Option<Duration> {
        let ms = self.spec.member_drain_ms?;
        Some(Duration::from_millis(u64::from(ms)))
    }

    /// The addresses each listener is bound to: at least one, no two alike, IPv4 never in its IPv6 form.
    #[must_use]
    pub fn vips(&self) -> &[IpAddr] {
        &self.vips
    }

    /// How it takes turns with others at its addresses; `None` if they are there already.
    #[must_use]
    pub const fn announcement(&self) -> Option<&Announcement> {
        self.announcement.as_ref()
    }

    /// The other amphorae that carry it, which tell each other what they learn of sessions.
    #[must_use]
    pub fn session_peers(&self) -> &[SessionPeerSpec] {
        &self.spec.session_peers
    }

    /// Its listeners, disabled ones too, in the order of the spec.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Its pools, unused and disabled ones too, in the order of the spec.
    #[must_use]
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Its listeners that end TLS, and by what.
    pub fn terminations(&self) -> impl Iterator<Item = (ListenerId, &ListenerTlsSpec)> {
        let listeners = self.spec.listeners.iter();
        listeners.filter_map(|listener| Some((listener.id, listener.tls.as_ref()?)))
    }

    /// Its pools whose members are spoken to by TLS, and with what.
    pub fn sealed_pools(&self) -> impl Iterator<Item = (PoolId, &PoolTlsSpec)> {
        let pools = self.spec.pools.iter();
        pools.filter_map(|pool| Some((pool.id, pool.tls.as_ref()?)))
    }

    /// The pool of that id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pool_positions
            .get(&id)
            .and_then(|position| self.pools.get(*position))
    }

    /// What this was parsed from, to be kept on disk or compared.
    #[must_use]
    pub const fn spec(&self) -> &SnapshotSpec {
        &self.spec
    }
}

/// One port of a load balancer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listener {
    /// Which listener this is.
    pub id: ListenerId,
    /// Its name, for logs and metrics only.
    pub name: String,
    /// `false`: the port is closed.
    pub enabled: bool,
    /// How its connections are served.
    pub mode: Mode,
    /// What clients were told to speak.
    pub protocol: ListenerProtocol,
    /// 1–65535, and no other listener's of the same transport.
    pub port: u16,
    /// Client connections served at once over all workers, at least 1.
    pub connection_limit: u32,
    /// Where connections go: a pool of the same snapshot.
    pub default_pool: Option<PoolId>,
    /// Who may connect.
    pub gate: Cidrs,
    /// How often one source may connect; any number of times if `None`.
    pub source_rate: Option<SourceRate>,
    /// Timers.
    pub timeouts: Timeouts,
    /// Headers added to each request; none unless the protocol is HTTP.
    pub insert_headers: InsertHeaders,
    /// What members are told of certificates of clients; nothing without TLS.
    pub insert_certificate: InsertCertificate,
    /// What browsers are told with each answer; nothing without TLS.
    pub hsts: Option<Hsts>,
    /// What may become of a request instead; none unless the protocol is HTTP. Their pools are of the same snapshot.
    pub policies: Policies,
    /// One in so many of its requests, connections or sessions is told in the access log; none if absent.
    pub access_log: Option<NonZeroU32>,
    /// The congestion control towards its clients; the system's own if absent, as with UDP always.
    pub congestion_control: Option<CongestionControl>,
}

/// How connections of a listener are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// As a stream of bytes.
    Tcp,
    /// As HTTP messages: the listener speaks HTTP, or it is a TCP one whose default pool does (reference 19.1).
    Http,
    /// As datagrams, in sessions.
    Udp,
}

impl Mode {
    /// What its sockets are of.
    #[must_use]
    pub const fn transport(self) -> Transport {
        match self {
            Self::Tcp | Self::Http => Transport::Stream,
            Self::Udp => Transport::Datagram,
        }
    }
}

/// What a socket is of. Each has ports of its own (reference 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP connections.
    Stream,
    /// UDP datagrams.
    Datagram,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "tcp",
            Self::Datagram => "udp",
        })
    }
}

/// Timers of a listener (reference 19.2); none of the first three is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Inactivity allowed on the client's side.
    pub client_data: Duration,
    /// Time allowed to connect to a member.
    pub member_connect: Duration,
    /// Inactivity allowed on the member's side.
    pub member_data: Duration,
    /// Longest wait for the client's first bytes before a member is chosen; `None` does not wait.
    pub tcp_inspect: Option<Duration>,
}

/// Members that share work, and how.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pool {
    /// Which pool this is.
    pub id: PoolId,
    /// Its name, for logs and metrics only.
    pub name: String,
    /// `false`: as if it had no members.
    pub enabled: bool,
    /// What is spoken to members.
    pub protocol: PoolProtocol,
    /// How a member is chosen.
    pub algorithm: Algorithm,
    /// How clients are kept with the member they came to first; `None` if each choice is made anew.
    pub persistence: Option<Persistence>,
    /// Its members, disabled and weightless ones too, in the order of the spec. A `Roster` answers with a position
    /// in this list.
    pub members: Vec<Member>,
    /// How their health is judged; `None` if nothing is probed, because there is no monitor or it is disabled.
    pub monitor: Option<MonitorConfig>,
    /// What their conduct makes of them between probes.
    pub conduct: ConductConfig,
    /// HTTP requests that one member may have under way at once; `None` if any number.
    pub member_requests: Option<u32>,
}

impl Pool {
    /// The form of the header that its members expect ahead of a connection, if they do.
    #[must_use]
    pub const fn proxy_header(&self) -> Option<proxy_protocol::Version> {
        match self.protocol {
            PoolProtocol::Proxy => Some(proxy_protocol::Version::V1),
            PoolProtocol::ProxyV2 => Some(proxy_protocol::Version::V2),
            _ => None,
        }
    }
}

/// One server behind a pool.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Member {
    /// Which member this is; no other pool of the load balancer has it.
    pub id: MemberId,
    /// Its name, for logs and metrics only.
    pub name: String,
    /// `false`: never chosen, never probed.
    pub enabled: bool,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share, 0–256; 0 is never chosen.
    pub weight: u16,
    /// Chosen only while no other member can be.
    pub backup: bool,
    /// Where it is probed: `address` unless a monitor address or port was given.
    pub probe_address: SocketAddr,
    /// Whether one was given: who answers there is not asked in the way the member is (reference 19.5).
    pub probed_apart: bool,
}

#[cfg(test)]
mod tests;
