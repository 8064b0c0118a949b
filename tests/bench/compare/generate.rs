//! The load generator: a process of its own, so that its processor time is not the proxy's.
//!
//! Prints one line of JSON: what was done, what failed, and how long each thing took.

use std::{
    io::Write,
    net::SocketAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Subcommand;
use krater_tests::percentile;
use serde_json::{Value, json};

use super::wire::{
    EventFlags, Io, Readiness, datagrams, dial, discard, is_connected, micros_since, receive, send,
};

/// What it does.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Traffic {
    /// Downloads without end.
    Bulk { connections: usize },
    /// Connects, exchanges one message, closes, again and again.
    Connect { connections: usize },
    /// Exchanges messages over connections that stay.
    Message { connections: usize },
    /// Opens connections, exchanges a byte on each, says so and holds them until it is killed.
    Idle { connections: usize },
    /// Exchanges datagrams.
    Datagram { sockets: usize },
    /// Sends datagrams at a rate.
    OneWay { per_second: u32 },
}

/// What was seen.
#[derive(Default)]
struct Seen {
    done: u64,
    bytes: u64,
    errors: u64,
    micros: Vec<u32>,
}

impl Seen {
    fn count(&mut self, bytes: usize, since: Instant) {
        self.done += 1;
        self.bytes += bytes as u64;
        self.micros.push(micros_since(since));
    }

    fn report(mut self, start: Instant) -> Value {
        self.micros.sort_unstable();
        let at = |share| match self.micros.is_empty() {
            true => 0,
            false => percentile(&self.micros, share),
        };
        json!({"done": self.done, "bytes": self.bytes, "errors": self.errors,
            "seconds": start.elapsed().as_secs_f64(), "p50_us": at(50.0), "p99_us": at(99.0)})
    }
}

/// Runs for that long and prints what was seen.
pub(crate) fn run(traffic: &Traffic, address: SocketAddr, time: Duration) -> Result<()> {
    let start = Instant::now();
    let seen = match traffic {
        Traffic::Bulk { connections } => streams(Kind::Bulk, address, *connections, time),
        Traffic::Connect { connections } => streams(Kind::Connect, address, *connections, time),
        Traffic::Message { connections } => streams(Kind::Message, address, *connections, time),
        Traffic::Idle { connections } => return idle(address, *connections),
        Traffic::Datagram { sockets } => datagram(address, *sockets, time),
        Traffic::OneWay { per_second } => one_way(address, *per_second, time),
    }?;
    println!("{}", seen.report(start));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bulk,
    Connect,
    Message,
}

/// One connection of the generator.
struct Client {
    socket: OwnedFd,
    connected: bool,
    since: Instant,
    received: usize,
}

/// How a connection goes on.
enum Next {
    Stays,
    Again,
    Broken,
}

impl Client {
    fn start(kind: Kind, readiness: &Readiness, address: SocketAddr, key: usize) -> Result<Self> {
        let since = Instant::now();
        let socket = dial(address)?;
        match kind {
            // The member begins by itself, and there is always more than is taken at once.
            Kind::Bulk => readiness.watch_for(&socket, key, EventFlags::IN)?,
            Kind::Connect | Kind::Message => readiness.watch(&socket, key)?,
        }
        Ok(Self {
            socket,
            connected: kind == Kind::Bulk,
            since,
            received: 0,
        })
    }

    fn on(&mut self, kind: Kind, events: EventFlags, buffer: &mut [u8], seen: &mut Seen) -> Next {
        if !self.connected {
            if !is_connected(events) {
                return match events.intersects(EventFlags::ERR | EventFlags::HUP) {
                    true => Next::Broken,
                    false => Next::Stays,
                };
            }
            self.connected = true;
            if kind == Kind::Message {
                self.since = Instant::now();
            }
            if !matches!(send(&self.socket, &MESSAGE), Io::Bytes(_)) {
                return Next::Broken;
            }
        }
        match kind {
            Kind::Bulk => self.take_in(buffer, seen),
            Kind::Connect | Kind::Message => self.exchange(kind, buffer, seen),
        }
    }

    fn take_in(&self, buffer: &mut [u8], seen: &mut Seen) -> Next {
        match discard(&self.socket, buffer) {
            Io::Bytes(count) => {
                seen.bytes += count as u64;
                Next::Stays
            }
            Io::Later => Next::Stays,
            Io::End | Io::Failed => Next::Broken,
        }
    }

    fn exchange(&mut self, kind: Kind, buffer: &mut [u8], seen: &mut Seen) -> Next {
        loop {
            match receive(&self.socket, buffer) {
                Io::Bytes(count) => self.received += count,
                Io::Later => return Next::Stays,
                Io::End | Io::Failed => return Next::Broken,
            }
            if self.received < MESSAGE.len() {
                continue;
            }
            seen.count(self.received, self.since);
            if kind == Kind::Connect {
                return Next::Again;
            }
            self.received = 0;
            self.since = Instant::now();
            return match send(&self.socket, &MESSAGE) {
                Io::Bytes(_) => Next::Stays,
                _ => Next::Broken,
            };
        }
    }
}

