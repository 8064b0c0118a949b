//! One run of a controller's process: its clock, its chance, its tasks; it can be frozen, and it can be killed at any
//! await.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use jiff::Timestamp;
use krater_controller::realm::{self, Realm};
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Duration, Instant},
};

use crate::dice::Dice;

/// The clock of a machine. Others may step it.
pub(crate) struct Clock {
    began: Instant,
    offset_us: Mutex<i64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            offset_us: Mutex::new(0),
        }
    }

    pub(crate) fn now_us(&self) -> i64 {
        EPOCH_US + self.began.elapsed().as_micros() as i64 + *self.offset_us.lock().unwrap()
    }

    pub(crate) fn step(&self, by: Duration, sign: i64) {
        *self.offset_us.lock().unwrap() += sign * by.as_micros() as i64;
    }

    /// Somebody sets it right.
    pub(crate) fn set_right(&self) {
        *self.offset_us.lock().unwrap() = 0;
    }
}

/// The beginning of all runs: the first moment of 2026.
const EPOCH_US: i64 = 1_767_225_600_000_000;

/// A process.
pub(crate) struct Host {
    clock: Arc<Clock>,
    dice: Mutex<Dice>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tasks: Vec<AbortHandle>,
    is_frozen: bool,
    is_dead: bool,
    /// How many hold a transaction open.
    holding: u32,
    waiting: Vec<Waker>,
}

impl Host {
    pub(crate) fn boot(clock: Arc<Clock>, dice: Dice) -> Arc<Self> {
        Arc::new(Self {
            clock,
            dice: Mutex::new(dice),
            state: Mutex::default(),
        })
    }

    /// Ends it: nothing of it goes on from here.
    pub(crate) fn kill(&self) {
        let tasks = {
            let mut state = self.state();
            state.is_dead = true;
            std::mem::take(&mut state.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Stops it where it is (SIGSTOP), unless it holds a transaction open: one database connection is all there is here,
    /// and everybody would stand still.
    pub(crate) fn freeze(&self) -> bool {
        let mut state = self.state();
        state.is_frozen = state.holding == 0;
        state.is_frozen
    }

    /// A transaction is held open as long as this lives.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.state().holding += 1;
        Held(self)
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn thaw(&self) {
        let waiting = {
            let mut state = self.state();
            state.is_frozen = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Does something in the process. None if the process ends before.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.is_dead() {
            return None;
        }
        let (done, outcome) = oneshot::channel();
        let realm: Arc<dyn Realm> = self.clone();
        realm::begin(realm, async move {
            // Whoever asked may have left.
            let _ = done.send(future.await);
        });
        outcome.await.ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// See [`Host::hold`].
pub(crate) struct Held<'a>(&'a Host);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.state().holding -= 1;
    }
}

impl Realm for Host {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.clock.now_us()).unwrap()
    }

    fn random(&self) -> [u8; 16] {
        self.dice.lock().unwrap().bytes()
    }

    fn adopt(&self, task: AbortHandle) {
        let mut state = self.state();
        if state.is_dead {
            drop(state);
            task.abort();
            return;
        }
        if state.tasks.len() >= TASKS_KEPT {
            state.tasks.retain(|task| !task.is_finished());
        }
        state.tasks.push(task);
    }

    fn poll_awake(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_dead {
            return Poll::Pending;
        }
        if state.is_frozen {
            state.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// Handles of tasks that are kept though they may have ended.
const TASKS_KEPT: usize = 256;
