//! What hosts ask and say: one joins, wants certificates, reports.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
    routing::post,
};
use http::StatusCode;
use krater_amphora_api::{
    AmphoraId, CertificateRequest, HostId, HostReceipt, HostRefusal, HostReport,
};
use krater_controller_store::StoreError;
use serde::de::DeserializeOwned;

use super::{Intake, answer};
use crate::{
    cause::chain, hosts::NotGiven, limits::HOST_BYTES_MAX, reconcile::Agents as _, serve::Peer,
};

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
        let unwanted = intake.not_on(from, amphora.as_slice()).await?;
        Ok(unwanted.is_empty())
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
    match intake.take_host(report).await {
        Ok(receipt) => answer(StatusCode::OK, &receipt),
        Err(error) => {
            tracing::warn!(host = %from, %error, "the report of a host was refused");
            refuse(&error)
        }
    }
}

impl Intake {
    /// Takes the report of the host whose certificate was shown.
    pub(crate) async fn take_host(&self, report: HostReport) -> Result<HostReceipt, NotGiven> {
        let from = report.host;
        let reported: Vec<AmphoraId> = report.amphorae.iter().map(|hosted| hosted.id).collect();
        let at_rest = report.amphorae.iter().filter(|it| it.agent.is_none());
        let at_rest: Vec<AmphoraId> = at_rest.map(|hosted| hosted.id).collect();
        let mut receipt = self.hosts.take(report).await?;
        // While nobody can say, all stay.
        receipt.unwanted = self.not_on(from, &reported).await.unwrap_or_default();
        let given_up = self.given_up(&at_rest).await.unwrap_or_default();
        receipt.unwanted.extend(given_up);
        for amphora in &receipt.unwanted {
            tracing::warn!(host = %from, %amphora, "a host has an amphora that nobody wants; it is ended");
        }
        Ok(receipt)
    }

    /// Those of the amphorae that are none of the host's. The database is read once, however many there are, and not at
    /// all for those that are known here.
    pub(super) async fn not_on(
        &self,
        host: HostId,
        amphorae: &[AmphoraId],
    ) -> Result<Vec<AmphoraId>, StoreError> {
        let name = host.to_string();
        let mut unknown = amphorae.to_vec();
        unknown.retain(|amphora| !self.fleet.is_on(*amphora, &name));
        if unknown.is_empty() {
            return Ok(unknown);
        }
        // Another controller may have decided on them just now.
        let records = self.known.store.amphorae().await.inspect_err(|error| {
            self.known.metrics.store_errors.inc();
            tracing::error!(error = %chain(error), "the amphorae of a host could not be looked up");
        })?;
        let its = records.iter().filter(|record| record.host == name);
        let its: BTreeSet<AmphoraId> = its.map(|record| record.id).collect();
        unknown.retain(|amphora| !its.contains(amphora));
        Ok(unknown)
    }

    /// Those of a host's amphorae that run no process which are to go and carry nothing. When a host that was given up
    /// comes back they must not begin again: what they keep is served elsewhere by now, under the same addresses. One
    /// that runs is left to the fleet, since connections may still end there.
    pub(super) async fn given_up(
        &self,
        at_rest: &[AmphoraId],
    ) -> Result<Vec<AmphoraId>, StoreError> {
        let mut given_up = Vec::new();
        if at_rest.is_empty() {
            return Ok(given_up);
        }
        self.fleet.sync().await?;
        for amphora in at_rest {
            if self.fleet.is_retiring(*amphora)
                && self.known.store.carried(*amphora).await?.placed.is_empty()
            {
                given_up.push(*amphora);
            }
        }
        Ok(given_up)
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
