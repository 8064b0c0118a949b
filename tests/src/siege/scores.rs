//! What clients saw, by the kill that was under way.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Blow, ground::Balancer};

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Answered, once, by the load balancer it was meant for.
    Done,
    /// No connection came about.
    Refused(String),
    /// The connection broke off, or an answer said that nobody could be reached.
    Lost(String),
    /// Answered by something else, or with something else.
    Wrong(String),
}

/// What clients saw in some time.
#[derive(Debug, Clone, Default)]
pub struct Score {
    /// Kills in that time.
    pub kills: usize,
    /// Requests that were answered as they should be.
    pub done: u64,
    /// Requests over a connection that broke off, or that were answered with a failure.
    pub lost: u64,
    /// Connections that did not come about.
    pub refused: u64,
    /// Answers of somebody else or of something else.
    pub wrong: u64,
    /// The longest time without an answer of a load balancer on a single amphora.
    pub longest: Duration,
    /// The same of one whose amphorae take turns.
    pub longest_of_pairs: Duration,
    /// From each kill until all was as it should be.
    pub settled: Vec<Duration>,
    /// Why it was not in time, for those kills after which it was not.
    pub unsettled: Vec<String>,
    /// How often each reason was told, for the first few.
    pub reasons: BTreeMap<String, u64>,
}

/// All scores, and which one counts now.
#[derive(Debug)]
pub(super) struct Scores {
    board: Mutex<Board>,
    answered: Vec<Mutex<Instant>>,
    are_pairs: Vec<bool>,
}

#[derive(Debug, Default)]
struct Board {
    current: Option<Blow>,
    scores: Vec<(Option<Blow>, Score)>,
}

impl Board {
    fn of(&mut self, blow: Option<Blow>) -> &mut Score {
        let found = self.scores.iter().position(|(of, _)| *of == blow);
        let at = found.unwrap_or_else(|| {
            self.scores.push((blow, Score::default()));
            self.scores.len() - 1
        });
        &mut self.scores[at].1
    }
}

impl Scores {
    pub(super) fn new(balancers: &[Balancer]) -> Self {
        let answered = balancers.iter().map(|_| Mutex::new(Instant::now()));
        Self {
            board: Mutex::default(),
            answered: answered.collect(),
            are_pairs: balancers.iter().map(|one| one.is_pair).collect(),
        }
    }

    /// Forgets what was noted so far.
    pub(super) fn begin(&self) {
        *lock(&self.board) = Board::default();
    }

    /// The kill that counts now.
    pub(super) fn current(&self) -> Option<Blow> {
        lock(&self.board).current
    }

    /// From now on what is noted counts for this kill.
    pub(super) fn turn_to(&self, blow: Option<Blow>) {
        lock(&self.board).current = blow;
    }

    /// Notes a kill and how long it took until all was as it should be, or why it was not.
    pub(super) fn settle(&self, blow: Blow, took: Duration, unsettled: Option<String>) {
        let mut board = lock(&self.board);
        let score = board.of(Some(blow));
        score.kills += 1;
        score.settled.push(took);
        score.unsettled.extend(unsettled);
    }

    /// Notes what became of a request to a load balancer, and which kill counted when it began: whoever finds out later that
    /// nobody answers does so because of that one.
    pub(super) fn note(&self, balancer: usize, fate: Fate, begun: Option<Blow>) {
        let now = Instant::now();
        let gap = (fate == Fate::Done).then(|| {
            let mut answered = lock(&self.answered[balancer]);
            let gap = now.saturating_duration_since(*answered);
            *answered = now.max(*answered);
            gap
        });
        let mut board = lock(&self.board);
        let current = board.current.or(begun);
        let score = board.of(current);
        let longest = match self.are_pairs[balancer] {
            true => &mut score.longest_of_pairs,
            false => &mut score.longest,
        };
        *longest = (*longest).max(gap.unwrap_or_default());
        let (count, reason) = match fate {
            Fate::Done => (&mut score.done, None),
            Fate::Refused(reason) => (&mut score.refused, Some(reason)),
            Fate::Lost(reason) => (&mut score.lost, Some(reason)),
            Fate::Wrong(reason) => (&mut score.wrong, Some(reason)),
        };
        *count += 1;
        if let Some(reason) = reason
            && (score.reasons.len() < REASONS_MAX || score.reasons.contains_key(&reason))
        {
            *score.reasons.entry(reason).or_default() += 1;
        }
    }

    /// When a load balancer was last seen to answer.
    pub(super) fn answered(&self, balancer: usize) -> Instant {
        *lock(&self.answered[balancer])
    }

    pub(super) fn into_all(self) -> Vec<(Option<Blow>, Score)> {
        let mut scores = lock(&self.board).scores.clone();
        scores.sort_by_key(|(blow, _)| *blow);
        scores
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reasons that are told apart.
const REASONS_MAX: usize = 12;
