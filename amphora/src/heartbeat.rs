//! Sends reports: each interval, and at once when something changed. A lost one costs nothing: who missed it is told all
//! of the next.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use krater_amphora_api::{Report, ReportReceipt};
use krater_amphora_core::telling::Told;
use rustls_pki_types::ServerName;
use serde::Serialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use crate::{
    agent::Agent,
    config::Controller,
    housekeeper::Housekeeper,
    identity::{Identity, Refresh},
    limits::{RECEIPT_BYTES_MAX, REPORT_DEBOUNCE, REPORT_GAP_MIN, REPORT_TIME_MAX},
    network::outside,
};

/// Reports to whichever of the controllers answers.
pub(crate) struct Heartbeat {
    pub(crate) agent: Rc<Agent>,
    pub(crate) housekeeper: Rc<Housekeeper>,
    pub(crate) identity: Rc<RefCell<Identity>>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) interval: Duration,
    /// The controller that answered last, and the connection to it.
    pub(crate) current: RefCell<Current>,
}

/// Whom to try first.
#[derive(Debug, Default)]
pub(crate) struct Current {
    index: usize,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// What it remembers of what it was told.
    told: Told,
}

/// What is posted, and where to.
#[derive(Clone)]
struct Message {
    path: &'static str,
    body: Bytes,
}

impl Message {
    fn of(path: &'static str, value: &impl Serialize) -> Self {
        // Plain data always serializes.
        let body = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
        Self { path, body }
    }
}

impl Heartbeat {
    /// Beats for as long as the process lives.
    pub(crate) async fn beat(self: Rc<Self>) {
        loop {
            self.renew_identity();
            let sent = Instant::now();
            let again = self.report().await;
            if again {
                sleep_until(sent + REPORT_GAP_MIN).await;
                continue;
            }
            tokio::select! {
                () = sleep(jittered(self.interval, rand::random())) => {}
                () = self.housekeeper.news() => {
                    sleep(REPORT_DEBOUNCE).await;
                    sleep_until(sent + REPORT_GAP_MIN).await;
                }
            }
        }
    }

    /// Reads the certificate files again when they changed, so that a renewal needs no restart.
    pub(crate) fn renew_identity(&self) {
        let mut identity = self.identity.borrow_mut();
        match identity.refresh() {
            Ok(Refresh::Unchanged) => {}
            Ok(Refresh::Renewed) => {
                info!("the certificate was renewed");
                self.current.borrow_mut().sender = None;
            }
            Err(error) => {
                warn!(%error, "changed certificate files cannot be used; those before stay in use")
            }
        }
        self.housekeeper
            .tallies()
            .certificate_expiry
            .set(identity.expiry().as_secs());
    }

    /// Sends one report to the first controller that takes it. Answers whether another is wanted at once.
    async fn report(&self) -> bool {
        if self.controllers.is_empty() {
            return false;
        }
        let Ok(report) = self.agent.report() else {
            return false;
        };
        let tallies = self.housekeeper.tallies();
        let first = self.current.borrow().index;
        for offset in 0..self.controllers.len() {
            let index = (first + offset) % self.controllers.len();
            let Some(controller) = self.controllers.get(index) else {
                continue;
            };
            match timeout(REPORT_TIME_MAX, self.tell(index, controller, &report)).await {
                Ok(Ok(receipt)) => {
                    tallies.heartbeats_sent.inc();
                    tallies.heartbeat_last.set_to_now();
                    return receipt.again;
                }
                Ok(Err(error)) => {
                    debug!(host = controller.host, port = controller.port, %error, "report not taken")
                }
                Err(_) => debug!(
                    host = controller.host,
                    port = controller.port,
                    "report not taken in time"
                ),
            }
            let mut current = self.current.borrow_mut();
            current.sender = None;
            current.told.forget();
        }
        tallies.heartbeats_failed.inc();
        false
    }

