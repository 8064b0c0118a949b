//! How a connection comes by its member: choose, connect, choose another one, give up.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

use krater_amphora_api::Cause;
use krater_amphora_core::proxy_protocol::{Header, Origin};
use rustix::{
    fd::AsRawFd,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with},
};

use super::{Connection, FOR_BYTES, Far, Fate, Shared, Stage};
use crate::{
    connect::{Link, Load, Next, note_failure},
    l4::{
        reactor::{Flags, Kind, Token},
        slab::Id,
        socket::{Socket, failure_of},
    },
};

impl Connection {
    /// Chooses a member and begins to connect to it, or gives up: then the connection is closed (reference 19.8).
    pub(super) fn dial(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let seat = Rc::clone(&self.seat);
        let Some(pool) = seat.state.pool.as_deref() else {
            return self.nobody();
        };
        loop {
            match self.tries.next(pool, self.peer, &seat) {
                Next::Nobody => return self.nobody(),
                Next::Pause(pause) => {
                    let until = shared.now.after(pause);
                    self.stage = Stage::Pausing(until);
                    shared.timers.arm(id.index(), until);
                    return Fate::GoesOn;
                }
                Next::Member(member) => {
                    let load = Load::new(pool, member);
                    if let Some(account) = &mut self.account {
                        account.dials(member);
                    }
                    match begin(member.address, shared, id) {
                        Ok(socket) => {
                            let until = shared.now.after(self.timeouts().member_connect);
                            self.member = Far::Dialed(socket, Arc::clone(member), load);
                            self.stage = Stage::Dialing(until);
                            shared.timers.arm(id.index(), until);
                            return Fate::GoesOn;
                        }
                        Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                            return self.shed();
                        }
                        Err(error) => {
                            let cause = note_failure(member, shared.lane, &error.into());
                            self.unreached = Some(cause);
                        }
                    }
                }
            }
        }
    }

    fn nobody(&mut self) -> Fate {
        self.seat.lane().no_member.bump();
        self.fails(self.unreached.unwrap_or(Cause::LbNoMember))
    }

    /// The process has no descriptor or no memory for the other side.
    fn shed(&mut self) -> Fate {
        self.seat.lane().shed.bump();
        // Not ended, or it would look as if a member had said nothing.
        self.client.abort();
        self.fails(Cause::LbExhausted)
    }

    /// The member has answered, one way or the other.
    pub(super) fn dialed(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let Far::Dialed(socket, ..) = &self.member else {
            return Fate::GoesOn;
        };
        if socket.has_failed() {
            let error = failure_of(socket);
            return self.not_reached(&error, shared, id);
        }
        if !socket.is_writable() {
            return Fate::GoesOn;
        }
        if let Far::Dialed(socket, member, load) = std::mem::replace(&mut self.member, Far::Nobody)
        {
            self.member = Far::Linked {
                socket,
                link: Link::new(member, shared.lane),
                _load: load,
            };
        }
        if let Some(account) = &mut self.account {
            account.connects();
        }
        self.introduce();
        self.stage = Stage::Relaying;
        self.moved_at = shared.now;
        let due = shared.now.after(self.shortest_allowance());
        shared.timers.arm(id.index(), due);
        // What the client has sent by now goes first; only then is the client watched, for what comes after.
        match self.relay(shared, id) {
            Fate::GoesOn => self.watch_client(shared, id),
            Fate::Ends => Fate::Ends,
        }
    }

    /// Tells a member that expects it whom the connection is for.
    fn introduce(&mut self) {
        let pool = self.seat.state.pool.as_deref();
        let Some(version) = pool.and_then(|pool| pool.pool.proxy_header()) else {
            return;
        };
        let origin = self
            .client
            .local_address()
            .map_or(Origin::Own, |local| Origin::between(self.peer, local));
        self.up.begin_with(Header::new(version, origin).as_bytes());
    }

    /// The member that was dialed cannot be reached; nothing was sent to it. Another one is tried.
    pub(super) fn not_reached(&mut self, error: &io::Error, shared: &mut Shared, id: Id) -> Fate {
        if let Far::Dialed(_, member, _) = std::mem::replace(&mut self.member, Far::Nobody) {
            self.unreached = Some(note_failure(&member, shared.lane, error));
        }
        // It takes longer than it should: who gives up meanwhile is to be noticed.
        match self.watch_client(shared, id) {
            Fate::GoesOn => self.dial(shared, id),
            Fate::Ends => Fate::Ends,
        }
    }
}

/// Begins to connect; the reactor tells how it ends.
fn begin(address: SocketAddr, shared: &Shared, id: Id) -> Result<Socket, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let descriptor = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if descriptor.as_raw_fd() >= shared.descriptors_max {
        return Err(Errno::MFILE);
    }
    match connect(&descriptor, &address) {
        // Even if it is connected already, the reactor says so.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let token = Token {
        kind: Kind::Member,
        id,
    };
    shared
        .reactor
        .add(&descriptor, token, FOR_BYTES | Flags::OUT)?;
    Ok(Socket::connecting(descriptor))
}
