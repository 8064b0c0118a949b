//! What a PROMETHEUS listener answers (reference 19.13).

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};
use http_body::Body as _;
use krater_amphora_api::Cause;

use super::{
    body::{Ongoing, Reply},
    session::Session,
};
use crate::{exposition, seat::Seat};

/// Answers a request with the series of the load balancer that the listener is one of.
pub(super) async fn answer(
    session: &Session,
    seat: &Seat,
    asked: &Parts,
    mut ongoing: Ongoing,
) -> Response<Reply> {
    let response = if asked.uri.path() != "/metrics" {
        text(StatusCode::NOT_FOUND, "Metrics are at /metrics.\n".into())
    } else if matches!(asked.method, Method::GET | Method::HEAD) {
        match series(session, seat).await {
            Some(series) => text(StatusCode::OK, series),
            None => {
                ongoing.fails(Cause::LbDrained);
                let sentence = "The load balancer is leaving.\n".into();
                text(StatusCode::SERVICE_UNAVAILABLE, sentence)
            }
        }
    } else {
        ongoing.fails(Cause::ClientMethodRefused);
        let sentence = "Only GET and HEAD are served here.\n".into();
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, sentence);
        let methods = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, methods);
        response
    };
    let length = response.body().size_hint().exact().unwrap_or_default();
    ongoing.note(|record| record.bytes_out = length);
    ongoing.answered(response.status().as_u16());
    ongoing.complete();
    response
}

/// The series, put together elsewhere unless they were a moment ago. `None` if the load balancer is gone.
async fn series(session: &Session, seat: &Seat) -> Option<Bytes> {
    let balancer = session.guest.local.balancer(seat.state.balancer)?;
    if let Some(recent) = exposition::recent(&balancer) {
        return Some(recent);
    }
    let balancer = Arc::clone(&balancer);
    let told = tokio::task::spawn_blocking(move || exposition::tell(&balancer)).await;
    told.ok()
}

fn text(status: StatusCode, body: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::Text(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