    /// Tells a controller what changed, if it remembers the report before, or else everything.
    async fn tell(
        &self,
        index: usize,
        controller: &Controller,
        report: &Report,
    ) -> Result<ReportReceipt, ReportError> {
        let changes = {
            let mut current = self.current.borrow_mut();
            if current.index != index {
                current.told.forget();
            }
            current.told.changes(report)
        };
        if let Some(changes) = changes {
            let message = Message::of("/v1/reports/changes", &changes);
            match self.deliver(index, controller, message).await {
                Ok(receipt) => {
                    let told = &mut self.current.borrow_mut().told;
                    told.note_changes(report.clone(), &receipt);
                    return Ok(receipt);
                }
                // It does not remember: it was started anew, was told something else since, or is of before.
                Err(ReportError::Status(StatusCode::CONFLICT | StatusCode::NOT_FOUND)) => {}
                Err(error) => return Err(error),
            }
        }
        let message = Message::of("/v1/reports", report);
        let receipt = self.deliver(index, controller, message).await?;
        let told = &mut self.current.borrow_mut().told;
        told.note_report(report.clone(), &receipt);
        Ok(receipt)
    }

    /// Sends over the open connection if there is one; one that turns out to be dead is replaced, once.
    async fn deliver(
        &self,
        index: usize,
        controller: &Controller,
        message: Message,
    ) -> Result<ReportReceipt, ReportError> {
        let kept = {
            let mut current = self.current.borrow_mut();
            if current.index == index {
                current.sender.take()
            } else {
                None
            }
        };
        if let Some(sender) = kept.filter(|sender| !sender.is_closed()) {
            let exchange = self.exchange(index, sender, controller, message.clone());
            match exchange.await {
                Ok(receipt) => return Ok(receipt),
                // Somebody answered.
                Err(error @ ReportError::Status(_)) => return Err(error),
                Err(_) => {}
            }
        }
        let sender = self.connect(controller).await?;
        self.exchange(index, sender, controller, message).await
    }

    async fn connect(
        &self,
        controller: &Controller,
    ) -> Result<SendRequest<Full<Bytes>>, ReportError> {
        let stream = outside::connect(&controller.host, controller.port)
            .await
            .map_err(ReportError::Connect)?;
        // Best effort: without it a report may wait for the next one's acknowledgement.
        let _ = stream.set_nodelay(true);
        let name =
            ServerName::try_from(Identity::controller_name()).map_err(|_| ReportError::Name)?;
        let connector = TlsConnector::from(self.identity.borrow().client());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(ReportError::Handshake)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ReportError::Exchange)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                debug!(%error, "the connection to a controller failed");
            }
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        index: usize,
        mut sender: SendRequest<Full<Bytes>>,
        controller: &Controller,
        message: Message,
    ) -> Result<ReportReceipt, ReportError> {
        let mut request = Request::new(Full::new(message.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(message.path);
        let host = authority(controller);
        let headers = request.headers_mut();
        headers.insert(header::HOST, host.parse().map_err(|_| ReportError::Name)?);
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        sender.ready().await.map_err(ReportError::Exchange)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(ReportError::Exchange)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), RECEIPT_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| ReportError::Body(error.to_string()))?
            .to_bytes();
        // One that wants to be told all of it is to be told over the same connection.
        if status.is_success() || status == StatusCode::CONFLICT {
            let mut current = self.current.borrow_mut();
            (current.index, current.sender) = (index, Some(sender));
        }
        if !status.is_success() {
            return Err(ReportError::Status(status));
        }
        // Lenient (I9): an answer we cannot read is still an answer.
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
    #[error("the exchange failed: {0}")]
    Exchange(hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Body(String),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("it has no name that can be sent")]
    Name,
}

/// As it is written: `host:port`.
pub(crate) fn authority(controller: &Controller) -> String {
    if controller.host.contains(':') {
        format!("[{}]:{}", controller.host, controller.port)
    } else {
        format!("{}:{}", controller.host, controller.port)
    }
}

/// The interval, a tenth shorter to a tenth longer: a fleet started together must not beat together.
fn jittered(interval: Duration, entropy: u16) -> Duration {
    interval.mul_f64(0.9 + 0.2 * f64::from(entropy) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth() {
        let interval = Duration::from_secs(10);
        assert_eq!(jittered(interval, 0), Duration::from_secs(9));
        assert!(jittered(interval, u16::MAX) <= Duration::from_millis(11_001));
    }

    #[test]
    fn an_ipv6_controller_is_named_in_brackets() {
        let controller = Controller {
            host: "::1".to_owned(),
            port: 5,
        };
        assert_eq!(authority(&controller), "[::1]:5");
    }
}
