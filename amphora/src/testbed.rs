//! What tests of the data plane share: specs to start from, members to send to, clients that never wait for ever.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use krater_amphora_api::{
    Algorithm, Generation, InsertHeadersSpec, ListenerId, ListenerProtocol, ListenerReport,
    ListenerSpec, LoadBalancerId, MemberId, MemberSpec, PoolId, PoolProtocol, PoolSpec,
    SnapshotSpec, TimeoutsSpec, VipSpec,
};
use krater_amphora_core::{
    proxy_protocol::{Origin, Parsed, Version, parse},
    snapshot::Snapshot,
};
use uuid::Uuid;

use crate::plane::Plane;

pub(crate) mod authority;

/// A plane with one load balancer: one listener, one pool.
pub(crate) struct Bed {
    pub(crate) plane: Plane,
    pub(crate) spec: SnapshotSpec,
    pub(crate) vip: SocketAddr,
}

impl Bed {
    /// Two workers, a TCP listener on a free port, members at those addresses.
    pub(crate) fn tcp(members: &[SocketAddr]) -> Self {
        Self::new(ListenerProtocol::Tcp, PoolProtocol::Tcp, members)
    }

    /// The same for HTTP.
    pub(crate) fn http(members: &[SocketAddr]) -> Self {
        Self::new(ListenerProtocol::Http, PoolProtocol::Http, members)
    }

    /// The same for UDP.
    pub(crate) fn udp(members: &[SocketAddr]) -> Self {
        Self::new(ListenerProtocol::Udp, PoolProtocol::Udp, members)
    }

    pub(crate) fn new(
        listener: ListenerProtocol,
        pool: PoolProtocol,
        members: &[SocketAddr],
    ) -> Self {
        let vip = free_address(IpAddr::V4(fresh_ip()));
        let pool = pool_spec(pool, members);
        let spec = SnapshotSpec {
            load_balancer: LoadBalancerId::new(fresh_uuid()),
            name: "test".into(),
            generation: Generation::FIRST,
            enabled: true,
            vips: vec![VipSpec { address: vip.ip() }],
            listeners: vec![listener_spec(listener, vip.port(), Some(pool.id))],
            pools: vec![pool],
            takes_over: false,
            member_drain_ms: None,
            announcement: None,
            session_peers: Vec::new(),
        };
        Self {
            plane: Plane::start(2, Duration::from_secs(1)).unwrap(),
            spec,
            vip,
        }
    }

    /// Applies the spec as it is now, under the next generation.
    pub(crate) fn apply(&mut self) {
        self.spec.generation = self.spec.generation.next();
        let snapshot = Snapshot::parse(self.spec.clone()).unwrap();
        assert_eq!(self.plane.apply(snapshot), Ok(self.spec.generation));
    }

    /// Changes the spec and applies it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut SnapshotSpec)) {
        change(&mut self.spec);
        self.apply();
    }

    /// Applies for the first time.
    pub(crate) fn started(mut self) -> Self {
        self.apply();
        self
    }

    /// Changes the spec and applies for the first time.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut SnapshotSpec)) -> Self {
        self.edit(change);
        self
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.vip)
    }

    /// The report of the first listener.
    pub(crate) fn listener(&self) -> ListenerReport {
        self.plane
            .report(self.spec.load_balancer)
            .unwrap()
            .listeners
            .remove(0)
    }

    /// Connects and reads what a [`named`] member says of itself.
    pub(crate) fn ask(&self) -> String {
        read_all(&mut self.connect())
    }
}

pub(crate) fn listener_spec(
    protocol: ListenerProtocol,
    port: u16,
    pool: Option<PoolId>,
) -> ListenerSpec {
    ListenerSpec {
        id: ListenerId::new(fresh_uuid()),
        name: "listener".into(),
        enabled: true,
        protocol,
        port,
        connection_limit: 1_000,
        default_pool: pool,
        allowed_cidrs: vec![],
        timeouts: TimeoutsSpec::default(),
        insert_headers: InsertHeadersSpec::default(),
        source_rate: None,
        tls: None,
        hsts: None,
        policies: vec![],
        access_log: None,
        congestion_control: None,
    }
}

pub(crate) fn pool_spec(protocol: PoolProtocol, members: &[SocketAddr]) -> PoolSpec {
    PoolSpec {
        id: PoolId::new(fresh_uuid()),
        name: "pool".into(),
        enabled: true,
        protocol,
        algorithm: Algorithm::RoundRobin,
        persistence: None,
        members: members.iter().copied().map(member_spec).collect(),
        monitor: None,
        passive_health: None,
        slow_start_ms: 0,
        member_requests: None,
        tls: None,
    }
}

pub(crate) fn member_spec(address: SocketAddr) -> MemberSpec {
    MemberSpec {
        id: MemberId::new(fresh_uuid()),
        name: "member".into(),
        enabled: true,
        address: address.ip(),
        port: address.port(),
        weight: 1,
        backup: false,
        monitor_address: None,
        monitor_port: None,
    }
}

/// A member: every connection is handled by `serve`, in a thread of its own, until the test ends.
pub(crate) fn member(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    member_on("127.0.0.1:0".parse().unwrap(), serve)
}

pub(crate) fn member_on(
    address: SocketAddr,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A member that sends back what it gets, and ends when its client does.
pub(crate) fn echo() -> SocketAddr {
    member(|mut stream| {
        let mut buffer = [0; 65_536];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// A member that says its name and closes.
pub(crate) fn named(name: &'static str) -> SocketAddr {
    member(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
    })
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    free_address(IpAddr::V4(fresh_ip()))
}

/// An address that was free a moment ago. The address part is this test's alone, so nobody else takes the port.
pub(crate) fn free_address(ip: IpAddr) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// A loopback address that no other test uses.
fn fresh_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let next = u8::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 200 + 20).unwrap();
    Ipv4Addr::new(127, next, high, low.max(1))
}

pub(crate) fn fresh_uuid() -> Uuid {
    Uuid::from_u128(rand::random())
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Reads a PROXY header, and not a byte more.
pub(crate) fn read_header(stream: &mut TcpStream) -> (Version, Origin) {
    let mut start = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        start.push(byte[0]);
        match parse(&start) {
            Ok(Parsed::Header {
                version, origin, ..
            }) => return (version, origin),
            Ok(Parsed::Incomplete) => {}
            Err(fault) => panic!("{fault:?}: {}", start.escape_ascii()),
        }
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes that differ along the way, so that a lost or doubled piece shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Far more than anything here takes, and the end of waiting for what never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
