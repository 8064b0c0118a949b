//! The members of a comparison: one process, one thread, that echoes, pours out bytes, and counts datagrams.

use std::{
    collections::HashMap,
    io::Write,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::wire::{EventFlags, Io, Readiness, receive, send};

/// Ports, from the first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sends back what comes.
    Echo,
    /// Sends without end to whoever connects.
    Bulk,
    /// Sends back each datagram.
    Datagrams,
    /// Counts datagrams, and tells the number to whoever connects to the same port over TCP.
    Count,
    /// Says one letter, by its port, to whoever connects, and closes.
    Name,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Echo,
        Self::Bulk,
        Self::Datagrams,
        Self::Count,
        Self::Name,
    ];

    /// Where the member of that number listens.
    pub(super) fn port(self, member: u16) -> u16 {
        FIRST_PORT + 16 * (self as u16) + member
    }
}

enum Held {
    Door(TcpListener, Role, u16),
    Stream(Role),
    Datagrams(OwnedFd, Role),
}

struct Server {
    readiness: Readiness,
    held: HashMap<usize, (Held, Option<OwnedFd>)>,
    next: usize,
    counted: u64,
    buffer: Vec<u8>,
}

/// Serves at that address until it is killed.
pub(crate) fn run(address: std::net::IpAddr) -> Result<()> {
    let mut server = Server {
        readiness: Readiness::new()?,
        held: HashMap::new(),
        next: 0,
        counted: 0,
        buffer: vec![0; BUFFER_BYTES],
    };
    for role in Role::ALL {
        for member in 0..MEMBERS {
            server.open(role, (address, role.port(member)).into(), member)?;
        }
    }
    println!("ready");
    std::io::stdout().flush()?;
    loop {
        for (key, events) in server.readiness.wait(Duration::from_secs(1))? {
            server.on(key, events)?;
        }
    }
}

impl Server {
    fn open(&mut self, role: Role, address: SocketAddr, member: u16) -> Result<()> {
        if matches!(role, Role::Datagrams | Role::Count) {
            let socket = UdpSocket::bind(address).context("bind")?;
            socket.set_nonblocking(true)?;
            self.hold(Held::Datagrams(socket.into(), role), None, EventFlags::IN)?;
        }
        if role != Role::Datagrams {
            let door = TcpListener::bind(address).context("bind")?;
            door.set_nonblocking(true)?;
            // Deeper than that of the standard library: thousands come at once.
            rustix::net::listen(&door, 65_535)?;
            self.hold(Held::Door(door, role, member), None, EventFlags::IN)?;
        }
        Ok(())
    }

    fn hold(&mut self, held: Held, stream: Option<OwnedFd>, what: EventFlags) -> Result<()> {
        let key = self.next;
        self.next += 1;
        match (&held, &stream) {
            (_, Some(stream)) => self.readiness.watch_for(stream, key, what)?,
            (Held::Door(door, ..), None) => {
                let copy = OwnedFd::from(door.try_clone()?);
                self.readiness.watch_for(&copy, key, what)?;
                self.held.insert(key, (held, Some(copy)));
                return Ok(());
            }
            (Held::Datagrams(socket, _), None) => self.readiness.watch_for(socket, key, what)?,
            (Held::Stream(_), None) => {}
        }
        self.held.insert(key, (held, stream));
        Ok(())
    }

    fn on(&mut self, key: usize, events: EventFlags) -> Result<()> {
        let Some((held, stream)) = self.held.get(&key) else {
            return Ok(());
        };
        match held {
            Held::Door(..) => self.accept(key),
            Held::Datagrams(socket, Role::Count) => {
                while let Io::Bytes(_) = receive(socket, &mut self.buffer) {
                    self.counted += 1;
                }
                Ok(())
            }
            Held::Datagrams(socket, _) => {
                while let Ok((_, count, Some(from))) =
                    recvfrom(socket, &mut self.buffer[..], RecvFlags::empty())
                {
                    // What does not fit is lost, as on any network.
                    let _ = sendto(socket, &self.buffer[..count], SendFlags::empty(), &from);
                }
                Ok(())
            }
            Held::Stream(role) => {
                let Some(stream) = stream else { return Ok(()) };
                let goes_on = match role {
                    Role::Bulk => pour(stream, events, &self.buffer),
                    _ => echo(stream, &mut self.buffer),
                };
                if !goes_on {
                    self.held.remove(&key);
                }
                Ok(())
            }
        }
    }

    fn accept(&mut self, key: usize) -> Result<()> {
        loop {
            let Some((Held::Door(door, role, member), _)) = self.held.get(&key) else {
                return Ok(());
            };
            let (role, member) = (*role, *member);
            let Ok((mut stream, _)) = door.accept() else {
                return Ok(());
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            match role {
                Role::Count => drop(stream.write_all(self.counted.to_string().as_bytes())),
                Role::Name => drop(stream.write_all(&[name(member)])),
                _ => {
                    let what = match role {
                        Role::Bulk => EventFlags::IN | EventFlags::OUT,
                        _ => EventFlags::IN,
                    };
                    self.hold(Held::Stream(role), Some(stream.into()), what)?;
                }
            }
        }
    }
}

/// What the member of that number says.
pub(super) fn name(member: u16) -> u8 {
    b'A' + u8::try_from(member).unwrap_or_default()
}

fn echo(stream: &OwnedFd, buffer: &mut [u8]) -> bool {
    match receive(stream, buffer) {
        // A message of the generator always fits into the socket.
        Io::Bytes(count) => matches!(send(stream, &buffer[..count]), Io::Bytes(_)),
        Io::Later => true,
        Io::End | Io::Failed => false,
    }
}

fn pour(stream: &OwnedFd, events: EventFlags, buffer: &[u8]) -> bool {
    if events.intersects(EventFlags::ERR | EventFlags::HUP) {
        return false;
    }
    matches!(send(stream, buffer), Io::Bytes(_) | Io::Later)
}

const FIRST_PORT: u16 = 21_000;
/// Members of each kind.
pub(super) const MEMBERS: u16 = 4;
const BUFFER_BYTES: usize = 256 * 1024;
