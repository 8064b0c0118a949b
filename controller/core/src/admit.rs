//! Decides commands: against the tree as it is → a [`Change`], or a [`Refusal`].
//!
//! Rules that need nothing but a request's body were checked when it was parsed; what is checked here needs the tree,
//! or guards what an amphora would refuse, so that no admitted change fails later.

use alloc::vec::Vec;

use jiff::Timestamp;
use krater_amphora_api::{Generation, LoadBalancerId};
use uuid::Uuid;

use crate::{
    change::Change,
    command::{Command, NewLoadBalancer},
    model::{AdditionalVip, ProjectId, Vip},
    refusal::Refusal,
    rules::Rules,
    tree::LoadBalancerTree,
};

mod address;
mod batch;
mod draft;
mod health_monitor;
mod l7_policy;
mod l7_rule;
mod listener;
mod listener_tls;
mod load_balancer;
mod member;
mod persistence;
mod pool;
#[cfg(test)]
mod tests;
mod tls_terms;

use draft::Draft;

/// Checks a new load balancer as far as is possible before it has an address, so that none is allocated in vain.
///
/// # Errors
/// The first rule it breaks.
pub fn check_new(new: &NewLoadBalancer, rules: &Rules) -> Result<(), Refusal> {
    load_balancer::check_new(new, rules)
}

/// Admits a new load balancer at its addresses, the primary and the additional ones, with its children, which all get
/// ids from `ids`.
///
/// # Errors
/// As [`check_new`]; and when allowed networks do not fit the addresses.
pub fn create(
    new: NewLoadBalancer,
    project: ProjectId,
    (vip, additional_vips): (Vip, Vec<AdditionalVip>),
    id: LoadBalancerId,
    rules: &Rules,
    ids: &mut dyn FnMut() -> Uuid,
    now: Timestamp,
) -> Result<Change, Refusal> {
    load_balancer::check_new(&new, rules)?;
    load_balancer::check_networks(&new, &vip, &additional_vips)?;
    let NewLoadBalancer {
        listeners,
        pools,
        ref chosen,
        ..
    } = new;
    let offers = chosen.offers.clone();
    let balancer = load_balancer::with_address(
        NewLoadBalancer {
            listeners: Vec::new(),
            pools: Vec::new(),
            ..new
        },
        project,
        vip,
        additional_vips,
        id,
    );
    load_balancer::check_vnic(&balancer.vip_sg_ids, balancer.vip_vnic_type)?;
    let draft = Draft::of_new(balancer, ids, now);
    let change = load_balancer::create(draft, listeners, pools, rules)?;
    Ok(Change { offers, ..change })
}

/// Admits every other command against its tree. `settled` is the generation that settled last: what is younger and
/// was created stays `PENDING_CREATE`.
///
/// # Errors
/// The first rule the command breaks, in the order of reference 1.6: 404, 400, 403, 409 for state, 409 for duplicates.
pub fn admit(
    tree: LoadBalancerTree,
    settled: Option<Generation>,
    command: Command,
    rules: &Rules,
    ids: &mut dyn FnMut() -> Uuid,
    now: Timestamp,
) -> Result<Change, Refusal> {
    let draft = Draft::of_tree(tree, settled, ids, now);
    match command {
        Command::CreateLoadBalancer(_) => Err(Refusal::Defect(
            "a new load balancer has no tree to be admitted against".into(),
        )),
        Command::UpdateLoadBalancer(id, update) => load_balancer::update(draft, id, update),
        Command::DeleteLoadBalancer(id, cascade) => load_balancer::delete(draft, id, cascade),
        Command::FailOver(id, from, then) => load_balancer::fail_over(draft, id, from, then),
        Command::CreateListener(balancer, new) => listener::create(draft, balancer, *new, rules),
        Command::UpdateListener(id, update) => listener::update(draft, id, *update, rules),
        Command::DeleteListener(id) => listener::delete(draft, id),
        Command::CreatePool(parent, new) => pool::create(draft, parent, *new, rules),
        Command::UpdatePool(id, update) => pool::update(draft, id, *update, rules),
        Command::DeletePool(id) => pool::delete(draft, id),
        Command::CreateMember(pool, new) => member::create(draft, pool, *new, rules),
        Command::UpdateMember(pool, id, update) => member::update(draft, pool, id, update, rules),
        Command::DeleteMember(pool, id) => member::delete(draft, pool, id),
        Command::BatchMembers(pool, entries, mode) => {
            batch::admit(draft, pool, entries, mode, rules)
        }
        Command::CreateHealthMonitor(pool, new) => health_monitor::create(draft, pool, *new, rules),
        Command::UpdateHealthMonitor(id, update) => {
            health_monitor::update(draft, id, *update, rules)
        }
        Command::DeleteHealthMonitor(id) => health_monitor::delete(draft, id),
        Command::CreateL7Policy(listener, new) => l7_policy::create(draft, listener, *new),
        Command::UpdateL7Policy(id, update) => l7_policy::update(draft, id, *update),
        Command::DeleteL7Policy(id) => l7_policy::delete(draft, id),
        Command::CreateL7Rule(policy, new) => l7_rule::create(draft, policy, *new),
        Command::UpdateL7Rule(policy, id, update) => l7_rule::update(draft, policy, id, update),
        Command::DeleteL7Rule(policy, id) => l7_rule::delete(draft, policy, id),
    }
}

/// Sets `field` if the update names it.
fn set<T>(field: &mut T, update: Option<T>) {
    if let Some(value) = update {
        *field = value;
    }
}
