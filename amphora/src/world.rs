//! All load balancers of this amphora with their run-time members: what the data path reads.
//!
//! A [`World`] is immutable but for the atomics inside and is replaced whole, by one store of the housekeeper (I3).
//! What two snapshots have in common keeps its run-time state: a swap resets no health, load, counter or limit of
//! what stayed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use krater_amphora_api::{
    Algorithm, ListenerId, ListenerState as Serving, LoadBalancerId, MemberHealth, MemberId,
    MemberReport, PoolId,
};
use krater_amphora_core::{
    conduct::Terms,
    roster::{Choice, Roster},
    snapshot::{Listener, Member, Pool, Snapshot},
};

use crate::{
    meter::{ListenerMeter, MemberMeter, MemberTotals},
    tls::{Acceptor, Connector},
};

mod conduct;
mod departed;
mod leave;
mod limit;
mod part;
mod places;
mod prepared;
mod report;
mod shelves;
mod sources;
mod standing;
mod staying;
mod sticky;

use departed::Departed;
use sources::Sources;
use sticky::Sticky;

pub use conduct::{Alarm, Alarms};
pub use leave::Leave;
pub use limit::ConnectionLimit;
pub use part::Part;
pub(crate) use places::{Busy, Held, Places};
pub use prepared::Prepared;
pub use shelves::Shelves;
pub(crate) use standing::Standing;
use staying::{by_id, leaving};
pub use sticky::AppCookie;
pub(crate) use sticky::Learned;

/// Everything that traffic is served by at one moment.
#[derive(Debug, Default)]
pub struct World {
    /// The load balancers.
    pub balancers: Shelves<LoadBalancerId, Balancer>,
    /// Their listeners, disabled ones too.
    pub listeners: Shelves<ListenerId, ListenerState>,
    /// Their pools, unused ones too.
    pub pools: Shelves<PoolId, PoolState>,
    /// Where members raise alarms.
    pub alarms: Alarms,
}

/// One load balancer.
#[derive(Debug)]
pub struct Balancer {
    /// What was applied.
    pub snapshot: Arc<Snapshot>,
    /// Its listeners, in the order of the snapshot.
    pub listeners: Vec<Arc<ListenerState>>,
    /// Its pools, in the order of the snapshot.
    pub pools: Vec<Arc<PoolState>>,
    /// How it stands at its addresses, if it takes turns at them; written by the thread that does so for it.
    pub(crate) standing: Option<Standing>,
    /// What was told of it last by its PROMETHEUS listeners, and when.
    pub(crate) told: ArcSwapOption<(Instant, Bytes)>,
}

/// One listener with the pools it sends to.
#[derive(Debug)]
pub struct ListenerState {
    /// Whose it is.
    pub balancer: LoadBalancerId,
    /// Its settings.
    pub listener: Listener,
    /// Whether it should serve: both it and its load balancer are enabled.
    pub enabled: bool,
    /// Where its connections go.
    pub pool: Option<Arc<PoolState>>,
    /// Where its policies may send requests.
    pub policy_pools: HashMap<PoolId, Arc<PoolState>>,
    /// What TLS is ended with, if it is.
    pub tls: Option<Arc<Acceptor>>,
    /// What outlives a change of settings.
    pub shared: Arc<ListenerShared>,
}

/// What a listener keeps for as long as it exists.
#[derive(Debug)]
pub struct ListenerShared {
    /// What it did.
    pub meter: ListenerMeter,
    /// How many connections it may serve, and serves.
    pub limit: ConnectionLimit,
    /// Why a port of it cannot be had, if so.
    pub failure: ArcSwapOption<String>,
    /// Who has connected lately, as far as the rate of sources is limited.
    sources: ArcSwapOption<Sources>,
}

/// One pool with its members.
#[derive(Debug)]
pub struct PoolState {
    /// Whose it is.
    pub balancer: LoadBalancerId,
    /// Its settings.
    pub pool: Pool,
    /// Who may be chosen now; replaced when health changes.
    pub roster: ArcSwap<Roster>,
    /// The run-time side of [`Pool::members`], position by position.
    pub members: Vec<Arc<MemberState>>,
    /// Counts choices, over all workers and swaps.
    pub turn: Arc<AtomicU64>,
    /// What its members are spoken to by TLS with, if they are.
    pub tls: Option<Arc<Connector>>,
    /// The clients it keeps with their members.
    sticky: Option<Sticky>,
    departed: Arc<Departed>,
}

