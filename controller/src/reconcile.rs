//! Runs plans: brings every load balancer to what is wanted of it, again and again (D5).
//!
//! One load balancer is attended to by one task at a time; a poke while it runs makes it look once more. Pokes are
//! hints: a lost one costs one interval of the sweep. What tenants changed goes before what reports brought up.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use krater_amphora_api::{AmphoraId, Applied, BootId, Generation, LoadBalancerId, SnapshotSpec};
use krater_controller_core::{
    compile,
    model::{Seat, Steering},
    place::NoRoom,
    plan::Agent,
    query::AmphoraView,
    retry,
};
use krater_controller_store::StoreError;
use krater_driver::NetworkDriver;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use self::converge::Verdict;
use crate::{
    amphora_client::{AgentError, Departure},
    cause::chain,
    clock,
    knowledge::Knowledge,
    limits::{
        GLANCES_MAX, LEASE_PAUSE_MAX, RECONCILES_BACKGROUND_MAX, RECONCILES_URGENT_MAX,
        SWEEP_INTERVAL, SWEEP_MAX,
    },
    neighbours::Duty,
    realm::{self, Omission},
    vault::Vault,
};

mod contest;
mod converge;
mod glance;
mod lead;
mod refresh;
mod renewal;

/// What became of looking for a place.
pub(crate) type Placing = Result<Placed, StoreError>;

/// What the reconciler needs of the fleet.
#[async_trait]
pub(crate) trait Agents: Send + Sync + 'static {
    /// Finds a place of that kind for a load balancer, another one than it has, and stores it.
    async fn place(
        &self,
        id: LoadBalancerId,
        seat: Seat,
        wish: &Steering,
        vip_network: Uuid,
    ) -> Placing;
    /// Has the amphora started or found. The error is a sentence.
    async fn ensure(&self, amphora: AmphoraId) -> Result<(), String>;
    /// Ships the wanted state of one load balancer. Fails at once while the amphora is not connected.
    async fn push(&self, amphora: AmphoraId, spec: &SnapshotSpec) -> Result<Applied, AgentError>;
    /// Has the amphora let go of a load balancer; absent counts as done.
    async fn remove(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
        as_of: Generation,
        departure: Departure,
    ) -> Result<(), AgentError>;
    /// Has the amphora go without the addresses of a load balancer for that long, as long as it hears nobody else.
    async fn stand_aside(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
        time: Duration,
    ) -> Result<(), AgentError>;
    /// Returns when the amphora is connected.
    async fn reachable(&self, amphora: AmphoraId);
    /// The run of the amphora that is connected; `None` while none is.
    fn boot(&self, amphora: AmphoraId) -> Option<BootId>;
    /// Whether it is known where the amphora's agent is.
    fn agent(&self, amphora: AmphoraId) -> Agent;
    /// Where the amphora's agent is, if that is known.
    fn address(&self, amphora: AmphoraId) -> Option<SocketAddr>;
    /// Whether the amphora has not been heard of for too long.
    fn is_silent(&self, amphora: AmphoraId) -> bool;
    /// Whether it has not been heard of by any controller.
    async fn is_surely_silent(&self, amphora: AmphoraId) -> Result<bool, StoreError>;
    /// Whether it is this controller's to start and end.
    fn is_ours(&self, amphora: AmphoraId) -> bool;
    /// Whether what the amphora carries is to move to others.
    fn is_retiring(&self, amphora: AmphoraId) -> bool;
    /// Decides, and stores, that what the amphora carries is to move to others and that it ends then.
    async fn retire(&self, amphora: AmphoraId) -> Result<(), StoreError>;
    /// Gives the amphora a new certificate. The error is a sentence.
    async fn renew(&self, amphora: AmphoraId) -> Result<(), String>;

    /// Has the program on the amphora's disk take over from the one that runs.
    async fn upgrade(&self, amphora: AmphoraId) -> Result<(), String>;
    /// The fleet for operators; `behind` says how many load balancers on an amphora are not up to date there.
    fn views(&self, behind: &dyn Fn(AmphoraId) -> u64) -> Vec<AmphoraView>;
}

/// What came of looking for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It has one.
    On,
    /// There is none right now.
    Nowhere(NoRoom),
    /// The load balancer is gone.
    Gone,
}

