//! Bodies: those that routes ask for, what can be done to them, and any JSON at all.

use http::Method;
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Value, json};

use super::path;

/// What is done to a body, at one of its places.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    Remove(Index),
    Replace(Index, Value),
    /// A key that nobody knows, or that another route knows, in one of the objects.
    Add(Index, String, Value),
    /// An entry of a list once more.
    Repeat(Index),
    /// The value at one place, at another.
    Copy(Index, Index),
}

/// A few doings, or none.
pub(super) fn doings() -> impl Strategy<Value = Vec<Doing>> {
    let at = any::<Index>;
    let key = prop_oneof![3 => select(KEYS).prop_map(String::from), 1 => ".{0,12}"];
    let doing = prop_oneof![
        2 => at().prop_map(Doing::Remove),
        2 => at().prop_map(|at| Doing::Replace(at, Value::Null)),
        6 => (at(), leaf()).prop_map(|(at, value)| Doing::Replace(at, value)),
        1 => (at(), arbitrary_json()).prop_map(|(at, value)| Doing::Replace(at, value)),
        4 => (at(), key, leaf()).prop_map(|(at, key, value)| Doing::Add(at, key, value)),
        1 => at().prop_map(Doing::Repeat),
        1 => (at(), at()).prop_map(|(from, to)| Doing::Copy(from, to)),
    ];
    vec(doing, 0..4)
}

/// Any JSON, some of it with keys that the API knows.
pub(super) fn arbitrary_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![3 => select(KEYS).prop_map(String::from), 1 => ".{0,8}"];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            btree_map(key, inner, 0..6).prop_map(|object| object.into_iter().collect()),
        ]
    })
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => select(NUMBERS).prop_map(Value::from),
        3 => select(INTEGERS).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        4 => select(TEXTS).prop_map(Value::from),
        1 => ".{0,20}".prop_map(Value::from),
        1 => (select(vec!["x", "\u{1f980}", "\0", "9", "a."]), select(vec![64_usize, 255, 256, 5_000]))
            .prop_map(|(text, times)| Value::from(text.repeat(times))),
        1 => Just(json!([])),
        1 => Just(json!({})),
    ]
}

/// What was done to the body, done.
pub(super) fn spoil(mut body: Value, doings: &[Doing]) -> Value {
    for doing in doings {
        let places = places(&body);
        match doing {
            Doing::Remove(at) => remove(&mut body, pick(&places, *at)),
            Doing::Replace(at, value) => put(&mut body, pick(&places, *at), value.clone()),
            Doing::Add(at, key, value) => {
                let objects = places_of(&body, &places, Value::is_object);
                if !objects.is_empty()
                    && let Some(Value::Object(object)) = body.pointer_mut(pick(&objects, *at))
                {
                    object.insert(key.clone(), value.clone());
                }
            }
            Doing::Repeat(at) => {
                let lists = places_of(&body, &places, Value::is_array);
                if !lists.is_empty()
                    && let Some(Value::Array(list)) = body.pointer_mut(pick(&lists, *at))
                {
                    list.extend(list.first().cloned());
                }
            }
            Doing::Copy(from, to) => {
                let value = body.pointer(pick(&places, *from)).cloned();
                put(&mut body, pick(&places, *to), value.unwrap_or_default());
            }
        }
    }
    body
}

/// JSON pointers to all values, the whole first.
fn places(body: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut next = 0;
    while let Some(place) = found.get(next).cloned() {
        match body.pointer(&place) {
            Some(Value::Object(object)) => found.extend(object.keys().map(|key| {
                let key = key.replace('~', "~0").replace('/', "~1");
                format!("{place}/{key}")
            })),
            Some(Value::Array(list)) => {
                found.extend((0..list.len()).map(|at| format!("{place}/{at}")))
            }
            _ => {}
        }
        next += 1;
    }
    found
}

/// Those of the places where there is something of a kind.
fn places_of(body: &Value, places: &[String], is_kind: fn(&Value) -> bool) -> Vec<String> {
    let of_kind = places
        .iter()
        .filter(|place| body.pointer(place).is_some_and(is_kind));
    of_kind.cloned().collect()
}

fn pick(places: &[String], at: Index) -> &str {
    at.get(places).as_str()
}

fn put(body: &mut Value, place: &str, value: Value) {
    if let Some(old) = body.pointer_mut(place) {
        *old = value;
    }
}

fn remove(body: &mut Value, place: &str) {
    let Some((parent, key)) = place.rsplit_once('/') else {
        *body = Value::Null;
        return;
    };
    match body.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(list)) => {
            if let Some(at) = key.parse().ok().filter(|at| *at < list.len()) {
                list.remove(at);
            }
        }
        _ => {}
    }
}

