//! Access logs: who is told of what was served, and that nobody who is served waits for it.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use krater_tests::{
    Connection, HttpMember, Namespace, Standalone, TcpMember, UdpClient, UdpMember, fetch,
    frames::{Frame, Framed, block, flag, frame, get, kind, request},
    until, until_some,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, body_json, listener_json, member_json, text};

const WEB: &str = "00000000-0000-4000-8000-000000000001";
const STREAM: &str = "00000000-0000-4000-8000-000000000002";
const DATAGRAMS: &str = "00000000-0000-4000-8000-000000000003";

/// A load balancer with one listener of each kind, all of which are told.
struct House {
    web: HttpMember,
    stream: TcpMember,
    datagrams: UdpMember,
}

impl House {
    fn new() -> Self {
        Self {
            web: HttpMember::start("a", "127.0.0.1:0"),
            stream: TcpMember::start("b", "127.0.0.1:0"),
            datagrams: UdpMember::start("c", "127.0.0.1:0"),
        }
    }

    fn snapshot(&self, one_in: u32) -> Value {
        let mut listeners = Vec::new();
        let mut pools = Vec::new();
        for (id, protocol, port, member) in [
            (WEB, "http", 80, self.web.address()),
            (STREAM, "tcp", 90, self.stream.address()),
            (DATAGRAMS, "udp", 53, self.datagrams.address()),
        ] {
            listeners.push(json!({
                "id": id, "protocol": protocol, "port": port, "default_pool": protocol,
                "access_log": {"one_in": one_in}, "timeouts": {"client_data_ms": 500, "member_data_ms": 500},
            }));
            let member = json!({"address": "127.0.0.1", "port": member.port()});
            pools.push(json!({"name": protocol, "protocol": protocol, "members": [member]}));
        }
        json!({"load_balancers": [
            {"name": "lb", "vips": ["127.0.0.1"], "listeners": listeners, "pools": pools},
        ]})
    }

    fn serve(&self, one_in: u32, target: &str) -> Standalone {
        Self::run(&self.snapshot(one_in), target)
    }

    fn run(snapshot: &Value, target: &str) -> Standalone {
        let metrics = METRICS.to_string();
        let arguments = [
            "--metrics",
            &metrics,
            "--access-log",
            target,
            "--workers",
            "1",
        ];
        Standalone::start_with(snapshot, METRICS, &arguments)
    }

    /// Has one of each kind served.
    fn use_all(&self) {
        let mut client = Connection::open(at(80)).expect("a connection");
        let headers = [
            ("traceparent", TRACE),
            ("x-request-id", "order-7"),
            ("authorization", "Bearer secret"),
            ("cookie", "session=secret"),
        ];
        let answer = client.request("POST", "/a/b?token=secret", &headers, Some(b"12345"));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        // What is told of is passed on as it came.
        let seen = body_json(&answer.body)["headers"].clone();
        let seen = seen.as_array().expect("headers");
        assert!(seen.contains(&json!(["traceparent", TRACE])), "{seen:?}");
        let mut stream = TcpStream::connect(at(90)).expect("a connection");
        let mut greeting = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        reader.read_line(&mut greeting).expect("a greeting");
        stream.write_all(b"echo").expect("room");
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        let _ = reader.read_to_end(&mut Vec::new());
        let client = UdpClient::of(at(53));
        client.ask_until_heard("hello", SETTLE_MAX);
    }
}

fn at(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

const METRICS: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(
    std::net::Ipv4Addr::LOCALHOST,
    9_445,
));
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The records among lines.
fn records(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with("{\"time\":"));
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn told(path: &Path) -> Vec<Value> {
    records(&fs::read_to_string(path).unwrap_or_default())
}

fn counted(result: &str) -> u64 {
    let text = fetch(METRICS, "/metrics").expect("metrics").text();
    let series = format!("krater_amphora_access_log_records_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.expect("the series").parse().expect("a number")
}

fn of<'a>(records: &'a [Value], listener: &str) -> &'a Value {
    let mut its = records.iter().filter(|one| one["listener"] == listener);
    let first = its.next().expect("a record");
    assert!(its.next().is_none(), "{records:?}");
    first
}

