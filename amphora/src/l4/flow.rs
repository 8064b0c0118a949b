//! One direction of a connection: from the socket that sends to the socket that receives.
//!
//! It reads into the thread's shared buffer and writes from it at once; only what the other side did not take is kept,
//! so that an idle direction holds nothing. A direction that keeps filling large reads is a stream: it is moved through
//! a pipe instead, without being copied, and the pipe is held only while bytes are in it (D9).

use super::{
    pipes::{Pipe, Pipes},
    socket::{Received, Sent, Socket},
};
use crate::limits::{
    MESSAGES_BYTES_PER_TURN_MAX, PIPE_BYTES, STREAM_BYTES_PER_TURN_MAX, STREAM_READ_BYTES_MIN,
    STREAM_READS, TRICKLE_BYTES_MAX, TRICKLE_READS,
};

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    stage: Stage,
    rest: Rest,
    pace: Pace,
}

/// How far a direction has come.
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

/// What was read and not taken by the other side yet.
#[derive(Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    Bytes {
        bytes: Box<[u8]>,
        written: usize,
    },
    Piped {
        pipe: Pipe,
        filled: usize,
    },
}

/// Message or stream, as the sizes of the last reads say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Copied. So many large reads in a row.
    Messages { large: u8 },
    /// Moved. So many small ones in a row.
    Stream { small: u8 },
}

impl Default for Pace {
    fn default() -> Self {
        Self::Messages { large: 0 }
    }
}

impl Pace {
    const fn after(self, read: usize) -> Self {
        match self {
            Self::Messages { large } if read >= STREAM_READ_BYTES_MIN => {
                if large + 1 >= STREAM_READS {
                    Self::Stream { small: 0 }
                } else {
                    Self::Messages { large: large + 1 }
                }
            }
            Self::Messages { .. } => Self::Messages { large: 0 },
            Self::Stream { small } if read <= TRICKLE_BYTES_MAX => {
                if small + 1 >= TRICKLE_READS {
                    Self::Messages { large: 0 }
                } else {
                    Self::Stream { small: small + 1 }
                }
            }
            Self::Stream { .. } => Self::Stream { small: 0 },
        }
    }
}

/// What a turn of a direction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more can be moved before the next edge.
    Waits,
    /// More could be moved, but others have waited long enough.
    Yields,
    /// It is done, for good.
    Done,
    /// The source was broken off, or the sink was while something was left for it.
    Broken,
}

/// Bytes that a turn has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) read: usize,
    pub(super) written: usize,
}

/// Whether the other direction is done, so that closing both sockets passes this end on as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    No,
    Yes,
}

/// What directions borrow while they move.
pub(super) struct Means {
    /// Where bytes rest between a read and a write.
    pub(super) scratch: Box<[u8]>,
    pub(super) pipes: Pipes,
}

impl Flow {
    /// Has `bytes` written ahead of everything that the source sends.
    pub(super) fn begin_with(&mut self, bytes: &[u8]) {
        self.rest = Rest::Bytes {
            bytes: bytes.into(),
            written: 0,
        };
    }

