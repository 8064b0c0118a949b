//! The TCP probe: a handshake, and for members that expect it a PROXY header.

use std::{io, net::SocketAddr, time::Duration};

use krater_amphora_core::{
    monitor::{ProbeFailure, Stage},
    proxy_protocol::{Header, Origin, Version},
    snapshot::{Member, Pool},
};
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::failure::from_io;

/// Where a probe goes, and what it says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The header that is expected ahead of everything.
    pub(super) header: Option<Version>,
}

impl Target {
    /// Where `member` is probed. Who answers at a monitor address or port of its own is spoken to plainly (reference
    /// 19.5).
    pub(super) fn of(pool: &Pool, member: &Member) -> Self {
        Self {
            address: member.probe_address,
            header: pool.proxy_header().filter(|_| !member.probed_apart),
        }
    }
}

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
        attempt: impl Future<Output = io::Result<T>>,
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
pub(super) async fn probe(target: Target, time: Allowance) -> Result<(), ProbeFailure> {
    connect(target, time).await.map(drop)
}

/// Connects, and sends the header that is expected: a probe speaks for nobody, so it says that the connection is our own
/// (section 2.2 of the PROXY protocol).
///
/// The connection ends with a reset when it is dropped: probes would otherwise leave thousands of ports waiting out
/// their end, here or at the members. Not so behind a header, which a reset might overtake.
pub(super) async fn connect(target: Target, time: Allowance) -> Result<TcpStream, ProbeFailure> {
    let mut stream = time
        .bound(Stage::Connect, TcpStream::connect(target.address))
        .await?;
    if let Some(version) = target.header {
        let header = Header::new(version, Origin::Own);
        time.bound(Stage::Answer, stream.write_all(header.as_bytes()))
            .await?;
    } else {
        // Best effort: without it the probe is as true, only its end is slower.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    Ok(stream)
}