/// Looks at the records of [`House::use_all`].
fn check_all(records: &[Value]) {
    let web = of(records, WEB);
    for (name, value) in [
        ("protocol", json!("http")),
        ("client", json!("127.0.0.1")),
        ("vip", json!("127.0.0.1")),
        ("vip_port", json!(80)),
        ("method", json!("POST")),
        ("path", json!("/a/b")),
        ("host", json!("krater.test")),
        ("version", json!("1.1")),
        ("status", json!(200)),
        ("bytes_in", json!(5)),
        ("tries", json!(1)),
        ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("request_id", json!("order-7")),
        ("cause", Value::Null),
    ] {
        assert_eq!(web[name], value, "{name} in {web}");
    }
    let number = |name: &str| web[name].as_f64().expect("a number");
    assert!(number("bytes_out") > 10.0, "{web}");
    let times = ["connect_ms", "answer_ms", "total_ms"].map(number);
    assert!(times.is_sorted(), "{web}");
    assert!(!web.to_string().contains("secret"), "{web}");
    let stream = of(records, STREAM);
    for (name, value) in [
        ("protocol", json!("tcp")),
        ("vip_port", json!(90)),
        ("bytes_in", json!(4)),
        ("tries", json!(1)),
        ("cause", Value::Null),
        ("method", Value::Null),
    ] {
        assert_eq!(stream[name], value, "{name} in {stream}");
    }
    assert!(stream["bytes_out"].as_u64() > Some(0), "{stream}");
    let session = of(records, DATAGRAMS);
    for (name, value) in [
        ("protocol", json!("udp")),
        ("vip", json!("127.0.0.1")),
        ("vip_port", json!(53)),
        ("bytes_in", json!(5)),
        ("cause", Value::Null),
    ] {
        assert_eq!(session[name], value, "{name} in {session}");
    }
    for one in records {
        assert!(
            one["member"].is_string() && one["pool"].is_string(),
            "{one}"
        );
        assert!(one["member_address"].as_str().is_some(), "{one}");
    }
}

#[test]
fn a_file_has_a_line_for_each_request_connection_and_session() {
    let _network = Namespace::enter_new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let house = House::new();
    let _amphora = house.serve(1, &format!("file:{}", path.display()));
    house.use_all();
    until("all three are told", NOTICE_MAX, || told(&path).len() == 3);
    check_all(&told(&path));
    // Whoever moves the file finds the next records in a new one.
    let aside = folder.path().join("aside");
    fs::rename(&path, &aside).expect("it can be moved");
    assert_eq!(fetch(at(80), "/next").expect("an answer").status, 200);
    until("the new file is written to", NOTICE_MAX, || {
        told(&path).len() == 1
    });
    assert_eq!(told(&path)[0]["path"], "/next");
    assert_eq!(told(&aside).len(), 3);
    assert_eq!((counted("written"), counted("dropped")), (4, 0));
}

