//! What one pool remembers of its clients, and what of that can be told to others: it is theirs to go on with once they
//! hash by the same key.

use core::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::{
    Handle,
    sip::sip13,
    table::{Entry, GROUPS, Table},
};
use crate::{balance::mixed, limits};

/// Clients by hashes of what tells them apart.
#[derive(Debug)]
pub struct Memory {
    pub(super) table: Table,
    key: [AtomicU64; 2],
    /// The second it began, by the clock of whoever asks.
    born: AtomicU32,
}

/// What clients are hashed by: a number that nobody can guess, so that nobody can choose addresses or cookies that push a
/// particular client out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub [u64; 2]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Tells keys apart without telling them.
    #[must_use]
    pub fn check(self) -> u64 {
        sip13(self.0, b"check")
    }
}

impl Memory {
    /// Nobody is remembered as of this second.
    pub(super) fn new(Key(key): Key, now: u32) -> Self {
        Self {
            table: Table::new(limits::AFFINITY_CLIENTS_MAX),
            key: key.map(AtomicU64::new),
            born: AtomicU32::new(now),
        }
    }

    /// What clients are hashed by.
    #[must_use]
    pub fn key(&self) -> Key {
        let [first, second] = &self.key;
        Key([first.load(Relaxed), second.load(Relaxed)])
    }

    /// Seconds since it began, here or where it came from.
    #[must_use]
    pub fn age(&self, now: u32) -> u32 {
        now.wrapping_sub(self.born.load(Relaxed))
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Forgets everybody, and goes on with what another one hashes by. Whoever is noted at the same moment by the key
    /// before is lost.
    pub fn adopt(&self, Key(key): Key, age: u32, now: u32) {
        for (own, theirs) in self.key.iter().zip(key) {
            own.store(theirs, Relaxed);
        }
        self.born.store(now.wrapping_sub(age), Relaxed);
        self.table.clear();
    }

    /// Notes what a memory of the same key tells. The later visit counts; of two in the same second the one that is told
    /// if it `prevails` over the handle that is noted here. Whether anything changed.
    pub fn take(&self, told: Entry, now: u32, prevails: impl Fn(Handle) -> bool) -> bool {
        self.table.take(told, now, prevails)
    }

    /// Whether something was noted since it was told last.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        self.table.has_untold()
    }

    /// Tells what was noted since it was told last. Not to be called by two at once.
    pub fn tell(&self, now: u32, each: impl FnMut(Entry)) {
        self.table.tell(now, each);
    }

    /// All that is remembered in one of [`Memory::PARTS`] parts.
    pub fn part(&self, part: usize, now: u32) -> impl Iterator<Item = Entry> {
        self.table.part(part, now)
    }

    /// Parts that a memory is told in.
    pub const PARTS: usize = GROUPS;

    /// Where an address belongs.
    pub(super) fn place_of_address(&self, [high, low]: [u64; 2]) -> u64 {
        let [secret, _] = self.key().0;
        mixed(mixed(high ^ secret).wrapping_add(low) ^ secret.rotate_left(32))
    }

    /// Where a value belongs.
    pub(super) fn place_of_value(&self, value: &[u8]) -> u64 {
        sip13(self.key().0, value)
    }
}
