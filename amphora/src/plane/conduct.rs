//! What the conduct of members comes to: taken out, taken back, begun slowly, let go of when their time is up.

use std::{collections::BTreeMap, ptr, sync::Arc, time::Duration};

use hashbrown::HashSet;
use krater_amphora_api::{LoadBalancerId, MemberHealth, MemberId, PoolId};
use krater_amphora_core::{
    conduct::{Conduct, ConductConfig, Enrolled, Terms},
    time::Instant,
};
use tokio::sync::mpsc;

use super::{Plane, owners::Change};
use crate::{
    clock::Clock,
    order::Order,
    world::{Alarm, Balancer, MemberState, PoolState, World},
};

mod judges;

use judges::Judges;

/// What is known of members' conduct.
#[derive(Debug)]
pub(super) struct Conducts {
    clock: Clock,
    judges: Judges,
    /// When connections of members must have ended that may not be chosen any more, by [`MemberState::serial`].
    partings: BTreeMap<u64, Instant>,
    /// Until somebody listens.
    heard: Option<mpsc::UnboundedReceiver<Alarm>>,
}

impl Conducts {
    pub(super) fn new(heard: mpsc::UnboundedReceiver<Alarm>) -> Self {
        Self {
            clock: Clock::start(),
            judges: Judges::default(),
            partings: BTreeMap::new(),
            heard: Some(heard),
        }
    }
}

impl Plane {
    /// The clock that [`Plane::next_time`] is told by.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.conducts.clock
    }

    /// Where members are told of whose connections fail again and again, each to be given to [`Plane::handle_alarm`].
    /// For one listener.
    pub(crate) fn alarms(&mut self) -> Option<mpsc::UnboundedReceiver<Alarm>> {
        self.conducts.heard.take()
    }

    /// Records what a member's probes say, and chooses accordingly from the next choice on.
    pub fn set_member_health(
        &mut self,
        pool: PoolId,
        member: MemberId,
        health: MemberHealth,
        reason: Option<String>,
    ) {
        let world = self.world();
        let Some(pool) = world.pools.get(&pool) else {
            return;
        };
        let Some(member) = pool.members.iter().find(|state| state.id == member) else {
            return;
        };
        let was_up = member.counts_as_up();
        member.set_health(health, reason);
        if was_up != member.counts_as_up() {
            self.follow_health(pool, member);
            pool.renew_roster();
        }
    }

    /// Takes a member out, if its pool can spare it.
    pub fn handle_alarm(&mut self, Alarm { pool, member }: Alarm) {
        let world = self.world();
        let Some(pool) = world.pools.get(&pool) else {
            return;
        };
        let Some(state) = pool.members.iter().find(|state| state.id == member) else {
            return;
        };
        let Conducts { clock, judges, .. } = &mut self.conducts;
        judges.ask(pool.pool.id, |conduct| {
            if !state.conduct.is_failing() {
                return;
            }
            if conduct.handle_failures(member, clock.now()) {
                tracing::info!(lb = %pool.balancer, pool = %pool.pool.id, %member, "a member fails and is taken out");
                state.meter.others().ejections.bump();
                show(pool, conduct);
            } else {
                state.conduct.forgive();
            }
        });
    }

    /// A probe of a member succeeded.
    pub(crate) fn handle_probe_success(&mut self, pool: PoolId, member: MemberId) {
        let world = self.common.world.load();
        let Conducts { clock, judges, .. } = &mut self.conducts;
        judges.ask(pool, |conduct| {
            if conduct.handle_probe_success(member, clock.now())
                && let Some(pool) = world.pools.get(&pool)
            {
                show(pool, conduct);
            }
        });
    }

    /// When [`Plane::handle_time`] has something to do.
    #[must_use]
    pub fn next_time(&self) -> Option<Instant> {
        let judges = self.conducts.judges.next_time();
        let partings = self.conducts.partings.values().copied();
        judges.into_iter().chain(partings).min()
    }

    /// Takes back who was out long enough, lets shares grow, and ends connections of members whose time is up.
    pub fn handle_time(&mut self) {
        let now = self.conducts.clock.now();
        let world = self.world();
        let judges = &mut self.conducts.judges;
        for id in judges.due(now) {
            judges.ask(id, |conduct| {
                if conduct.handle_timeout(now)
                    && let Some(pool) = world.pools.get(&id)
                {
                    show(pool, conduct);
                }
            });
        }
        let mut over = HashSet::new();
        self.conducts.partings.retain(|serial, until| {
            if *until <= now {
                over.insert(*serial);
            }
            *until > now
        });
        if !over.is_empty() {
            let members = Arc::new(over);
            self.order_all(|| Order::Cut {
                members: Arc::clone(&members),
            });
        }
    }

    /// The health of a member has changed by its probes.
    fn follow_health(&mut self, pool: &PoolState, member: &MemberState) {
        let Conducts { clock, judges, .. } = &mut self.conducts;
        judges.ask(pool.pool.id, |conduct| {
            let serves = enrolled(pool).any(|one| one.id == member.id && one.serves);
            conduct.handle_health(member.id, serves, clock.now());
            take_over(pool, conduct);
        });
    }

    /// Takes the pools of load balancers as they will be. To be called before they are.
    pub(super) fn follow_conduct(&mut self, old: &World, next: &World, changes: &[Change]) {
        let now = self.conducts.clock.now();
        for Change { id, new, .. } in changes {
            for pool in pools(old.balancers.get(id)) {
                if next.pools.get(&pool.pool.id).is_none() {
                    self.conducts.judges.dismiss(pool.pool.id);
                }
            }
            for pool in pools(next.balancers.get(id)) {
                self.follow_pool(old.pools.get(&pool.pool.id), pool, now);
            }
            if let Some(new) = new {
                self.part(old, next, *id, new.member_drain(), now);
            }
        }
    }

    /// Gives the connections of members that may not be chosen any more until `drain` has passed, and takes that back
    /// from those that may again.
    fn part(
        &mut self,
        old: &World,
        next: &World,
        id: LoadBalancerId,
        drain: Option<Duration>,
        now: Instant,
    ) {
        // What has not changed is shared by both worlds; a member is in one pool at most.
        let changed = |of: &World, other: &World| {
            let all = pools(of.balancers.get(&id)).filter(|pool| {
                let same = other.pools.get(&pool.pool.id);
                same.is_none_or(|same| !ptr::eq(&**same, *pool))
            });
            all.flat_map(serving).collect::<HashSet<_>>()
        };
        let (before, after) = (changed(old, next), changed(next, old));
        let partings = &mut self.conducts.partings;
        for serial in &after {
            partings.remove(serial);
        }
        if let Some(drain) = drain {
            let until = now.saturating_add(drain);
            partings.extend(before.difference(&after).map(|serial| (*serial, until)));
        }
    }

    fn follow_pool(&mut self, before: Option<&Arc<PoolState>>, pool: &PoolState, now: Instant) {
        if before.is_some_and(|before| ptr::eq(&**before, pool)) {
            return;
        }
        let config = pool.pool.conduct;
        if config == ConductConfig::default() {
            if self.conducts.judges.dismiss(pool.pool.id).is_none() {
                return;
            }
            for member in &pool.members {
                member.conduct.follow(Terms::GOOD);
            }
            pool.renew_roster();
            return;
        }
        let judges = &mut self.conducts.judges;
        judges.appoint(pool.pool.id, || match before {
            // Those who were there before it was asked for were there all the same.
            Some(before) => Conduct::new(config, enrolled(before)),
            None => Conduct::new(config, enrolled(pool)),
        });
        judges.ask(pool.pool.id, |conduct| {
            conduct.follow(config, enrolled(pool), now);
            show(pool, conduct);
        });
    }
}

