//! One log line and one observation per request of the API.

use std::{cell::RefCell, sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::Method;
use krater_amphora_api::LoadBalancerId;
use krater_controller_api::{Refused, RouteName, global_request_id};
use krater_controller_core::{
    audit::{Entry, Outcome},
    query::Caller,
};
use uuid::Uuid;

use crate::{
    clock,
    metrics::Metrics,
    serve::Peer,
    trail::{self, Refusal, Trail},
};

tokio::task_local! {
    /// Who sends the request that this task answers, once that is known.
    static CALLER: RefCell<Option<Caller>>;
}

/// Notes who sends the request that is being answered, for its log line.
pub(crate) fn note_caller(caller: &Caller) {
    // Outside of a request, e.g. in a test, nobody asks.
    let _ = CALLER.try_with(|slot| slot.replace(Some(caller.clone())));
}

/// What the log needs.
#[derive(Clone)]
pub(crate) struct Book {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trail: Arc<Trail>,
}

/// Answers the request and says so.
pub(crate) async fn log(State(book): State<Book>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let global = global_request_id(request.headers()).map(str::to_owned);
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
    book.metrics
        .request_seconds
        .with_label_values(&observed)
        .observe(took.as_secs_f64());
    let id = response
        .headers()
        .get("x-openstack-request-id")
        .and_then(|id| id.to_str().ok());
    let refused = response.extensions().get::<Refused>();
    let name = caller.as_ref().map(|caller| match &caller.project {
        Some(project) => format!("{}@{project}", caller.user),
        None => caller.user.clone(),
    });
    tracing::info!(
        request_id = id.unwrap_or("-"),
        global_request_id = global.as_deref(),
        caller = name.as_deref().unwrap_or("-"),
        peer = peer.map(tracing::field::display),
        %method,
        %path,
        status = status.as_u16(),
        refused = refused.map(|refused| refused.sentence.as_str()),
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    if let (Some(refused), Some(caller)) = (refused, caller)
        && matches!(method.as_str(), "POST" | "PUT" | "DELETE")
    {
        let ids = (id.unwrap_or_default().to_owned(), global);
        book.trail.note(Refusal {
            entry: entry(refused, &caller, ids, status.as_u16()),
            about: refused.about,
        });
    }
    response
}

/// What the audit trail says of a refusal.
fn entry(refused: &Refused, caller: &Caller, ids: (String, Option<String>), status: u16) -> Entry {
    Entry {
        at: clock::now(),
        request_id: ids.0,
        global_request_id: ids.1,
        user: caller.user.clone(),
        caller_project: caller.project.clone(),
        roles: trail::roles(caller),
        deed: refused.deed,
        kind: refused.kind.to_owned(),
        resource: refused.resource.clone(),
        load_balancer: refused
            .resource
            .as_deref()
            .filter(|_| refused.kind == "loadbalancer")
            .and_then(|id| Uuid::parse_str(id).ok())
            .map(LoadBalancerId::new),
        // Found when it is written down.
        project: None,
        outcome: Outcome::Refused {
            status,
            sentence: refused.sentence.clone(),
        },
    }
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
