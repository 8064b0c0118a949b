//! UDP sessions: to whom a client's datagrams go, until when, and who gives way when there is no room.
//!
//! A datagram says nothing of a beginning or an end. So a session begins with the first one of a client, ends when none
//! came for some time, and the table of them is bounded: when it is full, the one that was silent longest gives way.

use alloc::vec::Vec;
use core::{net::SocketAddr, time::Duration};

use hashbrown::HashTable;

use crate::{
    balance::mixed,
    limits::FLOWS_MAX,
    time::{Instant, nanoseconds},
};

mod ring;
mod standing;
mod wheel;

use ring::Rings;
pub use standing::Standing;
use wheel::Wheel;

/// Who talks to whom: one session each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The socket that clients send to, by a number of the edge's.
    pub door: u32,
    /// The client.
    pub client: SocketAddr,
}

/// Names a session for as long as it is in its table; its place is used again under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    slot: u32,
    generation: u32,
}

impl FlowId {
    /// Bits that [`FlowId::to_bits`] needs.
    pub const BITS: u32 = 56;

    /// The name as a number.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32) | self.slot as u64
    }

    /// The name that [`FlowId::to_bits`] gave this number.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, g, _] = bits.to_le_bytes();
        Self {
            slot: u32::from_le_bytes([a, b, c, d]),
            generation: u32::from_le_bytes([e, f, g, 0]),
        }
    }

    const fn next(self) -> Self {
        Self {
            slot: self.slot,
            generation: (self.generation + 1) & 0xff_ffff,
        }
    }
}

/// The sessions of one worker, each with a `T` of the edge's.
///
/// Finding, touching, admitting, removing and expiring one take constant time, and allocate nothing once the table has
/// been as full before.
#[derive(Debug)]
pub struct Flows<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// From the longest silent to the latest heard.
    recency: Rings,
    wheel: Wheel,
    capacity: usize,
    seed: u64,
}

#[derive(Debug)]
struct Slot<T> {
    id: FlowId,
    flow: Option<Flow<T>>,
}

#[derive(Debug)]
struct Flow<T> {
    key: FlowKey,
    /// When a datagram last came, from either side.
    seen: Instant,
    /// How long it may be silent, in nanoseconds.
    idle: u64,
    /// When it ends, however busy it is.
    until: Instant,
    value: T,
}

impl<T> Flow<T> {
    fn deadline(&self) -> Instant {
        Instant(self.seen.0.saturating_add(self.idle)).min(self.until)
    }
}

/// A session that has left its table.
#[derive(Debug, PartialEq, Eq)]
pub struct Left<T> {
    /// Whose it was.
    pub key: FlowKey,
    /// What the edge kept with it.
    pub value: T,
}

