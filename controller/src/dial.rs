//! Reaching the agents of amphorae: HTTP/2 over mutual TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use krater_amphora_api::{AmphoraId, HostId};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

use crate::{
    limits::REPORT_BYTES_MAX,
    pki::{self, tls::Credentials},
};

/// Reaches the agents of amphorae and of hosts.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to the agent of an amphora. The error is a sentence.
    async fn dial(&self, id: AmphoraId, target: SocketAddr) -> Result<Dialed, String>;

    /// Connects to the agent of a host. The error is a sentence.
    async fn dial_host(&self, id: HostId, target: SocketAddr) -> Result<Dialed, String>;
}

/// A connection to an agent.
pub struct Dialed {
    /// What is asked over it.
    pub wire: Arc<dyn Wire>,
    /// Ends when the connection does; dropping it ends the connection.
    pub ended: BoxFuture<'static, ()>,
}

/// What an agent is asked over.
#[async_trait]
pub trait Wire: Send + Sync + 'static {
    /// One request and its answer. The error is a sentence.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String>;
}

/// Mutual TLS with the certificates of the fleet.
pub(crate) struct Tls {
    credentials: Arc<Credentials>,
}

impl Tls {
    pub(crate) const fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials }
    }
}

#[async_trait]
impl Dialer for Tls {
    async fn dial(&self, id: AmphoraId, target: SocketAddr) -> Result<Dialed, String> {
        self.dial_named(pki::amphora_dns(id), target).await
    }

    async fn dial_host(&self, id: HostId, target: SocketAddr) -> Result<Dialed, String> {
        self.dial_named(pki::host_dns(id), target).await
    }
}

impl Tls {
    /// Connects to an agent that shows the certificate of this name.
    async fn dial_named(&self, name: String, target: SocketAddr) -> Result<Dialed, String> {
        let stream = TcpStream::connect(target)
            .await
            .map_err(|error| format!("{target} cannot be reached: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| format!("{target} cannot be reached: {error}"))?;
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(self.credentials.client())
            .connect(name, stream)
            .await
            .map_err(|error| {
                format!("{target} does not show the certificate that is expected there: {error}")
            })?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{target} does not speak HTTP/2: {error}"))?;
        let connection = Connection(tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%target, %error, "connection ended");
            }
        }));
        Ok(Dialed {
            wire: Arc::new(Http2(sender)),
            ended: Box::pin(connection.ended()),
        })
    }
}

/// The task that drives a connection; dropping it closes the connection.
struct Connection(JoinHandle<()>);

impl Connection {
    async fn ended(mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Http2(SendRequest<Full<Bytes>>);

#[async_trait]
impl Wire for Http2 {
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://amphora{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let broke = |error: hyper::Error| format!("the connection broke: {error}");
        let mut sender = self.0.clone();
        sender.ready().await.map_err(broke)?;
        let response = sender.send_request(request).await.map_err(broke)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), REPORT_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| format!("its answer broke off: {error}"))?;
        Ok((status, answer.to_bytes()))
    }
}

/// A frozen amphora keeps its sockets: only a ping tells. Both together stay below the patience of an operation.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1_500);
