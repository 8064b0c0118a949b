//! Several controllers on one database, without anything before them: the client asks them in turn.

use std::{io::Write as _, process::Command, thread, time::Duration};

use krater_tests::{
    HostedAmphorae, HttpMember, Krater, Load, Namespace, Octavia, Postgres, Signal, binary,
    krater_host_json, run_to_end, until,
};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, ask, listener_json, member_json, text};

/// Controllers with a state folder each, on a database that they share. Fields are dropped in this order.
struct House {
    controllers: Vec<Krater>,
    _settings: tempfile::NamedTempFile,
    database: Postgres,
    _network: Namespace,
}

impl House {
    fn of(count: u16) -> Self {
        Self::with(count, "[fleet]\nheartbeat = \"500ms\"\nsilence = \"30s\"\n")
    }

    fn with(count: u16, fleet: &str) -> Self {
        let network = Namespace::enter_new();
        let database = Postgres::start();
        let (url, _) = database.database();
        let ports = (0..count).map(|number| 9_900 + number * 10);
        let intakes: Vec<String> = ports
            .clone()
            .map(|port| format!("\"127.0.0.1:{}\"", port + 1))
            .collect();
        let mut settings = tempfile::NamedTempFile::new().expect("a file for settings");
        let text = format!(
            "[store]\nurl = \"{url}\"\n[intake]\ncontrollers = [{}]\n{fleet}",
            intakes.join(", ")
        );
        settings
            .write_all(text.as_bytes())
            .expect("settings are written");
        let path = settings.path().to_string_lossy().into_owned();
        let mut controllers: Vec<Krater> = ports
            .map(|port| {
                Krater::prepare("controller", &["--config", &path])
                    .at(port)
                    .with_variable(
                        "KRATER_SEAL_KEY",
                        "the same secret for all controllers here",
                    )
            })
            .collect();
        // Side by side: each of them finds an empty database, or one that is being filled.
        thread::scope(|scope| {
            for controller in &mut controllers {
                // The namespace is the thread's.
                let network = &network;
                scope.spawn(move || network.run(|| controller.resume()));
            }
        });
        Self {
            controllers,
            _settings: settings,
            database,
            _network: network,
        }
    }

    fn api(&self, number: usize) -> Octavia {
        self.controllers[number].api()
    }
}

/// A load balancer with an HTTP listener and a member, created through `api`: its id, its VIP, its pool.
fn create(
    api: &mut Octavia,
    name: &str,
    member: &HttpMember,
) -> (String, std::net::IpAddr, String) {
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let created = api.create_tree(name, &json!([listener_json("HTTP", 80, &pool)]));
    let vip = text(&created["vip_address"]).parse().expect("an address");
    (text(&created["id"]), vip, text(&created["pools"][0]["id"]))
}

/// Changes something through `api`: a member with this port, which gets no traffic. `None` when no answer came.
fn add_member(api: &mut Octavia, pool: &str, port: usize) -> Option<u16> {
    let body = json!({"member": {"address": "127.0.0.1", "protocol_port": port, "weight": 0}});
    let reply = api.try_call("POST", &format!("pools/{pool}/members"), Some(&body));
    reply.ok().map(|reply| reply.status)
}

fn ports(api: &mut Octavia, pool: &str) -> Vec<u64> {
    let shown = api.get(&format!("pools/{pool}/members"));
    let members = shown["members"].as_array().cloned().unwrap_or_default();
    let mut ports: Vec<u64> = members
        .iter()
        .filter_map(|member: &Value| member["protocol_port"].as_u64())
        .collect();
    ports.sort_unstable();
    ports
}

