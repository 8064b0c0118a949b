//! The probes of the slow thread: when they begin, and who learns what came of them.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use krater_amphora_api::{LoadBalancerId, MemberHealth};
use tokio::time::sleep_until;
use tracing::info;

use super::{Ending, Housekeeper};
use crate::{
    limits::PROBES_MAX,
    probe::{Done, Meters, Verdict},
    world::{Balancer, World},
};

/// Somebody makes a way to members. Until this is dropped no probe begins: the first outcome decides alone, and one that
/// left too early would say that a member cannot be reached.
#[derive(Debug)]
pub(crate) struct ProbesWait(Rc<Housekeeper>);

impl Drop for ProbesWait {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
        self.0.agenda_changed.notify_one();
    }
}

impl Housekeeper {
    /// Has probes wait for as long as the answer lives. Those under way go on.
    pub(crate) fn hold_probes(self: &Rc<Self>) -> ProbesWait {
        self.waiting.set(self.waiting.get() + 1);
        ProbesWait(Rc::clone(self))
    }

    /// The probe counters of every monitored member.
    pub(crate) fn probe_meters(&self) -> Meters {
        self.probes.borrow().meters()
    }

    /// Has the members of these load balancers probed as they are to be now. What traffic is served by now.
    pub(super) fn watch(&self, ids: &[LoadBalancerId]) -> Result<Arc<World>, Ending> {
        let world = self.world()?;
        for balancer in ids.iter().filter_map(|id| world.balancers.get(id)) {
            let verdicts = self.probes.borrow_mut().reconcile(
                &balancer.snapshot,
                |id| world.pools.get(&id)?.tls.clone(),
                self.clock.now(),
                rand::random,
            );
            self.make_known(balancer, verdicts);
        }
        self.agenda_changed.notify_one();
        self.conduct_changed.notify_one();
        Ok(world)
    }

    /// Hands verdicts to traffic where it does not know them yet.
    fn make_known(&self, balancer: &Balancer, verdicts: Vec<Verdict>) {
        if verdicts.is_empty() {
            return;
        }
        let members = balancer.pools.iter().flat_map(|pool| &pool.members);
        let known: HashMap<_, _> = members.map(|state| (state.id, state)).collect();
        for verdict in verdicts {
            let is_news = known.get(&verdict.member).is_some_and(|state| {
                state.health() != verdict.health
                    || (verdict.health == MemberHealth::Down && state.reason() != verdict.reason)
            });
            if is_news {
                self.make_one_known(verdict);
            }
        }
    }

    fn make_one_known(&self, verdict: Verdict) {
        let Verdict {
            pool,
            member,
            health,
            reason,
        } = verdict;
        let told = self.with_plane(|plane| plane.set_member_health(pool, member, health, reason));
        if told.is_ok() {
            self.conduct_changed.notify_one();
            self.news.notify_one();
        }
    }

    /// Performs probes for as long as the process lives.
    pub(super) async fn probe(self: Rc<Self>) {
        let mut under_way: FuturesUnordered<LocalBoxFuture<'static, Done>> =
            FuturesUnordered::new();
        loop {
            let room = match self.waiting.get() {
                0 => PROBES_MAX.saturating_sub(under_way.len()),
                _ => 0,
            };
            for job in self.probes.borrow_mut().start_due(self.clock.now(), room) {
                under_way.push(Box::pin(job.perform()));
            }
            let is_room_left = under_way.len() < PROBES_MAX && self.waiting.get() == 0;
            let next = self.probes.borrow().next_due().filter(|_| is_room_left);
            let wait = async {
                match next {
                    Some(at) => sleep_until(self.clock.deadline(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(done) = under_way.next() => self.take_outcome(done),
                () = wait => {}
                () = self.agenda_changed.notified() => {}
            }
        }
    }

    fn take_outcome(&self, done: Done) {
        let (id, member) = done.key;
        if done.outcome.is_ok()
            && let Some(pool) = self.probes.borrow().pool_of(done.key)
            && self
                .with_plane(|plane| plane.handle_probe_success(pool, member))
                .is_ok()
        {
            self.conduct_changed.notify_one();
        }
        let verdict = self.probes.borrow_mut().finish(done, self.clock.now());
        if let Some(verdict) = verdict {
            let reason = verdict.reason.as_deref();
            info!(lb = %id, pool = %verdict.pool, %member, health = ?verdict.health, reason, "a member's health changed");
            self.make_one_known(verdict);
        }
    }
}
