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
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::{Agent, route};
use crate::{
    identity::Identity,
    limits::{AGENT_CONNECTIONS_MAX, AGENT_STREAMS_MAX, HANDSHAKE_TIME_MAX},
    network::outside,
};

/// Serves controllers until another process does.
pub(crate) async fn serve(agent: Rc<Agent>, identity: Rc<RefCell<Identity>>, address: SocketAddr) {
    let asked = Rc::clone(&agent);
    let answer = move |request| route::answer(Rc::clone(&asked), request);
    let left = move || {
        let agent = Rc::clone(&agent);
        async move { agent.left().await }
    };
    serve_with(identity, address, "agent", answer, left).await;
}

/// Serves controllers with these answers until the process is `left`.
pub(crate) async fn serve_with<A, F, L>(
    identity: Rc<RefCell<Identity>>,
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
        let acceptor = TlsAcceptor::from(identity.borrow().server());
        tokio::task::spawn_local(async move {
            let _place = place;
            tokio::select! {
                outcome = converse(answer, acceptor, stream) => if let Err(error) = outcome {
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

async fn converse<A, F>(answer: A, acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<()>
where
    A: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + 'static,
{
    let stream = timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await??;
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