/// One member at run time.
#[derive(Debug)]
pub struct MemberState {
    /// Which member.
    pub id: MemberId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Distinguishes this state from any other in the process: connections kept open to a member are filed under it,
    /// so that they cannot be taken for those of a member of the same id at another address.
    pub serial: u64,
    /// Connections or requests under way, over all workers. Kept for pools that choose by it only.
    pub load: AtomicU32,
    /// What was exchanged with it.
    pub meter: Arc<MemberMeter>,
    /// What its conduct makes of it.
    pub(crate) conduct: conduct::Conduct,
    /// How many HTTP requests it may have under way.
    pub(crate) places: Places,
    health: AtomicU8,
    reason: ArcSwapOption<String>,
}

impl World {
    /// This world with one load balancer added, replaced or (`None`) removed.
    #[must_use]
    pub fn with(&self, id: LoadBalancerId, prepared: Option<Prepared>, workers: usize) -> Self {
        self.with_all([(id, prepared)], workers)
    }

    /// This world with load balancers added, replaced or (`None`) removed. No part may be in two of them, and what is
    /// added must be in none that stays.
    #[must_use]
    pub fn with_all(
        &self,
        changes: impl IntoIterator<Item = (LoadBalancerId, Option<Prepared>)>,
        workers: usize,
    ) -> Self {
        let mut world = Self {
            balancers: self.balancers.clone(),
            listeners: self.listeners.clone(),
            pools: self.pools.clone(),
            alarms: self.alarms.clone(),
        };
        // What one of them gives up may come with another one: first all goes, then all comes.
        let mut coming = Vec::new();
        for (id, prepared) in changes {
            let old = world.balancers.remove(&id);
            for state in old.iter().flat_map(|balancer| &balancer.listeners) {
                world.listeners.remove(&state.listener.id);
            }
            for state in old.iter().flat_map(|balancer| &balancer.pools) {
                world.pools.remove(&state.pool.id);
            }
            coming.extend(prepared.map(|prepared| (id, old, prepared)));
        }
        for (id, old, prepared) in coming {
            let new = Arc::new(Balancer::follow(
                old.as_deref(),
                prepared,
                workers,
                &self.alarms,
            ));
            for state in &new.listeners {
                world.listeners.insert(state.listener.id, Arc::clone(state));
            }
            for state in &new.pools {
                world.pools.insert(state.pool.id, Arc::clone(state));
            }
            world.balancers.insert(id, new);
        }
        world
    }
}

impl Balancer {
    /// `prepared` at run time, with all that it shares with `old`.
    fn follow(old: Option<&Self>, prepared: Prepared, workers: usize, alarms: &Alarms) -> Self {
        let Prepared {
            snapshot,
            mut acceptors,
            mut connectors,
        } = prepared;
        let old_pools = old.map_or(&[][..], |old| &old.pools);
        let old_pools: HashMap<_, _> = old_pools
            .iter()
            .map(|state| (state.pool.id, state))
            .collect();
        let old_listeners = old.map_or(&[][..], |old| &old.listeners);
        let old_listeners: HashMap<_, _> = old_listeners
            .iter()
            .map(|state| (state.listener.id, state))
            .collect();
        let pools: Vec<_> = snapshot
            .pools()
            .iter()
            .map(|pool| {
                PoolState::follow(
                    old_pools.get(&pool.id).copied(),
                    (pool, connectors.remove(&pool.id)),
                    snapshot.load_balancer(),
                    (workers, alarms),
                )
            })
            .collect();
        let by_id: HashMap<_, _> = pools
            .iter()
            .map(|state| (state.pool.id, Arc::clone(state)))
            .collect();
        let listeners = snapshot
            .listeners()
            .iter()
            .map(|listener| {
                ListenerState::follow(
                    old_listeners.get(&listener.id).copied(),
                    (listener, acceptors.remove(&listener.id)),
                    &by_id,
                    &snapshot,
                    workers,
                )
            })
            .collect();
        let standing = standing::follow(old, &snapshot);
        Self {
            snapshot,
            listeners,
            pools,
            standing,
            told: ArcSwapOption::empty(),
        }
    }
}

