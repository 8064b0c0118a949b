//! One core: its runtime, its sockets, its inbox.
//!
//! A worker is an OS thread with a single-threaded runtime; all it has is its own (`Rc`, `Cell`). What it shares with
//! the other threads is listed in the architecture: the world, rosters inside it, meters, limits and loads, and the
//! inbox that the housekeeper writes to.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use hashbrown::HashMap;
use krater_amphora_api::ListenerId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    http::upstream::Upstreams,
    meter::ListenerLane,
    world::{ListenerState, World},
};

mod accept;
mod roll;

use accept::Door;
pub(crate) use accept::Guest;
pub(crate) use roll::Ending;
use roll::{Roll, Ticket};

/// What the housekeeper may ask of a worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept on this socket, for that listener. The state comes along, since by the time the order is read the world
    /// may have lost the listener, and who waits at the socket is to be served all the same.
    Adopt {
        address: SocketAddr,
        state: Arc<ListenerState>,
        socket: TcpListener,
    },
    /// What is accepted at that address belongs to another listener from now on.
    Reassign {
        address: SocketAddr,
        state: Arc<ListenerState>,
    },
    /// Serve who already waits at that address, close its socket, then say so.
    Close {
        address: SocketAddr,
        closed: blocking::Sender<()>,
    },
    /// The listener is gone: its connections have until the drain timeout.
    Retire { listener: ListenerId },
    /// The world has changed: let go of what is no longer in it.
    Tidy,
    /// Close every socket, drain every connection for at most that long, then end.
    Stop { grace: Duration },
}

/// The housekeeper's end of a worker. Dropping it ends the worker at once, with all its connections.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    // Unbounded, since it is written to by applies alone, and what one apply may open or close is bounded.
    inbox: Option<mpsc::UnboundedSender<Order>>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What all workers share, but for the world itself.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) world: Arc<ArcSwap<World>>,
    /// Connections that ended in a panic.
    pub(crate) bugs: Arc<AtomicU64>,
    /// Times accepting had to pause for want of descriptors or memory.
    pub(crate) exhaustions: Arc<AtomicU64>,
    /// How long connections of a deleted listener may go on.
    pub(crate) drain: Duration,
}

impl WorkerHandle {
    /// Starts the thread of one worker; `cpu` pins it.
    pub(crate) fn start(index: usize, cpu: Option<usize>, common: Common) -> io::Result<Self> {
        let (inbox, orders) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                run(index, runtime, common, orders);
                // Nobody listens any more if the plane was dropped rather than stopped.
                let _ = end.send(());
            })?;
        Ok(Self {
            inbox: Some(inbox),
            ended: Some(ended),
            thread: Some(thread),
        })
    }

    /// Leaves an order in the inbox. A worker that has died takes none.
    pub(crate) fn order(&self, order: Order) {
        if let Some(inbox) = &self.inbox
            && inbox.send(order).is_err()
        {
            tracing::error!("a worker has ended and takes no more orders");
        }
    }

    /// Waits until the worker has ended.
    pub(crate) async fn ended(&mut self) {
        if let Some(ended) = self.ended.take() {
            // An error means that the worker ended without saying so.
            let _ = ended.await;
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        drop(self.inbox.take());
        if let Some(thread) = self.thread.take() {
            // A worker's panic was reported by the panic hook when it happened.
            let _ = thread.join();
        }
    }
}

/// One core's state, shared by all its tasks.
pub(crate) struct Worker {
    /// Its lane in every meter.
    pub(crate) index: usize,
    /// Where bytes rest between a read and a write: one for all connections, so that idle ones hold none.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Connections to members that wait for another request.
    pub(crate) upstreams: Upstreams,
    common: Common,
    world: RefCell<Cache<Arc<ArcSwap<World>>, Arc<World>>>,
    /// Address of the world that `seats` was filled from. Compared, never followed.
    seen: Cell<*const World>,
    epoch: Cell<u64>,
    seats: RefCell<HashMap<ListenerId, Rc<Seat>>>,
    doors: RefCell<HashMap<SocketAddr, Rc<Door>>>,
    rolls: RefCell<HashMap<ListenerId, Rc<Roll>>>,
}

/// A listener as one worker holds it: counting references to it touches no shared cache line.
pub(crate) struct Seat {
    pub(crate) state: Arc<ListenerState>,
    worker: usize,
}

impl Seat {
    /// The meters of the listener, of this worker.
    pub(crate) fn lane(&self) -> &ListenerLane {
        self.state.shared.meter.of(self.worker)
    }
}

impl Worker {
    fn new(index: usize, common: Common) -> Rc<Self> {
        let world = Cache::new(Arc::clone(&common.world));
        Rc::new(Self {
            index,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            upstreams: Upstreams::default(),
            common,
            world: RefCell::new(world),
            seen: Cell::new(std::ptr::null()),
            epoch: Cell::new(0),
            seats: RefCell::default(),
            doors: RefCell::default(),
            rolls: RefCell::default(),
        })
    }

