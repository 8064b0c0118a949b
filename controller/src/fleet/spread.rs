//! Networks of tenants over hosts: which hosts can have one, and which others each amphora on it is told of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use uuid::Uuid;

use super::Fleet;
use crate::hosts;

impl Fleet {
    /// Why no amphora on the network can be on the host, if so: a clause that names the host.
    pub(super) fn obstacle(&self, network: Uuid, host: &str) -> Option<String> {
        if host == self.parts.host {
            return None;
        }
        let record = self.parts.hosts.named(host)?;
        let segment = self.parts.segments.get(&network)?;
        let name = &record.facts.name;
        if segment.vni.is_none() {
            return Some(format!(
                "host {name}: network {:?} has no vni, and so is on controllers' own hosts alone",
                segment.name
            ));
        }
        let reason = hosts::obstacle(&record.facts, self.parts.underlay.any())?;
        Some(format!("host {name}: {reason}"))
    }

    /// Takes note of where each network is, and has the amphorae told whose network has come to another host or left one.
    pub(super) fn note_peers(&self) {
        let spanning = |network: &Uuid| {
            let segment = self.parts.segments.get(network);
            segment.is_some_and(|segment| segment.vni.is_some())
        };
        let all: Vec<_> = self
            .all()
            .into_iter()
            .filter_map(|(_, amphora)| {
                let record = amphora.record();
                let network = record.network.filter(spanning)?;
                Some((amphora, network, record.host))
            })
            .collect();
        let mut hosts: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
        for (_, network, host) in &all {
            hosts.entry(*network).or_default().insert(host);
        }
        let mut peers = BTreeMap::new();
        for (amphora, network, host) in &all {
            let peers = peers.entry((*network, host)).or_insert_with(|| {
                let there = hosts.get(network).into_iter().flatten();
                let there = there.filter_map(|host| self.reached_at(host));
                self.parts.underlay.peers(self.reached_at(host), there)
            });
            amphora.note_peers(peers);
        }
    }

    /// Where tunnels reach a host. Those of other controllers are told of by the settings.
    fn reached_at(&self, host: &str) -> Option<IpAddr> {
        if host == self.parts.host {
            return self.parts.underlay.local;
        }
        let networks = self.parts.hosts.named(host)?.facts.networks?;
        Some(networks.underlay)
    }
}

/// Where tunnels reach hosts, as far as the settings say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Underlay {
    /// This controller's own.
    pub(crate) local: Option<IpAddr>,
    /// Those on which all networks are.
    pub(crate) peers: Vec<IpAddr>,
}

impl Underlay {
    /// The hosts that one at `own` reaches others of a network at, which is at those of the settings and `there`.
    fn peers(&self, own: Option<IpAddr>, there: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
        let all: BTreeSet<IpAddr> = self.peers.iter().copied().chain(there).collect();
        all.into_iter().filter(|peer| Some(*peer) != own).collect()
    }

    fn any(&self) -> Option<IpAddr> {
        self.local.or_else(|| self.peers.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_of_all_others_once_and_not_of_itself() {
        let at = |last: u8| IpAddr::from([192, 0, 2, last]);
        let underlay = Underlay {
            local: Some(at(1)),
            peers: vec![at(9), at(2)],
        };
        let there = || [at(1), at(2), at(3)].into_iter();
        assert_eq!(underlay.peers(Some(at(1)), there()), [at(2), at(3), at(9)]);
        assert_eq!(underlay.peers(Some(at(3)), there()), [at(1), at(2), at(9)]);
        assert_eq!(underlay.peers(None, std::iter::empty()), [at(2), at(9)]);
    }
}