#[test]
fn requests_of_http2_have_a_line_each() {
    let _network = Namespace::enter_new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let house = House::new();
    let mut snapshot = house.snapshot(1);
    // The member may think for longer than anybody waits here.
    snapshot["load_balancers"][0]["listeners"][0]["timeouts"] = json!({});
    let _amphora = House::run(&snapshot, &format!("file:{}", path.display()));
    let mut client = Framed::to(at(80), &[]);
    let mut fields = request("GET", "/one?token=secret");
    fields.push((b"traceparent".to_vec(), TRACE.as_bytes().to_vec()));
    let flags = flag::END_STREAM | flag::END_HEADERS;
    assert!(client.send(&frame(kind::HEADERS, flags, 1, &block(&fields))));
    assert_eq!(client.answer(1).first().map(Frame::status), Some(200));
    assert!(client.send(&get(3, "/two")));
    assert_eq!(client.answer(3).first().map(Frame::status), Some(200));
    // What is taken back before it is answered is told with who did so.
    house.web.set_delay(Duration::from_secs(5));
    assert!(client.send(&get(5, "/late")));
    until("the member has the request", NOTICE_MAX, || {
        house.web.served() == 3
    });
    let cancel = 8_u32.to_be_bytes();
    assert!(client.send(&frame(kind::RST_STREAM, 0, 5, &cancel)));
    until("all three are told", NOTICE_MAX, || told(&path).len() == 3);
    let all = told(&path);
    let of = |path: &str| {
        let mut its = all.iter().filter(|one| one["path"] == path);
        its.next().expect("a record")
    };
    let one = of("/one");
    for (name, value) in [
        ("version", json!("2")),
        ("method", json!("GET")),
        ("host", json!("h")),
        ("status", json!(200)),
        ("client", json!("127.0.0.1")),
        ("trace_id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("cause", Value::Null),
    ] {
        assert_eq!(one[name], value, "{name} in {one}");
    }
    assert!(one["bytes_out"].as_u64() > Some(0), "{one}");
    assert_eq!(of("/two")["cause"], Value::Null);
    let taken_back = of("/late");
    assert_eq!(taken_back["cause"], "client_gone", "{taken_back}");
    assert!(!format!("{all:?}").contains("secret"), "{all:?}");
}

#[test]
fn standard_output_has_the_same_lines() {
    let _network = Namespace::enter_new();
    let house = House::new();
    let mut amphora = house.serve(1, "stdout");
    house.use_all();
    until("all three are told", NOTICE_MAX, || {
        records(&amphora.program().output()).len() == 3
    });
    check_all(&records(&amphora.program().output()));
    // What is under way when it ends is told before it has.
    let mut client = Connection::open(at(80)).expect("a connection");
    client.get("/last").expect("an answer");
    assert!(amphora.program().terminate().success());
    let all = records(&amphora.program().output());
    assert!(all.iter().any(|one| one["path"] == "/last"), "{all:?}");
}

/// The record of a syslog message (RFC 5424).
fn unwrapped(message: &str) -> Value {
    let parts: Vec<&str> = message.splitn(8, ' ').collect();
    let [priority, time, host, name, pid, id, data, json] = parts[..] else {
        panic!("{message}")
    };
    // local0, informational.
    assert_eq!(priority, "<134>1", "{message}");
    assert!(time.ends_with('Z') && !host.is_empty(), "{message}");
    assert!(pid.parse::<u32>().is_ok(), "{message}");
    assert_eq!((name, id, data), ("krater-amphora", "access", "-"));
    serde_json::from_str(json).expect("JSON")
}

#[test]
fn a_syslog_collector_is_told_by_datagrams() {
    let _network = Namespace::enter_new();
    let collector = UdpSocket::bind("127.0.0.1:514").expect("a port");
    collector
        .set_read_timeout(Some(NOTICE_MAX))
        .expect("a timeout");
    let house = House::new();
    let _amphora = house.serve(1, "syslog+udp://127.0.0.1:514");
    house.use_all();
    let mut buffer = [0; 65_536];
    let all: Vec<_> = (0..3)
        .map(|_| {
            let length = collector.recv(&mut buffer).expect("a message");
            unwrapped(str::from_utf8(&buffer[..length]).expect("text"))
        })
        .collect();
    check_all(&all);
}

#[test]
fn a_syslog_collector_is_told_over_a_stream_whenever_there_is_one() {
    let _network = Namespace::enter_new();
    let house = House::new();
    let _amphora = house.serve(1, "syslog+tcp://127.0.0.1:601");
    // Nobody is there yet, and nobody who is served waits for it.
    assert_eq!(fetch(at(80), "/").expect("an answer").status, 200);
    until("it is dropped", NOTICE_MAX, || counted("dropped") == 1);
    let collector = TcpListener::bind("127.0.0.1:601").expect("a port");
    let mut stream = None;
    until("it comes", NOTICE_MAX, || {
        fetch(at(80), "/wake").expect("an answer");
        collector.set_nonblocking(true).expect("a socket");
        stream = collector.accept().ok();
        stream.is_some()
    });
    let (stream, _) = stream.expect("it has come");
    stream.set_nonblocking(false).expect("a socket");
    stream
        .set_read_timeout(Some(NOTICE_MAX))
        .expect("a timeout");
    let mut stream = BufReader::new(stream);
    house.use_all();
    let mut all = Vec::new();
    while all.len() < 3 {
        let mut length = Vec::new();
        stream.read_until(b' ', &mut length).expect("a length");
        let length = str::from_utf8(&length).expect("digits").trim_end();
        let mut message = vec![0; length.parse().expect("a number")];
        stream.read_exact(&mut message).expect("a message");
        let record = unwrapped(str::from_utf8(&message).expect("text"));
        if record["path"] != "/wake" {
            all.push(record);
        }
    }
    check_all(&all);
}

/// A pipe with a name, whose reader opens it and reads when told.
fn pipe(folder: &Path) -> (PathBuf, thread::JoinHandle<File>) {
    let path = folder.join("pipe");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::Fifo, mode, 0).expect("a pipe");
    let its = path.clone();
    (
        path,
        thread::spawn(move || File::open(its).expect("somebody writes")),
    )
}

