//! A table that all workers read and write without a lock: a cache of words, in sets.
//!
//! A hash names a set of eight words, which is a cache line, and a tag of 24 bits. Each word is one client: tag, handle,
//! the second it came last, and whether others still have to be told of that. A word is read and replaced whole, so no reader sees half of one. Two clients of the
//! same set and tag, one pair in a hundred billion of 10,000 clients each against another, are taken for one: they share
//! a member, and nothing else comes of it. A word lost to a race is a client that is chosen a member for once more.
//!
//! What is to be told waits in the table itself: a mark for each of 64 groups of sets says where to look, so nothing is
//! queued, and whoever writes a word waits for nobody.

use alloc::boxed::Box;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use super::Handle;

/// The words.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    /// One bit for each group of sets in which something is to be told.
    marks: AtomicU64,
}

/// Aligned as a cache line, so that looking at a set fetches one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A client that was found.
pub(super) struct Found<'a> {
    pub(super) handle: Handle,
    /// Seconds since it came last, up to 48 days; then they are counted from zero again.
    pub(super) age: u32,
    word: &'a AtomicU64,
    seen: u64,
    set: usize,
}

/// A client as it can be told: what a table keeps of its hash, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The part of its hash that a table keeps.
    pub place: Place,
    /// The member it came to.
    pub handle: Handle,
    /// Seconds since it came last.
    pub age: u32,
}

/// What is kept of a hash: the number of a set, and 24 bits beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The set. Of a number that is too large the lowest bits count.
    pub set: u32,
    /// Of these the lowest 24 bits count.
    pub tag: u32,
}

impl Place {
    const fn hash(self) -> u64 {
        ((self.tag as u64) << TAG_AT) | self.set as u64
    }
}

