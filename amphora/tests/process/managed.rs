//! `krater-amphora agent`: commanded over mutual TLS, and serving what it was last told whatever happens.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use http::Method;
use krater_amphora_api::{AmphoraId, Applied, ApplyError, Generation, Info, MemberHealth, Report};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    controller::{Authority, Commander, Credentials, Intake, Version},
    rig::{Member, PATIENCE, Process, body, free_port, wait_for},
};

/// Everything that one managed amphora needs.
pub(crate) struct Bench {
    folder: TempDir,
    authority: Authority,
    controller: Credentials,
    id: AmphoraId,
    listen: u16,
    intake: Intake,
}

pub(crate) const LB: &str = "00000000-0000-4000-8000-000000000001";

impl Bench {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let controller = authority.controller();
        let intake = Intake::start(&authority, &controller);
        let id = AmphoraId::new(Uuid::from_u128(9));
        let folder = tempfile::tempdir().unwrap();
        let bench = Self {
            folder,
            authority,
            controller,
            id,
            listen: free_port(),
            intake,
        };
        bench.authority.write(&bench.path("authority.pem"));
        bench.renew();
        let dead = free_port();
        let text = format!(
            "id = \"{id}\"\nstate_dir = {:?}\nlisten = \"127.0.0.1:{}\"\ncertificate = {:?}\nkey = {:?}\n\
             authority = {:?}\ncontrollers = [\"127.0.0.1:{dead}\", \"localhost:{}\"]\nheartbeat = \"500ms\"\n\
             drain = \"1s\"\nworkers = 2\n",
            bench.path("state"),
            bench.listen,
            bench.path("certificate.pem"),
            bench.path("key.pem"),
            bench.path("authority.pem"),
            bench.intake.port,
        );
        fs::write(bench.path("amphora.toml"), text).unwrap();
        bench
    }

    /// Adds settings.
    pub(crate) fn configure(&self, settings: &str) {
        let path = self.path("amphora.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + settings).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn renew(&self) {
        self.authority
            .amphora(self.id)
            .write(&self.path("certificate.pem"), &self.path("key.pem"));
    }

    pub(crate) fn start(&self, verb: &str) -> Process {
        let config = self.path("amphora.toml");
        Process::start(&[verb, "--config", config.to_str().unwrap()])
    }

    pub(crate) fn start_unheard(&self, verb: &str) -> Process {
        let config = self.path("amphora.toml");
        Process::start_unheard(&[verb, "--config", config.to_str().unwrap()])
    }

    fn commander(&self, version: Version) -> Commander {
        Commander::new(
            &self.authority,
            &self.controller,
            self.id,
            self.listen,
            version,
        )
    }

    fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        self.commander(Version::Http2)
            .send(&method, path, &body.to_string())
            .unwrap()
    }

    pub(crate) fn put(&self, spec: &Value) -> (u16, Value) {
        self.send(Method::PUT, &format!("/v1/load-balancers/{LB}"), spec)
    }

    pub(crate) fn wait_until_it_listens(&self) -> Info {
        let commander = self.commander(Version::Http1);
        let (_, info) = wait_for("the agent to listen", || {
            commander.send(&Method::GET, "/v1/info", "").ok()
        });
        serde_json::from_value(info).unwrap()
    }
}

pub(crate) fn spec(generation: u64, port: u16, member: &Member) -> Value {
    let id = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
    json!({
        "load_balancer": LB, "generation": generation, "vips": [{"address": "127.0.0.1"}],
        "listeners": [{"id": id(2), "protocol": "http", "port": port, "default_pool": id(3)}],
        "pools": [{"id": id(3), "protocol": "http", "members":
            [{"id": id(4), "address": "127.0.0.1", "port": member.address.port()}]}],
    })
}

fn error(answer: Value) -> ApplyError {
    serde_json::from_value(answer).unwrap()
}

