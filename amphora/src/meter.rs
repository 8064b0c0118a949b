//! What happened, counted per core: single-writer counters that readers sum.
//!
//! Each worker has a lane of its own in every meter and is the only one that writes there, so counting is a relaxed
//! load and a relaxed store: no locked instruction and no shared cache line on the data path. Readers (reports,
//! metrics) add the lanes up; they may lag one event behind a worker, which nobody can notice.

use std::{
    ops::AddAssign,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use krater_amphora_api::{Cause, Counters};

mod failures;

pub use failures::{FailureTotals, Failures};

/// A number that only its own core changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        // Single writer: only this core stores, so a relaxed load and store lose nothing.
        self.0
            .store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The number as it was last stored.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One lane per thread of the data path, and one for whoever is none. A lane exists from when it is first written to:
/// most things are seen by few threads, and of ten thousand members most are idle.
#[derive(Debug)]
pub struct Lanes<L> {
    lanes: Box<[OnceLock<Box<L>>]>,
    others: OnceLock<Box<L>>,
}

impl<L: Default> Lanes<L> {
    /// That many lanes, all at zero.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes: (0..lanes).map(|_| OnceLock::new()).collect(),
            others: OnceLock::new(),
        }
    }

    /// The lane of that number. Only the thread whose it is may write to it.
    #[must_use]
    pub fn of(&self, lane: usize) -> &L {
        let lane = self.lanes.get(lane).unwrap_or(&self.others);
        lane.get_or_init(Box::default)
    }

    /// The lanes that somebody has written to.
    pub(crate) fn used(&self) -> impl Iterator<Item = &L> {
        let lanes = self.lanes.iter().chain([&self.others]);
        lanes.filter_map(|lane| lane.get().map(AsRef::as_ref))
    }

    /// The lane of whoever is no worker: the housekeeper.
    #[must_use]
    pub fn others(&self) -> &L {
        self.others.get_or_init(Box::default)
    }

    /// The sum of `read` over all lanes.
    #[must_use]
    pub fn sum(&self, read: impl Fn(&L) -> &Counter) -> u64 {
        self.used()
            .fold(0, |sum, lane| sum.wrapping_add(read(lane).read()))
    }

    /// Adds the lanes' responses by class.
    #[must_use]
    fn sum_responses(&self, read: impl Fn(&L) -> &Responses) -> [u64; Responses::CLASSES] {
        let mut sums = [0; Responses::CLASSES];
        for lane in self.used() {
            for (sum, counter) in sums.iter_mut().zip(&read(lane).0) {
                *sum += counter.read();
            }
        }
        sums
    }

    /// Adds the lanes' durations.
    #[must_use]
    fn sum_durations(&self, read: impl Fn(&L) -> &Durations) -> DurationTotals {
        let mut totals = DurationTotals::default();
        for lane in self.used() {
            let lane = read(lane);
            for (sum, counter) in totals.buckets.iter_mut().zip(&lane.buckets) {
                *sum += counter.read();
            }
            totals.total += Duration::from_nanos(lane.nanoseconds.read());
        }
        totals
    }
}

/// HTTP responses by class of their status: `1xx` to `5xx`, then whatever is neither.
#[derive(Debug, Default)]
pub struct Responses([Counter; Self::CLASSES]);

impl Responses {
    /// Number of classes.
    pub const CLASSES: usize = 6;
    /// What each class is called in metrics.
    pub const NAMES: [&str; Self::CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

    /// Counts a response of that status.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = self.0.get(class.min(Self::CLASSES - 1)) {
            counter.bump();
        }
    }
}

/// How long requests took: of a listener from the end of their head, of a member from when they were sent, to the end of
/// the answer.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Counter; Self::BUCKETS],
    nanoseconds: Counter,
}

impl Durations {
    /// Number of buckets, the unbounded last one included.
    pub const BUCKETS: usize = 14;
    /// Upper bound of each bucket but the last, in microseconds: from a cached file to a patient client.
    pub const BOUNDS_MICROSECONDS: [u64; Self::BUCKETS - 1] = [
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 10_000_000,
    ];

