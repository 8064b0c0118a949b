//! A connection to another amphora: messages out of it and onto it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    io,
    rc::Rc,
    sync::Arc,
};

use krater_amphora_api::{AmphoraId, PoolId};
use krater_amphora_core::{
    affinity::Memory,
    peers::{Accord, HEADER_BYTES, Malformed, Message, Standing, read_header},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{Peers, book};
use crate::{
    limits::{
        SESSION_MESSAGES_AT_ONCE, SESSION_MESSAGES_MAX, SESSION_MESSAGES_PAUSE, SESSION_POOLS_MAX,
        SESSIONS_ALIVE_EACH, SESSIONS_SILENCE_MAX,
    },
    world::PoolState,
};

/// A connection, as those know it who have something to say on it.
#[derive(Debug)]
pub(super) struct Line {
    peer: AmphoraId,
    out: mpsc::Sender<Vec<u8>>,
    /// What both have said of each pool.
    pub(super) accords: RefCell<HashMap<PoolId, Accord>>,
    /// Pools of which something was told that could not be taken, and what they were then.
    pub(super) missed: RefCell<HashMap<PoolId, usize>>,
    /// Pools of which all is to be told.
    owed: RefCell<BTreeSet<PoolId>>,
    owes: Notify,
    is_writing: Cell<bool>,
    closed: Notify,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("it is silent")]
    Silent,
    #[error("it takes nothing")]
    Stuck,
    #[error("what it says is no message: {}", .0.0)]
    Malformed(Malformed),
    #[error("the connection failed: {0}")]
    Failed(#[source] io::Error),
}

impl Line {
    /// One to that amphora, and what is to be sent on it.
    pub(super) fn to(peer: AmphoraId) -> (Rc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (out, queue) = mpsc::channel(SESSION_MESSAGES_MAX);
        let line = Self {
            peer,
            out,
            accords: RefCell::default(),
            missed: RefCell::default(),
            owed: RefCell::default(),
            owes: Notify::new(),
            is_writing: Cell::new(false),
            closed: Notify::new(),
        };
        (Rc::new(line), queue)
    }

    /// Which one it leads to.
    pub(super) const fn peer(&self) -> AmphoraId {
        self.peer
    }

    /// What both have said of a pool.
    pub(super) fn accord(&self, pool: PoolId) -> Accord {
        let accords = self.accords.borrow();
        accords.get(&pool).copied().unwrap_or_default()
    }

    /// Sends what has to be said. If there is no room for it the other one is too slow, and has to begin anew.
    pub(super) fn send(&self, bytes: Vec<u8>) {
        if !self.try_send(bytes) {
            self.close();
        }
    }

    /// Sends what may be said later, too; whether there was room for it.
    pub(super) fn try_send(&self, bytes: Vec<u8>) -> bool {
        self.out.try_send(bytes).is_ok()
    }

    /// Has all of a pool told.
    pub(super) fn owe(&self, pool: PoolId) {
        self.owed.borrow_mut().insert(pool);
        self.owes.notify_one();
    }

    /// Notes that something of a pool was told which could not be taken as it is now.
    pub(super) fn miss(&self, id: PoolId, pool: Option<&Arc<PoolState>>) {
        let mut missed = self.missed.borrow_mut();
        if missed.len() < SESSION_POOLS_MAX || missed.contains_key(&id) {
            missed.insert(id, pool.map_or(0, |pool| Arc::as_ptr(pool).addr()));
        }
    }

    /// Whether nothing waits to be sent, nor for what the other one goes by.
    pub(super) fn is_idle(&self) -> bool {
        let is_empty = self.out.capacity() == self.out.max_capacity();
        let accords = self.accords.borrow();
        let mut standings = accords.values().map(Accord::standing);
        let is_agreed = standings.all(|standing| standing != Standing::Open);
        is_agreed && is_empty && self.owed.borrow().is_empty() && !self.is_writing.get()
    }

    /// Ends it.
    pub(super) fn close(&self) {
        self.closed.notify_one();
    }

    fn owed(&self) -> Option<PoolId> {
        self.owed.borrow_mut().pop_first()
    }
}

/// Exchanges sessions over a connection until it ends.
pub(super) async fn converse(
    peers: &Peers,
    line: Rc<Line>,
    queue: mpsc::Receiver<Vec<u8>>,
    stream: impl AsyncRead + AsyncWrite,
) {
    let (read, write) = split(stream);
    let outcome = tokio::select! {
        outcome = hear(peers, &line, read) => outcome,
        outcome = say(peers, &line, queue, write) => outcome,
        () = line.closed.notified() => Ok(()),
    };
    match outcome {
        Err(error @ LineError::Malformed(_)) => {
            peers.tallies.sessions.refused.inc();
            warn!(peer = %line.peer, %error, "another amphora is not understood");
        }
        Err(error) => debug!(peer = %line.peer, %error, "the connection to another amphora ends"),
        Ok(()) => {}
    }
    peers.part(&line);
}

/// Takes in what comes.
async fn hear(
    peers: &Peers,
    line: &Rc<Line>,
    mut stream: impl AsyncRead + Unpin,
) -> Result<(), LineError> {
    let mut body = Vec::new();
    let mut in_a_row = 0;
    loop {
        let message = timeout(SESSIONS_SILENCE_MAX, receive(&mut stream, &mut body));
        let message = message.await.map_err(|_| LineError::Silent)??;
        book::hear(
            &peers.state.borrow(),
            line,
            message,
            &peers.tallies.sessions,
        );
        in_a_row += 1;
        if in_a_row == SESSION_MESSAGES_AT_ONCE {
            in_a_row = 0;
            sleep(SESSION_MESSAGES_PAUSE).await;
        }
    }
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
) -> Result<Message, LineError> {
    let mut header = [0; HEADER_BYTES];
    stream
        .read_exact(&mut header)
        .await
        .map_err(LineError::Failed)?;
    let (kind, length) = read_header(header).map_err(LineError::Malformed)?;
    body.resize(length, 0);
    stream.read_exact(body).await.map_err(LineError::Failed)?;
    Message::read(kind, body).map_err(LineError::Malformed)
}

/// Sends what is to be said, and all of pools that are owed, bit by bit, behind it.
async fn say(
    peers: &Peers,
    line: &Rc<Line>,
    mut queue: mpsc::Receiver<Vec<u8>>,
    mut stream: impl AsyncWrite + Unpin,
) -> Result<(), LineError> {
    loop {
        tokio::select! {
            biased;
            bytes = queue.recv() => match bytes {
                Some(bytes) => send(line, &mut stream, &bytes).await?,
                None => return Ok(()),
            },
            () = line.owes.notified() => {}
            () = sleep(SESSIONS_ALIVE_EACH) => {
                let mut bytes = Vec::new();
                Message::Alive.write(&mut bytes);
                send(line, &mut stream, &bytes).await?;
            }
        }
        while let Some(pool) = line.owed() {
            for part in 0..Memory::PARTS {
                // What was agreed on is said before what goes by it.
                while let Ok(bytes) = queue.try_recv() {
                    send(line, &mut stream, &bytes).await?;
                }
                let told = book::part(&peers.state.borrow(), line, pool, part);
                let Some((bytes, clients)) = told else { break };
                if !bytes.is_empty() {
                    send(line, &mut stream, &bytes).await?;
                    peers.tallies.sessions.told.add(clients);
                }
            }
        }
    }
}

async fn send(
    line: &Line,
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Result<(), LineError> {
    line.is_writing.set(true);
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    let sent = timeout(SESSIONS_SILENCE_MAX, sent).await;
    line.is_writing.set(false);
    sent.map_err(|_| LineError::Stuck)?
        .map_err(LineError::Failed)
}
