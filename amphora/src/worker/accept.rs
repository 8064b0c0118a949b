//! The accept loop of one listening socket on one worker.

use std::{
    cell::{Cell, RefCell},
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, mpsc as blocking},
};

use krater_amphora_api::Cause;
use krater_amphora_core::snapshot::Mode;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
    sync::Notify,
    task::{spawn_local, yield_now},
    time::sleep,
};

use crate::{
    http::{self, Ends},
    limits::{ACCEPT_BURST_MAX, EXHAUSTION_PAUSE, HTTP_UNSENT_BYTES_MAX},
    listen::{Accepted, accept, bound_unsent, deafen},
    local::{Guest, Local},
    seat::Seat,
    world::Leave,
};

/// One listening socket: for whom it accepts, and until when.
pub(crate) struct Door {
    /// The listener as it was last seen.
    seat: RefCell<Rc<Seat>>,
    /// Where it listens.
    address: SocketAddr,
    course: Cell<Course>,
    deaf: Cell<Hearing>,
    closed: RefCell<Option<blocking::Sender<()>>>,
    told: Notify,
    shut: Notify,
}

impl Door {
    /// Starts accepting on `socket` for the listener of `seat`.
    pub(super) fn open(
        local: &Rc<Local>,
        seat: Rc<Seat>,
        socket: Arc<TcpListener>,
    ) -> io::Result<Rc<Self>> {
        let address = socket.local_addr()?;
        bound_unsent(&socket, HTTP_UNSENT_BYTES_MAX)?;
        #[expect(
            deprecated,
            reason = "sound here: the socket owns its descriptor, and is not dropped before this"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        let door = Rc::new(Self {
            seat: RefCell::new(seat),
            address,
            course: Cell::new(Course::Open),
            deaf: Cell::new(Hearing::Hears),
            closed: RefCell::default(),
            told: Notify::new(),
            shut: Notify::new(),
        });
        spawn_local(accept_loop(Rc::clone(local), Rc::clone(&door), socket));
        Ok(door)
    }

    /// Accepts for another listener from now on.
    pub(super) fn reassign(&self, seat: Rc<Seat>) {
        self.seat.replace(seat);
    }

    /// Waits until the socket is closed. For one caller.
    pub(super) async fn shut(&self) {
        self.shut.notified().await;
    }

    /// The listener as it is now; as it was last if it is gone, since who waits at a socket that is being closed is
    /// served, or if it no longer speaks HTTP, since then another thread is about to take over.
    fn current_seat(&self, local: &Local) -> Rc<Seat> {
        let listener = self.seat.borrow().state.listener.id;
        if let Some(seat) = local.seat(listener)
            && seat.state.listener.mode == Mode::Http
        {
            self.seat.replace(seat);
        }
        Rc::clone(&self.seat.borrow())
    }

    /// Leaves new connections to another amphora that listens on the same address.
    pub(super) fn deafen(&self) {
        self.deaf.set(Hearing::IsToBeDeaf);
        self.told.notify_one();
    }

    /// Ends without another look at the socket: another thread has it.
    pub(super) fn release(&self) {
        self.course.set(Course::Released);
        self.told.notify_one();
    }

    /// Accepts who already waits, then closes the socket, then tells `closed`.
    pub(super) fn close(&self, closed: Option<blocking::Sender<()>>) {
        self.course.set(Course::Closing);
        *self.closed.borrow_mut() = closed;
        self.told.notify_one();
    }
}

/// What is to become of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Open,
    /// It ends once nobody waits.
    Closing,
    /// It ends; another thread has its socket.
    Released,
}

/// Whether connections begin at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    Hears,
    IsToBeDeaf,
    Deaf,
}