    /// Counts one request.
    pub fn count(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = Self::BOUNDS_MICROSECONDS.partition_point(|bound| *bound < microseconds);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.bump();
        }
        self.nanoseconds
            .add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Datagrams that were dropped, by why.
#[derive(Debug, Default)]
pub struct Losses([Counter; Loss::ALL.len()]);

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The client's address is not allowed.
    Denied,
    /// Its source has begun sessions too often.
    TooOften,
    /// The listener has as many sessions as it may have.
    Limit,
    /// There was nobody to send it to.
    NoMember,
    /// There was no descriptor or memory for a session.
    Exhausted,
    /// The system did not take it for the member.
    ToMember,
    /// The system did not take it for the client.
    ToClient,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Denied,
        Self::TooOften,
        Self::Limit,
        Self::NoMember,
        Self::Exhausted,
        Self::ToMember,
        Self::ToClient,
    ];

    /// What it is called in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::TooOften => "too_often",
            Self::Limit => "limit",
            Self::NoMember => "no_member",
            Self::Exhausted => "exhausted",
            Self::ToMember => "to_member",
            Self::ToClient => "to_client",
        }
    }
}

impl Loss {
    /// The same among all causes of failures.
    #[must_use]
    pub const fn cause(self) -> Cause {
        match self {
            Self::Denied => Cause::LbDeniedCidr,
            Self::TooOften => Cause::LbRate,
            Self::Limit => Cause::LbLimit,
            Self::NoMember => Cause::LbNoMember,
            // What does not leave here has found no room.
            Self::Exhausted | Self::ToClient => Cause::LbExhausted,
            Self::ToMember => Cause::MemberRefused,
        }
    }
}

impl Losses {
    /// Counts so many datagrams.
    pub fn count(&self, why: Loss, datagrams: u64) {
        self.of(why).add(datagrams);
    }

    /// The counter of one reason.
    #[must_use]
    pub fn of(&self, why: Loss) -> &Counter {
        let [
            denied,
            too_often,
            limit,
            no_member,
            exhausted,
            to_member,
            to_client,
        ] = &self.0;
        match why {
            Loss::Denied => denied,
            Loss::TooOften => too_often,
            Loss::Limit => limit,
            Loss::NoMember => no_member,
            Loss::Exhausted => exhausted,
            Loss::ToMember => to_member,
            Loss::ToClient => to_client,
        }
    }
}

/// What one worker saw of one listener. Aligned so that two workers never write to the same cache line (128 bytes:
/// processors fetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerLane {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections that ended.
    pub ended: Counter,
    /// Bytes received from clients.
    pub bytes_in: Counter,
    /// Bytes sent to clients.
    pub bytes_out: Counter,
    /// Connections closed because the client's address is not allowed.
    pub denied: Counter,
    /// Connections turned away because the process had too few descriptors left.
    pub shed: Counter,
    /// Connections closed because their source connected too often.
    pub too_often: Counter,
    /// Requests that failed by the client's fault: malformed, too large, too slow.
    pub request_errors: Counter,
    /// Connections and requests that found no member to go to.
    pub no_member: Counter,
    /// Attempts to reach another member after one could not be reached.
    pub retries: Counter,
    /// HTTP requests whose head was read.
    pub requests: Counter,
    /// HTTP responses, our own too.
    pub responses: Responses,
    /// How long requests took.
    pub durations: Durations,
    /// Datagrams received from clients.
    pub datagrams_in: Counter,
    /// Datagrams sent to clients.
    pub datagrams_out: Counter,
    /// Datagrams that were dropped.
    pub losses: Losses,
    /// Sessions that gave way to others.
    pub evicted: Counter,
    /// Sessions that went on with another member.
    pub moved: Counter,
    /// Clients that were told by ICMP that nobody takes their datagrams.
    pub told: Counter,
    /// Clients that could not be told so, or not that often.
    pub untold: Counter,
    /// Requests, connections and datagrams that failed, by cause.
    pub failures: Failures<{ Cause::COUNT }>,
}