fn streams(kind: Kind, address: SocketAddr, count: usize, time: Duration) -> Result<Seen> {
    let mut readiness = Readiness::new()?;
    let mut seen = Seen::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut clients = Vec::with_capacity(count);
    for key in 0..count {
        clients.push(Client::start(kind, &readiness, address, key)?);
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        for (key, events) in readiness.wait(WAIT)? {
            let client = &mut clients[key];
            let next = client.on(kind, events, &mut buffer, &mut seen);
            if let Next::Broken = next {
                seen.errors += 1;
                // A proxy that is gone must not turn this into a spin.
                std::thread::sleep(Duration::from_millis(1));
            }
            if let Next::Again | Next::Broken = next {
                *client = Client::start(kind, &readiness, address, key)?;
            }
        }
    }
    Ok(seen)
}

fn idle(address: SocketAddr, count: usize) -> Result<()> {
    let mut readiness = Readiness::new()?;
    let (mut clients, mut ready, mut failed) = (Vec::with_capacity(count), 0, 0);
    let mut buffer = [0; 64];
    let end = Instant::now() + IDLE_OPEN_MAX;
    while ready + failed < count && Instant::now() < end {
        while clients.len() < count && clients.len() - ready - failed < IDLE_AT_ONCE {
            clients.push(Client::start(
                Kind::Message,
                &readiness,
                address,
                clients.len(),
            )?);
        }
        for (key, events) in readiness.wait(WAIT)? {
            let client = &mut clients[key];
            if !client.connected && is_connected(events) {
                client.connected = true;
                send(&client.socket, &MESSAGE[..1]);
            }
            if client.received == 0 {
                match receive(&client.socket, &mut buffer) {
                    Io::Bytes(bytes) => (client.received, ready) = (bytes, ready + 1),
                    Io::Later => {}
                    Io::End | Io::Failed => (client.received, failed) = (1, failed + 1),
                }
            }
        }
    }
    println!("{}", json!({"done": ready, "errors": count - ready}));
    std::io::stdout().flush()?;
    std::thread::sleep(IDLE_HOLD_MAX);
    Ok(())
}

fn datagram(address: SocketAddr, count: usize, time: Duration) -> Result<Seen> {
    let mut readiness = Readiness::new()?;
    let mut seen = Seen::default();
    let mut buffer = [0; 2048];
    let mut sockets = Vec::with_capacity(count);
    for key in 0..count {
        let socket = datagrams(address)?;
        readiness.watch_for(&socket, key, EventFlags::IN)?;
        send(&socket, &MESSAGE);
        sockets.push((socket, Instant::now()));
    }
    let end = Instant::now() + time;
    let mut swept = Instant::now();
    while Instant::now() < end {
        for (key, _) in readiness.wait(WAIT)? {
            let (socket, since) = &mut sockets[key];
            match receive(socket, &mut buffer) {
                Io::Bytes(bytes) => seen.count(bytes, *since),
                Io::Later => continue,
                Io::End | Io::Failed => seen.errors += 1,
            }
            *since = Instant::now();
            send(socket, &MESSAGE);
        }
        // Datagrams may be lost: then the socket begins again.
        if swept.elapsed() > LOST_AFTER {
            swept = Instant::now();
            for (socket, since) in &mut sockets {
                if since.elapsed() > LOST_AFTER {
                    seen.errors += 1;
                    *since = Instant::now();
                    send(socket, &MESSAGE);
                }
            }
        }
    }
    Ok(seen)
}

/// What was sent; the member knows what has arrived.
fn one_way(address: SocketAddr, per_second: u32, time: Duration) -> Result<Seen> {
    let sockets = (0..ONE_WAY_SOCKETS)
        .map(|_| datagrams(address))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    let start = Instant::now();
    let mut next = sockets.iter().cycle();
    while start.elapsed() < time {
        // In steps of a millisecond, as timers are.
        let due = start.elapsed().as_secs_f64() * f64::from(per_second);
        while (seen.done as f64) < due {
            let socket = next.next().expect("a cycle has no end");
            match send(socket, &MESSAGE) {
                Io::Bytes(count) => seen.bytes += count as u64,
                _ => seen.errors += 1,
            }
            seen.done += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(seen)
}

/// The bytes of a message, a request or a datagram.
pub(super) const MESSAGE: [u8; 64] = [b'k'; 64];
const BUFFER_BYTES: usize = 1 << 20;
const WAIT: Duration = Duration::from_millis(50);
/// When an answer counts as lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
const ONE_WAY_SOCKETS: usize = 64;
/// Whoever started it ends it long before.
const IDLE_HOLD_MAX: Duration = Duration::from_secs(60);
const IDLE_OPEN_MAX: Duration = Duration::from_secs(40);
/// Connections that are being opened at once, well below any backlog.
const IDLE_AT_ONCE: usize = 200;
