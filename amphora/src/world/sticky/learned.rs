//! What a pool has learned of its clients, as it is exchanged with other amphorae that carry it.

use krater_amphora_core::{
    affinity::{self, Entry, Handles, Key, Memory},
    peers::{Batch, Offer, Told},
    snapshot::{Persistence, SourceAffinity},
};

use super::{AppCookie, Sticky};
use crate::{clock::Clock, world::PoolState};

/// What a pool has learned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learned<'a> {
    state: &'a PoolState,
    memory: &'a Memory,
    handles: &'a Handles,
    clock: Clock,
    likeness: u64,
    settings: Option<&'a SourceAffinity>,
}

/// What came of being told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Clients that were news.
    pub(crate) taken: u64,
    /// Clients that were known, or not remembered any more.
    pub(crate) known: u64,
    /// Clients of members that are not here.
    pub(crate) ignored: u64,
}

impl PoolState {
    /// What it has learned of its clients; `None` if it learns nothing.
    pub(crate) fn learned(&self) -> Option<Learned<'_>> {
        let persistence = self.pool.persistence.as_ref()?;
        let likeness = affinity::likeness(persistence)?;
        let (memory, handles, clock) = match self.sticky.as_ref()? {
            Sticky::Source {
                affinity,
                handles,
                clock,
            } => (&**affinity.memory(), handles, *clock),
            Sticky::AppCookie(AppCookie {
                sessions,
                handles,
                clock,
                ..
            }) => (&**sessions.memory(), handles, *clock),
            Sticky::OwnCookie(_) => return None,
        };
        let settings = match persistence {
            Persistence::Source(settings) => Some(settings),
            _ => None,
        };
        Some(Learned {
            state: self,
            memory,
            handles,
            clock,
            likeness,
            settings,
        })
    }
}

impl Learned<'_> {
    /// As it is offered to others.
    pub(crate) fn offer(&self) -> Offer {
        Offer {
            likeness: self.likeness,
            key: self.memory.key(),
            knows_somebody: !self.memory.is_empty(),
            age: self.memory.age(self.now()),
        }
    }

    /// Which clients it tells apart.
    pub(crate) const fn likeness(&self) -> u64 {
        self.likeness
    }

    /// What clients are hashed by.
    pub(crate) fn key(&self) -> Key {
        self.memory.key()
    }

    /// Goes on with another memory, of that age in seconds, of which nobody is known yet.
    pub(crate) fn adopt(&self, key: Key, age: u32) {
        self.memory.adopt(key, age, self.now());
    }

    /// Whether something was learned since it was told last.
    pub(crate) fn has_untold(&self) -> bool {
        self.memory.has_untold()
    }

    /// What was learned since it was told last. For one at a time to call.
    pub(crate) fn tell(&self, is_active: bool) -> Vec<Told> {
        let (mut batch, mut told) = (self.batch(is_active), Vec::new());
        self.memory.tell(self.now(), |entry| {
            told.extend(self.add(&mut batch, entry));
        });
        told.extend(batch.finish());
        told
    }

    /// All that is known, in one of [`Memory::PARTS`] parts.
    pub(crate) fn part(&self, part: usize, is_active: bool) -> Vec<Told> {
        let mut batch = self.batch(is_active);
        let entries = self.memory.part(part, self.now());
        let mut told: Vec<_> = entries
            .filter_map(|entry| self.add(&mut batch, entry))
            .collect();
        told.extend(batch.finish());
        told
    }

    /// Takes in what another one tells that goes by the same key, `later` seconds ago. A client that came to both in the
    /// same second is where whoever has the addresses has it; or with the greater member, so that both choose alike.
    pub(crate) fn take(&self, told: &Told, is_active: bool, later: u32) -> Heard {
        let now = self.now();
        let members = told.members.iter();
        let handles: Vec<_> = members.map(|id| self.handles.of_member(*id)).collect();
        let mut heard = Heard::default();
        for client in &told.clients {
            let member = usize::from(client.member);
            let Some(&Some(handle)) = handles.get(member) else {
                heard.ignored += 1;
                continue;
            };
            let age = client.age.saturating_add(later);
            let entry = Entry {
                place: client.place,
                handle,
                age,
            };
            let prevails = |noted| {
                if told.is_active == is_active {
                    told.members.get(member) > self.member(noted).as_ref()
                } else {
                    told.is_active
                }
            };
            if self.remembers(age) && self.memory.take(entry, now, prevails) {
                heard.taken += 1;
            } else {
                heard.known += 1;
            }
        }
        heard
    }

    fn batch(&self, is_active: bool) -> Batch {
        Batch::new(self.state.pool.id, self.memory.key().check(), is_active)
    }

    fn add(&self, batch: &mut Batch, entry: Entry) -> Option<Told> {
        if !self.remembers(entry.age) {
            return None;
        }
        batch.add(entry, self.member(entry.handle)?)
    }

    fn member(&self, handle: affinity::Handle) -> Option<krater_amphora_api::MemberId> {
        let position = self.handles.position(handle)?;
        Some(self.state.pool.members.get(position)?.id)
    }

    fn remembers(&self, age: u32) -> bool {
        self.settings.is_none_or(|settings| settings.remembers(age))
    }

    fn now(&self) -> u32 {
        affinity::seconds(self.clock.now())
    }
}