#[test]
fn applies_are_idempotent_ordered_and_deletes_stay_deleted() {
    let (bench, one, two) = (Bench::new(), Member::start("one"), Member::start("two"));
    let port = free_port();
    let _amphora = bench.start("agent");
    assert_eq!(bench.wait_until_it_listens().amphora, bench.id);
    let (status, answer) = bench.put(&spec(5, port, &one));
    assert_eq!(status, 200, "{answer}");
    let applied: Applied = serde_json::from_value(answer).unwrap();
    assert_eq!(applied.generation.number(), 5);
    assert_eq!(
        body(port).unwrap(),
        "one",
        "an apply that was answered is in force"
    );
    assert_eq!(bench.put(&spec(5, port, &one)).0, 200);
    assert_eq!(bench.put(&spec(6, port, &two)).0, 200);
    assert_eq!(body(port).unwrap(), "two");
    let (status, answer) = bench.put(&spec(5, port, &one));
    assert_eq!(
        (status, error(answer).held.map(Generation::number)),
        (409, Some(6))
    );
    assert_eq!(body(port).unwrap(), "two");
    let list = bench
        .send(Method::GET, "/v1/load-balancers", &json!(null))
        .1;
    assert_eq!(list, json!([{"id": LB, "generation": 6}]));
    let delete = |generation| {
        bench
            .send(
                Method::DELETE,
                &format!("/v1/load-balancers/{LB}?generation={generation}"),
                &json!(null),
            )
            .0
    };
    assert_eq!(delete(5), 409);
    assert_eq!(delete(7), 200);
    assert_eq!(delete(7), 200);
    wait_for("the port to close", || body(port).is_none().then_some(()));
    let (status, answer) = bench.put(&spec(6, port, &two));
    assert_eq!(
        (status, error(answer).held.map(Generation::number)),
        (409, Some(7))
    );
    assert_eq!(bench.put(&spec(8, port, &two)).0, 200);
    assert_eq!(body(port).unwrap(), "two");
}

#[test]
fn what_cannot_be_applied_is_refused_with_every_reason_and_changes_nothing() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let _amphora = bench.start("agent");
    bench.wait_until_it_listens();
    assert_eq!(bench.put(&spec(1, port, &one)).0, 200);
    let mut bad = spec(2, port, &one);
    bad["listeners"][0]["port"] = json!(0);
    bad["pools"][0]["members"][0]["weight"] = json!(999);
    let (status, answer) = bench.put(&bad);
    let refused = error(answer);
    assert_eq!((status, refused.rejections.len()), (422, 2), "{refused:?}");
    let mut unknown = spec(2, port, &one);
    unknown["firewall"] = json!("on");
    let (status, answer) = bench.put(&unknown);
    assert_eq!(status, 400);
    assert!(error(answer).message.contains("firewall"));
    let mut elsewhere = spec(2, port, &one);
    elsewhere["load_balancer"] = json!("00000000-0000-4000-8000-000000000077");
    assert_eq!(bench.put(&elsewhere).0, 400);
    assert_eq!(bench.send(Method::GET, "/v2", &json!(null)).0, 404);
    assert_eq!(bench.send(Method::POST, "/v1/info", &json!(null)).0, 405);
    assert_eq!(
        bench
            .send(Method::PUT, "/v1/load-balancers/x", &json!(null))
            .0,
        400
    );
    let report: Report =
        serde_json::from_value(bench.send(Method::GET, "/v1/report", &json!(null)).1).unwrap();
    assert_eq!(report.load_balancers[0].generation.number(), 1);
    assert_eq!(body(port).unwrap(), "one");
}