#[test]
fn what_one_controller_creates_is_served_and_active_at_the_others() {
    let house = House::of(3);
    let member = HttpMember::start("a", "127.0.0.1:0");
    for number in 0..6 {
        let (id, vip, pool) = create(&mut house.api(number % 3), &format!("lb{number}"), &member);
        for other in 0..3 {
            house.api(other).wait_active(&id, SETTLE_MAX);
            assert_eq!(
                add_member(&mut house.api(other), &pool, 2_000 + other),
                Some(201)
            );
        }
        assert_eq!(ask((vip, 80).into(), 2).get("a"), Some(&2));
        for other in 0..3 {
            house.api(other).wait_active(&id, SETTLE_MAX);
            assert_eq!(ports(&mut house.api(other), &pool).len(), 4);
        }
    }
    // All of them on amphorae that were started once.
    let amphorae = house.api(1).get("/v2.0/octavia/amphorae");
    assert_eq!(
        amphorae["amphorae"].as_array().map(Vec::len),
        Some(1),
        "{amphorae}"
    );
    // Counted by whichever of them the amphora reports to.
    for other in 0..3 {
        until("requests are counted everywhere", NOTICE_MAX, || {
            let (mut api, mut total) = (house.api(other), 0);
            let listed = api.get("loadbalancers");
            for balancer in listed["loadbalancers"].as_array().into_iter().flatten() {
                let path = format!("loadbalancers/{}/stats", text(&balancer["id"]));
                total += api.get(&path)["stats"]["total_connections"]
                    .as_u64()
                    .unwrap_or(0);
            }
            total == 12
        });
    }
}

#[test]
fn hosts_are_attended_to_by_another_controller_when_one_dies_and_so_is_what_a_lost_one_carried() {
    let fleet = "[fleet]\non_this_host = false\nheartbeat = \"500ms\"\nsilence = \"3s\"\n";
    let mut house = House::with(2, fleet);
    let krater = |controller: u16, arguments: &[&str]| {
        let endpoint = format!("http://127.0.0.1:{}", 9_900 + controller * 10);
        let mut all = arguments.to_vec();
        all.extend(["--endpoint", &endpoint]);
        krater_host_json(&all)
    };
    // Through one and the other: either lets hosts in, and both know them.
    let mut hosts: Vec<(&str, HostedAmphorae)> = Vec::new();
    for (number, name) in (0..).zip(["one", "two", "three"]) {
        let made = krater(number % 2, &["token"]);
        let controller = format!("https://127.0.0.1:{}", 9_901 + (number % 2) * 10);
        let token = text(&made["token"]);
        let host = HostedAmphorae::join_at(&controller, &token, name, 9_880 + number);
        hosts.push((name, host));
    }
    let carriers = |controller: u16| -> Vec<(String, u64)> {
        let listed = krater(controller, &["list"]);
        let all = listed["hosts"].as_array().cloned().unwrap_or_default();
        let ready = all
            .iter()
            .filter(|host| host["amphorae"][0]["status"] == "ALLOCATED");
        ready
            .map(|host| {
                let count = host["load_balancers"].as_u64().unwrap_or_default();
                (text(&host["name"]), count)
            })
            .collect()
    };
    until("all hosts have an amphora ready", NOTICE_MAX, || {
        carriers(0).len() == 3 && carriers(1).len() == 3
    });
    let member = HttpMember::start("a", "127.0.0.1:0");
    let (id, vip, _) = create(&mut house.api(0), "lb", &member);
    house.api(1).wait_active(&id, SETTLE_MAX);
    house.controllers[0].kill_controller();
    let carrier = carriers(1).into_iter().find(|(_, count)| *count == 1);
    let (from, _) = carrier.expect("a host carries it");
    let lost = hosts.iter_mut().find(|(name, _)| *name == from);
    lost.expect("the host").1.die();
    until("it is served elsewhere", NOTICE_MAX, || {
        krater_tests::fetch((vip, 80).into(), "/").is_ok_and(|answer| answer.status == 200)
    });
    house.api(1).wait_active(&id, NOTICE_MAX);
    house.controllers[0].resume();
    house.api(0).wait_active(&id, NOTICE_MAX);
    assert_eq!(ask((vip, 80).into(), 1).get("a"), Some(&1));
}

