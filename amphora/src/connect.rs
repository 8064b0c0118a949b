//! Reaching a member: who is tried, in what order, how often and for how long.

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use krater_amphora_api::Cause;
use krater_amphora_core::limits::MEMBER_TRIES_MAX;
use rustix::io::Errno;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    limits::RETRY_PAUSE_MAX,
    meter::MemberLane,
    seat::Seat,
    world::{MemberState, PoolState},
};

/// The members that one connection or request has tried to reach.
///
/// At most [`MEMBER_TRIES_MAX`] attempts (reference 19.1). Nothing may have been sent to a member that is followed by
/// another try: that is for the caller to keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    made: u8,
    /// How many of `failed` count: none again once every member has failed.
    passed_over: u8,
    failed: [usize; MEMBER_TRIES_MAX],
    /// To be tried first, if it can still serve: where the client says it belongs.
    wanted: Option<usize>,
}

/// What to do about the next try.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Try this one.
    Member(&'a Arc<MemberState>),
    /// Every member has failed. Wait for so long, as a member that is being restarted deserves, then ask again: a
    /// second, or the time allowed for connecting if that is shorter.
    Pause(Duration),
    /// There is none, or the tries are used up.
    Nobody,
}

impl Tries {
    /// How many were chosen so far.
    pub(crate) const fn made(&self) -> u8 {
        self.made
    }

    /// Chooses the member to try next, passing over those that could not be reached.
    pub(crate) fn next<'a>(
        &mut self,
        pool: &'a PoolState,
        client: SocketAddr,
        seat: &Seat,
    ) -> Next<'a> {
        if usize::from(self.made) == MEMBER_TRIES_MAX {
            return Next::Nobody;
        }
        let failed = self.failed.get(..usize::from(self.passed_over));
        let failed = failed.unwrap_or_default();
        let wanted = self
            .wanted
            .filter(|position| !failed.contains(position) && pool.keeps_clients(*position));
        let Some(position) = wanted.or_else(|| choose(pool, client, failed, seat.lane_number()))
        else {
            if self.passed_over == 0 {
                return Next::Nobody;
            }
            self.passed_over = 0;
            let allowed = seat.state.listener.timeouts.member_connect;
            return Next::Pause(allowed.min(RETRY_PAUSE_MAX));
        };
        if self.made > 0 {
            seat.lane().retries.bump();
        }
        self.made += 1;
        if let Some(place) = self.failed.get_mut(usize::from(self.passed_over)) {
            *place = position;
            self.passed_over += 1;
        }
        pool.members
            .get(position)
            .map_or(Next::Nobody, Next::Member)
    }
}

/// Chooses a member, if possible one that takes another request at once, where it matters to nobody whom a client comes to.
fn choose(pool: &PoolState, client: SocketAddr, failed: &[usize], lane: usize) -> Option<usize> {
    let first = pool.choose(client, failed)?;
    let has_room = |position: usize| {
        let member = pool.members.get(position);
        member.is_some_and(|member| member.places.has_room(lane))
    };
    if has_room(first) || !pool.is_free_to_choose() {
        return Some(first);
    }
    let mut not = [first; 2 * MEMBER_TRIES_MAX];
    let mut passed = 1;
    for (place, position) in not.iter_mut().skip(1).zip(failed) {
        *place = *position;
        passed += 1;
    }
    while passed < not.len() {
        let Some(other) = pool.choose(client, not.get(..passed)?) else {
            break;
        };
        if has_room(other) {
            return Some(other);
        }
        *not.get_mut(passed)? = other;
        passed += 1;
    }
    Some(first)
}

/// [`Tries`] of one connection or request, with the pauses between them.
pub(crate) struct Attempts<'a> {
    pool: &'a PoolState,
    client: SocketAddr,
    tries: Tries,
}

impl<'a> Attempts<'a> {
    /// None made yet; `wanted` is the position of the member to begin with, if it can serve.
    pub(crate) fn new(pool: &'a PoolState, client: SocketAddr, wanted: Option<usize>) -> Self {
        let tries = Tries {
            wanted,
            ..Tries::default()
        };
        Self {
            pool,
            client,
            tries,
        }
    }