#[test]
fn what_another_load_balancer_has_is_refused_by_name_and_not_kept() {
    let (bench, one, two) = (Bench::new(), Member::start("one"), Member::start("two"));
    let port = free_port();
    let mut amphora = bench.start("agent");
    bench.wait_until_it_listens();
    assert_eq!(bench.put(&spec(1, port, &one)).0, 200);
    let other = "00000000-0000-4000-8000-000000000077";
    let mut thief = spec(1, free_port(), &two);
    thief["load_balancer"] = json!(other);
    let put = |spec: &Value| bench.send(Method::PUT, &format!("/v1/load-balancers/{other}"), spec);
    let (status, answer) = put(&thief);
    let refused = error(answer);
    assert_eq!((status, refused.rejections.len()), (422, 3), "{refused:?}");
    assert!(
        refused.message.contains(&format!(
            "listener 00000000-0000-4000-8000-000000000002: the listener is already part of load balancer {LB}"
        )),
        "{}",
        refused.message
    );
    amphora.signal(Signal::KILL);
    amphora.wait_for_end();
    let _amphora = bench.start("agent");
    bench.wait_until_it_listens();
    assert_eq!(body(port).unwrap(), "one");
    let list = bench
        .send(Method::GET, "/v1/load-balancers", &json!(null))
        .1;
    assert_eq!(list, json!([{"id": LB, "generation": 1}]));
    let delete = format!("/v1/load-balancers/{LB}?generation=2");
    assert_eq!(bench.send(Method::DELETE, &delete, &json!(null)).0, 200);
    assert_eq!(put(&thief).0, 200, "what was let go of is free");
}

#[test]
fn a_disk_that_takes_nothing_refuses_the_spec_and_changes_nothing() {
    let (bench, one, two) = (Bench::new(), Member::start("one"), Member::start("two"));
    let port = free_port();
    let _amphora = bench.start("agent");
    bench.wait_until_it_listens();
    assert_eq!(bench.put(&spec(1, port, &one)).0, 200);
    // A folder where the temporary file would go.
    fs::create_dir(bench.path(&format!("state/load-balancers/{LB}.tmp"))).unwrap();
    let (status, answer) = bench.put(&spec(2, port, &two));
    assert_eq!(status, 507, "{answer}");
    assert_eq!(body(port).unwrap(), "one");
}

#[test]
fn only_a_controller_of_the_same_authority_may_command() {
    let bench = Bench::new();
    let _amphora = bench.start("agent");
    bench.wait_until_it_listens();
    let ask_as = |version, authority: &Authority, who: &Credentials| {
        let commander = Commander::new(authority, who, bench.id, bench.listen, version);
        commander.send(&Method::GET, "/v1/info", "")
    };
    let ask = |authority: &Authority, who: &Credentials| ask_as(Version::Http1, authority, who);
    let other_amphora = bench.authority.amphora(AmphoraId::new(Uuid::from_u128(10)));
    assert!(
        ask(&bench.authority, &other_amphora).is_err(),
        "an amphora must not command another"
    );
    let foreign = Authority::new();
    assert!(
        ask(&bench.authority, &foreign.controller()).is_err(),
        "a foreign authority's controller is none"
    );
    assert!(ask(&bench.authority, &bench.controller).is_ok());
    for who in [&bench.controller, &other_amphora] {
        assert!(
            ask_as(Version::Sessions, &bench.authority, who).is_err(),
            "who comes for sessions commands nothing"
        );
    }
}

#[test]
fn a_killed_amphora_serves_what_it_was_last_told_before_any_contact() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let port = free_port();
    let mut amphora = bench.start("agent");
    bench.wait_until_it_listens();
    assert_eq!(bench.put(&spec(3, port, &one)).0, 200);
    amphora.signal(Signal::KILL);
    amphora.wait_for_end();
    // No certificate, hence no contact: traffic does not need one.
    fs::remove_file(bench.path("certificate.pem")).unwrap();
    let amphora = bench.start("agent");
    assert_eq!(wait_for("traffic after the restart", || body(port)), "one");
    amphora.wait_for_log("deaf to controllers");
    bench.renew();
    bench.wait_until_it_listens();
    let report: Report =
        serde_json::from_value(bench.send(Method::GET, "/v1/report", &json!(null)).1).unwrap();
    assert_eq!(report.load_balancers[0].generation.number(), 3);
}

