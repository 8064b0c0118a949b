//! The UDP-CONNECT probe: an empty datagram, and whether the network says that nobody is there (reference 19.11).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use krater_amphora_core::monitor::ProbeFailure;
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{failure::from_io, tcp::Allowance};
use crate::limits::UDP_SILENCE_MAX;

/// Succeeds unless an ICMP error comes back: a server may well not answer an empty datagram, while a closed port or a
/// missing host is told of within a round trip.
pub(super) async fn probe(target: SocketAddr, time: Allowance) -> Result<(), ProbeFailure> {
    let until = time.until.min(Instant::now() + UDP_SILENCE_MAX);
    match timeout_at(until, ask(target)).await {
        Ok(outcome) => outcome.map_err(|error| from_io(&error)),
        // Nobody complained.
        Err(_) => Ok(()),
    }
}

async fn ask(target: SocketAddr) -> std::io::Result<()> {
    let any: SocketAddr = if target.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that the kernel hands ICMP errors over, and datagrams of the member alone.
    socket.connect(target).await?;
    socket.send(&[]).await?;
    // Whatever it answers, somebody is there.
    socket.recv(&mut [0]).await.map(drop)
}
