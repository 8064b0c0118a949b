//! Session persistence: which member a client came to, remembered for all workers (reference 19.4).
//!
//! The members of a pool have [`Handle`]s, which outlive changes of the pool; an [`Affinity`] is the memory of which
//! client, known by its address, came to which handle, and [`Sessions`] the same of what members know their clients by.
//! Both are bounded, and nobody waits for anybody: looking a client up is a few loads from one cache line, and at most
//! once a second for each client a word of it is exchanged. What they remember is a [`Memory`], which others can be told
//! of and go on with.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use core::net::IpAddr;

use krater_amphora_api::MemberId;

use crate::{
    limits,
    snapshot::{Member, Persistence, SourceAffinity},
    time::Instant,
};

mod memory;
mod sip;
mod table;

pub use memory::{Key, Memory};
pub use table::{Entry, Place};

/// Which clients came to which member of a pool.
///
/// A client is kept with its member until it has not come for [`SourceAffinity::timeout`], if there is one, or until
/// so many others came that there is no room for it: then whoever of its neighbours came last the longest ago goes.
#[derive(Clone, Debug)]
pub struct Affinity {
    settings: SourceAffinity,
    memory: Arc<Memory>,
}

/// A member of a pool as an [`Affinity`] knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u16);

impl Affinity {
    /// Nobody has come yet. `key` is a number that nobody can guess.
    #[must_use]
    pub fn new(settings: SourceAffinity, key: Key, now: Instant) -> Self {
        Self {
            settings,
            memory: Arc::new(Memory::new(key, seconds(now))),
        }
    }

    /// The same memory under other settings; `None` if it would be of other clients.
    #[must_use]
    pub fn under(&self, settings: SourceAffinity) -> Option<Self> {
        self.settings.masks_like(&settings).then(|| Self {
            settings,
            memory: Arc::clone(&self.memory),
        })
    }

    /// Where `client` goes: to where it came before, as long as it `may` go there, else to what is `chosen` now, which is
    /// remembered. `None` if nothing is chosen.
    ///
    /// When several workers do this for one client at the same moment, all get what the first of them chose.
    pub fn choose(
        &self,
        client: IpAddr,
        now: Instant,
        may: impl Fn(Handle) -> bool,
        chosen: impl FnOnce() -> Option<Handle>,
    ) -> Option<Handle> {
        let (place, now) = (self.place(client), seconds(now));
        let will_do = |handle, age| self.settings.remembers(age) && may(handle);
        let table = &self.memory.table;
        if let Some(found) = table.find(place, now)
            && will_do(found.handle, found.age)
        {
            table.touch(&found, now);
            return Some(found.handle);
        }
        Some(table.claim(place, chosen()?, now, will_do))
    }

    /// Forgets everybody who came to `handle`.
    pub fn forget(&self, handle: Handle) {
        self.memory.table.forget(handle);
    }

    /// What it remembers.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    fn place(&self, client: IpAddr) -> u64 {
        let halves = halves(self.settings.masked(client));
        self.memory.place_of_address(halves)
    }
}

/// Which sessions of an application are with which member of a pool.
///
/// A session is a hash of what its client shows, by a key that nobody can guess. It is remembered until so many others
/// came that there is no room for it, as in [`Affinity`].
#[derive(Clone, Debug)]
pub struct Sessions {
    memory: Arc<Memory>,
}

impl Sessions {
    /// No session is known. `key` is a number that nobody can guess.
    #[must_use]
    pub fn new(key: Key, now: Instant) -> Self {
        Self {
            memory: Arc::new(Memory::new(key, seconds(now))),
        }
    }

    /// The member that the session of this value is with, if it is known.
    #[must_use]
    pub fn find(&self, value: &[u8], now: Instant) -> Option<Handle> {
        let (place, now) = (self.memory.place_of_value(value), seconds(now));
        let found = self.memory.table.find(place, now)?;
        self.memory.table.touch(&found, now);
        Some(found.handle)
    }

