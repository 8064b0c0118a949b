//! The data plane as the housekeeper holds it: apply a snapshot, set a member's health, ask how things are.
//!
//! One thread owns the [`Plane`], and it alone replaces the [`World`] (I3). Two threads per core carry traffic: one
//! streams, one HTTP. Listening sockets are held here as well as by the threads that accept on them, so that one can
//! pass from the one kind to the other while clients wait at it.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use hashbrown::{HashMap, HashSet};
use krater_amphora_api::{Generation, ListenerId, LoadBalancerId, LoadBalancerReport, Rejection};
use krater_amphora_core::{
    snapshot::{Mode, Snapshot},
    transition::{Place, SocketKey, Transition, sockets},
};

use crate::{
    access::{self, AccessLog},
    announce::Pulse,
    custody::Custody,
    l4,
    limits::CLOSE_TIME_MAX,
    listen::{Claim, Listening, open_group},
    local::Common,
    order::Order,
    worker::processors,
    world::{Alarms, Leave, ListenerState, Prepared, World},
};

mod conduct;
mod congestion;
mod descriptors;
mod ending;
mod owners;
mod threads;

use conduct::{Conducts, gone};
use congestion::{Control, Refusals};
use descriptors::{descriptors_max, sessions_max};
use owners::{Change, Owners};
use threads::Core;

/// The data plane of this process. Dropping it ends all connections at once; [`Plane::stop`] drains them first.
#[derive(Debug)]
pub struct Plane {
    common: Common,
    cores: Vec<Core>,
    /// Addresses that are listened on.
    open: BTreeMap<Place, Holder>,
    /// Addresses that should be listened on and cannot be.
    failed: BTreeMap<(LoadBalancerId, SocketKey), String>,
    /// Listeners of which the world says so.
    shown: HashSet<ListenerId>,
    /// Addresses at which the system refuses the congestion control that is asked for.
    refusals: Refusals,
    /// Holds what is open should this process die.
    custody: Custody,
    /// Whose each listener, pool and member is.
    owners: Owners,
    conducts: Conducts,
}

/// Whose a listening address is.
#[derive(Debug)]
struct Holder {
    balancer: LoadBalancerId,
    listener: ListenerId,
    /// Which kind of thread accepts there.
    mode: Mode,
    /// One for each core.
    sockets: Vec<Listening>,
    control: Control,
}

