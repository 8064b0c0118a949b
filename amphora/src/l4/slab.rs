//! Where connections live: places that are used again, and names for them that are not.

/// Names one thing that was put into a [`Slab`], and nothing that comes after it in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    /// For things that are in no slab, because there is one of them.
    pub(super) const SOLE: Self = Self {
        index: 0,
        generation: 0,
    };

    /// The place, to be used as a key by whoever forgets it when the place becomes empty.
    pub(super) const fn index(self) -> u32 {
        self.index
    }

    /// As a number of 56 bits.
    pub(super) const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// What [`Id::to_bits`] made.
    pub(super) const fn from_bits(bits: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (index, generation) = (bits as u32, (bits >> 32) as u32 & GENERATION_MASK);
        Self { index, generation }
    }
}

/// Things in places. Grows by pages, so that nothing in it ever moves.
pub(super) struct Slab<T> {
    pages: Vec<Vec<Slot<T>>>,
    free: Vec<u32>,
    length: usize,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            free: Vec::new(),
            length: 0,
        }
    }

    /// How many things there are.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Puts a thing in.
    pub(super) fn insert(&mut self, value: T) -> Id {
        self.length += 1;
        // The place used last is the one whose memory is still in the cache.
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slot_mut(index)
        {
            slot.value = Some(value);
            let generation = slot.generation;
            return Id { index, generation };
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        let full = (self.pages.len() - 1) * PAGE;
        let mut within = 0;
        if let Some(page) = self.pages.last_mut() {
            within = page.len();
            page.push(Slot {
                generation: 0,
                value: Some(value),
            });
        }
        let index = u32::try_from(full + within).unwrap_or(u32::MAX);
        Id {
            index,
            generation: 0,
        }
    }

    /// The thing of that name, if it is still there.
    pub(super) fn find(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slot_mut(id.index)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.value.as_mut()
    }

    /// Takes the thing of that name out.
    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slot_mut(id.index)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(id.index);
        self.length -= 1;
        Some(value)
    }

    /// The present name of what is in that place.
    pub(super) fn id_at(&self, index: u32) -> Option<Id> {
        let slot = self.pages.get(index as usize / PAGE)?;
        let slot = slot.get(index as usize % PAGE)?;
        slot.value.as_ref()?;
        Some(Id {
            index,
            generation: slot.generation,
        })
    }

    /// The names of all things.
    pub(super) fn ids(&self) -> Vec<Id> {
        let places = self.pages.iter().map(Vec::len).sum::<usize>();
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        (0..places).filter_map(|index| self.id_at(index)).collect()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let page = self.pages.get_mut(index as usize / PAGE)?;
        page.get_mut(index as usize % PAGE)
    }
}

/// Places per page.
const PAGE: usize = 128;

/// Generations fit into 24 bits, so that an id leaves eight bits of a token free. A name comes back after sixteen
/// million uses of its place; what still knows the old one by then is nothing: events of a closed descriptor are gone
/// with the wait that follows.
const GENERATION_MASK: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_finds_what_it_was_given_for_and_never_what_came_after(steps in proptest::collection::vec(any::<u16>(), 1..600)) {
            let mut slab = Slab::new();
            let (mut there, mut gone) = (Vec::new(), Vec::new());
            for step in steps {
                if step % 3 == 0 && !there.is_empty() {
                    let (id, value) = there.swap_remove(usize::from(step) % there.len());
                    prop_assert_eq!(slab.remove(id), Some(value));
                    gone.push(id);
                } else {
                    there.push((slab.insert(step), step));
                }
                prop_assert_eq!(slab.len(), there.len());
                for (id, value) in &there {
                    prop_assert_eq!(slab.find(*id).copied(), Some(*value));
                    prop_assert_eq!(Id::from_bits(id.to_bits()), *id);
                }
                for id in &gone {
                    prop_assert!(slab.find(*id).is_none() && slab.remove(*id).is_none());
                }
            }
            prop_assert_eq!(slab.ids().len(), there.len());
        }
    }
}