    /// Notes that the session of this value is with a member, wherever it was before.
    pub fn learn(&self, value: &[u8], with: Handle, now: Instant) {
        let place = self.memory.place_of_value(value);
        self.memory
            .table
            .claim(place, with, seconds(now), |handle, _| handle == with);
    }

    /// Forgets all that are with `handle`.
    pub fn forget(&self, handle: Handle) {
        self.memory.table.forget(handle);
    }

    /// What it remembers.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

/// The handles of the members of one pool, and the way back from a handle to where the pool lists its member.
#[derive(Clone, Debug, Default)]
pub struct Handles {
    of: BTreeMap<MemberId, Handle>,
    /// The handle of each member, in the order of the pool.
    at: Box<[Handle]>,
    /// Positions in the pool, by handle.
    positions: Box<[(Handle, usize)]>,
    /// How many were passed so far, which says which is next.
    passed: u64,
}

impl Handles {
    /// The handles of `members` when `self` are those they had before: each keeps its own, new members get others.
    /// What is remembered of somebody who once had a handle that is given again is to be forgotten.
    #[must_use]
    pub fn follow(&self, members: &[Member], forget: impl Fn(Handle)) -> Self {
        let kept = |member: &Member| Some((member.id, *self.of.get(&member.id)?));
        let mut of: BTreeMap<_, _> = members.iter().filter_map(kept).collect();
        let mut taken: BTreeSet<_> = of.values().copied().collect();
        let mut passed = self.passed;
        for member in members {
            of.entry(member.id).or_insert_with(|| {
                // One that is free is found: there are far more handles than members of a pool may be.
                loop {
                    let handle = Handle(low_bits(passed));
                    let was_given = passed > u64::from(u16::MAX);
                    passed += 1;
                    if taken.insert(handle) {
                        if was_given {
                            forget(handle);
                        }
                        return handle;
                    }
                }
            });
        }
        let at: Box<[_]> = members
            .iter()
            .filter_map(|member| of.get(&member.id).copied())
            .collect();
        let mut positions: Vec<_> = at
            .iter()
            .enumerate()
            .map(|(position, handle)| (*handle, position))
            .collect();
        positions.sort_unstable();
        Self {
            of,
            at,
            positions: positions.into_boxed_slice(),
            passed,
        }
    }

    /// The handle of the member at a position.
    #[must_use]
    pub fn of(&self, position: usize) -> Option<Handle> {
        self.at.get(position).copied()
    }

    /// The handle of a member.
    #[must_use]
    pub fn of_member(&self, id: MemberId) -> Option<Handle> {
        self.of.get(&id).copied()
    }

    /// Where the pool lists the member of that handle; `None` if it has left.
    #[must_use]
    pub fn position(&self, handle: Handle) -> Option<usize> {
        let found = self
            .positions
            .binary_search_by_key(&handle, |(handle, _)| *handle)
            .ok()?;
        self.positions.get(found).map(|(_, position)| *position)
    }
}

/// The same for two that remember the same clients by the same hashes, given the same key; `None` if nothing is
/// remembered.
#[must_use]
pub fn likeness(persistence: &Persistence) -> Option<u64> {
    // What a table keeps of a hash depends on its size.
    let key = |kind| [kind, limits::AFFINITY_CLIENTS_MAX as u64];
    match persistence {
        Persistence::Source(settings) => {
            let (v4, v6) = settings.masks();
            let masks = [&v4.to_be_bytes()[..], &v6.to_be_bytes()[..]].concat();
            Some(sip::sip13(key(1), &masks))
        }
        Persistence::AppCookie(name) => Some(sip::sip13(key(2), name.as_bytes())),
        Persistence::OwnCookie => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "they are what is wanted")]
const fn low_bits(number: u64) -> u16 {
    number as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are wanted")]
const fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// The seconds of an instant, which memories count in.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it wraps after 136 years; the table wraps sooner"
)]
#[must_use]
pub const fn seconds(now: Instant) -> u32 {
    (now.0 / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests;
