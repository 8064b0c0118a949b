//! Traffic that notices everything: keep-alive HTTP clients and long TCP streams whose every byte is checked.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{datagrams::UdpClient, http::Connection};

/// Clients at work in threads of their own, until [`Load::finish`].
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    phase: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<LoadReport>>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Requests that were answered with 200.
    pub requests: u64,
    /// One line for each request that was not.
    pub failures: Vec<String>,
    /// Request latencies in microseconds, by phase.
    pub latencies_us: BTreeMap<usize, Vec<u32>>,
    /// Requests by the name of the member that answered.
    pub members: BTreeMap<String, u64>,
    /// Streams that ended in good order, every byte as sent.
    pub streams: u64,
    /// One line for each stream that did not.
    pub broken: Vec<String>,
    /// Bytes the streams carried to and fro.
    pub stream_bytes: u64,
    /// Short connections that carried one block there and back and ended in good order.
    pub connections: u64,
    /// Datagrams that came back as they were sent.
    pub datagrams: u64,
}

impl Load {
    /// No client yet.
    pub fn new() -> Self {
        Self {
            stop: Arc::default(),
            phase: Arc::default(),
            clients: Vec::new(),
        }
    }

    /// Adds `count` keep-alive clients that ask `address` for `/`, pausing `pause` between requests.
    pub fn add_http(&mut self, address: SocketAddr, count: usize, pause: Duration) {
        for _ in 0..count {
            let (stop, phase) = (Arc::clone(&self.stop), Arc::clone(&self.phase));
            self.clients
                .push(thread::spawn(move || ask(address, pause, &stop, &phase)));
        }
    }

    /// Adds `count` long streams through `address`, each sending a block every `pause`.
    pub fn add_streams(&mut self, address: SocketAddr, count: usize, pause: Duration) {
        for seed in 1..=count {
            let stop = Arc::clone(&self.stop);
            self.clients.push(thread::spawn(move || {
                let mut report = LoadReport::default();
                match stream(
                    address,
                    u64::try_from(seed).unwrap_or(1),
                    pause,
                    &stop,
                    &mut report.stream_bytes,
                ) {
                    Ok(()) => report.streams = 1,
                    Err(error) => report.broken.push(format!("stream {seed}: {error:#}")),
                }
                report
            }));
        }
    }

    /// Adds `count` clients that connect to `address`, have one block echoed, end, and pause for `pause`.
    pub fn add_connections(&mut self, address: SocketAddr, count: usize, pause: Duration) {
        self.add_repeated(count, pause, move |client, report| {
            let block = &noise(&mut client.noise)[..SHORT_BYTES];
            connect_once(address, block).map(|()| report.connections += 1)
        });
    }

    /// Adds `count` clients that each send a datagram to `address`, wait until it is back, and pause for `pause`.
    pub fn add_datagrams(&mut self, address: SocketAddr, count: usize, pause: Duration) {
        self.add_repeated(count, pause, move |client, report| {
            let question = format!("{:02x?}", &noise(&mut client.noise)[..SHORT_BYTES]);
            let socket = client.socket.get_or_insert_with(|| UdpClient::of(address));
            let heard = socket
                .ask(&question)
                .context("wait for the answer to a datagram")?;
            ensure!(heard.ends_with(&question), "a datagram came back changed");
            report.datagrams += 1;
            Ok(())
        });
    }

    fn add_repeated(
        &mut self,
        count: usize,
        pause: Duration,
        act: impl Fn(&mut Repeater, &mut LoadReport) -> Result<()> + Clone + Send + 'static,
    ) {
        for noise in (1_u64..).take(count) {
            let (stop, act) = (Arc::clone(&self.stop), act.clone());
            self.clients.push(thread::spawn(move || {
                let mut client = Repeater {
                    noise,
                    socket: None,
                };
                let mut report = LoadReport::default();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = act(&mut client, &mut report) {
                        report.failures.push(format!("{error:#}"));
                    }
                    thread::sleep(pause);
                }
                report
            }));
        }
    }

    /// From now on latencies count under `phase`.
    pub fn set_phase(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Ends all clients in good order and adds up what they saw.
    pub fn finish(self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = LoadReport::default();
        for client in self.clients {
            total.add(client.join().expect("a client does not panic"));
        }
        total
    }
}

