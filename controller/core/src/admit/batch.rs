//! The members of a pool at once (reference 8.4).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use krater_amphora_api::{MemberId, PoolId};

use super::{
    draft::{Draft, Mark},
    member,
};
use crate::{
    change::Change,
    command::{BatchMember, BatchMode, NewMember},
    limits,
    model::Member,
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
};

pub(super) fn admit(
    mut draft: Draft<'_>,
    pool: PoolId,
    entries: Vec<BatchMember>,
    mode: BatchMode,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let row = member::find_pool(&draft.tree, pool)?;
    entries
        .iter()
        .try_for_each(|entry| member::check_new(&entry.member, rules))?;
    let present: BTreeMap<_, _> = member::staying(&draft.tree, pool)
        .map(|member| (member::key(member.address, member.protocol_port), member.id))
        .collect();
    let sorted = sort(entries, &present)?;
    // What exists stays as it is connected, whatever its entry asks for.
    sorted
        .new
        .iter()
        .try_for_each(|new| member::check_sriov(new, &draft.tree.load_balancer.value.steering))?;
    check_count(&draft, &sorted, present.len(), mode)?;
    draft.require_staying(row, ResourceId::Pool(pool))?;
    if let Some(twice) = sorted.new_twice {
        return Err(twice);
    }
    if sorted.updates.is_empty() && sorted.new.is_empty() && present.is_empty() {
        return Ok(draft.unchanged(ResourceId::Pool(pool)));
    }
    if mode == BatchMode::Replace {
        let updates = &sorted.updates;
        let leaves = |member: &Member| member.pool == pool && !updates.contains_key(&member.id);
        draft.change_members(Mark::Leaves, leaves, |_| ());
    }
    let mut updates = sorted.updates;
    let named: BTreeSet<_> = updates.keys().copied().collect();
    draft.change_members(
        Mark::Named,
        |member| named.contains(&member.id),
        |member| {
            if let Some(entry) = updates.remove(&member.id) {
                overwrite(member, entry);
            }
        },
    );
    for new in sorted.new {
        member::add(&mut draft, pool, new);
    }
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::Pool(pool)))
}

/// The entries of a batch by what they come to.
struct Sorted {
    updates: BTreeMap<MemberId, BatchMember>,
    new: Vec<NewMember>,
    new_twice: Option<Refusal>,
}

fn sort(
    entries: Vec<BatchMember>,
    present: &BTreeMap<(core::net::IpAddr, u16), MemberId>,
) -> Result<Sorted, Refusal> {
    let mut sorted = Sorted {
        updates: BTreeMap::new(),
        new: Vec::new(),
        new_twice: None,
    };
    let mut keys = BTreeSet::new();
    for entry in entries {
        let BatchMember {
            member:
                NewMember {
                    address,
                    protocol_port: port,
                    ..
                },
            ..
        } = entry;
        let key = member::key(address, port);
        if let Some(id) = present.get(&key) {
            if sorted.updates.insert(*id, entry).is_some() {
                return Err(Refusal::MemberTwice);
            }
        } else if keys.insert(key) {
            sorted.new.push(entry.member);
        } else {
            // Told only after quota and state were judged (reference 1.6, order of checks).
            sorted.new_twice = sorted
                .new_twice
                .or(Some(Refusal::DuplicateMember { address, port }));
        }
    }
    Ok(sorted)
}

/// What counts is how many there are afterwards (reference 8.4, quota).
fn check_count(
    draft: &Draft<'_>,
    sorted: &Sorted,
    present: usize,
    mode: BatchMode,
) -> Result<(), Refusal> {
    let all = draft
        .tree
        .members
        .iter()
        .filter(|row| !row.is_leaving())
        .count();
    let leaving = match mode {
        BatchMode::Replace => present.saturating_sub(sorted.updates.len()),
        BatchMode::Additive => 0,
    };
    if all.saturating_sub(leaving).saturating_add(sorted.new.len()) > limits::MEMBERS_MAX {
        return Err(Refusal::QuotaMet("Member"));
    }
    Ok(())
}

/// What an entry omits has the value a POST would give it, except for name, tags and subnet, which stay.
fn overwrite(member: &mut Member, entry: BatchMember) {
    let BatchMember {
        member: new,
        names,
        tags,
        subnet,
    } = entry;
    member.admin_state_up = new.admin_state_up;
    member.weight = new.weight;
    member.backup = new.backup;
    member.monitor_address = new.monitor_address;
    member.monitor_port = new.monitor_port;
    if names {
        member.name = new.name;
    }
    if tags {
        member.tags = new.tags;
    }
    if subnet {
        member.subnet_id = new.subnet_id;
    }
}
