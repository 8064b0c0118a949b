//! Access logs: a record of each request or connection of listeners that want it, written by a thread of its own (D48).
//!
//! Threads of the data path fill records that they are given back, and leave them in a bounded queue each: no lock, no
//! wait whatever the sink does, no system call but to wake a writer that sleeps. A record that finds no room is dropped
//! and counted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence},
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

mod format;
mod pen;
mod record;
mod settings;
mod sink;

use format::{Batch, Format};
pub(crate) use pen::{Draft, Pen};
pub(crate) use record::{Kind, Record};
pub(crate) use settings::{Settings, Target, parse_bytes};
use sink::Sink;

use crate::{
    limits::{FLUSH_TIME_MAX, RECORDS_BATCH_BYTES, RECORDS_MAX, RECORDS_PAUSE},
    network::outside,
};

/// The log of this process, or none. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessLog(Option<Open>);

#[derive(Clone, Debug)]
struct Open {
    desk: Arc<Desk>,
    newcomers: Sender<Queue>,
    writer: Arc<thread::JoinHandle<()>>,
}

/// What the writer and those who leave records share.
#[derive(Debug, Default)]
struct Desk {
    /// The writer waits to be woken.
    asleep: AtomicBool,
    ending: AtomicBool,
    written: AtomicU64,
    /// What the sink did not take.
    lost: AtomicU64,
    /// What found no room, by thread; each writes to its own alone.
    dropped: Box<[Dropped]>,
}

/// Aligned so that no two threads write to the same cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Dropped(AtomicU64);

/// The writer's end of one thread's records.
#[derive(Debug)]
struct Queue {
    full: Receiver<Box<Record>>,
    free: SyncSender<Box<Record>>,
    over: bool,
}

/// How many records there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The sink has taken them.
    pub(crate) written: u64,
    /// The sink was too slow for them, or failed.
    pub(crate) dropped: u64,
}

impl AccessLog {
    /// Starts the writer, for so many threads that leave records.
    pub(crate) fn start(settings: Settings, lanes: usize) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            dropped: (0..lanes).map(|_| Dropped::default()).collect(),
            ..Desk::default()
        });
        let (newcomers, come) = channel();
        let its = Arc::clone(&desk);
        // Servers of logs are on the host's network.
        let writer =
            outside::start_thread("access-log", move || Writer::new(its, come, settings).run())?;
        Ok(Self(Some(Open {
            desk,
            newcomers,
            writer: Arc::new(writer),
        })))
    }

    /// A pen for the thread of that lane; `None` if there is no log.
    pub(crate) fn pen(&self, lane: usize) -> Option<Pen> {
        let open = self.0.as_ref()?;
        let (full, filled) = sync_channel(RECORDS_MAX);
        let (given_back, free) = sync_channel(RECORDS_MAX);
        let queue = Queue {
            full: filled,
            free: given_back,
            over: false,
        };
        // A writer that has died takes nobody on.
        open.newcomers.send(queue).ok()?;
        let writer = open.writer.thread().clone();
        Some(Pen::new(
            (Arc::clone(&open.desk), writer),
            lane,
            (full, free),
        ))
    }

    /// How many records there were so far.
    pub(crate) fn counts(&self) -> Counts {
        let Some(Open { desk, .. }) = &self.0 else {
            return Counts::default();
        };
        let dropped = desk.dropped.iter().map(|Dropped(lane)| lane.load(Relaxed));
        Counts {
            written: desk.written.load(Relaxed),
            dropped: dropped.sum::<u64>() + desk.lost.load(Relaxed),
        }
    }

    /// Has what was left so far written, but waits not for long: the sink may be hanging.
    pub(crate) fn end(&self) {
        let Some(Open { desk, writer, .. }) = &self.0 else {
            return;
        };
        desk.ending.store(true, SeqCst);
        writer.thread().unpark();
        let deadline = Instant::now() + FLUSH_TIME_MAX;
        while !writer.is_finished() && Instant::now() < deadline {
            thread::sleep(GATHER);
        }
    }
}

impl Desk {
    /// Counts a record that found no room.
    fn drop_one(&self, lane: usize) {
        if let Some(Dropped(count)) = self.dropped.get(lane) {
            // Single writer.
            count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// Wakes the writer if it sleeps, after something was left for it.
    fn wake(&self, writer: &thread::Thread) {
        // Either we see that it sleeps, or it sees what was left: it looks once more after it has said that it will.
        fence(SeqCst);
        if self.asleep.load(Relaxed) && self.asleep.swap(false, Relaxed) {
            writer.unpark();
        }
    }
}

/// What runs in the thread.
struct Writer {
    desk: Arc<Desk>,
    newcomers: Receiver<Queue>,
    queues: Vec<Queue>,
    format: Format,
    sink: Sink,
    batch: Batch,
}

impl Writer {
    fn new(desk: Arc<Desk>, newcomers: Receiver<Queue>, settings: Settings) -> Self {
        let format = Format::new(settings.framing());
        Self {
            desk,
            newcomers,
            queues: Vec::new(),
            format,
            sink: Sink::new(settings),
            batch: Batch::default(),
        }
    }

    /// Writes until it is told to end, or nobody is left who could leave anything.
    fn run(mut self) {
        loop {
            let ending = self.desk.ending.load(SeqCst);
            let orphaned = self.welcome();
            while self.gather() {
                self.settle();
            }
            if ending || orphaned && self.queues.is_empty() {
                return;
            }
            self.desk.asleep.store(true, SeqCst);
            fence(SeqCst);
            if !self.gather() {
                thread::park_timeout(RECORDS_PAUSE);
            }
            self.desk.asleep.store(false, Relaxed);
            if !self.desk.ending.load(SeqCst) {
                // So that those which come together are written together.
                thread::sleep(GATHER);
            }
        }
    }

    /// Takes on threads that have begun; whether there can be no more.
    fn welcome(&mut self) -> bool {
        loop {
            match self.newcomers.try_recv() {
                Ok(queue) => self.queues.push(queue),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// Puts what waits into the batch, until that is full; whether there is something in it.
    fn gather(&mut self) -> bool {
        // Each time another one comes first, so that a busy thread does not crowd out the others.
        let first = self.queues.len().min(1);
        self.queues.rotate_left(first);
        for queue in &mut self.queues {
            while self.batch.len() < RECORDS_BATCH_BYTES {
                match queue.full.try_recv() {
                    Ok(record) => {
                        self.batch.add(&mut self.format, &record);
                        // The thread that it was from may have ended, or have enough.
                        let _ = queue.free.try_send(record);
                    }
                    Err(error) => {
                        queue.over = error == TryRecvError::Disconnected;
                        break;
                    }
                }
            }
        }
        self.queues.retain(|queue| !queue.over);
        !self.batch.is_empty()
    }

    fn settle(&mut self) {
        let records = self.batch.records();
        let written = self.sink.write(&self.batch).min(records);
        self.desk.written.fetch_add(written, Relaxed);
        self.desk.lost.fetch_add(records - written, Relaxed);
        self.batch.clear();
    }
}

/// How long records gather before they are written.
const GATHER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
