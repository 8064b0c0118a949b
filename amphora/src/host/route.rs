//! What controllers ask of a host: method and path → answer, as JSON. Six routes.

use std::{convert::Infallible, rc::Rc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use krater_amphora_api::{AmphoraId, HostOrder, HostRefusal};
use tokio::time::timeout;

use super::{Agent, segment};
use crate::{
    agent::route::json,
    limits::{BODY_TIME_MAX, HOST_ORDER_BYTES_MAX, HOST_RELEASE_WAIT_MAX},
};

/// Answers one request.
pub(crate) async fn answer(
    agent: Rc<Agent>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let method = request.method().clone();
    Ok(match (&method, segments.as_slice()) {
        (&Method::GET, ["v1", "info"]) => json(StatusCode::OK, &agent.facts),
        (&Method::GET, ["v1", "amphorae"]) => json(StatusCode::OK, &agent.tenants.list()),
        (&Method::PUT, ["v1", "amphorae", id]) => put(agent, id, request.into_body()).await,
        (&Method::DELETE, ["v1", "amphorae", id]) => delete(agent, id).await,
        (&Method::POST, ["v1", "amphorae", id, "certificate"]) => renew(agent, Some(id)).await,
        (&Method::POST, ["v1", "certificates"]) => renew(agent, None).await,
        (&Method::GET, ["v1", "certificates"]) => shown(&agent),
        (_, ["v1", "info" | "amphorae" | "certificates"] | ["v1", "amphorae", _]) => refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "that cannot be done here".to_owned(),
        ),
        _ => refuse(StatusCode::NOT_FOUND, format!("there is nothing at {path}")),
    })
}

async fn put(agent: Rc<Agent>, id: &str, body: Incoming) -> Response<Full<Bytes>> {
    let Ok(id) = id.parse::<AmphoraId>() else {
        return no_id(id);
    };
    let body = Limited::new(body, HOST_ORDER_BYTES_MAX).collect();
    let order: HostOrder = match timeout(BODY_TIME_MAX, body).await {
        Ok(Ok(body)) => match serde_json::from_slice(&body.to_bytes()) {
            Ok(order) => order,
            Err(error) => {
                let message = format!("the order cannot be understood: {error}");
                return refuse(StatusCode::BAD_REQUEST, message);
            }
        },
        _ => {
            let message = "the order cannot be read".to_owned();
            return refuse(StatusCode::BAD_REQUEST, message);
        }
    };
    if let Some(segment) = &order.segment {
        let flaws = segment::flaws(segment, agent.tenants.underlay());
        if !flaws.is_empty() {
            let message = format!(
                "the network of the amphora cannot be built: {}",
                flaws.join("; ")
            );
            return refuse(StatusCode::BAD_REQUEST, message);
        }
    }
    // A task of its own: a caller that goes away must not leave it half done.
    let tenants = Rc::clone(&agent.tenants);
    let ensured = tokio::task::spawn_local(async move { tenants.ensure(id, order).await }).await;
    match ensured {
        Ok(Ok(hosted)) => json(StatusCode::OK, &hosted),
        Ok(Err(message)) => refuse(StatusCode::SERVICE_UNAVAILABLE, message),
        Err(_) => broke(),
    }
}

async fn delete(agent: Rc<Agent>, id: &str) -> Response<Full<Bytes>> {
    let Ok(id) = id.parse::<AmphoraId>() else {
        return no_id(id);
    };
    let tenants = Rc::clone(&agent.tenants);
    let releasing = tokio::task::spawn_local(async move { tenants.release(id).await });
    match timeout(HOST_RELEASE_WAIT_MAX, releasing).await {
        Ok(Ok(Ok(()))) => json(StatusCode::OK, &Vec::<AmphoraId>::new()),
        Ok(Ok(Err(error))) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Ok(Err(_)) => broke(),
        // It goes on beside; whoever asks again learns how it ended.
        Err(_) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the amphora is ending: its connections get their time".to_owned(),
        ),
    }
}

/// Gives an amphora, or the host and all its amphorae, other keys and certificates.
async fn renew(agent: Rc<Agent>, amphora: Option<&str>) -> Response<Full<Bytes>> {
    let id = match amphora.map(str::parse::<AmphoraId>).transpose() {
        Ok(id) => id,
        Err(_) => return no_id(amphora.unwrap_or_default()),
    };
    let asked = Rc::clone(&agent);
    let renewing = tokio::task::spawn_local(async move {
        match id {
            Some(id) => asked.tenants.renew(id).await,
            None => asked.renew_all().await,
        }
    });
    match renewing.await {
        Ok(Ok(())) => shown(&agent),
        Ok(Err(message)) => refuse(StatusCode::SERVICE_UNAVAILABLE, message),
        Err(_) => broke(),
    }
}

/// What the host and its amphorae show and trust.
fn shown(agent: &Agent) -> Response<Full<Bytes>> {
    match agent.shown() {
        Ok(shown) => json(StatusCode::OK, &shown),
        Err(message) => refuse(StatusCode::SERVICE_UNAVAILABLE, message),
    }
}

fn no_id(text: &str) -> Response<Full<Bytes>> {
    let message = format!("{text:?} is not the id of an amphora");
    refuse(StatusCode::BAD_REQUEST, message)
}

fn broke() -> Response<Full<Bytes>> {
    refuse(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the request broke the agent of the host: this is a bug".to_owned(),
    )
}

fn refuse(status: StatusCode, message: String) -> Response<Full<Bytes>> {
    json(status, &HostRefusal { message })
}