impl<T> Flows<T> {
    /// An empty table for at most `capacity` sessions, at least one. `seed` should be unknown to clients, so that they
    /// cannot choose addresses that all hash alike.
    #[must_use]
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            recency: Rings::new(1),
            wheel: Wheel::new(),
            capacity: capacity.clamp(1, FLOWS_MAX),
            seed,
        }
    }

    /// The session of `key`.
    #[must_use]
    pub fn find(&self, key: &FlowKey) -> Option<FlowId> {
        let at = self
            .index
            .find(self.hash(key), |slot| self.key_at(*slot) == Some(key))?;
        Some(self.slot(*at)?.id)
    }

    /// What is kept with a session.
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<&T> {
        self.flow(id).map(|flow| &flow.value)
    }

    /// What is kept with a session, to be changed.
    #[must_use]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        self.flow_mut(id).map(|flow| &mut flow.value)
    }

    /// Whose a session is.
    #[must_use]
    pub fn key(&self, id: FlowId) -> Option<&FlowKey> {
        self.flow(id).map(|flow| &flow.key)
    }

    /// A datagram of the session passed, in either direction: it may be silent for its whole time again.
    pub fn touch(&mut self, id: FlowId, now: Instant) {
        if let Some(flow) = self.flow_mut(id) {
            flow.seen = flow.seen.max(now);
            self.recency.move_to_back(0, id.slot);
        }
    }

    /// Begins a session that ends when it has been silent for `idle`. There must be none of that key, and room: see
    /// [`Flows::is_full`]; otherwise the longest silent one leaves, and is given back.
    pub fn admit(
        &mut self,
        key: FlowKey,
        now: Instant,
        idle: Duration,
        value: T,
    ) -> (FlowId, Option<Left<T>>) {
        debug_assert!(self.find(&key).is_none(), "{key:?} has a session");
        let left = if self.is_full() {
            self.oldest().and_then(|oldest| self.remove(oldest))
        } else {
            None
        };
        let flow = Flow {
            key,
            seen: now,
            idle: nanoseconds(idle),
            until: Instant(u64::MAX),
            value,
        };
        let deadline = flow.deadline();
        let id = self.fill(flow);
        let hash = self.hash(&key);
        let (slots, seed) = (&self.slots, self.seed);
        self.index.insert_unique(hash, id.slot, |slot| {
            at(slots, *slot).map_or(0, |flow| hash_of(&flow.key, seed))
        });
        self.recency.move_to_back(0, id.slot);
        self.wheel.set(id.slot, deadline, now);
        (id, left)
    }

    /// Ends a session.
    pub fn remove(&mut self, id: FlowId) -> Option<Left<T>> {
        self.flow(id)?;
        let hash = self.hash(self.key(id)?);
        if let Ok(entry) = self.index.find_entry(hash, |slot| *slot == id.slot) {
            entry.remove();
        }
        self.recency.unlink(id.slot);
        self.wheel.unset(id.slot);
        let slot = self.slots.get_mut(to_index(id.slot))?;
        let flow = slot.flow.take()?;
        slot.id = slot.id.next();
        self.free.push(id.slot);
        Some(Left {
            key: flow.key,
            value: flow.value,
        })
    }

    /// Ends one session whose time is over. To be called until there is none; a session may outlive its time by
    /// [`Flows::GRAIN`].
    pub fn expire(&mut self, now: Instant) -> Option<Left<T>> {
        while let Some(slot) = self.wheel.pop_due(now) {
            let Some(flow) = at(&self.slots, slot) else {
                continue;
            };
            let deadline = flow.deadline();
            if deadline > now {
                // It was heard of since its time was noted.
                self.wheel.set(slot, deadline, now);
                continue;
            }
            let id = self.slot(slot)?.id;
            return self.remove(id);
        }
        None
    }

    /// When to ask [`Flows::expire`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Those who left early may have left the wheel a time that is nobody's.
        (!self.is_empty())
            .then(|| self.wheel.poll_timeout())
            .flatten()
    }

    /// Changes how long a session may be silent.
    pub fn set_idle(&mut self, id: FlowId, idle: Duration, now: Instant) {
        self.adjust(id, now, |flow| flow.idle = nanoseconds(idle));
    }

    /// Has a session end at `at`, however busy it is; `None` lets it go on.
    pub fn end_at(&mut self, id: FlowId, at: Option<Instant>, now: Instant) {
        self.adjust(id, now, |flow| flow.until = at.unwrap_or(Instant(u64::MAX)));
    }

    /// Ends the sessions that `leaves` says so of. Looks at each.
    pub fn remove_where(
        &mut self,
        mut leaves: impl FnMut(&FlowKey, &T) -> bool,
        mut left: impl FnMut(Left<T>),
    ) {
        for position in 0..self.slots.len() {
            let id = self
                .slots
                .get(position)
                .and_then(|slot| {
                    let flow = slot.flow.as_ref()?;
                    leaves(&flow.key, &flow.value).then_some(slot.id)
                })
                .and_then(|id| self.remove(id));
            if let Some(gone) = id {
                left(gone);
            }
        }
    }

    /// The session that has been silent longest.
    #[must_use]
    pub fn oldest(&self) -> Option<FlowId> {
        Some(self.slot(self.recency.front(0)?)?.id)
    }

    /// Whether another session takes the place of one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// `true` if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn adjust(&mut self, id: FlowId, now: Instant, change: impl FnOnce(&mut Flow<T>)) {
        if let Some(flow) = self.flow_mut(id) {
            change(flow);
            let deadline = flow.deadline();
            self.wheel.set(id.slot, deadline, now);
        }
    }

    /// Puts a flow into a free slot, or a new one.
    fn fill(&mut self, flow: Flow<T>) -> FlowId {
        if let Some(slot) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(to_index(slot))
        {
            slot.flow = Some(flow);
            return slot.id;
        }
        self.recency.add();
        self.wheel.add();
        let id = FlowId {
            slot: u32::try_from(self.slots.len()).unwrap_or(u32::MAX),
            generation: 0,
        };
        self.slots.push(Slot {
            id,
            flow: Some(flow),
        });
        id
    }

    fn hash(&self, key: &FlowKey) -> u64 {
        hash_of(key, self.seed)
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.slots.get(to_index(slot))
    }

    fn key_at(&self, slot: u32) -> Option<&FlowKey> {
        at(&self.slots, slot).map(|flow| &flow.key)
    }

    fn flow(&self, id: FlowId) -> Option<&Flow<T>> {
        let slot = self.slot(id.slot).filter(|slot| slot.id == id)?;
        slot.flow.as_ref()
    }

    fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow<T>> {
        let slot = self.slots.get_mut(to_index(id.slot))?;
        if slot.id == id {
            slot.flow.as_mut()
        } else {
            None
        }
    }
}

impl<T> Flows<T> {
    /// How much later than its time a session may end.
    pub const GRAIN: Duration = Duration::from_nanos(wheel::TICK);
}

fn at<T>(slots: &[Slot<T>], slot: u32) -> Option<&Flow<T>> {
    slots.get(to_index(slot))?.flow.as_ref()
}

/// Of IPv4 clients of one door no two hash alike: each step is a bijection.
fn hash_of(key: &FlowKey, seed: u64) -> u64 {
    let place = (u64::from(key.door) << 16) | u64::from(key.client.port());
    match key.client {
        SocketAddr::V4(client) => {
            let address = u64::from(client.ip().to_bits());
            mixed(mixed(seed ^ address) ^ place)
        }
        SocketAddr::V6(client) => {
            let address = client.ip().to_bits().to_le_bytes();
            let [a, b, c, d, e, f, g, h, rest @ ..] = address;
            let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let high = u64::from_le_bytes(rest);
            mixed(mixed(mixed(seed ^ high) ^ low) ^ place)
        }
    }
}

const fn to_index(slot: u32) -> usize {
    slot as usize
}

#[cfg(test)]
mod tests;
