//! A key manager that only pretends, beside the identity service that does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A secret it holds, or a container.
#[derive(Clone, Default)]
struct Held {
    /// What is said of it.
    described: Value,
    payload: Vec<u8>,
    kind: &'static str,
    /// Whose token reads it, beside those on its list. Of a container that says nothing of the secrets in it.
    owner: &'static str,
    readers: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    /// By kind and id, as paths name them.
    held: BTreeMap<String, Held>,
    status: Option<u16>,
    asked: Vec<String>,
    /// Krater's own tokens before this one are worthless.
    own_from: usize,
}

/// The service.
pub(crate) struct Keys {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl Keys {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    let _ = http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        Self {
            address,
            state,
            server,
        }
    }

    pub(crate) fn stop(&self) {
        self.server.abort();
    }

    pub(crate) fn put(&self, id: &str, owner: &'static str, kind: &'static str, payload: &[u8]) {
        let held = Held {
            described: json!({"status": "ACTIVE", "content_types": {"default": kind}}),
            payload: payload.to_vec(),
            kind,
            owner,
            readers: BTreeSet::new(),
        };
        self.hold(format!("secrets/{id}"), held);
    }

    pub(crate) fn put_container(
        &self,
        id: &str,
        owner: &'static str,
        kind: &str,
        parts: &[(&str, &str)],
    ) {
        let parts: Vec<Value> = parts
            .iter()
            .map(|(name, secret)| {
                // Under whatever name tenants know the service by.
                json!({"name": name, "secret_ref": format!("https://keys.test/v1/secrets/{secret}")})
            })
            .collect();
        let held = Held {
            described: json!({"type": kind, "name": null, "secret_refs": parts}),
            owner,
            ..Held::default()
        };
        self.hold(format!("containers/{id}"), held);
    }

    fn hold(&self, path: String, held: Held) {
        self.state.lock().unwrap().held.insert(path, held);
    }

    /// Answers everything with this status.
    pub(crate) fn fail(&self, status: Option<u16>) {
        self.state.lock().unwrap().status = status;
    }

    /// Believes krater's own tokens from this one on.
    pub(crate) fn believe_from(&self, number: usize) {
        self.state.lock().unwrap().own_from = number;
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    /// Who was let in to `secrets/ID` or `containers/ID`.
    pub(crate) fn readers(&self, path: &str) -> BTreeSet<String> {
        self.state.lock().unwrap().held[path].readers.clone()
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let token = parts.headers["x-auth-token"].to_str().unwrap().to_owned();
    let mut state = state.lock().unwrap();
    let path = parts.uri.path();
    state
        .asked
        .push(format!("{} {path} by {token}", parts.method));
    if let Some(status) = state.status {
        return Ok(reply(StatusCode::from_u16(status).unwrap(), b"{}"));
    }
    let own = token
        .strip_prefix("own-")
        .map(|number| number.parse::<usize>().unwrap());
    if own.is_some_and(|number| number < state.own_from) {
        return Ok(reply(StatusCode::UNAUTHORIZED, b"{}"));
    }
    let segments: Vec<&str> = path.strip_prefix("/v1/").unwrap().split('/').collect();
    let user = if own.is_some() { "user-id" } else { &token };
    let Some(held) = state.held.get_mut(&segments[..2].join("/")) else {
        return Ok(reply(StatusCode::NOT_FOUND, b"{}"));
    };
    if held.owner != user && !held.readers.contains(user) {
        return Ok(reply(StatusCode::FORBIDDEN, b"{}"));
    }
    Ok(match (&parts.method, &segments[2..]) {
        (&Method::GET, []) => reply(StatusCode::OK, held.described.to_string().as_bytes()),
        (&Method::GET, ["payload"]) if parts.headers["accept"] == held.kind => {
            reply(StatusCode::OK, &held.payload)
        }
        (&Method::GET, ["payload"]) => reply(StatusCode::NOT_ACCEPTABLE, b"{}"),
        (&Method::GET, ["acl"]) => {
            let body = json!({"read": {"users": held.readers, "project-access": true}});
            reply(StatusCode::OK, body.to_string().as_bytes())
        }
        (&Method::PUT, ["acl"]) => {
            let body: Value = serde_json::from_slice(&body).unwrap();
            let users = body["read"]["users"].as_array().unwrap();
            held.readers = users
                .iter()
                .map(|user| user.as_str().unwrap().to_owned())
                .collect();
            reply(StatusCode::OK, b"{}")
        }
        _ => reply(StatusCode::METHOD_NOT_ALLOWED, b"{}"),
    })
}

fn reply(status: StatusCode, body: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_vec()));
    *response.status_mut() = status;
    response
}
