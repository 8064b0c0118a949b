//! The TCP probe: a handshake, and nothing else.

use std::{net::SocketAddr, time::Duration};

use krater_amphora_core::monitor::{ProbeFailure, Stage};
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::failure::from_io;

/// The time a probe has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// When it ends.
    pub(super) until: Instant,
    /// How long it was, for the message.
    pub(super) whole: Duration,
}

impl Allowance {
    /// Runs `attempt` within what is left.
    pub(super) async fn bound<T>(
        self,
        stage: Stage,
        attempt: impl Future<Output = std::io::Result<T>>,
    ) -> Result<T, ProbeFailure> {
        match timeout_at(self.until, attempt).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(from_io(&error)),
            Err(_) => Err(ProbeFailure::Timeout {
                after: self.whole,
                stage,
            }),
        }
    }
}

/// Succeeds when the handshake completes.
pub(super) async fn probe(target: SocketAddr, time: Allowance) -> Result<(), ProbeFailure> {
    connect(target, time).await.map(drop)
}

/// Connects. The connection ends with a reset when it is dropped: probes would otherwise leave thousands of ports
/// waiting out their end, here or at the members.
pub(super) async fn connect(
    target: SocketAddr,
    time: Allowance,
) -> Result<TcpStream, ProbeFailure> {
    let stream = time
        .bound(Stage::Connect, TcpStream::connect(target))
        .await?;
    // Best effort: without it the probe is as true, only its end is slower.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Ok(stream)
}