/// What the route asks for, with every field that can be had; an empty object where it asks for nothing.
pub(super) fn of_route(method: &Method, path: &str, names: &[(&'static str, String)]) -> Value {
    let fill = |text: &str| path::fill(text, names);
    let end = path.split("lbaas/").nth(1).unwrap_or_default();
    match (method.as_str(), end) {
        ("POST", "loadbalancers") => {
            let mut balancer = balancer();
            balancer["loadbalancer"]["flavor_id"] = fill("{flavor}").into();
            balancer["loadbalancer"]["availability_zone"] = fill("{zone}").into();
            balancer
        }
        ("PUT", "loadbalancers/{balancer}") => json!({"loadbalancer": {
            "name": "edge", "description": "d", "admin_state_up": true, "tags": ["prod"],
        }}),
        ("POST", "listeners") => {
            let mut listener = listener(8080);
            listener["loadbalancer_id"] = fill("{balancer}").into();
            listener["default_pool_id"] = fill("{pool}").into();
            json!({"listener": listener})
        }
        ("PUT", "listeners/{listener}") => {
            let mut listener = listener(80);
            let object = listener.as_object_mut().expect("an object");
            object.retain(|key, _| !key.starts_with("protocol") && key != "l7policies");
            object.insert("default_pool_id".into(), fill("{pool}").into());
            json!({"listener": listener})
        }
        ("POST", "pools") => json!({"pool": {
            "loadbalancer_id": fill("{balancer}"), "listener_id": null, "protocol": "HTTP",
            "lb_algorithm": "SOURCE_IP", "name": "other", "description": "", "admin_state_up": true, "tags": [],
            "session_persistence": null, "tls_enabled": false, "tls_ciphers": "HIGH", "tls_versions": ["TLSv1.3"],
            "alpn_protocols": ["http/1.1"], "tls_container_ref": null, "ca_tls_container_ref": null,
            "crl_container_ref": null,
        }}),
        ("PUT", "pools/{pool}") => json!({"pool": {
            "session_persistence": null, "tls_enabled": null, "tls_versions": null, "crl_container_ref": "",
            "name": "app", "description": null, "admin_state_up": true, "lb_algorithm": "LEAST_CONNECTIONS", "tags": ["a"],
        }}),
        ("POST", "pools/{pool}/members") => json!({"member": member("10.1.0.9", 80)}),
        ("PUT", "pools/{pool}/members") => {
            json!({"members": [member("10.1.0.1", 80), member("10.1.0.8", 80), member("2001:db8::8", 81)]})
        }
        ("PUT", "pools/{pool}/members/{member}") => json!({"member": {
            "name": "m", "admin_state_up": true, "weight": 9, "backup": false, "monitor_address": "10.1.0.7",
            "monitor_port": 9000, "tags": ["a"],
        }}),
        ("POST", "healthmonitors") => {
            let mut monitor = monitor();
            monitor["pool_id"] = fill("{unmonitored}").into();
            json!({"healthmonitor": monitor})
        }
        ("PUT", "healthmonitors/{monitor}") => {
            let mut monitor = monitor();
            monitor.as_object_mut().expect("an object").remove("type");
            json!({"healthmonitor": monitor})
        }
        ("POST", "l7policies") => {
            let mut policy = policy();
            policy["listener_id"] = fill("{listener}").into();
            json!({"l7policy": policy})
        }
        ("PUT", "l7policies/{policy}") => {
            let mut policy = policy();
            policy["redirect_pool_id"] = fill("{pool}").into();
            policy["action"] = "REDIRECT_TO_POOL".into();
            json!({"l7policy": policy})
        }
        ("POST", "l7policies/{policy}/rules") => json!({"rule": rule()}),
        ("PUT", "l7policies/{policy}/rules/{rule}") => json!({"rule": rule()}),
        _ => of_shelf(method, end, names),
    }
}

/// The same for flavors, zones and profiles.
fn of_shelf(method: &Method, end: &str, names: &[(&'static str, String)]) -> Value {
    let fill = |text: &str| path::fill(text, names);
    match (method.as_str(), end) {
        ("POST", "flavorprofiles") => json!({"flavorprofile": flavor_profile()}),
        ("PUT", "flavorprofiles/{flavor_profile}") => {
            json!({"flavorprofile": {"name": "renamed", "provider_name": "amphora", "flavor_data": "{}"}})
        }
        ("POST", "flavors") => {
            json!({"flavor": offer("flavor_profile_id", &fill("{flavor_profile}"))})
        }
        ("PUT", "flavors/{flavor}") => {
            json!({"flavor": {"name": "tiny", "description": null, "enabled": true}})
        }
        ("POST", "availabilityzoneprofiles") => {
            json!({"availability_zone_profile": zone_profile()})
        }
        ("PUT", "availabilityzoneprofiles/{zone_profile}") => {
            json!({"availability_zone_profile": {"name": "renamed"}})
        }
        ("POST", "availabilityzones") => {
            json!({"availability_zone": offer("availability_zone_profile_id", &fill("{zone_profile}"))})
        }
        ("PUT", "availabilityzones/{zone}") => {
            json!({"availability_zone": {"description": "d", "enabled": true}})
        }
        _ => json!({}),
    }
}

fn flavor_profile() -> Value {
    json!({
        "name": "gold", "provider_name": "octavia",
        "flavor_data": "{\"krater_tenancy\": \"dedicated\", \"krater_connections_max\": 100}",
    })
}

fn zone_profile() -> Value {
    json!({
        "name": "rack", "provider_name": "amphora",
        "availability_zone_data": "{\"compute_zone\": \"local\", \"valid_vip_networks\": [\"00000000-0000-4000-8000-000000000003\"]}",
    })
}

fn offer(profile_key: &str, profile: &str) -> Value {
    json!({"name": "large", "description": "d", "enabled": true, profile_key: profile})
}

fn balancer() -> Value {
    let mut listener = listener(443);
    listener["default_pool"] = json!({"name": "web"});
    let mut inline = self::listener(444);
    let mut first = policy();
    first["rules"] = json!([rule(), rule()]);
    listener["l7policies"] = json!([
        first,
        {"action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "web"}},
        {"action": "REDIRECT_TO_POOL", "redirect_pool": {
            "name": "third", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}},
    ]);
    inline["default_pool"] = json!({
        "name": "inline", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member("10.1.0.1", 80)],
        "healthmonitor": monitor(),
    });
    json!({"loadbalancer": {
        "name": "edge-2", "description": "public", "admin_state_up": true, "project_id": "p", "provider": "amphora",
        "vip_address": null, "vip_port_id": null, "vip_subnet_id": "00000000-0000-4000-8000-000000000002",
        "vip_network_id": null, "additional_vips": [{"subnet_id": "00000000-0000-4000-8000-000000000004", "ip_address": "10.0.0.9"}],
        "tags": ["prod", "blue"], "vip_sg_ids": [],
        "listeners": [listener, inline],
        "pools": [{
            "name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [member("10.1.0.1", 80), member("10.1.0.2", 80)], "healthmonitor": monitor(),
        }],
    }})
}

fn listener(port: u16) -> Value {
    json!({
        "name": "web", "description": "", "admin_state_up": true, "protocol": "HTTP", "protocol_port": port,
        "connection_limit": 2000, "allowed_cidrs": ["10.0.0.0/8", "192.0.2.7"], "tags": ["a"],
        "insert_headers": {"X-Forwarded-For": "true", "X-Forwarded-Port": "true", "X-Forwarded-Proto": "false"},
        "timeout_client_data": 50_000, "timeout_member_connect": 5_000, "timeout_member_data": 50_000,
        "timeout_tcp_inspect": 0, "l7policies": [], "sni_container_refs": [], "client_authentication": "NONE",
        "default_tls_container_ref": null, "client_ca_tls_container_ref": null, "client_crl_container_ref": null,
        "tls_ciphers": "ECDHE-RSA-AES128-GCM-SHA256", "tls_versions": ["TLSv1.2", "TLSv1.3"],
        "alpn_protocols": ["h2", "http/1.1"], "hsts_max_age": null, "hsts_include_subdomains": false,
        "hsts_preload": false,
    })
}

fn policy() -> Value {
    json!({
        "name": "to-shop", "description": "", "admin_state_up": true, "action": "REDIRECT_PREFIX",
        "redirect_prefix": "https://shop.example.test", "redirect_http_code": 308, "position": 1, "tags": ["a"],
    })
}

fn rule() -> Value {
    json!({
        "type": "HEADER", "compare_type": "REGEX", "key": "X-A", "value": "^v[0-9]+$", "invert": true,
        "admin_state_up": true, "tags": ["a"],
    })
}

fn member(address: &str, port: u16) -> Value {
    json!({
        "name": "m", "admin_state_up": true, "address": address, "protocol_port": port, "weight": 3, "backup": false,
        "subnet_id": null, "monitor_address": null, "monitor_port": 8080, "request_sriov": false, "tags": [],
    })
}

fn monitor() -> Value {
    json!({
        "name": "ready", "admin_state_up": true, "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2,
        "max_retries_down": 3, "http_method": "GET", "url_path": "/ready?deep=1", "expected_codes": "200-204",
        "http_version": 1.1, "domain_name": "app.example.test", "tags": [],
    })
}

/// Bodies that are no JSON, or are so in an odd way.
pub(super) const ODD: &[&str] = &[
    "",
    " \n",
    "null",
    "{",
    "{}",
    "[]",
    "1e999",
    "{\"pool\": 1e999}",
    "{\"member\": {\"weight\": 1e308, \"weight\": -0.0}}",
    "\"\\ud800\"",
    "{\"listener\": {}, \"listener\": null}",
    "\u{feff}{}",
    "{\"loadbalancer\": {\"vip_subnet_id\": \"{00000000-0000-4000-8000-000000000002}\"}}",
    "NaN",
];

const KEYS: &[&str] = &[
    "loadbalancer",
    "loadbalancers",
    "listener",
    "listeners",
    "pool",
    "pools",
    "member",
    "members",
    "healthmonitor",
    "l7policies",
    "rules",
    "action",
    "redirect_pool",
    "redirect_url",
    "compare_type",
    "value",
    "key",
    "position",
    "id",
    "name",
    "admin_state_up",
    "project_id",
    "tenant_id",
    "tags",
    "protocol",
    "protocol_port",
    "default_pool",
    "default_pool_id",
    "vip_address",
    "vip_subnet_id",
    "additional_vips",
    "weight",
    "address",
    "monitor_port",
    "request_sriov",
    "persistence_timeout",
    "persistence_granularity",
    "cookie_name",
    "tls_versions",
    "sni_container_refs",
    "client_ca_tls_container_ref",
    "client_crl_container_ref",
    "crl_container_ref",
    "ca_tls_container_ref",
    "type",
    "delay",
    "session_persistence",
    "tls_enabled",
    "tls_ciphers",
    "hsts_max_age",
    "hsts_preload",
    "default_tls_container_ref",
    "client_authentication",
    "alpn_protocols",
    "insert_headers",
    "X-SSL-Client-Verify",
    "X-Real-IP",
    "flavor_id",
    "availability_zone",
    "flavorprofile",
    "flavor_data",
    "provider_name",
    "enabled",
    "",
];
const NUMBERS: &[f64] = &[
    0.0, -0.0, 1.0, 1.1, 1.5, -1.5, 80.9, 1e15, 9.3e18, -9.3e18, 1e300, -1e300, 5e-324,
];
const INTEGERS: &[i64] = &[
    -2,
    -1,
    0,
    1,
    2,
    10,
    11,
    80,
    256,
    257,
    65_535,
    65_536,
    2_073_600,
    2_073_601,
    2_147_483_647,
    2_147_483_648,
    4_294_967_296,
    i64::MAX,
    i64::MIN,
];
const TEXTS: &[&str] = &[
    "",
    " ",
    "true",
    "no",
    "0",
    "1",
    " 80 ",
    "+8",
    "-1",
    "99999999999999999999",
    "1.1",
    "web",
    "TCP",
    "HTTP",
    "UDP",
    "HTTPS",
    "PROMETHEUS",
    "TERMINATED_HTTPS",
    "SOURCE_IP",
    "APP_COOKIE",
    "HTTP_COOKIE",
    "SOURCE_IP_PORT",
    "SCTP",
    "PROXYV2",
    "UDP-CONNECT",
    "OPTIONAL",
    "MANDATORY",
    "TLSv1.3",
    "SSLv3",
    "h2",
    "HIGH:!aNULL",
    "PING",
    "REJECT",
    "REDIRECT_TO_POOL",
    "REDIRECT_TO_URL",
    "FILE_TYPE",
    "SSL_VERIFY_RESULT",
    "EQUAL_TO",
    "REGEX",
    "(a{1000}){1000}",
    "http://a.test/",
    "TLS-HELLO",
    "CONNECT",
    "/",
    "/a b",
    "/%zz",
    "/\\",
    "200,201",
    "204-200",
    "099",
    "600",
    "200-",
    "example.test.",
    "-a.test",
    "a..b",
    "a:80",
    "10.1.0.1",
    "::ffff:10.1.0.1",
    "0.0.0.0",
    "::",
    "fe80::1%eth0",
    "169.254.169.254",
    "255.255.255.255",
    "224.0.0.1",
    "10.0.0.2",
    "010.0.0.1",
    "10.0.0.0/8",
    "10.0.0.0/033",
    "::/0",
    "::ffff:0:0/96",
    "00000000-0000-4000-8000-000000000002",
    "{00000000-0000-4000-8000-000000000002}",
    "urn:uuid:00000000-0000-4000-8000-000000000002",
    "00000000000000000000000000000000",
    "amphora",
    "octavia",
    "{\"compute_zone\": \"moon\"}",
    "{\"krater_tenancy\": 7}",
    "[{}]",
    "x\r\ny: z",
    "\0",
    "\u{1f980}",
];
