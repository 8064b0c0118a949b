//! A map that is copied for little: in shelves, of which a copy shares all that it does not change.
//!
//! A change of one load balancer among thousands makes a new world. Copying what it does not touch, entry by entry, would
//! cost it more than all that it does.

use std::{
    hash::{BuildHasher, Hash},
    ops::Index,
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashMap};

/// Values by their ids, in no order.
#[derive(Debug)]
pub struct Shelves<K, V> {
    shelves: Vec<Arc<HashMap<K, Arc<V>>>>,
    /// Says on which shelf an id is.
    hasher: DefaultHashBuilder,
    length: usize,
}

impl<K, V> Default for Shelves<K, V> {
    fn default() -> Self {
        Self {
            shelves: vec![Arc::default(); SHELVES],
            hasher: DefaultHashBuilder::default(),
            length: 0,
        }
    }
}

impl<K, V> Clone for Shelves<K, V> {
    fn clone(&self) -> Self {
        Self {
            shelves: self.shelves.clone(),
            hasher: self.hasher.clone(),
            length: self.length,
        }
    }
}

impl<K: Copy + Eq + Hash, V> Shelves<K, V> {
    /// The value of an id.
    #[must_use]
    pub fn get(&self, id: &K) -> Option<&Arc<V>> {
        self.shelves.get(self.shelf_of(id))?.get(id)
    }

    /// Puts a value in the place of the one before.
    pub(super) fn insert(&mut self, id: K, value: Arc<V>) {
        let shelf = self.shelf_of(&id);
        if let Some(shelf) = self.shelves.get_mut(shelf)
            && Arc::make_mut(shelf).insert(id, value).is_none()
        {
            self.length += 1;
        }
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, id: &K) -> Option<Arc<V>> {
        let shelf = self.shelf_of(id);
        let shelf = self.shelves.get_mut(shelf)?;
        // What is not there need not be copied to be removed.
        shelf.get(id)?;
        let removed = Arc::make_mut(shelf).remove(id);
        self.length -= usize::from(removed.is_some());
        removed
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All of them with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.shelves.iter().flat_map(|shelf| shelf.iter())
    }

    /// Their ids.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(id, _)| id)
    }

    /// All of them.
    pub fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.iter().map(|(_, value)| value)
    }

    fn shelf_of(&self, id: &K) -> usize {
        // The upper bits: the lower ones choose the place on the shelf.
        (self.hasher.hash_one(id) >> (u64::BITS - SHELF_BITS)) as usize
    }
}

/// For those who know that it is there: tests.
impl<K: Copy + Eq + Hash, V> Index<&K> for Shelves<K, V> {
    type Output = Arc<V>;

    fn index(&self, id: &K) -> &Arc<V> {
        #[expect(clippy::expect_used, reason = "as with any map")]
        self.get(id).expect("the id is there")
    }
}

/// A change copies one shelf and the list of them: with a thousand entries about as much of each, with ten thousand a few
/// microseconds.
const SHELF_BITS: u32 = 6;
const SHELVES: usize = 1 << SHELF_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_it_was_however_the_other_changes_and_shares_what_is_alike() {
        let mut shelves = Shelves::<u32, u32>::default();
        for id in 0..1_000 {
            shelves.insert(id, Arc::new(id));
        }
        let before = shelves.clone();
        shelves.insert(7, Arc::new(70));
        assert_eq!(shelves.remove(&8).as_deref(), Some(&8));
        assert_eq!(shelves.remove(&8), None);
        assert_eq!(shelves.remove(&5_000), None);
        assert_eq!((before.len(), shelves.len()), (1_000, 999));
        assert_eq!((*before[&7], *before[&8]), (7, 8));
        assert_eq!((*shelves[&7], shelves.get(&8)), (70, None));
        let mut ids: Vec<_> = before.keys().copied().collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
        assert_eq!(before.values().count(), 1_000);
        let pairs = before.shelves.iter().zip(&shelves.shelves);
        let shared = pairs.filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert!(shared >= SHELVES - 2, "{shared}");
    }

    #[test]
    fn ids_are_spread_over_all_shelves() {
        let mut shelves = Shelves::<u32, ()>::default();
        assert!(shelves.is_empty());
        for id in 0..6_400 {
            shelves.insert(id, Arc::default());
        }
        let fullest = shelves.shelves.iter().map(|shelf| shelf.len()).max();
        assert!(fullest.is_some_and(|fullest| fullest < 200), "{fullest:?}");
    }
}
