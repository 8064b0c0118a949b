//! Whose turn it is to change a load balancer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use krater_amphora_api::LoadBalancerId;
use tokio::sync::OwnedMutexGuard;

/// The queues: changes of one load balancer wait for each other here, so that they seldom race in
/// the store. Correctness does not depend on it.
#[derive(Default)]
pub(super) struct Turns(pub(super) Mutex<HashMap<LoadBalancerId, Arc<tokio::sync::Mutex<()>>>>);

/// A turn; the last one takes the queue away.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: LoadBalancerId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// The turn if nobody has it.
    pub(super) fn take_free(&self, id: LoadBalancerId) -> Option<Turn<'_>> {
        let guard = self.queue(id).try_lock_owned().ok()?;
        Some(Turn {
            turns: self,
            id,
            guard: Some(guard),
        })
    }

    /// The turn, when it comes.
    pub(super) async fn take(&self, id: LoadBalancerId) -> Turn<'_> {
        // There before it is waited for: whoever gives up waiting takes the queue away too, if nobody else needs it.
        let mut turn = Turn {
            turns: self,
            id,
            guard: None,
        };
        turn.guard = Some(self.queue(id).lock_owned().await);
        turn
    }

    fn queue(&self, id: LoadBalancerId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(id)
                .or_default(),
        )
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut queues = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds the queue too.
        if queues
            .get(&self.id)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn whoever_gives_up_waiting_leaves_no_queue_behind() {
        let (turns, id) = (Turns::default(), LoadBalancerId::new(Uuid::nil()));
        let first = turns.take(id).await;
        let mut second = Box::pin(turns.take(id));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(second.as_mut().poll(&mut context), Poll::Pending));
        // It has the turn now and does not come for it.
        drop(first);
        drop(second);
        assert!(turns.0.lock().unwrap().is_empty());
        drop(turns.take_free(id).unwrap());
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
