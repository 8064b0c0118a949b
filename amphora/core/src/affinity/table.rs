//! A table that all workers read and write without a lock: a cache of words, in sets.
//!
//! A hash names a set of eight words, which is a cache line, and a tag of 24 bits. Each word is one client: tag, handle
//! and the second it came last. A word is read and replaced whole, so no reader sees half of one. Two clients of the
//! same set and tag, one pair in a hundred billion of 10,000 clients each against another, are taken for one: they share
//! a member, and nothing else comes of it. A word lost to a race is a client that is chosen a member for once more.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Handle;

/// The words.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
}

/// Aligned as a cache line, so that looking at a set fetches one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A client that was found.
pub(super) struct Found<'a> {
    pub(super) handle: Handle,
    /// Seconds since it came last, up to 97 days; then they are counted from zero again.
    pub(super) age: u32,
    word: &'a AtomicU64,
    seen: u64,
}

impl Table {
    /// Room for `clients`, rounded up to a power of two.
    pub(super) fn new(clients: usize) -> Self {
        let sets = clients.div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
        }
    }

    /// The client at `place`, a hash.
    pub(super) fn find(&self, place: u64, now: u32) -> Option<Found<'_>> {
        self.set(place)?.0.iter().find_map(|word| {
            let seen = word.load(Relaxed);
            (seen != EMPTY && tag(seen) == tag_of(place)).then(|| Found {
                handle: handle(seen),
                age: age(seen, now),
                word,
                seen,
            })
        })
    }

    /// Notes that a client came. At most one write per client and second: most visits change nothing that is shared.
    pub(super) fn touch(&self, found: &Found<'_>, now: u32) {
        if found.age != 0 {
            let word = (found.seen & !(SECONDS << 1)) | (moment(now) << 1);
            // Should somebody have been faster, theirs is as good.
            let _ = found
                .word
                .compare_exchange(found.seen, word, Relaxed, Relaxed);
        }
    }

    /// Notes that a client comes to `wanted`: where it was noted before, or where there is room, or in place of whoever
    /// came last the longest ago. If somebody else noted it at the same time, with a handle and an age that `will_do`,
    /// that stays: which handle it is noted with.
    pub(super) fn claim(
        &self,
        place: u64,
        wanted: Handle,
        now: u32,
        will_do: impl Fn(Handle, u32) -> bool,
    ) -> Handle {
        let Some(Set(words)) = self.set(place) else {
            return wanted;
        };
        let new =
            (tag_of(place) << TAG_AT) | (u64::from(wanted.0) << HANDLE_AT) | (moment(now) << 1) | 1;
        // Whoever loses a race looks again, and finds what the winner wrote; a third loss is not worth a fourth try.
        for _ in 0..TRIES {
            let seen = words.iter().map(|word| (word, word.load(Relaxed)));
            let is_it = |seen: u64| seen != EMPTY && tag(seen) == tag_of(place);
            let best = seen.max_by_key(|(_, seen)| (is_it(*seen), *seen == EMPTY, age(*seen, now)));
            let Some((word, seen)) = best else {
                break;
            };
            if is_it(seen) && will_do(handle(seen), age(seen, now)) {
                return handle(seen);
            }
            if word.compare_exchange(seen, new, Relaxed, Relaxed).is_ok() {
                break;
            }
        }
        wanted
    }

    /// Takes out whoever came to `gone`.
    pub(super) fn forget(&self, gone: Handle) {
        for word in self.sets.iter().flat_map(|set| &set.0) {
            let seen = word.load(Relaxed);
            if seen != EMPTY && handle(seen) == gone {
                let _ = word.compare_exchange(seen, EMPTY, Relaxed, Relaxed);
            }
        }
    }

    fn set(&self, place: u64) -> Option<&Set> {
        let sets = u64::try_from(self.sets.len()).ok()?;
        // The low bits name the set, the high ones are the tag.
        let at = usize::try_from(place.checked_rem(sets)?).ok()?;
        self.sets.get(at)
    }
}

const fn tag_of(place: u64) -> u64 {
    place >> TAG_AT
}

const fn tag(word: u64) -> u64 {
    word >> TAG_AT
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "these sixteen bits are wanted"
)]
const fn handle(word: u64) -> Handle {
    Handle((word >> HANDLE_AT) as u16)
}

const fn moment(now: u32) -> u64 {
    now as u64 & SECONDS
}

const fn age(word: u64, now: u32) -> u32 {
    (moment(now).wrapping_sub(word >> 1) & SECONDS) as u32
}

/// Words of a set.
const WAYS: usize = 8;

/// No client. Whoever is one has the lowest bit set.
const EMPTY: u64 = 0;

const TRIES: usize = 3;

/// A word, from its lowest bit: 1, 23 bits of seconds, 16 of handle, 24 of tag.
const SECONDS: u64 = (1 << 23) - 1;
const HANDLE_AT: u32 = 24;
const TAG_AT: u32 = 40;
