//! Sockets that adverts are sent and received by, one for each own address.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    task::Poll,
};

use krater_amphora_core::vrrp::{HOPS, Journey, PROTOCOL};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::unix::AsyncFd, task::yield_now};

use crate::limits::{ADVERT_BYTES_MAX, ADVERTS_PER_TURN_MAX};

/// The sockets, by own address.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    all: BTreeMap<IpAddr, AsyncFd<Socket>>,
    /// More may be there than was read.
    unread: bool,
}

impl Sockets {
    /// Opens one for an address that has none, if the system lets it.
    pub(super) fn ensure(&mut self, own: IpAddr) -> io::Result<()> {
        if let Entry::Vacant(place) = self.all.entry(own) {
            #[expect(
                deprecated,
                reason = "sound here: the descriptor is owned, and not dropped before this"
            )]
            let socket = AsyncFd::new(open(own)?)?;
            place.insert(socket);
        }
        Ok(())
    }

    /// Closes those that nobody uses any more.
    pub(super) fn retain(&mut self, used: impl Fn(&IpAddr) -> bool) {
        self.all.retain(|own, _| used(own));
    }

    /// Sends an advert; one that cannot be sent is as good as lost.
    pub(super) fn send(&self, own: IpAddr, peer: IpAddr, advert: &[u8]) -> io::Result<()> {
        let Some(socket) = self.all.get(&own) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let to = SocketAddr::new(peer, 0);
        socket.get_ref().send_to(advert, &to.into()).map(drop)
    }

    /// Returns when something may have come in.
    pub(super) async fn readable(&self) {
        if self.unread {
            // Whatever else there is to be done on this thread is done first.
            return yield_now().await;
        }
        poll_fn(|cx| {
            let mut any = Poll::Pending;
            for socket in self.all.values() {
                if let Poll::Ready(Ok(mut guard)) = socket.poll_read_ready(cx) {
                    // All is read before the next look, or it is known that not all was.
                    guard.clear_ready();
                    any = Poll::Ready(());
                }
            }
            any
        })
        .await;
    }

    /// What has come in, of each address so much that nobody else waits for long: how it travelled, and what it is.
    pub(super) fn drain(&mut self, mut take: impl FnMut(Journey, &[u8])) {
        let mut buffer = [0; ADVERT_BYTES_MAX];
        self.unread = false;
        for (own, socket) in &self.all {
            let mut read = 0;
            while let Some((journey, range)) = receive(socket.get_ref(), *own, &mut buffer) {
                if let (Some(journey), Some(bytes)) = (journey, buffer.get(range)) {
                    take(journey, bytes);
                }
                read += 1;
                if read == ADVERTS_PER_TURN_MAX {
                    self.unread = true;
                    break;
                }
            }
        }
    }
}

fn open(own: IpAddr) -> io::Result<Socket> {
    let address = SocketAddr::new(own, 0);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::RAW,
        Some(Protocol::from(i32::from(PROTOCOL))),
    )?;
    socket.set_nonblocking(true)?;
    match own {
        IpAddr::V4(_) => {
            socket.set_ttl_v4(u32::from(HOPS))?;
            // Ahead of all that waits on a crowded link (network control).
            socket.set_tos_v4(TOS)?;
        }
        IpAddr::V6(_) => {
            socket.set_unicast_hops_v6(u32::from(HOPS))?;
            socket.set_recv_hoplimit_v6(true)?;
            socket.set_tclass_v6(TOS)?;
        }
    }
    // What is sent to others than this address is not for us.
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One message, or `None` if there is no further one. How it travelled is not known of every one.
fn receive(
    socket: &Socket,
    own: IpAddr,
    buffer: &mut [u8],
) -> Option<(Option<Journey>, std::ops::Range<usize>)> {
    match own {
        IpAddr::V4(_) => {
            let length = retried(|| io::Read::read(&mut &*socket, buffer)).ok()?;
            let packet = buffer.get(..length)?;
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let journey = of_v4(packet).filter(|_| header <= length);
            Some((journey, header.min(length)..length))
        }
        IpAddr::V6(_) => {
            let mut control = nix::cmsg_space!(i32);
            let mut parts = [IoSliceMut::new(buffer)];
            let received = retried(|| {
                recvmsg::<SockaddrIn6>(
                    socket.as_raw_fd(),
                    &mut parts,
                    Some(&mut control),
                    MsgFlags::empty(),
                )
                .map(|message| {
                    let hops = message.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|one| match one {
                            ControlMessageOwned::Ipv6HopLimit(hops) => u8::try_from(hops).ok(),
                            _ => None,
                        })
                    });
                    (message.bytes, message.address, hops)
                })
                .map_err(io::Error::from)
            });
            let (length, source, hops) = received.ok()?;
            let journey = source.zip(hops).map(|(source, hops)| Journey {
                source: IpAddr::V6(source.ip()),
                destination: own,
                hops,
            });
            Some((journey, 0..length))
        }
    }
}

/// What the header of an IPv4 packet says.
fn of_v4(packet: &[u8]) -> Option<Journey> {
    let at = |from: usize| {
        let bytes: [u8; 4] = packet.get(from..from + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    Some(Journey {
        hops: *packet.get(8)?,
        source: at(12)?,
        destination: at(16)?,
    })
}

/// Errors that are about something sent before do not end the reading.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        match call() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock && tries < TRIES_MAX => {
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Network control (DSCP CS6).
const TOS: u32 = 0xc0;
const TRIES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn a_flood_is_read_in_turns_and_nothing_of_it_is_lost() {
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        // What raw sockets get begins with the header of the packet; here it is sent along.
        let socket = UdpSocket::bind((own, 0)).unwrap();
        let to = socket.local_addr().unwrap();
        socket.set_nonblocking(true).unwrap();
        #[expect(deprecated, reason = "sound here: the descriptor is owned")]
        let socket = AsyncFd::new(Socket::from(socket)).unwrap();
        let mut sockets = Sockets::default();
        sockets.all.insert(own, socket);
        let sender = UdpSocket::bind((own, 0)).unwrap();
        let total = ADVERTS_PER_TURN_MAX + 3;
        for number in 0..total {
            let mut packet = [0; 21];
            packet[0] = 0x45;
            packet[20] = u8::try_from(number).unwrap();
            sender.send_to(&packet, to).unwrap();
        }
        let mut read = Vec::new();
        for expected in [ADVERTS_PER_TURN_MAX, 3] {
            sockets.readable().await;
            let before = read.len();
            sockets.drain(|_, bytes| read.push(usize::from(bytes[0])));
            assert_eq!(read.len() - before, expected);
        }
        assert_eq!(read, (0..total).collect::<Vec<_>>());
        assert!(!sockets.unread);
    }
}
