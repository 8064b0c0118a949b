//! The Prometheus endpoint: every declared series, read from the meters when it is asked for.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use krater_amphora_api::AmphoraId;
use prometheus::{Registry, TextEncoder};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::{
    agent::serve::{accept, listen},
    housekeeper::{Ending, Housekeeper},
    limits::{HANDSHAKE_TIME_MAX, METRICS_CONNECTIONS_MAX},
};

mod collect;
pub(crate) mod table;

pub(crate) use collect::Scrape;

/// What the endpoint needs to know.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) housekeeper: Rc<Housekeeper>,
    pub(crate) amphora: Option<AmphoraId>,
    pub(crate) address: SocketAddr,
}

impl Endpoint {
    /// Serves scrapers until another process does.
    pub(crate) async fn serve(self: Rc<Self>) {
        let listener = listen(self.address, "metrics").await;
        let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, peer) = tokio::select! {
                accepted = accept(&listener) => accepted,
                () = self.housekeeper.left() => return,
            };
            let endpoint = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                let _place = place;
                let service =
                    service_fn(move |request| Self::answer(Rc::clone(&endpoint), request));
                let mut builder = http1::Builder::new();
                builder
                    .timer(TokioTimer::new())
                    .header_read_timeout(HANDSHAKE_TIME_MAX)
                    .keep_alive(false);
                if let Err(error) = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                {
                    debug!(%peer, %error, "a scrape failed");
                }
            });
        }
    }

    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.uri().path() != "/metrics" {
            return Ok(text(
                StatusCode::NOT_FOUND,
                "metrics are at /metrics\n".to_owned(),
            ));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(text(
                StatusCode::METHOD_NOT_ALLOWED,
                "allowed here: GET, HEAD\n".to_owned(),
            ));
        }
        let Ok(scrape) = self.scrape() else {
            return Ok(text(StatusCode::SERVICE_UNAVAILABLE, format!("{Ending}\n")));
        };
        // Ten thousand members make megabytes of text: not on the thread that answers applies.
        let rendered = tokio::task::spawn_blocking(move || render(scrape)).await;
        Ok(match rendered {
            Ok(Ok(body)) => text(StatusCode::OK, body),
            Ok(Err(error)) => {
                warn!(%error, "metrics cannot be rendered");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics cannot be rendered\n".to_owned(),
                )
            }
            Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "rendering was cut short\n".to_owned(),
            ),
        })
    }

    fn scrape(&self) -> Result<Scrape, Ending> {
        Ok(Scrape {
            world: self.housekeeper.world()?,
            probes: self.housekeeper.probe_meters(),
            tallies: Arc::clone(self.housekeeper.tallies()),
            common: self.housekeeper.plane_counters()?,
            amphora: self.amphora,
            boot: self.housekeeper.boot(),
            workers: self.housekeeper.workers(),
            session_peers: self.housekeeper.peers.connections(),
        })
    }
}

/// One scrape through the registry, which checks names and labels and puts everything in order.
pub(crate) fn render(scrape: Scrape) -> prometheus::Result<String> {
    let registry = Registry::new();
    registry.register(Box::new(scrape.into_collector()?))?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
