//! Load balancers created with all their children at once (reference 17).

use krater_controller_core::rules::Rules;
use krater_controller_core::{
    command::{Command, NewLoadBalancer, PoolRef},
    model::{L7Action, LbAlgorithm, ListenerProtocol, MonitorKind, PoolProtocol},
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{
        LISTENER, LOAD_BALANCER, MEMBER_1, MEMBER_2, MONITOR, POLICY, POOL, PROJECT, RULE, SUBNET,
    },
};

const PATH: &str = "/v2.0/lbaas/loadbalancers";

fn new(children: &Value) -> Value {
    let mut body = json!({"vip_subnet_id": SUBNET});
    body.as_object_mut()
        .unwrap()
        .extend(children.as_object().unwrap().clone());
    json!({"loadbalancer": body})
}

async fn created(api: &Api, children: Value) -> NewLoadBalancer {
    let reply = api.post(PATH, new(&children)).await;
    assert_eq!(reply.status, 201, "{children}: {reply:?}");
    match api.command() {
        Command::CreateLoadBalancer(new) => *new,
        other => panic!("{other:?}"),
    }
}

fn web(port: u16, pool: Value) -> Value {
    json!({"protocol": "HTTP", "protocol_port": port, "default_pool": pool})
}

fn app(name: &str) -> Value {
    json!({"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"})
}

#[tokio::test]
async fn a_whole_tree_is_taken_word_for_word() {
    let api = Api::new();
    let new = created(
        &api,
        json!({"name": "edge-2",
            "listeners": [
                {"name": "web", "protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "app"},
                    "l7policies": [], "insert_headers": {"X-Forwarded-For": "true"}, "tags": ["t"]},
                {"name": "raw", "protocol": "TCP", "protocol_port": 81},
                {"name": "files", "protocol": "HTTP", "protocol_port": 82, "default_pool": {"name": "files",
                    "protocol": "HTTP", "lb_algorithm": "SOURCE_IP", "members": [
                    {"address": "10.1.0.21", "protocol_port": 8081}]}}],
            "pools": [
                {"protocol": "TCP", "lb_algorithm": "LEAST_CONNECTIONS"},
                {"name": "app", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "session_persistence": null,
                    "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2,
                        "url_path": "/ready"},
                    "members": [{"address": "10.1.0.11", "protocol_port": 8080, "name": "a1", "subnet_id": SUBNET,
                        "monitor_port": 9000}]}]}),
    )
    .await;
    let targets: Vec<_> = new
        .listeners
        .iter()
        .map(|listener| (listener.name.as_str(), listener.default_pool))
        .collect();
    assert_eq!(
        targets,
        [
            ("web", Some(PoolRef::New(1))),
            ("raw", None),
            ("files", Some(PoolRef::New(2)))
        ]
    );
    assert_eq!(new.listeners[1].protocol, ListenerProtocol::Tcp);
    assert!(new.listeners[0].insert_headers.inserts("X-Forwarded-For"));
    let pools: Vec<_> = new
        .pools
        .iter()
        .map(|pool| (pool.name.as_str(), pool.protocol, pool.lb_algorithm))
        .collect();
    assert_eq!(
        pools,
        [
            ("", PoolProtocol::Tcp, LbAlgorithm::LeastConnections),
            ("app", PoolProtocol::Http, LbAlgorithm::RoundRobin),
            ("files", PoolProtocol::Http, LbAlgorithm::SourceIp),
        ]
    );
    let members: Vec<_> = new.pools.iter().map(|pool| pool.members.len()).collect();
    assert_eq!(members, [0, 1, 1]);
    assert_eq!(new.pools[1].members[0].monitor_port, Some(9000));
    let monitor = new.pools[1].health_monitor.as_ref().unwrap();
    let MonitorKind::Http(http) = &monitor.kind else {
        panic!()
    };
    assert_eq!(
        (http.url_path.as_str(), http.http_method.as_str()),
        ("/ready", "GET")
    );
}

/// A listener with one policy.
fn ruled(policy: Value) -> Value {
    with(web(80, json!(null)), "l7policies", json!([policy]))
}

