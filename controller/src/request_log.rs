//! One log line and one observation per request of the API.

use std::{cell::RefCell, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::Method;
use krater_controller_api::RouteName;
use krater_controller_core::query::Caller;

use crate::{metrics::Metrics, serve::Peer};

tokio::task_local! {
    /// Who sends the request that this task answers, once that is known.
    static CALLER: RefCell<Option<String>>;
}

/// Notes who sends the request that is being answered, for its log line.
pub(crate) fn note_caller(caller: &Caller) {
    let name = match &caller.project {
        Some(project) => format!("{}@{project}", caller.user),
        None => caller.user.clone(),
    };
    // Outside of a request, e.g. in a test, nobody asks.
    let _ = CALLER.try_with(|slot| slot.replace(Some(name)));
}

/// Answers the request and says so.
pub(crate) async fn log(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
    let (response, caller) = CALLER
        .scope(RefCell::new(None), async {
            let response = next.run(request).await;
            (response, CALLER.try_with(RefCell::take).ok().flatten())
        })
        .await;
    let took = began.elapsed();
    let status = response.status();
    let route = response
        .extensions()
        .get::<RouteName>()
        .map_or("other", |route| route.0);
    let observed = [route, method_label(&method), class(status.as_u16())];
    metrics
        .request_seconds
        .with_label_values(&observed)
        .observe(took.as_secs_f64());
    let id = response
        .headers()
        .get("x-openstack-request-id")
        .and_then(|id| id.to_str().ok());
    tracing::info!(
        request_id = id.unwrap_or("-"),
        caller = caller.as_deref().unwrap_or("-"),
        peer = peer.map(tracing::field::display),
        %method,
        %path,
        status = status.as_u16(),
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    response
}

/// Methods are words of the client: only the usual ones become labels.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

const fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
