//! Clients, gathered into messages.

use alloc::{collections::BTreeMap, vec::Vec};

use krater_amphora_api::{MemberId, PoolId};

use super::{Placed, Told};
use crate::{affinity::Entry, limits::PEER_ENTRIES_MAX};

/// A message that is being gathered.
#[derive(Debug)]
pub struct Batch {
    told: Told,
    members: BTreeMap<MemberId, u16>,
}

impl Batch {
    /// One of a pool whose clients are hashed by a key of that check.
    #[must_use]
    pub const fn new(pool: PoolId, check: u64, is_active: bool) -> Self {
        Self {
            told: Told {
                pool,
                check,
                is_active,
                members: Vec::new(),
                clients: Vec::new(),
            },
            members: BTreeMap::new(),
        }
    }

    /// Adds a client that is with that member. What was gathered, if it is as much as a message holds.
    pub fn add(&mut self, entry: Entry, member: MemberId) -> Option<Told> {
        let next = u16::try_from(self.told.members.len()).unwrap_or(u16::MAX);
        let number = *self.members.entry(member).or_insert(next);
        if number == next {
            self.told.members.push(member);
        }
        self.told.clients.push(Placed {
            place: entry.place,
            member: number,
            age: entry.age,
        });
        (self.told.clients.len() >= PEER_ENTRIES_MAX).then(|| self.take())
    }

    /// What was gathered, if anything.
    #[must_use]
    pub fn finish(mut self) -> Option<Told> {
        (!self.told.clients.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Told {
        self.members.clear();
        Told {
            members: core::mem::take(&mut self.told.members),
            clients: core::mem::take(&mut self.told.clients),
            ..self.told
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::affinity::{Handle, Place};

    use super::*;

    #[test]
    fn a_message_is_full_at_its_bound_and_names_each_member_once() {
        let mut batch = Batch::new(PoolId::from_bytes([1; 16]), 2, true);
        let mut messages = Vec::new();
        let total = PEER_ENTRIES_MAX * 2 + 5;
        for number in 0..total {
            let entry = Entry {
                place: Place {
                    set: u32::try_from(number).unwrap(),
                    tag: 1,
                },
                handle: Handle::default(),
                age: 3,
            };
            let member = MemberId::from_bytes([u8::try_from(number % 3).unwrap(); 16]);
            messages.extend(batch.add(entry, member));
        }
        messages.extend(batch.finish());
        let sizes: Vec<_> = messages.iter().map(|told| told.clients.len()).collect();
        assert_eq!(sizes, [PEER_ENTRIES_MAX, PEER_ENTRIES_MAX, 5]);
        let mut number = 0;
        for told in messages {
            assert_eq!(
                (told.members.len(), told.check, told.is_active),
                (3, 2, true)
            );
            for client in told.clients {
                let member = told.members[usize::from(client.member)];
                assert_eq!(
                    member,
                    MemberId::from_bytes([u8::try_from(number % 3).unwrap(); 16])
                );
                assert_eq!(usize::try_from(client.place.set), Ok(number));
                number += 1;
            }
        }
        assert_eq!(number, total);
    }
}
