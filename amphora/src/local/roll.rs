//! The connections of one listener on one worker, so that they can be told to end.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use hashbrown::HashSet;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Every connection of one listener on one worker.
#[derive(Default)]
pub(crate) struct Roll {
    slots: RefCell<Slots>,
    emptied: Notify,
}

#[derive(Default)]
struct Slots {
    all: Vec<Option<Rc<Slot>>>,
    free: Vec<usize>,
}

/// How a connection is asked to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// It is not.
    #[default]
    NotAsked,
    /// When what is under way is done.
    Graceful,
    /// At once.
    Now,
}

/// One connection, as seen by who may end it.
#[derive(Default)]
pub(crate) struct Slot {
    /// The member that it is with, by its serial.
    member: Cell<Option<u64>>,
    ending: Cell<Ending>,
    waker: RefCell<Option<Waker>>,
}

/// The place on the roll of a connection, or of a request of one that carries many; dropping it strikes it off.
pub(crate) struct Ticket {
    roll: Rc<Roll>,
    position: usize,
    slot: Rc<Slot>,
}

impl Roll {
    /// Enters a connection.
    pub(crate) fn enter(self: &Rc<Self>) -> Ticket {
        let slot = Rc::new(Slot::default());
        let mut slots = self.slots.borrow_mut();
        let position = slots.free.pop().unwrap_or(slots.all.len());
        match slots.all.get_mut(position) {
            Some(place) => *place = Some(Rc::clone(&slot)),
            None => slots.all.push(Some(Rc::clone(&slot))),
        }
        Ticket {
            roll: Rc::clone(self),
            position,
            slot,
        }
    }

    /// Asks every connection to end.
    pub(crate) fn end(&self, ending: Ending) {
        for slot in self.slots.borrow().all.iter().flatten() {
            slot.end(ending);
        }
    }

    /// Ends the connections that are with one of these members.
    pub(crate) fn cut(&self, members: &HashSet<u64>) {
        for slot in self.slots.borrow().all.iter().flatten() {
            if slot
                .member
                .get()
                .is_some_and(|serial| members.contains(&serial))
            {
                slot.end(Ending::Now);
            }
        }
    }

    /// Asks the connections to end, waits for them until `deadline`, then makes them.
    pub(crate) async fn drain(&self, deadline: Instant) {
        self.end(Ending::Graceful);
        if timeout_at(deadline, self.emptied()).await.is_err() {
            self.end(Ending::Now);
            self.emptied().await;
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn emptied(&self) {
        while !self.slots.borrow().is_empty() {
            // One thread: nothing can leave between the look and the wait.
            self.emptied.notified().await;
        }
    }
}

impl Slots {
    const fn is_empty(&self) -> bool {
        self.free.len() == self.all.len()
    }
}

impl Slot {
    fn end(&self, ending: Ending) {
        self.ending.set(self.ending.get().max(ending));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Notes which member it is with, by its serial; `None` when a request has ended.
    pub(crate) fn is_with(&self, member: Option<u64>) {
        self.member.set(member);
    }

    /// How this connection is asked to end.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.get()
    }

    /// Has `waker` woken when the answer of [`Slot::ending`] changes.
    pub(crate) fn attend(&self, waker: &Waker) {
        let mut held = self.waker.borrow_mut();
        if held.is_none() {
            // A task, or a future among others, keeps its waker for life, so the first one is good for ever.
            *held = Some(waker.clone());
        }
    }
}

impl Ticket {
    /// A place on the same roll for part of the connection, which may be ended alone.
    pub(super) fn beside(&self) -> Self {
        self.roll.enter()
    }

    /// The connection's slot.
    pub(crate) const fn slot(&self) -> &Rc<Slot> {
        &self.slot
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.roll.slots.borrow_mut();
        if let Some(place) = slots.all.get_mut(self.position) {
            *place = None;
        }
        slots.free.push(self.position);
        if slots.is_empty() {
            *slots = Slots::default();
            self.roll.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_an_empty_roll_holds_nothing() {
        let roll = Rc::new(Roll::default());
        let tickets: Vec<_> = (0..3).map(|_| roll.enter()).collect();
        drop(roll.enter());
        let again = roll.enter();
        assert_eq!((again.position, roll.slots.borrow().all.len()), (3, 4));
        roll.end(Ending::Now);
        roll.end(Ending::Graceful);
        assert_eq!(again.slot().ending(), Ending::Now);
        drop((tickets, again));
        assert_eq!(roll.slots.borrow().all.capacity(), 0);
    }
}
