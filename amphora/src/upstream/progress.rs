//! What the parts of one exchange tell each other: whose turn it is, and whether it is overdue.

use std::cell::{Cell, RefCell};

use http::{HeaderMap, StatusCode};

use crate::{
    channel::Pieces,
    limits::{INTERIM_ANSWERS_MAX, INTERIM_BYTES_MAX},
};

/// How far an exchange has come, as seen by the server side, the service, the connection to a member and the bodies under
/// way: that of a client connection that carries one request after another, or that of one request among many.
pub(crate) struct Progress {
    /// How much of the answer may be received at once.
    pub(crate) pieces: Pieces,
    /// Whose move it is.
    pub(crate) turn: Cell<Turn>,
    /// The head of the present answer has been given away: it is too late for another one.
    pub(crate) responding: Cell<bool>,
    /// Whose move has taken too long: the service is to give up.
    pub(crate) overdue: Cell<Option<Turn>>,
    /// Bytes went to or came from a member since the server side last looked.
    pub(crate) moved: Cell<bool>,
    /// The client has more of a request body to send than was read.
    pub(crate) unread: Cell<bool>,
    /// Somebody has asked for the body of the request.
    pub(crate) wanted: Cell<bool>,
    /// Bytes of the request's body that were passed on and that the client was not given room for again.
    pub(crate) held: Cell<usize>,
    /// Bytes of the request's body that have come.
    pub(crate) taken: Cell<u64>,
    /// Bytes that went to the member since somebody last took the number.
    pub(crate) delivered: Cell<usize>,
    /// Interim answers of the member that the client is to be sent.
    interim: RefCell<Vec<(StatusCode, HeaderMap)>>,
}

/// Interim answers to one request (RFC 9110 section 15.2), as they come from a member.
#[derive(Default)]
pub(super) struct Interim {
    waiting: Vec<(StatusCode, HeaderMap)>,
    seen: usize,
    bytes: usize,
}

impl Interim {
    /// Takes one in. `None` if there are more of them than anybody sends.
    pub(super) fn take_in(&mut self, status: StatusCode, fields: HeaderMap) -> Option<()> {
        self.seen += 1;
        if self.seen > INTERIM_ANSWERS_MAX {
            return None;
        }
        let lines = fields.iter();
        let bytes: usize = lines
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= INTERIM_BYTES_MAX {
            self.waiting.push((status, fields));
        }
        Some(())
    }
}

/// Who is expected to move next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The client, with the head of a request.
    Request,
    /// The client, with more of a request's body, or by taking more of an answer.
    Client,
    /// The member.
    Member,
    /// We: a connection is being made, under a timer of its own.
    Ours,
}

impl Progress {
    /// Nothing was said yet.
    pub(crate) const fn new(pieces: Pieces) -> Self {
        Self {
            pieces,
            turn: Cell::new(Turn::Request),
            responding: Cell::new(false),
            overdue: Cell::new(None),
            moved: Cell::new(false),
            unread: Cell::new(false),
            wanted: Cell::new(false),
            held: Cell::new(0),
            taken: Cell::new(0),
            delivered: Cell::new(0),
            interim: RefCell::new(Vec::new()),
        }
    }

    /// Has interim answers sent to the client.
    pub(super) fn pass_on(&self, interim: &mut Interim) {
        if !interim.waiting.is_empty() {
            self.interim.borrow_mut().append(&mut interim.waiting);
        }
    }

    /// Takes the interim answers that the client is to be sent.
    pub(crate) fn take_interim(&self) -> Vec<(StatusCode, HeaderMap)> {
        // Without one that is no allocation.
        std::mem::take(&mut *self.interim.borrow_mut())
    }

    /// Notes that bytes went to the member.
    pub(crate) fn deliver(&self, bytes: usize) {
        self.delivered
            .set(self.delivered.get().saturating_add(bytes));
    }
}
