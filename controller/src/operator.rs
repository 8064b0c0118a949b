//! What operators may ask beside the tenants' API: the fleet, at a path of our own.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use krater_amphora_api::LoadBalancerId;
use krater_controller_api::{Application, Credentials, RouteName, Unauthenticated};
use krater_controller_core::{
    audit::{Deed, Entry, Outcome},
    command::Operation,
    envelope::Envelope,
    model::Tenancy,
    query::{AmphoraView, Answer, Caller, Query as Question},
    refusal::Refusal,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{cause::chain, chance, clock, knowledge::Knowledge, trail::roles};

mod audit;
pub(crate) mod authority;
mod carriers;
mod failures;
pub(crate) mod hosts;
mod members;

#[cfg(test)]
pub(crate) use self::failures::ListenerDocument;
pub(crate) use self::{
    audit::{AuditDocument, EntryDocument},
    carriers::{CarrierDocument, CarriersDocument},
    failures::{CauseDocument, FailuresDocument},
    members::{MemberDocument, MembersDocument},
};

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
    /// In this minute and the one before, but for what clients are at fault for.
    #[serde(default)]
    pub(crate) recent_failures: u64,
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
        .route("/krater/v1/amphorae/{id}/upgrade", post(upgrade))
        .route("/krater/v1/audit", get(trail))
        .route("/krater/v1/secrets/refresh", post(refresh_secrets))
        .route("/krater/v1/loadbalancers/{id}/members", get(members::list))
        .route(
            "/krater/v1/loadbalancers/{id}/amphorae",
            get(carriers::list),
        )
        .route(
            "/krater/v1/loadbalancers/{id}/failures",
            get(failures::list),
        )
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

async fn refresh_secrets(
    State(application): State<Arc<dyn Application>>,
    headers: HeaderMap,
) -> Response {
    let done = operate(&*application, &headers, Operation::RefreshSecrets).await;
    accepted(
        "operator_secrets_refresh",
        done,
        "all secrets in use are read again",
    )
}

async fn upgrade(
    State(application): State<Arc<dyn Application>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let done = match id.parse() {
        Ok(id) => operate(&*application, &headers, Operation::Upgrade(id)).await,
        Err(_) => Err((StatusCode::NOT_FOUND, format!("Amphora {id} not found."))),
    };
    accepted(
        "operator_amphora_upgrade",
        done,
        "the program on its host's disk takes over; it has when pid and version have changed",
    )
}

async fn operate(
    application: &dyn Application,
    headers: &HeaderMap,
    operation: Operation,
) -> Result<(), (StatusCode, String)> {
    let caller = authenticated(application, headers).await?;
    let envelope = Envelope {
        request_id: request_id(),
        ..Envelope::default()
    };
    let done = application.operate(&caller, operation, &envelope).await;
    done.map_err(refused)
}

fn accepted(route: &'static str, done: Result<(), (StatusCode, String)>, what: &str) -> Response {
    let (status, message) = match done {
        Ok(()) => (StatusCode::ACCEPTED, what.to_owned()),
        Err(refused) => refused,
    };
    answer(route, status, &Message { message })
}

async fn trail(
    State(application): State<Arc<dyn Application>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    const ROUTE: &str = "operator_audit";
    let filter = match audit::parse(&query.unwrap_or_default()) {
        Ok(filter) => filter,
        Err(message) => return answer(ROUTE, StatusCode::BAD_REQUEST, &Message { message }),
    };
    let limit = filter.limit;
    match ask(&*application, &headers, Question::Audit(filter)).await {
        Ok(Answer::Audit(kept)) => answer(ROUTE, StatusCode::OK, &audit::page(kept, limit)),
        Ok(_) => {
            let (status, message) = mismatch();
            answer(ROUTE, status, &Message { message })
        }
        Err((status, message)) => answer(ROUTE, status, &Message { message }),
    }
}

async fn amphorae(
    application: &dyn Application,
    headers: &HeaderMap,
) -> Result<Vec<AmphoraDocument>, (StatusCode, String)> {
    match ask(application, headers, Question::Amphorae).await? {
        Answer::Amphorae(views) => Ok(views.into_iter().map(document).collect()),
        _ => Err(mismatch()),
    }
}

/// Answers a question about a load balancer by a document, which there is of the answer that belongs to it.
async fn tell<D: Serialize>(
    route: &'static str,
    (application, headers): (&dyn Application, &HeaderMap),
    id: &str,
    question: fn(LoadBalancerId) -> Question,
    document: impl FnOnce(Answer) -> Option<D>,
) -> Response {
    let Ok(uuid) = Uuid::parse_str(id) else {
        let message = format!("Load Balancer {id} not found.");
        return answer(route, StatusCode::NOT_FOUND, &Message { message });
    };
    let question = question(LoadBalancerId::new(uuid));
    let told = ask(application, headers, question).await;
    match told.and_then(|told| document(told).ok_or_else(mismatch)) {
        Ok(document) => answer(route, StatusCode::OK, &document),
        Err((status, message)) => answer(route, status, &Message { message }),
    }
}

fn mismatch() -> (StatusCode, String) {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the question was answered with something else".to_owned(),
    )
}

