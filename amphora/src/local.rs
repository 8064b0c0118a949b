//! What one worker has of its own, shared by the tasks of its connections.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashSet};
use krater_amphora_api::{ListenerId, LoadBalancerId};
use tokio::{
    task::spawn_local,
    time::{Instant, timeout_at},
};

use crate::{
    access::AccessLog,
    channel::Buffers,
    date::Date,
    limits::{IDLE_UPSTREAMS_MAX, SCRATCH_BYTES, SESSIONS_MAX},
    meter::ThreadMeter,
    seat::{Seat, Seats},
    upstream::Upstreams,
    world::{Balancer, Leave, ListenerState, World},
};

mod guest;
mod roll;

pub(crate) use guest::Guest;
use roll::Roll;
pub(crate) use roll::{Ending, Ticket};

/// One core's state. Nothing in it is seen by another thread, but for what is [`Common`].
pub(crate) struct Local {
    /// Its lane in every meter.
    pub(crate) index: usize,
    /// Where bytes rest between a read and a write: one for all connections, so that idle ones hold none.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// What connections that speak HTTP/1 share.
    pub(crate) buffers: Rc<Buffers>,
    /// What answers say is the date.
    pub(crate) date: Date,
    /// Connections to members that wait for another request.
    pub(crate) upstreams: Upstreams,
    common: Common,
    seats: RefCell<Seats>,
    rolls: RefCell<HashMap<ListenerId, Rc<Roll>>>,
}

/// What all threads of the data path share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) world: Arc<ArcSwap<World>>,
    /// Connections that ended in a panic.
    pub(crate) bugs: Arc<AtomicU64>,
    /// Times accepting had to pause for want of descriptors or memory.
    pub(crate) exhaustions: Arc<AtomicU64>,
    /// Listeners whose congestion control the system refuses.
    pub(crate) congestion_refused: Arc<AtomicU64>,
    /// Where records of what was served go.
    pub(crate) access: AccessLog,
    /// What each thread has to do: the lanes of workers, then those of threads that carry streams.
    pub(crate) threads: Arc<ThreadMeter>,
    /// Descriptors from this number on are not for connections.
    pub(crate) descriptors_max: i32,
    /// UDP sessions of one thread.
    pub(crate) sessions_max: usize,
    /// How long connections of a deleted listener may go on.
    pub(crate) drain: Duration,
    /// Whether the system lets this process tell clients that nobody takes their datagrams.
    pub(crate) may_tell: bool,
}

impl Local {
    /// That of the worker of that index, with no connection yet.
    pub(crate) fn new(index: usize, common: Common) -> Rc<Self> {
        let pen = common.access.pen(index);
        let seats = Seats::new(Arc::clone(&common.world), index, pen);
        Rc::new(Self {
            index,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            buffers: Buffers::new(),
            date: Date::new(),
            upstreams: Upstreams::new(IDLE_UPSTREAMS_MAX),
            common,
            seats: RefCell::new(seats),
            rolls: RefCell::default(),
        })
    }

    /// Changes whenever the world has changed: what was looked up under the same epoch is still current.
    pub(crate) fn epoch(&self) -> u64 {
        self.seats.borrow_mut().epoch()
    }

    /// The listener as it is in the current world.
    pub(crate) fn seat(&self, listener: ListenerId) -> Option<Rc<Seat>> {
        self.seats.borrow_mut().find(listener)
    }

    /// A load balancer as it is in the current world.
    pub(crate) fn balancer(&self, id: LoadBalancerId) -> Option<Arc<Balancer>> {
        let mut seats = self.seats.borrow_mut();
        seats.world().balancers.get(&id).cloned()
    }

    /// A listener that the current world may no longer have.
    pub(crate) fn seat_of(&self, state: Arc<ListenerState>) -> Rc<Seat> {
        self.seats.borrow().seat_of(state)
    }

    /// Lets go of the world before, and of idle connections to members that are gone with it.
    pub(crate) fn tidy(&self, gone: &HashSet<u64>) {
        self.epoch();
        self.upstreams.let_go(gone);
    }

    /// Gives the connections of a listener that is gone until the drain timeout.
    pub(crate) fn retire(&self, listener: ListenerId, leave: Leave) {
        if let Some(roll) = self.rolls.borrow_mut().remove(&listener) {
            let (idle_until, deadline) = deadlines(self.common.drain, leave);
            spawn_local(async move {
                // Each request is answered with the word that it is the last.
                let _ = timeout_at(idle_until, roll.emptied()).await;
                roll.drain(deadline).await;
            });
        }
    }

    /// Ends the requests of members whose time is up, and lets go of their idle connections.
    pub(crate) fn cut(&self, members: &HashSet<u64>) {
        for roll in self.rolls.borrow().values() {
            roll.cut(members);
        }
        self.upstreams.let_go(members);
    }

    /// Gives all connections that time, and returns when there is none left.
    pub(crate) async fn drain(&self, grace: Duration, leave: Leave) {
        let (idle_until, deadline) = deadlines(grace, leave);
        let rolls: Vec<_> = self.rolls.take().into_values().collect();
        let _ = timeout_at(idle_until, async {
            for roll in &rolls {
                roll.emptied().await;
            }
        })
        .await;
        for roll in &rolls {
            roll.end(Ending::Graceful);
        }
        for roll in rolls {
            roll.drain(deadline).await;
        }
    }

    /// Descriptors from this number on are not for connections.
    pub(crate) const fn descriptors_max(&self) -> i32 {
        self.common.descriptors_max
    }

    /// Notes that accepting had to pause.
    pub(crate) fn count_exhaustion(&self) {
        self.common.count_exhaustion();
    }

    fn roll(&self, listener: ListenerId) -> Rc<Roll> {
        Rc::clone(self.rolls.borrow_mut().entry(listener).or_default())
    }
}

/// Until when connections of what is left go on that nothing is asked over, and until when all others. Where another
/// process serves, who asks just then must not meet the end of the connection: each has time for a last request.
fn deadlines(drain: Duration, leave: Leave) -> (Instant, Instant) {
    let now = Instant::now();
    let idle_until = match leave {
        Leave::Gone => now,
        Leave::Moved => now + drain / 2,
    };
    (idle_until, now + drain)
}

impl Common {
    /// For so many cores, without bounds; nothing has happened yet.
    pub(crate) fn new(cores: usize, drain: Duration) -> Self {
        Self {
            world: Arc::new(ArcSwap::from_pointee(World::default())),
            bugs: Arc::default(),
            exhaustions: Arc::default(),
            congestion_refused: Arc::default(),
            access: AccessLog::default(),
            threads: Arc::new(ThreadMeter::new(2 * cores)),
            descriptors_max: i32::MAX,
            sessions_max: SESSIONS_MAX,
            drain,
            may_tell: false,
        }
    }

    /// Notes that a connection ended in a panic.
    pub(crate) fn count_bug(&self) {
        self.bugs.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that accepting had to pause.
    pub(crate) fn count_exhaustion(&self) {
        self.exhaustions.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