#[test]
fn a_controller_killed_during_changes_loses_none_and_another_one_finishes_them() {
    let mut house = House::of(2);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let (id, vip, pool) = create(&mut house.api(0), "lb", &member);
    house.api(1).wait_active(&id, SETTLE_MAX);
    let mut load = Load::new();
    load.add_http((vip, 80).into(), 2, Duration::from_millis(10));
    let mut acknowledged = Vec::new();
    let mut api = house.api(0);
    for port in 2_000..2_020 {
        if add_member(&mut api, &pool, port) == Some(201) {
            acknowledged.push(port as u64);
        }
    }
    assert_eq!(acknowledged.len(), 20);
    house.controllers[0].kill_controller();
    let mut api = house.api(1);
    // Within the time of a lease and a sweep.
    api.wait_active(&id, NOTICE_MAX);
    let found = ports(&mut api, &pool);
    for port in &acknowledged {
        assert!(found.contains(port), "{port} is lost: {found:?}");
    }
    for port in 2_020..2_025 {
        assert_eq!(add_member(&mut api, &pool, port), Some(201));
    }
    api.wait_active(&id, SETTLE_MAX);
    // Reports go to who is left, so that nobody counts as silent.
    let listed = api.get("/v2.0/octavia/amphorae");
    assert_eq!(listed["amphorae"][0]["status"], "ALLOCATED", "{listed}");
    house.controllers[0].resume();
    assert_eq!(ports(&mut house.api(0), &pool), ports(&mut api, &pool));
    assert_eq!(add_member(&mut house.api(0), &pool, 2_030), Some(201));
    house.api(0).wait_active(&id, SETTLE_MAX);
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

#[test]
fn a_controller_stopped_in_the_middle_of_changes_overwrites_nothing_when_it_goes_on() {
    let mut house = House::of(2);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let other = HttpMember::start("b", "127.0.0.1:0");
    let (id, vip, pool) = create(&mut house.api(0), "lb", &member);
    house.api(1).wait_active(&id, SETTLE_MAX);
    for round in 0..3 {
        // Somebody goes on asking the one that is stopped at a moment that nobody chose.
        let mut busy = house.api(0);
        let path = pool.clone();
        let writer = thread::spawn(move || {
            let mut acknowledged = Vec::new();
            for port in 0..80 {
                let port = 3_000 + round * 80 + port;
                match add_member(&mut busy, &path, port) {
                    Some(201) => acknowledged.push(port as u64),
                    _ => break,
                }
            }
            acknowledged
        });
        let mut api = house.api(1);
        until("some are stored", SETTLE_MAX, || {
            ports(&mut api, &pool)
                .iter()
                .any(|port| *port >= 3_000 + round as u64 * 80)
        });
        house.controllers[0].program().signal(Signal::STOP);
        // What the other one changes meanwhile stays.
        let body = json!({"member": {"address": "127.0.0.1", "protocol_port": other.address().port(), "weight": 1}});
        if round == 0 {
            api.post(&format!("pools/{pool}/members"), &body);
        }
        api.wait_active(&id, NOTICE_MAX);
        let shown = api.get(&format!("loadbalancers/{id}"));
        assert_eq!(
            shown["loadbalancer"]["operating_status"], "ONLINE",
            "{shown}"
        );
        house.controllers[0].program().signal(Signal::CONT);
        let acknowledged = writer.join().expect("the writer ends");
        house.api(0).wait_active(&id, SETTLE_MAX);
        for number in 0..2 {
            let found = ports(&mut house.api(number), &pool);
            for port in &acknowledged {
                assert!(found.contains(port), "{port} is lost: {found:?}");
            }
        }
        assert!(ask((vip, 80).into(), 6).contains_key("b"));
    }
}

#[test]
fn a_database_that_is_away_is_told_and_traffic_and_changes_go_on_after_it() {
    let house = House::of(2);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let (id, vip, pool) = create(&mut house.api(0), "lb", &member);
    house.api(1).wait_active(&id, SETTLE_MAX);
    house.database.kill();
    for number in 0..2 {
        let mut api = house.api(number);
        let reply = api.call("GET", &format!("loadbalancers/{id}"), None);
        assert_eq!(reply.status, 503, "{}", reply.body);
        assert!(reply.fault().contains("database"), "{}", reply.body);
        assert_eq!(add_member(&mut api, &pool, 2_000 + number), Some(503));
    }
    assert_eq!(
        ask((vip, 80).into(), 3).get("a"),
        Some(&3),
        "traffic goes on"
    );
    house.database.resume();
    for number in 0..2 {
        let mut api = house.api(number);
        until("it is back", NOTICE_MAX, || {
            add_member(&mut api, &pool, 2_000 + number) == Some(201)
        });
    }
    for number in 0..2 {
        house.api(number).wait_active(&id, SETTLE_MAX);
        assert_eq!(ports(&mut house.api(number), &pool).len(), 3);
    }
}

#[test]
fn load_balancers_move_and_go_whoever_is_asked() {
    let house = House::of(2);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let (id, vip, _) = create(&mut house.api(0), "lb", &member);
    house.api(1).wait_active(&id, SETTLE_MAX);
    let on = |number: usize| {
        let listed = house
            .api(number)
            .get(&format!("/v2.0/octavia/amphorae?loadbalancer_id={id}"));
        text(&listed["amphorae"][0]["id"])
    };
    let first = on(0);
    assert_eq!(on(1), first);
    house
        .api(1)
        .call("PUT", &format!("loadbalancers/{id}/failover"), None)
        .expect(202);
    until("it has moved", NOTICE_MAX, || {
        let shown = house.api(0).get(&format!("loadbalancers/{id}"));
        shown["loadbalancer"]["provisioning_status"] == "ACTIVE" && on(0) != first && on(1) == on(0)
    });
    assert_eq!(ask((vip, 80).into(), 3).get("a"), Some(&3));
    house
        .api(0)
        .call("DELETE", &format!("loadbalancers/{id}?cascade=true"), None)
        .expect(204);
    for number in 0..2 {
        until("it is gone", SETTLE_MAX, || {
            house
                .api(number)
                .call("GET", &format!("loadbalancers/{id}"), None)
                .status
                == 404
        });
    }
    // Nor does any of them take it for placed, which would count where there is room.
    for number in 0..2 {
        until("it is on no amphora", SETTLE_MAX, || {
            let listed = house
                .api(number)
                .get(&format!("/v2.0/octavia/amphorae?loadbalancer_id={id}"));
            listed["amphorae"].as_array().is_some_and(Vec::is_empty)
        });
    }
    // Its address is free again, for whoever is asked.
    let body = json!({"loadbalancer": {"name": "again", "vip_address": vip.to_string(), "vip_subnet_id": "local-v4"}});
    let subnets = house.api(1).get("/v2.0/subnets");
    let subnet = subnets["subnets"].as_array().and_then(|all| {
        all.iter()
            .find(|subnet| subnet["name"] == "local-v4")
            .map(|subnet| text(&subnet["id"]))
    });
    let mut body = body;
    body["loadbalancer"]["vip_subnet_id"] = json!(subnet);
    house.api(1).post("loadbalancers", &body);
}

#[test]
fn what_the_database_cannot_keep_is_refused_like_anything_else_that_is_wrong() {
    let house = House::of(1);
    let mut api = house.api(0);
    let subnet = api.subnet("local-v4");
    for (field, value) in [
        ("name", json!("a\0b")),
        ("description", json!("\0")),
        ("tags", json!(["\0"])),
        ("availability_zone", json!("z\0")),
    ] {
        let mut body = json!({"loadbalancer": {"vip_subnet_id": subnet}});
        body["loadbalancer"][field] = value;
        let reply = api.call("POST", "loadbalancers", Some(&body));
        assert_eq!(reply.status, 400, "{field}: {}", reply.body);
        assert!(reply.fault().contains("NUL"), "{}", reply.body);
    }
    let reply = api.call("GET", "loadbalancers?name=a%00b", None);
    assert_eq!(reply.status, 400, "{}", reply.body);
    let reply = api.call("GET", "availabilityzones/a%00b", None);
    assert_eq!(reply.status, 404, "{}", reply.body);
    // What was refused is in the audit trail, which goes on.
    until("the refusals are noted", Duration::from_secs(15), || {
        let mut command = Command::new(binary("krater"));
        command.args(["audit", "list", "--output", "json"]);
        command.env("KRATER_ENDPOINT", "http://127.0.0.1:9900");
        let (_, said) = run_to_end(&mut command, Duration::from_secs(20));
        said.matches("NUL").count() >= 4
    });
}

#[test]
fn another_authority_waits_for_controllers_that_have_not_followed_and_not_for_those_that_are_gone()
{
    let mut house = House::of(3);
    let rotate = |house: &House| {
        let reply = house
            .api(0)
            .call("POST", "/krater/v1/authority/rotate", None);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    };
    let waits = |said: &Value| said["waiting"].to_string().contains("controller");
    // Each tells every second that it is there.
    thread::sleep(Duration::from_secs(2));
    // One is dead, and one is stopped.
    house.controllers[2].kill_controller();
    house.controllers[1].program().signal(Signal::STOP);
    assert_eq!(rotate(&house)["phase"], "announced");
    let said = rotate(&house);
    assert!(waits(&said) && said["phase"] == "announced", "{said}");
    house.controllers[1].program().signal(Signal::CONT);
    until("both have followed", NOTICE_MAX, || {
        let said = rotate(&house);
        said["phase"] == "switched" && !waits(&said)
    });
}
