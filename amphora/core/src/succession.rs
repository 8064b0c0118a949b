//! Which generation of a load balancer may follow which (I8).

use alloc::collections::{BTreeMap, VecDeque};

use krater_amphora_api::{Generation, LoadBalancerId};

/// What is held, compared with what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// An older generation.
    Older,
    /// The very same.
    Same,
}

/// What was sent is older than what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// The generation that is known.
    pub held: Generation,
    /// Whether it is the one as of which the load balancer was deleted.
    pub deleted: bool,
}

/// Whether the generation `sent` may take the place of the one that is `held`, or come back after the one that is
/// `buried`.
///
/// # Errors
/// [`Stale`] when it is the older one.
pub fn follow(
    held: Option<Generation>,
    buried: Option<Generation>,
    sent: Generation,
) -> Result<Held, Stale> {
    match (held, buried) {
        (Some(held), _) if held > sent => Err(Stale {
            held,
            deleted: false,
        }),
        (Some(held), _) if held == sent => Ok(Held::Same),
        (Some(_), _) => Ok(Held::Older),
        (None, Some(held)) if held > sent => Err(Stale {
            held,
            deleted: true,
        }),
        (None, _) => Ok(Held::Nothing),
    }
}

/// The last generations of what was deleted, oldest first: a push that was overtaken by the delete must not bring a
/// load balancer back.
#[derive(Debug, Default)]
pub struct Tombstones {
    generations: BTreeMap<LoadBalancerId, Generation>,
    order: VecDeque<LoadBalancerId>,
}

impl Tombstones {
    /// Remembers as of when a load balancer was deleted; of more than `most` the oldest is forgotten.
    pub fn remember(&mut self, id: LoadBalancerId, generation: Generation, most: usize) {
        if self.generations.insert(id, generation).is_some() {
            return;
        }
        self.order.push_back(id);
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.generations.remove(&oldest);
            }
        }
    }

    /// Forgets one that came back.
    pub fn forget(&mut self, id: LoadBalancerId) {
        if self.generations.remove(&id).is_some() {
            self.order.retain(|other| *other != id);
        }
    }

    /// As of when it was deleted.
    #[must_use]
    pub fn generation(&self, id: LoadBalancerId) -> Option<Generation> {
        self.generations.get(&id).copied()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn tombstones_are_bounded_and_the_oldest_go_first() {
        let mut tombstones = Tombstones::default();
        let id = |number: usize| LoadBalancerId::new(Uuid::from_u128(number as u128));
        for number in 0..=8 {
            tombstones.remember(id(number), Generation::FIRST, 8);
        }
        assert_eq!(tombstones.generation(id(0)), None);
        assert_eq!(tombstones.generation(id(1)), Some(Generation::FIRST));
        assert_eq!(tombstones.order.len(), 8);
        tombstones.forget(id(1));
        assert_eq!(tombstones.order.len(), 7);
    }

    #[test]
    fn only_what_is_older_than_what_is_known_is_stale() {
        let first = Generation::FIRST;
        let (second, third) = (first.next(), first.next().next());
        let stale = |held, deleted| Err(Stale { held, deleted });
        assert_eq!(follow(None, None, first), Ok(Held::Nothing));
        assert_eq!(follow(Some(first), None, second), Ok(Held::Older));
        assert_eq!(follow(Some(second), None, second), Ok(Held::Same));
        assert_eq!(follow(Some(third), None, second), stale(third, false));
        assert_eq!(follow(None, Some(third), second), stale(third, true));
        assert_eq!(follow(None, Some(second), second), Ok(Held::Nothing));
        // What is held is what counts: it came back after it was deleted.
        assert_eq!(follow(Some(first), Some(third), second), Ok(Held::Older));
    }
}
