//! The connection limit of a listener, shared by all workers.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// How many connections a listener may serve at once, and how many it does.
///
/// At the limit a worker stops accepting, so that further clients wait in the kernel's backlog (reference 19.2), and
/// goes on when a connection of any worker has ended.
#[derive(Debug)]
pub struct ConnectionLimit {
    limit: AtomicU32,
    used: AtomicU32,
    freed: Notify,
}

impl ConnectionLimit {
    /// Nothing is in use.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
            freed: Notify::new(),
        }
    }

    /// Whether one more connection would have to wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. Connections beyond a lower one go on.
    pub(crate) fn set(&self, limit: u32) {
        if self.limit.swap(limit, Ordering::AcqRel) < limit {
            self.freed.notify_waiters();
        }
    }

    /// Takes a place, if there is one. Each must be given back by [`ConnectionLimit::release`].
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < limit).then(|| used + 1)
            })
            .is_ok()
    }

    /// Gives a place back.
    pub(crate) fn release(&self) {
        let used = self.used.fetch_sub(1, Ordering::AcqRel);
        // Only a release at or above the limit can be what somebody waits for. A waiter registers before it tries to
        // take, so either its try sees this place or this call sees the waiter.
        if used >= self.limit.load(Ordering::Acquire) {
            self.freed.notify_waiters();
        }
    }

    /// Waits for a place and takes it.
    pub(crate) async fn take_when_free(&self) {
        while !self.take() {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.take() {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_more_places_are_given_than_there_are() {
        let limit = ConnectionLimit::new(2);
        assert!(limit.take() && limit.take());
        assert!(limit.is_full() && !limit.take());
        limit.release();
        assert!(limit.take());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_a_place_is_released_or_the_limit_raised() {
        let limit = Arc::new(ConnectionLimit::new(1));
        assert!(limit.take());
        for round in 0..2 {
            let waiter = Arc::clone(&limit);
            let waiting = tokio::spawn(async move { waiter.take_when_free().await });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            if round == 0 {
                limit.release()
            } else {
                limit.set(2)
            }
            waiting.await.unwrap();
        }
        assert!(limit.is_full());
    }
}
