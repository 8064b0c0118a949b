//! What the data plane carries, and what of an admitted change it does not.
//!
//! The API knows every field of the reference; the data plane of a release may carry less. A change that asks for more
//! is refused with 501 after every other rule has been checked, so that a body that is wrong is told so first, and
//! nothing is accepted and then forgotten. The release that carries a feature takes it out of [`Carried::release`].

use alloc::{collections::BTreeSet, string::String};

use crate::{
    change::Change,
    model::{
        HealthMonitor, L7Rule, Listener, ListenerProtocol, Member, MonitorType, Pool, PoolProtocol,
        VnicType,
    },
    refusal::Refusal,
    tree::{LoadBalancerTree, Row},
};

/// Something tenants can ask for that a data plane may not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Listeners and pools of SCTP.
    Sctp,
    /// TLS around what is passed on as it comes: pools of TCP, HTTPS, UDP and SCTP.
    TlsAroundStreams,
    /// TLS toward the members of PROXY pools, below listeners that pass on what comes.
    TlsBelowStreams,
    /// Members on a part of a network card.
    Sriov,
    /// SCTP monitors.
    SctpMonitors,
    /// L7 rules about certificates that clients show, where no TLS ends (reference 11.2).
    L7CertificateRules,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Sctp,
        Self::TlsAroundStreams,
        Self::TlsBelowStreams,
        Self::Sriov,
        Self::SctpMonitors,
        Self::L7CertificateRules,
    ];

    /// What it is, as the subject of a sentence that goes on with "cannot be had in this release".
    #[must_use]
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Sctp => "the protocol SCTP",
            Self::TlsAroundStreams => "tls_enabled on TCP, HTTPS, UDP and SCTP pools",
            Self::TlsBelowStreams => "tls_enabled on PROXY pools of TCP and HTTPS listeners",
            Self::Sriov => "request_sriov",
            Self::SctpMonitors => "health monitors of type SCTP",
            Self::L7CertificateRules => {
                "L7 rules about client certificates on listeners that end no TLS"
            }
        }
    }
}

/// The features a data plane lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    lacks: BTreeSet<Feature>,
}

impl Carried {
    /// A data plane that carries everything: for tests of what comes before.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// A data plane that carries everything but these.
    pub fn without(lacks: impl IntoIterator<Item = Feature>) -> Self {
        Self {
            lacks: lacks.into_iter().collect(),
        }
    }

    /// The data plane of this release.
    #[must_use]
    pub fn release() -> Self {
        Self::without(Feature::ALL)
    }

    /// Refuses a change whose touched rows need what is not carried. Rows that leave need nothing.
    ///
    /// # Errors
    /// [`Refusal::NotSupported`] with the first feature that is lacking.
    pub fn check(&self, change: &Change) -> Result<(), Refusal> {
        self.refuse(needs(change))
    }

    fn refuse(&self, needs: impl IntoIterator<Item = Feature>) -> Result<(), Refusal> {
        match needs
            .into_iter()
            .find(|feature| self.lacks.contains(feature))
        {
            None => Ok(()),
            Some(feature) => {
                let mut sentence = String::from(feature.subject());
                sentence.push_str(" cannot be had in this release.");
                Err(Refusal::NotSupported(sentence))
            }
        }
    }
}

/// What the touched rows of a change need.
fn needs(change: &Change) -> impl Iterator<Item = Feature> {
    let tree = &change.tree;
    let listeners = touched(change, &tree.listeners).filter_map(of_listener);
    let pools = touched(change, &tree.pools).flat_map(of_pool);
    // Whatever brings the two together touches the listener: a pool that changes touches those that send to it.
    let sealed = touched(change, &tree.listeners)
        .filter(|listener| sends_streams_sealed(tree, listener))
        .map(|_| Feature::TlsBelowStreams);
    let members = touched(change, &tree.members).filter_map(of_member);
    let monitors = touched(change, &tree.health_monitors).flat_map(of_monitor);
    let rules = touched(change, &tree.l7_rules)
        .filter(|rule| rule.rule_type.looks_at_certificates() && !ends_tls(tree, rule))
        .map(|_| Feature::L7CertificateRules);
    listeners
        .chain(pools)
        .chain(sealed)
        .chain(members)
        .chain(monitors)
        .chain(rules)
}

/// The rows that the change touches and that stay. Those carry the generation it gave the tree.
fn touched<'a, T>(change: &'a Change, rows: &'a [Row<T>]) -> impl Iterator<Item = &'a T> {
    let generation = change.tree.generation();
    let any = !change.is_empty();
    rows.iter()
        .filter(move |row| any && row.generation == generation && !row.is_leaving())
        .map(|row| &row.value)
}

/// Whether the listener of a rule's policy ends TLS.
fn ends_tls(tree: &LoadBalancerTree, rule: &L7Rule) -> bool {
    let policy = tree.l7_policy(rule.policy);
    let listener = policy.and_then(|row| tree.listener(row.value.listener));
    listener.is_some_and(|row| row.value.protocol == ListenerProtocol::TerminatedHttps)
}

const fn of_listener(listener: &Listener) -> Option<Feature> {
    match listener.protocol {
        ListenerProtocol::Tcp
        | ListenerProtocol::Http
        | ListenerProtocol::Https
        | ListenerProtocol::TerminatedHttps
        | ListenerProtocol::Udp
        | ListenerProtocol::Prometheus => None,
        ListenerProtocol::Sctp => Some(Feature::Sctp),
    }
}

fn of_pool(pool: &Pool) -> impl Iterator<Item = Feature> {
    let spoken = match pool.protocol {
        PoolProtocol::Tcp
        | PoolProtocol::Http
        | PoolProtocol::Https
        | PoolProtocol::Proxy
        | PoolProtocol::ProxyV2
        | PoolProtocol::Udp => None,
        PoolProtocol::Sctp => Some(Feature::Sctp),
    };
    let sealed = pool.tls.enabled && !pool.protocol.can_be_sealed();
    spoken
        .into_iter()
        .chain(sealed.then_some(Feature::TlsAroundStreams))
}

/// Whether a listener that passes on what comes has a PROXY pool that speaks TLS.
fn sends_streams_sealed(tree: &LoadBalancerTree, listener: &Listener) -> bool {
    let pool = listener.default_pool.and_then(|pool| tree.pool(pool));
    pool.is_some_and(|pool| pool.value.seals_streams_of(listener.protocol))
}

fn of_member(member: &Member) -> Option<Feature> {
    (member.vnic_type == VnicType::Direct).then_some(Feature::Sriov)
}

fn of_monitor(monitor: &HealthMonitor) -> Option<Feature> {
    match monitor.kind.monitor_type() {
        MonitorType::Tcp
        | MonitorType::Ping
        | MonitorType::Http
        | MonitorType::Https
        | MonitorType::TlsHello
        | MonitorType::UdpConnect => None,
        MonitorType::Sctp => Some(Feature::SctpMonitors),
    }
}

#[cfg(test)]
mod tests;
