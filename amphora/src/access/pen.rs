//! How one thread of the data path leaves records.

use std::{
    cell::{Cell, RefCell},
    num::NonZeroU32,
    rc::Rc,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError},
    },
    thread::Thread,
    time::{Instant, SystemTime},
};

use super::{Desk, record::Record};
use crate::limits::RECORDS_SPARE_MAX;

/// One thread's way to the writer.
#[derive(Debug)]
pub(crate) struct Pen {
    desk: Arc<Desk>,
    writer: Thread,
    lane: usize,
    full: SyncSender<Box<Record>>,
    free: Receiver<Box<Record>>,
    /// Those that found no room.
    #[expect(clippy::vec_box, reason = "they travel between threads in their boxes")]
    spare: RefCell<Vec<Box<Record>>>,
    chance: Cell<u64>,
}

impl Pen {
    pub(super) fn new(
        (desk, writer): (Arc<Desk>, Thread),
        lane: usize,
        (full, free): (SyncSender<Box<Record>>, Receiver<Box<Record>>),
    ) -> Self {
        Self {
            desk,
            writer,
            lane,
            full,
            free,
            spare: RefCell::default(),
            // Never zero.
            chance: Cell::new(rand::random::<u64>() | 1),
        }
    }

    /// Begins a record, of one in so many; the others are none.
    pub(crate) fn begin(self: &Rc<Self>, one_in: NonZeroU32) -> Option<Draft> {
        if !self.chooses(one_in) {
            return None;
        }
        let used = self.spare.borrow_mut().pop();
        let mut record = match used.or_else(|| self.free.try_recv().ok()) {
            Some(mut record) => {
                record.clear();
                record
            }
            None => Box::default(),
        };
        record.began = Some(Instant::now());
        Some(Draft {
            pen: Rc::clone(self),
            record: Some(record),
        })
    }

    /// Whether it is the one in so many, by chance.
    pub(super) fn chooses(&self, one_in: NonZeroU32) -> bool {
        if one_in == NonZeroU32::MIN {
            return true;
        }
        // Marsaglia's xorshift: nobody gains by guessing which requests are logged.
        let mut state = self.chance.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.chance.set(state);
        (state >> 32).is_multiple_of(u64::from(one_in.get()))
    }

    fn leave(&self, record: Box<Record>) {
        match self.full.try_send(record) {
            Ok(()) => self.desk.wake(&self.writer),
            Err(TrySendError::Full(record) | TrySendError::Disconnected(record)) => {
                self.desk.drop_one(self.lane);
                let mut spare = self.spare.borrow_mut();
                if spare.len() < RECORDS_SPARE_MAX {
                    spare.push(record);
                }
            }
        }
    }
}

/// A record of what is under way. Dropping it ends it: it is left to be written.
#[derive(Debug)]
pub(crate) struct Draft {
    pen: Rc<Pen>,
    record: Option<Box<Record>>,
}

impl Draft {
    /// Notes something.
    pub(crate) fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            note(record);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.ended = Some(SystemTime::now());
            record.total = record.elapsed();
            self.pen.leave(record);
        }
    }
}
