//! How two amphorae come to have a connection: either may connect to the other one, which knows it by its certificate.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use krater_amphora_api::AmphoraId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::{Peers, line};
use crate::{
    identity::{Identity, SESSIONS_PROTOCOL, amphora_of, name_of},
    limits::{
        HANDSHAKE_TIME_MAX, SESSIONS_DIAL_DEFERENCE, SESSIONS_DIAL_PAUSE_MAX,
        SESSIONS_DIAL_PAUSE_MIN,
    },
    network::outside,
};

/// When another one is tried next, and how long it is waited after that.
#[derive(Clone, Copy, Debug)]
struct Turn {
    next: Instant,
    pause: Duration,
}

impl Peers {
    /// Takes a connection that another one made, if it carries anything that is carried here. Returns when it has ended.
    pub(crate) async fn welcome(&self, stream: tokio_rustls::server::TlsStream<TcpStream>) {
        let shown = amphora_of(stream.get_ref().1.peer_certificates());
        match shown.filter(|id| self.is_known(*id)) {
            Some(id) => self.converse(id, stream).await,
            None => {
                self.tallies.sessions.refused.inc();
                debug!(peer = ?shown, "somebody who carries nothing that is carried here wants to exchange sessions");
            }
        }
    }

    /// Connects to those that are not connected, for as long as the process lives.
    pub(crate) async fn dial(self: Rc<Self>, identity: Rc<RefCell<Identity>>) {
        let mut turns = BTreeMap::<AmphoraId, Turn>::new();
        loop {
            let changed = self.changed.notified();
            let wanted = self.wanted();
            let now = Instant::now();
            turns.retain(|id, _| wanted.contains_key(id));
            for (id, agent) in &wanted {
                // The lower one of two connects, so that there are not two connections at once; the other one may be able
                // to where that one is not.
                let waits = if self.goes_first(*id) {
                    Duration::ZERO
                } else {
                    SESSIONS_DIAL_DEFERENCE
                };
                let turn = turns.entry(*id).or_insert(Turn {
                    next: now + waits,
                    pause: SESSIONS_DIAL_PAUSE_MIN,
                });
                if turn.next <= now {
                    let spread = 0.75 + rand::random::<f64>() / 2.0;
                    turn.next = now + HANDSHAKE_TIME_MAX.min(turn.pause.mul_f64(spread));
                    turn.pause = (turn.pause * 2).min(SESSIONS_DIAL_PAUSE_MAX);
                    let (peers, identity) = (Rc::clone(&self), Rc::clone(&identity));
                    let (id, agent) = (*id, *agent);
                    tokio::task::spawn_local(async move {
                        peers.reach(id, agent, &identity).await;
                    });
                }
            }
            let next = turns.values().map(|turn| turn.next).min();
            tokio::select! {
                () = changed => {}
                () = async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    async fn reach(&self, id: AmphoraId, agent: SocketAddr, identity: &RefCell<Identity>) {
        match timeout(HANDSHAKE_TIME_MAX, connect(id, agent, identity)).await {
            // Meanwhile it may have connected by itself.
            Ok(Ok(stream)) if self.wanted().contains_key(&id) => self.converse(id, stream).await,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(peer = %id, %agent, %error, "another amphora is not reached"),
            Err(_) => debug!(peer = %id, %agent, "another amphora is not reached in time"),
        }
    }

    pub(super) async fn converse(&self, id: AmphoraId, stream: impl AsyncRead + AsyncWrite) {
        let (line, queue) = line::Line::to(id);
        if self.join(Rc::clone(&line)).is_none() {
            self.tallies.sessions.refused.inc();
            debug!(peer = %id, "there are too many others to exchange sessions with");
            return;
        }
        line::converse(self, line, queue, stream).await;
    }

    /// Those that are not connected, and where they are.
    fn wanted(&self) -> HashMap<AmphoraId, SocketAddr> {
        let state = self.state.borrow();
        let shares = state.shares.iter();
        shares
            .filter(|(id, _)| !state.lines.contains_key(*id))
            .filter_map(|(id, share)| Some((*id, share.agent?)))
            .collect()
    }

    fn goes_first(&self, other: AmphoraId) -> bool {
        self.state.borrow().own < Some(other)
    }
}

async fn connect(
    id: AmphoraId,
    agent: SocketAddr,
    identity: &RefCell<Identity>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = outside::connect(&agent.ip().to_string(), agent.port()).await?;
    // Best effort: without it what is told may wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let connector = TlsConnector::from(identity.borrow().peer_client());
    let name = name_of(id).map_err(io::Error::other)?;
    let stream = connector.connect(name, stream).await?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(SESSIONS_PROTOCOL)
        || amphora_of(session.peer_certificates()) != Some(id)
    {
        return Err(io::Error::other(
            "it is not who it should be, or exchanges no sessions",
        ));
    }
    Ok(stream)
}
