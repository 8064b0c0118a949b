//! How a load balancer takes turns with others at its addresses: [`AnnouncementSpec`] → [`Announcement`].

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use core::net::IpAddr;

use krater_amphora_api::{AnnouncementSpec, Subject};

use super::parse::{Reasons, at_most, host_address_fault};
use crate::{
    limits,
    vrrp::{Interval, Settings},
};

/// A virtual router that the load balancer's addresses belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Announcement {
    /// Its number, 1–255.
    pub router: u8,
    /// How this member takes part.
    pub settings: Settings,
    /// The other members: at least one, of the family of the own address, no two alike and none a VIP.
    pub peers: Vec<IpAddr>,
}

/// Adds every reason against it.
pub(super) fn parse(
    spec: &AnnouncementSpec,
    vips: &[IpAddr],
    reasons: &mut Reasons,
) -> Option<Announcement> {
    let subject = Subject::LoadBalancer;
    let mut refuse = |holds: bool, reason: &dyn Fn() -> String| {
        reasons.require(holds, subject, reason);
    };
    refuse(spec.virtual_router != 0, &|| {
        String::from("virtual router 0 is none")
    });
    refuse((1..=254).contains(&spec.priority), &|| {
        format!("priority {} is not between 1 and 254", spec.priority)
    });
    let ms = spec.advert_interval_ms;
    let interval = Interval::from_ms(ms).filter(|_| ms >= limits::ADVERT_INTERVAL_MS_MIN);
    refuse(interval.is_some(), &|| {
        format!(
            "an advert interval of {ms} ms is no multiple of 10 between {} and 40950",
            limits::ADVERT_INTERVAL_MS_MIN
        )
    });
    let address = spec.address.to_canonical();
    let peers: Vec<_> = spec.peers.iter().map(IpAddr::to_canonical).collect();
    refuse(!peers.is_empty(), &|| {
        String::from("there is nobody to take turns with")
    });
    refuse(
        vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4()),
        &|| format!("no VIP is of the family of {address}, from which it is announced"),
    );
    refuse(!vips.iter().any(IpAddr::is_unspecified), &|| {
        String::from("the unspecified address cannot be announced")
    });
    let mut seen: BTreeSet<_> = vips.iter().copied().collect();
    for own in core::iter::once(&address).chain(&peers) {
        if let Some(fault) = host_address_fault(*own) {
            refuse(false, &|| format!("address {own} {fault}"));
        }
        refuse(own.is_ipv4() == address.is_ipv4(), &|| {
            format!("address {own} is not of the family of {address}")
        });
        refuse(seen.insert(*own), &|| {
            format!("address {own} is given twice, or is a VIP")
        });
    }
    at_most(limits::PEERS_MAX, peers.len(), "peers", subject, reasons);
    Some(Announcement {
        router: spec.virtual_router,
        settings: Settings {
            priority: spec.priority,
            interval: interval?,
            preempt: spec.preempt,
            address,
        },
        peers,
    })
}