impl Plane {
    /// Starts the threads of that many cores (at least one), which have nothing to do yet. `drain` is how long
    /// connections of a deleted listener may go on.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn start(workers: usize, drain: Duration) -> io::Result<Self> {
        Self::start_with(workers, drain, None)
    }

    /// The same with an access log for listeners that want one.
    pub(crate) fn start_with(
        workers: usize,
        drain: Duration,
        access: Option<access::Settings>,
    ) -> io::Result<Self> {
        let cores = workers.max(1);
        let (alarms, heard) = Alarms::new();
        let access = access.map(|settings| AccessLog::start(settings, 2 * cores));
        let common = Common {
            descriptors_max: descriptors_max(),
            sessions_max: sessions_max(cores),
            may_tell: l4::may_tell_clients(),
            access: access.transpose()?.unwrap_or_default(),
            ..Common::new(cores, drain)
        };
        common.world.store(Arc::new(World {
            alarms,
            ..World::default()
        }));
        let cores = processors(cores)
            .into_iter()
            .zip(l4::berths(cores..2 * cores)?)
            .enumerate()
            .map(|(index, place)| Core::start(index, cores, place, &common))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            common,
            cores,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            shown: HashSet::new(),
            refusals: Refusals::new(),
            custody: Custody::default(),
            owners: Owners::default(),
            conducts: Conducts::new(heard),
        })
    }

    /// Has listening sockets held beyond the life of this process. Those of the process before are used for addresses
    /// that are asked for before [`Plane::renounce`].
    pub(crate) fn entrust(&mut self, custody: Custody) {
        self.custody = custody;
    }

    /// Lets go of addresses that the process before had and that nobody has asked for.
    pub(crate) fn renounce(&mut self) {
        self.custody.renounce();
    }

    /// Puts `snapshot` in force and answers with the generation that is in force then: an older one than is held
    /// changes nothing (I8).
    ///
    /// A port that cannot be had does not refuse the snapshot: its listener is reported as failed, and
    /// [`Plane::retry_failed`] tries again. When this returns, ports that left are closed and those that came are
    /// open; who was waiting at a closed port has been accepted. Blocks for as long as that takes, milliseconds.
    ///
    /// Connections and requests that a member has when it leaves, alone or with its pool, go on until they end, or until
    /// the time is up that the snapshot gives them: see [`Plane::handle_time`].
    ///
    /// # Errors
    ///
    /// If something in it cannot be used, or is part of another load balancer: everything that is. Nothing is changed
    /// then (I10).
    pub fn apply(&mut self, snapshot: Snapshot) -> Result<Generation, Vec<Rejection>> {
        let prepared = self.world().prepare(snapshot)?;
        self.apply_prepared(prepared)
    }

    /// The same for a snapshot that was made ready before.
    ///
    /// # Errors
    ///
    /// If something in it is part of another load balancer: everything that is. Nothing is changed then (I10).
    pub fn apply_prepared(&mut self, prepared: Prepared) -> Result<Generation, Vec<Rejection>> {
        let id = prepared.load_balancer();
        let mut refused = self.apply_all(vec![prepared], &[]);
        match refused.pop() {
            Some((_, rejections)) => Err(rejections),
            // It is held now, whatever was held before.
            None => Ok(self.held(id).unwrap_or(Generation::FIRST)),
        }
    }

    /// The same for several load balancers at once, at the cost of one swap, and without those of `remove`. What one
    /// of them gives up another one may take: its parts, and its ports without refusing anybody.
    ///
    /// Answers who was refused, with every reason; the others are in force. An id may occur once.
    pub fn apply_all(
        &mut self,
        snapshots: Vec<Prepared>,
        remove: &[LoadBalancerId],
    ) -> Vec<(LoadBalancerId, Vec<Rejection>)> {
        let world = self.world();
        let held = |id| {
            world
                .balancers
                .get(&id)
                .map(|held| Arc::clone(&held.snapshot))
        };
        let (mut changes, mut refused) = (Vec::with_capacity(snapshots.len()), Vec::new());
        for id in remove {
            if let Some(old) = held(*id) {
                changes.push(Change::new(*id, Some(old), None));
            }
        }
        for snapshot in snapshots {
            let id = snapshot.load_balancer();
            let old = held(id);
            let is_news = old
                .as_ref()
                .is_none_or(|old| old.generation() <= snapshot.generation() && **old != *snapshot);
            if is_news {
                changes.push(Change::new(id, old, Some(snapshot)));
            }
        }
        self.owners.admit(&mut changes, &mut refused);
        if !changes.is_empty() {
            self.follow(&world, &changes, Leave::Gone);
        }
        refused
    }

    /// Every part of `snapshot` that another load balancer has already.
    #[must_use]
    pub fn conflicts(&self, snapshot: &Snapshot) -> Vec<Rejection> {
        self.owners.conflicts(snapshot)
    }

    /// Takes a load balancer out of service. Its connections have until the drain timeout; if another amphora serves it
    /// now, idle ones stay for their next request for half of that, so that no client finds one closed that it was
    /// about to use.
    pub fn remove(&mut self, id: LoadBalancerId, leave: Leave) {
        let world = self.world();
        if let Some(balancer) = world.balancers.get(&id) {
            let change = Change::new(id, Some(Arc::clone(&balancer.snapshot)), None);
            self.owners.release(&change);
            self.follow(&world, &[change], leave);
        }
    }

    /// Has the kernel send new connections of a load balancer to whoever else listens on its addresses. Handshakes
    /// under way are finished. Not undone: to be followed by [`Plane::remove`].
    pub fn deafen(&mut self, id: LoadBalancerId) {
        let places = self.places_of(id);
        // Should this process die now, whoever comes after it must not be given sockets that are deaf.
        self.custody.release(places.iter().copied());
        for place in places {
            for core in &self.cores {
                core.order_those_of(place.transport, || Order::Deafen { place });
            }
        }
    }

    fn places_of(&self, id: LoadBalancerId) -> Vec<Place> {
        let held = self.open.iter().filter(|(_, holder)| holder.balancer == id);
        held.map(|(place, _)| *place).collect()
    }

    /// Tries again to open what could not be opened. To be called each second; `true` if something was.
    pub fn retry_failed(&mut self) -> bool {
        let mut opened = false;
        let world = self.world();
        for (balancer, key) in self.failed.keys().copied().collect::<Vec<_>>() {
            let takes_over = world
                .balancers
                .get(&balancer)
                .is_some_and(|balancer| balancer.snapshot.takes_over());
            let Some(state) = world.listeners.get(&key.listener) else {
                continue;
            };
            if let Some(sockets) = self.bind(balancer, key, takes_over) {
                self.hold(balancer, key, state, sockets);
                self.control_congestion(&[(key, state)]);
                self.hand_over(key.place, state);
                opened = true;
            }
        }
        self.show_failures(&world);
        self.retry_congestion(&world);
        opened
    }

    /// Asks every thread whether it does what it is asked to.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse::begin(self.lanes(), |count| {
            self.order_all(|| Order::Answer {
                count: Arc::clone(count),
            });
        })
    }

    /// Lets go of what members leave behind once nobody uses it any more. To be called each second.
    pub fn settle_departed(&self) {
        for pool in self.world().pools.values() {
            pool.settle_departed();
        }
    }

    /// What traffic is served by now.
    #[must_use]
    pub fn world(&self) -> Arc<World> {
        self.common.world.load_full()
    }

    /// A load balancer in the terms of the contract; `None` if it is not carried.
    #[must_use]
    pub fn report(&self, id: LoadBalancerId) -> Option<LoadBalancerReport> {
        self.world()
            .balancers
            .get(&id)
            .map(|balancer| balancer.report())
    }

    /// The generation in force; `None` if the load balancer is not carried.
    #[must_use]
    pub fn held(&self, id: LoadBalancerId) -> Option<Generation> {
        self.world()
            .balancers
            .get(&id)
            .map(|balancer| balancer.snapshot.generation())
    }

    /// The load balancers that are carried, in the order of their ids.
    #[must_use]
    pub fn ids(&self) -> Vec<LoadBalancerId> {
        let mut ids: Vec<_> = self.world().balancers.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Number of cores that carry traffic.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.cores.len()
    }

    /// Lanes of a meter: one for each thread that carries traffic.
    const fn lanes(&self) -> usize {
        2 * self.cores.len()
    }

    /// Connections that were closed because an invariant of ours was broken: must be zero.
    #[must_use]
    pub fn bugs(&self) -> u64 {
        self.common.bugs.load(Ordering::Relaxed)
    }

    /// What the threads share, for a metrics collector that outlives a borrow.
    pub(crate) const fn common(&self) -> &Common {
        &self.common
    }

    /// Makes it so. What is claimed of `changes` is free of conflicts.
    fn follow(&mut self, world: &World, changes: &[Change], leave: Leave) {
        let leaving = self.leaving(changes);
        // An address that passes from one listener to another keeps its sockets: only the name they are accepted under
        // changes, and not even a waiting client notices.
        let mut passing = self.passing(changes, &leaving);
        let leaving: Vec<_> = leaving
            .into_iter()
            .filter(|key| !passing.contains(&key.place))
            .collect();
        let pairs = changes.iter().map(|change| (change.id, change.new.clone()));
        let next = Arc::new(world.with_all(pairs, self.lanes()));
        // Bound before anything changes, handed over after: what is accepted finds its listener in the world.
        let (mut staying, mut fresh) = (Vec::new(), Vec::new());
        for (id, new) in changes.iter().filter_map(Change::coming) {
            for key in sockets(new) {
                let Some(state) = next.listeners.get(&key.listener) else {
                    continue;
                };
                if self.holds(id, &key) {
                    staying.push((key, state));
                } else if passing.remove(&key.place) {
                    self.failed.remove(&(id, key));
                    if let Some(holder) = self.open.get_mut(&key.place) {
                        holder.balancer = id;
                    }
                    staying.push((key, state));
                } else if let Some(sockets) = self.bind(id, key, new.takes_over()) {
                    self.hold(id, key, state, sockets);
                    fresh.push((key, state));
                }
            }
        }
        self.control_congestion(staying.iter().chain(&fresh));
        self.follow_conduct(world, &next, changes);
        self.show_failures(&next);
        self.common.world.store(Arc::clone(&next));
        for (key, state) in staying {
            self.pass_on(key, state);
        }
        for (key, state) in fresh {
            self.hand_over(key.place, state);
        }
        self.close(&leaving);
        self.retire(world, &next, changes, leave);
    }

    /// The sockets that the load balancers have and no longer want. What they could not have they no longer miss.
    fn leaving(&mut self, changes: &[Change]) -> Vec<SocketKey> {
        let mut leaving = Vec::new();
        for change in changes {
            let transition = Transition::between(change.old.as_deref(), change.new.as_deref());
            for key in transition.close {
                self.failed.remove(&(change.id, key));
                if self.holds(change.id, &key) {
                    leaving.push(key);
                }
            }
        }
        leaving
    }

    /// Where one of the load balancers lets go of what another one, or another listener, wants.
    fn passing(&self, changes: &[Change], leaving: &[SocketKey]) -> HashSet<Place> {
        if leaving.is_empty() {
            return HashSet::new();
        }
        let left: HashSet<_> = leaving.iter().map(|key| key.place).collect();
        let wanted = changes
            .iter()
            .filter_map(Change::coming)
            .flat_map(|(id, new)| sockets(new).map(move |key| (id, key)));
        wanted
            .filter(|(id, key)| left.contains(&key.place) && !self.holds(*id, key))
            .map(|(_, key)| key.place)
            .collect()
    }

    /// Whether the address of `key` is held for exactly that listener.
    fn holds(&self, balancer: LoadBalancerId, key: &SocketKey) -> bool {
        self.open
            .get(&key.place)
            .is_some_and(|holder| holder.balancer == balancer && holder.listener == key.listener)
    }

    /// Opens the sockets of one address, or notes why they cannot be opened.
    fn bind(
        &mut self,
        balancer: LoadBalancerId,
        key: SocketKey,
        takes_over: bool,
    ) -> Option<Vec<Listening>> {
        if let Some(group) = self.custody.claim(key.place, self.cores.len()) {
            return Some(group);
        }
        // What another load balancer of this amphora holds is not passed on.
        let claim = if takes_over && !self.open.contains_key(&key.place) {
            Claim::TakesOver
        } else {
            Claim::Sole
        };
        match open_group(key.place, self.cores.len(), claim) {
            Ok(group) => {
                self.custody.hold(key.place, &group);
                Some(group)
            }
            Err(error) => {
                let reason = match (self.open.get(&key.place), error.source()) {
                    (Some(holder), _) => format!("{error} by listener {}", holder.listener),
                    (None, Some(source)) => format!("{error}: {source}"),
                    (None, None) => error.to_string(),
                };
                if self.failed.get(&(balancer, key)) != Some(&reason) {
                    tracing::warn!(lb = %balancer, listener = %key.listener, reason, "a listener cannot be opened");
                }
                self.failed.insert((balancer, key), reason);
                None
            }
        }
    }

    /// Notes whose an address is from now on.
    fn hold(
        &mut self,
        balancer: LoadBalancerId,
        key: SocketKey,
        state: &ListenerState,
        sockets: Vec<Listening>,
    ) {
        self.failed.remove(&(balancer, key));
        let holder = Holder {
            balancer,
            listener: key.listener,
            mode: state.listener.mode,
            sockets,
            control: Control::default(),
        };
        self.open.insert(key.place, holder);
    }

    /// Has the threads of the holder's mode accept at an address.
    fn hand_over(&self, place: Place, state: &Arc<ListenerState>) {
        let Some(holder) = self.open.get(&place) else {
            return;
        };
        for (core, socket) in self.cores.iter().zip(&holder.sockets) {
            let order = Order::Adopt {
                place,
                state: Arc::clone(state),
                socket: socket.clone(),
            };
            core.order(holder.mode, order);
        }
    }

    /// Gives an address that stays open to the listener that has it now, and to the kind of thread that its mode asks
    /// for. Nobody who waits there is lost: for a moment both kinds accept.
    fn pass_on(&mut self, key: SocketKey, state: &Arc<ListenerState>) {
        let Some(holder) = self.open.get_mut(&key.place) else {
            return;
        };
        let place = key.place;
        let before = (holder.listener, holder.mode);
        let now = (key.listener, state.listener.mode);
        (holder.listener, holder.mode) = now;
        if before.1 != now.1 {
            self.hand_over(key.place, state);
            for core in &self.cores {
                core.order(before.1, Order::Release { place });
            }
        } else if before.0 != now.0 {
            for core in &self.cores {
                let state = Arc::clone(state);
                core.order(now.1, Order::Reassign { place, state });
            }
        }
    }

    /// Has sockets closed and waits until they are, so that their ports are free for whoever comes next.
    fn close(&mut self, leaving: &[SocketKey]) {
        // First, so that those who accept here are the last to look who waits.
        self.custody.release(leaving.iter().map(|key| key.place));
        let (closed, acknowledged) = mpsc::channel();
        for key in leaving {
            self.open.remove(&key.place);
            self.refusals.remove(&key.place);
            for core in &self.cores {
                core.order_those_of(key.place.transport, || Order::Close {
                    place: key.place,
                    closed: closed.clone(),
                });
            }
        }
        drop(closed);
        self.count_refusals();
        let deadline = Instant::now() + CLOSE_TIME_MAX;
        loop {
            match acknowledged.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                // Every worker has answered, or dropped the question.
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    tracing::warn!("a worker is slow to close its sockets");
                    return;
                }
            }
        }
    }

    /// Drains listeners that are no longer there, or no longer enabled.
    fn retire(&self, old: &World, new: &World, changes: &[Change], leave: Leave) {
        let changed = changes
            .iter()
            .filter_map(|change| old.balancers.get(&change.id));
        for state in changed.flat_map(|balancer| &balancer.listeners) {
            let listener = state.listener.id;
            let is_there = |state: &Arc<ListenerState>| state.enabled;
            if state.enabled && !new.listeners.get(&listener).is_some_and(is_there) {
                self.order_all(|| Order::Retire { listener, leave });
            }
        }
        let gone = Arc::new(gone(old, new, changes));
        self.order_all(|| Order::Tidy {
            gone: Arc::clone(&gone),
        });
    }

    fn order_all(&self, order: impl Fn() -> Order) {
        for core in &self.cores {
            core.order_all(&order);
        }
    }

    /// Writes into `world` which listeners have a port that cannot be had.
    fn show_failures(&mut self, world: &World) {
        let mut reasons: HashMap<ListenerId, Vec<&str>> = HashMap::new();
        for ((_, key), reason) in &self.failed {
            reasons.entry(key.listener).or_default().push(reason);
        }
        // Those of whom it is to be said, and those of whom it was.
        let now = reasons.keys().copied().collect();
        let before = std::mem::replace(&mut self.shown, now);
        for id in before.union(&self.shown) {
            let Some(state) = world.listeners.get(id) else {
                continue;
            };
            let reason = reasons.get(id).map(|reasons| reasons.join("; "));
            if state.shared.failure.load().as_deref() != reason.as_ref() {
                state.shared.failure.store(reason.map(Arc::new));
            }
        }
    }
}

#[cfg(test)]
mod tests;
