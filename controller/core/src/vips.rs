//! What a deployment lets VIPs be taken from (reference 5.3, steps 2, 3 and 5).

use alloc::{collections::BTreeSet, format, vec::Vec};

use uuid::Uuid;

use crate::{
    model::{Topology, VipRequest},
    refusal::Refusal,
};

/// In which way a tenant says where a VIP is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VipReference {
    /// By a port.
    Port,
    /// By a network.
    Network,
    /// By a subnet.
    Subnet,
}

impl VipReference {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Self; 3] = [Self::Port, Self::Network, Self::Subnet];

    /// The field it is given in.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Port => "vip_port_id",
            Self::Network => "vip_network_id",
            Self::Subnet => "vip_subnet_id",
        }
    }

    const fn is_in(self, request: &VipRequest) -> bool {
        match self {
            Self::Port => request.port_id.is_some(),
            Self::Network => request.network_id.is_some(),
            Self::Subnet => request.subnet_id.is_some(),
        }
    }
}

/// The rules of a deployment. The default allows everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipRules {
    /// The references tenants may use.
    pub references: BTreeSet<VipReference>,
    /// The only networks VIPs may be on; all when `None`.
    pub valid_networks: Option<BTreeSet<Uuid>>,
    /// Networks no VIP may be on.
    pub denied_networks: BTreeSet<Uuid>,
    /// Networks that are on one host alone.
    pub one_host: BTreeSet<Uuid>,
}

impl Default for VipRules {
    fn default() -> Self {
        Self {
            references: VipReference::ALL.into(),
            valid_networks: None,
            denied_networks: BTreeSet::new(),
            one_host: BTreeSet::new(),
        }
    }
}

impl VipRules {
    /// That the request refers to something, and by what is allowed.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]
    pub fn check_request(&self, request: &VipRequest) -> Result<(), Refusal> {
        let mut given = VipReference::ALL
            .into_iter()
            .filter(|kind| kind.is_in(request));
        if let Some(kind) = given.clone().find(|kind| !self.references.contains(kind)) {
            return Err(Refusal::Invalid(format!(
                "use of {} is disallowed by this deployment's configuration.",
                kind.field()
            )));
        }
        if given.next().is_none() {
            let fields: Vec<_> = self.references.iter().map(|kind| kind.field()).collect();
            return Err(Refusal::Invalid(format!(
                "VIP must contain one of: {}.",
                fields.join(", ")
            )));
        }
        Ok(())
    }

    /// That VIPs may be on the network. What an availability zone allows, `of_zone`, counts instead of what the
    /// deployment allows; what the deployment denies is denied in every zone.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]
    pub fn check_network(
        &self,
        network: Uuid,
        of_zone: Option<&BTreeSet<Uuid>>,
    ) -> Result<(), Refusal> {
        let valid = of_zone.or(self.valid_networks.as_ref());
        if valid.is_some_and(|valid| !valid.contains(&network))
            || self.denied_networks.contains(&network)
        {
            return Err(Refusal::Invalid(
                "Supplied VIP network_id is not allowed by the configuration of this deployment."
                    .into(),
            ));
        }
        Ok(())
    }

    /// That a load balancer whose VIP is on the network can have as many amphorae as its topology wants: two need two
    /// hosts.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]
    pub fn check_topology(&self, network: Uuid, topology: Topology) -> Result<(), Refusal> {
        if topology.seats().len() > 1 && self.one_host.contains(&network) {
            return Err(Refusal::Invalid(format!(
                "The topology ACTIVE_STANDBY takes two hosts, and network {network} is on one alone: it has no vni."
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    fn request(kinds: &[VipReference]) -> VipRequest {
        let given = |kind| kinds.contains(&kind).then(Uuid::nil);
        VipRequest {
            port_id: given(VipReference::Port),
            network_id: given(VipReference::Network),
            subnet_id: given(VipReference::Subnet),
            ..VipRequest::default()
        }
    }

    fn answer(outcome: Result<(), Refusal>) -> String {
        outcome.map_or_else(|refusal| refusal.to_string(), |()| "allowed".into())
    }

    #[test]
    fn a_reference_must_be_given_and_allowed() {
        use VipReference::{Network, Port, Subnet};

        for (allowed, given, expected) in [
            (&[Port, Network, Subnet][..], &[Port][..], "allowed"),
            (&[Port, Network, Subnet], &[Network], "allowed"),
            (&[Port, Network, Subnet], &[Subnet], "allowed"),
            (
                &[Port, Network, Subnet],
                &[Port, Network, Subnet],
                "allowed",
            ),
            (
                &[Port, Network, Subnet],
                &[],
                "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.",
            ),
            (
                &[Network, Subnet],
                &[],
                "VIP must contain one of: vip_network_id, vip_subnet_id.",
            ),
            (
                &[Network, Subnet],
                &[Port],
                "use of vip_port_id is disallowed by this deployment's configuration.",
            ),
            (
                &[Port, Subnet],
                &[Port, Network],
                "use of vip_network_id is disallowed by this deployment's configuration.",
            ),
            (
                &[Port],
                &[Network, Subnet],
                "use of vip_network_id is disallowed by this deployment's configuration.",
            ),
            (
                &[Port, Network],
                &[Subnet],
                "use of vip_subnet_id is disallowed by this deployment's configuration.",
            ),
            (&[Port, Network], &[Port], "allowed"),
        ] {
            let rules = VipRules {
                references: allowed.iter().copied().collect(),
                ..VipRules::default()
            };
            assert_eq!(
                answer(rules.check_request(&request(given))),
                expected,
                "{given:?} where {allowed:?} are allowed"
            );
        }
    }

    #[test]
    fn two_amphorae_cannot_be_had_on_a_network_that_is_on_one_host() {
        let (alone, spanning) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let rules = VipRules {
            one_host: [alone].into(),
            ..VipRules::default()
        };
        for (network, topology, is_refused) in [
            (alone, Topology::ActiveStandby, true),
            (alone, Topology::Single, false),
            (spanning, Topology::ActiveStandby, false),
        ] {
            let refused = rules.check_topology(network, topology);
            assert_eq!(
                matches!(refused, Err(Refusal::Invalid(_))),
                is_refused,
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_network_must_be_valid_and_not_denied() {
        const REFUSED: &str =
            "Supplied VIP network_id is not allowed by the configuration of this deployment.";
        let set = |ids: &[u128]| {
            ids.iter()
                .copied()
                .map(Uuid::from_u128)
                .collect::<BTreeSet<_>>()
        };
        // Allowed by the deployment, denied by it, allowed by the zone; the network asked for.
        for (valid, denied, of_zone, network, expected) in [
            (None, &[][..], None, 1, "allowed"),
            (Some(&[1, 2][..]), &[], None, 1, "allowed"),
            (Some(&[2]), &[], None, 1, REFUSED),
            (None, &[1], None, 1, REFUSED),
            (None, &[2], None, 1, "allowed"),
            (Some(&[1]), &[1], None, 1, REFUSED),
            (Some(&[2]), &[], Some(&[1][..]), 1, "allowed"),
            (Some(&[1]), &[], Some(&[2]), 1, REFUSED),
            (None, &[1], Some(&[1]), 1, REFUSED),
            (None, &[], Some(&[]), 1, REFUSED),
        ] {
            let rules = VipRules {
                valid_networks: valid.map(set),
                denied_networks: set(denied),
                ..VipRules::default()
            };
            assert_eq!(
                answer(rules.check_network(Uuid::from_u128(network), of_zone.map(set).as_ref())),
                expected,
                "{valid:?}, {denied:?}, {of_zone:?}"
            );
        }
    }
}
