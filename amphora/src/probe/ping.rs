//! The PING probe: one ICMP or ICMPv6 echo.
//!
//! Asked over a datagram socket that needs no privilege where the system's `net.ipv4.ping_group_range` includes our
//! group, else over a raw one, which needs `CAP_NET_RAW`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use krater_amphora_core::{
    icmp::checksum,
    monitor::{ProbeFailure, Stage},
};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{failure::from_io, tcp::Allowance};

/// Succeeds when the echo comes back.
pub(super) async fn probe(target: IpAddr, time: Allowance) -> Result<(), ProbeFailure> {
    let echo = Echo {
        v6: target.is_ipv6(),
        id: rand::random(),
        nonce: rand::random(),
    };
    let (socket, kind) = open(target)?;
    time.bound(Stage::Answer, socket.send(&echo.request()))
        .await?;
    let mut buffer = [0; 256];
    loop {
        let length = time.bound(Stage::Answer, socket.recv(&mut buffer)).await?;
        let packet = buffer.get(..length).unwrap_or_default();
        if echo.is_answered_by(packet, kind) {
            return Ok(());
        }
    }
}

/// How the socket shows what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Starts at the ICMP header; the system chose the identifier.
    Datagram,
    /// IPv4 starts at the IP header; the identifier is ours.
    Raw,
}

fn open(target: IpAddr) -> Result<(UdpSocket, Kind), ProbeFailure> {
    let address = SocketAddr::new(target, 0);
    let protocol = if target.is_ipv6() {
        Protocol::ICMPV6
    } else {
        Protocol::ICMPV4
    };
    let attempt = |kind| {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.connect(&address.into())?;
        // The runtime only polls, sends and receives: to it this is a connected datagram socket like any other.
        UdpSocket::from_std(socket.into())
    };
    match attempt(Type::DGRAM) {
        Ok(socket) => return Ok((socket, Kind::Datagram)),
        Err(error) if !is_refusal(&error) => return Err(from_io(&error)),
        Err(_) => {}
    }
    match attempt(Type::RAW) {
        Ok(socket) => Ok((socket, Kind::Raw)),
        Err(error) if !is_refusal(&error) => Err(from_io(&error)),
        Err(_) => Err(ProbeFailure::Unreachable(NOT_PERMITTED.to_owned())),
    }
}

/// The system does not let us have such a socket, or has none.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::ACCESS
                | Errno::PERM
                | Errno::PROTONOSUPPORT
                | Errno::PROTOTYPE
                | Errno::SOCKTNOSUPPORT
        )
    )
}

/// A verdict and not a shrug: whoever configured a PING monitor must learn why it cannot work here.
const NOT_PERMITTED: &str = "the amphora may not send echo requests: it needs its group in net.ipv4.ping_group_range, or CAP_NET_RAW";

/// One echo: what is asked, and what its answer must hold.
#[derive(Clone, Copy, Debug)]
struct Echo {
    v6: bool,
    id: u16,
    nonce: u64,
}

impl Echo {
    fn request(self) -> [u8; 16] {
        let mut packet = [0; 16];
        let (header, payload) = packet.split_at_mut(8);
        payload.copy_from_slice(&self.nonce.to_be_bytes());
        let [id_high, id_low] = self.id.to_be_bytes();
        let request_type = if self.v6 { 128 } else { 8 };
        header.copy_from_slice(&[request_type, 0, 0, 0, id_high, id_low, 0, 1]);
        // ICMPv6 is summed by the system, since the sum covers addresses too.
        if !self.v6 {
            let sum = checksum(&packet).to_be_bytes();
            if let Some(place) = packet.get_mut(2..4) {
                place.copy_from_slice(&sum);
            }
        }
        packet
    }

    fn is_answered_by(self, packet: &[u8], kind: Kind) -> bool {
        let skipped = match (kind, self.v6, packet.first()) {
            (Kind::Raw, false, Some(first)) => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let Some(icmp) = packet.get(skipped..) else {
            return false;
        };
        let answer_type = if self.v6 { 129 } else { 0 };
        let ours = kind == Kind::Datagram || icmp.get(4..6) == Some(&self.id.to_be_bytes());
        // The nonce tells our answer from another's, whatever identifier the system gave us.
        icmp.first() == Some(&answer_type)
            && ours
            && icmp.get(8..16) == Some(&self.nonce.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_all_ones_as_the_standard_asks() {
        let packet = Echo {
            v6: false,
            id: 0x1234,
            nonce: 0xdead_beef_0102_0304,
        }
        .request();
        assert_eq!(checksum(&packet), 0);
    }

    #[test]
    fn only_the_own_answer_counts() {
        let echo = Echo {
            v6: false,
            id: 7,
            nonce: 99,
        };
        let mut answer = echo.request();
        answer[0] = 0;
        assert!(echo.is_answered_by(&answer, Kind::Datagram));
        assert!(!Echo { nonce: 98, ..echo }.is_answered_by(&answer, Kind::Datagram));
        let mut raw = vec![0x45; 20];
        raw.extend_from_slice(&answer);
        assert!(echo.is_answered_by(&raw, Kind::Raw));
        assert!(!Echo { id: 8, ..echo }.is_answered_by(&raw, Kind::Raw));
        assert!(!echo.is_answered_by(&raw[..18], Kind::Raw));
    }
}