async fn accept_loop(local: Rc<Local>, door: Rc<Door>, socket: AsyncFd<Arc<TcpListener>>) {
    let mut burst = 0;
    while door.course.get() != Course::Released {
        if door.deaf.get() == Hearing::IsToBeDeaf {
            door.deaf.set(Hearing::Deaf);
            if let Err(error) = deafen(socket.get_ref()) {
                // Then a few clients may be refused that come between the last look and the end of the socket.
                tracing::warn!(%error, "a socket cannot be deafened");
            }
        }
        let seat = door.current_seat(&local);
        let limit = &seat.state.shared.limit;
        if !limit.take() {
            if door.course.get() == Course::Closing {
                break;
            }
            tokio::select! {
                () = limit.take_when_free() => {}
                () = door.told.notified() => continue,
            }
        }
        // The last look before closing must not miss whom the runtime has not heard of yet.
        let asking = if door.course.get() == Course::Closing {
            Asking::Anyway
        } else {
            Asking::WhenReady
        };
        match accept_at(&socket, asking, local.descriptors_max()) {
            Accepted::One(descriptor, peer) => {
                let Ok(stream) = TcpStream::from_std(descriptor.into()) else {
                    limit.release();
                    continue;
                };
                let ends = Ends::new(&stream, peer, door.address);
                admit(&local, &seat, stream, ends);
                burst += 1;
                if burst % ACCEPT_BURST_MAX == 0 {
                    yield_now().await;
                }
                continue;
            }
            Accepted::Lost => limit.release(),
            Accepted::Shed => {
                let lane = seat.lane();
                lane.shed.bump();
                lane.failures.count(Cause::LbExhausted);
                limit.release();
            }
            Accepted::Exhausted => {
                limit.release();
                local.count_exhaustion();
                sleep(EXHAUSTION_PAUSE).await;
            }
            Accepted::Nobody => {
                limit.release();
                if door.course.get() == Course::Closing {
                    break;
                }
                tokio::select! {
                    // An error means that the runtime is going away.
                    ready = socket.readable() => if ready.is_err() { break },
                    () = door.told.notified() => {}
                }
            }
        }
    }
    drop(socket);
    depart(&local, &door);
}

/// What is left to do when a door's socket is closed, or no longer its own.
fn depart(local: &Local, door: &Door) {
    let listener = door.seat.borrow().state.listener.id;
    if door.course.get() == Course::Closing
        && !local.seat(listener).is_some_and(|seat| seat.state.enabled)
    {
        // It was retired before its last connections came in through this door.
        let leave = match door.deaf.get() {
            Hearing::Hears => Leave::Gone,
            Hearing::IsToBeDeaf | Hearing::Deaf => Leave::Moved,
        };
        local.retire(listener, leave);
    }
    door.shut.notify_one();
    if let Some(closed) = door.closed.take() {
        // Who asked may have stopped waiting.
        let _ = closed.send(());
    }
}

/// Whether to ask the kernel only if it said that somebody waits.
#[derive(Clone, Copy)]
enum Asking {
    WhenReady,
    Anyway,
}

fn accept_at(socket: &AsyncFd<Arc<TcpListener>>, asking: Asking, descriptors_max: i32) -> Accepted {
    match asking {
        Asking::Anyway => accept(socket.get_ref(), descriptors_max),
        Asking::WhenReady => {
            // The runtime learns from the error that it has to wait for the next client.
            let call = |socket: &Arc<TcpListener>| match accept(socket, descriptors_max) {
                Accepted::Nobody => Err(io::ErrorKind::WouldBlock.into()),
                other => Ok(other),
            };
            socket
                .try_io(Interest::READABLE, call)
                .unwrap_or(Accepted::Nobody)
        }
    }
}

/// Lets a connection in, or closes it if its address is not allowed. Takes over the place in the limit.
fn admit(local: &Rc<Local>, seat: &Rc<Seat>, stream: TcpStream, ends: Ends) {
    let lane = seat.lane();
    lane.accepted.bump();
    let guest = Guest::new(local, seat);
    if !seat.state.listener.gate.allows(ends.peer.ip()) {
        lane.denied.bump();
        lane.failures.count(Cause::LbDeniedCidr);
        http::turned_away(seat, ends, Cause::LbDeniedCidr);
        return;
    }
    if !seat.state.shared.admits(ends.peer.ip()) {
        lane.too_often.bump();
        lane.failures.count(Cause::LbRate);
        http::turned_away(seat, ends, Cause::LbRate);
        return;
    }
    spawn_local(guest.attend(move |guest| http::serve(guest, stream, ends)));
}
