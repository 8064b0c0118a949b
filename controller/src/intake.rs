//! Takes what amphorae report (§4, journey C): compares it with what they said before, and has only what differs
//! looked at.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
    routing::post,
};
use http::{StatusCode, header};
use krater_amphora_api::{AmphoraId, Generation, LoadBalancerId, Report, ReportReceipt};
use krater_controller_core::query::{AmphoraStatus, ResourceId};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

mod hosts;

use crate::{
    amphora_client::Departure,
    cause::chain,
    clock,
    fleet::Fleet,
    hosts::Hosts,
    knowledge::Knowledge,
    limits::{REPORT_BYTES_MAX, SWEEP_INTERVAL, TALLY_WRITE_INTERVAL},
    realm,
    reconcile::{Agents as _, Reconciler, Urgency},
    serve::Peer,
    sightings::Gap,
};

/// The place where reports arrive.
pub(crate) struct Intake {
    pub(crate) known: Knowledge,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) reconciler: Arc<Reconciler>,
    /// The status of each amphora when it was last judged.
    pub(crate) judged: Mutex<HashMap<AmphoraId, AmphoraStatus>>,
}

/// Why a report is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is about somebody else than its sender.
    #[error("the certificate does not belong to the amphora that the report is about")]
    Foreign,
    /// The sender is not one of ours any more.
    #[error("this controller has no such amphora")]
    Unknown,
}

