//! Accepts controllers: TLS, then HTTP/2 or HTTP/1.1 as they prefer.

use std::{
    cell::RefCell, convert::Infallible, future::Future, io, net::SocketAddr, rc::Rc, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tracing::{debug, info, warn};

use super::{Agent, route};
use crate::{
    identity::{Identity, SESSIONS_PROTOCOL},
    limits::{AGENT_CONNECTIONS_MAX, AGENT_STREAMS_MAX, HANDSHAKE_TIME_MAX},
    network::outside,
    peers::Peers,
};

/// Serves controllers until another process does.
pub(crate) async fn serve(agent: Rc<Agent>, identity: Rc<RefCell<Identity>>, address: SocketAddr) {
    let asked = Rc::clone(&agent);
    let peers = Some(Rc::clone(agent.peers()));
    let answer = move |request| route::answer(Rc::clone(&asked), request);
    let left = move || {
        let agent = Rc::clone(&agent);
        async move { agent.left().await }
    };
    serve_with((identity, peers), address, "agent", answer, left).await;
}

/// Serves controllers with these answers until the process is `left`, and has other amphorae welcomed who want to
/// exchange sessions, if it takes part in that.
pub(crate) async fn serve_with<A, F, L>(
    (identity, peers): (Rc<RefCell<Identity>>, Option<Rc<Peers>>),
    address: SocketAddr,
    purpose: &'static str,
    answer: A,
    left: impl Fn() -> L + Clone + 'static,
) where
    A: Fn(Request<Incoming>) -> F + Clone + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + 'static,
    L: Future<Output = ()> + 'static,
{
    let listener = listen(address, purpose).await;
    let places = Arc::new(Semaphore::new(AGENT_CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = left() => return,
        };
        let (answer, left) = (answer.clone(), left.clone());
        let (identity, peers) = (Rc::clone(&identity), peers.clone());
        tokio::task::spawn_local(async move {
            let conversation = async {
                match receive(&identity, peers, stream).await? {
                    Guest::Controller(stream) => {
                        let _place = place;
                        converse(answer, stream).await
                    }
                    Guest::Amphora(peers, stream) => {
                        // Those have places of their own: none of them keeps a controller out.
                        drop(place);
                        peers.welcome(stream).await;
                        Ok(())
                    }
                }
            };
            tokio::select! {
                outcome = conversation => if let Err(error) = outcome {
                    debug!(%peer, %error, "a connection to the agent failed");
                },
                // Who asks again finds the process that answers now.
                () = left() => {}
            }
        });
    }
}

/// Listens on `address`. Traffic does not wait for the port: while it cannot be had, it is tried again.
pub(crate) async fn listen(address: SocketAddr, purpose: &'static str) -> TcpListener {
    loop {
        match outside::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                info!(%address, purpose, "listening");
                return listener;
            }
            Err(error) => warn!(%address, purpose, %error, "cannot listen; trying again"),
        }
        sleep(PAUSE).await;
    }
}

/// The next connection. Running out of descriptors is waited out.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Best effort: what fails here costs latency, or time until a dead peer is noticed.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream)
                    .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
                return (stream, peer);
            }
            Err(error) => {
                debug!(%error, "cannot accept");
                sleep(PAUSE_ACCEPT).await;
            }
        }
    }
}

/// Who has connected.
enum Guest {
    Controller(TlsStream<TcpStream>),
    Amphora(Rc<Peers>, TlsStream<TcpStream>),
}

/// Ends TLS with whoever connects, as what it says it is: which it has to show by its certificate then.
async fn receive(
    identity: &RefCell<Identity>,
    peers: Option<Rc<Peers>>,
    stream: TcpStream,
) -> io::Result<Guest> {
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let names = hello.client_hello().alpn();
        let exchanges = names.is_some_and(|mut names| names.any(|name| name == SESSIONS_PROTOCOL));
        match peers.filter(|_| exchanges) {
            Some(peers) => {
                let config = identity.borrow().peer_server();
                let stream = hello.into_stream(config).await?;
                io::Result::Ok(Guest::Amphora(peers, stream))
            }
            None => {
                let config = identity.borrow().server();
                Ok(Guest::Controller(hello.into_stream(config).await?))
            }
        }
    };
    timeout(HANDSHAKE_TIME_MAX, handshake).await?
}

async fn converse<A, F>(answer: A, stream: TlsStream<TcpStream>) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + 'static,
{
    let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(answer);
    let io = TokioIo::new(stream);
    if speaks_h2 {
        let mut builder = http2::Builder::new(OnThisThread);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(AGENT_STREAMS_MAX)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(HANDSHAKE_TIME_MAX);
        builder
            .serve_connection(io, service)
            .await
            .map_err(io::Error::other)
    } else {
        let mut builder = http1::Builder::new();
        // Between two requests a controller may be silent for as long as it likes; TCP notices when it is gone.
        builder.header_read_timeout(None);
        builder
            .serve_connection(io, service)
            .await
            .map_err(io::Error::other)
    }
}

/// Runs the streams of a connection beside it.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);
/// After a failure to accept.
const PAUSE_ACCEPT: Duration = Duration::from_millis(50);
/// Silence after which a peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);
