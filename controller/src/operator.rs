//! What operators may ask beside the tenants' API: the fleet, at a path of our own.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use krater_controller_api::{Application, Credentials, RouteName, Unauthenticated};
use krater_controller_core::{
    model::Tenancy,
    query::{AmphoraView, Answer, Query},
    refusal::Refusal,
};
use serde::{Deserialize, Serialize};

/// An amphora as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct AmphoraDocument {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) agent: String,
    pub(crate) metrics: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) last_seen: Option<String>,
    pub(crate) load_balancers: u64,
    pub(crate) behind: u64,
    pub(crate) zone: String,
    pub(crate) tenancy: String,
}

/// The fleet as it travels to operators.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct FleetDocument {
    pub(crate) amphorae: Vec<AmphoraDocument>,
}

/// The operators' routes. Whatever else is asked is not theirs to answer.
pub(crate) fn router(application: Arc<dyn Application>) -> Router {
    Router::new()
        .route("/krater/v1/amphorae", get(list))
        .route("/krater/v1/amphorae/{id}", get(show))
        .with_state(application)
}

async fn list(State(application): State<Arc<dyn Application>>, headers: HeaderMap) -> Response {
    match amphorae(&*application, &headers).await {
        Ok(amphorae) => answer(
            "operator_amphorae",
            StatusCode::OK,
            &FleetDocument { amphorae },
        ),
        Err((status, message)) => answer("operator_amphorae", status, &Message { message }),
    }
}

async fn show(
    State(application): State<Arc<dyn Application>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = amphorae(&*application, &headers)
        .await
        .and_then(|amphorae| {
            let found = amphorae.into_iter().find(|amphora| amphora.id == id);
            found.ok_or_else(|| (StatusCode::NOT_FOUND, format!("Amphora {id} not found.")))
        });
    match found {
        Ok(amphora) => answer("operator_amphora", StatusCode::OK, &amphora),
        Err((status, message)) => answer("operator_amphora", status, &Message { message }),
    }
}

async fn amphorae(
    application: &dyn Application,
    headers: &HeaderMap,
) -> Result<Vec<AmphoraDocument>, (StatusCode, String)> {
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let credentials = Credentials {
        token: header("x-auth-token"),
        service_token: header("x-service-token"),
        project: header("x-project-id"),
    };
    let caller = application
        .authenticate(&credentials)
        .await
        .map_err(|error| match error {
            Unauthenticated::Required => (StatusCode::UNAUTHORIZED, error.to_string()),
            Unauthenticated::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        })?;
    match application.answer(&caller, Query::Amphorae).await {
        Ok(Answer::Amphorae(views)) => Ok(views.into_iter().map(document).collect()),
        Ok(_) => Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            "the question was answered with something else".to_owned(),
        )),
        Err(Refusal::NotPermitted) => {
            Err((StatusCode::FORBIDDEN, Refusal::NotPermitted.to_string()))
        }
        Err(refusal) => Err((StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())),
    }
}

fn document(view: AmphoraView) -> AmphoraDocument {
    AmphoraDocument {
        id: view.id.to_string(),
        status: view.status.name().to_owned(),
        agent: view.agent,
        metrics: view.metrics,
        version: view.version,
        pid: view.pid,
        last_seen: view.last_seen.map(|at| at.to_string()),
        load_balancers: view.load_balancers.len() as u64,
        behind: view.behind,
        zone: view.zone,
        tenancy: match view.tenancy {
            Tenancy::Shared => "shared",
            Tenancy::Dedicated => "dedicated",
        }
        .to_owned(),
    }
}

#[derive(Serialize)]
struct Message {
    message: String,
}

fn answer(route: &'static str, status: StatusCode, value: &impl Serialize) -> Response {
    // Plain data with string keys always serializes.
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response.extensions_mut().insert(RouteName(route));
    response
}
