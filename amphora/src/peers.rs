//! What is learned of sessions, exchanged with the other amphorae that carry the same load balancer (D60): who is told,
//! and when. Nothing of it is on the way of a request: what is to be told waits in the tables that requests look into.
//!
//! Two amphorae have one connection, to the port at which controllers reach one of them, by mutual TLS. Each says what it
//! goes by in the pools that both carry ([`krater_amphora_core::peers`]), then all that it knows, then what it learns.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    limits::{SESSION_PEERS_MAX, SESSIONS_FLUSH_TIME_MAX, SESSIONS_GRACE, SESSIONS_TOLD_EACH},
    tallies::Tallies,
    world::World,
};

mod book;
mod dial;
mod kept;
mod line;

use line::Line;

/// The other amphorae, as the slow thread knows them.
#[derive(Debug)]
pub(crate) struct Peers {
    state: RefCell<State>,
    /// Told when there are others, or other ones.
    changed: Notify,
    tallies: Arc<Tallies>,
}

#[derive(Debug, Default)]
struct State {
    /// Which one this is, once it takes part.
    own: Option<AmphoraId>,
    /// Where what is known is written down for who comes after this process.
    folder: Option<PathBuf>,
    world: Arc<World>,
    shares: BTreeMap<AmphoraId, Share>,
    lines: HashMap<AmphoraId, Rc<Line>>,
}

/// What is carried together with another one.
#[derive(Clone, Debug, Default)]
struct Share {
    agent: Option<SocketAddr>,
    /// Until when that holds, where the other one is no longer named.
    balancers: BTreeMap<LoadBalancerId, Option<Instant>>,
}

impl Share {
    /// Whether the other one is still named for anything.
    fn is_named(&self) -> bool {
        self.balancers.values().any(Option::is_none)
    }
}

impl Peers {
    /// Nobody is known.
    pub(crate) fn new(tallies: Arc<Tallies>) -> Self {
        Self {
            state: RefCell::default(),
            changed: Notify::new(),
            tallies,
        }
    }

    /// Takes part as that amphora.
    pub(crate) fn take_part(&self, own: AmphoraId) {
        let world = {
            let mut state = self.state.borrow_mut();
            state.own = Some(own);
            Arc::clone(&state.world)
        };
        self.follow(&world, None);
    }

    /// Goes on with what the process before has written down in the state folder, and writes there itself when it ends.
    pub(crate) fn keep_in(&self, state_dir: &Path) {
        let mut state = self.state.borrow_mut();
        state.folder = Some(state_dir.to_owned());
        match kept::take(state_dir) {
            Ok(Some(bytes)) => {
                let sessions = kept::restore(&state.world, &bytes);
                info!(sessions, "goes on with the sessions of the process before");
            }
            Ok(None) => {}
            Err(error) => warn!(%error, "what the process before knew of sessions cannot be read"),
        }
    }

    /// Writes down what is known for who comes after this process.
    pub(crate) async fn note(&self) {
        let (folder, world) = {
            let state = self.state.borrow();
            (state.folder.clone(), Arc::clone(&state.world))
        };
        let Some(folder) = folder else { return };
        let written = tokio::task::spawn_blocking(move || kept::note(&folder, &world)).await;
        if let Ok(Err(error)) = written {
            warn!(%error, "what is known of sessions cannot be written down");
        }
    }

    /// Takes back what was written down: nobody comes after this process.
    pub(crate) fn take_back(&self) {
        if let Some(folder) = &self.state.borrow().folder {
            // What cannot be taken back gets old.
            let _ = kept::take(folder);
        }
    }

    /// Takes part no longer. If nobody has taken over, what is known is told to others and written down first.
    pub(crate) async fn end(&self, is_last: bool) {
        if is_last {
            self.flush().await;
            self.note().await;
        }
        let mut state = self.state.borrow_mut();
        for line in state.lines.values() {
            line.close();
        }
        *state = State::default();
    }

    /// Has those told that `world` names. To be called after each change of it, of `one` or of several, and once a second.
    pub(crate) fn follow(&self, world: &Arc<World>, one: Option<LoadBalancerId>) {
        let mut state = self.state.borrow_mut();
        let before = std::mem::replace(&mut state.world, Arc::clone(world));
        let Some(own) = state.own else { return };
        let names_others = |id: LoadBalancerId| {
            let balancer = world.balancers.get(&id);
            balancer.is_some_and(|balancer| !balancer.snapshot.session_peers().is_empty())
        };
        if state.shares.is_empty() && one.is_some_and(|id| !names_others(id)) {
            // No other one has to be looked at.
            return;
        }
        let shares = shares(own, world, &state.shares);
        if shares.is_empty() && state.lines.is_empty() && state.shares.is_empty() {
            return;
        }
        state.shares = shares;
        let State { shares, lines, .. } = &mut *state;
        lines.retain(|id, line| {
            let stays = shares.contains_key(id);
            if !stays {
                line.close();
            }
            stays
        });
        if !Arc::ptr_eq(&before, world) {
            self.changed.notify_waiters();
        }
        let lines: Vec<_> = state.lines.values().cloned().collect();
        for line in lines {
            book::offer(&state, &line);
            book::ask_again(&state, &line);
        }
    }

