//! What load balancers are given of the network, and what tenants may name of it.

use std::{collections::BTreeSet, sync::Arc};

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    change::Change,
    command::Command,
    model::VipRequest,
    network::{NetworkView, Viewer},
    policy,
    query::Caller,
    refusal::Refusal,
    vips::VipRules,
};
use krater_driver::{AllocateError, AllocatedVip, DriverError, NetworkDriver, Taken};
use uuid::Uuid;

/// The network as tenants deal with it.
pub(crate) struct Networking {
    pub(crate) driver: Arc<dyn NetworkDriver>,
    /// What VIPs may be taken from.
    pub(crate) rules: VipRules,
}

impl Networking {
    /// Checks what a new load balancer asks of the network, as far as nothing is taken (reference 5.3, steps 2 to 5).
    /// `of_zone` are the networks its availability zone allows, if it says so.
    pub(crate) async fn check_request(
        &self,
        caller: &Caller,
        request: &VipRequest,
        of_zone: Option<&BTreeSet<Uuid>>,
        taken: &Taken,
    ) -> Result<(), Refusal> {
        self.rules.check_request(request)?;
        let viewer = policy::viewer(caller);
        let network = self.driver.resolve_vip(&viewer, request, taken).await;
        let network = network.map_err(allocation_refused)?;
        self.check_policy(&viewer, request.qos_policy_id).await?;
        self.check_groups(&viewer, &request.security_group_ids)
            .await?;
        self.rules.check_network(network, of_zone)
    }

    /// Checks that a new load balancer can have as many amphorae as it asks for where its VIP is.
    pub(crate) fn check_topology(&self, change: &Change) -> Result<(), Refusal> {
        let root = &change.tree.load_balancer.value;
        self.rules
            .check_topology(root.vip.network_id, root.steering.topology)
    }

    /// Takes addresses.
    pub(crate) async fn allocate(
        &self,
        caller: &Caller,
        load_balancer: LoadBalancerId,
        request: &VipRequest,
        port_id: Uuid,
        taken: &Taken,
    ) -> Result<AllocatedVip, Refusal> {
        self.driver
            .allocate_vip(
                load_balancer,
                &policy::viewer(caller),
                request,
                port_id,
                taken,
            )
            .await
            .map_err(allocation_refused)
    }

    /// Checks that whatever else of the network a command names is there for the caller.
    pub(crate) async fn check_named(
        &self,
        caller: &Caller,
        command: &Command,
    ) -> Result<(), Refusal> {
        let viewer = policy::viewer(caller);
        if let Command::UpdateLoadBalancer(_, update) = command {
            self.check_policy(&viewer, update.vip_qos_policy_id.flatten())
                .await?;
            let groups = update.vip_sg_ids.as_deref().unwrap_or_default();
            self.check_groups(&viewer, groups).await?;
        }
        self.check_subnets(caller, command.member_subnets()).await
    }

    /// Checks the subnets that members are to be reached through (reference 8.3).
    pub(crate) async fn check_subnets(
        &self,
        caller: &Caller,
        subnets: BTreeSet<Uuid>,
    ) -> Result<(), Refusal> {
        let viewer = policy::viewer(caller);
        for subnet in subnets {
            let known = self.driver.has_subnet(&viewer, subnet).await;
            require("Subnet", subnet, known)?;
        }
        Ok(())
    }

    /// What the caller may see.
    pub(crate) async fn views(&self, caller: &Caller) -> Result<Vec<NetworkView>, Refusal> {
        let networks = self.driver.networks().await;
        let networks = networks.map_err(|error| driver_refused(&error))?;
        Ok(policy::viewer(caller).select(networks))
    }

    async fn check_policy(&self, viewer: &Viewer, policy: Option<Uuid>) -> Result<(), Refusal> {
        match policy {
            None => Ok(()),
            Some(id) => {
                let known = self.driver.has_qos_policy(viewer, id).await;
                require("qos_policy", id, known)
            }
        }
    }

    async fn check_groups(&self, viewer: &Viewer, groups: &[Uuid]) -> Result<(), Refusal> {
        for group in groups {
            let known = self.driver.has_security_group(viewer, *group).await;
            require("Security Group", *group, known)?;
        }
        Ok(())
    }
}

fn require(kind: &'static str, id: Uuid, known: Result<bool, DriverError>) -> Result<(), Refusal> {
    if known.map_err(|error| driver_refused(&error))? {
        return Ok(());
    }
    let id = id.to_string();
    Err(Refusal::UnknownNetworkResource { kind, id })
}

fn allocation_refused(error: AllocateError) -> Refusal {
    match error {
        AllocateError::Unknown { kind, id } => Refusal::UnknownNetworkResource { kind, id },
        AllocateError::Invalid(sentence) => Refusal::Invalid(sentence),
        AllocateError::InUse { address, reason } => Refusal::AddressInUse { address, reason },
        AllocateError::Driver(error) => driver_refused(&error),
    }
}

fn driver_refused(error: &DriverError) -> Refusal {
    tracing::error!(%error, "a driver could not do what a request asked");
    Refusal::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests;
