//! Members: small servers that say who they are, count what reaches them, and can die and come back.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::json;

/// An HTTP member. Answers every path with a JSON object: who it is and what it received.
#[derive(Debug)]
pub struct HttpMember {
    server: Server,
    shared: Arc<Shared>,
}

/// A TCP member: sends its name and a line feed, then everything back that it receives; ends when the client does.
#[derive(Debug)]
pub struct TcpMember {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    served: AtomicU64,
    under_way: AtomicU64,
    most_at_once: AtomicU64,
    connections: AtomicU64,
    health: AtomicU16,
    probes: AtomicU64,
    delay_ms: AtomicU64,
}

impl Shared {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            served: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            health: AtomicU16::new(200),
            probes: AtomicU64::new(0),
            delay_ms: AtomicU64::new(0),
        })
    }
}

impl HttpMember {
    /// Serves at `address` (port 0 takes a free one).
    pub fn start(name: &str, address: &str) -> Self {
        let shared = Shared::new(name);
        let server = Server::start(address, serve_http, &shared);
        Self { server, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Who it says it is.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Requests answered so far, probes apart.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// The most requests, probes apart, that it had at the same time.
    pub fn most_at_once(&self) -> u64 {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    /// Requests for `/healthz` so far.
    pub fn probes(&self) -> u64 {
        self.shared.probes.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The status that `/healthz` answers from now on.
    pub fn set_health(&self, status: u16) {
        self.shared.health.store(status, Ordering::Relaxed);
    }

    /// How long every answer (probes apart) waits from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay_ms.store(
            u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// Dies: closes its port and every connection.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Comes back at the same address.
    pub fn restart(&mut self) {
        let address = self.server.address.to_string();
        self.server = Server::start(&address, serve_http, &self.shared);
    }
}

impl TcpMember {
    /// Serves at `address` (port 0 takes a free one).
    pub fn start(name: &str, address: &str) -> Self {
        let shared = Shared::new(name);
        let server = Server::start(address, serve_tcp, &shared);
        Self { server, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Dies: closes its port and every connection.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Comes back at the same address.
    pub fn restart(&mut self) {
        let address = self.server.address.to_string();
        self.server = Server::start(&address, serve_tcp, &self.shared);
    }
}

/// A listening socket with a thread per connection.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// The same socket as the thread's.
    listener: Option<TcpListener>,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<HashMap<u64, TcpStream>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(
        address: &str,
        serve: fn(TcpStream, &Shared) -> Result<()>,
        shared: &Arc<Shared>,
    ) -> Self {
        let accepting = TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("a member at {address}: {error}"));
        let listener = accepting.try_clone().ok();
        let address = accepting
            .local_addr()
            .expect("a bound socket has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(HashMap::new()));
        let (stop, table, shared) = (Arc::clone(&stopped), Arc::clone(&open), Arc::clone(shared));
        let thread = thread::spawn(move || accept(&accepting, serve, &stop, &table, &shared));
        Self {
            address,
            listener,
            stopped,
            open,
            thread: Some(thread),
        }
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, from whatever network; it sees the flag and lets the socket go.
        if let Some(listener) = self.listener.take() {
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
        let _ = thread.join();
        for stream in self
            .open
            .lock()
            .expect("no thread panics with the table")
            .values()
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(
    listener: &TcpListener,
    serve: fn(TcpStream, &Shared) -> Result<()>,
    stopped: &AtomicBool,
    open: &Arc<Mutex<HashMap<u64, TcpStream>>>,
    shared: &Arc<Shared>,
) {
    for (number, stream) in (0_u64..).zip(listener.incoming()) {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        open.lock()
            .expect("no thread panics with the table")
            .insert(number, copy);
        let (shared, table) = (Arc::clone(shared), Arc::clone(open));
        let spawned = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // A client that goes away in the middle is its own affair.
                let _ = serve(stream, &shared);
                if let Some(stream) = table
                    .lock()
                    .expect("no thread panics with the table")
                    .remove(&number)
                {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            });
        drop(spawned);
    }
}

fn serve_tcp(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    stream.set_nodelay(true)?;
    stream.write_all(format!("{}\n", shared.name).as_bytes())?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

fn serve_http(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut first = true;
    loop {
        let Some(request) = read_request(&mut stream)? else {
            return Ok(());
        };
        let probe = request.path.starts_with("/healthz");
        if first && !probe {
            shared.connections.fetch_add(1, Ordering::Relaxed);
        }
        first = false;
        let status = if probe {
            shared.health.load(Ordering::Relaxed)
        } else {
            200
        };
        let counter = if probe {
            &shared.probes
        } else {
            &shared.served
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if !probe {
            let now = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most_at_once.fetch_max(now, Ordering::SeqCst);
        }
        let delay = shared.delay_ms.load(Ordering::Relaxed);
        if delay > 0 && !probe {
            thread::sleep(Duration::from_millis(delay));
        }
        // Before the answer leaves: whoever has it may send the next request at once.
        if !probe {
            shared.under_way.fetch_sub(1, Ordering::SeqCst);
        }
        let body = request.describe(&shared.name);
        let length = body.len();
        let session = request.path.strip_prefix("/session/");
        let cookie = session.map(|session| format!("set-cookie: sid={session}\r\n"));
        let cookie = cookie.unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n{cookie}content-length: {length}\r\n\r\n"
        );
        let mut bytes = head.into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(body.as_bytes());
        }
        stream.get_mut().write_all(&bytes)?;
        if request.closes {
            return Ok(());
        }
    }
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body_bytes: usize,
    closes: bool,
}

impl Request {
    /// The JSON that describes it. Written by hand for requests that carry nothing, which is what load tests send.
    fn describe(&self, member: &str) -> String {
        if self.path == "/" {
            return format!("{{\"member\":\"{member}\"}}\n");
        }
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| json!([name, value]))
            .collect();
        let body = json!({
            "member": member, "method": self.method, "path": self.path,
            "headers": headers, "body_bytes": self.body_bytes,
        });
        format!("{body}\n")
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut parts = line.split_whitespace();
    let method = parts.next().context("a method")?.to_owned();
    let path = parts.next().context("a path")?.to_owned();
    let mut closes = parts.next() == Some("HTTP/1.0");
    let mut headers = Vec::new();
    let mut length = 0;
    let mut chunked = false;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').context("a header has a colon")?;
        let (name, value) = (name.to_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "content-length" => length = value.parse()?,
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
        headers.push((name, value));
    }
    let body_bytes = if chunked {
        read_chunks(stream)?
    } else {
        discard(stream, length)?
    };
    Ok(Some(Request {
        method,
        path,
        headers,
        body_bytes,
        closes,
    }))
}

fn discard(stream: &mut BufReader<TcpStream>, length: usize) -> Result<usize> {
    let read = std::io::copy(
        &mut stream.take(u64::try_from(length)?),
        &mut std::io::sink(),
    )?;
    anyhow::ensure!(usize::try_from(read)? == length, "the body ended early");
    Ok(length)
}

fn read_chunks(stream: &mut BufReader<TcpStream>) -> Result<usize> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).context("a chunk size")?;
        total += discard(stream, size)?;
        line.clear();
        stream.read_line(&mut line)?;
        if size == 0 {
            return Ok(total);
        }
    }
}

const STACK_BYTES: usize = 256 * 1024;
