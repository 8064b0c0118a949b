//! The slow thread: owns the plane, feeds it snapshots and health, and runs everything that is not traffic.
//!
//! Everything here happens on one thread, one step at a time; a borrow never lives across an `await`.

use std::{
    cell::{Cell, RefCell},
    collections::hash_map::DefaultHasher,
    future::{Future, poll_fn},
    hash::{Hash, Hasher},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::future::{Either, LocalBoxFuture, select};
use krater_amphora_api::{
    BootId, Generation, ListenerState, LoadBalancerId, LoadBalancerReport, Rejection,
};
use krater_amphora_core::snapshot::Snapshot;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::LocalSet,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    access,
    announce::Turns,
    clock::Clock,
    custody::Custody,
    limits::BLOCKING_THREADS_MAX,
    local::Common,
    peers::Peers,
    plane::Plane,
    probe::Probes,
    tallies::Tallies,
    world::{Alarm, Leave, Prepared, World},
};

mod probing;

pub(crate) use probing::ProbesWait;

/// What this process is about, shared by the tasks of its slow thread.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    /// `None` once the process is ending.
    plane: RefCell<Option<Plane>>,
    probes: RefCell<Probes>,
    /// As many wait for a way to members; no probe begins until there is none.
    waiting: Cell<usize>,
    agenda_changed: Notify,
    conduct_changed: Notify,
    alarms: RefCell<Option<mpsc::UnboundedReceiver<Alarm>>>,
    turns: Turns,
    /// The other amphorae that carry the same.
    pub(crate) peers: Rc<Peers>,
    news: Arc<Notify>,
    /// Another process answers controllers from now on.
    left: watch::Sender<bool>,
    clock: Clock,
    boot: BootId,
    workers: usize,
    tallies: Arc<Tallies>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Nobody serves after it.
    Stop,
    /// Its successor accepts on the same sockets; what is open here may go on for so long.
    HandOver(Duration),
}

/// The process is ending, and takes nothing on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the amphora is ending")]
pub(crate) struct Ending;

impl Housekeeper {
    /// Has listening sockets held beyond the life of this process, beginning with those that the one before it had.
    pub(crate) fn entrust(&self, custody: Custody) -> Result<(), Ending> {
        self.with_plane(|plane| plane.entrust(custody))
    }

    /// Lets go of those that nobody asked for.
    pub(crate) fn renounce(&self) -> Result<(), Ending> {
        self.with_plane(Plane::renounce)
    }

    /// Puts a snapshot in force and answers the generation that is now: a newer one if that was held (I8). Changes
    /// nothing if something in it is part of another load balancer, and says what.
    pub(crate) fn apply(
        &self,
        snapshot: Prepared,
    ) -> Result<Result<Generation, Vec<Rejection>>, Ending> {
        let id = snapshot.load_balancer();
        let generation = match self.with_plane(|plane| plane.apply_prepared(snapshot))? {
            Ok(generation) => generation,
            Err(rejections) => return Ok(Err(rejections)),
        };
        let world = self.watch(&[id])?;
        self.follow(&world, Some(id));
        self.tallies.applies.inc();
        Ok(Ok(generation))
    }

    /// Puts several in force and takes others out of service, in one step. What was refused, with the reasons.
    pub(crate) fn apply_all(
        &self,
        snapshots: Vec<Prepared>,
        remove: &[LoadBalancerId],
    ) -> Result<Vec<(LoadBalancerId, Vec<Rejection>)>, Ending> {
        let applied: Vec<_> = snapshots
            .iter()
            .map(|snapshot| snapshot.load_balancer())
            .collect();
        let refused = self.with_plane(|plane| plane.apply_all(snapshots, remove))?;
        for id in remove {
            self.probes.borrow_mut().forget(*id);
        }
        let world = self.watch(&applied)?;
        self.follow(&world, None);
        self.tallies.removals.add(remove.len() as u64);
        self.tallies
            .applies
            .add((applied.len() - refused.len()) as u64);
        Ok(refused)
    }

