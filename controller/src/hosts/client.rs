//! Speaks the contract to the agent of one host: over a connection that is kept while it is good.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use krater_amphora_api::{AmphoraId, HostId, HostOrder, HostRefusal, HostedAmphora, ShownPapers};
use krater_driver::DriverError;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    dial::{Dialed, Dialer, Wire},
    limits::{AGENT_CONNECT_TIME_MAX, HOST_CALL_TIME_MAX},
};

/// A line to the agent of one host.
pub(super) struct HostClient {
    id: HostId,
    dialer: Arc<dyn Dialer>,
    kept: tokio::sync::Mutex<Option<Line>>,
}

struct Line {
    target: SocketAddr,
    wire: Arc<dyn Wire>,
    /// Dropping it ends the connection.
    _connection: BoxFuture<'static, ()>,
}

impl HostClient {
    pub(super) fn new(id: HostId, dialer: Arc<dyn Dialer>) -> Self {
        Self {
            id,
            dialer,
            kept: tokio::sync::Mutex::default(),
        }
    }

    /// Has the host run an amphora.
    pub(super) async fn ensure(
        &self,
        agent: &str,
        amphora: AmphoraId,
        order: &HostOrder,
    ) -> Result<HostedAmphora, DriverError> {
        let body = serde_json::to_vec(order).map_err(|error| transient(error.to_string()))?;
        let path = format!("/v1/amphorae/{amphora}");
        let (status, answer) = self.call(agent, Method::PUT, &path, body.into()).await?;
        understood(status, &answer)
    }

    /// Has the host end an amphora and forget it. Absent counts as done.
    pub(super) async fn release(&self, agent: &str, amphora: AmphoraId) -> Result<(), DriverError> {
        let path = format!("/v1/amphorae/{amphora}");
        let (status, answer) = self
            .call(agent, Method::DELETE, &path, Bytes::new())
            .await?;
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refused(status, &answer))
    }

    /// Has the host make other keys, for an amphora or for itself and all, and have them certified.
    pub(super) async fn renew(
        &self,
        agent: &str,
        amphora: Option<AmphoraId>,
    ) -> Result<Vec<ShownPapers>, DriverError> {
        let path = match amphora {
            Some(amphora) => format!("/v1/amphorae/{amphora}/certificate"),
            None => "/v1/certificates".to_owned(),
        };
        let (status, answer) = self.call(agent, Method::POST, &path, Bytes::new()).await?;
        understood(status, &answer)
    }

    /// What the host and its amphorae show and trust.
    pub(super) async fn shown(&self, agent: &str) -> Result<Vec<ShownPapers>, DriverError> {
        let asked = self.call(agent, Method::GET, "/v1/certificates", Bytes::new());
        let (status, answer) = asked.await?;
        understood(status, &answer)
    }

    async fn call(
        &self,
        agent: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), DriverError> {
        let target: SocketAddr = agent
            .parse()
            .map_err(|_| transient(format!("{agent:?} is no address")))?;
        let kept = self.kept_wire(target).await;
        if let Some(wire) = kept
            && let Ok(answer) = asked(&*wire, method.clone(), path, body.clone()).await
        {
            return Ok(answer);
        }
        // Without one, or with one that is dead: orders may be given twice.
        let wire = self.new_wire(target).await.map_err(transient)?;
        let answer = asked(&*wire, method, path, body).await;
        if answer.is_err() {
            *self.kept.lock().await = None;
        }
        answer.map_err(transient)
    }

    async fn kept_wire(&self, target: SocketAddr) -> Option<Arc<dyn Wire>> {
        let kept = self.kept.lock().await;
        let line = kept.as_ref().filter(|line| line.target == target)?;
        Some(Arc::clone(&line.wire))
    }

    async fn new_wire(&self, target: SocketAddr) -> Result<Arc<dyn Wire>, String> {
        let dialing = self.dialer.dial_host(self.id, target);
        let Dialed { wire, ended } = timeout(AGENT_CONNECT_TIME_MAX, dialing)
            .await
            .unwrap_or_else(|_| Err(format!("the host at {target} does not answer")))?;
        *self.kept.lock().await = Some(Line {
            target,
            wire: Arc::clone(&wire),
            _connection: ended,
        });
        Ok(wire)
    }
}

fn understood<A: DeserializeOwned>(status: StatusCode, answer: &[u8]) -> Result<A, DriverError> {
    if !status.is_success() {
        return Err(refused(status, answer));
    }
    serde_json::from_slice(answer)
        .map_err(|error| transient(format!("its answer cannot be understood: {error}")))
}

async fn asked(
    wire: &dyn Wire,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), String> {
    timeout(HOST_CALL_TIME_MAX, wire.exchange(method, path, body))
        .await
        .unwrap_or_else(|_| Err("the host did not answer in time".to_owned()))
}

fn transient(text: String) -> DriverError {
    DriverError::Transient(text)
}

fn refused(status: StatusCode, answer: &[u8]) -> DriverError {
    let said = serde_json::from_slice::<HostRefusal>(answer);
    transient(said.map_or_else(
        |_| format!("the host answered {status}"),
        |refusal| refusal.message,
    ))
}