/// Brings load balancers to what is wanted of them.
pub(crate) struct Reconciler {
    parts: Parts,
    flights: Mutex<HashMap<LoadBalancerId, Arc<Flight>>>,
    streaks: Mutex<HashMap<LoadBalancerId, Streak>>,
    /// Load balancers that wait for an amphora to be connected again.
    blocked: Mutex<HashMap<AmphoraId, BTreeSet<LoadBalancerId>>>,
    /// Load balancers that are not in force as wanted somewhere, as far as the last attempt told.
    behind: Mutex<HashMap<LoadBalancerId, AmphoraId>>,
    /// Since when load balancers are left to controllers that reach their amphorae.
    left: Mutex<HashMap<LoadBalancerId, Instant>>,
    /// What the sweep found to be due and nobody has looked at since.
    due: Mutex<BTreeSet<LoadBalancerId>>,
    /// Since when two have the addresses of a load balancer.
    contests: Mutex<HashMap<LoadBalancerId, Instant>>,
    /// Since when tenants wait for what they changed.
    waits: Mutex<HashMap<LoadBalancerId, Instant>>,
    urgent: Semaphore,
    background: Semaphore,
    glances: Semaphore,
}

/// What a reconciler is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) known: Knowledge,
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) network: Arc<dyn NetworkDriver>,
    pub(crate) defaults: compile::Defaults,
    pub(crate) omission: Omission,
}

/// Why a load balancer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A tenant changed it, and waits.
    Tenant,
    /// A report brought it up, or something else that this controller alone knows.
    Background,
    /// It was found to be due, as every controller finds it.
    Sweep,
}

/// A load balancer that is being attended to.
#[derive(Default)]
struct Flight {
    /// It was poked since the present attempt began.
    again: AtomicBool,
    /// It was poked for a reason that others do not know.
    own: AtomicBool,
    urgent: AtomicBool,
    hurry: Notify,
}

/// Failures in a row of one load balancer.
#[derive(Clone, Copy, Default)]
struct Streak {
    attempts: u32,
    /// Since when it is tried quietly.
    since: Option<Instant>,
}

impl Reconciler {
    /// A reconciler that does nothing until it is poked or sweeps.
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            flights: Mutex::default(),
            streaks: Mutex::default(),
            blocked: Mutex::default(),
            behind: Mutex::default(),
            left: Mutex::default(),
            due: Mutex::default(),
            contests: Mutex::default(),
            waits: Mutex::default(),
            urgent: Semaphore::new(RECONCILES_URGENT_MAX),
            background: Semaphore::new(RECONCILES_BACKGROUND_MAX),
            glances: Semaphore::new(GLANCES_MAX),
        })
    }

    /// Has a load balancer looked at, now or once more after what is under way.
    pub(crate) fn poke(self: &Arc<Self>, id: LoadBalancerId, urgency: Urgency) {
        let flight = {
            let mut flights = lock(&self.flights);
            if urgency == Urgency::Tenant {
                lock(&self.waits).entry(id).or_insert_with(Instant::now);
            }
            if let Some(flight) = flights.get(&id) {
                flight.hail(urgency);
                return;
            }
            let flight = Arc::new(Flight::default());
            flight.hail(urgency);
            flights.insert(id, Arc::clone(&flight));
            flight
        };
        let attendance = Attendance {
            reconciler: Arc::clone(self),
            id,
            flight,
            rested: false,
            landed: false,
        };
        realm::spawn(attendance.run());
    }

    /// Looks for what is due, for ever.
    pub(crate) async fn sweep(self: Arc<Self>) {
        if self.parts.omission == Omission::Sweep {
            return;
        }
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.parts.known.store.due(clock::now(), SWEEP_MAX).await {
                Ok(due) => {
                    for due in due {
                        lock(&self.due).insert(due.load_balancer);
                        self.poke(due.load_balancer, Urgency::Sweep);
                    }
                }
                Err(error) => self.note_store_error(&error, "look for what is due"),
            }
        }
    }

    /// Load balancers on the amphora that are known not to be in force as wanted.
    pub(crate) fn behind(&self, amphora: AmphoraId) -> u64 {
        lock(&self.behind)
            .values()
            .filter(|at| **at == amphora)
            .count() as u64
    }

    /// How many load balancers tenants wait for, and the longest wait.
    pub(crate) fn lag(&self) -> (usize, Duration) {
        let waits = lock(&self.waits);
        (
            waits.len(),
            waits
                .values()
                .map(Instant::elapsed)
                .max()
                .unwrap_or_default(),
        )
    }

    fn note_store_error(&self, error: &StoreError, doing: &str) {
        self.parts.known.metrics.store_errors.inc();
        tracing::error!(error = %chain(error), "the reconciler could not {doing}");
    }

    /// Has a load balancer looked at as soon as the amphora is connected again.
    fn await_amphora(self: &Arc<Self>, amphora: AmphoraId, id: LoadBalancerId) {
        let first = {
            let mut blocked = lock(&self.blocked);
            let waiting = blocked.entry(amphora).or_default();
            waiting.insert(id) && waiting.len() == 1
        };
        if first {
            let reconciler = Arc::clone(self);
            realm::spawn(async move {
                reconciler.parts.agents.reachable(amphora).await;
                let waiting = lock(&reconciler.blocked)
                    .remove(&amphora)
                    .unwrap_or_default();
                for id in waiting {
                    reconciler.poke(id, Urgency::Background);
                }
            });
        }
    }
}

