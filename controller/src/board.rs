//! A value that many look at and wait for. Those who wait are woken in the order they came in: tokio's `watch` draws
//! lots, so that no run of a simulation would be like the one before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The value, and those who wait for it to change.
pub(crate) struct Board<T> {
    value: Mutex<T>,
    changed: Arc<Notify>,
}

impl<T> Board<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Arc::default(),
        }
    }

    /// Looks at the value.
    pub(crate) fn look<U>(&self, look: impl FnOnce(&T) -> U) -> U {
        look(&self.lock())
    }

    /// Changes the value; wakes all who wait if the change says that it is news.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let is_news = change(&mut self.lock());
        if is_news {
            self.changed.notify_waiters();
        }
    }

    /// Returns when the value is as it is waited for.
    pub(crate) async fn wait_for(&self, is_so: impl Fn(&T) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.look(&is_so) {
                return;
            }
            changed.await;
        }
    }

    /// Returns at the first change after it was asked for.
    pub(crate) fn next(&self) -> impl Future<Output = ()> + Send + use<T> {
        Arc::clone(&self.changed).notified_owned()
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
