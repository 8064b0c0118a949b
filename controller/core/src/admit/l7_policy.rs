//! Rules of L7 policies (reference 10).

use alloc::{collections::BTreeSet, format, string::ToString};

use krater_amphora_api::{L7PolicyId, ListenerId, PoolId};

use super::{
    draft::{Draft, Mark},
    l7_rule, listener, load_balancer,
};
use crate::{
    change::Change,
    command::{L7PolicyUpdate, NewL7Policy, NewL7Rule, NewListener, NewPool, PoolRef},
    limits, matrix,
    model::{L7Policy, ListenerProtocol, Pool},
    refusal::Refusal,
    resource::ResourceId,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked of the policies of a new listener that comes with `pools`.
pub(super) fn check_nested(listener: &NewListener, pools: &[NewPool]) -> Result<(), Refusal> {
    if !listener.l7_policies.is_empty() {
        check_parent(listener.protocol)?;
    }
    for policy in &listener.l7_policies {
        if let Some(pool) = policy.action.pool() {
            load_balancer::check_pool_ref(listener.protocol, *pool, pools)?;
        }
        policy.rules.iter().try_for_each(l7_rule::check_new)?;
        if policy.rules.len() > limits::L7_RULES_PER_POLICY_MAX {
            return Err(Refusal::TooManyRules(policy.name.to_string()));
        }
    }
    Ok(())
}

/// A PROMETHEUS listener has no children at all (reference 6.4).
fn check_parent(protocol: ListenerProtocol) -> Result<(), Refusal> {
    if protocol == ListenerProtocol::Prometheus {
        return Err(Refusal::ChildOfPrometheus);
    }
    Ok(())
}

/// That a listener of this protocol may have policies: those that see no requests cannot obey any (reference 10.4).
pub(super) fn check_listener(protocol: ListenerProtocol) -> Result<(), Refusal> {
    if matrix::has_policies(protocol) {
        return Ok(());
    }
    Err(Refusal::NotSupported(format!(
        "{} protocol listeners do not support L7 policies",
        protocol.name()
    )))
}

/// That as many policies with these rules fit into a load balancer.
pub(super) fn check_counts<'a>(
    policies: usize,
    rules: impl Iterator<Item = &'a NewL7Rule>,
) -> Result<(), Refusal> {
    if policies > limits::L7_POLICIES_MAX {
        return Err(Refusal::QuotaMet("L7 Policy"));
    }
    l7_rule::check_counts(rules.map(|rule| rule.compare_type))
}

pub(super) fn create(
    mut draft: Draft<'_>,
    listener: ListenerId,
    new: NewL7Policy,
) -> Result<Change, Refusal> {
    let row = listener::find(&draft.tree, listener)?;
    let pool = match new.action.pool() {
        None => None,
        Some(PoolRef::Existing(id)) => Some(listener::find_pool(&draft.tree, *id)?),
        Some(PoolRef::New(_)) => {
            return Err(Refusal::Invalid(
                "redirect_pool can only be given with a new load balancer.".into(),
            ));
        }
    };
    check_parent(row.value.protocol)?;
    new.rules.iter().try_for_each(l7_rule::check_new)?;
    listener::check_pool_protocol(row.value.protocol, pool.map(|row| row.value.protocol))?;
    let staying = draft
        .tree
        .l7_policies
        .iter()
        .filter(|row| !row.is_leaving());
    if staying.count() >= limits::L7_POLICIES_MAX {
        return Err(Refusal::QuotaMet("L7 Policy"));
    }
    let rules = new.rules.iter().map(|rule| rule.compare_type);
    l7_rule::check_counts(l7_rule::staying(&draft.tree).chain(rules))?;
    draft.require_staying(row, ResourceId::Listener(listener))?;
    listener::require_pool(&draft, pool)?;
    if new.rules.len() > limits::L7_RULES_PER_POLICY_MAX {
        return Err(Refusal::TooManyRules(new.name.to_string()));
    }
    check_listener(row.value.protocol)?;
    let id = add(&mut draft, listener, new, &[])?;
    Ok(draft.finish(ResourceId::L7Policy(id)))
}

