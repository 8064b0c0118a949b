//! The threads that carry traffic, as orders reach them.

use std::io;

use krater_amphora_core::snapshot::{Mode, Transport};

use crate::{l4, local::Common, order::Order, worker::WorkerHandle};

/// The threads of one core.
#[derive(Debug)]
pub(super) struct Core {
    /// Carries HTTP.
    pub(super) worker: WorkerHandle,
    /// Carries streams and datagrams.
    pub(super) streams: l4::Handle,
}

impl Core {
    pub(super) fn start(
        index: usize,
        cores: usize,
        (cpu, berth): (Option<usize>, l4::Berth),
        common: &Common,
    ) -> io::Result<Self> {
        Ok(Self {
            worker: WorkerHandle::start(index, cpu, common.clone())?,
            streams: l4::Handle::start(index, cores + index, (cpu, berth), common.clone())?,
        })
    }

    /// Leaves an order for the thread that carries what listeners of that mode take.
    pub(super) fn order(&self, mode: Mode, order: Order) {
        match mode {
            Mode::Tcp | Mode::Udp => self.streams.order(order),
            Mode::Http => self.worker.order(order),
        }
    }

    /// Leaves an order for each of its threads.
    pub(super) fn order_all(&self, order: impl Fn() -> Order) {
        for mode in [Mode::Tcp, Mode::Http] {
            self.order(mode, order());
        }
    }

    /// Leaves an order for each of its threads that may have a socket of that transport.
    pub(super) fn order_those_of(&self, transport: Transport, order: impl Fn() -> Order) {
        match transport {
            Transport::Stream => self.order_all(order),
            Transport::Datagram => self.order(Mode::Udp, order()),
        }
    }
}