#[tokio::test]
async fn policies_come_with_their_rules_and_their_pools() {
    let api = Api::new();
    let rule = json!({"type": "PATH", "compare_type": "STARTS_WITH", "value": "/static"});
    let policies = json!([
        {"name": "static", "action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "files"}, "rules": [rule, rule]},
        {"action": "REDIRECT_TO_POOL", "redirect_pool": app("inline"), "position": 1},
        {"action": "REJECT", "rules": []}]);
    let listener = with(web(80, json!({"name": "app"})), "l7policies", policies);
    let new = created(
        &api,
        json!({"listeners": [listener], "pools": [app("app"), app("files")]}),
    )
    .await;
    let pools: Vec<_> = new.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(pools, ["app", "files", "inline"]);
    let policies = &new.listeners[0].l7_policies;
    let actions: Vec<_> = policies
        .iter()
        .map(|policy| (policy.action.clone(), policy.position, policy.rules.len()))
        .collect();
    let to = |position| L7Action::RedirectToPool(PoolRef::New(position));
    assert_eq!(
        actions,
        [
            (to(1), None, 2),
            (to(2), Some(1), 0),
            (L7Action::Reject, None, 0)
        ]
    );
    assert_eq!(policies[0].rules[0].value, "/static");
}

#[tokio::test]
async fn one_pool_may_serve_two_listeners() {
    let api = Api::new();
    let listeners = json!([web(80, app("a")), web(81, json!({"name": "a"}))]);
    let new = created(&api, json!({"listeners": listeners})).await;
    assert_eq!(new.pools.len(), 1);
    assert!(
        new.listeners
            .iter()
            .all(|listener| listener.default_pool == Some(PoolRef::New(0)))
    );
}

#[tokio::test]
async fn the_answer_is_the_whole_tree_without_ways_back() {
    let api = Api::new();
    let body = api.post(PATH, new(&json!({}))).await.json()["loadbalancer"].clone();
    assert_eq!(
        (&body["id"], &body["vip_address"]),
        (&json!(LOAD_BALANCER), &json!("203.0.113.40"))
    );
    let listener = &body["listeners"][0];
    assert_eq!(
        (&listener["id"], &listener["default_pool_id"]),
        (&json!(LISTENER), &json!(POOL))
    );
    assert_eq!(
        (listener.get("loadbalancers"), listener.get("pools")),
        (None, None)
    );
    let policy = &listener["l7policies"][0];
    assert_eq!(
        (&policy["id"], &policy["position"], &policy["action"]),
        (&json!(POLICY), &json!(1), &json!("REDIRECT_PREFIX"))
    );
    let rule = &policy["rules"][0];
    assert_eq!(
        (&rule["id"], &rule["value"]),
        (&json!(RULE), &json!("/shop"))
    );
    let pool = &body["pools"][0];
    assert_eq!(
        (&pool["id"], &pool["listeners"]),
        (&json!(POOL), &json!([{"id": LISTENER}]))
    );
    assert_eq!(
        (pool.get("loadbalancers"), pool.get("healthmonitor_id")),
        (None, None)
    );
    assert_eq!(
        (&pool["members"][0]["id"], &pool["members"][1]["id"]),
        (&json!(MEMBER_1), &json!(MEMBER_2))
    );
    assert_eq!(pool["members"][0]["address"], "10.1.0.11");
    assert_eq!(
        (
            &pool["healthmonitor"]["id"],
            pool["healthmonitor"].get("pools")
        ),
        (&json!(MONITOR), None)
    );
    assert_eq!(pool["healthmonitor"]["project_id"], PROJECT);
    api.fake.views.lock().unwrap()[0]
        .tree
        .health_monitors
        .clear();
    let body = api.post(PATH, new(&json!({}))).await.json();
    assert_eq!(
        body["loadbalancer"]["pools"][0]["healthmonitor"],
        Value::Null
    );
}

async fn assert_refused(wrong: impl IntoIterator<Item = (Value, String)>) {
    let api = Api::admitting(Rules::default());
    for (children, sentence) in wrong {
        let reply = api.post(PATH, new(&children)).await;
        let status = if sentence.ends_with(" not found.") {
            404
        } else {
            400
        };
        reply.assert_fault(status, &sentence);
    }
    assert_eq!(api.command_count(), 0);
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

#[tokio::test]
async fn pools_without_a_name_or_a_definition_are_refused() {
    let named = "Pools must be named when creating a fully populated loadbalancer.";
    assert_refused([
        (json!({"listeners": [web(80, json!({}))]}), named.to_owned()),
        (
            json!({"listeners": [web(80, json!({"name": ""}))]}),
            named.to_owned(),
        ),
        (
            json!({"listeners": [web(80, json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}))]}),
            named.to_owned(),
        ),
        (
            json!({"listeners": [web(80, json!({"name": "zz"}))]}),
            "Pool 'zz' was referenced but no full definition was found.".into(),
        ),
        (
            json!({"listeners": [web(80, json!({"name": "a", "protocol": "HTTP"}))]}),
            "Pool definition for 'a' missing required attribute: lb_algorithm".into(),
        ),
        (
            json!({"pools": [{"name": "a", "lb_algorithm": "ROUND_ROBIN"}]}),
            "Pool definition for 'a' missing required attribute: protocol".into(),
        ),
        (
            json!({"pools": [{"name": "a"}]}),
            "Pool definition for 'a' missing required attribute: protocol".into(),
        ),
        (
            json!({"pools": [app("a"), app("a")]}),
            "Pool names must be unique".into(),
        ),
        (
            json!({"pools": [app("a")], "listeners": [web(80, app("a"))]}),
            "Pool names must be unique".into(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn children_refer_to_nothing_outside_the_request() {
    let prefix = "Unknown attribute for argument load_balancer.loadbalancer";
    let member = json!({"address": "10.0.0.1", "protocol_port": 80});
    assert_refused([
        (
            json!({"listeners": [with(web(80, json!(null)), "default_pool_id", json!(POOL))]}),
            format!("Pool {POOL} not found."),
        ),
        (
            json!({"listeners": [with(web(80, json!(null)), "loadbalancer_id", json!(POOL))]}),
            format!("{prefix}.listeners: loadbalancer_id"),
        ),
        (
            json!({"listeners": [with(web(80, json!(null)), "project_id", json!("p"))]}),
            format!("{prefix}.listeners: project_id"),
        ),
        (
            json!({"pools": [with(app("a"), "loadbalancer_id", json!(POOL))]}),
            format!("{prefix}.pools: loadbalancer_id"),
        ),
        (
            json!({"pools": [with(app("a"), "listener_id", json!(POOL))]}),
            format!("{prefix}.pools: listener_id"),
        ),
        (
            json!({"pools": [with(app("a"), "members", json!([with(member.clone(), "project_id", json!("p"))]))]}),
            format!("{prefix}.pools.members: project_id"),
        ),
        (
            json!({"pools": [with(app("a"), "healthmonitor", json!({"pool_id": POOL, "type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1}))]}),
            format!("{prefix}.pools.healthmonitor: pool_id"),
        ),
        (
            json!({"listeners": [web(80, with(app("a"), "foo", json!(1)))]}),
            format!("{prefix}.listeners.default_pool: foo"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_children_are_refused() {
    assert_refused([
        (json!({"listeners": {}}), "Value not a valid list".into()),
        (
            json!({"listeners": [7]}),
            "Value should be an object".into(),
        ),
        (json!({"pools": [7]}), "Value should be an object".into()),
        (
            json!({"listeners": [web(0, json!(null))]}),
            "Value should be greater or equal to 1".into(),
        ),
        (
            json!({"pools": [with(app("a"), "members", json!([{"address": "169.254.169.254", "protocol_port": 1}]))]}),
            "169.254.169.254 is not a valid option for member address".into(),
        ),
        (
            json!({"pools": [with(app("a"), "session_persistence", json!({"type": "APP_COOKIE"}))]}),
            "Field \"cookie_name\" must be specified".into(),
        ),
        (
            json!({"listeners": [with(web(80, app("a")), "protocol", json!("PROMETHEUS"))]}),
            "Protocol PROMETHEUS listeners cannot have child objects.".into(),
        ),
        (
            json!({"listeners": [with(ruled(json!({"action": "REJECT"})), "protocol", json!("PROMETHEUS"))]}),
            "Protocol PROMETHEUS listeners cannot have child objects.".into(),
        ),
        (
            json!({"listeners": [with(web(80, json!(null)), "l7policies", json!("x"))]}),
            "Value not a valid list".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "MOVE"}))]}),
            "Invalid L7 Policy action specified: MOVE".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REDIRECT_TO_POOL"}))]}),
            "Invalid L7 Policy arguments: redirect_pool_id must not be None".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REDIRECT_TO_POOL", "redirect_pool": {"name": "zz"}}))]}),
            "Pool 'zz' was referenced but no full definition was found.".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REDIRECT_TO_POOL", "redirect_pool": {"protocol": "HTTP",
                "lb_algorithm": "ROUND_ROBIN"}}))]}),
            "Pools must be named when creating a fully populated loadbalancer.".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REDIRECT_TO_POOL", "redirect_pool_id": POOL}))]}),
            "Unknown attribute for argument load_balancer.loadbalancer.listeners.l7policies: redirect_pool_id".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REJECT", "listener_id": LISTENER}))]}),
            "Unknown attribute for argument load_balancer.loadbalancer.listeners.l7policies: listener_id".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REJECT", "rules": [{"type": "PATH", "value": "/"}]}))]}),
            "Invalid input for field/attribute compare_type. Value: 'None'. Mandatory field missing.".into(),
        ),
        (
            json!({"listeners": [ruled(json!({"action": "REJECT", "rules": [{"type": "PATH", "project_id": "p",
                "compare_type": "EQUAL_TO", "value": "/"}]}))]}),
            "Unknown attribute for argument load_balancer.loadbalancer.listeners.l7policies.rules: project_id".into(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_cannot_be_had_is_501_anywhere_in_the_tree() {
    let api = Api::of_this_release();
    for children in [
        json!({"listeners": [{"protocol": "SCTP", "protocol_port": 53}]}),
        json!({"pools": [{"protocol": "SCTP", "lb_algorithm": "ROUND_ROBIN"}]}),
        json!({"pools": [{"name": "p", "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "tls_enabled": true}]}),
        json!({"listeners": [{"protocol": "TCP", "protocol_port": 53, "default_pool": {"name": "p",
            "protocol": "PROXY", "lb_algorithm": "ROUND_ROBIN", "tls_enabled": true}}]}),
    ] {
        let reply = api.post(PATH, new(&children)).await;
        reply.assert_fault(
            501,
            "Provider 'amphora' does not support a requested option: ",
        );
        let mut wrong = children.clone();
        wrong["name"] = json!(7);
        api.post(PATH, new(&wrong))
            .await
            .assert_fault(400, "Value should be string");
    }
    assert_eq!(api.command_count(), 0);
}
