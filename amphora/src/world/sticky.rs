//! What a pool knows of the clients it keeps with their members.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use krater_amphora_core::{
    affinity::{Affinity, Handles},
    snapshot::Pool,
};

use crate::clock::Clock;

/// The clients of one pool; shared by all workers, and by all snapshots of the pool for as long as it keeps clients.
#[derive(Clone, Debug)]
pub(super) struct Sticky {
    affinity: Affinity,
    handles: Handles,
    clock: Clock,
}

impl Sticky {
    /// What `pool` needs, with what `old` remembers; `None` if it keeps nobody.
    pub(super) fn follow(old: Option<&Self>, pool: &Pool) -> Option<Self> {
        let settings = pool.affinity?;
        let affinity = old.and_then(|old| old.affinity.under(settings));
        let affinity =
            affinity.unwrap_or_else(|| Affinity::new(settings, RandomState::new().hash_one(0)));
        let before = Handles::default();
        let before = old.map_or(&before, |old| &old.handles);
        Some(Self {
            handles: before.follow(&pool.members, &affinity),
            affinity,
            clock: old.map_or_else(Clock::start, |old| old.clock),
        })
    }

    /// The position to which `client` goes: where it came before as long as it `may` go there, else what is `chosen`.
    pub(super) fn choose(
        &self,
        client: IpAddr,
        may: impl Fn(usize) -> bool,
        chosen: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let handle = self.affinity.choose(
            client,
            self.clock.now(),
            |handle| self.handles.position(handle).is_some_and(&may),
            || self.handles.of(chosen()?),
        )?;
        self.handles.position(handle)
    }
}

#[cfg(test)]
mod tests;
