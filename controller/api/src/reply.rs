//! Answers, before they become HTTP.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use krater_controller_core::envelope::Generation;
use serde_json::Value;

use crate::{application::Novelty, fault::Fault};

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// A status and an object.
    Json(StatusCode, Value),
    /// The same with headers of its own.
    Tagged(StatusCode, Value, Tags),
    /// A status and a text of a content type.
    Text(StatusCode, &'static str, String),
    /// A status alone.
    Empty(StatusCode),
    /// To OPTIONS.
    Options,
}

/// Headers about the resource that an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    /// Its version.
    pub(crate) version: Option<Generation>,
    /// Whether the request that is answered did what it asked for.
    pub(crate) novelty: Novelty,
}

impl Reply {
    /// 200 with an object.
    pub(crate) const fn ok(value: Value) -> Self {
        Self::Json(StatusCode::OK, value)
    }

    /// The answer over HTTP.
    pub(crate) fn into_response(self) -> Response {
        match self {
            Self::Json(status, value) => json_response(status, &value),
            Self::Tagged(status, value, tags) => {
                let mut response = json_response(status, &value);
                tags.put(response.headers_mut());
                response
            }
            Self::Text(status, content_type, text) => {
                with_type(status, content_type, Body::from(text))
            }
            Self::Empty(status) => plain(status, Body::empty()),
            Self::Options => {
                let mut response = plain(StatusCode::OK, Body::empty());
                let headers = response.headers_mut();
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_METHODS,
                    HeaderValue::from_static(METHODS),
                );
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::from_static(HEADERS),
                );
                response
            }
        }
    }
}

impl Tags {
    fn put(self, headers: &mut HeaderMap) {
        let tag = self.version.map(|version| format!("\"{version}\""));
        if let Some(tag) = tag.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            headers.insert(header::ETAG, tag);
        }
        if self.novelty == Novelty::Repeated {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
    }
}

/// A refusal over HTTP; `identity_uri` is where tokens come from.
pub(crate) fn fault_response(fault: &Fault, identity_uri: Option<&str>) -> Response {
    let mut response = json_response(fault.status, &fault.body());
    if fault.status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if fault.status == StatusCode::UNAUTHORIZED {
        let challenge = match identity_uri {
            Some(uri) => HeaderValue::try_from(format!("Keystone uri=\"{uri}\"")).ok(),
            None => None,
        };
        let challenge = challenge.unwrap_or(HeaderValue::from_static("Keystone"));
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    with_type(status, "application/json", Body::from(value.to_string()))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = plain(status, body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn plain(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Long enough for a restart, short enough not to be noticed.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");
const METHODS: &str = "GET, PUT, POST, DELETE";
const HEADERS: &str =
    "Content-Type, X-Auth-Token, X-Project-Id, X-Openstack-Request-Id, If-Match, Idempotency-Key";