#[test]
fn a_sink_that_does_not_read_costs_records_and_nobody_waits_for_it() {
    let _network = Namespace::enter_new();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, reader) = pipe(folder.path());
    let house = House::new();
    let mut amphora = house.serve(1, &format!("file:{}", path.display()));
    let mut client = Connection::open(at(80)).expect("a connection");
    let mut asked = 0;
    // A pipe holds 64 KiB, and a thread some thousands of records.
    while asked < 6_000 {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.status, 200);
        asked += 1;
        if !client.is_reusable() {
            client = Connection::open(at(80)).expect("a connection");
        }
    }
    until("some are dropped", NOTICE_MAX, || counted("dropped") > 0);
    // Whoever reads after all is told of the rest.
    let mut reader = BufReader::new(reader.join().expect("it was opened"));
    let read = thread::spawn(move || {
        let mut line = String::new();
        let mut lines = 0;
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            lines += u64::try_from(records(&line).len()).expect("few");
            line.clear();
        }
        lines
    });
    until("none is missing in the count", NOTICE_MAX, || {
        counted("written") + counted("dropped") == asked
    });
    let (written, dropped) = (counted("written"), counted("dropped"));
    assert!(written >= 4_000 && dropped > 0, "{written} {dropped}");
    assert!(amphora.program().terminate().success());
    assert_eq!(read.join().expect("it ends"), written);
}

#[test]
fn a_listener_that_wants_none_or_few_is_told_of_as_it_wants() {
    let _network = Namespace::enter_new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let house = House::new();
    // A connection is kept meanwhile, however slow the machine is.
    let patient = |one_in| {
        let mut snapshot = house.snapshot(one_in);
        let listeners = snapshot["load_balancers"][0]["listeners"].as_array_mut();
        for listener in listeners.expect("listeners") {
            listener["timeouts"]["client_data_ms"] = json!(60_000);
        }
        snapshot
    };
    let mut amphora = House::run(&patient(1), &format!("file:{}", path.display()));
    let mut snapshot = patient(4);
    let ask = |path: &str| {
        let mut client = Connection::open(at(80)).expect("a connection");
        for _ in 0..400 {
            assert_eq!(client.get(path).expect("an answer").status, 200);
        }
    };
    // Live at the next request, of a connection that is open as of others.
    let mut kept = Connection::open(at(80)).expect("a connection");
    kept.get("/before").expect("an answer");
    amphora.reload(&snapshot.to_string());
    until("the change is in force", NOTICE_MAX, || {
        fetch(METRICS, "/metrics")
            .expect("metrics")
            .text()
            .contains("krater_amphora_reloads_total{result=\"applied\"} 1")
    });
    ask("/few");
    let of_few = |record: &Value| record["path"] == "/few";
    // Ten standard deviations from the 100 that are to be expected.
    let few = until_some("some are told", NOTICE_MAX, || {
        let few = told(&path).iter().filter(|one| of_few(one)).count();
        (few >= 13).then_some(few)
    });
    assert!(few <= 187, "{few}");
    for listener in snapshot["load_balancers"][0]["listeners"]
        .as_array_mut()
        .expect("listeners")
    {
        listener["access_log"] = Value::Null;
    }
    amphora.reload(&snapshot.to_string());
    until("the change is in force", NOTICE_MAX, || {
        fetch(METRICS, "/metrics")
            .expect("metrics")
            .text()
            .contains("krater_amphora_reloads_total{result=\"applied\"} 2")
    });
    let before = counted("written");
    ask("/none");
    kept.get("/none").expect("an answer");
    // Those that were under way before may still come.
    assert!(told(&path).iter().all(|one| one["path"] != "/none"));
    assert!(counted("written") <= before + 187);
}