impl Flight {
    fn hail(&self, urgency: Urgency) {
        self.again.store(true, Ordering::SeqCst);
        if urgency != Urgency::Sweep {
            self.own.store(true, Ordering::SeqCst);
        }
        if urgency == Urgency::Tenant {
            self.urgent.store(true, Ordering::SeqCst);
            self.hurry.notify_one();
        }
    }
}

impl Reconciler {
    /// Attends to a load balancer if no other controller does.
    async fn attend(self: &Arc<Self>, id: LoadBalancerId) -> Result<Verdict, StoreError> {
        let duty = Duty::Balancer(id);
        let Some(lease) = self.parts.known.neighbours.take(duty).await? else {
            return Ok(Verdict::Elsewhere);
        };
        let verdict = self.converge(id, &lease).await;
        lease.release().await;
        verdict
    }

    /// Has a load balancer looked at that another controller wants looked at, if it is attended to here.
    pub(crate) fn poke_if_attended(&self, id: LoadBalancerId) {
        if let Some(flight) = lock(&self.flights).get(&id) {
            flight.hail(Urgency::Tenant);
        }
    }
}

/// One task that attends to one load balancer. However it ends, the load balancer can be attended to again.
struct Attendance {
    reconciler: Arc<Reconciler>,
    id: LoadBalancerId,
    flight: Arc<Flight>,
    /// The last attempt left nothing to do.
    rested: bool,
    landed: bool,
}

impl Attendance {
    async fn run(mut self) {
        let (mut refused, mut failed) = (0, 0);
        while !self.land() {
            let verdict = {
                let _permit = self.permit().await;
                self.flight.again.store(false, Ordering::SeqCst);
                self.reconciler.attend(self.id).await
            };
            self.rested = matches!(verdict, Ok(Verdict::Rest));
            if matches!(verdict, Ok(Verdict::Rest | Verdict::Soon { .. })) {
                (refused, failed) = (0, 0);
                self.flight.own.store(false, Ordering::SeqCst);
            }
            match verdict {
                Ok(Verdict::Rest) => {}
                Ok(Verdict::Elsewhere) => {
                    // Whoever attends to it may have looked before this was known; what is due the sweep finds again.
                    if self.flight.own.load(Ordering::SeqCst) {
                        self.flight.again.store(true, Ordering::SeqCst);
                        if refused == 0 {
                            self.reconciler.parts.known.neighbours.ask_to_look(self.id);
                        }
                        refused += 1;
                        sleep((LEASE_PAUSE_MIN * refused).min(LEASE_PAUSE_MAX)).await;
                    }
                }
                Ok(Verdict::Soon { blocked_by, after }) => {
                    self.flight.again.store(true, Ordering::SeqCst);
                    self.wait(blocked_by, after).await;
                }
                Err(error) => {
                    self.reconciler
                        .note_store_error(&error, "attend to a load balancer");
                    // What has not settled is due, and the sweep finds it again. What a report brought up nobody else
                    // knows, and no later report says it again.
                    if self.flight.own.load(Ordering::SeqCst) {
                        self.flight.again.store(true, Ordering::SeqCst);
                        failed += 1;
                        self.wait(None, retry::backoff(failed)).await;
                    }
                }
            }
        }
    }

    /// Waits without keeping others from working.
    async fn wait(&self, blocked_by: Option<AmphoraId>, after: Duration) {
        let agents = &self.reconciler.parts.agents;
        let back = async {
            match blocked_by {
                Some(amphora) if agents.boot(amphora).is_none() => agents.reachable(amphora).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = sleep(after) => {}
            () = back => {}
            () = self.flight.hurry.notified() => {}
        }
    }

    /// A tenant who comes while it waits among the others takes it to the front.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        if !self.flight.urgent.load(Ordering::SeqCst) {
            tokio::select! {
                biased;
                permit = self.reconciler.background.acquire() => return permit.ok(),
                () = self.flight.hurry.notified() => {}
            }
        }
        self.reconciler.urgent.acquire().await.ok()
    }

    /// Ends the flight unless it was poked meanwhile.
    fn land(&mut self) -> bool {
        let mut flights = lock(&self.reconciler.flights);
        if self.flight.again.load(Ordering::SeqCst) {
            return false;
        }
        flights.remove(&self.id);
        if self.rested {
            // Who poked after their change had settled with the one before it waits for nothing.
            lock(&self.reconciler.waits).remove(&self.id);
        }
        self.landed = true;
        true
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        // Only after a panic: then it is attended to by whoever pokes next.
        if !self.landed {
            lock(&self.reconciler.flights).remove(&self.id);
        }
    }
}

/// Waited before a duty is asked for again that is another controller's, and so much more each time.
const LEASE_PAUSE_MIN: Duration = Duration::from_millis(10);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
