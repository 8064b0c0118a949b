//! The demonstration of `krater up --demo`: three tiny members inside this process, and a load balancer in front of
//! them made through the API like anybody's.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::get};
use http::Method;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

use crate::{
    http_client::{AskError, HttpClient},
    serve::{Site, Stop, serve},
};

/// The members of the demonstration.
pub(crate) struct Members {
    addresses: Vec<SocketAddr>,
}

/// Why there is no demonstration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The API did not do what it was asked.
    #[error(transparent)]
    Api(#[from] AskError),
    /// The listener does not serve.
    #[error("its listener does not serve: {0}")]
    Listener(String),
}

impl Members {
    /// Starts them in `tasks`.
    ///
    /// # Errors
    /// A sentence, when an address cannot be had.
    pub(crate) async fn start(tasks: &mut JoinSet<()>, stop: &Stop) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for (number, host) in (1..).zip(HOSTS) {
            let listener = match TcpListener::bind((host, PORT)).await {
                Ok(listener) => listener,
                Err(_) => TcpListener::bind((host, 0)).await.map_err(|error| {
                    format!("demonstration member {number} cannot listen on {host}: {error}")
                })?,
            };
            let address = listener.local_addr().map_err(|error| {
                format!("demonstration member {number} has no address: {error}")
            })?;
            let site = Site {
                router: Router::new()
                    .fallback(get(greet))
                    .with_state((number, address)),
                connections_max: 1_024,
                header_timeout: Duration::from_secs(60),
                credentials: None,
            };
            tasks.spawn(serve(listener, site, stop.clone()));
            addresses.push(address);
        }
        Ok(Self { addresses })
    }

    /// Makes the load balancer in front of them, or finds the one made before and tells it where its members are
    /// now. Answers with the address to visit.
    pub(crate) async fn publish(&self, api: &HttpClient) -> Result<String, DemoError> {
        let found = api
            .get(&format!("{API}/loadbalancers?name={NAME}&tags={NAME}"))
            .await?;
        let found = found.pointer("/loadbalancers/0").cloned();
        let balancer = match found {
            Some(balancer) => {
                self.redirect(api, &balancer).await?;
                balancer
            }
            None => self.create(api).await?,
        };
        let id = text(&balancer, "/id");
        settled(api, &id).await?;
        let listeners = api
            .get(&format!("{API}/listeners?loadbalancer_id={id}"))
            .await?;
        let listener = listeners
            .pointer("/listeners/0")
            .cloned()
            .unwrap_or_default();
        if text(&listener, "/provisioning_status") == "ERROR" {
            let reason = text(&listener, "/status_reason/message");
            return Err(DemoError::Listener(reason));
        }
        let port = listener
            .pointer("/protocol_port")
            .and_then(Value::as_u64)
            .unwrap_or_else(|| PORT.into());
        let address = text(&balancer, "/vip_address");
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address
        };
        Ok(format!("http://{host}:{port}/"))
    }

    async fn create(&self, api: &HttpClient) -> Result<Value, AskError> {
        let subnets = api.get("/v2.0/subnets").await?;
        let all = subnets.pointer("/subnets").and_then(Value::as_array);
        let v4 = all.and_then(|all| {
            all.iter()
                .find(|subnet| text(subnet, "/ip_version") == "4")
                .or_else(|| all.first())
        });
        let subnet = v4.map(|subnet| text(subnet, "/id")).unwrap_or_default();
        let body = json!({ "loadbalancer": {
            "name": NAME,
            "description": "Made by krater up --demo; delete it if you like.",
            "vip_subnet_id": subnet,
            "tags": [NAME],
            "listeners": [{
                "name": NAME, "protocol": "HTTP", "protocol_port": PORT, "insert_headers": { "X-Forwarded-For": "true" },
                "default_pool": {
                    "name": NAME, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": self.documents(),
                    "healthmonitor": {
                        "type": "HTTP", "url_path": "/health", "delay": 5, "timeout": 2, "max_retries": 1,
                        "max_retries_down": 2,
                    },
                },
            }],
        }});
        let created = api
            .ask(Method::POST, &format!("{API}/loadbalancers"), Some(&body))
            .await?;
        Ok(created.get("loadbalancer").cloned().unwrap_or_default())
    }

    /// Members may be at other ports than last time.
    async fn redirect(&self, api: &HttpClient, balancer: &Value) -> Result<(), AskError> {
        let id = text(balancer, "/id");
        let pools = api
            .get(&format!("{API}/pools?loadbalancer_id={id}&name={NAME}"))
            .await?;
        let Some(pool) = pools.pointer("/pools/0").map(|pool| text(pool, "/id")) else {
            return Ok(());
        };
        let members = api.get(&format!("{API}/pools/{pool}/members")).await?;
        let present = members
            .pointer("/members")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let is_there = |address: &SocketAddr| {
            present.iter().any(|member| {
                text(member, "/address") == address.ip().to_string()
                    && text(member, "/protocol_port") == address.port().to_string()
            })
        };
        if self.addresses.iter().all(is_there) {
            return Ok(());
        }
        let body = json!({ "members": self.documents() });
        api.ask(
            Method::PUT,
            &format!("{API}/pools/{pool}/members"),
            Some(&body),
        )
        .await
        .map(drop)
    }

    fn documents(&self) -> Vec<Value> {
        let document = |(number, address): (usize, &SocketAddr)| json!({ "name": format!("{NAME}-{number}"), "address": address.ip().to_string(), "protocol_port": address.port() });
        (1..).zip(&self.addresses).map(document).collect()
    }
}

async fn greet(State((number, address)): State<(usize, SocketAddr)>) -> String {
    format!("Hello from member {number} of the krater demonstration, at {address}.\n")
}

/// Waits, within a bound, until the load balancer is in force; whether it is, its status tells.
async fn settled(api: &HttpClient, id: &str) -> Result<(), AskError> {
    let began = Instant::now();
    while began.elapsed() < SETTLE_TIME_MAX {
        let answer = api.get(&format!("{API}/loadbalancers/{id}")).await?;
        if !text(&answer, "/loadbalancer/provisioning_status").starts_with("PENDING") {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A field as text, whether it is a string or a number; empty when it is absent.
fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

const API: &str = "/v2.0/lbaas";
const NAME: &str = "krater-demo";
/// Not 80: that needs privileges on many hosts.
const PORT: u16 = 8_080;
/// Loopback addresses that nothing else on a host is likely to use.
const HOSTS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(127, 77, 255, 11),
    Ipv4Addr::new(127, 77, 255, 12),
    Ipv4Addr::new(127, 77, 255, 13),
];
const SETTLE_TIME_MAX: Duration = Duration::from_secs(5);
