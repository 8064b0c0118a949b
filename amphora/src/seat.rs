//! A listener as one worker holds it.

use std::{rc::Rc, sync::Arc};

use crate::{meter::ListenerLane, world::ListenerState};

/// The state of a listener and the worker that looks at it: counting references to it touches no shared cache line.
pub(crate) struct Seat {
    pub(crate) state: Arc<ListenerState>,
    worker: usize,
}

impl Seat {
    /// The listener of `state`, for the worker of that index.
    pub(crate) fn new(state: Arc<ListenerState>, worker: usize) -> Rc<Self> {
        Rc::new(Self { state, worker })
    }

    /// The meters of the listener, of this worker.
    pub(crate) fn lane(&self) -> &ListenerLane {
        self.state.shared.meter.of(self.worker)
    }
}
