//! An amphora between clients that write bytes and a member that keeps the bytes it got.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use krater_tests::{Namespace, Standalone, until};
use serde_json::{Value, json};

/// An amphora of one thread, one listener and one member. Fields are dropped in this order: the network last.
pub(crate) struct Ground {
    _amphora: Standalone,
    pub(crate) member: Member,
    _network: Namespace,
}

/// What a member does with a connection: its bytes are kept meanwhile.
type Serve = dyn Fn(&mut Wiretap) + Send + Sync;

/// A member that keeps what it gets, connection by connection.
pub(crate) struct Member {
    pub(crate) seen: Arc<Mutex<Vec<Vec<u8>>>>,
    open: Arc<AtomicUsize>,
    address: SocketAddr,
}

/// One connection of a member.
pub(crate) struct Wiretap {
    pub(crate) stream: TcpStream,
    pub(crate) number: usize,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Ground {
    /// With a member that answers every request as [`Wiretap::answer_all`] does.
    pub(crate) fn new(listener: &Value) -> Self {
        Self::serving(listener, Wiretap::answer_all)
    }

    /// With a member that serves each connection in its own way.
    pub(crate) fn serving(
        listener: &Value,
        serve: impl Fn(&mut Wiretap) + Send + Sync + 'static,
    ) -> Self {
        let network = Namespace::enter_new();
        let member = Member::start(Arc::new(serve));
        let mut listener = listener.clone();
        let id = |kind: u8| format!("00000000-0000-4000-8000-00000000000{kind}");
        listener["id"] = json!(id(2));
        listener["protocol"] = json!("http");
        listener["port"] = json!(80);
        listener["default_pool"] = json!(id(3));
        let address = member.address;
        let snapshot = json!({"load_balancers": [{
            "load_balancer": id(1), "generation": 1, "vips": [{"address": VIP}],
            "listeners": [listener],
            "pools": [{"id": id(3), "protocol": "http", "members": [
                {"id": id(4), "address": address.ip().to_string(), "port": address.port()},
            ]}],
        }]});
        let amphora = Standalone::start_with(&snapshot, vip(), &["--workers", "1"]);
        Self {
            _amphora: amphora,
            member,
            _network: network,
        }
    }
}

impl Member {
    fn start(serve: Arc<Serve>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let open = Arc::<AtomicUsize>::default();
        let (kept, counted) = (Arc::clone(&seen), Arc::clone(&open));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                stream.set_read_timeout(Some(STEP_MAX)).expect("a timeout");
                let number = {
                    let mut kept = kept.lock().expect("the record");
                    kept.push(vec![]);
                    kept.len() - 1
                };
                let mut wiretap = Wiretap {
                    stream,
                    number,
                    seen: Arc::clone(&kept),
                };
                let (serve, counted) = (Arc::clone(&serve), Arc::clone(&counted));
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    serve(&mut wiretap);
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            seen,
            open,
            address,
        }
    }

    /// Waits until everything is seen that was sent so far, by a member that ends its connections.
    pub(crate) fn settle(&self) {
        // Connections are accepted in order: when this one is served, all before it were.
        converse(FENCE);
        until("connections to the member end", STEP_MAX, || {
            self.open.load(Ordering::SeqCst) == 0
        });
    }

    /// What was seen since the last call, connection by connection.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        let mut seen = self.seen.lock().expect("the record");
        // Connections keep their numbers.
        let all = seen.iter_mut().map(std::mem::take);
        all.filter(|bytes| !bytes.starts_with(b"GET /fence "))
            .collect()
    }
}

impl Wiretap {
    /// Reads some more; `false` at the end.
    pub(crate) fn more(&mut self, held: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(read @ 1..) => {
                held.extend(&buffer[..read]);
                self.seen.lock().expect("the record")[self.number].extend(&buffer[..read]);
                true
            }
            _ => false,
        }
    }

    /// Reads the next request, as strictly as what is written here deserves; `None` at the end.
    pub(crate) fn request(&mut self, held: &mut Vec<u8>) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = whole(held) {
                return Some(held.drain(..end).collect());
            }
            if !self.more(held) {
                return None;
            }
        }
    }

    /// Answers one request with the number of bytes it was, and closes once the other side has.
    pub(crate) fn answer_all(&mut self) {
        let mut held = vec![];
        if self.request(&mut held).is_some() {
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
            self.send(answer.as_bytes());
            let _ = self.stream.shutdown(Shutdown::Write);
            while self.more(&mut held) {}
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }
}

/// Where the request ends that `held` begins with, if all of it is there.
fn whole(held: &[u8]) -> Option<usize> {
    let head_end = find(held, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&held[..head_end]).to_ascii_lowercase();
    let field = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    if field("transfer-encoding:").is_some() {
        // Ahead of the first chunk stands the end of the head, and behind the last one may be trailers.
        let body = &held[head_end - 2..];
        let last = find(body, b"\r\n0\r\n")? + 3;
        let end = find(&body[last..], b"\r\n\r\n")? + 4;
        return Some(head_end - 2 + last + end);
    }
    let length = field("content-length:").map_or(0, |length| length.parse().expect("a number"));
    (held.len() >= head_end + length).then_some(head_end + length)
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// Sends `bytes` over a connection of their own and reads until it ends. What was read, and whether it ended in order.
pub(crate) fn converse(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = connect();
    // Who is refused early may not be able to send all of it.
    let _ = stream.write_all(bytes);
    read_to_end(&mut stream)
}

pub(crate) fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut answer = vec![];
    match stream.read_to_end(&mut answer) {
        Ok(_) => (answer, true),
        Err(error) => {
            let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!waited, "nothing came: {}", show(&answer));
            (answer, false)
        }
    }
}

pub(crate) fn connect() -> TcpStream {
    let stream = TcpStream::connect(vip()).expect("a connection");
    stream.set_read_timeout(Some(STEP_MAX)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Statuses of the answers in `bytes`, all of which have bodies of a known length.
pub(crate) fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = vec![];
    while let Some(head_end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
        statuses.push(head[9..12].parse().expect("a status"));
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().expect("a length"));
        bytes = bytes.get(head_end + 4 + length..).unwrap_or_default();
    }
    statuses
}

pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub(crate) fn vip() -> SocketAddr {
    SocketAddr::new(VIP.parse().expect("an address"), 80)
}

const FENCE: &[u8] = b"GET /fence HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\n";
const VIP: &str = "127.77.0.1";
/// The end of waiting for what never comes.
pub(crate) const STEP_MAX: Duration = Duration::from_secs(20);