    /// Every part of `snapshot` that another load balancer has already.
    pub(crate) fn conflicts(&self, snapshot: &Snapshot) -> Result<Vec<Rejection>, Ending> {
        self.with_plane(|plane| plane.conflicts(snapshot))
    }

    /// Has those know what is in force who speak of it with other amphorae: all of it, or what has become of one.
    fn follow(&self, world: &Arc<World>, one: Option<LoadBalancerId>) {
        let (news, tallies) = (&self.news, &self.tallies);
        match one {
            Some(id) => self.turns.follow_one(world, id, news, tallies),
            None => self.turns.follow(world, news, tallies),
        }
        self.peers.follow(world, one);
    }

    /// Leaves the addresses of a load balancer to others, if it takes turns at them, and returns when they have them.
    pub(crate) async fn leave_addresses(&self, id: LoadBalancerId) -> Result<(), Ending> {
        let world = self.world()?;
        if let Some(balancer) = world.balancers.get(&id) {
            self.turns.leave(balancer).await;
            self.peers.flush().await;
        }
        Ok(())
    }

    /// Takes turns at the addresses of a load balancer after all, which were to be left.
    pub(crate) fn keep_addresses(&self, id: LoadBalancerId) {
        self.turns.stay(id);
    }

    /// Begins no more connections of a load balancer that another amphora serves now.
    pub(crate) fn deafen(&self, id: LoadBalancerId) -> Result<(), Ending> {
        self.with_plane(|plane| plane.deafen(id))
    }

    /// Takes a load balancer out of service; that there is none is fine.
    pub(crate) fn remove(&self, id: LoadBalancerId, leave: Leave) -> Result<(), Ending> {
        self.with_plane(|plane| plane.remove(id, leave))?;
        self.probes.borrow_mut().forget(id);
        self.follow(&self.world()?, Some(id));
        self.tallies.removals.inc();
        Ok(())
    }

    /// Tries ports that could not be had; true if one could be now.
    pub(crate) fn retry_failed(&self) -> Result<bool, Ending> {
        self.with_plane(Plane::retry_failed)
    }

    /// The generation in force, if the load balancer is here.
    pub(crate) fn held(&self, id: LoadBalancerId) -> Result<Option<Generation>, Ending> {
        self.with_plane(|plane| plane.held(id))
    }

    /// One load balancer in the terms of the contract.
    pub(crate) fn report(&self, id: LoadBalancerId) -> Result<Option<LoadBalancerReport>, Ending> {
        self.with_plane(|plane| plane.report(id))
    }

    /// What traffic is served by now.
    pub(crate) fn world(&self) -> Result<Arc<World>, Ending> {
        self.with_plane(|plane| plane.world())
    }

    /// Waits until something happened that a controller should learn at once.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether what is open is held for a successor.
    pub(crate) fn is_held(&self) -> Result<bool, Ending> {
        self.with_plane(Plane::is_held)
    }

    /// Asks the supervisor for a successor; `false` if there is none to ask.
    pub(crate) fn ask_for_successor(&self) -> Result<bool, Ending> {
        self.with_plane(Plane::ask_for_successor)
    }

    /// Returns when another process answers controllers.
    pub(crate) async fn left(&self) {
        // It cannot be dropped meanwhile.
        let _ = self.left.subscribe().wait_for(|left| *left).await;
    }

    /// This run of the process.
    pub(crate) const fn boot(&self) -> BootId {
        self.boot
    }

    /// Number of workers.
    pub(crate) const fn workers(&self) -> usize {
        self.workers
    }

    /// What the slow thread counts.
    pub(crate) const fn tallies(&self) -> &Arc<Tallies> {
        &self.tallies
    }

    /// Who takes turns at addresses.
    pub(crate) const fn turns(&self) -> &Turns {
        &self.turns
    }

