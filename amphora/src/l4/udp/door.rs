//! A socket that clients send to.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
};

use krater_amphora_core::time::Instant;
use rustix::net::connect;

use super::wire::{
    Calls, Pace, Parcel, Segments, let_pass_whole, send_to, send_together, tell_destination,
};
use crate::{
    meter::Loss,
    seat::{Seat, Seats},
};

/// One socket of a UDP listener on one thread.
pub(super) struct Door {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) address: SocketAddr,
    /// The listener as it was last seen.
    pub(super) seat: Rc<Seat>,
    /// When `seat` was first seen.
    pub(super) since: Instant,
    pub(super) segments: Segments,
    pub(super) pace: Pace,
}

impl Door {
    pub(super) fn new(
        socket: Arc<UdpSocket>,
        address: SocketAddr,
        seat: Rc<Seat>,
        now: Instant,
    ) -> io::Result<Self> {
        let_pass_whole(&*socket, address)?;
        tell_destination(&*socket, address.ip())?;
        Ok(Self {
            socket,
            address,
            seat,
            since: now,
            segments: Segments::ANY,
            // Where it has to be said to which address a datagram was sent, only that call says it.
            pace: if address.ip().is_unspecified() {
                Pace::batches()
            } else {
                Pace::default()
            },
        })
    }

    /// Takes up the listener as it is now; if it is gone, as it was last.
    pub(super) fn refresh(&mut self, seats: &mut Seats, now: Instant) {
        if let Some(seat) = seats.find(self.seat.state.listener.id) {
            self.reassign(seat, now);
        }
    }

    /// Serves another listener from now on, or the same one as it is now.
    pub(super) fn reassign(&mut self, seat: Rc<Seat>, now: Instant) {
        if !Rc::ptr_eq(&self.seat, &seat) {
            self.seat = seat;
            self.since = now;
        }
    }

    /// Sends a client what its member sent, from the address that the client sent to (`from`, where the socket has more
    /// than one).
    pub(super) fn answer(
        &mut self,
        client: SocketAddr,
        from: Option<IpAddr>,
        parcel: Parcel<'_>,
        calls: &Calls,
    ) {
        let lane = self.seat.lane();
        if from.is_none() && send_together(&*self.socket, Some(client), parcel, &mut self.segments)
        {
            lane.datagrams_out.add(parcel.count());
            lane.bytes_out.add(parcel.bytes.len() as u64);
            return;
        }
        for datagram in parcel.each() {
            let sent = match from {
                None => send_to(&*self.socket, client, datagram).is_ok(),
                Some(from) => calls
                    .send_from(&*self.socket, from, client, datagram)
                    .is_ok(),
            };
            if sent {
                lane.datagrams_out.bump();
                lane.bytes_out.add(datagram.len() as u64);
            } else {
                lane.lose(Loss::ToClient, 1);
            }
        }
    }

    /// Leaves what clients send to whoever else is bound to the address, and can still send to them: a connected socket
    /// is given what its peer sends alone, and nobody sends from this address.
    pub(super) fn deafen(&self) -> io::Result<()> {
        Ok(connect(&*self.socket, &self.address)?)
    }
}
