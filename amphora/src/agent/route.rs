//! Method and path → answer, as JSON. Eight routes.

use std::{convert::Infallible, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use krater_amphora_api::{ApplyError, Generation, LoadBalancerId};
use krater_amphora_core::limits::SPEC_BODY_BYTES_MAX;
use serde::Serialize;
use tokio::time::timeout;

use super::{Agent, Refusal};
use crate::{
    limits::{ASIDE_TIME_MAX, BODY_TIME_MAX},
    world::Leave,
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
        (&Method::GET, ["v1", "info"]) => json(StatusCode::OK, &agent.info()),
        (&Method::GET, ["v1", "report"]) => or_refusal(agent.report().map_err(Refusal::from)),
        (&Method::GET, ["v1", "load-balancers"]) => list(&agent),
        (&Method::PUT, ["v1", "load-balancers", id]) => put(agent, id, request.into_body()).await,
        (&Method::DELETE, ["v1", "load-balancers", id]) => {
            delete(agent, id, request.uri().query()).await
        }
        (&Method::POST, ["v1", "load-balancers", id, "aside"]) => {
            stand_aside(&agent, id, request.uri().query())
        }
        (&Method::POST, ["v1", "successor"]) => succeed(&agent),
        (_, ["v1", "info" | "report" | "load-balancers"]) => not_allowed("GET"),
        (_, ["v1", "successor"] | ["v1", "load-balancers", _, "aside"]) => not_allowed("POST"),
        (_, ["v1", "load-balancers", _]) => not_allowed("PUT, DELETE"),
        _ => error(StatusCode::NOT_FOUND, format!("there is nothing at {path}")),
    })
}

/// One line of the list of load balancers.
#[derive(Serialize)]
struct Line {
    id: LoadBalancerId,
    generation: Generation,
}

fn list(agent: &Agent) -> Response<Full<Bytes>> {
    let lines = agent.list().map(|list| {
        list.into_iter()
            .map(|(id, generation)| Line { id, generation })
            .collect::<Vec<_>>()
    });
    or_refusal(lines.map_err(Refusal::from))
}

/// Has the program that is on disk now take over. Whether it has, the next report tells by its boot id.
fn succeed(agent: &Agent) -> Response<Full<Bytes>> {
    match agent.ask_for_successor() {
        Ok(true) => json(StatusCode::ACCEPTED, &agent.info()),
        Ok(false) => error(
            StatusCode::CONFLICT,
            "no supervisor looks after this process, so nobody could start its successor"
                .to_owned(),
        ),
        Err(ending) => or_refusal::<()>(Err(Refusal::from(ending))),
    }
}

/// Has a load balancer's addresses left to another amphora that has them too and is not heard from here.
fn stand_aside(agent: &Agent, id: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    let id = match parse_id(id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let Some(time) = query.and_then(parse_aside) else {
        let most = ASIDE_TIME_MAX.as_millis();
        let message = format!("the query must be for_ms=N, with N at most {most}");
        return error(StatusCode::BAD_REQUEST, message);
    };
    if agent.stand_aside(id, time) {
        json(StatusCode::OK, &agent.info())
    } else {
        let message = format!("load balancer {id} takes no turns here");
        error(StatusCode::NOT_FOUND, message)
    }
}

fn parse_aside(query: &str) -> Option<Duration> {
    let number = query.strip_prefix("for_ms=")?;
    let time = Duration::from_millis(number.parse().ok()?);
    (time <= ASIDE_TIME_MAX).then_some(time)
}

async fn put(agent: Rc<Agent>, id: &str, body: Incoming) -> Response<Full<Bytes>> {
    let id = match parse_id(id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let body = match read(body).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    // A task of its own: a caller that goes away must not leave an apply half done, on disk but not in force.
    let applied = tokio::task::spawn_local(async move { agent.apply(id, body).await }).await;
    applied.map_or_else(|_| broke(), or_refusal)
}

async fn delete(agent: Rc<Agent>, id: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    let id = match parse_id(id) {
        Ok(id) => id,
        Err(answer) => return answer,
    };
    let Some((generation, leave)) = query.and_then(parse_delete) else {
        let message =
            "the query must be generation=N, with N at least 1, and may be followed by &moved=true";
        return error(StatusCode::BAD_REQUEST, message.to_owned());
    };
    let deleted =
        tokio::task::spawn_local(async move { agent.delete(id, generation, leave).await }).await;
    deleted.map_or_else(
        |_| broke(),
        |outcome| or_refusal(outcome.map(|()| Deleted { generation })),
    )
}

/// The answer to a delete.
#[derive(Serialize)]
struct Deleted {
    generation: Generation,
}

#[expect(
    clippy::result_large_err,
    reason = "the error is the answer, made once per request"
)]
fn parse_id(text: &str) -> Result<LoadBalancerId, Response<Full<Bytes>>> {
    text.parse().map_err(|_| {
        error(
            StatusCode::BAD_REQUEST,
            format!("{text:?} is not the id of a load balancer"),
        )
    })
}

