//! What the housekeeper may ask of the threads that carry traffic.

use std::{
    sync::{Arc, atomic::AtomicUsize, mpsc},
    time::Duration,
};

use hashbrown::HashSet;
use krater_amphora_api::ListenerId;
use krater_amphora_core::transition::Place;

use crate::{
    listen::Listening,
    world::{Leave, ListenerState},
};

/// One thing to do. Orders to one thread are carried out in the order in which they were given.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept on this socket, for that listener. The state comes along, since by the time the order is read the world
    /// may have lost the listener, and who waits at the socket is to be served all the same.
    Adopt {
        place: Place,
        state: Arc<ListenerState>,
        socket: Listening,
    },
    /// What is accepted there belongs to another listener from now on, which is served by the same thread.
    Reassign {
        place: Place,
        state: Arc<ListenerState>,
    },
    /// Accept no more there: another thread does, on the same socket. Who waits there waits for it.
    Release { place: Place },
    /// Serve who already waits there, close the socket, then say so.
    Close {
        place: Place,
        closed: mpsc::Sender<()>,
    },
    /// Begin no more connections there; another amphora does.
    Deafen { place: Place },
    /// The listener is gone: its connections have until the drain timeout.
    Retire { listener: ListenerId, leave: Leave },
    /// End the connections and requests of these members, by their serials: their time is up.
    Cut { members: Arc<HashSet<u64>> },
    /// Say that orders are carried out here.
    Answer { count: Arc<AtomicUsize> },
    /// The world has changed: let go of the one before, and of what is kept for these members, by their serials, who
    /// are no longer in it. Told rather than looked for, which would cost a look at every member of the amphora.
    Tidy { gone: Arc<HashSet<u64>> },
    /// Close every socket, drain every connection for at most that long, then end.
    Stop { grace: Duration, leave: Leave },
}
