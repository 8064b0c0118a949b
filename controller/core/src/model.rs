//! The resources of the API as types: one file each.

mod health_monitor;
mod l7_policy;
mod l7_rule;
mod listener;
mod load_balancer;
mod member;
mod name;
mod offer;
mod pool;
mod profile;
mod steering;
mod tags;
mod tls;
mod treatment;

pub use health_monitor::{HealthMonitor, HttpMonitor, MonitorKind, MonitorType};
pub use krater_amphora_api::{
    AmphoraId, ExpectedCodes, HealthMonitorId, HttpVersion, L7PolicyId, L7RuleId, ListenerId,
    LoadBalancerId, MemberId, PoolId,
};
pub use l7_policy::{L7Action, L7ActionType, L7Policy, RedirectCode, RedirectUrl, UrlError};
pub use l7_rule::{CompareType, L7Rule, L7RuleType};
pub use listener::{
    HeaderKind, InsertHeaders, Listener, ListenerProtocol, PortFamily, Timeouts, header_kind,
};
pub use load_balancer::{AdditionalVip, LoadBalancer, ProjectId, Vip, VipRequest, VnicType};
pub use member::Member;
pub use name::{Description, Name, TooLong};
pub use offer::{Chosen, Family, Offer, OfferId};
pub use pool::{LbAlgorithm, PersistenceType, Pool, PoolProtocol, SessionPersistence};
pub use profile::{
    ACCESS_LOG_KEY, COMPUTE_ZONE_KEY, CONGESTION_KEY, CONNECTIONS_KEY, CPU_KEY, FlavorTerms,
    LOAD_BALANCERS_KEY, MEMBER_DRAIN_KEY, MEMBER_REQUESTS_KEY, MEMORY_KEY, PASSIVE_FAILURES_KEY,
    PASSIVE_SECONDS_KEY, PASSIVE_SHARE_KEY, Profile, ProfileId, SLOW_START_KEY, SOURCE_RATE_KEY,
    TENANCY_KEY, TOPOLOGY_KEY, Terms, VIP_NETWORKS_KEY, ZoneTerms,
};
pub use steering::{Allotment, Seat, Steering, Tenancy, Topology, Turns};
pub use tags::{TagError, Tags};
pub use tls::{
    AlpnProtocol, Ciphers, ClientAuthentication, Hsts, ListenerTls, PoolTls, SecretRef, TlsTerms,
    TlsVersion,
};
pub use treatment::{Congestion, MemberDrain, Treatment, UsualTreatment};