    /// Whether the source may still send.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether it is moved in large pieces.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.pace, Pace::Stream { .. }) && self.is_open()
    }

    /// Whether something is left for the sink to take.
    pub(super) const fn has_rest(&self) -> bool {
        !matches!(self.rest, Rest::Nothing)
    }

    /// Whether it is done.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Moves what can be moved now.
    pub(super) fn run(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        last: Last,
        means: &mut Means,
        moved: &mut Moved,
    ) -> Turn {
        loop {
            if !self.settle(to, means, moved) {
                // A source that is gone shall not be held up by a sink that does not read.
                return if from.has_failed() {
                    Turn::Broken
                } else {
                    Turn::Waits
                };
            }
            match self.stage {
                Stage::Done => return Turn::Done,
                Stage::Ending => {
                    if last == Last::No {
                        to.finish();
                    }
                    self.stage = Stage::Done;
                }
                Stage::Open if from.is_over() => self.stage = Stage::Ending,
                Stage::Open if !from.is_readable() => return Turn::Waits,
                Stage::Open if moved.read >= self.turn_bytes_max() => return Turn::Yields,
                Stage::Open => {
                    let received = match self.pace {
                        Pace::Messages { .. } => self.copy(from, to, means, moved),
                        Pace::Stream { .. } => self.draw(from, means, moved),
                    };
                    match received {
                        Received::Bytes(read) => self.pace = self.pace.after(read),
                        Received::Broken => return Turn::Broken,
                        // The socket knows: it is not readable, or over.
                        Received::Nothing | Received::End => {}
                    }
                }
            }
        }
    }

    /// What may be moved before others get their turn.
    const fn turn_bytes_max(&self) -> usize {
        match self.pace {
            Pace::Messages { .. } => MESSAGES_BYTES_PER_TURN_MAX,
            Pace::Stream { .. } => STREAM_BYTES_PER_TURN_MAX,
        }
    }

    /// Reads once, and writes what was read.
    fn copy(
        &mut self,
        from: &mut Socket,
        to: &mut Socket,
        means: &mut Means,
        moved: &mut Moved,
    ) -> Received {
        let received = from.receive(&mut means.scratch);
        if let Received::Bytes(read) = received {
            moved.read += read;
            let bytes = means.scratch.get(..read).unwrap_or_default();
            self.write(to, bytes, moved);
        }
        received
    }

    /// Writes what is taken at once and keeps the rest.
    fn write(&mut self, to: &mut Socket, bytes: &[u8], moved: &mut Moved) {
        match to.send(bytes) {
            Sent::Bytes(sent) => {
                moved.written += sent;
                if let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
                    self.rest = Rest::Bytes {
                        bytes: rest.into(),
                        written: 0,
                    };
                }
            }
            // What the sink still has to say is worth reading: a server may answer and close before it has read all.
            Sent::Broken => self.stage = Stage::Done,
        }
    }

    /// Draws bytes into a pipe, from which [`Flow::settle`] writes them.
    fn draw(&mut self, from: &mut Socket, means: &mut Means, moved: &mut Moved) -> Received {
        let Some(pipe) = means.pipes.take() else {
            self.pace = Pace::default();
            return Received::Nothing;
        };
        let received = from.receive_into(pipe.inlet(), PIPE_BYTES);
        if let Received::Bytes(filled) = received {
            moved.read += filled;
            self.rest = Rest::Piped { pipe, filled };
        } else {
            means.pipes.put(pipe);
        }
        received
    }

    /// Writes what is left from before; whether nothing is left now.
    fn settle(&mut self, to: &mut Socket, means: &mut Means, moved: &mut Moved) -> bool {
        loop {
            let (sent, left) = match &mut self.rest {
                Rest::Nothing => return true,
                Rest::Bytes { bytes, written } => {
                    let left = bytes.get(*written..).unwrap_or_default();
                    let sent = to.send(left);
                    if let Sent::Bytes(sent) = sent {
                        *written += sent;
                    }
                    (sent, bytes.len() - *written)
                }
                Rest::Piped { pipe, filled } => {
                    let sent = to.send_from(pipe.outlet(), *filled);
                    if let Sent::Bytes(sent) = sent {
                        *filled -= sent;
                    }
                    (sent, *filled)
                }
            };
            match sent {
                Sent::Bytes(sent) => moved.written += sent,
                Sent::Broken => {
                    // A pipe with something in it is of no use to anybody else.
                    self.rest = Rest::Nothing;
                    self.stage = Stage::Done;
                    return true;
                }
            }
            if left == 0 {
                if let Rest::Piped { pipe, .. } = std::mem::take(&mut self.rest) {
                    means.pipes.put(pipe);
                }
                return true;
            }
            if !to.is_writable() {
                return false;
            }
        }
    }
}
