//! Speaks the contract to one amphora: one HTTP/2 connection over mutual TLS, made again for ever when it breaks.
//!
//! While there is no connection a call fails at once with the reason instead of waiting: who calls has other things
//! to do, and is told when the amphora is back ([`AmphoraClient::reachable`]).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use krater_amphora_api::{
    AmphoraId, Applied, ApplyError, BootId, Generation, Info, LoadBalancerId, Rejection, Report,
    SnapshotSpec,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::{
    board::Board,
    dial::{Dialed, Dialer, Wire},
    limits::{AGENT_CALL_TIME_MAX, AGENT_CONNECT_TIME_MAX, AGENT_RECONNECT_WAIT_MAX},
    realm,
};

/// A line to one amphora. Dropping it ends the connection.
pub(crate) struct AmphoraClient {
    target: watch::Sender<Option<SocketAddr>>,
    link: Arc<Board<Link>>,
    task: AbortHandle,
}

/// Why an amphora did not do what it was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum AgentError {
    /// It did not answer, or answered that it is not able right now.
    #[error("{0}")]
    Unreachable(String),
    /// It refused the snapshot.
    #[error("{message}")]
    Refused {
        /// Every reason; may be empty.
        rejections: Vec<Rejection>,
        /// Its message.
        message: String,
    },
    /// It holds a newer generation than the one that was sent.
    #[error("it holds generation {0}, which is newer")]
    Holds(Generation),
}

/// Why a load balancer leaves an amphora.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It is deleted.
    Ends,
    /// Another amphora serves it already: nobody is to notice.
    Moves,
}

/// The state of the connection.
#[derive(Clone)]
enum Link {
    Down(String),
    Up(Line),
}

#[derive(Clone)]
struct Line {
    wire: Arc<dyn Wire>,
    boot: BootId,
    /// Somebody waited in vain on this connection: it is given up.
    hung: Arc<Notify>,
}

impl AmphoraClient {
    /// Begins to connect as soon as an address is known. After each connecting the amphora is asked for a report, so
    /// that nobody waits for its next heartbeat.
    pub(crate) fn start(
        id: AmphoraId,
        dialer: Arc<dyn Dialer>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let (target, targets) = watch::channel(None);
        let unknown = Link::Down("its address is not known yet".to_owned());
        let link = Arc::new(Board::new(unknown));
        let keeping = keep_connected(id, dialer, targets, Arc::clone(&link), reports);
        let task = realm::spawn(keeping).abort_handle();
        Self { target, link, task }
    }

    /// Where the agent is. The present connection stays when that is where it goes to.
    pub(crate) fn direct(&self, agent: SocketAddr) {
        self.target
            .send_if_modified(|target| target.replace(agent) != Some(agent));
    }

    /// The run of the amphora's process that is connected, or `None` without connection.
    pub(crate) fn boot(&self) -> Option<BootId> {
        self.link.look(|link| match link {
            Link::Up(line) => Some(line.boot),
            Link::Down(_) => None,
        })
    }

    /// Returns when there is a connection.
    pub(crate) async fn reachable(&self) {
        self.link.wait_for(|link| matches!(link, Link::Up(_))).await;
    }

    /// Returns at the next change of the connection.
    pub(crate) fn changes(&self) -> impl Future<Output = ()> + Send + use<> {
        self.link.next()
    }

    /// Ships the wanted state of one load balancer.
    pub(crate) async fn push(&self, spec: &SnapshotSpec) -> Result<Applied, AgentError> {
        let body = serde_json::to_vec(spec)
            .map_err(|error| refused(format!("the snapshot cannot be sent: {error}")))?;
        let path = format!("/v1/load-balancers/{}", spec.load_balancer);
        let (status, answer) = self.call(Method::PUT, &path, Bytes::from(body)).await?;
        if status == StatusCode::OK {
            return read(&answer);
        }
        Err(failure(status, &answer))
    }

    /// Has the amphora let go of a load balancer as of `generation`. One it does not have counts as done.
    pub(crate) async fn remove(
        &self,
        id: LoadBalancerId,
        generation: Generation,
        departure: Departure,
    ) -> Result<(), AgentError> {
        let moved = match departure {
            Departure::Ends => "",
            Departure::Moves => "&moved=true",
        };
        let path = format!("/v1/load-balancers/{id}?generation={generation}{moved}");
        let (status, answer) = self.call(Method::DELETE, &path, Bytes::new()).await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(failure(status, &answer))
    }

    /// Has the amphora go without the addresses of a load balancer for that long, as long as it hears nobody else.
    pub(crate) async fn stand_aside(
        &self,
        id: LoadBalancerId,
        time: Duration,
    ) -> Result<(), AgentError> {
        let time = time.as_millis();
        let path = format!("/v1/load-balancers/{id}/aside?for_ms={time}");
        let (status, answer) = self.call(Method::POST, &path, Bytes::new()).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(failure(status, &answer))
    }