#[test]
fn a_tunnel_is_told_of_when_it_ends() {
    let _network = Namespace::enter_new();
    let member = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = member.local_addr().expect("an address").port();
    thread::spawn(move || {
        let (mut stream, _) = member.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4_096]);
        let agreed =
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\n";
        stream.write_all(agreed).expect("room");
        let mut said = [0; 4];
        stream.read_exact(&mut said).expect("a word");
        stream.write_all(b"goodbye").expect("room");
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let target = format!("file:{}", path.display());
    let snapshot = json!({"load_balancers": [{"name": "lb", "vips": ["127.0.0.1"],
        "listeners": [{"protocol": "http", "port": 80, "default_pool": "p", "access_log": {"one_in": 1}}],
        "pools": [{"name": "p", "protocol": "http", "members": [{"address": "127.0.0.1", "port": port}]}],
    }]});
    let _amphora = Standalone::start_with(&snapshot, at(80), &["--access-log", &target]);
    let mut client = TcpStream::connect(at(80)).expect("a connection");
    let asked = b"GET /chat HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    client.write_all(asked).expect("room");
    let mut reader = BufReader::new(client.try_clone().expect("a handle"));
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a head");
    }
    assert!(told(&path).is_empty(), "it has not ended");
    client.write_all(b"word").expect("room");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("an end");
    assert_eq!(rest, b"goodbye");
    drop((client, reader));
    until("it is told", NOTICE_MAX, || told(&path).len() == 1);
    let record = &told(&path)[0];
    for (name, value) in [
        ("path", json!("/chat")),
        ("status", json!(101)),
        ("bytes_in", json!(4)),
        ("bytes_out", json!(7)),
        ("cause", Value::Null),
    ] {
        assert_eq!(record[name], value, "{name} in {record}");
    }
}

#[test]
fn a_deployment_says_where_records_go_and_a_flavor_how_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let config = folder.path().join("krater.toml");
    let settings = format!(
        "[access_log]\nto = \"file:{}\"\none_in = 0\n",
        path.display()
    );
    fs::write(&config, settings).expect("it can be written");
    let config = config.to_str().expect("a path").to_owned();
    let mut scene = Scene::with("up", &["--config", &config]);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())],
    });
    let silent = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    let profile = json!({"flavorprofile": {
        "name": "told", "provider_name": "amphora", "flavor_data": r#"{"krater_access_log_one_in": 1}"#,
    }});
    let profile = scene.api.post("flavorprofiles", &profile);
    let flavor = json!({"flavor": {
        "name": "told", "enabled": true, "flavor_profile_id": profile["flavorprofile"]["id"],
    }});
    let flavor = scene.api.post("flavors", &flavor);
    let body = json!({"loadbalancer": {
        "name": "told", "vip_subnet_id": scene.api.subnet("local-v4"), "flavor_id": flavor["flavor"]["id"],
        "listeners": [listener_json("HTTP", 80, &pool)],
    }});
    let created = scene.api.post("loadbalancers", &body)["loadbalancer"].clone();
    let id = text(&created["id"]);
    scene.api.wait_active(&id, SETTLE_MAX);
    let vip = text(&created["vip_address"]);
    let vip = SocketAddr::new(vip.parse().expect("an address"), 80);
    assert_eq!(
        fetch(silent.at(80), "/silent").expect("an answer").status,
        200
    );
    assert_eq!(fetch(vip, "/told").expect("an answer").status, 200);
    until("one is told", NOTICE_MAX, || told(&path).len() == 1);
    let record = &told(&path)[0];
    assert_eq!(record["path"], "/told");
    assert_eq!(record["load_balancer"], id.as_str());
    assert_eq!(record["vip"], vip.ip().to_string());
}
