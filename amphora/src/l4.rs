//! Layer 4: one thread per core that carries streams and datagrams, beside the worker that carries HTTP (D35).
//!
//! The thread waits in an epoll of its own and drives each connection by what happens to it: no runtime, no task and no
//! timer per connection, and hardly a system call that moves no bytes. What it has is its own; what it shares with
//! other threads is what the architecture lists.
//!
//! From the bottom up: `timers`, `slab`, `reactor` and `bell` know nothing of connections; `socket`, `pipes` and `flow`
//! move bytes in one direction; `connection` is the life of one client; `door` is a listening socket; `engine` is the
//! loop. Where other parts join in:
//!
//! - Another kind of descriptor: `reactor::Kind`, and `Engine::dispatch`. Datagrams are one, in `udp`.
//! - What a member is to be sent before the client's bytes (PROXY protocol): `Connection::dialed`.
//! - What is learned about a member from connections (passive health): `Connection::not_reached` for those that could
//!   not be reached, `Connection::relay` for those that broke off.
//! - Who may come in (rate limits): `Engine::let_in`.

use std::{io, sync::Arc, thread};

use tokio::sync::oneshot;

mod bell;
mod connection;
mod door;
mod engine;
mod flow;
mod neighbours;
mod pipes;
mod reactor;
mod slab;
mod socket;
mod timers;
mod udp;

use bell::Outbox;
use engine::Engine;
pub(crate) use neighbours::{Berth, berths};

use crate::{local::Common, order::Order, worker::pin};

/// Whether clients can be told that nobody takes their datagrams; said once in the log if they cannot.
pub(crate) fn may_tell_clients() -> bool {
    let may_tell = udp::may_tell();
    if !may_tell {
        tracing::info!(
            "clients are not told by ICMP when nobody takes their datagrams: that needs CAP_NET_RAW"
        );
    }
    may_tell
}

/// The housekeeper's end of a thread. Dropping it ends the thread at once, with all its connections.
#[derive(Debug)]
pub(crate) struct Handle {
    outbox: Option<Outbox>,
    ended: Option<oneshot::Receiver<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Handle {
    /// Starts the thread; `lane` is its own in every meter, `cpu` pins it, `berth` is where others leave connections.
    pub(crate) fn start(
        index: usize,
        lane: usize,
        (cpu, berth): (Option<usize>, Berth),
        common: Common,
    ) -> io::Result<Self> {
        let (outbox, inbox) = bell::inbox(Arc::clone(&berth.bell));
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(format!("l4-{index}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu);
                }
                let outcome =
                    Engine::new(lane, common, inbox, berth).and_then(|mut engine| engine.run());
                if let Err(error) = outcome {
                    tracing::error!(index, %error, "a thread of layer 4 has ended");
                }
                // Nobody listens any more if the plane was dropped rather than stopped.
                let _ = end.send(());
            })?;
        Ok(Self {
            outbox: Some(outbox),
            ended: Some(ended),
            thread: Some(thread),
        })
    }

    /// Leaves an order. A thread that has died takes none.
    pub(crate) fn order(&self, order: Order) {
        if let Some(outbox) = &self.outbox
            && !outbox.put(order)
        {
            tracing::error!("a thread of layer 4 has ended and takes no more orders");
        }
    }

    /// Waits until the thread has ended.
    pub(crate) async fn ended(&mut self) {
        if let Some(ended) = self.ended.take() {
            // An error means that the thread ended without saying so.
            let _ = ended.await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.outbox.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
