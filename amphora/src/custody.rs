//! Listening sockets that outlive the process: the supervisor holds them for its agent.
//!
//! The agent leaves a copy of each listening socket with its supervisor. While the agent is dead the sockets stay open,
//! so that who comes then waits in the kernel's queue instead of being refused, and the next agent is given them. The
//! two speak over a socket that is the agent's standard input: packets of a line of text, with descriptors beside it.
//! Nobody else can; without a supervisor nothing is held and nothing is lacking.

mod custodian;
mod packet;

use std::{
    collections::BTreeMap,
    io,
    net::{TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use krater_amphora_core::{snapshot::Transport, transition::Place};
use rustix::net::{
    AddressFamily, Shutdown, SocketType, shutdown,
    sockopt::{Timeout, set_socket_timeout, socket_domain, socket_type},
};
use tracing::warn;

use self::packet::Packet;
use crate::{limits::CUSTODY_PATIENCE, listen::Listening};

pub(crate) use custodian::Custodian;

/// The agent's side.
#[derive(Debug, Default)]
pub(crate) struct Custody {
    /// None if there is no supervisor that holds anything, or it stopped answering.
    supervisor: Option<OwnedFd>,
    /// What the agent before this one had open, until it is claimed.
    inherited: BTreeMap<Place, Vec<OwnedFd>>,
}

impl Custody {
    /// What the supervisor holds, if standard input leads to one.
    pub(crate) fn of_supervisor() -> Self {
        Self::input().map_or_else(|_| Self::default(), Self::over)
    }

    /// Says whether standard input leads to a supervisor.
    pub(crate) fn look_for_supervisor() -> io::Result<()> {
        Self::input().map(drop)
    }

    /// Tells the supervisor that this process could serve, once the agent before it lets go.
    pub(crate) fn announce_readiness() -> io::Result<()> {
        packet::send(Self::input()?, &Packet::Ready, &[])
    }

    fn input() -> io::Result<OwnedFd> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        if is_custodian(&input) {
            Ok(input)
        } else {
            Err(io::Error::other("there is no supervisor"))
        }
    }

    /// Asks the supervisor for a successor. `false` if there is nobody to ask.
    pub(crate) fn ask_for_successor(&mut self) -> bool {
        self.tell(|supervisor| packet::send(supervisor, &Packet::Succeed, &[]));
        self.supervisor.is_some()
    }

    /// Whether somebody holds what is open. A supervisor may have died long ago and not have been missed: it is asked.
    pub(crate) fn is_held(&mut self) -> bool {
        self.tell(hear_done);
        self.supervisor.is_some()
    }

    fn over(socket: OwnedFd) -> Self {
        let mut custody = Self {
            supervisor: Some(socket),
            inherited: BTreeMap::new(),
        };
        if let Err(error) = custody.inherit() {
            custody.give_up(&error);
        }
        custody
    }

    fn inherit(&mut self) -> io::Result<()> {
        let Some(supervisor) = &self.supervisor else {
            return Ok(());
        };
        for side in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(supervisor, side, Some(CUSTODY_PATIENCE))?;
        }
        loop {
            match packet::receive(supervisor)? {
                (Packet::Hold(place), descriptors) => {
                    self.inherited.insert(place, descriptors);
                }
                (Packet::Done, _) => return Ok(()),
                _ => return Err(packet::unexpected()),
            }
        }
    }

    /// Takes over the sockets of an address from the agent before this one; `None` if it had none, or not so many: then
    /// they are closed, and with them goes who waits there.
    pub(crate) fn claim(&mut self, place: Place, size: usize) -> Option<Vec<Listening>> {
        let descriptors = self.inherited.remove(&place)?;
        if descriptors.len() == size {
            return Some(
                descriptors
                    .into_iter()
                    .map(|descriptor| listening(place.transport, descriptor))
                    .collect(),
            );
        }
        drop(descriptors);
        self.release([place]);
        None
    }

    /// Lets go of what nobody has claimed.
    pub(crate) fn renounce(&mut self) {
        let unclaimed: Vec<_> = std::mem::take(&mut self.inherited).into_keys().collect();
        self.release(unclaimed);
    }

    /// Leaves copies of the sockets of an address with the supervisor.
    pub(crate) fn hold(&mut self, place: Place, sockets: &[Listening]) {
        let descriptors: Vec<_> = sockets.iter().map(descriptor).collect();
        self.tell(|supervisor| packet::send(supervisor, &Packet::Hold(place), &descriptors));
    }

    /// Has the supervisor close its copies, and waits until it has.
    pub(crate) fn release(&mut self, places: impl IntoIterator<Item = Place>) {
        let mut places = places.into_iter().peekable();
        if places.peek().is_none() {
            return;
        }
        self.tell(|supervisor| {
            for place in places {
                packet::send(supervisor, &Packet::Release(place), &[])?;
            }
            hear_done(supervisor)
        });
    }

    fn tell(&mut self, say: impl FnOnce(&OwnedFd) -> io::Result<()>) {
        if let Some(supervisor) = &self.supervisor
            && let Err(error) = say(supervisor)
        {
            self.give_up(&error);
        }
    }

    /// A supervisor that does not answer closes what it holds once it notices that nobody speaks to it any more.
    fn give_up(&mut self, error: &io::Error) {
        warn!(%error, "the supervisor holds no listening sockets any more: should this process die, clients are refused until it is back");
        self.inherited.clear();
        if let Some(supervisor) = self.supervisor.take() {
            // Standard input is the same socket and stays open: without this the supervisor would not notice.
            let _ = shutdown(supervisor, Shutdown::Both);
        }
    }
}

/// Waits until the supervisor has done all that it was told.
fn hear_done(supervisor: &OwnedFd) -> io::Result<()> {
    packet::send(supervisor, &Packet::Done, &[])?;
    match packet::receive(supervisor)? {
        (Packet::Done, _) => Ok(()),
        _ => Err(packet::unexpected()),
    }
}

fn is_custodian(input: &OwnedFd) -> bool {
    socket_domain(input).is_ok_and(|family| family == AddressFamily::UNIX)
        && socket_type(input).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

fn listening(transport: Transport, descriptor: OwnedFd) -> Listening {
    match transport {
        Transport::Stream => Listening::Streams(Arc::new(TcpListener::from(descriptor))),
        Transport::Datagram => Listening::Datagrams(Arc::new(UdpSocket::from(descriptor))),
    }
}

fn descriptor(socket: &Listening) -> BorrowedFd<'_> {
    match socket {
        Listening::Streams(socket) => socket.as_fd(),
        Listening::Datagrams(socket) => socket.as_fd(),
    }
}

#[cfg(test)]
mod tests;
