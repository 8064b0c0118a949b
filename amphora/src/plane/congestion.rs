//! Congestion control towards clients, as listeners ask for it.
//!
//! It is an option of listening sockets, which connections inherit: none of them pays for it. The sockets of an address
//! serve one listener after the other, of HTTP and of streams, in one process after the other. So they are looked at when
//! they come, whoever had them, and set whenever something else is asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::TcpListener,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use krater_amphora_api::{CongestionControl, ListenerId};
use krater_amphora_core::transition::{Place, SocketKey};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Holder, Plane};
use crate::{
    listen::Listening,
    world::{ListenerState, World},
};

/// What the sockets of an address are set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Control {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// What the system has for all.
    System,
    /// What a listener asks for.
    Named(CongestionControl),
}

/// Where the system refuses what is asked for: by whom, and what.
pub(super) type Refusals = BTreeMap<Place, (ListenerId, CongestionControl)>;

impl Plane {
    /// Sets at each of these addresses what its listener asks for; what the system has for all if it refuses that, which
    /// is told, counted and no reason not to serve.
    pub(super) fn control_congestion<'a>(
        &mut self,
        keys: impl IntoIterator<Item = &'a (SocketKey, &'a Arc<ListenerState>)>,
    ) {
        let mut system = System::look(&self.refusals);
        let mut told = BTreeSet::new();
        for (key, state) in keys {
            let Some(holder) = self.open.get_mut(&key.place) else {
                continue;
            };
            let before = self.refusals.remove(&key.place);
            let Some(name) = state.listener.congestion_control else {
                system.restore(holder);
                continue;
            };
            let Err(errno) = system.set(holder, name) else {
                continue;
            };
            system.restore(holder);
            let refusal = (key.listener, name);
            self.refusals.insert(key.place, refusal);
            // Once for all of its addresses, and not each time that it is tried again.
            if before != Some(refusal) && told.insert(key.listener) {
                tell(state, name, errno);
            }
        }
        self.count_refusals();
    }

    /// Tries again what the system refused: a module may have been loaded, or a setting have been changed.
    pub(super) fn retry_congestion(&mut self, world: &World) {
        if self.refusals.is_empty() {
            return;
        }
        let refused = self.refusals.iter().filter_map(|(place, (listener, _))| {
            let (place, listener) = (*place, *listener);
            let state = world.listeners.get(&listener)?;
            Some((SocketKey { listener, place }, state))
        });
        let refused: Vec<_> = refused.collect();
        self.control_congestion(&refused);
    }

    /// Writes for metrics at how many listeners something else is in force than is asked for.
    pub(super) fn count_refusals(&self) {
        let listeners: BTreeSet<_> = self.refusals.values().map(|(id, _)| *id).collect();
        let count = u64::try_from(listeners.len()).unwrap_or(u64::MAX);
        self.common.congestion_refused.store(count, Relaxed);
    }
}

/// What is known of the system, for as long as some addresses are gone through.
struct System {
    /// What it has for all, once that was asked for.
    usual: Option<Vec<u8>>,
    /// What it does not have, or does not allow.
    refused: BTreeMap<CongestionControl, Errno>,
}

impl System {
    /// What was refused and is not there yet is not asked for again: a kernel looks for a module each time.
    fn look(refusals: &Refusals) -> Self {
        let mut refused = BTreeMap::new();
        if !refusals.is_empty()
            && let Ok(available) = fs::read_to_string(AVAILABLE)
        {
            let is_there = |name: &str| available.split_ascii_whitespace().any(|it| it == name);
            let names = refusals.values().map(|(_, name)| *name);
            let missing = names.filter(|name| !is_there(name.as_str()));
            refused.extend(missing.map(|name| (name, Errno::NOENT)));
        }
        Self {
            usual: None,
            refused,
        }
    }

    /// Sets what a listener asks for, or says why that cannot be.
    fn set(&mut self, holder: &mut Holder, name: CongestionControl) -> Result<(), Errno> {
        if holder.control == Control::Named(name) {
            return Ok(());
        }
        if let Some(errno) = self.refused.get(&name) {
            return Err(*errno);
        }
        // Should it be set at some and refused by others.
        holder.control = Control::Unknown;
        for socket in streams(holder) {
            let set = SockRef::from(socket).set_tcp_congestion(name.as_str().as_bytes());
            if let Err(error) = set {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
                self.refused.insert(name, errno);
                return Err(errno);
            }
        }
        holder.control = Control::Named(name);
        Ok(())
    }

    /// Sets what the system has for all, where that is not so already.
    fn restore(&mut self, holder: &mut Holder) {
        if holder.control == Control::System {
            return;
        }
        holder.control = match self.try_restore(holder) {
            Ok(()) => Control::System,
            Err(error) => {
                tracing::debug!(%error, "a listening socket keeps its congestion control");
                Control::Unknown
            }
        };
    }

    fn try_restore(&mut self, holder: &Holder) -> io::Result<()> {
        for socket in streams(holder) {
            let socket = SockRef::from(socket);
            let usual = match &self.usual {
                Some(usual) => usual,
                None => self.usual.insert(usual()?),
            };
            // One that was never set follows the system when that changes: it is left so.
            if socket.tcp_congestion()? != *usual {
                socket.set_tcp_congestion(usual)?;
            }
        }
        Ok(())
    }
}

/// What a socket has that nobody has set.
fn usual() -> io::Result<Vec<u8>> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?.tcp_congestion()
}

fn streams(holder: &Holder) -> impl Iterator<Item = &TcpListener> {
    holder.sockets.iter().filter_map(|socket| match socket {
        Listening::Streams(socket) => Some(socket.as_ref()),
        Listening::Datagrams(_) => None,
    })
}

fn tell(state: &ListenerState, name: CongestionControl, errno: Errno) {
    let reason = match errno {
        Errno::NOENT => "it has none of that name".to_owned(),
        Errno::PERM => "this process is not allowed it".to_owned(),
        errno => errno.to_string(),
    };
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    tracing::warn!(
        lb = %state.balancer,
        listener = %state.listener.id,
        wanted = %name,
        reason,
        available = read(AVAILABLE).trim(),
        allowed = read(ALLOWED).trim(),
        "the system refuses the congestion control of a listener, which serves with the system's own"
    );
}

const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

#[cfg(test)]
mod tests;
