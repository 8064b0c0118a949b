//! Rules of the load balancer itself and of whole trees (reference 5, 17).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::net::IpAddr;

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use uuid::Uuid;

use super::{
    draft::{Draft, Mark},
    l7_policy, listener, member, pool,
};
use crate::{
    change::Change,
    command::{Cascade, LoadBalancerUpdate, NewListener, NewLoadBalancer, NewPool, PoolRef},
    limits,
    model::{AdditionalVip, ListenerProtocol, LoadBalancer, ProjectId, Vip, VnicType},
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    tree::LoadBalancerTree,
};

/// The provider of a load balancer that names none (reference 5.2).
const PROVIDER_DEFAULT: &str = "amphora";

pub(super) fn check_new(new: &NewLoadBalancer, rules: &Rules) -> Result<(), Refusal> {
    if new.vip.additional.len() > limits::ADDITIONAL_VIPS_MAX {
        return Err(Refusal::Invalid(format!(
            "at most {} additional_vips are allowed.",
            limits::ADDITIONAL_VIPS_MAX
        )));
    }
    for listener in &new.listeners {
        listener::check_new(listener, rules)?;
        check_default_pool(listener, &new.pools)?;
        l7_policy::check_nested(listener, &new.pools)?;
    }
    for pool in &new.pools {
        pool::check_new(pool, rules)?;
        // Only a flavor can allow it, and a load balancer without one has none.
        pool.members
            .iter()
            .try_for_each(|member| member::check_sriov(member, &new.chosen.steering))?;
    }
    check_groups(
        &new.vip.security_group_ids,
        new.listeners
            .iter()
            .map(|listener| listener.allowed_cidrs.as_slice()),
    )?;
    check_counts(new)?;
    let mut ports = BTreeSet::new();
    for listener in &new.listeners {
        if !ports.insert((listener.protocol.family(), listener.protocol_port)) {
            return Err(Refusal::DuplicatePort {
                protocol: listener.protocol,
                port: listener.protocol_port,
            });
        }
    }
    new.pools.iter().try_for_each(pool::check_duplicates)?;
    let with_policies = |listener: &&NewListener| !listener.l7_policies.is_empty();
    let mut listeners = new.listeners.iter().filter(with_policies);
    listeners.try_for_each(|listener| l7_policy::check_listener(listener.protocol))
}

/// That at most one of security groups and the listeners' own networks says who is let in (reference 6.4), and that
/// there are not too many groups.
pub(super) fn check_groups<'a>(
    groups: &[Uuid],
    mut networks: impl Iterator<Item = &'a [String]>,
) -> Result<(), Refusal> {
    if groups.len() > limits::SECURITY_GROUPS_MAX {
        return Err(Refusal::Invalid(format!(
            "at most {} vip_sg_ids are allowed.",
            limits::SECURITY_GROUPS_MAX
        )));
    }
    if !groups.is_empty() && networks.any(|networks| !networks.is_empty()) {
        return Err(Refusal::Invalid(
            "Allowed CIDRs are not allowed when using custom VIP Security Groups.".into(),
        ));
    }
    Ok(())
}

/// That what is plugged into the network directly has no security groups (reference 5.3): nothing could enforce them.
pub(super) fn check_vnic(groups: &[Uuid], vnic: VnicType) -> Result<(), Refusal> {
    if !groups.is_empty() && vnic == VnicType::Direct {
        return Err(Refusal::VnicWithGroups);
    }
    Ok(())
}

fn check_default_pool(listener: &NewListener, pools: &[NewPool]) -> Result<(), Refusal> {
    listener.default_pool.map_or(Ok(()), |pool| {
        check_pool_ref(listener.protocol, pool, pools)
    })
}

/// That a listener of protocol `protocol` may send to `pool`, one of `pools`.
pub(super) fn check_pool_ref(
    protocol: ListenerProtocol,
    pool: PoolRef,
    pools: &[NewPool],
) -> Result<(), Refusal> {
    match pool {
        // Pools live in one load balancer (D11), and this one is yet to come.
        PoolRef::Existing(id) => Err(Refusal::NotFound(ResourceId::Pool(id))),
        PoolRef::New(position) => {
            let pool = pools.get(position).ok_or_else(|| {
                Refusal::Defect(format!(
                    "listener refers to pool {position} of {}",
                    pools.len()
                ))
            })?;
            listener::check_pool_protocol(protocol, Some(pool.protocol))
        }
    }
}

fn check_counts(new: &NewLoadBalancer) -> Result<(), Refusal> {
    let members = new
        .pools
        .iter()
        .map(|pool| pool.members.len())
        .sum::<usize>();
    for (count, most, kind) in [
        (new.listeners.len(), limits::LISTENERS_MAX, "Listener"),
        (new.pools.len(), limits::POOLS_MAX, "Pool"),
        (members, limits::MEMBERS_MAX, "Member"),
    ] {
        if count > most {
            return Err(Refusal::QuotaMet(kind));
        }
    }
    let policies = || {
        new.listeners
            .iter()
            .flat_map(|listener| &listener.l7_policies)
    };
    l7_policy::check_counts(
        policies().count(),
        policies().flat_map(|policy| &policy.rules),
    )?;
    let networks = new
        .listeners
        .iter()
        .map(|listener| listener.allowed_cidrs.len())
        .sum();
    listener::check_networks_total(networks)
}