/// What one worker saw of one member.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct MemberLane {
    /// Connections established.
    pub connected: Counter,
    /// Connections that ended.
    pub ended: Counter,
    /// HTTP requests sent.
    pub requests: Counter,
    /// HTTP requests that were sent over a connection that had served another before.
    pub reuses: Counter,
    /// Bytes sent to the member.
    pub bytes_out: Counter,
    /// Bytes received from the member.
    pub bytes_in: Counter,
    /// Connections that could not be established.
    pub connect_failures: Counter,
    /// Those of them for which this host had no port left.
    pub ports_exhausted: Counter,
    /// Answers that broke off, were malformed or never came.
    pub response_errors: Counter,
    /// HTTP requests that had to wait until others had ended.
    pub queued: Counter,
    /// Times that it was taken out for its conduct; the housekeeper's.
    pub ejections: Counter,
    /// What failed by it or on the way to it, each try for itself.
    pub failures: Failures<{ Cause::OF_MEMBERS }>,
    /// HTTP responses of the member.
    pub responses: Responses,
    /// How long requests took of which the answer is complete.
    pub durations: Durations,
}

/// What one thread has to do.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ThreadLane {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections that ended.
    pub ended: Counter,
    /// Client connections that were left to a thread with less to do.
    pub passed: Counter,
}

impl ThreadLane {
    /// Client connections open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        // Ended first, as in the meters of listeners.
        let ended = self.ended.read();
        self.accepted.read().saturating_sub(ended)
    }
}

/// What each thread has to do.
pub type ThreadMeter = Lanes<ThreadLane>;
/// What a listener did, over all workers.
pub type ListenerMeter = Lanes<ListenerLane>;
/// What a member did, over all workers.
pub type MemberMeter = Lanes<MemberLane>;

/// A duration histogram, summed over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationTotals {
    /// Requests per bucket (not cumulative); bounds are [`Durations::BOUNDS_MICROSECONDS`], the last has none.
    pub buckets: [u64; Durations::BUCKETS],
    /// Time of all requests together.
    pub total: Duration,
}

/// What a member did, or several together, summed over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberTotals {
    /// Connections established.
    pub connected: u64,
    /// Connections that ended.
    pub ended: u64,
    /// HTTP requests sent.
    pub requests: u64,
    /// HTTP requests that were sent over a connection that had served another before.
    pub reuses: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Connections that could not be established.
    pub connect_failures: u64,
    /// Those of them for which this host had no port left.
    pub ports_exhausted: u64,
    /// Answers that broke off, were malformed or never came.
    pub response_errors: u64,
    /// HTTP responses by class, named by [`Responses::NAMES`].
    pub responses: [u64; Responses::CLASSES],
    /// How long HTTP requests took of which the answer is complete.
    pub durations: DurationTotals,
}

impl MemberTotals {
    /// Connections open now.
    #[must_use]
    pub const fn active(&self) -> u64 {
        self.connected.saturating_sub(self.ended)
    }
}

impl AddAssign for MemberTotals {
    fn add_assign(&mut self, other: Self) {
        self.connected += other.connected;
        self.ended += other.ended;
        self.requests += other.requests;
        self.reuses += other.reuses;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.connect_failures += other.connect_failures;
        self.ports_exhausted += other.ports_exhausted;
        self.response_errors += other.response_errors;
        for (sum, responses) in self.responses.iter_mut().zip(other.responses) {
            *sum += responses;
        }
        let durations = &mut self.durations;
        for (sum, requests) in durations.buckets.iter_mut().zip(other.durations.buckets) {
            *sum += requests;
        }
        durations.total += other.durations.total;
    }
}

impl ListenerLane {
    /// Counts datagrams that were dropped.
    pub fn lose(&self, why: Loss, datagrams: u64) {
        self.losses.count(why, datagrams);
        self.failures.add(why.cause(), datagrams);
    }

