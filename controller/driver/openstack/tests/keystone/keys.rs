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

/// A secret it holds.
#[derive(Clone, Default)]
struct Held {
    payload: Vec<u8>,
    kind: &'static str,
    /// Whose token reads it, beside those on its list.
    owner: &'static str,
    readers: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Held>,
    containers: BTreeMap<String, (Value, &'static str)>,
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
            payload: payload.to_vec(),
            kind,
            owner,
            readers: BTreeSet::new(),
        };
        self.state
            .lock()
            .unwrap()
            .secrets
            .insert(id.to_owned(), held);
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
        let body = json!({"type": kind, "name": null, "secret_refs": parts});
        self.state
            .lock()
            .unwrap()
            .containers
            .insert(id.to_owned(), (body, owner));
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

    pub(crate) fn readers(&self, id: &str) -> BTreeSet<String> {
        self.state.lock().unwrap().secrets[id].readers.clone()
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
    if let ["containers", id] = segments[..] {
        return Ok(match state.containers.get(id) {
            None => reply(StatusCode::NOT_FOUND, b"{}"),
            Some((_, owner)) if own.is_none() && token != *owner => {
                reply(StatusCode::FORBIDDEN, b"{}")
            }
            Some((body, _)) => reply(StatusCode::OK, body.to_string().as_bytes()),
        });
    }
    let Some(held) = state.secrets.get_mut(segments[1]) else {
        return Ok(reply(StatusCode::NOT_FOUND, b"{}"));
    };
    if held.owner != user && !held.readers.contains(user) {
        return Ok(reply(StatusCode::FORBIDDEN, b"{}"));
    }
    Ok(match (&parts.method, &segments[2..]) {
        (&Method::GET, []) => {
            let body = json!({"status": "ACTIVE", "content_types": {"default": held.kind}});
            reply(StatusCode::OK, body.to_string().as_bytes())
        }
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
