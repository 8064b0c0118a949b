//! Hosts that amphorae run on: how one enrols, what it says of itself, what it is asked to run.
//!
//! A host comes with a token that is good once. From then on it is known by its certificate, which names it; it makes
//! all keys itself, its amphorae's too, and sends away requests for certificates only.

use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{AmphoraId, BootId, ContractVersion, HostId};

/// What a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name, for people.
    pub name: String,
    /// `address:port` where controllers reach its agent.
    pub agent: String,
    /// This run of its agent.
    pub boot: BootId,
    /// The contract that its agent speaks.
    pub contract: ContractVersion,
    /// The release of its programs.
    pub version: String,
    /// Processors it has.
    pub cores: u32,
    /// Memory it has.
    pub memory_bytes: u64,
    /// What becomes of networks of tenants there; hosts of contract 1 build none, and say nothing.
    #[serde(default)]
    pub networks: Option<HostNetworks>,
}

/// What a host says of building networks of tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetworks {
    /// Where tunnels of other hosts reach it.
    pub underlay: IpAddr,
    /// Why it can build none, if so: a sentence.
    #[serde(default)]
    pub obstacle: Option<String>,
}

/// Asks to be let in: `POST /v1/hosts/enrol` at a controller, the one request without a certificate.
///
/// Sent again by the same key it is answered again: an answer that was lost must not lock a host out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The secret part of the token.
    pub token: String,
    /// Request for a certificate (PKCS#10, PEM) with the host's own key.
    pub request_pem: String,
    /// Who it is.
    pub facts: HostFacts,
}

/// A host is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Its name from now on, as in its certificate.
    pub host: HostId,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Certificates of the fleet's authorities, PEM.
    pub authority_pem: String,
    /// All controllers, `host:port`; empty where that is not said, so that those stay that the host knows.
    #[serde(default)]
    pub controllers: Vec<String>,
}

/// Asks for a certificate: `POST /v1/hosts/certificates` at a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// For which of its amphorae; for the host itself when absent.
    #[serde(default)]
    pub amphora: Option<AmphoraId>,
    /// Request for a certificate (PKCS#10, PEM). What it says of its subject is not looked at.
    pub request_pem: String,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Certificates of the fleet's authorities, PEM.
    pub authority_pem: String,
}

/// What a host or an amphora of it shows and trusts: `GET /v1/certificates` at the agent of the host answers with all of
/// them, a `POST` there has all renewed first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPapers {
    /// Which amphora; the host itself when absent.
    #[serde(default)]
    pub amphora: Option<AmphoraId>,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// SHA-256 of each certificate of an authority that it trusts, hexadecimal.
    pub trusted: Vec<String>,
}

/// A host's heartbeat: `POST /v1/hosts/reports` at a controller. Whole, like those of amphorae.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Who sends it.
    pub host: HostId,
    /// What it is.
    pub facts: HostFacts,
    /// The amphorae that it has, whether or not they run.
    pub amphorae: Vec<HostedAmphora>,
}

/// What a controller answers to a host's heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReceipt {
    /// Certificates of the fleet's authorities, PEM; what differs is taken over. Empty: those known stay.
    #[serde(default)]
    pub authority_pem: String,
    /// All controllers, `host:port`; empty: those known stay.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// Amphorae that it has and nobody wants: to be ended and forgotten.
    #[serde(default)]
    pub unwanted: Vec<AmphoraId>,
}

/// An amphora as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedAmphora {
    /// Which amphora.
    pub id: AmphoraId,
    /// `address:port` of its agent, once that is decided.
    #[serde(default)]
    pub agent: Option<String>,
    /// `address:port` of its metrics endpoint, once that is decided.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Why it could not be started, while that is so.
    #[serde(default)]
    pub trouble: Option<String>,
    /// When its certificate ends, in seconds since the epoch.
    #[serde(default)]
    pub certified_until: Option<i64>,
}

/// An amphora that a host is to run: `PUT /v1/amphorae/{id}` at its agent, answered with [`HostedAmphora`].
/// `DELETE` ends and forgets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOrder {
    /// Where it sends its reports, `host:port`; empty: to the controllers that its host knows.
    pub controllers: Vec<String>,
    /// Between two reports of it.
    pub heartbeat_ms: u64,
    /// How long connections get to end by themselves when it is stopped.
    pub drain_ms: u64,
    /// Where it tells of requests and connections.
    #[serde(default)]
    pub access_log: Option<HostAccessLog>,
    /// What it may take of the host. Unsaid where nothing is bounded: agents of earlier releases do not know of it.
    #[serde(default, skip_serializing_if = "HostAllotment::is_unbounded")]
    pub allotment: HostAllotment,
    /// The network of tenants that it lives on; unsaid where it lives on its host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<HostSegment>,
}

/// A network of tenants, as a host has to build it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSegment {
    /// Its name, for people.
    pub name: String,
    /// The bridge it is on; made if there is none of that name.
    pub bridge: String,
    /// The largest packet.
    pub mtu: u32,
    /// The tunnel to its bridges on other hosts, if it spans several.
    #[serde(default)]
    pub tunnel: Option<HostTunnel>,
    /// Its subnets.
    pub subnets: Vec<HostSubnet>,
}

/// A tunnel (VXLAN) to the bridges of the same network on other hosts. Where it begins the host itself knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTunnel {
    /// The number of the network, the same everywhere.
    pub vni: u32,
    /// The port at which hosts take tunnels, the same everywhere.
    pub port: u16,
    /// The other hosts on which the network is. Others than before are no reason to start the amphora again.
    pub peers: Vec<IpAddr>,
}

/// A subnet of a network of tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSubnet {
    /// In CIDR notation.
    pub cidr: String,
    /// The router by which all other addresses are reached.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// What is reached by another router.
    #[serde(default)]
    pub routes: Vec<HostRoute>,
}

/// A way to addresses beyond a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRoute {
    /// The addresses, in CIDR notation.
    pub destination: String,
    /// The router, an address of the subnet.
    pub via: IpAddr,
}

/// What an amphora may take of its host; nothing is bounded where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAllotment {
    /// Memory, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processor time, in percent of one processor.
    #[serde(default)]
    pub cpu_percent: Option<u32>,
}

impl HostAllotment {
    /// Whether nothing is bounded.
    #[must_use]
    pub const fn is_unbounded(&self) -> bool {
        self.memory_bytes.is_none() && self.cpu_percent.is_none()
    }
}

/// Where an amphora tells of requests and connections, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAccessLog {
    /// `stdout`, `file:/PATH`, `syslog+udp://ADDRESS:PORT` or `syslog+tcp://ADDRESS:PORT`.
    pub to: String,
    /// A file that has grown to this is put aside.
    pub file_bytes_max: u64,
    /// So many of those are kept.
    pub files_max: u8,
    /// The facility of syslog messages.
    pub facility: u8,
}

/// Why a host was not given what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRefusal {
    /// A sentence, with what to do about it.
    pub message: String,
}
