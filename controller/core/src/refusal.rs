//! Why the domain says no. Facts only: `controller/api` turns each into a status code and a sentence.

use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

use krater_amphora_api::{AmphoraId, Generation, L7PolicyId, ListenerId, LoadBalancerId, PoolId};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    model::{Family, ListenerProtocol, PoolProtocol, ProjectId},
    resource::ResourceId,
};

/// A refusal of a command or a query.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// 404
    #[error("{} {} not found", .0.kind(), .0.uuid())]
    NotFound(ResourceId),
    /// 404: a profile, flavor or zone.
    #[error("{kind} {key} not found")]
    NotInCatalogue {
        /// What was looked for.
        kind: &'static str,
        /// Its id or name.
        key: String,
    },
    /// 404 in the form of a missing parent (reference 1.5): the pool in `/pools/{id}/members`.
    #[error("pool {0} not found")]
    ParentPoolNotFound(PoolId),
    /// 404 in the same form: the policy in `/l7policies/{id}/rules`.
    #[error("L7 policy {0} not found")]
    ParentPolicyNotFound(L7PolicyId),
    /// 403
    #[error("policy does not allow this request")]
    NotPermitted,
    /// 400: nobody said for which project.
    #[error("missing project id")]
    MissingProject,
    /// 400 `Validation failure: …`: the text after the colon.
    #[error("{0}")]
    Invalid(String),
    /// 400: `value` is not an option for `field`.
    #[error("{value} is not a valid option for {field}")]
    InvalidOption {
        /// What was sent.
        value: String,
        /// For which field.
        field: String,
    },
    /// 400: something of the network that the driver does not know or the caller may not see.
    #[error("{kind} {id} not found")]
    UnknownNetworkResource {
        /// `Subnet`, `Network`, `Port`, `qos_policy` or `Security Group`.
        kind: &'static str,
        /// As sent.
        id: String,
    },
    /// 400: secrets that are not there, by their references.
    #[error("could not retrieve certificate: {}", .0.join(", "))]
    CertificateNotRetrieved(Vec<String>),
    /// 400: a PKCS#12 bundle that cannot be opened, and why.
    #[error("the PKCS12 bundle is unreadable: {0}")]
    UnreadableBundle(String),
    /// 400
    #[error("provider '{0}' is not enabled")]
    UnknownProvider(String),
    /// 400: a flavor for another provider than the one named.
    #[error("flavor '{flavor}' is not compatible with provider '{provider}'")]
    FlavorOfAnotherProvider {
        /// The flavor's id.
        flavor: Uuid,
        /// The provider named.
        provider: String,
    },
    /// 400: the pool protocol cannot serve the listener protocol.
    #[error("the pool protocol '{}' is invalid while the listener protocol is '{}'", .pool.name(), .listener.name())]
    ProtocolMismatch {
        /// The listener's.
        listener: ListenerProtocol,
        /// The pool's.
        pool: PoolProtocol,
    },
    /// 400: the deployment has switched `name`, a `kind` such as `protocol`, off.
    #[error("the selected {kind} is not allowed in this deployment: {name}")]
    Disallowed {
        /// Of what it is one.
        kind: &'static str,
        /// As clients name it.
        name: String,
    },
    /// 400: a PROMETHEUS listener has neither pool nor policies.
    #[error("protocol PROMETHEUS listeners cannot have child objects")]
    ChildOfPrometheus,
    /// 400: the action and the targets of an L7 policy do not fit each other.
    #[error("invalid L7 policy arguments: {0}")]
    InvalidL7Policy(String),
    /// 400: no action of L7 policies.
    #[error("invalid L7 policy action specified: {0}")]
    UnknownL7Action(String),
    /// 400: what is wrong with an L7 rule, as the API says it.
    #[error("{0}")]
    InvalidL7Rule(String),
    /// 400: the load balancer has children and cascade was not asked for.
    #[error("load balancer {0} has children")]
    HasChildren(LoadBalancerId),
    /// 400: security groups where the VIP is plugged into the network directly.
    #[error("VIP Security Groups are not allowed with VNIC direct type")]
    VnicWithGroups,
    /// 400: one member twice in a batch.
    #[error("member must be updated only once in the same request")]
    MemberTwice,
    /// 409: it is being deleted; nothing else may be done with it.
    #[error("{} {} is being deleted", .0.kind(), .0.uuid())]
    BeingDeleted(ResourceId),
    /// 409: an amphora that serves, or has nothing that could move.
    #[error("amphora {0} is immutable")]
    AmphoraImmutable(AmphoraId),
    /// 404: `kind` is `Amphora` or `Amphora stats for`.
    #[error("{kind} {id} not found")]
    AmphoraNotFound {
        /// What was looked for.
        kind: &'static str,
        /// Of which amphora.
        id: AmphoraId,
    },
    /// 409
    #[error("another listener uses protocol {} and port {port}", .protocol.name())]
    DuplicatePort {
        /// Of the new listener.
        protocol: ListenerProtocol,
        /// Of both.
        port: u16,
    },
    /// 409
    #[error("another member uses address {address} and port {port}")]
    DuplicateMember {
        /// Of both.
        address: IpAddr,
        /// Of both.
        port: u16,
    },
    /// 409
    #[error("pool {0} already has a health monitor")]
    AlreadyMonitored(PoolId),
    /// 409
    #[error("listener {0} already has a default pool")]
    AlreadyHasPool(ListenerId),
    /// 409
    #[error("pool {pool} is in use by L7 policy {policy}")]
    PoolInUse {
        /// The pool.
        pool: PoolId,
        /// A policy that sends to it.
        policy: L7PolicyId,
    },
    /// 409: by the policy's id, or by its name when it has none yet.
    #[error("too many rules on L7 policy {0}")]
    TooManyRules(String),
    /// 409
    #[error("the VIP address {address} is already in use: {reason}")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// By whom, if that may be told.
        reason: String,
    },
    /// 409: a flavor or zone of that name exists.
    #[error("a {} of {name} already exists", .family.offer())]
    OfferNameTaken {
        /// Of both.
        family: Family,
        /// Of both.
        name: String,
    },
    /// 409: load balancers are made of the offer, or offers of the profile.
    #[error("{kind} {key} is in use and cannot be modified")]
    CatalogueInUse {
        /// What it is.
        kind: &'static str,
        /// Its id or name.
        key: String,
    },
    /// 403: more of a kind than the project may have, or than [`crate::limits`] allow in one load balancer.
    #[error("quota has been met for resources: {0}")]
    QuotaMet(&'static str),
    /// 412: it is of another version, this one, than the client meant.
    #[error("{} {} is of version {} now", .0.kind(), .0.uuid(), .1)]
    Changed(ResourceId, Generation),
    /// 422: something else was asked for under the same idempotency key.
    #[error("another request was made under the idempotency key {0}")]
    KeyReused(String),
    /// 410: what was created under the idempotency key was deleted since.
    #[error("{} {} was created under this idempotency key and is gone", .0.kind(), .0.uuid())]
    CreatedAndGone(ResourceId),
    /// 404: nothing was set for the project.
    #[error("no quota was set for the project {0}")]
    NoQuotaRecord(ProjectId),
    /// 501: the sentence says what the data plane cannot do yet.
    #[error("{0}")]
    NotSupported(String),
    /// 503: storage or a driver is not able right now; the sentence says what to do.
    #[error("{0}")]
    Unavailable(String),
    /// 500: a defect of ours; logged where it happened.
    #[error("{0}")]
    Defect(String),
    /// 404: a port, network or subnet id in a lookup path.
    #[error("{kind} {id} not found")]
    UnknownLookup {
        /// What was looked up.
        kind: &'static str,
        /// As sent.
        id: Uuid,
    },
}

impl Refusal {
    /// Whether a quota that is met is told before this (reference 1.6, order of checks).
    #[must_use]
    pub const fn comes_after_quota(&self) -> bool {
        matches!(
            self,
            Self::BeingDeleted(_)
                | Self::DuplicatePort { .. }
                | Self::DuplicateMember { .. }
                | Self::AlreadyMonitored(_)
                | Self::AlreadyHasPool(_)
                | Self::AddressInUse { .. }
                | Self::NotSupported(_)
        )
    }
}
