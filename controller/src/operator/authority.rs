//! The authority of the fleet, for operators: who is trusted, and how another one takes over.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use krater_controller_api::Application;
use krater_controller_core::{
    audit::Deed,
    policy::{self, Action},
    query::Caller,
    refusal::Refusal,
};
use serde::{Deserialize, Serialize};

use super::{Message, answer, authenticated, note, refused};
use crate::{
    cause::chain,
    knowledge::Knowledge,
    rotation::{Rotation, Stand},
};

/// What is needed to answer for the authority.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) rotation: Arc<Rotation>,
    pub(crate) known: Knowledge,
}

/// The authorities as they travel to operators.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct AuthorityDocument {
    /// `settled`, `announced` or `switched`.
    pub(crate) phase: String,
    pub(crate) authorities: Vec<TrustedDocument>,
    /// Who has not followed yet.
    pub(crate) waiting: Vec<String>,
}

/// One that is trusted.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TrustedDocument {
    /// SHA-256 of its certificate.
    pub(crate) fingerprint: String,
    pub(crate) signs: bool,
}

/// The routes about the authority.
pub(crate) fn router(office: Office) -> Router {
    Router::new()
        .route("/krater/v1/authority", get(show))
        .route("/krater/v1/authority/rotate", post(rotate))
        .with_state(office)
}

async fn show(State(office): State<Office>, headers: HeaderMap) -> Response {
    const ROUTE: &str = "operator_authority";
    match office.admit(&headers).await {
        Ok(_) => answer(ROUTE, StatusCode::OK, &document(office.rotation.stand())),
        Err((status, message)) => answer(ROUTE, status, &Message { message }),
    }
}

async fn rotate(State(office): State<Office>, headers: HeaderMap) -> Response {
    const ROUTE: &str = "operator_authority_rotate";
    let taken = async {
        let caller = office.admit(&headers).await?;
        let advanced = office.rotation.advance().await;
        let stand = advanced.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, chain(&error)))?;
        if stand.waiting.is_empty() {
            let phase = stand.phase.name().to_owned();
            let known = &office.known;
            note(known, &caller, Deed::Update, "authority", Some(phase)).await;
        }
        Ok(stand)
    };
    match taken.await {
        Ok(stand) => answer(ROUTE, StatusCode::OK, &document(stand)),
        Err((status, message)) => answer(ROUTE, status, &Message { message }),
    }
}

impl Office {
    async fn admit(&self, headers: &HeaderMap) -> Result<Caller, (StatusCode, String)> {
        let caller = authenticated(&*self.application, headers).await?;
        if policy::permits_everywhere(&caller, Action::Administer) {
            Ok(caller)
        } else {
            Err(refused(Refusal::NotPermitted))
        }
    }
}

fn document(stand: Stand) -> AuthorityDocument {
    let authorities = stand.authorities.into_iter();
    AuthorityDocument {
        phase: stand.phase.name().to_owned(),
        authorities: authorities
            .map(|(fingerprint, signs)| TrustedDocument { fingerprint, signs })
            .collect(),
        waiting: stand.waiting,
    }
}