    /// Has the program on the amphora's disk take over. That it has shows by another boot id.
    pub(crate) async fn succeed(&self) -> Result<(), AgentError> {
        let (status, answer) = self
            .call(Method::POST, "/v1/successor", Bytes::new())
            .await?;
        if status.is_success() {
            return Ok(());
        }
        Err(failure(status, &answer))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), AgentError> {
        let link = self.link.look(Link::clone);
        match link {
            Link::Down(reason) => Err(AgentError::Unreachable(reason)),
            Link::Up(line) => line
                .call(method, path, body)
                .await
                .map_err(AgentError::Unreachable),
        }
    }
}

impl Drop for AmphoraClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Passes a report on. Without one the next heartbeat will do.
    async fn report_to(&self, reports: &mpsc::Sender<Report>) {
        if let Ok((StatusCode::OK, answer)) =
            self.call(Method::GET, "/v1/report", Bytes::new()).await
            && let Ok(report) = read(&answer)
        {
            let _ = reports.try_send(report);
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        match timeout(AGENT_CALL_TIME_MAX, self.wire.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.hung.notify_one();
                Err(format!(
                    "it did not answer within {} ms",
                    AGENT_CALL_TIME_MAX.as_millis()
                ))
            }
        }
    }
}

async fn keep_connected(
    id: AmphoraId,
    dialer: Arc<dyn Dialer>,
    mut targets: watch::Receiver<Option<SocketAddr>>,
    links: Arc<Board<Link>>,
    reports: mpsc::Sender<Report>,
) {
    let mut wait = RECONNECT_WAIT_MIN;
    loop {
        let target = *targets.borrow_and_update();
        let Some(target) = target else {
            if targets.changed().await.is_err() {
                return;
            }
            continue;
        };
        let connected = timeout(AGENT_CONNECT_TIME_MAX, connect(id, target, &*dialer)).await;
        let reason = match connected.unwrap_or_else(|_| Err(format!("{target} does not answer"))) {
            Ok((line, ended)) => {
                tracing::debug!(amphora = %id, %target, boot = %line.boot, "connected");
                wait = RECONNECT_WAIT_MIN;
                let hung = Arc::clone(&line.hung);
                links.change(|link| {
                    *link = Link::Up(line.clone());
                    true
                });
                line.report_to(&reports).await;
                tokio::select! {
                    biased;
                    _ = targets.changed() => "it moved to another address".to_owned(),
                    () = hung.notified() => "it stopped answering".to_owned(),
                    () = ended => format!("the connection to {target} broke"),
                }
            }
            Err(reason) => {
                tokio::select! {
                    biased;
                    _ = targets.changed() => wait = RECONNECT_WAIT_MIN,
                    () = sleep(wait) => wait = (wait * 2).min(AGENT_RECONNECT_WAIT_MAX),
                }
                reason
            }
        };
        links.change(|link| replace_reason(link, reason));
    }
}

/// Notes why there is no connection; says whether that is news to anybody.
fn replace_reason(link: &mut Link, reason: String) -> bool {
    let was_up = matches!(link, Link::Up(_));
    *link = Link::Down(reason);
    was_up
}

async fn connect(
    id: AmphoraId,
    target: SocketAddr,
    dialer: &dyn Dialer,
) -> Result<(Line, BoxFuture<'static, ()>), String> {
    let Dialed { wire, ended } = dialer.dial(id, target).await?;
    let (status, answer) = wire.exchange(Method::GET, "/v1/info", Bytes::new()).await?;
    if status != StatusCode::OK {
        return Err(format!("{target} answered {status} when asked who it is"));
    }
    let info: Info = read(&answer).map_err(|error| error.to_string())?;
    if info.amphora != id {
        return Err(format!("{target} is amphora {}, not {id}", info.amphora));
    }
    let line = Line {
        wire,
        boot: info.boot,
        hung: Arc::new(Notify::new()),
    };
    Ok((line, ended))
}

fn failure(status: StatusCode, answer: &[u8]) -> AgentError {
    let error = serde_json::from_slice::<ApplyError>(answer).ok();
    let message = error.as_ref().map_or_else(
        || format!("it answered {status}"),
        |error| error.message.clone(),
    );
    let held = error.as_ref().and_then(|error| error.held);
    match (status, held) {
        (StatusCode::CONFLICT, Some(held)) => AgentError::Holds(held),
        _ if status.is_client_error() => AgentError::Refused {
            rejections: error.map(|error| error.rejections).unwrap_or_default(),
            message,
        },
        _ => AgentError::Unreachable(message),
    }
}

fn refused(message: String) -> AgentError {
    AgentError::Refused {
        rejections: Vec::new(),
        message,
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, AgentError> {
    serde_json::from_slice(answer).map_err(|error| {
        AgentError::Unreachable(format!("its answer cannot be understood: {error}"))
    })
}

/// A process is restarted within milliseconds, and the first who asks should find it.
const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(10);
#[cfg(test)]
mod tests;
