//! What hosts ask and say: one joins, wants certificates, reports.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
    routing::post,
};
use http::StatusCode;
use krater_amphora_api::{AmphoraId, CertificateRequest, HostId, HostRefusal, HostReport};
use serde::de::DeserializeOwned;

use super::{Intake, answer};
use crate::{cause::chain, hosts::NotGiven, limits::HOST_BYTES_MAX, serve::Peer};

pub(super) fn router() -> Router<Arc<Intake>> {
    Router::new()
        .route("/v1/hosts/enrol", post(enrol))
        .route("/v1/hosts/certificates", post(certify))
        .route("/v1/hosts/reports", post(report))
}

async fn enrol(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let asked = match read(request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    match intake.hosts.enrol(asked).await {
        Ok(enrolled) => {
            intake.known.neighbours.tell_fleet();
            answer(StatusCode::OK, &enrolled)
        }
        Err(error) => {
            let from = peer.map(|peer| peer.address.to_string());
            tracing::warn!(peer = from, %error, "a host was not let in");
            refuse(&error)
        }
    }
}

async fn certify(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let Some(from) = host(&request) else {
        return stranger();
    };
    let asked: CertificateRequest = match read(request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let amphora = asked.amphora;
    let is_its = async {
        match amphora {
            Some(amphora) => intake.is_on(amphora, from).await.unwrap_or(false),
            None => true,
        }
    };
    match intake.hosts.certify(from, asked, is_its).await {
        Ok(certified) => {
            tracing::info!(host = %from, amphora = amphora.map(tracing::field::display), "a certificate was issued");
            answer(StatusCode::OK, &certified)
        }
        Err(error) => {
            tracing::warn!(host = %from, %error, "a host was given no certificate");
            refuse(&error)
        }
    }
}

async fn report(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let Some(from) = host(&request) else {
        return stranger();
    };
    let report: HostReport = match read(request).await {
        Ok(report) => report,
        Err(refusal) => return refusal,
    };
    if report.host != from {
        return refuse(&NotGiven::Foreign);
    }
    let reported: Vec<AmphoraId> = report.amphorae.iter().map(|hosted| hosted.id).collect();
    match intake.hosts.take(report).await {
        Ok(mut receipt) => {
            for amphora in reported {
                // While nobody can say, it stays.
                if intake.is_on(amphora, from).await == Some(false) {
                    tracing::warn!(host = %from, %amphora, "a host has an amphora that nobody wants; it is ended");
                    receipt.unwanted.push(amphora);
                }
            }
            answer(StatusCode::OK, &receipt)
        }
        Err(error) => {
            tracing::warn!(host = %from, %error, "the report of a host was refused");
            refuse(&error)
        }
    }
}

impl Intake {
    /// Whether the amphora is one of the host's; `None` while nobody can say.
    async fn is_on(&self, amphora: AmphoraId, host: HostId) -> Option<bool> {
        let name = host.to_string();
        if self.fleet.is_on(amphora, &name) {
            return Some(true);
        }
        // Another controller may have decided on it just now.
        let records = match self.known.store.amphorae().await {
            Ok(records) => records,
            Err(error) => {
                self.known.metrics.store_errors.inc();
                tracing::error!(error = %chain(&error), "the amphorae of a host could not be looked up");
                return None;
            }
        };
        let found = records.iter().find(|record| record.id == amphora);
        Some(found.is_some_and(|record| record.host == name))
    }
}

fn host(request: &Request) -> Option<HostId> {
    request.extensions().get::<Peer>()?.host
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Response> {
    let refuse = |message: String| answer(StatusCode::BAD_REQUEST, &HostRefusal { message });
    let body = to_bytes(request.into_body(), HOST_BYTES_MAX)
        .await
        .map_err(|error| refuse(format!("the request cannot be read: {error}")))?;
    serde_json::from_slice(&body)
        .map_err(|error| refuse(format!("the request cannot be understood: {error}")))
}

fn stranger() -> Response<Body> {
    let message = "only hosts of this deployment ask this".to_owned();
    answer(StatusCode::FORBIDDEN, &HostRefusal { message })
}

fn refuse(error: &NotGiven) -> Response<Body> {
    let status = match error {
        // So that it ends what it has: nothing else makes it do so.
        NotGiven::Removed => StatusCode::GONE,
        NotGiven::Certificate(_) => StatusCode::BAD_REQUEST,
        NotGiven::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    let message = error.to_string();
    answer(status, &HostRefusal { message })
}
