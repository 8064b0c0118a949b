//! Networks, subnets and ports as network drivers know them, and who may see them.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::net::IpAddr;

use uuid::Uuid;

use crate::model::ProjectId;

/// An address, and the network that it is on: other networks may have the same one.
pub type Located = (IpAddr, Uuid);

/// A network a VIP may be on, as the network driver knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Who may see it and all in it.
    pub audience: Audience,
    /// Its subnets.
    pub subnets: Vec<SubnetView>,
    /// Its ports, without those that were made for load balancers.
    pub ports: Vec<PortView>,
}

/// A subnet a VIP may be from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// In CIDR notation.
    pub cidr: String,
    /// The router's address, which is nobody else's.
    pub gateway: Option<IpAddr>,
    /// First and last address handed out, inclusive.
    pub allocation: (IpAddr, IpAddr),
}

/// A port a load balancer may be reached through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Whose it is; `None` when it is for everybody who sees its network.
    pub project: Option<ProjectId>,
    /// Who uses it; `None` while it is free.
    pub device_id: Option<String>,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
}

/// An address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedIp {
    /// The address.
    pub address: IpAddr,
    /// The subnet it is from.
    pub subnet_id: Uuid,
}

/// For whom something is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    #[default]
    Everybody,
    /// These projects.
    Projects(BTreeSet<ProjectId>),
}

/// Who looks. What somebody may not see does not exist for them (reference 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who sees everything.
    Operator,
    /// Somebody of a project.
    Project(ProjectId),
    /// Somebody of no project.
    Stranger,
}

impl Viewer {
    /// Whether they may see what is for `audience`.
    #[must_use]
    pub fn sees(&self, audience: &Audience) -> bool {
        match (self, audience) {
            (Self::Operator, _) | (_, Audience::Everybody) => true,
            (Self::Project(own), Audience::Projects(projects)) => projects.contains(own),
            (Self::Stranger, Audience::Projects(_)) => false,
        }
    }

    /// Whether they may see what belongs to `project`, or to nobody.
    #[must_use]
    pub fn sees_of(&self, project: Option<&ProjectId>) -> bool {
        match (self, project) {
            (Self::Operator, _) | (_, None) => true,
            (Self::Project(own), Some(project)) => own == project,
            (Self::Stranger, Some(_)) => false,
        }
    }

    /// What they may see of `networks`.
    #[must_use]
    pub fn select(&self, mut networks: Vec<NetworkView>) -> Vec<NetworkView> {
        networks.retain(|network| self.sees(&network.audience));
        for network in &mut networks {
            network
                .ports
                .retain(|port| self.sees_of(port.project.as_ref()));
        }
        networks
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::sample::project;

    fn network(id: u128, audience: Audience, owners: &[Option<&str>]) -> NetworkView {
        let port = |(position, owner): (usize, &Option<&str>)| PortView {
            id: Uuid::from_u128(id * 10 + position as u128),
            name: String::new(),
            project: owner.and_then(ProjectId::parse),
            device_id: None,
            fixed_ips: vec![],
        };
        NetworkView {
            id: Uuid::from_u128(id),
            name: String::new(),
            audience,
            subnets: vec![],
            ports: owners.iter().enumerate().map(port).collect(),
        }
    }

    #[test]
    fn everybody_sees_what_is_for_them_and_operators_everything() {
        let other = ProjectId::parse("other").unwrap();
        let networks = vec![
            network(1, Audience::Everybody, &[None, Some("other")]),
            network(
                2,
                Audience::Projects(BTreeSet::from([other.clone()])),
                &[None],
            ),
        ];
        for (viewer, seen) in [
            (Viewer::Operator, vec![(1, 2), (2, 1)]),
            (Viewer::Project(other), vec![(1, 2), (2, 1)]),
            (Viewer::Project(project()), vec![(1, 1)]),
            (Viewer::Stranger, vec![(1, 1)]),
        ] {
            let found: Vec<_> = viewer
                .select(networks.clone())
                .iter()
                .map(|network| (network.id.as_u128(), network.ports.len()))
                .collect();
            assert_eq!(found, seen, "{viewer:?}");
        }
    }
}
