//! How many system calls traffic costs: numbers that do not depend on the machine, so that they can be held to.
//!
//! Clients do one thing after the other, so that nothing is done together by chance. What a worker waits for is
//! bounded more loosely: on a slow machine what comes in two parts is seen in two parts.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use krater_tests::{Calls, Connection, HttpMember, Namespace, Standalone, Trace};
use serde_json::{Value, json};

#[test]
fn a_tcp_connection_costs_so_many_system_calls() {
    let _network = Namespace::enter_new();
    let Some(calls) = counted("tcp", echo(), |vip| {
        for _ in 0..CONNECTIONS {
            exchange(&mut connect(vip));
        }
    }) else {
        return;
    };
    bounded(&calls, CONNECTIONS, 18, 5);
}

#[test]
fn a_message_of_a_tcp_connection_costs_so_many_system_calls() {
    let _network = Namespace::enter_new();
    let Some(calls) = counted("tcp", echo(), |vip| {
        let mut stream = connect(vip);
        for _ in 0..MESSAGES {
            exchange(&mut stream);
        }
    }) else {
        return;
    };
    // To and fro.
    bounded(&calls, MESSAGES, 4, 3);
}

#[test]
fn a_request_of_a_kept_http_connection_costs_so_many_system_calls() {
    let _network = Namespace::enter_new();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let Some(calls) = counted("http", member.address(), |vip| {
        let mut connection = Connection::open(vip).expect("a connection");
        for _ in 0..MESSAGES {
            assert_eq!(connection.get("/").expect("an answer").status, 200);
        }
    }) else {
        return;
    };
    bounded(&calls, MESSAGES, 4, 3);
}

#[test]
fn a_pair_of_datagrams_costs_so_many_system_calls() {
    let _network = Namespace::enter_new();
    let Some(calls) = counted("udp", datagram_echo(), |vip| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(vip).expect("an address");
        socket
            .set_read_timeout(Some(ANSWER_MAX))
            .expect("a timeout");
        let mut message = [7; MESSAGE_BYTES];
        for _ in 0..MESSAGES {
            socket.send(&message).expect("sent");
            socket.recv(&mut message).expect("an answer");
        }
    }) else {
        return;
    };
    bounded(&calls, MESSAGES, 4, 3);
}

/// What one worker calls while `traffic` goes through it to `member`; `None` where nobody can look.
fn counted(protocol: &str, member: SocketAddr, traffic: impl FnOnce(SocketAddr)) -> Option<Calls> {
    let vip = SocketAddr::from(([127, 77, 0, 1], 80));
    let door = SocketAddr::new(vip.ip(), DOOR);
    let mut amphora =
        Standalone::start_with(&snapshot(protocol, vip, member), door, &["--workers", "1"]);
    let thread = if protocol == "http" { "worker-" } else { "l4-" };
    let trace = Trace::attach(amphora.program().pid(), thread)?;
    traffic(vip);
    Some(trace.finish())
}

/// Holds the calls of each of `units` things done to these numbers. What is done once, be it the timers of a second or
/// the connection around the messages, disappears in the rounding.
#[track_caller]
fn bounded(calls: &Calls, units: u64, working: u64, waiting: u64) {
    let per_unit = |calls: u64| (calls + units / 2) / units;
    let waits = calls.total() - calls.working();
    let (did, waited) = (per_unit(calls.working()), per_unit(waits));
    assert!(
        did <= working && waited <= waiting,
        "{did} calls and {waited} waits each, {working} and {waiting} allowed:\n{}",
        calls.per(units)
    );
    eprintln!("{did} calls and {waited} waits each:\n{}", calls.per(units));
}

fn snapshot(protocol: &str, vip: SocketAddr, member: SocketAddr) -> Value {
    let member = json!({"address": member.ip(), "port": member.port()});
    json!({"load_balancers": [{
        "vips": [vip.ip()],
        "listeners": [{"protocol": protocol, "port": vip.port(), "default_pool": "p"},
            {"protocol": "tcp", "port": DOOR}],
        "pools": [{"name": "p", "protocol": protocol, "members": [member]}],
    }]})
}

/// A member that sends back what it gets, and nothing else.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            thread::spawn(move || {
                let mut message = [0; MESSAGE_BYTES];
                while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok()
                {
                }
            });
        }
    });
    address
}

/// The same for datagrams.
fn datagram_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("a bound socket");
    thread::spawn(move || {
        let mut message = [0; MESSAGE_BYTES];
        while let Ok((count, from)) = socket.recv_from(&mut message) {
            socket.send_to(&message[..count], from).expect("sent");
        }
    });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream
}

fn exchange(stream: &mut TcpStream) {
    let mut message = [7; MESSAGE_BYTES];
    stream.write_all(&message).expect("sent");
    stream.read_exact(&mut message).expect("received");
}

/// A port where nothing is behind: whoever can connect there knows that the others are open too.
const DOOR: u16 = 79;
const MESSAGE_BYTES: usize = 64;
const CONNECTIONS: u64 = 300;
const MESSAGES: u64 = 1000;
/// Loopback loses nothing that a socket has room for.
const ANSWER_MAX: Duration = Duration::from_secs(10);
