//! Moves bytes both ways between a client and a member until both are done.
//!
//! Each direction reads into the worker's shared buffer and writes from it at once; only what the other side did not
//! take is kept, so an idle connection holds no buffer. The end of one direction is passed on as such (half-close),
//! the other goes on.
//!
//! A connection is closed for inactivity when neither side has moved a byte for the smaller of the two timeouts while
//! both directions are open; once a direction has ended, only the timeout of the side that is still expected to send
//! counts. Looking costs no timer per read: one timer per connection fires at most once per timeout, finds out when
//! bytes last moved, and is set anew.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use krater_amphora_core::snapshot::Timeouts;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::{limits::RELAY_ROUNDS_MAX, wire::Wire};

/// One end of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Member,
}

/// Why a relay has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Both sides have said all they had to.
    Done,
    /// That side broke the connection off; so did we with the other.
    Broken(Side),
    /// Nothing moved for too long; that side was the one to move.
    Idle(Side),
}

/// Two connections and what is under way between them.
pub(crate) struct Relay {
    client: Wire,
    member: Wire,
    /// From the client to the member.
    up: Flow,
    /// From the member to the client.
    down: Flow,
    timeouts: Timeouts,
    moved_at: Instant,
}

/// One direction.
#[derive(Default)]
struct Flow {
    stage: Stage,
    /// What was read and not taken by the other side yet.
    rest: Option<Box<Rest>>,
}

struct Rest {
    bytes: Box<[u8]>,
    written: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The source may send more.
    #[default]
    Open,
    /// The source has ended; the rest is to be written, and the end passed on.
    Ending,
    /// The end was passed on, or the sink takes no more.
    Done,
}

impl Relay {
    /// A relay over connections on which nothing was sent or read yet.
    pub(crate) fn new(client: Wire, member: Wire, timeouts: Timeouts) -> Self {
        Self {
            client,
            member,
            up: Flow::default(),
            down: Flow::default(),
            timeouts,
            moved_at: Instant::now(),
        }
    }

    /// Has `bytes` delivered to `to` before anything that is read from now on.
    pub(crate) fn with_rest(mut self, to: Side, bytes: &[u8]) -> Self {
        if !bytes.is_empty() {
            let flow = match to {
                Side::Client => &mut self.down,
                Side::Member => &mut self.up,
            };
            flow.rest = Some(Box::new(Rest {
                bytes: bytes.into(),
                written: 0,
            }));
        }
        self
    }

    /// Runs to the end. `received` and `sent` are told of bytes that came from or went to a side.
    pub(crate) async fn run(
        mut self,
        scratch: &RefCell<Box<[u8]>>,
        received: impl Fn(Side, u64),
        sent: impl Fn(Side, u64),
    ) -> Outcome {
        let mut timer = pin!(sleep(self.allowance().0));
        let outcome = poll_fn(|cx| {
            // One thread and no await while it is borrowed: never contended.
            let mut scratch = scratch.borrow_mut();
            if let Poll::Ready(outcome) = self.poll_flows(cx, &mut scratch, &received, &sent) {
                return Poll::Ready(outcome);
            }
            self.poll_idle(cx, timer.as_mut())
        })
        .await;
        if let Outcome::Broken(side) = outcome {
            // A stream cut short must not look like one that ended well, so the break is passed on as one.
            match side {
                Side::Client => self.member.break_off(),
                Side::Member => self.client.break_off(),
            }
        }
        outcome
    }

    fn poll_flows(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        received: &impl Fn(Side, u64),
        sent: &impl Fn(Side, u64),
    ) -> Poll<Outcome> {
        let mut moved = false;
        let last = self.down.stage == Stage::Done;
        let up = self.up.poll(
            cx,
            &mut self.client,
            &mut self.member,
            scratch,
            last,
            |read, written| {
                moved = true;
                received(Side::Client, read);
                sent(Side::Member, written);
            },
        );
        if up == Poll::Ready(Err(Broken)) {
            return Poll::Ready(Outcome::Broken(Side::Client));
        }
        let last = self.up.stage == Stage::Done;
        let down = self.down.poll(
            cx,
            &mut self.member,
            &mut self.client,
            scratch,
            last,
            |read, written| {
                moved = true;
                received(Side::Member, read);
                sent(Side::Client, written);
            },
        );
        if down == Poll::Ready(Err(Broken)) {
            return Poll::Ready(Outcome::Broken(Side::Member));
        }
        if moved {
            self.moved_at = Instant::now();
        }
        if up.is_ready() && down.is_ready() {
            Poll::Ready(Outcome::Done)
        } else {
            Poll::Pending
        }
    }

