//! The snapshot file: convenient for people, strict all the same.

use std::collections::BTreeSet;

use krater_amphora_api::Generation;
use serde_json::{Value, json};

use super::*;
use crate::testbed::authority::{Authority, tls};

/// What is in force once that plan is.
fn world(plan: &Plan) -> World {
    let changes = plan
        .apply
        .iter()
        .map(|new| (new.load_balancer(), Some(new.clone())));
    World::default().with_all(changes, 1)
}

fn plan(balancers: Value) -> Plan {
    Plan::read(
        &json!({ "load_balancers": balancers }).to_string(),
        &Texts::default(),
        &World::default(),
    )
    .unwrap()
}

fn flaws(balancers: Value) -> Vec<String> {
    let text = json!({ "load_balancers": balancers }).to_string();
    Plan::read(&text, &Texts::default(), &World::default())
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn simple() -> Value {
    json!({
        "name": "shop", "vips": ["127.0.0.1"],
        "listeners": [{"protocol": "http", "port": 80, "default_pool": "web"}],
        "pools": [{"name": "web", "protocol": "http", "members": [{"address": "192.0.2.1", "port": 80},
            {"address": "192.0.2.2", "port": 80}]}],
    })
}

#[test]
fn ids_are_made_from_names_and_stay_the_same() {
    let first = plan(json!([simple()]));
    let snapshot = &first.apply[0];
    assert_eq!(snapshot.generation(), Generation::FIRST);
    assert_eq!(
        snapshot.listeners()[0].default_pool,
        Some(snapshot.pools()[0].id)
    );
    let mut longer = simple();
    longer["pools"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "other", "protocol": "tcp"}));
    longer["pools"][1]["members"]
        .as_array_mut()
        .unwrap()
        .remove(0);
    let second = plan(json!([longer]));
    assert_eq!(second.apply[0].load_balancer(), snapshot.load_balancer());
    assert_eq!(
        second.apply[0].listeners()[0].id,
        snapshot.listeners()[0].id
    );
    assert_eq!(second.apply[0].pools()[1].id, snapshot.pools()[0].id);
    assert_eq!(
        second.apply[0].pools()[1].members[0].id,
        snapshot.pools()[0].members[1].id
    );
}

#[test]
fn what_is_in_force_is_left_alone_and_what_changed_gets_the_next_generation() {
    let held = world(&plan(json!([simple()])));
    let mut other = simple();
    other["name"] = json!("other");
    other["listeners"][0]["port"] = json!(81);
    let text = json!({ "load_balancers": [simple(), other] }).to_string();
    let same = Plan::read(&text, &Texts::default(), &held).unwrap();
    assert_eq!(
        (same.apply.len(), same.unchanged, same.wanted.len()),
        (1, 1, 2)
    );
    let mut changed = simple();
    changed["enabled"] = json!(false);
    let text = json!({ "load_balancers": [changed] }).to_string();
    let plan = Plan::read(&text, &Texts::default(), &held).unwrap();
    assert_eq!(plan.apply[0].generation(), Generation::FIRST.next());
}

#[test]
fn a_generation_in_the_file_is_a_floor() {
    let mut numbered = simple();
    numbered["generation"] = json!(7);
    let first = plan(json!([numbered.clone()]));
    assert_eq!(first.apply[0].generation().number(), 7);
    let held = world(&first);
    numbered["listeners"][0]["port"] = json!(81);
    let text = json!({ "load_balancers": [numbered] }).to_string();
    assert_eq!(
        Plan::read(&text, &Texts::default(), &held).unwrap().apply[0]
            .generation()
            .number(),
        8
    );
}