impl ListenerState {
    fn follow(
        old: Option<&Arc<Self>>,
        (listener, tls): (&Listener, Option<Arc<Acceptor>>),
        pools: &HashMap<PoolId, Arc<PoolState>>,
        snapshot: &Snapshot,
        workers: usize,
    ) -> Arc<Self> {
        let find = |id: PoolId| pools.get(&id).cloned();
        let pool = listener.default_pool.and_then(find);
        let targets = listener.policies.pools();
        let policy_pools: HashMap<_, _> = targets.filter_map(|id| Some((id, find(id)?))).collect();
        let enabled = snapshot.enabled() && listener.enabled;
        if let Some(old) = old
            && old.listener == *listener
            && old.enabled == enabled
            && old.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
            && old.pool.as_ref().map(Arc::as_ptr) == pool.as_ref().map(Arc::as_ptr)
            && old.policy_pools.len() == policy_pools.len()
            && policy_pools.iter().all(|(id, pool)| {
                let before = old.policy_pools.get(id);
                before.is_some_and(|before| Arc::ptr_eq(before, pool))
            })
        {
            return Arc::clone(old);
        }
        let shared = match old {
            Some(old) => Arc::clone(&old.shared),
            None => Arc::new(ListenerShared {
                meter: ListenerMeter::new(workers),
                limit: ConnectionLimit::new(listener.connection_limit),
                failure: ArcSwapOption::empty(),
                sources: ArcSwapOption::empty(),
            }),
        };
        shared.limit.set(listener.connection_limit);
        shared.limit_sources(listener.source_rate);
        Arc::new(Self {
            balancer: snapshot.load_balancer(),
            listener: listener.clone(),
            enabled,
            pool,
            policy_pools,
            tls,
            shared,
        })
    }

    /// Whether it serves, in the terms of the contract.
    #[must_use]
    pub fn serving(&self) -> Serving {
        if !self.enabled {
            Serving::Disabled
        } else if let Some(reason) = self.shared.failure.load().as_ref() {
            Serving::Failed {
                reason: reason.as_str().to_owned(),
            }
        } else if self.shared.limit.is_full() {
            Serving::Full
        } else {
            Serving::Open
        }
    }
}

impl PoolState {
    fn follow(
        old: Option<&Arc<Self>>,
        (pool, tls): (&Pool, Option<Arc<Connector>>),
        balancer: LoadBalancerId,
        (workers, alarms): (usize, &Alarms),
    ) -> Arc<Self> {
        if let Some(old) = old
            && old.pool == *pool
            && old.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr)
        {
            return Arc::clone(old);
        }
        let old_members = old.map_or(&[][..], |old| &old.members);
        let find = by_id(old_members);
        let members: Vec<_> = pool
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| {
                let old = find(at, member.id);
                MemberState::follow(old, member, pool, (workers, alarms))
            })
            .collect();
        let turn = old.map_or_else(Arc::default, |old| Arc::clone(&old.turn));
        let departed = old.map_or_else(Arc::default, |old| Arc::clone(&old.departed));
        departed.take_in(leaving(old_members, &members));
        let roster = ArcSwap::from_pointee(roster(pool, &members));
        let sticky = Sticky::follow(old.and_then(|old| old.sticky.as_ref()), pool);
        Arc::new(Self {
            balancer,
            pool: pool.clone(),
            roster,
            members,
            turn,
            tls,
            sticky,
            departed,
        })
    }

    /// What its members did, those that have left it included.
    #[must_use]
    pub fn totals(&self) -> MemberTotals {
        let present: HashSet<_> = self
            .members
            .iter()
            .map(|member| Arc::as_ptr(&member.meter))
            .collect();
        let mut totals = self
            .departed
            .totals(|meter| present.contains(&Arc::as_ptr(meter)));
        for member in &self.members {
            totals += member.meter.totals();
        }
        totals
    }

    /// Lets go of the meters of members that have left and have no connection any more.
    pub(crate) fn settle_departed(&self) {
        self.departed.settle();
    }

    /// Chooses a member for `client`, passing over the positions in `not`: a position in `members`. Where clients are
    /// kept with their members it is that of the last time, if it can still serve.
    #[must_use]
    pub fn choose(&self, client: SocketAddr, not: &[usize]) -> Option<usize> {
        match &self.sticky {
            None => self.choose_anew(client, not),
            Some(sticky) => sticky.choose(
                client.ip(),
                |position| !not.contains(&position) && self.keeps_clients(position),
                || self.choose_anew(client, not),
            ),
        }
    }

    /// Whether a client that came to this member before may come again. It may to one that is draining by a weight of
    /// zero (reference 19.4), which is chosen for nobody else.
    pub(crate) fn keeps_clients(&self, position: usize) -> bool {
        let settings = self.pool.members.get(position);
        let member = self.members.get(position);
        self.pool.enabled
            && settings.is_some_and(|settings| settings.enabled)
            && member.is_some_and(|member| member.counts_as_up() && !member.conduct.terms().out)
    }

    /// Whether clients do not notice to which of the members they come.
    pub(crate) fn is_free_to_choose(&self) -> bool {
        let by_turn = matches!(
            self.pool.algorithm,
            Algorithm::RoundRobin | Algorithm::LeastConnections
        );
        by_turn && self.pool.persistence.is_none()
    }

    fn choose_anew(&self, client: SocketAddr, not: &[usize]) -> Option<usize> {
        let roster = self.roster.load();
        // A turn is taken from the shared counter only by those who look at it.
        let turn = match self.pool.algorithm {
            Algorithm::RoundRobin | Algorithm::LeastConnections => {
                self.turn.fetch_add(1, Ordering::Relaxed)
            }
            Algorithm::SourceIp | Algorithm::SourceIpPort => 0,
        };
        let load = |position: usize| {
            self.members
                .get(position)
                .map_or(0, |member| member.load.load(Ordering::Relaxed))
        };
        roster.choose(&Choice {
            client,
            turn,
            load: &load,
            not,
        })
    }

    /// Whether choices depend on [`MemberState::load`], so that somebody must count it.
    #[must_use]
    pub fn counts_load(&self) -> bool {
        self.pool.algorithm == Algorithm::LeastConnections
    }

    /// Rebuilds the roster from the members' present health.
    pub(crate) fn renew_roster(&self) {
        self.roster
            .store(Arc::new(roster(&self.pool, &self.members)));
    }
}

