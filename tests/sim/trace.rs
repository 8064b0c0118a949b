//! What happened in a run, in order: as a number that two equal runs share, and as lines for people who replay one.

use std::{
    fmt::Arguments,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use crate::dice::mix;

/// The trace of one run.
pub(crate) struct Trace {
    began: Instant,
    hash: Mutex<u64>,
    events: AtomicU64,
    is_told: bool,
}

impl Trace {
    pub(crate) fn begin(is_told: bool) -> Self {
        Self {
            began: Instant::now(),
            hash: Mutex::new(0xcbf2_9ce4_8422_2325),
            events: AtomicU64::new(0),
            is_told,
        }
    }

    /// Something happened.
    pub(crate) fn note(&self, what: Arguments<'_>) {
        let text = what.to_string();
        let at = self.began.elapsed();
        self.add(&text, at.as_micros() as u64);
        if self.is_told {
            eprintln!("{:9.3} {text}", at.as_secs_f64());
        }
    }

    /// Something small happened, of which there is too much to be told.
    pub(crate) fn count(&self, who: usize, what: &str) {
        self.add(what, who as u64);
    }

    fn add(&self, text: &str, number: u64) {
        let mut hash = self.hash.lock().unwrap();
        let bytes = text.bytes().chain(number.to_be_bytes());
        *hash = bytes.fold(*hash, mix);
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hash(&self) -> u64 {
        *self.hash.lock().unwrap()
    }

    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How long the run has lasted.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.began.elapsed()
    }
}
