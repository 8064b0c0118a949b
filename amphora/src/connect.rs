//! Reaching a member: who is tried, in what order, how often and for how long.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use krater_amphora_core::limits::MEMBER_TRIES_MAX;
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

/// Chooses members for one connection or request, passing over those that could not be reached.
///
/// At most [`MEMBER_TRIES_MAX`] attempts (reference 19.1). Nothing may have been sent to a member that is followed by
/// another try: that is for the caller to keep.
pub(crate) struct Attempts<'a> {
    pool: &'a PoolState,
    client: SocketAddr,
    made: usize,
    failed: Vec<usize>,
}

impl<'a> Attempts<'a> {
    /// None made yet.
    pub(crate) const fn new(pool: &'a PoolState, client: SocketAddr) -> Self {
        Self {
            pool,
            client,
            made: 0,
            failed: Vec::new(),
        }
    }

    /// The next member to try; `None` when there is none or the tries are used up.
    ///
    /// When every member has failed they are tried again after a pause, as a member that is being restarted deserves:
    /// the pause is a second, or the time allowed for connecting if that is shorter.
    pub(crate) async fn next(&mut self, seat: &Seat) -> Option<Arc<MemberState>> {
        let pool = self.pool;
        if self.made == MEMBER_TRIES_MAX {
            return None;
        }
        let position = match pool.choose(self.client, &self.failed) {
            Some(position) => position,
            None if self.failed.is_empty() => return None,
            None => {
                let allowed = seat.state.listener.timeouts.member_connect;
                sleep(allowed.min(RETRY_PAUSE_MAX)).await;
                self.failed.clear();
                pool.choose(self.client, &[])?
            }
        };
        if self.made > 0 {
            seat.lane().retries.bump();
        }
        self.made += 1;
        self.failed.push(position);
        pool.members.get(position).cloned()
    }

    /// How many members were tried.
    pub(crate) const fn made(&self) -> usize {
        self.made
    }
}

/// Connects to a member within `allowed`.
pub(crate) async fn dial(
    member: &Arc<MemberState>,
    worker: usize,
    allowed: Duration,
) -> io::Result<(TcpStream, Link)> {
    let lane = member.meter.of(worker);
    let outcome = match timeout(allowed, TcpStream::connect(member.address)).await {
        Ok(Ok(stream)) => stream.set_nodelay(true).map(|()| stream),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match outcome {
        Ok(stream) => {
            lane.connected.bump();
            Ok((
                stream,
                Link {
                    member: Arc::clone(member),
                    worker,
                },
            ))
        }
        Err(error) => {
            lane.connect_failures.bump();
            tracing::debug!(member = %member.id, address = %member.address, %error, "a member cannot be reached");
            Err(error)
        }
    }
}

/// An established connection to a member, as the meters see it.
pub(crate) struct Link {
    pub(crate) member: Arc<MemberState>,
    worker: usize,
}

impl Link {
    /// The meters of the member, of this worker.
    pub(crate) fn lane(&self) -> &MemberLane {
        self.member.meter.of(self.worker)
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