impl Intake {
    /// The routes that amphorae post to.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/v1/reports", post(receive))
            .merge(hosts::router())
            .with_state(Arc::clone(self))
    }

    /// Takes a report from the amphora whose certificate was shown.
    pub(crate) async fn take(
        self: &Arc<Self>,
        from: AmphoraId,
        report: Report,
    ) -> Result<ReportReceipt, NotTaken> {
        if report.info.amphora != from {
            return Err(NotTaken::Foreign);
        }
        if !self.fleet.has(from) {
            return Err(NotTaken::Unknown);
        }
        let gap = self.catch_up(from, &report).await;
        let news = self.known.placements.with(from, |placed| {
            let sightings = &self.known.sightings;
            sightings.take_after(report, placed, clock::now(), gap)
        });
        let Some(news) = news else {
            self.known
                .metrics
                .reports
                .with_label_values(&["late"])
                .inc();
            return Ok(ReportReceipt::default());
        };
        self.known
            .metrics
            .reports
            .with_label_values(&["taken"])
            .inc();
        for id in news.changed {
            self.reconciler.poke(id, Urgency::Background);
        }
        if news.booted {
            tracing::info!(amphora = %from, "amphora reported for the first time in this run of it");
            let intake = Arc::clone(self);
            realm::spawn(async move {
                // What the run before counted is said by nobody again.
                intake.write_tallies().await;
                intake.write_heard().await;
            });
        }
        if !news.strangers.is_empty() {
            let intake = Arc::clone(self);
            realm::spawn(async move { intake.expel(from, news.strangers).await });
        }
        self.judge(from);
        Ok(ReportReceipt::default())
    }

    /// Takes the reports of amphorae that were just connected to, for ever.
    pub(crate) async fn take_asked(self: Arc<Self>, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            // The connection it came over has shown the certificate of this amphora.
            let _ = self.take(report.info.amphora, report).await;
        }
    }

    /// Notices when amphorae fall silent, and writes down from time to time what they counted; for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = tokio::time::Instant::now();
        loop {
            ticks.tick().await;
            if self.known.neighbours.may_be() {
                // They judge by it who is silent.
                self.write_heard().await;
            }
            self.fleet.ids().into_iter().for_each(|id| self.judge(id));
            if written.elapsed() >= TALLY_WRITE_INTERVAL {
                written = tokio::time::Instant::now();
                self.write_tallies().await;
            }
        }
    }

    /// Writes down what is not written down yet: tallies, and when amphorae were last heard of.
    pub(crate) async fn write_down(&self) {
        self.write_tallies().await;
        self.write_heard().await;
    }

    /// Takes over what another controller counted, if reports of the amphora went to one meanwhile.
    async fn catch_up(&self, from: AmphoraId, report: &Report) -> Gap {
        let sightings = &self.known.sightings;
        if !self.known.neighbours.may_be() || !sightings.has_gap(report) {
            return Gap::None;
        }
        match self.known.store.tallies_by_amphora(from).await {
            Ok(tallies) => sightings.restore(tallies),
            Err(error) => {
                self.known.metrics.store_errors.inc();
                tracing::warn!(amphora = %from, error = %chain(&error), "what other controllers counted could not be taken over");
            }
        }
        Gap::Some
    }

    async fn write_tallies(&self) {
        let tallies = self.known.sightings.unwritten();
        if tallies.is_empty() {
            return;
        }
        if let Err(error) = self.known.store.put_tallies(&tallies).await {
            self.known.sightings.mark_unwritten(&tallies);
            self.known.metrics.store_errors.inc();
            tracing::error!(error = %chain(&error), "what listeners counted could not be written down");
        }
    }

    /// Has all load balancers of an amphora looked at when it fell silent or came back.
    fn judge(&self, id: AmphoraId) {
        let status = self.fleet.status(id);
        let before = self
            .judged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, status);
        let silent = |status| status == Some(AmphoraStatus::Error);
        if silent(before) == silent(Some(status)) {
            return;
        }
        if status == AmphoraStatus::Error {
            tracing::error!(amphora = %id, "amphora fell silent");
        } else {
            tracing::info!(amphora = %id, "amphora is heard of again");
        }
        for load_balancer in self.known.placements.on(id) {
            self.reconciler.poke(load_balancer, Urgency::Background);
        }
    }

    async fn write_heard(&self) {
        if let Err(error) = self.fleet.note_heard().await {
            self.known.metrics.store_errors.inc();
            tracing::error!(error = %chain(&error), "what an amphora said of itself could not be kept");
        }
    }

    /// Has an amphora let go of what it holds without being asked to.
    async fn expel(&self, amphora: AmphoraId, strangers: Vec<(LoadBalancerId, Generation)>) {
        for (id, generation) in strangers {
            match self.known.store.view(ResourceId::LoadBalancer(id)).await {
                // It belongs elsewhere: the plan says when it may go here.
                Ok(Some(_)) => self.reconciler.poke(id, Urgency::Background),
                Ok(None) => match self
                    .fleet
                    .remove(amphora, id, generation, Departure::Ends)
                    .await
                {
                    Ok(()) => {
                        self.known.sightings.note_removed(amphora, id);
                        tracing::warn!(%amphora, lb = %id, "amphora let go of a load balancer nobody knows");
                    }
                    Err(error) => {
                        tracing::warn!(%amphora, lb = %id, %error, "unknown load balancer is still there")
                    }
                },
                Err(error) => {
                    self.known.metrics.store_errors.inc();
                    tracing::error!(error = %chain(&error), "could not look for an unknown load balancer");
                }
            }
        }
    }
}

async fn receive(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let peer = request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.amphora);
    let refuse = |status, message: &str| {
        intake
            .known
            .metrics
            .reports
            .with_label_values(&["refused"])
            .inc();
        answer(status, &Message { message })
    };
    let Some(from) = peer else {
        return refuse(StatusCode::FORBIDDEN, "only amphorae report here");
    };
    let body = match to_bytes(request.into_body(), REPORT_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                &format!("the report cannot be read: {error}"),
            );
        }
    };
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => {
            tracing::warn!(amphora = %from, %error, "a report cannot be understood");
            return refuse(
                StatusCode::BAD_REQUEST,
                &format!("the report cannot be understood: {error}"),
            );
        }
    };
    match intake.take(from, report).await {
        Ok(receipt) => answer(StatusCode::OK, &receipt),
        Err(error) => {
            tracing::warn!(amphora = %from, %error, "a report was refused");
            refuse(StatusCode::FORBIDDEN, &error.to_string())
        }
    }
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    // Plain data with string keys always serializes.
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests;