    /// What the threads of the data path count together.
    pub(crate) fn plane_counters(&self) -> Result<Common, Ending> {
        self.with_plane(|plane| plane.common().clone())
    }

    fn with_plane<T>(&self, act: impl FnOnce(&mut Plane) -> T) -> Result<T, Ending> {
        self.plane.borrow_mut().as_mut().map(act).ok_or(Ending)
    }

    fn perform(self: Rc<Self>, task: Task) -> LocalBoxFuture<'static, ()> {
        match task {
            Task::Probe => Box::pin(self.probe()),
            Task::Conduct => Box::pin(self.watch_conduct()),
            Task::Tick => Box::pin(self.tick()),
        }
    }

    /// Heeds the conduct of members for as long as the process lives.
    async fn watch_conduct(self: Rc<Self>) {
        loop {
            let Ok(next) = self.with_plane(|plane| {
                let at = plane.next_time()?;
                Some(plane.clock().deadline(at))
            }) else {
                return;
            };
            let wait = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let heard = tokio::select! {
                alarm = self.alarm() => {
                    self.news.notify_one();
                    self.with_plane(|plane| plane.handle_alarm(alarm))
                }
                () = wait => self.with_plane(Plane::handle_time),
                () = self.conduct_changed.notified() => Ok(()),
            };
            if heard.is_err() {
                return;
            }
        }
    }

    async fn alarm(&self) -> Alarm {
        poll_fn(|cx| {
            let mut alarms = self.alarms.borrow_mut();
            let heard = alarms.as_mut().map(|alarms| alarms.poll_recv(cx));
            match heard {
                Some(Poll::Ready(Some(alarm))) => Poll::Ready(alarm),
                // With the world the last who could raise one is gone.
                Some(Poll::Ready(None)) | None => {
                    *alarms = None;
                    Poll::Pending
                }
                Some(Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    /// Once a second: tries failed ports again, tidies up, and notices what changed by itself.
    async fn tick(self: Rc<Self>) {
        let mut every = interval(TICK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seen = Cell::new(None);
        loop {
            every.tick().await;
            let Ok(opened) = self.retry_failed() else {
                return;
            };
            let Ok(()) = self.with_plane(|plane| plane.settle_departed()) else {
                return;
            };
            let Ok(world) = self.world() else { return };
            let Ok(()) = self.with_plane(|plane| self.turns.check(|| plane.pulse())) else {
                return;
            };
            self.follow(&world, None);
            let now = listeners_digest(&world);
            if seen.replace(Some(now)).is_some_and(|before| before != now) || opened {
                self.news.notify_one();
            }
        }
    }
}

/// What the slow thread does in every mode.
#[derive(Clone, Copy, Debug)]
enum Task {
    Probe,
    Conduct,
    Tick,
}

/// Starts the plane and runs `body` beside the housekeeping until the process is told to end (SIGTERM, SIGINT), or
/// until `body` ends by itself and says how; then drains for at most `drain`. A second signal ends the draining.
pub(crate) fn run<B, F>(
    workers: usize,
    drain: Duration,
    access: access::Settings,
    body: B,
) -> io::Result<()>
where
    B: FnOnce(Rc<Housekeeper>) -> F,
    F: Future<Output = io::Result<Finish>>,
{
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("keep")
        .build()?;
    let local = LocalSet::new();
    let outcome = local.block_on(&runtime, async move {
        let mut ends = Ends::watch()?;
        let housekeeper = Rc::new(Housekeeper::start(workers, drain, access)?);
        for (name, task) in [
            ("probe", Task::Probe),
            ("conduct", Task::Conduct),
            ("tick", Task::Tick),
        ] {
            let housekeeper = Rc::clone(&housekeeper);
            let tallies = Arc::clone(housekeeper.tallies());
            persist(name, &tallies, move || {
                Rc::clone(&housekeeper).perform(task)
            });
        }
        let outcome = match select(pin!(body(Rc::clone(&housekeeper))), pin!(ends.next())).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), _)) => Ok(Finish::Stop),
        };
        let finish = *outcome.as_ref().unwrap_or(&Finish::Stop);
        housekeeper.end(finish, drain, &mut ends).await;
        outcome.map(drop)
    });
    // A thread that still waits for the disk must not hold up the end.
    runtime.shutdown_background();
    outcome
}

impl Housekeeper {
    fn start(workers: usize, drain: Duration, access: access::Settings) -> io::Result<Self> {
        let boot = BootId::new(uuid::Builder::from_random_bytes(rand::random()).into_uuid());
        let mut plane = Plane::start_with(workers, drain, Some(access))?;
        let alarms = plane.alarms();
        let tallies = Arc::<Tallies>::default();
        Ok(Self {
            plane: RefCell::new(Some(plane)),
            probes: RefCell::default(),
            waiting: Cell::new(0),
            agenda_changed: Notify::new(),
            conduct_changed: Notify::new(),
            alarms: RefCell::new(alarms),
            turns: Turns::default(),
            peers: Rc::new(Peers::new(Arc::clone(&tallies))),
            news: Arc::default(),
            left: watch::Sender::new(false),
            clock: Clock::start(),
            boot,
            workers,
            tallies,
        })
    }

    async fn end(&self, finish: Finish, drain: Duration, ends: &mut Ends) {
        match finish {
            // First, so that clients are served until others have the addresses.
            Finish::Stop => {
                if let Either::Right(_) = select(pin!(self.turns.end()), pin!(ends.next())).await {
                    warn!("told to end again: addresses are not left to anybody");
                }
            }
            // The successor has them.
            Finish::HandOver(_) => self.turns.hand_over(),
        }
        self.peers.end(finish == Finish::Stop).await;
        let Some(plane) = self.plane.borrow_mut().take() else {
            return;
        };
        let ended = match finish {
            Finish::Stop => {
                info!(?drain, "ending: no new connections; those open may finish");
                Either::Left(plane.stop(drain))
            }
            Finish::HandOver(drain) => {
                self.left.send_replace(true);
                info!(
                    ?drain,
                    "handed over: the successor takes new connections; those open may finish"
                );
                Either::Right(plane.succeeded(drain))
            }
        };
        if let Either::Right(_) = select(pin!(ended), pin!(ends.next())).await {
            warn!("told to end again: open connections are cut");
        }
    }
}

/// The signals that ask this process to end.
struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Runs a task of the slow thread for as long as the process lives. One that breaks is a bug of ours; it is counted
/// and begun again, because traffic must not suffer for it.
pub(crate) fn persist<F>(name: &'static str, tallies: &Arc<Tallies>, task: impl Fn() -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let tallies = Arc::clone(tallies);
    tokio::task::spawn_local(async move {
        while let Err(broken) = tokio::task::spawn_local(task()).await {
            if !broken.is_panic() {
                return;
            }
            tallies.bugs.inc();
            error!(
                task = name,
                "a task broke and is begun again: this is a bug"
            );
            sleep(TICK).await;
        }
    });
}

/// Changes when a listener opens, fails, fills up or frees. Order must not matter: a new world lists its own.
fn listeners_digest(world: &World) -> u64 {
    world.listeners.iter().fold(0, |sum, (id, state)| {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        match state.serving() {
            ListenerState::Open => 0_u8.hash(&mut hasher),
            ListenerState::Full => 1_u8.hash(&mut hasher),
            ListenerState::Disabled => 2_u8.hash(&mut hasher),
            ListenerState::Failed { reason } => (3_u8, reason).hash(&mut hasher),
        }
        u64::wrapping_add(sum, hasher.finish())
    })
}

/// How often failed ports are tried again.
const TICK: Duration = Duration::from_secs(1);
