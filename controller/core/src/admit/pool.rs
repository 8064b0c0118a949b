//! Rules of pools (reference 7).

use alloc::collections::BTreeSet;

use krater_amphora_api::PoolId;

use super::{
    draft::{Draft, Mark},
    health_monitor, listener, load_balancer, member,
};
use crate::{
    change::Change,
    command::{NewPool, PoolParent, PoolUpdate},
    limits, matrix,
    model::Pool,
    refusal::Refusal,
    resource::ResourceId,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked without a tree, except for duplicates, which come last.
pub(super) fn check_new(new: &NewPool) -> Result<(), Refusal> {
    new.members.iter().try_for_each(member::check_new)?;
    match &new.health_monitor {
        Some(monitor) => health_monitor::check_new(monitor, new.protocol),
        None => Ok(()),
    }
}

/// That no two members of a new pool have the same address and port.
pub(super) fn check_duplicates(new: &NewPool) -> Result<(), Refusal> {
    let mut keys = BTreeSet::new();
    for member in &new.members {
        if !keys.insert(member::key(member.address, member.protocol_port)) {
            return Err(Refusal::DuplicateMember {
                address: member.address,
                port: member.protocol_port,
            });
        }
    }
    Ok(())
}

pub(super) fn create(
    mut draft: Draft<'_>,
    parent: PoolParent,
    new: NewPool,
) -> Result<Change, Refusal> {
    if let Some(balancer) = parent.load_balancer {
        load_balancer::require(&draft.tree, balancer)?;
    } else if parent.listener.is_none() {
        return Err(Refusal::Invalid(
            "Must provide at least one of: loadbalancer_id, listener_id".into(),
        ));
    }
    let user = parent
        .listener
        .map(|id| listener::find(&draft.tree, id))
        .transpose()?;
    check_new(&new)?;
    if let Some(user) = user.filter(|user| !matrix::carries(user.value.protocol, new.protocol)) {
        return Err(Refusal::ProtocolMismatch {
            listener: user.value.protocol,
            pool: new.protocol,
        });
    }
    check_counts(&draft.tree, &new)?;
    draft.require_balancer()?;
    if let Some(user) = user {
        draft.require_staying(user, ResourceId::Listener(user.value.id))?;
        if user.value.default_pool.is_some() {
            return Err(Refusal::AlreadyHasPool(user.value.id));
        }
    }
    check_duplicates(&new)?;
    let id = add(&mut draft, new);
    if let Some(listener) = parent.listener {
        draft.change_listener(listener, Mark::Named, |listener| {
            listener.default_pool = Some(id)
        });
    }
    Ok(draft.finish(ResourceId::Pool(id)))
}

fn check_counts(tree: &LoadBalancerTree, new: &NewPool) -> Result<(), Refusal> {
    if tree.pools.iter().filter(|row| !row.is_leaving()).count() >= limits::POOLS_MAX {
        return Err(Refusal::QuotaMet("Pool"));
    }
    member::check_count(tree, new.members.len())
}

/// Adds a checked pool with its members and monitor.
pub(super) fn add(draft: &mut Draft<'_>, new: NewPool) -> PoolId {
    let id = PoolId::new(draft.next_id());
    draft.add_pool(Pool {
        id,
        name: new.name,
        description: new.description,
        admin_state_up: new.admin_state_up,
        protocol: new.protocol,
        lb_algorithm: new.lb_algorithm,
        tags: new.tags,
    });
    for member in new.members {
        member::add(draft, id, member);
    }
    if let Some(monitor) = new.health_monitor {
        health_monitor::add(draft, id, monitor);
    }
    id
}

pub(super) fn update(
    mut draft: Draft<'_>,
    id: PoolId,
    update: PoolUpdate,
) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    draft.require_staying(row, ResourceId::Pool(id))?;
    let mut update = Some(update);
    draft.change_pools(
        Mark::Named,
        |pool| pool.id == id,
        |pool| {
            let Some(PoolUpdate {
                name,
                description,
                admin_state_up,
                lb_algorithm,
                tags,
            }) = update.take()
            else {
                return;
            };
            super::set(&mut pool.name, name);
            super::set(&mut pool.description, description);
            super::set(&mut pool.admin_state_up, admin_state_up);
            super::set(&mut pool.lb_algorithm, lb_algorithm);
            super::set(&mut pool.tags, tags);
        },
    );
    draft.touch_users(id);
    Ok(draft.finish(ResourceId::Pool(id)))
}

/// Members and monitor go with it; listeners that used it are left without a default pool (reference 7.3).
pub(super) fn delete(mut draft: Draft<'_>, id: PoolId) -> Result<Change, Refusal> {
    if find(&draft.tree, id)?.is_leaving() {
        return Ok(draft.unchanged(ResourceId::Pool(id)));
    }
    // A policy whose target vanished would let through, or send elsewhere, what it was made for.
    let policies = draft.tree.l7_policies.iter();
    let mut users = policies.filter(|row| !row.is_leaving());
    if let Some(user) = users.find(|row| row.value.action.pool() == Some(&id)) {
        return Err(Refusal::PoolInUse {
            pool: id,
            policy: user.value.id,
        });
    }
    draft.change_pools(Mark::Leaves, |pool| pool.id == id, |_| ());
    draft.change_members(Mark::Leaves, |member| member.pool == id, |_| ());
    draft.change_monitors(Mark::Leaves, |monitor| monitor.pool == id, |_| ());
    draft.change_listeners(
        Mark::Along,
        |listener| listener.default_pool == Some(id),
        |listener| listener.default_pool = None,
    );
    Ok(draft.finish(ResourceId::Pool(id)))
}

/// The row of pool `id`.
pub(super) fn find(tree: &LoadBalancerTree, id: PoolId) -> Result<&Row<Pool>, Refusal> {
    tree.pool(id).ok_or(Refusal::NotFound(ResourceId::Pool(id)))
}