    /// Tells what is learned, for as long as the process lives.
    pub(crate) async fn tell(self: Rc<Self>) {
        loop {
            let changed = self.changed.notified();
            if self.state.borrow().lines.is_empty() {
                changed.await;
            } else {
                sleep(SESSIONS_TOLD_EACH).await;
                self.tell_now();
            }
        }
    }

    fn tell_now(&self) {
        book::tell(&self.state.borrow(), &self.tallies.sessions);
    }

    /// Tells what was learned last, and returns when it is on its way, or should have been.
    pub(crate) async fn flush(&self) {
        self.tell_now();
        let all_told = async {
            while !self.state.borrow().has_told_all() {
                sleep(FLUSH_LOOK_EACH).await;
            }
        };
        // Whoever is slower than that goes without what came last.
        let _ = timeout(SESSIONS_FLUSH_TIME_MAX, all_told).await;
    }

    /// The others that this one should be connected to, and whether it is.
    pub(crate) fn connections(&self) -> Vec<(AmphoraId, bool)> {
        let state = self.state.borrow();
        let ids = state.shares.keys();
        ids.map(|id| (*id, state.lines.contains_key(id))).collect()
    }

    /// Whether another one carries anything together with this one.
    fn is_known(&self, id: AmphoraId) -> bool {
        self.state.borrow().shares.contains_key(&id)
    }

    /// Has a connection in use, instead of the one before if there was one. `None` if there are too many.
    fn join(&self, line: Rc<Line>) -> Option<()> {
        let mut state = self.state.borrow_mut();
        let id = line.peer();
        if !state.lines.contains_key(&id) && state.lines.len() >= SESSION_PEERS_MAX {
            return None;
        }
        if let Some(before) = state.lines.insert(id, Rc::clone(&line)) {
            before.close();
        }
        info!(peer = %id, "sessions are exchanged with another amphora");
        book::offer(&state, &line);
        drop(state);
        self.changed.notify_waiters();
        Some(())
    }

    /// Has a connection no longer in use.
    fn part(&self, line: &Rc<Line>) {
        let mut state = self.state.borrow_mut();
        let is_it = |other: &Rc<Line>| Rc::ptr_eq(other, line);
        if state.lines.get(&line.peer()).is_some_and(is_it) {
            state.lines.remove(&line.peer());
            info!(peer = %line.peer(), "the connection to another amphora has ended");
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    /// Whether nothing waits for anybody who is named, also if it was named only just now.
    fn has_told_all(&self) -> bool {
        let named = self.shares.iter().filter(|(_, share)| share.is_named());
        let mut lines = named.map(|(id, share)| (share, self.lines.get(id)));
        lines.all(|(share, line)| match line {
            Some(line) => line.is_idle(),
            None => share.agent.is_none(),
        })
    }

    /// Whether a load balancer is carried together with another one.
    fn shares_with(&self, peer: AmphoraId, balancer: LoadBalancerId) -> bool {
        let share = self.shares.get(&peer);
        share.is_some_and(|share| share.balancers.contains_key(&balancer))
    }
}

/// What `world` has in common with others; and with those that it had before, for a while.
fn shares(
    own: AmphoraId,
    world: &World,
    before: &BTreeMap<AmphoraId, Share>,
) -> BTreeMap<AmphoraId, Share> {
    let mut shares = BTreeMap::<_, Share>::new();
    for balancer in world.balancers.values() {
        let peers = balancer.snapshot.session_peers().iter();
        for peer in peers.filter(|peer| peer.amphora != own) {
            let share = shares.entry(peer.amphora).or_default();
            share.agent = peer.agent.or(share.agent);
            share
                .balancers
                .insert(balancer.snapshot.load_balancer(), None);
        }
    }
    let now = Instant::now();
    for (peer, old) in before {
        for (balancer, until) in &old.balancers {
            let until = until.unwrap_or(now + SESSIONS_GRACE);
            let is_named = shares
                .get(peer)
                .is_some_and(|share| share.balancers.contains_key(balancer));
            if is_named || until <= now || world.balancers.get(balancer).is_none() {
                continue;
            }
            let share = shares.entry(*peer).or_default();
            share.balancers.insert(*balancer, Some(until));
        }
    }
    shares
}

/// Between two looks whether what was learned last is on its way.
const FLUSH_LOOK_EACH: std::time::Duration = std::time::Duration::from_millis(5);

#[cfg(test)]
mod tests;
