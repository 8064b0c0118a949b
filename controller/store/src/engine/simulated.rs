//! Many processes of a simulation that share one database in memory (D52).
//!
//! A statement blocks the thread that simulates: SQLite answers from a thread of its own, and nothing else may happen in
//! between, or no run would be like the one before. What happens on the way there and back is the simulation's to say.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use tokio::{sync::broadcast, task::unconstrained};

use crate::StoreError;

/// The way of one process to the database, and the database's own clock.
pub trait Passage: Send + Sync + 'static {
    /// The way there, ahead of a statement or a transaction. Nothing has happened yet when it fails.
    fn reach(&self, doing: &'static str) -> Crossing<'_>;
    /// Between two statements of a transaction, while all others wait. All of it is undone when this fails.
    fn within(&self, doing: &'static str) -> Crossing<'_>;
    /// The way back. It has happened when this fails.
    fn answer(&self, doing: &'static str) -> Crossing<'_>;
    /// The microseconds since the epoch as the database's clock shows them.
    fn now_us(&self) -> i64;
    /// Tells all processes something, sooner or later or never.
    fn announce(&self, news: &str);
    /// What this process is told; none means that something may have been missed.
    fn listen(&self) -> broadcast::Receiver<Option<Arc<str>>>;
}

/// One way, which takes its time and may lead nowhere.
pub type Crossing<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// Runs a statement: as one of a transaction if `framed`.
pub(super) async fn carry<T>(
    passage: Option<Arc<dyn Passage>>,
    framed: Framed,
    doing: &'static str,
    statement: impl Future<Output = T>,
) -> Result<T, StoreError> {
    let Some(passage) = passage else {
        return Ok(statement.await);
    };
    if framed == Framed::No {
        return Ok(at_once(statement));
    }
    passage.within(doing).await?;
    let done = at_once(statement);
    passage.within(doing).await?;
    Ok(done)
}

/// Whether a statement is one of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    Yes,
    No,
}

/// Waits for a statement without letting anything else happen.
pub(super) fn at_once<T>(statement: impl Future<Output = T>) -> T {
    let mut statement = pin!(unconstrained(statement));
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match statement.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
