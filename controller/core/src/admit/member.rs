//! Rules of members (reference 8).

use core::net::IpAddr;

use krater_amphora_api::{MemberId, PoolId};

use super::{
    address::check_host,
    draft::{Draft, Mark},
};
use crate::{
    change::Change,
    command::{MemberUpdate, NewMember},
    limits,
    model::{Member, Pool, Steering, VnicType},
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked without a tree.
pub(super) fn check_new(new: &NewMember, rules: &Rules) -> Result<(), Refusal> {
    check_host(new.address, "member address", rules)?;
    check_monitor_address(new.monitor_address, rules)
}

/// Probes reach whatever their address names, so it obeys the rules of the address itself.
fn check_monitor_address(address: Option<IpAddr>, rules: &Rules) -> Result<(), Refusal> {
    address.map_or(Ok(()), |address| {
        check_host(address, "member monitor_address", rules)
    })
}

/// That the flavor of the load balancer lets `new` have the port it asks for (reference 8.3).
pub(super) fn check_sriov(new: &NewMember, steering: &Steering) -> Result<(), Refusal> {
    if new.request_sriov && !steering.member_sriov {
        return Err(Refusal::Invalid(
            "The load balancer flavor does not allow SR-IOV member ports.".into(),
        ));
    }
    Ok(())
}

/// That `more` members fit into the tree.
pub(super) fn check_count(tree: &LoadBalancerTree, more: usize) -> Result<(), Refusal> {
    let members = tree.members.iter().filter(|row| !row.is_leaving()).count();
    if members.saturating_add(more) > limits::MEMBERS_MAX {
        return Err(Refusal::QuotaMet("Member"));
    }
    Ok(())
}

pub(super) fn create(
    mut draft: Draft<'_>,
    pool: PoolId,
    new: NewMember,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let row = find_pool(&draft.tree, pool)?;
    check_new(&new, rules)?;
    check_sriov(&new, &draft.tree.load_balancer.value.steering)?;
    check_count(&draft.tree, 1)?;
    draft.require_staying(row, ResourceId::Pool(pool))?;
    let taken = key(new.address, new.protocol_port);
    if staying(&draft.tree, pool).any(|other| key(other.address, other.protocol_port) == taken) {
        return Err(Refusal::DuplicateMember {
            address: new.address,
            port: new.protocol_port,
        });
    }
    let id = add(&mut draft, pool, new);
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::Member(id)))
}

/// Adds a checked member.
pub(super) fn add(draft: &mut Draft<'_>, pool: PoolId, new: NewMember) -> MemberId {
    let id = MemberId::new(draft.next_id());
    draft.add_member(Member {
        id,
        pool,
        name: new.name,
        admin_state_up: new.admin_state_up,
        address: new.address,
        protocol_port: new.protocol_port,
        weight: new.weight,
        backup: new.backup,
        subnet_id: new.subnet_id,
        monitor_address: new.monitor_address,
        monitor_port: new.monitor_port,
        vnic_type: if new.request_sriov {
            VnicType::Direct
        } else {
            VnicType::Normal
        },
        tags: new.tags,
    });
    id
}

pub(super) fn update(
    mut draft: Draft<'_>,
    pool: PoolId,
    id: MemberId,
    update: MemberUpdate,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let parent = find_pool(&draft.tree, pool)?;
    let row = find(&draft.tree, pool, id)?;
    check_monitor_address(update.monitor_address.flatten(), rules)?;
    draft.require_staying(parent, ResourceId::Pool(pool))?;
    draft.require_staying(row, ResourceId::Member(id))?;
    let mut update = Some(update);
    draft.change_member(id, Mark::Named, |member| {
        if let Some(update) = update.take() {
            apply(member, update);
        }
    });
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::Member(id)))
}

fn apply(member: &mut Member, update: MemberUpdate) {
    let MemberUpdate {
        name,
        admin_state_up,
        weight,
        backup,
        monitor_address,
        monitor_port,
        tags,
    } = update;
    super::set(&mut member.name, name);
    super::set(&mut member.admin_state_up, admin_state_up);
    super::set(&mut member.weight, weight);
    super::set(&mut member.backup, backup);
    super::set(&mut member.monitor_address, monitor_address);
    super::set(&mut member.monitor_port, monitor_port);
    super::set(&mut member.tags, tags);
}

pub(super) fn delete(mut draft: Draft<'_>, pool: PoolId, id: MemberId) -> Result<Change, Refusal> {
    find_pool(&draft.tree, pool)?;
    if find(&draft.tree, pool, id)?.is_leaving() {
        return Ok(draft.unchanged(ResourceId::Member(id)));
    }
    draft.change_member(id, Mark::Leaves, |_| ());
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::Member(id)))
}

/// What no two members of a pool share. Two spellings of one address are one address (reference 23.2).
pub(super) fn key(address: IpAddr, port: u16) -> (IpAddr, u16) {
    (address.to_canonical(), port)
}

/// The members of `pool` that are not being deleted.
pub(super) fn staying(tree: &LoadBalancerTree, pool: PoolId) -> impl Iterator<Item = &Member> {
    tree.members_of(pool)
        .filter(|row| !row.is_leaving())
        .map(|row| &row.value)
}

/// The pool in a member's path.
pub(super) fn find_pool(tree: &LoadBalancerTree, id: PoolId) -> Result<&Row<Pool>, Refusal> {
    tree.pool(id).ok_or(Refusal::ParentPoolNotFound(id))
}

fn find(tree: &LoadBalancerTree, pool: PoolId, id: MemberId) -> Result<&Row<Member>, Refusal> {
    tree.member(id)
        .filter(|row| row.value.pool == pool)
        .ok_or(Refusal::NotFound(ResourceId::Member(id)))
}