impl Table {
    /// Room for `clients`, rounded up to a power of two.
    pub(super) fn new(clients: usize) -> Self {
        let sets = clients.div_ceil(WAYS).next_power_of_two();
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            marks: AtomicU64::new(0),
        }
    }

    /// The client at `place`, a hash.
    pub(super) fn find(&self, place: u64, now: u32) -> Option<Found<'_>> {
        let (set, Set(words)) = self.set(place)?;
        words.iter().find_map(|word| {
            let seen = word.load(Relaxed);
            (seen != EMPTY && tag(seen) == tag_of(place)).then(|| Found {
                handle: handle(seen),
                age: age(seen, now),
                word,
                seen,
                set,
            })
        })
    }

    /// Notes that a client came. At most one write per client and second: most visits change nothing that is shared.
    pub(super) fn touch(&self, found: &Found<'_>, now: u32) {
        if found.age != 0 {
            let word = (found.seen & !(SECONDS << SECONDS_AT)) | (moment(now) << SECONDS_AT);
            let told = found
                .word
                .compare_exchange(found.seen, word | UNTOLD, Relaxed, Relaxed);
            // Should somebody have been faster, theirs is as good.
            if told.is_ok() {
                self.mark(found.set);
            }
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
        let Some((set, Set(words))) = self.set(place) else {
            return wanted;
        };
        let new = word(place, wanted, now) | UNTOLD;
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
                self.mark(set);
                break;
            }
        }
        wanted
    }

    /// Notes what another table tells, which is not to be told again. The one that came later counts; of two that came
    /// in the same second that of the other table does if it `prevails` over the handle that is noted here. Whoever came
    /// later than what is told is pushed out by it never. Whether anything was noted.
    pub(super) fn take(&self, told: Entry, now: u32, prevails: impl Fn(Handle) -> bool) -> bool {
        let place = told.place.hash();
        let Some((_, Set(words))) = self.set(place) else {
            return false;
        };
        if u64::from(told.age) >= SECONDS {
            return false;
        }
        let new = word(place, told.handle, now.wrapping_sub(told.age));
        for _ in 0..TRIES {
            let seen = words.iter().map(|word| (word, word.load(Relaxed)));
            let is_it = |seen: u64| seen != EMPTY && tag(seen) == tag_of(place);
            let best = seen.max_by_key(|(_, seen)| (is_it(*seen), *seen == EMPTY, age(*seen, now)));
            let Some((word, seen)) = best else {
                return false;
            };
            let own = age(seen, now);
            let counts = seen == EMPTY
                || told.age < own
                || (told.age == own
                    && is_it(seen)
                    && handle(seen) != told.handle
                    && prevails(handle(seen)));
            if !counts {
                return false;
            }
            if word.compare_exchange(seen, new, Relaxed, Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// Takes out all.
    pub(super) fn clear(&self) {
        for word in self.sets.iter().flat_map(|set| &set.0) {
            word.store(EMPTY, Relaxed);
        }
    }

    /// Whether nobody is noted.
    pub(super) fn is_empty(&self) -> bool {
        let mut words = self.sets.iter().flat_map(|set| &set.0);
        words.all(|word| word.load(Relaxed) == EMPTY)
    }

    /// Whether there is anything to tell.
    pub(super) fn has_untold(&self) -> bool {
        self.marks.load(Relaxed) != 0
    }

    /// Tells what was not told before. Not to be called by two at once.
    pub(super) fn tell(&self, now: u32, mut each: impl FnMut(Entry)) {
        let marks = self.marks.swap(0, SeqCst);
        // A word that is not seen below was written after this, and its writer sees that the mark is gone.
        fence(SeqCst);
        for group in (0..GROUPS).filter(|group| marks & (1 << group) != 0) {
            for (set, Set(words)) in self.group(group) {
                for word in words {
                    let seen = word.load(Relaxed);
                    if seen == EMPTY || seen & UNTOLD == 0 {
                        continue;
                    }
                    if word
                        .compare_exchange(seen, seen & !UNTOLD, Relaxed, Relaxed)
                        .is_ok()
                    {
                        each(entry(set, seen, now));
                    } else {
                        self.mark(set);
                    }
                }
            }
        }
    }

    /// All that are noted in one of [`GROUPS`] parts.
    pub(super) fn part(&self, group: usize, now: u32) -> impl Iterator<Item = Entry> {
        self.group(group).flat_map(move |(set, Set(words))| {
            let seen = words.iter().map(|word| word.load(Relaxed));
            seen.filter(|seen| *seen != EMPTY)
                .map(move |seen| entry(set, seen, now))
        })
    }

    /// The sets of a group, with their numbers.
    fn group(&self, group: usize) -> impl Iterator<Item = (usize, &Set)> {
        let size = self.group_size();
        let sets = self.sets.iter().enumerate();
        sets.skip(group.saturating_mul(size)).take(size)
    }

    fn group_size(&self) -> usize {
        self.sets.len().div_ceil(GROUPS).max(1)
    }

    /// Notes that a word of a set is to be told, after it was written.
    fn mark(&self, set: usize) {
        let bit = 1 << (set / self.group_size()).min(GROUPS - 1);
        fence(SeqCst);
        // Most of the time it is marked already, and nothing that is shared has to change.
        if self.marks.load(Relaxed) & bit == 0 {
            self.marks.fetch_or(bit, SeqCst);
        }
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

    fn set(&self, place: u64) -> Option<(usize, &Set)> {
        let sets = u64::try_from(self.sets.len()).ok()?;
        // The low bits name the set, the high ones are the tag.
        let at = usize::try_from(place.checked_rem(sets)?).ok()?;
        Some((at, self.sets.get(at)?))
    }
}

/// A client that came at a moment, of whom nobody has to be told.
const fn word(place: u64, handle: Handle, at: u32) -> u64 {
    (tag_of(place) << TAG_AT)
        | ((handle.0 as u64) << HANDLE_AT)
        | (moment(at) << SECONDS_AT)
        | PRESENT
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "there are thousands of sets, and a tag has 24 bits"
)]
const fn entry(set: usize, word: u64, now: u32) -> Entry {
    Entry {
        place: Place {
            set: set as u32,
            tag: tag(word) as u32,
        },
        handle: handle(word),
        age: age(word, now),
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
    (moment(now).wrapping_sub(word >> SECONDS_AT) & SECONDS) as u32
}

/// Words of a set.
const WAYS: usize = 8;

/// Parts that a table is told in, each with a mark of its own.
pub(super) const GROUPS: usize = 64;

/// No client. Whoever is one has the lowest bit set.
const EMPTY: u64 = 0;
const PRESENT: u64 = 1;
/// Others have not been told yet.
const UNTOLD: u64 = 1 << 1;

const TRIES: usize = 3;

/// A word, from its lowest bit: 1, whether it is untold, 22 bits of seconds, 16 of handle, 24 of tag.
const SECONDS_AT: u32 = 2;
const SECONDS: u64 = (1 << 22) - 1;
const HANDLE_AT: u32 = 24;
const TAG_AT: u32 = 40;