async fn ask(
    application: &dyn Application,
    headers: &HeaderMap,
    question: Question,
) -> Result<Answer, (StatusCode, String)> {
    let caller = authenticated(application, headers).await?;
    let answer = application.answer(&caller, question).await;
    answer.map_err(refused)
}

/// Notes what an operator did.
async fn note(
    known: &Knowledge,
    caller: &Caller,
    deed: Deed,
    kind: &str,
    resource: Option<String>,
) {
    let entry = Entry {
        at: clock::now(),
        request_id: request_id(),
        global_request_id: None,
        user: caller.user.clone(),
        caller_project: caller.project.clone(),
        roles: roles(caller),
        deed,
        kind: kind.to_owned(),
        resource,
        load_balancer: None,
        project: None,
        outcome: Outcome::Done,
    };
    if let Err(error) = known.store.note(&[entry]).await {
        known.metrics.store_errors.inc();
        tracing::error!(error = %chain(&error), kind, "what an operator did could not be noted");
    }
}

fn request_id() -> String {
    format!("req-{}", chance::random_uuid())
}

fn refused(refusal: Refusal) -> (StatusCode, String) {
    let status = match refusal {
        Refusal::NotPermitted => StatusCode::FORBIDDEN,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, refusal.to_string())
}

async fn authenticated(
    application: &dyn Application,
    headers: &HeaderMap,
) -> Result<Caller, (StatusCode, String)> {
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
    application
        .authenticate(&credentials)
        .await
        .map_err(|error| match error {
            Unauthenticated::Required => (StatusCode::UNAUTHORIZED, error.to_string()),
            Unauthenticated::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        })
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
        recent_failures: view.recent_failures,
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

#[cfg(test)]
mod tests {
    use krater_controller_core::audit::AuditFilter;

    use super::*;
    use crate::testbed::{AMPHORA, House};

    #[tokio::test]
    async fn what_an_operator_does_is_noted_with_the_request_it_was_done_in() {
        let house = House::build().await;
        let operation = Operation::Upgrade(AMPHORA);
        operate(&*house.application, &HeaderMap::new(), operation)
            .await
            .unwrap();
        let caller = authenticated(&*house.application, &HeaderMap::new())
            .await
            .unwrap();
        let phase = Some("announced".to_owned());
        note(&house.known, &caller, Deed::Update, "authority", phase).await;
        let filter = AuditFilter {
            limit: 10,
            ..AuditFilter::default()
        };
        let noted = house.known.store.audit(&filter).await.unwrap();
        let noted: Vec<_> = noted.into_iter().map(|kept| kept.entry).collect();
        let kinds: Vec<_> = noted.iter().map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["authority", "amphora"]);
        for entry in noted {
            let id = entry.request_id.strip_prefix("req-").unwrap();
            assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
        }
    }
}
