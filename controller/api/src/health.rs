//! The health check for load balancers in front of the API (reference 3.2).

use http::{Method, StatusCode};
use krater_controller_core::{
    model::LoadBalancerId,
    query::{Caller, Query, TreeFilter},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    application::Application,
    fault::Fault,
    reply::Reply,
    settings::{Healthcheck, Settings},
};

/// Whether the store answers.
pub(crate) async fn check(
    application: &dyn Application,
    settings: &Settings,
    method: &Method,
    accept: &str,
) -> Result<Reply, Fault> {
    if settings.healthcheck == Healthcheck::Disabled {
        return Err(Fault::no_such_path());
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(Fault::no_such_method());
    }
    // A question that only the store can answer, and answers with nothing.
    let caller = Caller::unrestricted("healthcheck", None);
    let nobody = TreeFilter {
        load_balancer: Some(LoadBalancerId::new(Uuid::nil())),
        ..TreeFilter::default()
    };
    let healthy = application
        .answer(&caller, Query::Trees(nobody))
        .await
        .is_ok();
    let (status, reason) = if healthy {
        (StatusCode::OK, "OK")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "The Octavia database is unavailable.",
        )
    };
    if method == Method::HEAD {
        return Ok(Reply::Empty(if healthy {
            StatusCode::NO_CONTENT
        } else {
            status
        }));
    }
    Ok(if accept.contains("application/json") {
        Reply::Json(status, json!({"detailed": false, "reasons": [reason]}))
    } else if accept.contains("text/html") {
        let page = format!(
            "<!DOCTYPE html><html><head><title>Healthcheck</title></head><body>{reason}</body></html>"
        );
        Reply::Text(status, "text/html; charset=UTF-8", page)
    } else {
        Reply::Text(status, "text/plain; charset=UTF-8", reason.to_owned())
    })
}