/// The allowed networks of all listeners against the addresses they will be bound to.
pub(super) fn check_networks(
    new: &NewLoadBalancer,
    vip: &Vip,
    additional_vips: &[AdditionalVip],
) -> Result<(), Refusal> {
    let vips = addresses(vip, additional_vips);
    new.listeners
        .iter()
        .try_for_each(|listener| listener::check_networks(&listener.allowed_cidrs, &vips))
}

/// All addresses of a load balancer, the primary first.
pub(super) fn addresses(vip: &Vip, additional_vips: &[AdditionalVip]) -> Vec<IpAddr> {
    core::iter::once(vip.address)
        .chain(additional_vips.iter().map(|vip| vip.address))
        .collect()
}

pub(super) fn with_address(
    new: NewLoadBalancer,
    project: ProjectId,
    vip: Vip,
    additional_vips: Vec<AdditionalVip>,
    id: LoadBalancerId,
) -> LoadBalancer {
    LoadBalancer {
        id,
        project,
        name: new.name,
        description: new.description,
        admin_state_up: new.admin_state_up,
        vip,
        additional_vips,
        vip_qos_policy_id: new.vip.qos_policy_id,
        vip_sg_ids: new.vip.security_group_ids,
        vip_vnic_type: VnicType::default(),
        provider: new.provider.unwrap_or_else(|| PROVIDER_DEFAULT.into()),
        flavor_id: new.flavor_id,
        availability_zone: new.availability_zone,
        steering: new.chosen.steering,
        secrets: BTreeMap::new(),
        tags: new.tags,
    }
}

/// The children of a new load balancer. Everything about them was checked.
pub(super) fn create(
    mut draft: Draft<'_>,
    listeners: Vec<NewListener>,
    pools: Vec<NewPool>,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let pools: Vec<_> = pools
        .into_iter()
        .map(|new| pool::add(&mut draft, new, rules))
        .collect();
    for new in listeners {
        let default_pool = match new.default_pool {
            Some(PoolRef::New(position)) => pools.get(position).copied(),
            Some(PoolRef::Existing(id)) => Some(id),
            None => None,
        };
        listener::add(&mut draft, new, default_pool, &pools, rules)?;
    }
    Ok(draft.finish_balancer(Mark::Named))
}

pub(super) fn update(
    mut draft: Draft<'_>,
    id: LoadBalancerId,
    update: LoadBalancerUpdate,
) -> Result<Change, Refusal> {
    require(&draft.tree, id)?;
    let LoadBalancerUpdate {
        name,
        description,
        admin_state_up,
        vip_qos_policy_id,
        vip_sg_ids,
        tags,
    } = update;
    if let Some(groups) = &vip_sg_ids {
        check_vnic(groups, draft.tree.load_balancer.value.vip_vnic_type)?;
        check_groups(
            groups,
            listener::staying(&draft.tree).map(|listener| listener.allowed_cidrs.as_slice()),
        )?;
    }
    draft.require_balancer()?;
    let balancer = draft.balancer_mut();
    super::set(&mut balancer.name, name);
    super::set(&mut balancer.description, description);
    super::set(&mut balancer.admin_state_up, admin_state_up);
    super::set(&mut balancer.vip_qos_policy_id, vip_qos_policy_id);
    super::set(&mut balancer.vip_sg_ids, vip_sg_ids);
    super::set(&mut balancer.tags, tags);
    Ok(draft.finish_balancer(Mark::Named))
}

/// Children go with it and say so, where the reference leaves them as they were (reference 23.1).
pub(super) fn delete(
    mut draft: Draft<'_>,
    id: LoadBalancerId,
    cascade: Cascade,
) -> Result<Change, Refusal> {
    require(&draft.tree, id)?;
    if cascade == Cascade::OnlyIfEmpty && has_children(&draft.tree) {
        return Err(Refusal::HasChildren(id));
    }
    if draft.tree.load_balancer.is_leaving() {
        return Ok(draft.unchanged(ResourceId::LoadBalancer(id)));
    }
    draft.change_listeners(Mark::Leaves, |_| true, |_| ());
    draft.change_pools(Mark::Leaves, |_| true, |_| ());
    draft.change_members(Mark::Leaves, |_| true, |_| ());
    draft.change_monitors(Mark::Leaves, |_| true, |_| ());
    draft.change_l7_policies(Mark::Leaves, |_| true, |_| ());
    draft.change_l7_rules(Mark::Leaves, |_| true, |_| ());
    Ok(draft.finish_balancer(Mark::Leaves))
}

/// Leaves the amphora `from`, and `then` the other one. Told so again before it has left, nothing changes.
pub(super) fn fail_over(
    mut draft: Draft<'_>,
    id: LoadBalancerId,
    from: Option<AmphoraId>,
    then: Option<AmphoraId>,
) -> Result<Change, Refusal> {
    require(&draft.tree, id)?;
    draft.require_balancer()?;
    if from.is_none() || draft.tree.load_balancer.value.steering.avoid == from {
        return Ok(draft.unchanged(ResourceId::LoadBalancer(id)));
    }
    let steering = &mut draft.balancer_mut().steering;
    (steering.avoid, steering.avoid_then) = (from, then);
    Ok(draft.finish_balancer(Mark::Named))
}

fn has_children(tree: &LoadBalancerTree) -> bool {
    tree.listeners.iter().any(|row| !row.is_leaving())
        || tree.pools.iter().any(|row| !row.is_leaving())
}

/// That the tree is that of load balancer `id`.
pub(super) fn require(tree: &LoadBalancerTree, id: LoadBalancerId) -> Result<(), Refusal> {
    if tree.id() == id {
        Ok(())
    } else {
        Err(Refusal::NotFound(ResourceId::LoadBalancer(id)))
    }
}