#[test]
fn a_second_process_on_the_same_state_folder_refuses() {
    let bench = Bench::new();
    let first = bench.start("agent");
    bench.wait_until_it_listens();
    let mut second = bench.start("agent");
    assert_eq!(second.wait_for_end().code(), Some(1));
    second.wait_for_log(&format!(
        "is in use by another process (pid {})",
        first.pid()
    ));
}

#[test]
fn bad_settings_end_with_78_and_all_reasons() {
    let bench = Bench::new();
    fs::write(bench.path("amphora.toml"), "listen = 5\nsurprise = 1\n").unwrap();
    let mut amphora = bench.start("agent");
    assert_eq!(amphora.wait_for_end().code(), Some(78));
    for reason in [
        "listen: ",
        "surprise: unknown field",
        "id: is required",
        "state_dir: is required",
    ] {
        amphora.wait_for_log(reason);
    }
}

#[test]
fn reports_come_at_intervals_and_at_once_when_health_changes() {
    let (bench, one) = (Bench::new(), Member::start("one"));
    let config = fs::read_to_string(bench.path("amphora.toml")).unwrap();
    fs::write(
        bench.path("amphora.toml"),
        config.replace("\"500ms\"", "\"1h\""),
    )
    .unwrap();
    let _amphora = bench.start("agent");
    let first = bench.intake.next(PATIENCE).unwrap();
    let second = bench.intake.next(PATIENCE).unwrap();
    assert_eq!(
        (first.sequence, second.sequence),
        (1, 2),
        "another was asked for, and came"
    );
    bench.wait_until_it_listens();
    let mut monitored = spec(1, free_port(), &one);
    monitored["pools"][0]["monitor"] = json!({"id": "00000000-0000-4000-8000-000000000005", "delay_ms": 20,
        "timeout_ms": 2000, "rise": 1, "fall": 1, "probe": {"type": "http", "method": "GET", "path": "/",
        "expected_codes": [{"first": 200, "last": 200}]}});
    assert_eq!(bench.put(&monitored).0, 200);
    let health = |wanted: MemberHealth| {
        move |report: &Report| {
            report
                .load_balancers
                .first()
                .is_some_and(|lb| lb.pools[0].members[0].health == wanted)
        }
    };
    bench
        .intake
        .wait_for("the member to be up", health(MemberHealth::Up));
    one.set_sick(true);
    let report = bench
        .intake
        .wait_for("the member to be down", health(MemberHealth::Down));
    let reason = report.load_balancers[0].pools[0].members[0]
        .reason
        .as_deref();
    assert!(
        reason.is_some_and(|reason| reason.contains("500")),
        "{reason:?}"
    );
    one.set_sick(false);
    let began = Instant::now();
    bench
        .intake
        .wait_for("the member to be up again", health(MemberHealth::Up));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "far below the interval of an hour"
    );
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    let bench = Bench::new();
    let amphora = bench.start("agent");
    bench.wait_until_it_listens();
    bench.renew();
    amphora.wait_for_log("the certificate was renewed");
    bench.wait_until_it_listens();
    bench
        .intake
        .wait_for("a report after the renewal", |_| true);
}

#[test]
fn settings_can_be_printed_and_verified() {
    let bench = Bench::new();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_krater-amphora"))
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = run(&["config", "default"]);
    assert!(
        code == Some(0) && text.contains("heartbeat = \"5s\""),
        "{text}"
    );
    let config = bench.path("amphora.toml");
    let check = ["config", "check", "--config", config.to_str().unwrap()];
    assert_eq!(run(&check), (Some(0), "valid\n".to_owned()));
    fs::write(bench.path("key.pem"), "nothing").unwrap();
    let (code, text) = run(&check);
    assert!(
        code == Some(78) && text.contains("key.pem: it holds no private key"),
        "{text}"
    );
}
