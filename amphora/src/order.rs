//! What the housekeeper may ask of the threads that carry traffic.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    time::Duration,
};

use krater_amphora_api::ListenerId;

use crate::world::{Leave, ListenerState};

/// One thing to do. Orders to one thread are carried out in the order in which they were given.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept on this socket, for that listener. The state comes along, since by the time the order is read the world
    /// may have lost the listener, and who waits at the socket is to be served all the same.
    Adopt {
        address: SocketAddr,
        state: Arc<ListenerState>,
        socket: Arc<TcpListener>,
    },
    /// What is accepted at that address belongs to another listener from now on, which is served by the same thread.
    Reassign {
        address: SocketAddr,
        state: Arc<ListenerState>,
    },
    /// Accept no more at that address: another thread does, on the same socket. Who waits there waits for it.
    Release { address: SocketAddr },
    /// Serve who already waits at that address, close its socket, then say so.
    Close {
        address: SocketAddr,
        closed: mpsc::Sender<()>,
    },
    /// Begin no more connections at that address; another amphora does.
    Deafen { address: SocketAddr },
    /// The listener is gone: its connections have until the drain timeout.
    Retire { listener: ListenerId, leave: Leave },
    /// The world has changed: let go of what is no longer in it.
    Tidy,
    /// Close every socket, drain every connection for at most that long, then end.
    Stop { grace: Duration },
}
