//! Checks of a whole spec: what concerns the load balancer itself, and how its parts hang together.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::{net::IpAddr, time::Duration};

use krater_amphora_api::{Rejection, SessionPeerSpec, SnapshotSpec, Subject, VipSpec};

use super::{Snapshot, announcement, listener, pool};
use crate::limits;

/// The body of [`Snapshot::parse`]. Every check runs, whatever failed before it; a part that failed is replaced by
/// something harmless, which is thrown away with the rest.
pub(super) fn snapshot(spec: SnapshotSpec) -> Result<Snapshot, Vec<Rejection>> {
    let mut reasons = Reasons::default();
    name(&spec.name, Subject::LoadBalancer, &mut reasons);
    let vips = vips(&spec.vips, &mut reasons);
    timer(
        spec.member_drain_ms.unwrap_or_default(),
        Duration::ZERO,
        "a drain of members",
        Subject::LoadBalancer,
        &mut reasons,
    );
    let announcement = spec
        .announcement
        .as_ref()
        .map(|wanted| announcement::parse(wanted, &vips, &mut reasons));
    session_peers(&spec.session_peers, &mut reasons);
    let listeners = listener::parse_all(&spec, &mut reasons);
    let pools = pool::parse_all(&spec.pools, &mut reasons);
    if !reasons.rejections.is_empty() {
        return Err(reasons.rejections);
    }
    let pool_positions: BTreeMap<_, _> = pools
        .iter()
        .enumerate()
        .map(|(at, pool)| (pool.id, at))
        .collect();
    debug_assert!(
        listeners
            .iter()
            .filter_map(|listener| listener.default_pool)
            .all(|pool| pool_positions.contains_key(&pool)),
        "I1: a listener's pool does not resolve"
    );
    Ok(Snapshot {
        spec,
        vips,
        announcement: announcement.flatten(),
        listeners,
        pools,
        pool_positions,
    })
}

/// The reasons against a spec that were found so far.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    rejections: Vec<Rejection>,
}

impl Reasons {
    pub(super) fn add(&mut self, subject: Subject, reason: impl Into<String>) {
        self.rejections.push(Rejection {
            subject,
            reason: reason.into(),
        });
    }

    /// Adds the reason unless `holds`.
    pub(super) fn require(
        &mut self,
        holds: bool,
        subject: Subject,
        reason: impl FnOnce() -> String,
    ) {
        if !holds {
            self.add(subject, reason());
        }
    }
}

pub(super) fn name(name: &str, subject: Subject, reasons: &mut Reasons) {
    let characters = name.chars().count();
    reasons.require(characters <= limits::NAME_CHARACTERS_MAX, subject, || {
        format!(
            "the name has {characters} characters, at most {} are allowed",
            limits::NAME_CHARACTERS_MAX
        )
    });
}

/// At most `limit` of something.
pub(super) fn at_most(
    limit: usize,
    count: usize,
    what: &str,
    subject: Subject,
    reasons: &mut Reasons,
) {
    reasons.require(count <= limit, subject, || {
        format!("{count} {what}, at most {limit} are allowed")
    });
}

/// A timer of the contract; zero means `for_zero`.
pub(super) fn timer(
    ms: u32,
    for_zero: Duration,
    what: &str,
    subject: Subject,
    reasons: &mut Reasons,
) -> Duration {
    reasons.require(ms <= limits::TIMER_MS_MAX, subject, || {
        format!(
            "{what} of {ms} ms is longer than the most allowed, {} ms",
            limits::TIMER_MS_MAX
        )
    });
    if ms == 0 {
        for_zero
    } else {
        Duration::from_millis(u64::from(ms))
    }
}

/// What can be wrong with an address that must name one host.
pub(super) fn host_address_fault(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("is the unspecified address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(address) if address.is_broadcast() => Some("is the broadcast address"),
        _ => None,
    }
}

/// No amphora is given twice.
fn session_peers(peers: &[SessionPeerSpec], reasons: &mut Reasons) {
    let subject = Subject::LoadBalancer;
    let mut seen = BTreeSet::new();
    for peer in peers {
        reasons.require(seen.insert(peer.amphora), subject, || {
            format!("session peer {} is given twice", peer.amphora)
        });
    }
    at_most(
        limits::PEERS_MAX,
        peers.len(),
        "session peers",
        subject,
        reasons,
    );
}

/// The unspecified address is allowed here: it means every address of the host.
fn vips(specs: &[VipSpec], reasons: &mut Reasons) -> Vec<IpAddr> {
    let subject = Subject::LoadBalancer;
    reasons.require(!specs.is_empty(), subject, || {
        String::from("there is no VIP, at least one is needed")
    });
    at_most(limits::VIPS_MAX, specs.len(), "VIPs", subject, reasons);
    let vips: Vec<_> = specs.iter().map(|vip| vip.address.to_canonical()).collect();
    let mut seen = BTreeSet::new();
    for vip in &vips {
        reasons.require(seen.insert(*vip), subject, || {
            format!("VIP {vip} is listed twice")
        });
        if let (Some(fault), false) = (host_address_fault(*vip), vip.is_unspecified()) {
            reasons.add(subject, format!("VIP {vip} {fault}"));
        }
    }
    vips
}
