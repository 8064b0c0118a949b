//! Rules of pools (reference 7).

use alloc::collections::BTreeSet;

use krater_amphora_api::PoolId;

use super::{
    draft::{Draft, Mark},
    health_monitor, listener, load_balancer, member, persistence, tls_terms,
};
use crate::{
    change::Change,
    command::{NewPool, PoolParent, PoolTlsUpdate, PoolUpdate},
    limits,
    model::{Pool, PoolTls, TlsTerms},
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked without a tree, except for duplicates, which come last.
pub(super) fn check_new(new: &NewPool, rules: &Rules) -> Result<(), Refusal> {
    if let Some(persistence) = &new.session_persistence {
        persistence::check(persistence, new.protocol)?;
    }
    rules
        .check_terms(&new.tls.terms)
        .map_err(Refusal::Invalid)?;
    check_crl(&new.tls)?;
    let mut terms = new.tls.terms.clone();
    terms.complete(&rules.pool_terms);
    check_spoken(&new.tls, &terms, rules)?;
    new.members
        .iter()
        .try_for_each(|new| member::check_new(new, rules))?;
    match &new.health_monitor {
        Some(monitor) => health_monitor::check_new(monitor, new.protocol, rules),
        None => Ok(()),
    }
}

/// A list of what is no longer good needs to be of somebody (reference 7.3).
fn check_crl(tls: &PoolTls) -> Result<(), Refusal> {
    if tls.crl.is_some() && tls.ca.is_none() {
        return Err(Refusal::Invalid(
            "A CA reference is required to specify a certificate revocation list.".into(),
        ));
    }
    Ok(())
}

/// That a pool which speaks TLS by these terms can be had.
fn check_spoken(tls: &PoolTls, terms: &TlsTerms, rules: &Rules) -> Result<(), Refusal> {
    if !tls.enabled {
        return Ok(());
    }
    rules.check_spoken(terms).map_err(Refusal::Invalid)
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
    rules: &Rules,
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
    check_new(&new, rules)?;
    new.members.iter().try_for_each(|member| {
        member::check_sriov(member, &draft.tree.load_balancer.value.steering)
    })?;
    if let Some(user) = user {
        listener::check_pool_protocol(user.value.protocol, Some(new.protocol))?;
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
    let id = add(&mut draft, new, rules);
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
pub(super) fn add(draft: &mut Draft<'_>, new: NewPool, rules: &Rules) -> PoolId {
    let id = PoolId::new(draft.next_id());
    let mut tls = new.tls;
    if tls.enabled {
        tls.terms.complete(&rules.pool_terms);
    }
    draft.add_pool(Pool {
        id,
        name: new.name,
        description: new.description,
        admin_state_up: new.admin_state_up,
        protocol: new.protocol,
        lb_algorithm: new.lb_algorithm,
        session_persistence: new.session_persistence,
        tls,
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
    rules: &Rules,
) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    tls_terms::check_terms_update(&update.tls.terms, rules)?;
    // The rules hold for what comes out, not for what went in: clearing one field can break what another needs.
    let mut changed = row.value.clone();
    let had_ca = changed.tls.ca.is_some();
    apply(&mut changed, update, rules)?;
    check_crl(&changed.tls).map_err(|refusal| {
        if had_ca {
            return Refusal::Invalid(
                "A CA reference cannot be removed when a certificate revocation list is present."
                    .into(),
            );
        }
        refusal
    })?;
    let before = &row.value.tls;
    // What is stored stays, though the deployment may have become stricter since.
    if changed.tls.terms != before.terms || !before.enabled {
        check_spoken(&changed.tls, &changed.tls.terms, rules)?;
    }
    draft.require_staying(row, ResourceId::Pool(id))?;
    let mut changed = Some(changed);
    draft.change_pools(
        Mark::Named,
        |pool| pool.id == id,
        |pool| super::set(pool, changed.take()),
    );
    draft.touch_users(id);
    Ok(draft.finish(ResourceId::Pool(id)))
}

fn apply(pool: &mut Pool, update: PoolUpdate, rules: &Rules) -> Result<(), Refusal> {
    let PoolUpdate {
        name,
        description,
        admin_state_up,
        lb_algorithm,
        session_persistence,
        tls,
        tags,
    } = update;
    if let Some(update) = session_persistence {
        pool.session_persistence = update
            .map(|update| {
                persistence::changed(pool.session_persistence.as_ref(), update, pool.protocol)
            })
            .transpose()?;
    }
    super::set(&mut pool.name, name);
    super::set(&mut pool.description, description);
    super::set(&mut pool.admin_state_up, admin_state_up);
    super::set(&mut pool.lb_algorithm, lb_algorithm);
    super::set(&mut pool.tags, tags);
    let PoolTlsUpdate {
        enabled,
        certificate,
        ca,
        crl,
        terms,
    } = tls;
    super::set(&mut pool.tls.enabled, enabled);
    super::set(&mut pool.tls.certificate, certificate);
    super::set(&mut pool.tls.ca, ca);
    super::set(&mut pool.tls.crl, crl);
    let defaults = TlsTerms {
        alpn: None,
        ..rules.pool_terms.clone()
    };
    tls_terms::apply_terms(&mut pool.tls.terms, terms, &defaults);
    Ok(())
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
