//! All that tenants and operators may ask to be told, and who asks.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::net::IpAddr;

use jiff::Timestamp;
use krater_amphora_api::{
    AmphoraId, Counters, ListenerId, LoadBalancerId, LoadBalancerReport, MemberReport, PoolId,
};
use uuid::Uuid;

use crate::{
    audit::{AuditFilter, Kept},
    model::{Family, Listener, Member, Offer, Profile, ProjectId, Seat, Tenancy},
    quota::Limits,
    scan::{Excerpt, Scan},
    tree::TreeView,
};
pub use crate::{
    caller::{Caller, Persona},
    network::{NetworkView, PortView, SubnetView},
    resource::ResourceId,
};

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// The tree that holds the resource: 404 when there is none. A pending tree is waited for, a bounded time, so that
    /// the first GET after a POST finds it settled.
    Tree(ResourceId),
    /// The same tree, only for the list of the pool's members, which more callers may see (reference 2.2).
    MembersOf(PoolId),
    /// All trees the caller may see, in creation order, optionally narrowed.
    Trees(TreeFilter),
    /// Part of a list.
    Scan(Scan),
    /// Statistics of a load balancer or one of its listeners.
    Statistics(ResourceId),
    /// Networks, subnets and ports of the network driver that the caller may see, for clients that look them up by
    /// name.
    Networks,
    /// The fleet.
    Amphorae,
    /// The members of a load balancer as the amphorae that carry it see them.
    MembersSeen(LoadBalancerId),
    /// The amphorae that carry a load balancer, and what they last said of it.
    CarriersSeen(LoadBalancerId),
    /// What failed at the listeners of a load balancer lately.
    FailuresSeen(LoadBalancerId),
    /// What a project may have.
    Quota(ProjectId),
    /// What the projects may have for which something was set: all the caller may see, or that one.
    Quotas(Option<ProjectId>),
    /// What projects may have for which nothing was set; of that one if the caller named it.
    QuotaDefaults(Option<ProjectId>),
    /// What one amphora counted, by listener.
    AmphoraStatistics(AmphoraId),
    /// All profiles of a family, in creation order.
    Profiles(Family),
    /// All flavors or zones, in creation order.
    Offers(Family),
    /// Who changed what, and what was refused to whom.
    Audit(AuditFilter),
}

/// Which trees are wanted. Narrowing is an optimisation: callers filter precisely themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeFilter {
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only this load balancer.
    pub load_balancer: Option<LoadBalancerId>,
    /// Only the one that holds this resource, of whatever kind.
    pub holds: Option<Uuid>,
    /// Only load balancers of this name (use only when load balancers are listed).
    pub name: Option<String>,
}

/// What a query answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Query::Tree`] and [`Query::MembersOf`].
    Tree(alloc::boxed::Box<TreeView>),
    /// To [`Query::Trees`].
    Trees(Vec<TreeView>),
    /// To [`Query::Scan`].
    Scan(Vec<Excerpt>),
    /// To [`Query::Statistics`].
    Statistics(Counters),
    /// To [`Query::Networks`].
    Networks(Vec<NetworkView>),
    /// To [`Query::Amphorae`].
    Amphorae(Vec<AmphoraView>),
    /// To [`Query::MembersSeen`], in the order of the tree.
    MembersSeen(Vec<MemberView>),
    /// To [`Query::CarriersSeen`], first places first.
    CarriersSeen(Vec<CarrierView>),
    /// To [`Query::FailuresSeen`], in the order of the tree.
    FailuresSeen {
        /// Since when failures are counted.
        since: Option<Timestamp>,
        /// What failed at each listener.
        listeners: Vec<FailureView>,
    },
    /// To [`Query::Quota`] and [`Query::QuotaDefaults`].
    Quota(Limits),
    /// To [`Query::Quotas`], by project.
    Quotas(Vec<(ProjectId, Limits)>),
    /// To [`Query::AmphoraStatistics`]; never empty.
    AmphoraStatistics(Vec<ListenerStatistics>),
    /// To [`Query::Profiles`].
    Profiles(Vec<Profile>),
    /// To [`Query::Offers`].
    Offers(Vec<Offer>),
    /// To [`Query::Audit`], newest first.
    Audit(Vec<Kept>),
}

/// An amphora as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmphoraView {
    /// Its id.
    pub id: AmphoraId,
    /// `host:port` of its agent.
    pub agent: String,
    /// Whether it was heard of within the time a heartbeat may take.
    pub status: AmphoraStatus,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// Release of its program, once heard of.
    pub version: Option<String>,
    /// Its process, once heard of.
    pub pid: Option<u32>,
    /// URL of its metrics endpoint, if it has one.
    pub metrics: Option<String>,
    /// Load balancers placed on it.
    pub load_balancers: Vec<LoadBalancerId>,
    /// The projects whose load balancers those are; filled in for who asks.
    pub projects: Vec<ProjectId>,
    /// Load balancers on it whose newest generation is not in force there.
    pub behind: u64,
    /// Its zone.
    pub zone: String,
    /// Whether it was made for one load balancer.
    pub tenancy: Tenancy,
    /// When it was decided on.
    pub created_at: Timestamp,
    /// When something of it last changed.
    pub updated_at: Option<Timestamp>,
    /// The end of its certificate, as far as known.
    pub certified_until: Option<Timestamp>,
    /// Whether it is being given another certificate.
    pub is_renewing: bool,
    /// How it takes turns at the addresses of the only load balancer that it carries, if it does; filled in for who
    /// asks.
    pub turn: Option<TurnView>,
    /// What failed at its listeners in this minute and the one before, and was no client's fault nor refused on purpose.
    pub recent_failures: u64,
}

/// How an amphora takes turns at the addresses of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnView {
    /// Whether it is the preferred one.
    pub seat: Seat,
    /// Its own address toward the other one.
    pub address: IpAddr,
    /// The address at which they take turns.
    pub vip: IpAddr,
    /// The network's port that holds that one.
    pub vip_port: Uuid,
    /// The number of the virtual router.
    pub router: u8,
    /// How much it is preferred.
    pub priority: u8,
}

/// A member as an amphora sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    /// The member, as its tenant has it.
    pub member: Member,
    /// Which amphora.
    pub amphora: AmphoraId,
    /// What it last said of the member.
    pub seen: MemberReport,
}

/// An amphora that carries a load balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct CarrierView {
    /// Which amphora.
    pub amphora: AmphoraId,
    /// Whether the load balancer was moved away from it and may be there still.
    pub leaving: bool,
    /// What it last said of the load balancer.
    pub seen: Option<LoadBalancerReport>,
}

/// What failed at a listener lately.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureView {
    /// The listener, as its tenant has it.
    pub listener: Listener,
    /// By cause: in the last minute, quarter of an hour and hour.
    pub recent: BTreeMap<String, [u64; 3]>,
}

/// What an amphora counted of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerStatistics {
    /// Of which load balancer.
    pub load_balancer: LoadBalancerId,
    /// Which listener.
    pub listener: ListenerId,
    /// What it counted.
    pub counters: Counters,
}

/// Whether an amphora is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmphoraStatus {
    /// Never heard of yet.
    Booting,
    /// Serving.
    Allocated,
    /// Silent.
    Error,
    /// To go: what it carries moves elsewhere, then it ends.
    PendingDelete,
}

impl AmphoraStatus {
    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Booting => "BOOTING",
            Self::Allocated => "ALLOCATED",
            Self::Error => "ERROR",
            Self::PendingDelete => "PENDING_DELETE",
        }
    }
}
