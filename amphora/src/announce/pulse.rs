//! Whether the threads that carry traffic do what they are asked to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::limits::PULSE_TIME_MAX;

/// A question that every thread answers.
#[derive(Debug)]
pub(crate) struct Pulse {
    answers: Arc<AtomicUsize>,
    expected: usize,
    asked: Instant,
}

impl Pulse {
    /// Asks that many threads; `ask` is given where they count themselves.
    pub(crate) fn begin(expected: usize, ask: impl FnOnce(&Arc<AtomicUsize>)) -> Self {
        let answers = Arc::new(AtomicUsize::new(0));
        ask(&answers);
        Self {
            answers,
            expected,
            asked: Instant::now(),
        }
    }

    /// Whether all have answered.
    pub(super) fn is_answered(&self) -> bool {
        self.answers.load(Relaxed) >= self.expected
    }

    /// Whether one of them takes so long that it cannot be taken to serve.
    pub(super) fn is_missed(&self) -> bool {
        !self.is_answered() && self.asked.elapsed() > PULSE_TIME_MAX
    }
}