#[test]
fn every_flaw_of_every_load_balancer_comes_out_with_its_path() {
    let found = flaws(json!([
        {"name": 5, "vips": "x", "listeners": [{"protocol": "htp", "port": "80", "what": 1}], "pools": {}},
        {"vips": [], "listeners": [{"protocol": "http", "port": 0, "default_pool": "nobody"}],
         "pools": [{"protocol": "tcp", "members": [{"address": "192.0.2.1", "port": 1, "weight": 300}]}]},
        7,
        {"name": "mixed", "vips": [],
         "listeners": [{"protocol": "http", "port": 80, "what": 1, "default_pool": "p"},
            {"protocol": "tcp", "port": 0}],
         "pools": [{"name": "p", "protocol": "http", "members": [{"address": 1, "port": 1},
            {"address": "192.0.2.1", "port": 0}],
            "monitor": {"probe": {"type": "smtp"}, "delay_ms": 0, "timeout_ms": "1s", "rise": 1, "fall": 1}}]},
    ]));
    for start in [
        "load_balancers[0].name: ",
        "load_balancers[0].vips: ",
        "load_balancers[0].listeners[0].protocol: ",
        "load_balancers[0].listeners[0].port: ",
        "load_balancers[0].listeners[0].what: unknown field",
        "load_balancers[0].pools: ",
        "load_balancers[1]: ",
        "load_balancers[1].listeners[0]: ",
        "load_balancers[1].listeners[0].default_pool: ",
        "load_balancers[1].pools[0].members[0]: ",
        "load_balancers[2]: must be an object",
        "load_balancers[3]: ",
        "load_balancers[3].listeners[0].what: unknown field",
        "load_balancers[3].listeners[1]: ",
        "load_balancers[3].pools[0].members[0].address: ",
        "load_balancers[3].pools[0].members[1]: ",
        "load_balancers[3].pools[0].monitor.probe.type: ",
        "load_balancers[3].pools[0].monitor.timeout_ms: ",
    ] {
        assert!(
            found.iter().any(|flaw| flaw.starts_with(start)),
            "{start} in {found:#?}"
        );
    }
    assert_eq!(
        found.len(),
        18,
        "and nothing that is only a consequence: {found:#?}"
    );
}

#[test]
fn a_syntax_error_names_line_and_column() {
    let flaws = Plan::read(
        "{\"load_balancers\":\n [,]}",
        &Texts::default(),
        &World::default(),
    )
    .unwrap_err();
    assert!(flaws[0].reason.contains("line 2 column 3"), "{flaws:?}");
}

#[test]
fn two_load_balancers_cannot_have_one_address() {
    let mut other = simple();
    other["name"] = json!("other");
    let found = flaws(json!([simple(), other]));
    assert_eq!(
        found,
        [
            "load_balancers[1].listeners[0]: address 127.0.0.1:80 is already that of load_balancers[0].listeners[0]"
        ]
    );
}

/// Everything the contract can say.
fn everything() -> Value {
    let id = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
    let insert = json!({
        "x_forwarded_for": true, "x_forwarded_port": true, "x_forwarded_proto": true, "x_forwarded_ip": false,
        "x_client_ip": false, "x_real_ip": false, "x_ssl_client_verify": false, "x_ssl_client_has_cert": false,
        "x_ssl_client_dn": false, "x_ssl_client_cn": false, "x_ssl_issuer": false, "x_ssl_client_sha1": false,
        "x_ssl_client_not_before": false, "x_ssl_client_not_after": false,
    });
    json!({
        "load_balancer": id(1), "name": "a", "generation": 1, "enabled": true, "vips": [{"address": "127.0.0.1"}],
        "listeners": [{"id": id(2), "name": "b", "enabled": true, "protocol": "http", "port": 80,
            "connection_limit": 5, "default_pool": id(3), "allowed_cidrs": ["10.0.0.0/8"],
            "timeouts": {"client_data_ms": 1, "member_connect_ms": 1, "member_data_ms": 1, "tcp_inspect_ms": 1},
            "insert_headers": insert,
            "tls": tls(Authority::new("authority").issue(&["a.example"])), "congestion_control": "cubic",
            "policies": [{"id": id(6), "action": {"redirect_to_url": {"url": "http://a", "code": 302}}, "rules": [
                {"subject": {"header": "x-a"}, "comparison": "regex", "value": "a+", "invert": true}]}]}],
        "pools": [{"id": id(3), "name": "c", "enabled": true, "protocol": "http", "algorithm": "source_ip",
            "members": [{"id": id(4), "name": "d", "enabled": true, "address": "192.0.2.1", "port": 80, "weight": 2,
                "backup": false, "monitor_address": "192.0.2.2", "monitor_port": 81}],
            "monitor": {"id": id(5), "enabled": true, "delay_ms": 1000, "timeout_ms": 1000, "rise": 1, "fall": 1,
                "probe": {"type": "http", "method": "GET", "path": "/", "version": "1.1", "domain_name": "a.b",
                    "expected_codes": [{"first": 200, "last": 299}]}}}],
    })
}

