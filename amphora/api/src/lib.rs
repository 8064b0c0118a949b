//! The contract between a controller and an amphora, as it travels: what a load balancer should be
//! ([`SnapshotSpec`]), what an amphora says of itself ([`Report`]), and why a wish was refused ([`Rejection`]).
//!
//! Plain data only. Specs are read strictly and reports leniently (invariant I9): an amphora must refuse what it
//! does not understand, since it may be a security setting; a controller must tolerate newer reports.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod cause;
mod congestion;
mod generation;
mod host;
mod id;
mod rejection;
mod report;
mod secret;
mod spec;
mod version;

pub use cause::{Cause, Side};
pub use congestion::{CongestionControl, NoCongestionControl};
pub use generation::Generation;
pub use host::{
    CertificateRequest, Certified, EnrolRequest, Enrolled, HostAccessLog, HostAllotment, HostFacts,
    HostNetworks, HostOrder, HostReceipt, HostRefusal, HostReport, HostRoute, HostSegment,
    HostSubnet, HostTunnel, HostedAmphora, ShownPapers,
};
pub use id::{
    AmphoraId, BootId, HealthMonitorId, HostId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId,
    MemberId, PoolId,
};
pub use rejection::{Applied, ApplyError, Rejection, Subject};
pub use report::{
    AnnouncementReport, AnnouncementState, Counters, Info, LinkAddress, ListenerReport,
    ListenerState, LoadBalancerReport, MemberHealth, MemberReport, PoolReport, Report,
    ReportChanges, ReportReceipt,
};
pub use secret::PrivateKeyPem;
pub use spec::{
    AccessLogSpec, Algorithm, AlpnProtocol, AnnouncementSpec, CertificateSpec, CipherSuite,
    ClientCertificatesSpec, Comparison, ExpectedCodes, HstsSpec, HttpProbeSpec, HttpVersion,
    InsertHeadersSpec, ListenerProtocol, ListenerSpec, ListenerTlsSpec, MemberSpec, MonitorSpec,
    PATTERN_BYTES_MAX, PERSISTENCE_SECONDS_MAX, PassiveHealthSpec, PersistenceSpec, PolicyAction,
    PolicySpec, PoolProtocol, PoolSpec, PoolTlsSpec, ProbeSpec, RuleSpec, RuleSubject,
    SessionPeerSpec, SnapshotSpec, TimeoutsSpec, TlsVersion, VipSpec,
};
pub use version::ContractVersion;
