//! Serves HTTP within limits: connections, heads, requests and their end all have one.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use http_body_util::Limited;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use krater_amphora_api::{AmphoraId, HostId};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt as _;

use crate::{
    limits::{
        HANDSHAKE_TIME_MAX, REQUEST_TIME_MAX, STOP_TIME_MAX, STRANGER_BYTES_MAX, STRANGER_TIME_MAX,
        STRANGERS_MAX,
    },
    pki::{self, Bearer, tls::Credentials},
};

/// A router with the limits it is served under.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) connections_max: usize,
    pub(crate) header_timeout: Duration,
    /// With these, those of the fleet are known. Others are few, and gone soon.
    pub(crate) credentials: Option<Arc<Credentials>>,
}

/// Who is at the other end of a connection; in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The amphora whose certificate was shown.
    pub(crate) amphora: Option<AmphoraId>,
    /// The host whose certificate was shown.
    pub(crate) host: Option<HostId>,
}

/// Ends everything that holds the other end, once.
pub(crate) type Stop = watch::Receiver<bool>;

/// Serves until told to stop; then lets requests in progress end, for a bounded time.
pub(crate) async fn serve(listener: TcpListener, site: Site, mut stop: Stop) {
    let seats = Arc::new(Semaphore::new(site.connections_max));
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (site, stop) = (site.clone(), stop.clone());
                let strangers = Arc::clone(&strangers);
                connections.spawn(async move {
                    let _seat = seat;
                    attend(stream, address, site, &strangers, stop).await;
                });
            }
            Err(error) => {
                // Descriptors or memory are short: others give some back in a moment.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = timeout(STOP_TIME_MAX, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Opens a listening socket.
///
/// # Errors
/// A sentence that says what to do.
pub(crate) async fn listen(
    address: SocketAddr,
    what: &str,
    flag: &str,
) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot serve {what} at {address}: another program uses that port; end it, or choose another with {flag}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("cannot serve {what} at {address}: this host does not have that address; choose another with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot serve {what} at {address}: that port needs more privileges; choose another with {flag}")
        }
        _ => format!("cannot serve {what} at {address}: {error}"),
    })
}

/// Returns when it is told to stop, or when nobody is left to tell.
async fn stopped(stop: &mut Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn attend(
    stream: TcpStream,
    address: SocketAddr,
    site: Site,
    strangers: &Semaphore,
    stop: Stop,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(peer = %address, %error, "connection ended before it began");
        return;
    }
    let Some(credentials) = &site.credentials else {
        return converse(
            stream,
            Peer {
                address,
                amphora: None,
                host: None,
            },
            site,
            stop,
        )
        .await;
    };
    let handshake = TlsAcceptor::from(credentials.server()).accept(stream);
    match timeout(HANDSHAKE_TIME_MAX, handshake).await {
        Ok(Ok(stream)) => {
            let bearer = certified(&stream);
            let peer = Peer {
                address,
                amphora: match bearer {
                    Some(Bearer::Amphora(id)) => Some(id),
                    _ => None,
                },
                host: match bearer {
                    Some(Bearer::Host(id)) => Some(id),
                    _ => None,
                },
            };
            if bearer.is_some() {
                return converse(stream, peer, site, stop).await;
            }
            // Whoever shows no certificate may join, and must not take the seats of those that have.
            let Ok(_seat) = strangers.try_acquire() else {
                tracing::debug!(peer = %address, "too many connections without a certificate");
                return;
            };
            let speaking = converse_within(stream, peer, site, stop, Bounds::Stranger);
            if timeout(STRANGER_TIME_MAX, speaking).await.is_err() {
                tracing::debug!(peer = %address, "connection without a certificate took too long");
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %address, %error, "connection without valid certificate refused")
        }
        Err(_) => tracing::debug!(peer = %address, "handshake took too long"),
    }
}

fn certified(stream: &TlsStream<TcpStream>) -> Option<Bearer> {
    pki::bearer_of(stream.get_ref().1.peer_certificates()?.first()?)
}

/// What somebody may ask for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    /// As routes have it.
    Routes,
    /// Little, one request after the other: nobody knows who it is.
    Stranger,
}

async fn converse<S>(stream: S, peer: Peer, site: Site, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    converse_within(stream, peer, site, stop, Bounds::Routes).await;
}

async fn converse_within<S>(stream: S, peer: Peer, site: Site, mut stop: Stop, bounds: Bounds)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(site.header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL);
    if bounds == Bounds::Stranger {
        builder.http1().max_buf_size(STRANGER_BYTES_MAX);
        let bytes = u32::try_from(STRANGER_BYTES_MAX).unwrap_or(u32::MAX);
        builder
            .http2()
            .max_concurrent_streams(1)
            .max_header_list_size(bytes)
            .initial_stream_window_size(bytes);
    }
    let router = site.router;
    let service = service_fn(move |request| {
        let request = request.map(|body| match bounds {
            Bounds::Routes => Body::new(body),
            Bounds::Stranger => Body::new(Limited::new(body, STRANGER_BYTES_MAX)),
        });
        answer(router.clone(), peer, request)
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.address, error, "connection ended");
    }
}

async fn answer(
    router: Router,
    peer: Peer,
    mut request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(peer);
    let answered = timeout(REQUEST_TIME_MAX, router.oneshot(request)).await;
    answered.unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
        Ok(response)
    })
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that vanished without a word keeps its seat no longer than this.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
