//! An identity service that only pretends: it counts what it is asked and fails in every way one can.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// How it behaves.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// As it should.
    Well,
    /// It answers every question about a token with this status.
    Status(u16),
    /// It answers with 200 and this body.
    Body(Vec<u8>),
    /// It does not answer until it behaves otherwise.
    Hanging,
    /// It hangs up instead of answering.
    HangingUp,
}

/// A token it knows.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) roles: Vec<&'static str>,
    pub(crate) project: Option<&'static str>,
    pub(crate) ended: bool,
}

/// What it was asked.
#[derive(Default, Debug)]
struct Counts {
    logins: usize,
    questions: usize,
    last_login: Value,
}

struct Shared {
    mode: watch::Sender<Mode>,
    tokens: Mutex<HashMap<String, Known>>,
    counts: Mutex<Counts>,
    /// The number of our own token that is good now; 0 while logins are refused.
    own: Mutex<usize>,
    refuses_logins: Mutex<bool>,
}

/// The service.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    server: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let known = |roles: &[&'static str], project, ended| Known {
            roles: roles.to_vec(),
            project,
            ended,
        };
        let tokens = HashMap::from([
            (
                "alice".to_owned(),
                known(&["Member", "reader"], Some("alpha"), false),
            ),
            (
                "old-alice".to_owned(),
                known(&["member"], Some("alpha"), true),
            ),
            ("root".to_owned(), known(&["admin"], None, false)),
            (
                "nova".to_owned(),
                known(&["service"], Some("service"), false),
            ),
        ]);
        let mut fake = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            shared: Arc::new(Shared {
                mode: watch::Sender::new(Mode::Well),
                tokens: Mutex::new(tokens),
                counts: Mutex::default(),
                own: Mutex::default(),
                refuses_logins: Mutex::default(),
            }),
            tls,
            server: None,
        };
        fake.resume().await;
        fake
    }

    /// Listens (again), at the same address.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        self.server = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, shared).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, shared).await;
                            }
                        }
                    }
                });
            }
        }));
    }

    /// Ends it with all its connections.
    pub(crate) async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        let _ = server.await;
    }

    pub(crate) fn behave(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    pub(crate) fn refuse_logins(&self, refuse: bool) {
        *self.shared.refuses_logins.lock().unwrap() = refuse;
    }

    /// Makes every token it has given out at login worthless.
    pub(crate) fn revoke_own(&self) {
        *self.shared.own.lock().unwrap() += 1_000;
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.shared.tokens.lock().unwrap().remove(token);
    }

    pub(crate) fn last_login(&self) -> Value {
        self.shared.counts.lock().unwrap().last_login.clone()
    }

    pub(crate) fn logins(&self) -> usize {
        self.shared.counts.lock().unwrap().logins
    }

    pub(crate) fn questions(&self) -> usize {
        self.shared.counts.lock().unwrap().questions
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    assert_eq!(request.uri().path(), "/v3/auth/tokens");
    if request.method() == Method::POST {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        return Ok(log_in(&shared, &body));
    }
    shared.counts.lock().unwrap().questions += 1;
    let mut mode = shared.mode.subscribe();
    let mode = mode
        .wait_for(|mode| !matches!(mode, Mode::Hanging))
        .await
        .unwrap()
        .clone();
    match mode {
        Mode::Status(status) => Ok(reply(StatusCode::from_u16(status).unwrap(), b"{}")),
        Mode::Body(body) => Ok(reply(StatusCode::OK, &body)),
        Mode::HangingUp => Err(std::io::Error::other("no")),
        Mode::Well | Mode::Hanging => Ok(describe(
            &shared,
            request.headers(),
            request.uri().query().unwrap_or_default(),
        )),
    }
}

fn log_in(shared: &Shared, body: &[u8]) -> Response<Full<Bytes>> {
    let mut counts = shared.counts.lock().unwrap();
    counts.logins += 1;
    counts.last_login = serde_json::from_slice(body).unwrap();
    if *shared.refuses_logins.lock().unwrap() {
        return reply(StatusCode::UNAUTHORIZED, b"{}");
    }
    let mut own = shared.own.lock().unwrap();
    *own += 1;
    let body = document(&["service"], Some("service"), "2099-01-01T00:00:00Z");
    let mut response = reply(StatusCode::CREATED, body.to_string().as_bytes());
    let token = format!("own-{own}").parse().unwrap();
    response.headers_mut().insert("x-subject-token", token);
    response
}

fn describe(shared: &Shared, headers: &HeaderMap, query: &str) -> Response<Full<Bytes>> {
    let own = format!("own-{}", shared.own.lock().unwrap());
    if headers["x-auth-token"] != own {
        return reply(StatusCode::UNAUTHORIZED, b"{}");
    }
    let token = headers["x-subject-token"].to_str().unwrap();
    match shared.tokens.lock().unwrap().get(token) {
        Some(known) if !known.ended || query.contains("allow_expired=1") => {
            let expires_at = if known.ended {
                "2020-01-01T00:00:00Z"
            } else {
                "2099-01-01T00:00:00.000000Z"
            };
            let body = document(&known.roles, known.project, expires_at);
            reply(StatusCode::OK, body.to_string().as_bytes())
        }
        _ => reply(StatusCode::NOT_FOUND, b"{}"),
    }
}

fn document(roles: &[&str], project: Option<&str>, expires_at: &str) -> Value {
    let roles: Vec<Value> = roles.iter().map(|role| json!({"name": role})).collect();
    let mut token = json!({"user": {"id": "user-id"}, "roles": roles, "expires_at": expires_at});
    match project {
        Some(project) => token["project"] = json!({"id": project}),
        None => token["system"] = json!({"all": true}),
    }
    json!({"token": token})
}

fn reply(status: StatusCode, body: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_vec()));
    *response.status_mut() = status;
    response
}
