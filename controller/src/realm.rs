//! What a controller lives in: its clock, its chance and its tasks. That of the system, unless a simulation gives it
//! another one (D52).
//!
//! A realm goes with tasks, not with threads: many controllers run in one thread of a simulation, each with a clock of
//! its own. A task that is begun inside a realm belongs to it, so whoever begins one here does so by [`spawn`].

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use jiff::Timestamp;
use tokio::task::{AbortHandle, JoinHandle};

/// A clock, a source of chance, and those who have to end when it does.
pub trait Realm: Send + Sync + 'static {
    /// The present, as the clock of the wall shows it there.
    fn now(&self) -> Timestamp;
    /// Random bytes.
    fn random(&self) -> [u8; 16];
    /// Takes note of a task that ends with the realm.
    fn adopt(&self, task: AbortHandle);
    /// Whether its tasks may run; if not, whoever waits is woken when they may.
    fn poll_awake(&self, context: &mut Context<'_>) -> Poll<()>;
}

tokio::task_local! {
    static REALM: Arc<dyn Realm>;
}

/// Begins a task in the realm of the one that begins it.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match present() {
        None => tokio::spawn(future),
        Some(realm) => begin(realm, future),
    }
}

/// Begins a task in a realm.
pub fn begin<F>(realm: Arc<dyn Realm>, future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let task = tokio::spawn(within(&realm, future));
    realm.adopt(task.abort_handle());
    task
}

/// The future, in the realm of whoever asks for this.
pub(crate) async fn inherit<F: Future>(realm: Option<Arc<dyn Realm>>, future: F) -> F::Output {
    match realm {
        None => future.await,
        Some(realm) => within(&realm, future).await,
    }
}

/// The realm of the task that runs, if that is not the system's.
pub(crate) fn present() -> Option<Arc<dyn Realm>> {
    REALM.try_with(Arc::clone).ok()
}

/// Asks the realm of the task that runs, if that is not the system's.
pub(crate) fn ask<T>(question: impl FnOnce(&dyn Realm) -> T) -> Option<T> {
    REALM.try_with(|realm| question(&**realm)).ok()
}

fn within<F: Future>(
    realm: &Arc<dyn Realm>,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    let future = Box::pin(Inside {
        realm: Arc::clone(realm),
        future: Box::pin(future),
    });
    REALM.scope(Arc::clone(realm), future)
}

/// Runs as its realm lets it.
struct Inside<F> {
    realm: Arc<dyn Realm>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Inside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        std::task::ready!(self.realm.poll_awake(context));
        self.future.as_mut().poll(context)
    }
}

/// What a simulation may leave out of a controller, to see that somebody notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Omission {
    /// Nothing.
    #[default]
    Nothing,
    /// It never looks for what is due.
    Sweep,
    /// Of two amphorae that take turns none waits for the other one.
    Turns,
}
