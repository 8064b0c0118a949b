//! What an agent and its supervisor say to each other.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use krater_amphora_core::{snapshot::Transport, transition::Place};
use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// One of them. Descriptors come with [`Packet::Hold`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// These are the sockets of an address: to be held, or as they were held.
    Hold(Place),
    /// Those of an address are not wanted any more.
    Release(Place),
    /// That was all; or: all of that was done.
    Done,
    /// Who says so could serve, and waits for the one before it to let go.
    Ready,
    /// Who says so wants to be succeeded by the program as it is on disk now.
    Succeed,
}

/// The most descriptors that the kernel takes with one packet (`SCM_MAX_FD`). Of an address with more sockets, which
/// are as many as there are cores, nothing is held.
pub(super) const DESCRIPTORS_MAX: usize = 253;
/// The longest line: a word, a transport, an IPv6 address with a scope and a port.
const LINE_BYTES_MAX: usize = 128;

/// Sends a packet. Blocks as long as the socket does.
pub(super) fn send(
    socket: impl AsFd,
    packet: &Packet,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let line = packet.line();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("more sockets than can be passed at once"));
    }
    let line = [IoSlice::new(line.as_bytes())];
    sendmsg(socket, &line, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet. Blocks as long as the socket does. The other side's end is an error.
pub(super) fn receive(socket: impl AsFd) -> io::Result<(Packet, Vec<OwnedFd>)> {
    let mut line = [0; LINE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut line)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "no descriptors are left for what is to be held",
        ));
    }
    let packet = line
        .get(..received.bytes)
        .and_then(|line| std::str::from_utf8(line).ok())
        .and_then(Packet::read);
    Ok((packet.ok_or_else(unexpected)?, descriptors))
}

/// The other side says what it should not.
pub(super) fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an unexpected packet")
}

impl Packet {
    fn line(&self) -> String {
        match self {
            Self::Hold(place) => format!("hold {} {}", place.transport, place.address),
            Self::Release(place) => format!("release {} {}", place.transport, place.address),
            Self::Done => String::from("done"),
            Self::Ready => String::from("ready"),
            Self::Succeed => String::from("succeed"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        let place = match (words.next(), words.next(), words.next()) {
            (None, ..) => {
                return match verb {
                    "done" => Some(Self::Done),
                    "ready" => Some(Self::Ready),
                    "succeed" => Some(Self::Succeed),
                    _ => None,
                };
            }
            (Some(transport), Some(address), None) => Place {
                transport: match transport {
                    "tcp" => Transport::Stream,
                    "udp" => Transport::Datagram,
                    _ => return None,
                },
                address: address.parse().ok()?,
            },
            _ => return None,
        };
        match verb {
            "hold" => Some(Self::Hold(place)),
            "release" => Some(Self::Release(place)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for address in ["192.0.2.1:80", "[2001:db8::1]:65535", "[fe80::1%3]:1"] {
            for transport in [Transport::Stream, Transport::Datagram] {
                let address = address.parse().unwrap();
                let place = Place { transport, address };
                for packet in [Packet::Hold(place), Packet::Release(place)] {
                    let line = packet.line();
                    assert!(line.len() <= LINE_BYTES_MAX);
                    assert_eq!(Packet::read(&line), Some(packet));
                }
            }
        }
        for packet in [Packet::Done, Packet::Ready, Packet::Succeed] {
            assert_eq!(Packet::read(&packet.line()), Some(packet));
        }
    }

    #[test]
    fn nothing_else_is_understood() {
        for line in [
            "",
            "hold",
            "done tcp",
            "hold sctp 1.2.3.4:5",
            "hold tcp 1.2.3.4",
            "keep tcp 1.2.3.4:5",
            "hold tcp 1.2.3.4:5 x",
        ] {
            assert_eq!(Packet::read(line), None, "{line:?}");
        }
    }
}
