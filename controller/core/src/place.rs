//! Which amphora carries a load balancer.

use alloc::{format, string::String, vec::Vec};

use krater_amphora_api::AmphoraId;
use uuid::Uuid;

use crate::{
    model::{Steering, Tenancy},
    query::AmphoraStatus,
};

/// What a load balancer wants of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// What it asked for.
    pub steering: &'a Steering,
    /// The network that it lives on, if that is not its host's.
    pub network: Option<Uuid>,
}

impl<'a> Wish<'a> {
    /// That of one that lives on its host's network.
    #[must_use]
    pub const fn on_hosts(steering: &'a Steering) -> Self {
        Self {
            steering,
            network: None,
        }
    }

    /// Whether it is to have an amphora of its own. On a network of tenants it always has: what leaves the amphora then
    /// leaves from its addresses, and goes with it.
    #[must_use]
    pub const fn tenancy(&self) -> Tenancy {
        match self.network {
            Some(_) => Tenancy::Dedicated,
            None => self.steering.tenancy,
        }
    }
}

/// An amphora that could carry a load balancer. Those that are to go are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which amphora.
    pub amphora: AmphoraId,
    /// Load balancers it carries already.
    pub load: u64,
    /// Whether it is there.
    pub status: AmphoraStatus,
    /// Its zone.
    pub zone: String,
    /// Whether it was made for one load balancer.
    pub tenancy: Tenancy,
    /// The network that it lives on, if that is not its host's.
    pub network: Option<Uuid>,
    /// The most load balancers that those it carries agree to be among.
    pub load_balancers_max: Option<u32>,
    /// The host it is on.
    pub host: String,
    /// How many more load balancers that host takes, if that is bounded.
    pub host_room: Option<u64>,
}

/// A host that further amphorae may be started on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoom {
    /// Which host.
    pub host: String,
    /// The zones it is in.
    pub zones: Vec<String>,
    /// Amphorae on it.
    pub amphorae: u64,
    /// The most amphorae on it, if that is bounded.
    pub amphorae_max: Option<u64>,
    /// How many more load balancers it takes, if that is bounded.
    pub room: Option<u64>,
    /// Why no load balancer on a network of tenants can be there, if so: a clause that names it.
    pub obstacle: Option<String>,
}

impl HostRoom {
    /// A host without bounds.
    #[must_use]
    pub const fn unbounded(host: String, zones: Vec<String>, amphorae: u64) -> Self {
        Self {
            host,
            zones,
            amphorae,
            amphorae_max: None,
            room: None,
            obstacle: None,
        }
    }

    /// Whether it is in the zone and has room for another amphora.
    fn fits(&self, zone: &str) -> bool {
        self.zones.iter().any(|its| its == zone)
            && self.amphorae_max.is_none_or(|most| self.amphorae < most)
            && self.room != Some(0)
    }
}

/// What a deployment allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The zones it has amphorae in.
    pub zones: Vec<String>,
    /// The most load balancers on a shared amphora.
    pub load_balancers_max: u32,
    /// The most amphorae.
    pub amphorae_max: u64,
    /// Amphorae there are, those that are to go among them.
    pub amphorae: u64,
    /// The hosts that there are. Those that are to be left, or are not there, are none.
    pub hosts: Vec<HostRoom>,
}

/// Where a load balancer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To an amphora there is.
    Existing(AmphoraId),
    /// To one that is to be started.
    New {
        /// In which zone.
        zone: String,
        /// On which host.
        host: String,
    },
    /// Nowhere right now.
    NoRoom(NoRoom),
}

/// Why there is no place for a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Every amphora that could carry it is full, and there may be no more.
    Full {
        /// The most amphorae.
        amphorae_max: u64,
    },
    /// The deployment has no such zone.
    NoSuchZone(String),
    /// No host has room for another amphora.
    NoHost {
        /// In this zone, if one was asked for.
        zone: Option<String>,
    },
    /// No other host has room for the second of two.
    OneHost,
    /// One of two that take turns on a network of tenants has no address there.
    NoAddress {
        /// Why not: a sentence.
        reason: String,
    },
    /// It lives on a network of tenants, and on no host with room for another amphora can it be.
    NoBuilder {
        /// Why not, of each.
        obstacles: Vec<String>,
    },
}

impl NoRoom {
    /// For programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "no_capacity",
            Self::NoSuchZone(_) => "no_such_zone",
            Self::NoHost { .. } => "no_host",
            Self::OneHost => "no_second_host",
            Self::NoAddress { .. } => "no_address",
            Self::NoBuilder { .. } => "no_host_builds_network",
        }
    }

    /// For people.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Full { amphorae_max } => format!(
                "no amphora has room for the load balancer, and there are as many as there may be ({amphorae_max})"
            ),
            Self::NoSuchZone(zone) => format!("this deployment has no amphorae in zone {zone:?}"),
            Self::NoHost { zone: Some(zone) } => format!(
                "no amphora has room for the load balancer, and no host in zone {zone:?} for another amphora"
            ),
            Self::NoHost { zone: None } => {
                "no amphora has room for the load balancer, and no host for another amphora".into()
            }
            Self::OneHost => String::from(
                "of two amphorae that take turns the second has to be on another host, and none has room",
            ),
            Self::NoAddress { reason } => format!(
                "each of two amphorae that take turns on a network of tenants has an address of its own on the subnet of the VIP, and none can be had: {reason}"
            ),
            Self::NoBuilder { obstacles } => {
                let mut told: Vec<&str> = obstacles.iter().map(String::as_str).collect();
                let others = told.len().saturating_sub(OBSTACLES_TOLD_MAX);
                told.truncate(OBSTACLES_TOLD_MAX);
                let others = match others {
                    0 => String::new(),
                    others => format!("; and {others} more"),
                };
                format!(
                    "no host with room for another amphora can have the load balancer, which is on a network of tenants: {}{others}",
                    told.join("; ")
                )
            }
        }
    }
}