fn names(path: &str, value: &Value, names_found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                names(&path, value, names_found);
                names_found.insert(path);
            }
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| names(path, element, names_found)),
        _ => {}
    }
}

#[test]
fn the_shapes_are_those_of_the_contract() {
    let text = json!({ "load_balancers": [everything()] }).to_string();
    let plan = Plan::read(&text, &Texts::default(), &World::default()).unwrap();
    // Written out by the contract's types, the complete example has the same fields: neither side knows more.
    let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    names("", &everything(), &mut ours);
    names(
        "",
        &serde_json::to_value(plan.apply[0].spec()).unwrap(),
        &mut theirs,
    );
    assert_eq!(ours, theirs);
}

#[test]
fn what_stands_in_for_a_misfit_is_itself_valid() {
    let mut flaws = Vec::new();
    let mut value = json!({"vips": 1, "listeners": [1], "pools": [{"members": [1], "monitor": {"probe": {"type": "http"}}}]});
    let mut fitting = Fitting {
        flaws: &mut flaws,
        mended: HashSet::new(),
    };
    fitting.resource(&Path::Root("lb"), &mut value, shape::LOAD_BALANCER);
    let mut meaning = Vec::new();
    complete(
        "lb",
        value.as_object_mut().unwrap(),
        &mut Seen::new(),
        &mut meaning,
    );
    assert_eq!(meaning, Vec::new());
    Snapshot::parse(serde_json::from_value(value).unwrap()).unwrap();
}

#[test]
fn what_is_written_as_before_is_recognised_and_everything_else_is_read() {
    let named = |name: &str, port: u16| {
        let mut balancer = simple();
        balancer["name"] = json!(name);
        balancer["listeners"][0]["port"] = json!(port);
        balancer
    };
    let text = |balancers: Value| json!({ "load_balancers": balancers }).to_string();
    let before = Plan::read(
        &text(json!([named("a", 1), named("b", 2), named("b", 3)])),
        &Texts::default(),
        &World::default(),
    )
    .unwrap();
    let held = world(&before);
    let read = |balancers: Value| Plan::read(&text(balancers), &before.texts, &held);

    let same = read(json!([named("b", 2), named("b", 3), named("a", 1)])).unwrap();
    assert_eq!((same.unchanged, same.apply.len()), (3, 0));
    // The id of the second of two alike depends on the first: in another order they are others.
    let turned = read(json!([named("b", 3), named("b", 2)])).unwrap();
    assert_eq!((turned.unchanged, turned.apply.len()), (0, 2));
    assert_eq!(turned.wanted.len(), 2);
    // What is recognised still keeps others from what it has.
    let flaws = read(json!([named("c", 1), named("a", 1)])).unwrap_err();
    assert!(
        flaws[0]
            .to_string()
            .starts_with("load_balancers[1].listeners[0]: address"),
        "{flaws:?}"
    );
    let twice = read(json!([named("a", 1), named("a", 1)])).unwrap_err();
    assert!(
        twice[0].to_string().contains("address 127.0.0.1:1"),
        "{twice:?}"
    );
    // Known, but no longer in force.
    let again = Plan::read(
        &text(json!([named("a", 1)])),
        &before.texts,
        &World::default(),
    )
    .unwrap();
    assert_eq!((again.unchanged, again.apply.len()), (0, 1));
    assert!(
        held.balancers
            .get(&again.apply[0].load_balancer())
            .is_some(),
        "under the same id"
    );
}
