//! A controller with something of everything in it, and requests to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use krater_controller_api::{
    self as api, Healthcheck,
    openapi::{Operation, Sends},
};
use krater_controller_core::{
    caller::{Caller, Persona, Personas},
    carried::Carried,
    model::{LoadBalancerId, ProjectId},
};
use krater_driver::{Authenticator, Credentials, Unauthenticated};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::testbed::{AMPHORA, House, Setting};

/// The controller, and the ids of what is in it by the names they have in paths.
pub(super) struct World {
    pub(super) house: House,
    router: Router,
    pub(super) ids: BTreeMap<&'static str, String>,
}

/// A request; its method and path are those of an operation.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) body: Option<Value>,
    text: Option<String>,
    query: String,
    headers: BTreeMap<&'static str, String>,
    lost: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Sent {
    pub(super) fn with(body: Option<Value>) -> Self {
        Self {
            body,
            text: None,
            query: String::new(),
            headers: BTreeMap::new(),
            lost: false,
        }
    }

    pub(super) fn with_text(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            ..Self::with(None)
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    pub(super) fn query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    /// To a path whose ids name nothing.
    pub(super) fn lost(mut self) -> Self {
        self.lost = true;
        self
    }
}

impl World {
    pub(super) async fn furnish(carried: Carried, healthcheck: Healthcheck) -> Self {
        let setting = Setting {
            authenticator: Arc::new(Tokens),
            carried,
            ..Setting::default()
        };
        let house = House::build_with(setting).await;
        let router = api::router(
            house.application.clone(),
            api::Settings {
                healthcheck,
                ..api::Settings::default()
            },
        );
        let mut world = Self {
            house,
            router,
            ids: BTreeMap::new(),
        };
        world.ids.insert("project_id", PROJECT.to_owned());
        world.ids.insert("provider_name", "amphora".to_owned());
        world.furnish_catalogue().await;
        world.furnish_load_balancer().await;
        world.furnish_policy().await;
        world.furnish_fleet().await;
        world
    }

    async fn furnish_catalogue(&mut self) {
        let profile = self
            .create(
                "/v2/flavorprofiles",
                "flavorprofile",
                json!({"name": "shared", "provider_name": "amphora", "flavor_data": "{}"}),
            )
            .await;
        let flavor = self
            .create(
                "/v2/flavors",
                "flavor",
                json!({"name": "plain", "flavor_profile_id": profile}),
            )
            .await;
        let zones = self
            .create(
                "/v2/availabilityzoneprofiles",
                "availability_zone_profile",
                json!({"name": "here", "provider_name": "amphora", "availability_zone_data": "{}"}),
            )
            .await;
        let body =
            json!({"availability_zone": {"name": "rack", "availability_zone_profile_id": zones}});
        let reply = self.post("/v2/availabilityzones", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        self.ids.insert("flavorprofile_id", profile);
        self.ids.insert("flavor_id", flavor);
        self.ids.insert("availabilityzoneprofile_id", zones);
        self.ids.insert("availability_zone_name", "rack".to_owned());
        let quota = Sent::with(Some(json!({"quota": {"pool": 100}})));
        let reply = self.put(&format!("/v2/quotas/{PROJECT}"), &quota).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
    }

    async fn furnish_load_balancer(&mut self) {
        let subnet = self.house.subnet;
        let body = json!({"loadbalancer": {
            "name": "web", "vip_subnet_id": subnet, "project_id": PROJECT,
            "flavor_id": self.ids["flavor_id"], "availability_zone": "rack",
            "listeners": [{"protocol": "HTTP", "protocol_port": 80, "default_pool": {"name": "app"}}],
            "pools": [{"name": "app", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
                "members": [{"address": "10.1.0.11", "protocol_port": 8080}],
                "healthmonitor": {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2}}],
        }});
        let reply = self.post("/v2/loadbalancers", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let made: Value = serde_json::from_str(&reply.text).unwrap();
        let made = &made["loadbalancer"];
        let id = |value: &Value| value.as_str().unwrap().to_owned();
        self.ids.insert("loadbalancer_id", id(&made["id"]));
        self.ids
            .insert("listener_id", id(&made["listeners"][0]["id"]));
        self.ids.insert("pool_id", id(&made["pools"][0]["id"]));
        self.ids
            .insert("member_id", id(&made["pools"][0]["members"][0]["id"]));
        self.ids.insert(
            "healthmonitor_id",
            id(&made["pools"][0]["healthmonitor"]["id"]),
        );
        self.ids.insert("vip_address", id(&made["vip_address"]));
    }

    async fn furnish_policy(&mut self) {
        let listener = self.ids["listener_id"].clone();
        let policy = self
            .create(
                "/v2/l7policies",
                "l7policy",
                json!({"listener_id": listener, "action": "REJECT"}),
            )
            .await;
        let rule = self
            .create(
                &format!("/v2/l7policies/{policy}/rules"),
                "rule",
                json!({"type": "PATH", "compare_type": "STARTS_WITH", "value": "/x"}),
            )
            .await;
        self.ids.insert("l7policy_id", policy);
        self.ids.insert("rule_id", rule);
    }

    /// Waits until the load balancer is where it belongs, and has its amphora say how it does.
    async fn furnish_fleet(&mut self) {
        let id = LoadBalancerId::new(self.ids["loadbalancer_id"].parse().unwrap());
        self.house
            .until(id, "in force", |view| !view.is_pending())
            .await;
        self.house.hear(self.house.amphora.report(1, 1));
        self.ids.insert("amphora_id", AMPHORA.to_string());
    }

    /// Has the load balancer be deleted by an amphora that does not answer, so that it stays.
    pub(super) async fn begin_to_delete(&self) {
        self.house.amphora.set_up(false);
        let path = format!("/v2/loadbalancers/{}", self.ids["loadbalancer_id"]);
        let sent = Sent::with(None).query("cascade=true");
        let reply = self.deliver("DELETE", &path, &sent).await;
        assert_eq!(reply.status, 204, "{}", reply.text);
    }

    /// Has an operation create something, deletes that, and waits until it is gone.
    pub(super) async fn create_and_delete(&self, operation: &Operation, sent: &Sent) {
        let made = self.send(operation, sent).await;
        assert_eq!(made.status, operation.success, "{}", made.text);
        let made: Value = serde_json::from_str(&made.text).unwrap();
        let made = made.as_object().unwrap().values().next().unwrap();
        let path = operation
            .path
            .split('/')
            .map(|segment| self.fill(segment, false));
        let path: Vec<String> = path.collect();
        let path = format!("{}/{}", path.join("/"), made["id"].as_str().unwrap());
        let nothing = Sent::with(None);
        let deleted = self.deliver("DELETE", &path, &nothing).await;
        assert_eq!(deleted.status, 204, "{}", deleted.text);
        while self.deliver("GET", &path, &nothing).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Creates one as the administrator, and answers its id.
    pub(super) async fn create(&self, path: &str, root: &str, object: Value) -> String {
        let reply = self.post(path, &json!({root: object})).await;
        assert_eq!(reply.status, 201, "{path}: {}", reply.text);
        let made: Value = serde_json::from_str(&reply.text).unwrap();
        made[root]["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.deliver("POST", path, &Sent::with(Some(body.clone())))
            .await
    }

    pub(super) async fn put(&self, path: &str, sent: &Sent) -> Reply {
        self.deliver("PUT", path, sent).await
    }

    /// Sends a request to an operation.
    pub(super) async fn send(&self, operation: &Operation, sent: &Sent) -> Reply {
        let path: Vec<String> = operation
            .path
            .split('/')
            .map(|segment| self.fill(segment, sent.lost))
            .collect();
        self.deliver(operation.method, &path.join("/"), sent).await
    }

    fn fill(&self, segment: &str, lost: bool) -> String {
        let Some(name) = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            return segment.to_owned();
        };
        if lost {
            return "00000000-0000-4000-8000-000000000000".to_owned();
        }
        self.ids
            .get(name)
            .unwrap_or_else(|| panic!("there is no {name} in this world"))
            .clone()
    }

    async fn deliver(&self, method: &str, path: &str, sent: &Sent) -> Reply {
        let uri = if sent.query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", sent.query)
        };
        let mut headers = BTreeMap::from([
            ("x-auth-token", "admin".to_owned()),
            ("content-type", "application/json".to_owned()),
        ]);
        headers.extend(sent.headers.clone());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, value);
        }
        let body = match (&sent.text, &sent.body) {
            (Some(text), _) => text.clone(),
            (None, Some(body)) => body.to_string(),
            (None, None) => String::new(),
        };
        let request = request.body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

/// A body that the operation takes.
pub(super) fn body_for(world: &World, operation: &Operation) -> Option<Value> {
    let id = |name: &str| json!(world.ids.get(name));
    let member = json!({"address": "10.1.0.12", "protocol_port": 8080});
    let (root, object) = match operation.sends {
        Sends::Nothing => return None,
        Sends::Members => return Some(json!({"members": [member]})),
        Sends::Changes(resource) => (
            resource.root,
            match operation.id {
                "update_quota" => json!({"pool": 5}),
                "update_l7policy" => json!({"action": "REJECT"}),
                "update_l7rule" => json!({"value": "/y"}),
                "update_availability_zone" => json!({"description": "other"}),
                _ => json!({"name": "other"}),
            },
        ),
        Sends::New(resource) => (
            resource.root,
            match operation.id {
                "create_loadbalancer" => {
                    json!({"vip_subnet_id": world.house.subnet, "project_id": PROJECT})
                }
                "create_listener" => {
                    json!({"loadbalancer_id": id("loadbalancer_id"), "protocol": "TCP", "protocol_port": 81})
                }
                "create_pool" => {
                    json!({"loadbalancer_id": id("loadbalancer_id"), "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"})
                }
                "create_member" => member,
                "create_healthmonitor" => {
                    json!({"pool_id": id("bare_pool_id"), "type": "TCP", "delay": 5, "timeout": 3, "max_retries": 2})
                }
                "create_l7policy" => json!({"listener_id": id("listener_id"), "action": "REJECT"}),
                "create_l7rule" => {
                    json!({"type": "PATH", "compare_type": "EQUAL_TO", "value": "/z"})
                }
                "create_flavor" => {
                    json!({"name": "fresh", "flavor_profile_id": id("flavorprofile_id")})
                }
                "create_flavorprofile" => {
                    json!({"name": "fresh", "provider_name": "amphora", "flavor_data": "{}"})
                }
                "create_availability_zone" => {
                    json!({"name": "fresh", "availability_zone_profile_id": id("availabilityzoneprofile_id")})
                }
                "create_availability_zone_profile" => {
                    json!({"name": "fresh", "provider_name": "amphora", "availability_zone_data": "{}"})
                }
                other => panic!("no body is known for {other}"),
            },
        ),
    };
    Some(json!({root: object}))
}

/// Tokens are names of callers.
struct Tokens;

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated> {
        let project = ProjectId::parse(PROJECT);
        match credentials.token.as_deref() {
            Some("admin") => Ok(Caller::new("ann", project, Persona::Admin)),
            Some("nobody") => Ok(Caller::new("bob", project, Personas::default())),
            Some("unknowable") => Err(Unauthenticated::Unavailable(
                "nobody can say who that is".into(),
            )),
            _ => Err(Unauthenticated::Required),
        }
    }
}

pub(super) const PROJECT: &str = "7d1c7d3f5b3e4f6f9a5f0f6f8d2b1a90";