/// Hands to traffic what is thought of the members of a pool.
fn show(pool: &PoolState, conduct: &Conduct) {
    if take_over(pool, conduct) {
        pool.renew_roster();
    }
}

fn take_over(pool: &PoolState, conduct: &Conduct) -> bool {
    let mut changed = false;
    for member in &pool.members {
        changed |= member.conduct.follow(conduct.terms(member.id));
    }
    changed
}

fn pools(balancer: Option<&Arc<Balancer>>) -> impl Iterator<Item = &PoolState> {
    balancer
        .into_iter()
        .flat_map(|balancer| &balancer.pools)
        .map(AsRef::as_ref)
}

fn enrolled(pool: &PoolState) -> impl Iterator<Item = Enrolled> {
    let states = pool.members.iter();
    states
        .zip(&pool.pool.members)
        .map(|(state, member)| Enrolled {
            id: member.id,
            backup: member.backup,
            serves: member.enabled && member.weight > 0 && state.counts_as_up(),
        })
}

/// The members that the load balancers of `changes` had and have no longer, by their serials.
pub(super) fn gone(old: &World, new: &World, changes: &[Change]) -> HashSet<u64> {
    let of = |world: &World, other: &World| {
        let mut serials = HashSet::new();
        for Change { id, .. } in changes {
            for pool in pools(world.balancers.get(id)) {
                // What has not changed is shared by both worlds.
                let same = other.pools.get(&pool.pool.id);
                if same.is_none_or(|same| !ptr::eq(&**same, pool)) {
                    serials.extend(pool.members.iter().map(|member| member.serial));
                }
            }
        }
        serials
    };
    let mut gone = of(old, new);
    if !gone.is_empty() {
        for serial in of(new, old) {
            gone.remove(&serial);
        }
    }
    gone
}

/// The members that a tenant wants to be chosen, however they are.
fn serving(pool: &PoolState) -> impl Iterator<Item = u64> {
    let states = pool.members.iter().zip(&pool.pool.members);
    let wanted = states.filter(|(_, member)| member.enabled && member.weight > 0);
    wanted.map(|(state, _)| state.serial)
}

#[cfg(test)]
mod tests;
