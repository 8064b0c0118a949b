//! The supervisor's side.

use std::{
    collections::BTreeMap,
    future::pending,
    io,
    os::fd::{AsFd, OwnedFd},
};

use krater_amphora_core::transition::Place;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use tokio::{io::unix::AsyncFd, sync::Notify, time::sleep};
use tracing::warn;

use super::packet::{self, Packet};
use crate::limits::CUSTODY_PATIENCE;

/// The listening sockets of an agent, held across its deaths.
#[derive(Debug, Default)]
pub(crate) struct Custodian {
    held: BTreeMap<Place, Vec<OwnedFd>>,
}

impl Custodian {
    /// A socket to speak over, and its other end for an agent that is about to be started.
    pub(crate) fn connect() -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Of ours alone: the agent's side waits.
        rustix::io::ioctl_fionbio(&ours, true)?;
        #[expect(
            deprecated,
            reason = "sound here: the descriptor is owned, and not dropped before this"
        )]
        let ours = AsyncFd::new(ours)?;
        Ok((ours, theirs))
    }

    /// Gives an agent what is held, then holds what it leaves. Never ends: to be dropped when the agent has died.
    ///
    /// What an agent wants that lives and has stopped speaking is not known any more, and is let go of.
    ///
    /// `wish` is notified when the agent wants to be succeeded.
    pub(crate) async fn serve(&mut self, agent: &AsyncFd<OwnedFd>, wish: &Notify) {
        match self.converse(agent, wish).await {
            Err(error) if is_end(&error) => sleep(CUSTODY_PATIENCE).await,
            Err(error) => warn!(%error, "listening sockets cannot be held for the agent"),
            Ok(()) => {}
        }
        self.held.clear();
        // It has to notice: standard input is the same socket.
        let _ = shutdown(agent.get_ref(), Shutdown::Both);
        pending().await
    }

    /// Waits until an agent says that it could serve.
    pub(crate) async fn hear_ready(agent: &AsyncFd<OwnedFd>) -> io::Result<()> {
        match when_readable(agent, |agent| packet::receive(agent)).await? {
            (Packet::Ready, _) => Ok(()),
            _ => Err(packet::unexpected()),
        }
    }

    async fn converse(&mut self, agent: &AsyncFd<OwnedFd>, wish: &Notify) -> io::Result<()> {
        for (place, descriptors) in &self.held {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            when_writable(agent, |agent| {
                packet::send(agent, &Packet::Hold(*place), &descriptors)
            })
            .await?;
        }
        when_writable(agent, |agent| packet::send(agent, &Packet::Done, &[])).await?;
        loop {
            let (packet, descriptors) =
                when_readable(agent, |agent| packet::receive(agent)).await?;
            match packet {
                Packet::Hold(place) => {
                    self.held.insert(place, descriptors);
                }
                Packet::Release(place) => {
                    self.held.remove(&place);
                }
                Packet::Succeed => wish.notify_one(),
                Packet::Ready => return Err(packet::unexpected()),
                Packet::Done => {
                    when_writable(agent, |agent| packet::send(agent, &Packet::Done, &[])).await?;
                }
            }
        }
    }
}

/// The agent has died, or let go.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

async fn when_writable<T>(
    agent: &AsyncFd<OwnedFd>,
    mut call: impl FnMut(&OwnedFd) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        if let Ok(done) = agent
            .writable()
            .await?
            .try_io(|agent| call(agent.get_ref()))
        {
            return done;
        }
    }
}

async fn when_readable<T>(
    agent: &AsyncFd<OwnedFd>,
    mut call: impl FnMut(&OwnedFd) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        if let Ok(done) = agent
            .readable()
            .await?
            .try_io(|agent| call(agent.get_ref()))
        {
            return done;
        }
    }
}
