//! A client connection of a TCP listener: choose a member, reach it, relay.

use std::{net::SocketAddr, rc::Rc};

use tokio::{net::TcpStream, time::timeout};

use crate::{
    connect::{Attempts, Link, Load, dial},
    local::Guest,
    relay::{Relay, Side},
};

/// Serves one client connection to its end.
///
/// Without a member that can be reached the connection is closed (reference 19.8).
pub(crate) async fn serve(guest: Rc<Guest>, client: TcpStream, peer: SocketAddr) {
    let seat = &guest.seat;
    if let Some(wait) = seat.state.listener.timeouts.tcp_inspect {
        // Elapsed or failed: the connection goes on all the same, and the relay sees what is wrong with it.
        let _ = timeout(wait, client.readable()).await;
    }
    let Some((member, link, load)) = reach(&guest, peer).await else {
        seat.lane().no_member.bump();
        return;
    };
    let relay = Relay::new(client, member, seat.state.listener.timeouts);
    let (listener, lane) = (seat.lane(), link.lane());
    let outcome = relay
        .run(
            &guest.local.scratch,
            |side, bytes| match side {
                Side::Client => listener.bytes_in.add(bytes),
                Side::Member => lane.bytes_in.add(bytes),
            },
            |side, bytes| match side {
                Side::Client => listener.bytes_out.add(bytes),
                Side::Member => lane.bytes_out.add(bytes),
            },
        )
        .await;
    tracing::trace!(%peer, member = %link.member.id, ?outcome, "a connection has ended");
    drop(load);
}

async fn reach(guest: &Guest, peer: SocketAddr) -> Option<(TcpStream, Link, Load)> {
    let seat = &guest.seat;
    let pool = seat.state.pool.as_deref()?;
    let mut attempts = Attempts::new(pool, peer);
    loop {
        let member = attempts.next(seat).await?;
        // Counted while connecting, so that a burst does not all go to the member that was idle a moment ago.
        let load = Load::new(pool, &member);
        if let Ok((stream, link)) = dial(
            &member,
            guest.local.index,
            seat.state.listener.timeouts.member_connect,
        )
        .await
        {
            return Some((stream, link, load));
        }
    }
}

#[cfg(test)]
mod tests;
