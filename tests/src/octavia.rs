//! A client of the Octavia API that hides nothing: every answer with its status, every failure with the body.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{http::Connection, wait::until_some};

/// A client of one API endpoint; opens a connection when it needs one and keeps it.
#[derive(Debug)]
pub struct Octavia {
    address: SocketAddr,
    connection: Option<Connection>,
    project: Option<String>,
    token: Option<String>,
}

/// One answer of the API.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What was asked, for messages.
    pub request: String,
    /// Status code.
    pub status: u16,
    /// The body, or null when it is empty.
    pub body: Value,
}

impl Reply {
    /// The body, when the status is as expected; panics with the whole answer otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.body);
        self.body
    }

    /// The `faultstring` of an error, empty when there is none.
    pub fn fault(&self) -> &str {
        self.body["faultstring"].as_str().unwrap_or_default()
    }
}

impl Octavia {
    /// A client of the API at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
            project: None,
            token: None,
        }
    }

    /// The same API, asked as another project.
    pub fn with_project(mut self, project: &str) -> Self {
        self.project = Some(project.to_owned());
        self
    }

    /// The same API, asked as the one whose token this is.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// One call; paths are relative to `/v2.0/lbaas/` unless they begin with a slash.
    ///
    /// # Errors
    /// When the API cannot be reached or does not speak HTTP. A read is tried once more over a new connection when a
    /// kept one has ended; a write never is.
    pub fn try_call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/v2.0/lbaas/{path}")
        };
        let bytes = body.map(|body| body.to_string().into_bytes());
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        if let Some(project) = &self.project {
            headers.push(("x-project-id", project));
        }
        if let Some(token) = &self.token {
            headers.push(("x-auth-token", token));
        }
        let kept = self.connection.is_some();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address)?,
        };
        let mut answer = connection.request(method, &path, &headers, bytes.as_deref());
        if answer.is_err() && kept && method == "GET" {
            connection = Connection::open(self.address)?;
            answer = connection.request(method, &path, &headers, bytes.as_deref());
        }
        let answer = answer?;
        if connection.is_reusable() {
            self.connection = Some(connection);
        }
        let body = if answer.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::String(answer.text()))
        };
        Ok(Reply {
            request: format!("{method} {path}"),
            status: answer.status,
            body,
        })
    }

    /// One call that must be answered.
    #[track_caller]
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        match self.try_call(method, path, body) {
            Ok(reply) => reply,
            Err(error) => panic!("{method} {path}: {error:#}"),
        }
    }

    /// Reads; panics unless 200.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Value {
        self.call("GET", path, None).expect(200)
    }

    /// Creates; panics unless 201.
    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Value {
        self.call("POST", path, Some(body)).expect(201)
    }

    /// Changes; panics unless 200.
    #[track_caller]
    pub fn put(&mut self, path: &str, body: &Value) -> Value {
        self.call("PUT", path, Some(body)).expect(200)
    }

    /// Deletes; panics unless 204.
    #[track_caller]
    pub fn delete(&mut self, path: &str) {
        self.call("DELETE", path, None).expect(204);
    }

    /// Creates a load balancer on the local IPv4 subnet with everything below it, and gives it as created.
    #[track_caller]
    pub fn create_tree(&mut self, name: &str, listeners: &Value) -> Value {
        let subnet = self.subnet("local-v4");
        let body = json!({"loadbalancer": {"name": name, "vip_subnet_id": subnet, "listeners": listeners}});
        self.post("loadbalancers", &body)["loadbalancer"].clone()
    }

    /// The id of a subnet by its name.
    #[track_caller]
    pub fn subnet(&mut self, name: &str) -> String {
        let found = self.get(&format!("/v2.0/subnets?name={name}"));
        text(&found["subnets"][0]["id"])
    }

    /// Waits until the load balancer is ACTIVE with all its children, at most `bound`, and gives it.
    #[track_caller]
    pub fn wait_active(&mut self, id: &str, bound: Duration) -> Value {
        let mut last = Value::Null;
        let start = std::time::Instant::now();
        while start.elapsed() < bound {
            last = self.get(&format!("loadbalancers/{id}"))["loadbalancer"].clone();
            if last["provisioning_status"] == "ACTIVE" && self.unsettled(id).is_empty() {
                return last;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "not ACTIVE within {bound:?}: {last}, unsettled: {:?}",
            self.unsettled(id)
        );
    }

    /// Every object of the status tree that is not ACTIVE, as `kind id status`.
    #[track_caller]
    pub fn unsettled(&mut self, id: &str) -> Vec<String> {
        let tree = self.get(&format!("loadbalancers/{id}/status"));
        let mut found = Vec::new();
        collect_unsettled(&tree, "", &mut found);
        found
    }

    /// Waits until a resource shows `status` as its `operating_status`.
    #[track_caller]
    pub fn wait_operating(&mut self, path: &str, status: &str, bound: Duration) {
        let what = format!("operating_status of {path} becomes {status}");
        until_some(&what, bound, || {
            let body = self.get(path);
            let resource = body.as_object()?.values().next()?.clone();
            (resource["operating_status"] == status).then_some(())
        });
    }
}

/// A JSON string, owned; panics when it is not one.
#[track_caller]
fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string was expected: {value}"))
        .to_owned()
}

/// Adds every object below `value` that is not ACTIVE.
pub(crate) fn collect_unsettled(value: &Value, kind: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_unsettled(item, kind, found)),
        Value::Object(fields) => {
            if let Some(status) = fields
                .get("provisioning_status")
                .filter(|status| *status != "ACTIVE")
            {
                found.push(format!(
                    "{kind} {} {status} {}",
                    fields["id"],
                    fields.get("status_reason").unwrap_or(&Value::Null)
                ));
            }
            fields
                .iter()
                .for_each(|(name, field)| collect_unsettled(field, name, found));
        }
        _ => {}
    }
}
