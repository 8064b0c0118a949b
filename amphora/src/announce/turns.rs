//! What the housekeeper knows of taking turns: who does, and how fit this process is.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use krater_amphora_api::LoadBalancerId;
use krater_amphora_core::vrrp::Health;
use tokio::sync::Notify;
use tracing::error;

use super::{Announcer, Pulse, Wanted, notes};
use crate::{
    tallies::Tallies,
    world::{Balancer, ListenerState, World},
};

/// Load balancers that take turns, and the thread that sees to it once there is one.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    announcer: RefCell<Option<Announcer>>,
    notes: RefCell<Option<PathBuf>>,
    pulse: RefCell<Option<Pulse>>,
    stuck: Cell<bool>,
    /// All was left to others, or to the process that follows. Whoever began anew then would find addresses that are
    /// being left, go on with them, and have the others wait for it again.
    over: Cell<bool>,
}

impl Turns {
    /// Has it written down in the state folder what addresses this process has.
    pub(crate) fn note_in(&self, state_dir: &Path) {
        *self.notes.borrow_mut() = Some(notes::path_in(state_dir));
    }

    /// The same as [`Turns::follow`] after a change of one load balancer. Where nobody takes turns, and this one is not to,
    /// it looks at no other: of a thousand that would be a fifth of what a change costs.
    pub(crate) fn follow_one(
        &self,
        world: &World,
        id: LoadBalancerId,
        news: &Arc<Notify>,
        tallies: &Arc<Tallies>,
    ) {
        let balancer = world.balancers.get(&id);
        let is_to = balancer.is_some_and(|balancer| balancer.snapshot.announcement().is_some());
        if is_to || self.announcer.borrow().is_some() {
            self.follow(world, news, tallies);
        }
    }

    /// Has the load balancers of `world` take turns that are to.
    pub(crate) fn follow(&self, world: &World, news: &Arc<Notify>, tallies: &Arc<Tallies>) {
        if self.over.get() {
            return;
        }
        let balancers = world.balancers.values();
        let wanted: BTreeMap<_, _> = balancers
            .filter_map(|balancer| {
                let wanted = self.wanted(balancer)?;
                Some((balancer.snapshot.load_balancer(), wanted))
            })
            .collect();
        let mut announcer = self.announcer.borrow_mut();
        if announcer.is_none() {
            // Something may be left of the process before.
            let left = self
                .notes
                .borrow()
                .as_ref()
                .is_some_and(|path| path.exists());
            if wanted.is_empty() && !left {
                return;
            }
            let notes = self.notes.borrow().clone();
            match Announcer::start(notes, Arc::clone(news), Arc::clone(tallies)) {
                Ok(started) => *announcer = Some(started),
                Err(error) => error!(%error, "nobody takes turns at addresses"),
            }
        }
        if let Some(announcer) = &mut *announcer {
            announcer.follow(wanted);
        }
    }

    /// To be called each second: has the threads that carry traffic asked whether they do, if anybody wants to know.
    pub(crate) fn check(&self, ask: impl FnOnce() -> Pulse) {
        if self.announcer.borrow().is_none() {
            return;
        }
        let mut pulse = self.pulse.borrow_mut();
        let stuck = pulse.as_ref().is_some_and(Pulse::is_missed);
        if stuck && !self.stuck.replace(stuck) {
            error!("a thread that carries traffic does not answer: addresses are left to others");
        }
        self.stuck.set(stuck);
        if pulse.as_ref().is_none_or(Pulse::is_answered) {
            *pulse = Some(ask());
        }
    }

    /// Leaves the addresses of a load balancer to others, and returns when they have them.
    pub(crate) async fn leave(&self, balancer: &Balancer) {
        let left = {
            let announcer = self.announcer.borrow();
            announcer
                .as_ref()
                .map(|announcer| announcer.leave(balancer.snapshot.load_balancer()))
        };
        if let Some(left) = left {
            left.await;
        }
    }

    /// Takes turns at the addresses of a load balancer after all, which were to be left.
    pub(crate) fn stay(&self, id: LoadBalancerId) {
        if let Some(announcer) = &*self.announcer.borrow() {
            announcer.stay(id);
        }
    }

    /// Lets go of the addresses of a load balancer for that long although nobody else is heard. `false` if it takes no
    /// turns.
    pub(crate) fn stand_aside(&self, id: LoadBalancerId, time: Duration) -> bool {
        let announcer = self.announcer.borrow();
        announcer
            .as_ref()
            .is_some_and(|announcer| announcer.stand_aside(id, time))
    }

    /// Leaves all to others, for good.
    pub(crate) async fn end(&self) {
        self.over.set(true);
        let announcer = self.announcer.borrow_mut().take();
        if let Some(announcer) = announcer {
            announcer.end().await;
        }
    }

    /// Has nothing more to do with them: a process on this host has taken them on, by what was written down.
    pub(crate) fn hand_over(&self) {
        self.over.set(true);
        self.announcer.borrow_mut().take();
    }

    fn wanted(&self, balancer: &Balancer) -> Option<Wanted> {
        let snapshot = &balancer.snapshot;
        let announcement = snapshot.announcement()?.clone();
        let fails =
            |state: &Arc<ListenerState>| state.enabled && state.shared.failure.load().is_some();
        let health = if !snapshot.enabled() || self.stuck.get() {
            Health::Dead
        } else if balancer.listeners.iter().any(fails) {
            Health::Ailing
        } else {
            Health::Well
        };
        Some(Wanted {
            announcement,
            vips: snapshot.vips().to_vec(),
            health,
            standing: balancer.standing.clone()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_left_all_to_others_begins_nothing_anew() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(notes::path_in(folder.path()), "").unwrap();
        let (news, tallies) = (Arc::default(), Arc::default());
        for hand_over in [false, true] {
            let turns = Turns::default();
            turns.note_in(folder.path());
            turns.follow(&World::default(), &news, &tallies);
            assert!(turns.announcer.borrow().is_some(), "something may be left");
            if hand_over {
                turns.hand_over();
            } else {
                turns.end().await;
            }
            turns.follow(&World::default(), &news, &tallies);
            assert!(turns.announcer.borrow().is_none());
        }
    }
}