/// Adds a checked policy with its rules. `pools` are those of the same request.
pub(super) fn add(
    draft: &mut Draft<'_>,
    listener: ListenerId,
    new: NewL7Policy,
    pools: &[PoolId],
) -> Result<L7PolicyId, Refusal> {
    let id = L7PolicyId::new(draft.next_id());
    let action = new.action.try_map(|pool| match pool {
        PoolRef::Existing(id) => Ok(id),
        PoolRef::New(position) => pools.get(position).copied().ok_or_else(|| {
            Refusal::Defect(format!(
                "policy refers to pool {position} of {}",
                pools.len()
            ))
        }),
    })?;
    draft.add_l7_policy(L7Policy {
        id,
        listener,
        name: new.name,
        description: new.description,
        admin_state_up: new.admin_state_up,
        action,
        tags: new.tags,
    });
    place(draft, listener, id, new.position);
    for rule in new.rules {
        l7_rule::add(draft, id, rule);
    }
    Ok(id)
}

/// Gives a policy the position `position` among those of its listener; the end when it is `None` or beyond it.
fn place(draft: &mut Draft<'_>, listener: ListenerId, id: L7PolicyId, position: Option<u32>) {
    let of_listener = || {
        let policies = draft.tree.l7_policies.iter();
        policies.filter(|row| row.value.listener == listener)
    };
    let present: BTreeSet<L7PolicyId> = of_listener().map(|row| row.value.id).collect();
    let leaving = of_listener().filter(|row| row.is_leaving());
    let leaving: BTreeSet<L7PolicyId> = leaving.map(|row| row.value.id).collect();
    draft.change_listener(listener, Mark::Along, |listener| {
        let order = &mut listener.l7_policies;
        order.retain(|other| *other != id && present.contains(other));
        let before = position.map_or(usize::MAX, |position| {
            usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX)
        });
        let counted = order.iter().enumerate();
        let mut counted = counted.filter(|(_, other)| !leaving.contains(other));
        let index = counted.nth(before).map_or(order.len(), |(index, _)| index);
        order.insert(index, id);
    });
}

pub(super) fn update(
    mut draft: Draft<'_>,
    id: L7PolicyId,
    update: L7PolicyUpdate,
) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    if update == L7PolicyUpdate::default() {
        return Err(Refusal::InvalidL7Policy("Invalid update options".into()));
    }
    let listener = row.value.listener;
    let action = update.redirect.change(row.value.action.clone())?;
    // A pool that stays the target was judged when it became it.
    let pool = match action.pool() {
        Some(pool) if row.value.action.pool() != Some(pool) => {
            Some(listener::find_pool(&draft.tree, *pool)?)
        }
        _ => None,
    };
    check_pool(&draft.tree, listener, pool)?;
    draft.require_staying(row, ResourceId::L7Policy(id))?;
    listener::require_pool(&draft, pool)?;
    let mut changed = Some((update.name, update.description, update.tags, action));
    draft.change_l7_policy(id, Mark::Named, |policy| {
        let Some((name, description, tags, action)) = changed.take() else {
            return;
        };
        super::set(&mut policy.name, name);
        super::set(&mut policy.description, description);
        super::set(&mut policy.admin_state_up, update.admin_state_up);
        super::set(&mut policy.tags, tags);
        policy.action = action;
    });
    match update.position {
        Some(position) => place(&mut draft, listener, id, position),
        None => draft.change_listener(listener, Mark::Along, |_| ()),
    }
    Ok(draft.finish(ResourceId::L7Policy(id)))
}

fn check_pool(
    tree: &LoadBalancerTree,
    listener: ListenerId,
    pool: Option<&Row<Pool>>,
) -> Result<(), Refusal> {
    let row = listener::find(tree, listener)?;
    listener::check_pool_protocol(row.value.protocol, pool.map(|row| row.value.protocol))
}

/// Its rules go with it, and the policies behind it move up.
pub(super) fn delete(mut draft: Draft<'_>, id: L7PolicyId) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    if row.is_leaving() {
        return Ok(draft.unchanged(ResourceId::L7Policy(id)));
    }
    let listener = row.value.listener;
    draft.change_l7_policy(id, Mark::Leaves, |_| ());
    draft.change_l7_rules(Mark::Leaves, |rule| rule.policy == id, |_| ());
    draft.change_listener(listener, Mark::Along, |_| ());
    Ok(draft.finish(ResourceId::L7Policy(id)))
}

/// The row of policy `id`.
fn find(tree: &LoadBalancerTree, id: L7PolicyId) -> Result<&Row<L7Policy>, Refusal> {
    tree.l7_policy(id)
        .ok_or(Refusal::NotFound(ResourceId::L7Policy(id)))
}
