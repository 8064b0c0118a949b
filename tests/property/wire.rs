//! Whatever is sent to the API is answered: with what was asked for, or with a fault that says what is wrong.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use krater_controller_api::{Settings, router};
use proptest::{prelude::*, sample::select};
use serde_json::Value;
use tower::ServiceExt;

use crate::cases;

mod body;
mod memory;
mod path;

use body::{Doing, arbitrary_json, doings};
use memory::Memory;

/// A request as drawn: what is not known before there is a load balancer is filled in when it is sent.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    path: &'static str,
    query: String,
    content: Content,
}

/// What a request carries.
#[derive(Clone, Debug)]
enum Content {
    /// The body that the route asks for, with what was done to it.
    Spoilt(Vec<Doing>),
    Json(Value),
    Bytes(Vec<u8>),
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn a_spoilt_body_is_refused_with_a_sentence_or_taken_by_an_amphora(
        requests in prop::collection::vec(request(body_for_a_route()), 1..8),
    ) {
        send_all(requests);
    }

    #[test]
    fn any_body_is_refused_with_a_sentence(
        requests in prop::collection::vec(request(any_body()), 1..4),
    ) {
        send_all(requests);
    }

    #[test]
    fn any_query_is_answered(
        method in select(vec![Method::GET, Method::DELETE, Method::PUT, Method::POST]),
        path in select(path::ALL),
        query in path::query(),
    ) {
        send_all(vec![Sent { method, path, query, content: Content::Spoilt(Vec::new()) }]);
    }
}

#[test]
fn what_routes_ask_for_is_taken_unspoilt() {
    let memory = Arc::new(Memory::furnished());
    let names = memory.names();
    let router = router(memory.clone(), Settings::default());
    for (method, path) in path::WITH_BODY {
        let sent = Sent {
            method: method.clone(),
            path,
            query: String::new(),
            content: Content::Spoilt(Vec::new()),
        };
        let (status, text) = send(&router, &sent, &names);
        // All are about the one load balancer, which can have a port and a monitor once only.
        assert!(status.is_success(), "{method} {path}: {status} {text}");
    }
}

fn request(content: impl Strategy<Value = Content>) -> impl Strategy<Value = Sent> {
    let route = prop_oneof![
        6 => select(path::WITH_BODY),
        1 => (select(vec![Method::POST, Method::PUT]), select(path::ALL)),
    ];
    let query = prop_oneof![6 => Just(String::new()), 1 => path::query()];
    (route, query, content).prop_map(|((method, path), query, content)| Sent {
        method,
        path,
        query,
        content,
    })
}

fn body_for_a_route() -> impl Strategy<Value = Content> {
    doings().prop_map(Content::Spoilt)
}

fn any_body() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => arbitrary_json().prop_map(Content::Json),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Content::Bytes),
        1 => select(body::ODD).prop_map(|text| Content::Bytes(text.as_bytes().to_vec())),
        1 => Just(Content::Bytes(vec![b'['; 50_000])),
        1 => Just(Content::Bytes(vec![b' '; 200_000])),
    ]
}

/// Sends them one after the other to a load balancer with one of everything.
fn send_all(requests: Vec<Sent>) {
    let memory = Arc::new(Memory::furnished());
    let names = memory.names();
    let router = router(memory.clone(), Settings::default());
    for sent in requests {
        let (status, text) = send(&router, &sent, &names);
        let told = || format!("{sent:?}\n{status}: {text}");
        let known = [StatusCode::NOT_IMPLEMENTED, StatusCode::SERVICE_UNAVAILABLE];
        assert!(
            !status.is_server_error() || known.contains(&status),
            "{}",
            told()
        );
        if status.is_client_error() || status.is_server_error() {
            assert!(is_fault(status, &text), "{}", told());
        } else {
            assert!(status.is_success(), "{}", told());
        }
    }
}

fn send(router: &Router, sent: &Sent, names: &[(&'static str, String)]) -> (StatusCode, String) {
    let path = path::fill(sent.path, names);
    let uri = if sent.query.is_empty() {
        path
    } else {
        format!("{path}?{}", sent.query)
    };
    let content = match &sent.content {
        Content::Spoilt(doings) => {
            let body = body::of_route(&sent.method, sent.path, names);
            body::spoil(body, doings).to_string().into_bytes()
        }
        Content::Json(value) => value.to_string().into_bytes(),
        Content::Bytes(bytes) => bytes.clone(),
    };
    let request = Request::builder()
        .method(sent.method.clone())
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(content))
        .expect("a request");
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(async {
            let answer =
                async { read(router.clone().oneshot(request).await.expect("infallible")).await };
            tokio::time::timeout(PATIENCE, answer)
                .await
                .unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}: {sent:?}"))
        })
}

async fn read(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("a text");
    // 413 is plain text, as the reference has it (reference 1.2).
    let plain = text.is_empty() || status == StatusCode::PAYLOAD_TOO_LARGE;
    assert!(
        plain || is_json,
        "{status} without a content type of JSON: {text}"
    );
    (status, text)
}

/// Whether the body of an error has one of the forms that errors have (reference 1.5).
fn is_fault(status: StatusCode, text: &str) -> bool {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return text.contains("too large");
    }
    let Ok(Value::Object(body)) = serde_json::from_str::<Value>(text) else {
        return false;
    };
    let sentence = |key: &str| body.get(key).and_then(Value::as_str);
    match sentence("faultstring") {
        Some(sentence) => {
            let blame = if status.is_server_error() {
                "Server"
            } else {
                "Client"
            };
            !sentence.is_empty() && body["faultcode"] == blame && body.len() == 3
        }
        None => {
            body.get("code").and_then(Value::as_u64) == Some(u64::from(status.as_u16()))
                && sentence("title").is_some_and(|title| !title.is_empty())
                && sentence("description").is_some()
        }
    }
}

/// Far more than any answer takes; a test that waits this long has found something that hangs.
const PATIENCE: Duration = Duration::from_secs(20);
