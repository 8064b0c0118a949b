//! The inbox of a thread that waits in epoll: a queue, and a bell that wakes it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, mpsc},
    task::Wake,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
    io::{read, write},
};

use crate::order::Order;

/// Wakes the thread. It finds out by itself what for.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    /// One that nobody has rung.
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Arc::new(Self(eventfd(0, flags)?)))
    }

    /// Rings.
    pub(super) fn ring(&self) {
        // Fails only if it has been rung 2⁶⁴ times and nobody has listened.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Ends ringing.
    pub(super) fn hush(&self) {
        // Nothing to read: somebody has hushed it already.
        let _ = read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// The end that orders are put into. Dropping it says that there will be no more.
#[derive(Debug)]
pub(super) struct Outbox {
    // `None` only while it is being dropped: the queue closes before the bell rings.
    orders: Option<mpsc::Sender<Order>>,
    bell: Arc<Bell>,
}

/// The end that orders are taken from.
pub(super) struct Inbox {
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) bell: Arc<Bell>,
}

/// Both ends of an inbox, with the bell of the thread. Unbounded, since it is written to by applies alone, and what one
/// apply may open or close is bounded.
pub(super) fn inbox(bell: Arc<Bell>) -> (Outbox, Inbox) {
    let (sender, orders) = mpsc::channel();
    let outbox = Outbox {
        orders: Some(sender),
        bell: Arc::clone(&bell),
    };
    (outbox, Inbox { orders, bell })
}

impl Outbox {
    /// Leaves an order; `false` if the thread has ended and takes none.
    pub(super) fn put(&self, order: Order) -> bool {
        let Some(orders) = &self.orders else {
            return false;
        };
        let taken = orders.send(order).is_ok();
        self.bell.ring();
        taken
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.bell.ring();
    }
}