fn roster(pool: &Pool, members: &[Arc<MemberState>]) -> Roster {
    let known: HashMap<_, _> = members.iter().map(|member| (member.id, member)).collect();
    Roster::on_terms(pool, |id| match known.get(&id) {
        Some(member) => member.counts_as_up().then(|| member.conduct.terms()),
        None => Some(Terms::GOOD),
    })
}

impl MemberState {
    fn follow(
        old: Option<&Arc<Self>>,
        member: &Member,
        pool: &Pool,
        (workers, alarms): (usize, &Alarms),
    ) -> Arc<Self> {
        let failures = pool.conduct.passive.map(|passive| passive.failures);
        let probed = pool.monitor.is_some() && member.enabled;
        let health = match old.map(|old| old.health()) {
            _ if !probed => MemberHealth::NoMonitor,
            None | Some(MemberHealth::NoMonitor) => MemberHealth::Unproven,
            Some(health) => health,
        };
        if let Some(old) = old
            && old.address == member.address
        {
            if old.health() != health {
                old.set_health(health, None);
            }
            old.conduct.heed(failures);
            old.places.set(pool.member_requests);
            return Arc::clone(old);
        }
        let alarm = Alarm {
            pool: pool.id,
            member: member.id,
        };
        let conduct = conduct::Conduct::new(alarm, alarms.clone());
        conduct.heed(failures);
        Arc::new(Self {
            id: member.id,
            address: member.address,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            load: AtomicU32::new(0),
            meter: old.map_or_else(
                || Arc::new(MemberMeter::new(workers)),
                |old| Arc::clone(&old.meter),
            ),
            conduct,
            places: Places::new(pool.member_requests, workers),
            health: AtomicU8::new(encode(health)),
            reason: ArcSwapOption::empty(),
        })
    }

    /// What is thought of it.
    #[must_use]
    pub fn health(&self) -> MemberHealth {
        match self.health.load(Ordering::Relaxed) {
            1 => MemberHealth::Unproven,
            2 => MemberHealth::Up,
            3 => MemberHealth::Down,
            _ => MemberHealth::NoMonitor,
        }
    }

    /// Why it is down, as a sentence.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason
            .load()
            .as_ref()
            .map(|reason| reason.as_str().to_owned())
    }

    /// Whether it may be chosen as far as health goes: innocent until proven down.
    #[must_use]
    pub fn counts_as_up(&self) -> bool {
        self.health() != MemberHealth::Down
    }

    pub(crate) fn set_health(&self, health: MemberHealth, reason: Option<String>) {
        self.reason.store(reason.map(Arc::new));
        self.health.store(encode(health), Ordering::Relaxed);
    }

    fn report(&self) -> MemberReport {
        MemberReport {
            id: self.id,
            health: self.health(),
            reason: self.reason(),
            active_connections: self.meter.active(),
            out: self.conduct.terms().out,
        }
    }
}

/// The next [`MemberState::serial`].
static SERIAL: AtomicU64 = AtomicU64::new(0);

const fn encode(health: MemberHealth) -> u8 {
    match health {
        MemberHealth::NoMonitor => 0,
        MemberHealth::Unproven => 1,
        MemberHealth::Up => 2,
        MemberHealth::Down => 3,
    }
}