/// As of when a load balancer is to go, and how.
fn parse_delete(query: &str) -> Option<(Generation, Leave)> {
    let mut pairs = query.split('&');
    let number = pairs.next()?.strip_prefix("generation=")?;
    // Read strictly (I9): what else is asked cannot be ignored.
    let leave = match (pairs.next(), pairs.next()) {
        (None, _) => Leave::Gone,
        (Some("moved=true"), None) => Leave::Moved,
        _ => return None,
    };
    Some((Generation::from_number(number.parse().ok()?)?, leave))
}

async fn read(body: Incoming) -> Result<Bytes, Response<Full<Bytes>>> {
    match timeout(
        BODY_TIME_MAX,
        Limited::new(body, SPEC_BODY_BYTES_MAX).collect(),
    )
    .await
    {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {SPEC_BODY_BYTES_MAX} bytes");
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(cause)) => Err(error(
            StatusCode::BAD_REQUEST,
            format!("the body cannot be read: {cause}"),
        )),
        Err(_) => Err(error(StatusCode::REQUEST_TIMEOUT, too_slow(BODY_TIME_MAX))),
    }
}

fn too_slow(time: Duration) -> String {
    format!("the body did not arrive within {time:?}")
}

fn or_refusal<T: Serialize>(outcome: Result<T, Refusal>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(value) => json(StatusCode::OK, &value),
        Err(refusal) => {
            let status = match refusal {
                Refusal::Unreadable(_) => StatusCode::BAD_REQUEST,
                Refusal::Stale { .. } => StatusCode::CONFLICT,
                Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                Refusal::Network(_) => StatusCode::INTERNAL_SERVER_ERROR,
                Refusal::NotKept(_) => StatusCode::INSUFFICIENT_STORAGE,
                Refusal::Ending(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            json(status, &refusal.into_error())
        }
    }
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut answer = error(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("allowed here: {allowed}"),
    );
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn broke() -> Response<Full<Bytes>> {
    error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the request broke the agent: this is a bug".to_owned(),
    )
}

fn error(status: StatusCode, message: String) -> Response<Full<Bytes>> {
    json(
        status,
        &ApplyError {
            message,
            rejections: Vec::new(),
            held: None,
        },
    )
}

/// An answer as JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    // The types of the contract have string keys and finite numbers only: they always serialize.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_stand_aside_is_read_strictly() {
        assert_eq!(parse_aside("for_ms=0"), Some(Duration::ZERO));
        assert_eq!(parse_aside("for_ms=60000"), Some(ASIDE_TIME_MAX));
        for wrong in ["", "for_ms=", "for_ms=-1", "for_ms=60001", "for_ms=1&x=1"] {
            assert_eq!(parse_aside(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_generation_is_read_strictly() {
        let seventh = Generation::from_number(7).unwrap();
        assert_eq!(parse_delete("generation=7"), Some((seventh, Leave::Gone)));
        assert_eq!(
            parse_delete("generation=7&moved=true"),
            Some((seventh, Leave::Moved))
        );
        for wrong in [
            "",
            "generation=0",
            "generation=-1",
            "generation=x",
            "generation=1&force=1",
            "generation=1&moved=false",
            "generation=1&moved=true&x=1",
            "gen=1",
        ] {
            assert_eq!(parse_delete(wrong), None, "{wrong}");
        }
    }
}