    /// How long nothing may move as things stand, and whose silence it would be.
    fn allowance(&self) -> (Duration, Side) {
        let Timeouts {
            client_data,
            member_data,
            ..
        } = self.timeouts;
        match (self.up.stage, self.down.stage) {
            (Stage::Open, Stage::Open) if client_data <= member_data => (client_data, Side::Client),
            (_, Stage::Open) => (member_data, Side::Member),
            (Stage::Open, _) => (client_data, Side::Client),
            // Both have ended and somebody does not take the rest.
            _ => (client_data.min(member_data), Side::Client),
        }
    }

    fn poll_idle(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Outcome> {
        loop {
            ready!(timer.as_mut().poll(cx));
            let (allowed, silent) = self.allowance();
            let now = Instant::now();
            let due = self.moved_at + allowed;
            if due <= now {
                return Poll::Ready(Outcome::Idle(silent));
            }
            // Never further away than the shortest allowance, since a half-close may shorten it meanwhile.
            let Timeouts {
                client_data,
                member_data,
                ..
            } = self.timeouts;
            timer
                .as_mut()
                .reset(due.min(now + client_data.min(member_data)));
        }
    }
}

/// The source of a flow failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Broken;

impl Flow {
    /// Moves what can be moved now. Ready when the flow is done, for good or because its source failed.
    ///
    /// `last` says that the other direction is done, so that closing both sockets passes this end on as well.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire,
        to: &mut Wire,
        scratch: &mut [u8],
        last: bool,
        mut moved: impl FnMut(u64, u64),
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..RELAY_ROUNDS_MAX {
            if self.rest.is_some() {
                match ready!(self.poll_rest(cx, to)) {
                    Ok(written) => moved(0, written),
                    Err(_) => self.stage = Stage::Done,
                }
                continue;
            }
            match self.stage {
                Stage::Done => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    // Inside TLS only the word that it is the end makes it one.
                    if !last || to.is_sealed() {
                        // Fails only if the sink is gone, which its own direction will find out.
                        let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    }
                    self.stage = Stage::Done;
                }
                Stage::Open => {
                    // What TLS has sealed and not sent yet. Only a sink that is gone fails, and then the write does too.
                    let _ = ready!(Pin::new(&mut *to).poll_flush(cx));
                    let mut buffer = ReadBuf::new(scratch);
                    match ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)) {
                        Err(_) => return Poll::Ready(Err(Broken)),
                        Ok(()) if buffer.filled().is_empty() => self.stage = Stage::Ending,
                        Ok(()) => match self.write(cx, to, buffer.filled()) {
                            Ok(written) => moved(length(buffer.filled()), written),
                            // The sink takes no more. What it still has to say is worth reading: a server may answer
                            // and close before it has read all.
                            Err(_) => self.stage = Stage::Done,
                        },
                    }
                }
            }
        }
        // Others on this core have waited long enough.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is taken at once and keeps the rest.
    fn write(&mut self, cx: &mut Context<'_>, to: &mut Wire, bytes: &[u8]) -> io::Result<u64> {
        let written = match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        match bytes.get(written..) {
            Some(rest) if !rest.is_empty() => {
                self.rest = Some(Box::new(Rest {
                    bytes: rest.into(),
                    written: 0,
                }))
            }
            _ => {}
        }
        Ok(written as u64)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>, to: &mut Wire) -> Poll<io::Result<u64>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(Ok(0));
        };
        let bytes = rest.bytes.get(rest.written..).unwrap_or_default();
        let written = match ready!(Pin::new(to).poll_write(cx, bytes)) {
            Ok(written) => written,
            Err(error) => {
                self.rest = None;
                return Poll::Ready(Err(error));
            }
        };
        rest.written += written;
        if written == bytes.len() {
            self.rest = None;
        }
        Poll::Ready(Ok(written as u64))
    }
}

const fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