/// Chooses where a load balancer with these wishes goes.
///
/// Among the amphorae that suit it: one that serves before one that boots, then the least loaded, then the lowest id so
/// that the choice does not depend on the order they come in. Rather than to a silent one it goes to a new one; if there
/// may be no more, a silent one is better than none, since it gets the load balancer when it is back. One that leaves
/// an amphora is served there, so it does not go to a silent one at all. A new one is started on the host that has the
/// fewest.
#[must_use]
pub fn choose(wish: Wish<'_>, candidates: &[Candidate], deployment: &Deployment) -> Choice {
    let suitable = || {
        candidates
            .iter()
            .filter(|candidate| suits(wish, candidate, deployment))
    };
    let best = |silent: bool| {
        suitable()
            .filter(|candidate| (candidate.status == AmphoraStatus::Error) == silent)
            .min_by_key(|candidate| {
                (
                    reluctance(candidate.status),
                    candidate.load,
                    candidate.amphora,
                )
            })
    };
    if let Some(candidate) = best(false) {
        return Choice::Existing(candidate.amphora);
    }
    let no_room = match ground_of_new(wish, candidates, deployment) {
        Ok((zone, host)) if deployment.amphorae < deployment.amphorae_max => {
            return Choice::New { zone, host };
        }
        Ok(_) => NoRoom::Full {
            amphorae_max: deployment.amphorae_max,
        },
        Err(no_zone @ NoRoom::NoSuchZone(_)) => return Choice::NoRoom(no_zone),
        Err(no_room) => no_room,
    };
    match best(true).filter(|_| wish.steering.avoid.is_none()) {
        Some(candidate) => Choice::Existing(candidate.amphora),
        None => Choice::NoRoom(no_room),
    }
}

/// The host in the zone that has room for another amphora, the one with the fewest.
#[must_use]
pub fn host_for_new<'a>(zone: &str, hosts: &'a [HostRoom]) -> Option<&'a HostRoom> {
    let fitting = hosts.iter().filter(|host| host.fits(zone));
    fitting.min_by_key(|host| (host.amphorae, &host.host))
}

fn suits(wish: Wish<'_>, candidate: &Candidate, deployment: &Deployment) -> bool {
    let (tenancy, network) = (wish.tenancy(), wish.network);
    let wish = wish.steering;
    let right_zone = match &wish.zone {
        Some(zone) => candidate.zone == *zone,
        // A zone that was taken out of the settings gets nothing new.
        None => deployment.zones.contains(&candidate.zone),
    };
    let room = match tenancy {
        // One that was another's may be held to what that one may take; what is asked for begins with the amphora.
        Tenancy::Dedicated => candidate.load == 0 && wish.allotment.is_unbounded(),
        Tenancy::Shared => {
            let limits = [wish.load_balancers_max, candidate.load_balancers_max];
            let most = limits
                .into_iter()
                .flatten()
                .fold(deployment.load_balancers_max, u32::min);
            candidate.load < u64::from(most.max(1))
        }
    };
    let room = room && candidate.host_room != Some(0);
    let right_kind = candidate.tenancy == tenancy && candidate.network == network;
    right_zone && room && right_kind && wish.avoid != Some(candidate.amphora)
}

/// The zone asked for, or else the one whose load balancers are fewest, the first of equals; and a host in it. On a network
/// of tenants hosts count alone that can have it.
fn ground_of_new(
    wish: Wish<'_>,
    candidates: &[Candidate],
    deployment: &Deployment,
) -> Result<(String, String), NoRoom> {
    let zones = &deployment.zones;
    let mut hosts = deployment.hosts.clone();
    let mut obstacles = Vec::new();
    if wish.network.is_some() {
        let wish = wish.steering;
        hosts.retain(|host| match &host.obstacle {
            None => true,
            Some(obstacle) => {
                let mut zones = zones.iter();
                let counts = |zone: &String| {
                    wish.zone.as_ref().is_none_or(|its| its == zone) && host.fits(zone)
                };
                obstacles.extend(zones.any(counts).then(|| obstacle.clone()));
                false
            }
        });
    }
    let wish = wish.steering;
    let place = |zone: &String| {
        let host = host_for_new(zone, &hosts)?;
        Some((zone.clone(), host.host.clone()))
    };
    let no_host = match obstacles.is_empty() {
        true => NoRoom::NoHost {
            zone: wish.zone.clone(),
        },
        false => NoRoom::NoBuilder { obstacles },
    };
    if let Some(zone) = &wish.zone {
        if !zones.contains(zone) {
            return Err(NoRoom::NoSuchZone(zone.clone()));
        }
        return place(zone).ok_or(no_host);
    }
    let load = |zone: &String| {
        let there = candidates
            .iter()
            .filter(|candidate| candidate.zone == *zone);
        there.map(|candidate| candidate.load).sum::<u64>()
    };
    let mut sorted: Vec<&String> = zones.iter().collect();
    sorted.sort_by_key(|zone| load(zone));
    sorted.into_iter().find_map(place).ok_or(no_host)
}

const fn reluctance(status: AmphoraStatus) -> u8 {
    match status {
        AmphoraStatus::Allocated => 0,
        AmphoraStatus::Booting => 1,
        AmphoraStatus::Error => 2,
        AmphoraStatus::PendingDelete => 3,
    }
}

/// So many hosts are told of by name.
const OBSTACLES_TOLD_MAX: usize = 3;

#[cfg(test)]
mod tests;
