//! Callers that want to know the same wait for one answer.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

/// Answers on their way, by what was asked.
pub(crate) struct Flights<K: Eq + Hash + Clone, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K: Eq + Hash + Clone, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// The answer that is on its way, or `ask`'s. When whoever asked gives up, the next of those who wait asks.
    pub(crate) async fn join(&self, key: K, ask: impl AsyncFnOnce() -> V) -> V {
        let cell = Arc::clone(self.lock().entry(key.clone()).or_default());
        let seat = Seat {
            flights: self,
            key,
            cell,
        };
        seat.cell.get_or_init(|| ask()).await.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits; whoever leaves an answered or an empty flight takes it away.
struct Seat<'a, K: Eq + Hash + Clone, V> {
    flights: &'a Flights<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Eq + Hash + Clone, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The map holds one, this seat another: more means that others wait still.
        let alone = Arc::strong_count(&self.cell) <= 2;
        if let Entry::Occupied(found) = flights.entry(self.key.clone())
            && Arc::ptr_eq(found.get(), &self.cell)
            && (self.cell.initialized() || alone)
        {
            found.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_at_once_share_an_answer_and_those_after_do_not() {
        let flights = Flights::<u8, usize>::default();
        let asked = AtomicUsize::new(0);
        let gate = Notify::new();
        let ask = async || {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            gate.notified().await;
            number
        };
        let (first, second, other, ()) = tokio::join!(
            flights.join(1, ask),
            flights.join(1, ask),
            flights.join(2, ask),
            async {
                tokio::task::yield_now().await;
                gate.notify_one();
                gate.notify_waiters();
                gate.notify_one();
            }
        );
        assert_eq!((first, second, other), (0, 0, 1));
        assert!(flights.lock().is_empty());
        gate.notify_one();
        assert_eq!(flights.join(1, ask).await, 2);
    }

    #[tokio::test]
    async fn one_who_gives_up_leaves_the_question_to_the_next() {
        let flights = Flights::<u8, &str>::default();
        let mut first = Box::pin(flights.join(1, async || std::future::pending().await));
        let mut second = Box::pin(flights.join(1, async || "answered"));
        tokio::select! {
            biased;
            _ = &mut first => unreachable!(),
            _ = &mut second => unreachable!(),
            () = std::future::ready(()) => {}
        }
        drop(first);
        assert_eq!(second.await, "answered");
        assert!(flights.lock().is_empty());
        let mut lost = Box::pin(flights.join(1, async || std::future::pending().await));
        tokio::select! {
            biased;
            _ = &mut lost => unreachable!(),
            () = std::future::ready(()) => {}
        }
        drop(lost);
        assert!(flights.lock().is_empty());
    }
}