    /// Changes whenever the world has changed: what was looked up under the same epoch is still current.
    pub(crate) fn epoch(&self) -> u64 {
        let mut cache = self.world.borrow_mut();
        let world = Arc::as_ptr(cache.load());
        if world != self.seen.get() {
            // The cache keeps the world that was seen until it loads another, so no two have the same address.
            self.seen.set(world);
            self.epoch.set(self.epoch.get() + 1);
            self.seats.borrow_mut().clear();
        }
        self.epoch.get()
    }

    /// The listener as it is in the current world.
    pub(crate) fn seat(&self, listener: ListenerId) -> Option<Rc<Seat>> {
        self.epoch();
        if let Some(seat) = self.seats.borrow().get(&listener) {
            return Some(Rc::clone(seat));
        }
        let state = Arc::clone(self.world.borrow_mut().load().listeners.get(&listener)?);
        let seat = self.seat_of(state);
        self.seats.borrow_mut().insert(listener, Rc::clone(&seat));
        Some(seat)
    }

    fn seat_of(&self, state: Arc<ListenerState>) -> Rc<Seat> {
        Rc::new(Seat {
            state,
            worker: self.index,
        })
    }

    fn roll(&self, listener: ListenerId) -> Rc<Roll> {
        Rc::clone(self.rolls.borrow_mut().entry(listener).or_default())
    }

    fn handle_order(self: &Rc<Self>, order: Order) {
        match order {
            Order::Adopt {
                address,
                state,
                socket,
            } => match Door::open(self, self.seat_of(state), socket) {
                Ok(door) => {
                    self.doors.borrow_mut().insert(address, door);
                }
                Err(error) => {
                    tracing::error!(%address, %error, "a worker cannot accept on a socket")
                }
            },
            Order::Reassign { address, state } => {
                if let Some(door) = self.doors.borrow().get(&address) {
                    door.reassign(self.seat_of(state));
                }
            }
            Order::Close { address, closed } => {
                if let Some(door) = self.doors.borrow_mut().remove(&address) {
                    door.close(Some(closed));
                }
            }
            Order::Retire { listener } => self.retire(listener),
            Order::Tidy => {
                self.epoch();
                let world = Arc::clone(self.world.borrow_mut().load());
                self.upstreams.retain(&world);
            }
            Order::Stop { .. } => {}
        }
    }

    /// Gives the connections of a listener that is gone until the drain timeout.
    fn retire(&self, listener: ListenerId) {
        if let Some(roll) = self.rolls.borrow_mut().remove(&listener) {
            spawn_local(drain(roll, Instant::now() + self.common.drain));
        }
    }

    async fn stop(self: Rc<Self>, grace: Duration) {
        let deadline = Instant::now() + grace;
        let doors = self.doors.take();
        for door in doors.values() {
            door.close(None);
        }
        for door in doors.values() {
            door.shut().await;
        }
        let rolls: Vec<_> = self.rolls.take().into_values().collect();
        for roll in &rolls {
            roll.end(Ending::Graceful);
        }
        for roll in rolls {
            drain(roll, deadline).await;
        }
    }
}

/// Asks the connections of a listener to end, waits for them until `deadline`, then makes them.
async fn drain(roll: Rc<Roll>, deadline: Instant) {
    roll.end(Ending::Graceful);
    if timeout_at(deadline, roll.emptied()).await.is_err() {
        roll.end(Ending::Now);
        roll.emptied().await;
    }
}

fn run(
    index: usize,
    mut builder: Builder,
    common: Common,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let runtime = match builder
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(index, %error, "a worker cannot start");
            return;
        }
    };
    runtime.block_on(async move {
        let worker = Worker::new(index, common);
        spawn_local(sweep(Rc::clone(&worker)));
        while let Some(order) = orders.recv().await {
            match order {
                Order::Stop { grace } => return Rc::clone(&worker).stop(grace).await,
                order => worker.handle_order(order),
            }
        }
    });
}

/// Closes idle connections to members that have grown old.
async fn sweep(worker: Rc<Worker>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        worker.upstreams.expire(std::time::Instant::now());
    }
}

/// Waits until `deadline`; a pause that a door takes when descriptors have run out.
async fn pause() {
    sleep_until(Instant::now() + EXHAUSTION_PAUSE).await;
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::debug!(cpu, %error, "a worker cannot be pinned");
    }
}

/// The processors that workers are pinned to: one each, or none if their numbers differ, since then the scheduler
/// knows better.
pub(crate) fn processors(workers: usize) -> Vec<Option<usize>> {
    let allowed: Vec<_> = sched_getaffinity(None)
        .map(|set| {
            (0..CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .collect()
        })
        .unwrap_or_default();
    if allowed.len() == workers {
        allowed.into_iter().map(Some).collect()
    } else {
        vec![None; workers]
    }
}

impl Common {
    fn count_bug(&self) {
        self.bugs.fetch_add(1, Ordering::Relaxed);
    }
}

/// One read takes at most this much: enough that a fast stream costs few calls, small enough to stay in cache.
const SCRATCH_BYTES: usize = 64 * 1024;

/// How often old idle connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Descriptors come back when connections end; asking again at once would only burn the core.
const EXHAUSTION_PAUSE: Duration = Duration::from_millis(50);