    /// The next member to try; `None` when there is none or the tries are used up.
    pub(crate) async fn next(&mut self, seat: &Seat) -> Option<Arc<MemberState>> {
        loop {
            match self.tries.next(self.pool, self.client, seat) {
                Next::Member(member) => return Some(Arc::clone(member)),
                Next::Pause(pause) => sleep(pause).await,
                Next::Nobody => return None,
            }
        }
    }
}

/// Connects to a member within `allowed`.
pub(crate) async fn dial(
    member: &Arc<MemberState>,
    worker: usize,
    allowed: Duration,
) -> Result<(TcpStream, Link), Cause> {
    let outcome = match timeout(allowed, TcpStream::connect(member.address)).await {
        Ok(Ok(stream)) => stream.set_nodelay(true).map(|()| stream),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match outcome {
        Ok(stream) => Ok((stream, Link::new(Arc::clone(member), worker))),
        Err(error) => Err(note_failure(member, worker, &error)),
    }
}

/// Counts a member that could not be reached, and says why.
pub(crate) fn note_failure(member: &MemberState, lane: usize, error: &io::Error) -> Cause {
    let cause = cause_of(error);
    let lane = member.meter.of(lane);
    lane.connect_failures.bump();
    lane.failures.count(cause);
    if cause == Cause::LbPortsExhausted {
        lane.ports_exhausted.bump();
    }
    if blames_member(error) {
        member.conduct.note_failure();
    }
    tracing::debug!(member = %member.id, address = %member.address, %error, "a member cannot be reached");
    cause
}

/// Why a connection could not be established.
fn cause_of(error: &io::Error) -> Cause {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut,
    };

    match (error.kind(), Errno::from_io_error(error)) {
        (ConnectionRefused, _) => Cause::MemberRefused,
        (ConnectionReset | ConnectionAborted, _) => Cause::MemberResetBeforeAnswer,
        (TimedOut, _) => Cause::MemberConnectTimeout,
        (AddrNotAvailable, _) => Cause::LbPortsExhausted,
        (_, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => Cause::LbExhausted,
        // No route, a filter that says so, an address that is nobody's here.
        _ => Cause::MemberUnreachable,
    }
}

/// Whether it is the member, or the way to it, that a connection failed by, and not what this process lacks.
fn blames_member(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut,
    };

    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | ConnectionAborted | HostUnreachable | TimedOut
    )
}

/// An established connection to a member, as the meters see it.
pub(crate) struct Link {
    pub(crate) member: Arc<MemberState>,
    lane: usize,
    /// The member has said something over it.
    proven: Cell<bool>,
}

impl Link {
    /// A connection that was just established, for the thread of that lane.
    pub(crate) fn new(member: Arc<MemberState>, lane: usize) -> Self {
        member.meter.of(lane).connected.bump();
        Self {
            member,
            lane,
            proven: Cell::new(false),
        }
    }

    /// The member has said something, or the connection has ended in order: that member works.
    pub(crate) fn prove(&self) {
        if !self.proven.replace(true) {
            self.member.conduct.note_success();
        }
    }

    /// The member broke the connection off. Before it has said anything that is as good as to refuse it.
    pub(crate) fn note_break(&self) {
        if !self.proven.get() {
            self.member.conduct.note_failure();
        }
    }

    /// Whether the member has said something over it.
    pub(crate) const fn is_proven(&self) -> bool {
        self.proven.get()
    }

    /// Counts what failed by the member.
    pub(crate) fn count(&self, cause: Cause) {
        self.lane().failures.count(cause);
    }

    /// Which lane this thread has in every meter.
    pub(crate) const fn lane_number(&self) -> usize {
        self.lane
    }

    /// The meters of the member, of this thread.
    pub(crate) fn lane(&self) -> &MemberLane {
        self.member.meter.of(self.lane)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.lane().ended.bump();
    }
}

/// One connection or request that a member is busy with, for pools that choose by it.
pub(crate) struct Load(Option<Arc<MemberState>>);

impl Load {
    /// Counts one more, if the pool asks for it.
    pub(crate) fn new(pool: &PoolState, member: &Arc<MemberState>) -> Self {
        Self(pool.counts_load().then(|| {
            member.load.fetch_add(1, Ordering::Relaxed);
            Arc::clone(member)
        }))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(member) = &self.0 {
            member.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