    /// Counts a session that gave way to another.
    pub fn evict(&self) {
        self.evicted.bump();
        self.failures.count(Cause::LbLimit);
    }
}

impl Lanes<ListenerLane> {
    /// The counters of the contract.
    #[must_use]
    pub fn counters(&self) -> Counters {
        // Ended before accepted: a connection that comes and goes in between must not make the difference negative.
        let ended = self.sum(|lane| &lane.ended);
        let total_connections = self.sum(|lane| &lane.accepted);
        Counters {
            active_connections: total_connections.saturating_sub(ended),
            bytes_in: self.sum(|lane| &lane.bytes_in),
            bytes_out: self.sum(|lane| &lane.bytes_out),
            request_errors: self.sum(|lane| &lane.request_errors),
            total_connections,
        }
    }

    /// HTTP responses by class, named by [`Responses::NAMES`].
    #[must_use]
    pub fn responses(&self) -> [u64; Responses::CLASSES] {
        self.sum_responses(|lane| &lane.responses)
    }

    /// How long requests took.
    #[must_use]
    pub fn durations(&self) -> DurationTotals {
        self.sum_durations(|lane| &lane.durations)
    }

    /// What failed, by cause.
    #[must_use]
    pub fn failures(&self) -> FailureTotals<{ Cause::COUNT }> {
        self.sum_failures(|lane| &lane.failures)
    }
}

impl Lanes<MemberLane> {
    /// What failed by it, by cause.
    #[must_use]
    pub fn failures(&self) -> FailureTotals<{ Cause::OF_MEMBERS }> {
        self.sum_failures(|lane| &lane.failures)
    }

    /// Connections open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        let ended = self.sum(|lane| &lane.ended);
        self.sum(|lane| &lane.connected).saturating_sub(ended)
    }

    /// Everything that was counted.
    #[must_use]
    pub fn totals(&self) -> MemberTotals {
        // Fields are read as they are written here: ended before connected, for the same reason as in a listener's.
        MemberTotals {
            ended: self.sum(|lane| &lane.ended),
            connected: self.sum(|lane| &lane.connected),
            requests: self.sum(|lane| &lane.requests),
            reuses: self.sum(|lane| &lane.reuses),
            bytes_out: self.sum(|lane| &lane.bytes_out),
            bytes_in: self.sum(|lane| &lane.bytes_in),
            connect_failures: self.sum(|lane| &lane.connect_failures),
            ports_exhausted: self.sum(|lane| &lane.ports_exhausted),
            response_errors: self.sum(|lane| &lane.response_errors),
            responses: self.sum_responses(|lane| &lane.responses),
            durations: self.sum_durations(|lane| &lane.durations),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_add_up_and_an_unknown_worker_still_counts() {
        let meter = ListenerMeter::new(2);
        meter.of(0).accepted.bump();
        meter.of(1).accepted.add(2);
        meter.of(9).accepted.bump();
        meter.of(1).ended.bump();
        let counters = meter.counters();
        assert_eq!(
            (counters.total_connections, counters.active_connections),
            (4, 3)
        );
    }

    #[test]
    fn responses_fall_into_their_class() {
        let meter = ListenerMeter::new(1);
        for status in [100, 200, 204, 301, 404, 503, 99, 777] {
            meter.of(0).responses.count(status);
        }
        assert_eq!(meter.responses(), [1, 2, 1, 1, 1, 2]);
    }

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let meter = ListenerMeter::new(1);
        for microseconds in [0, 500, 501, 60_000_000] {
            meter
                .of(0)
                .durations
                .count(Duration::from_micros(microseconds));
        }
        let totals = meter.durations();
        assert_eq!(
            (totals.buckets[0], totals.buckets[1], totals.buckets[13]),
            (2, 1, 1)
        );
        assert_eq!(totals.total, Duration::from_micros(60_001_001));
    }
}
