//! Whether a connection carries bulk: much, one way, without a word the other way.
//!
//! Bulk costs least when it is moved in large pieces, and being woken for each arrival makes them small. So the reactor
//! is told not to report the sender any more, and it is looked at each millisecond; when looks bring nothing, arrivals
//! are reported again. What is no bulk never waits.

use super::Side;
use crate::limits::{BULK_BYTES_MIN, BULK_EMPTY_LOOKS};

/// Who has been sending without a word from the other side, how much, and who finds out about more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bulk {
    sender: Side,
    bytes: u64,
    /// Looks in a row that brought nothing, while arrivals are not reported; `None` while they are.
    empty: Option<u8>,
    /// Whether the next look is arranged.
    arranged: bool,
}

/// How the sender's direction is left after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It carries messages, or has ended.
    Messages,
    /// It has more to move and will get a turn without being looked at.
    Busy,
    /// All that came was moved.
    Dry,
}

/// Whether arrivals are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reports {
    Yes,
    No,
}

/// What is to be done after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Look again after a pause.
    pub(super) look: bool,
    /// Have arrivals of that side reported, or no longer.
    pub(super) change: Option<(Side, Reports)>,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            sender: Side::Client,
            bytes: 0,
            empty: None,
            arranged: false,
        }
    }
}

impl Bulk {
    /// Whose arrivals are not reported.
    pub(super) const fn unreported(&self) -> Option<Side> {
        match self.empty {
            Some(_) => Some(self.sender),
            None => None,
        }
    }

    /// The pause is over; whether to look.
    pub(super) const fn looks(&mut self) -> bool {
        self.arranged = false;
        self.empty.is_some()
    }

    /// Who is the sender after a turn that moved so much of each side's.
    pub(super) const fn sender_after(&self, client: usize, member: usize) -> Side {
        match (client, member) {
            (1.., 0) => Side::Client,
            (0, 1..) => Side::Member,
            _ => self.sender,
        }
    }

    /// Learns from a turn that moved so much of each side's and left the sender's direction in that state.
    pub(super) fn after(&mut self, client: usize, member: usize, state: State) -> Plan {
        let before = *self;
        self.sender = self.sender_after(client, member);
        let moved = client + member;
        if self.sender != before.sender || (client > 0 && member > 0) {
            self.bytes = 0;
        }
        self.bytes += moved as u64;
        let is_bulk = state != State::Messages && self.bytes >= BULK_BYTES_MIN;
        self.empty = match before.empty {
            _ if !is_bulk => None,
            Some(empty) if moved == 0 && state == State::Dry => {
                (empty + 1 < BULK_EMPTY_LOOKS).then_some(empty + 1)
            }
            _ => Some(0),
        };
        let look = self.empty.is_some() && state == State::Dry && !self.arranged;
        self.arranged |= look;
        let change = match (before.empty, self.empty) {
            (None, Some(_)) => Some((self.sender, Reports::No)),
            (Some(_), None) => Some((before.sender, Reports::Yes)),
            _ => None,
        };
        Plan { look, change }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MUCH: usize = 4 << 20;

    /// A connection that has been bulk from the member for a while.
    fn bulk() -> Bulk {
        let mut bulk = Bulk::default();
        for _ in 0..3 {
            let plan = bulk.after(0, MUCH, State::Dry);
            assert_eq!((plan.look, plan.change), (false, None));
        }
        let plan = bulk.after(0, MUCH, State::Dry);
        assert_eq!(plan.change, Some((Side::Member, Reports::No)));
        assert!(plan.look);
        bulk
    }

    #[test]
    fn a_word_from_the_other_side_ends_bulk_at_once() {
        for (client, member) in [(1, 0), (1, MUCH)] {
            let mut bulk = bulk();
            assert!(bulk.looks());
            let plan = bulk.after(client, member, State::Dry);
            assert_eq!(plan.change, Some((Side::Member, Reports::Yes)));
            assert_eq!(bulk.unreported(), None);
        }
    }

    #[test]
    fn looks_that_bring_nothing_end_and_those_that_do_go_on() {
        let mut bulk = bulk();
        for bytes in [MUCH, 1, 0, MUCH] {
            assert!(bulk.looks());
            let plan = bulk.after(0, bytes, State::Dry);
            assert_eq!((plan.look, plan.change), (true, None));
        }
        assert!(bulk.looks());
        assert!(bulk.after(0, 0, State::Dry).look);
        assert!(bulk.looks());
        let plan = bulk.after(0, 0, State::Dry);
        assert_eq!(plan.change, Some((Side::Member, Reports::Yes)));
        assert!(!plan.look);
    }

    proptest! {
        #[test]
        fn who_is_not_reported_is_looked_at_or_has_a_turn_coming(
            turns in proptest::collection::vec((0_usize..3, 0_usize..3, 0_u8..3, any::<bool>()), 1..200)
        ) {
            let mut bulk = Bulk::default();
            let (mut unreported, mut looks) = (None, 0);
            for (client, member, state, pause_over) in turns {
                if pause_over && looks > 0 {
                    looks -= 1;
                    let _ = bulk.looks();
                }
                let state = [State::Messages, State::Busy, State::Dry][usize::from(state)];
                let plan = bulk.after(client * MUCH / 2, member * MUCH / 2, state);
                looks += u32::from(plan.look);
                if let Some((side, reports)) = plan.change {
                    unreported = (reports == Reports::No).then_some(side);
                }
                prop_assert_eq!(unreported, bulk.unreported());
                prop_assert!(looks <= 1, "looks are not arranged twice");
                if unreported.is_some() && state == State::Dry {
                    prop_assert_eq!(looks, 1);
                }
            }
        }
    }
}