/// What a client keeps that does the same again and again.
struct Repeater {
    noise: u64,
    socket: Option<UdpClient>,
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl LoadReport {
    /// The latency in microseconds that `percent` of the requests of a phase stayed within; 0 without requests.
    pub fn latency_us(&self, phase: usize, percent: f64) -> u32 {
        let mut sorted = self.latencies_us.get(&phase).cloned().unwrap_or_default();
        sorted.sort_unstable();
        percentile(&sorted, percent)
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failures.extend(other.failures);
        for (phase, latencies) in other.latencies_us {
            self.latencies_us
                .entry(phase)
                .or_default()
                .extend(latencies);
        }
        for (member, count) in other.members {
            *self.members.entry(member).or_default() += count;
        }
        self.streams += other.streams;
        self.broken.extend(other.broken);
        self.stream_bytes += other.stream_bytes;
        self.connections += other.connections;
        self.datagrams += other.datagrams;
    }
}

/// The value that `percent` of the sorted values stay within; the type's zero when there are none.
pub fn percentile<T: Copy + Default>(sorted: &[T], percent: f64) -> T {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

fn ask(address: SocketAddr, pause: Duration, stop: &AtomicBool, phase: &AtomicUsize) -> LoadReport {
    let mut report = LoadReport::default();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        match ask_once(address, &mut connection) {
            Ok(member) => {
                report.requests += 1;
                *report.members.entry(member).or_default() += 1;
                let latency = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
                report
                    .latencies_us
                    .entry(phase.load(Ordering::Relaxed))
                    .or_default()
                    .push(latency);
            }
            Err(error) => {
                report.failures.push(format!("{error:#}"));
                connection = None;
            }
        }
        thread::sleep(pause);
    }
    report
}

fn ask_once(address: SocketAddr, kept: &mut Option<Connection>) -> Result<String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(address)?,
    };
    let answer = connection.get("/")?;
    ensure!(
        answer.status == 200,
        "status {}: {}",
        answer.status,
        answer.text().trim()
    );
    if connection.is_reusable() {
        *kept = Some(connection);
    }
    let body: serde_json::Value =
        serde_json::from_slice(&answer.body).context("the body is the member's")?;
    Ok(body["member"]
        .as_str()
        .context("the body names the member")?
        .to_owned())
}

fn stream(
    address: SocketAddr,
    seed: u64,
    pause: Duration,
    stop: &AtomicBool,
    bytes: &mut u64,
) -> Result<()> {
    let stream = TcpStream::connect_timeout(&address, STEP_MAX).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP_MAX))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut banner = String::new();
    reader
        .read_line(&mut banner)
        .context("read the member's name")?;
    let mut state = seed;
    let mut echoed = vec![0; BLOCK_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let block = noise(&mut state);
        writer.write_all(&block).context("send a block")?;
        reader.read_exact(&mut echoed).context("receive a block")?;
        ensure!(
            echoed == block,
            "a block came back changed after {bytes} bytes"
        );
        *bytes += 2 * BLOCK_BYTES as u64;
        thread::sleep(pause);
    }
    writer.shutdown(Shutdown::Write).context("half-close")?;
    let rest = reader
        .read_to_end(&mut Vec::new())
        .context("read to the end")?;
    ensure!(rest == 0, "{rest} bytes that nobody sent");
    Ok(())
}

fn connect_once(address: SocketAddr, block: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, STEP_MAX).context("connect")?;
    stream.set_read_timeout(Some(STEP_MAX))?;
    stream.write_all(block).context("send a block")?;
    stream.shutdown(Shutdown::Write).context("half-close")?;
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .context("read to the end")?;
    ensure!(
        received.ends_with(block),
        "{} bytes came back, not those sent",
        received.len()
    );
    Ok(())
}

/// A block of bytes that depends on the stream and the place in it (xorshift), so that no mix-up goes unseen.
fn noise(state: &mut u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while block.len() < BLOCK_BYTES {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}

const BLOCK_BYTES: usize = 4096;
const SHORT_BYTES: usize = 64;
const STEP_MAX: Duration = Duration::from_secs(10);
