//! One core: its runtime, its sockets, its inbox.
//!
//! A worker is an OS thread with a single-threaded runtime; all it has is its own (`Rc`, `Cell`). What it shares with
//! the other threads is listed in the architecture: the world, rosters inside it, meters, limits and loads, and the
//! inbox that the housekeeper writes to.

use std::{io, pin::pin, rc::Rc, sync::atomic::Ordering::Relaxed, thread, time::Duration};

use hashbrown::HashMap;
use krater_amphora_core::transition::Place;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::sleep,
};

use crate::{
    listen::Listening,
    local::{Common, Local},
    order::Order,
    world::Leave,
};

mod accept;

use accept::Door;

/// The housekeeper's end of a worker. Dropping it ends the worker at once, with all its connections.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    // Unbounded, since it is written to by applies alone, and what one apply may open or close is bounded.
    inbox: Option<mpsc::UnboundedSender<Order>>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<thread::JoinHandle<()>>,
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

/// What runs in the thread: the sockets of one core, and what their connections share.
struct Worker {
    local: Rc<Local>,
    doors: HashMap<Place, Rc<Door>>,
}

impl Worker {
    fn new(index: usize, common: Common) -> Self {
        Self {
            local: Local::new(index, common),
            doors: HashMap::new(),
        }
    }

    fn handle_order(&mut self, order: Order) {
        match order {
            Order::Adopt {
                place,
                state,
                socket: Listening::Streams(socket),
            } => match Door::open(&self.local, self.local.seat_of(state), socket) {
                Ok(door) => {
                    self.doors.insert(place, door);
                }
                Err(error) => {
                    tracing::error!(%place, %error, "a worker cannot accept on a socket")
                }
            },
            // Not for a thread that carries HTTP.
            Order::Adopt {
                socket: Listening::Datagrams(_),
                ..
            } => {}
            Order::Reassign { place, state } => {
                if let Some(door) = self.doors.get(&place) {
                    door.reassign(self.local.seat_of(state));
                }
            }
            Order::Release { place } => {
                if let Some(door) = self.doors.remove(&place) {
                    door.release();
                }
            }
            Order::Close { place, closed } => {
                if let Some(door) = self.doors.remove(&place) {
                    door.close(Some(closed));
                }
            }
            Order::Deafen { place } => {
                if let Some(door) = self.doors.get(&place) {
                    door.deafen();
                }
            }
            Order::Retire { listener, leave } => self.local.retire(listener, leave),
            Order::Cut { members } => self.local.cut(&members),
            Order::Answer { count } => {
                count.fetch_add(1, Relaxed);
            }
            Order::Tidy { gone } => self.local.tidy(&gone),
            Order::Stop { .. } => {}
        }
    }

    async fn stop(self, grace: Duration, leave: Leave) {
        for door in self.doors.values() {
            door.close(None);
        }
        for door in self.doors.values() {
            door.shut().await;
        }
        self.local.drain(grace, leave).await;
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
        // For metrics that are told to tenants, one after the other.
        .max_blocking_threads(1)
        .build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(index, %error, "a worker cannot start");
            return;
        }
    };
    runtime.block_on(async move {
        let mut worker = Worker::new(index, common);
        spawn_local(sweep(Rc::clone(&worker.local)));
        while let Some(order) = orders.recv().await {
            match order {
                Order::Stop { grace, leave } => {
                    // Nothing follows that order but the end of whoever gave it: then nobody is to be waited for.
                    let mut dropped = pin!(async { while orders.recv().await.is_some() {} });
                    let mut stopped = pin!(worker.stop(grace, leave));
                    tokio::select! {
                        () = &mut stopped => {}
                        () = &mut dropped => {}
                    }
                    return;
                }
                order => worker.handle_order(order),
            }
        }
    });
}

/// Closes idle connections to members that have grown old.
async fn sweep(local: Rc<Local>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        local.upstreams.expire(std::time::Instant::now());
    }
}

pub(crate) fn pin(cpu: usize) {
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

/// How often old idle connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
