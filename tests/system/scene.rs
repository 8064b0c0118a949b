//! What most tests begin with: a network, `krater up`, and a tree of one listener, one pool and some members.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use krater_tests::{Connection, HttpMember, Krater, Namespace, Octavia, fetch};
use serde_json::{Value, json};

/// A krater on a network of its own. Fields are dropped in this order: the network last.
pub(crate) struct Scene {
    pub(crate) api: Octavia,
    pub(crate) krater: Krater,
    pub(crate) network: Namespace,
}

impl Scene {
    /// `krater up` on embedded defaults.
    pub(crate) fn up() -> Self {
        Self::with("up", &[])
    }

    /// `krater VERB` with arguments.
    pub(crate) fn with(verb: &str, arguments: &[&str]) -> Self {
        let network = Namespace::enter_new();
        let krater = Krater::start(verb, arguments);
        Self {
            api: krater.api(),
            krater,
            network,
        }
    }

    /// Lays a secret in, as `krater secret add` does: all at once.
    pub(crate) fn lay_in(&self, name: &str, pem: &str) {
        let folder = self.krater.state_folder().join("secrets/shared");
        std::fs::create_dir_all(&folder).expect("a folder");
        let draft = folder.join(".draft");
        std::fs::write(&draft, pem).expect("a file");
        std::fs::rename(draft, folder.join(format!("{name}.pem"))).expect("a file in its place");
    }

    /// Creates a load balancer with an HTTP listener on port 80 and a pool of `members`, and waits for ACTIVE.
    pub(crate) fn http_tree(&mut self, members: &[&HttpMember]) -> Tree {
        let members: Vec<Value> = members
            .iter()
            .map(|member| member_json(member.address()))
            .collect();
        self.tree(&json!([listener_json(
            "HTTP",
            80,
            &json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members})
        )]))
    }

    /// Creates a load balancer with these listeners and waits for ACTIVE.
    pub(crate) fn tree(&mut self, listeners: &Value) -> Tree {
        let created = self.api.create_tree("test", listeners);
        let id = text(&created["id"]);
        self.api.wait_active(&id, SETTLE_MAX);
        let first = |kind: &str| {
            created[kind]
                .as_array()
                .and_then(|all| all.first())
                .map(|one| text(&one["id"]))
        };
        Tree {
            vip: text(&created["vip_address"])
                .parse()
                .expect("the VIP is an address"),
            listener: first("listeners").unwrap_or_default(),
            pool: first("pools").unwrap_or_default(),
            id,
        }
    }
}

/// Ids of a tree's first of each kind.
pub(crate) struct Tree {
    pub(crate) id: String,
    pub(crate) vip: IpAddr,
    pub(crate) listener: String,
    pub(crate) pool: String,
}

impl Tree {
    /// Where its listener on `port` answers.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip, port)
    }
}

/// A listener with its default pool, as a request creates it; the pool is named after the port unless it has a name.
pub(crate) fn listener_json(protocol: &str, port: u16, pool: &Value) -> Value {
    let mut pool = pool.clone();
    if pool["name"].is_null() {
        pool["name"] = json!(format!("p{port}"));
    }
    json!({"name": format!("l{port}"), "protocol": protocol, "protocol_port": port, "default_pool": pool})
}

/// A member, as a request creates it.
pub(crate) fn member_json(address: SocketAddr) -> Value {
    json!({"address": address.ip().to_string(), "protocol_port": address.port()})
}

/// An HTTP health monitor that decides within seconds.
pub(crate) fn monitor_json() -> Value {
    json!({
        "type": "HTTP", "url_path": "/healthz", "delay": 1, "timeout": 1,
        "max_retries": 1, "max_retries_down": 1, "expected_codes": "200",
    })
}

/// Members that answered `count` requests, each over a connection of its own.
pub(crate) fn ask(address: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = fetch(address, "/").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        *answers.entry(member_of(&answer.body)).or_default() += 1;
    }
    answers
}

/// Members that answered `count` requests over one connection.
pub(crate) fn ask_kept(connection: &mut Connection, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = connection.get("/").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        *answers.entry(member_of(&answer.body)).or_default() += 1;
    }
    answers
}

/// The JSON body of an answer of a member.
pub(crate) fn body_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("a member answers JSON")
}

/// A JSON string, owned.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string was expected: {value}"))
        .to_owned()
}

fn member_of(body: &[u8]) -> String {
    text(&body_json(body)["member"])
}

/// The end of waiting for a change that takes milliseconds, a kill of a process included: no test measures time, and the
/// machine may have other things to do.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(20);
/// The same for a heartbeat and a probe.
pub(crate) const NOTICE_MAX: Duration = Duration::from_secs(40);
