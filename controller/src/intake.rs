//! Takes what amphorae report (§4, journey C): compares it with what they said before, and has only what differs
//! looked at.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
    routing::post,
};
use http::{StatusCode, header};
use krater_amphora_api::{
    AmphoraId, Generation, LoadBalancerId, Report, ReportChanges, ReportReceipt,
};
use krater_controller_core::query::{AmphoraStatus, ResourceId};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
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
    limits::{CATCH_UPS_MAX, REPORT_BYTES_MAX, SWEEP_INTERVAL, TALLY_WRITE_INTERVAL},
    realm,
    reconcile::{Agents as _, Reconciler, Urgency},
    serve::Peer,
    sightings::{Gap, News},
};

/// The place where reports arrive.
pub(crate) struct Intake {
    known: Knowledge,
    hosts: Arc<Hosts>,
    fleet: Arc<Fleet>,
    reconciler: Arc<Reconciler>,
    /// The status of each amphora when it was last judged.
    judged: Mutex<HashMap<AmphoraId, AmphoraStatus>>,
    /// Told when what was heard is to be written down at once: after a pause others may be about to give an amphora up.
    write_now: Notify,
    /// Whether what was counted is to be written down too.
    is_anew: AtomicBool,
    /// Who looks up what others counted takes a turn: after a start all come at once, and tenants would wait behind them.
    catching_up: Semaphore,
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
    /// What the changes follow is not what is known here.
    #[error("it is not remembered here what these changes follow: all of it is to be told")]
    NotFollowing,
}

impl Intake {
    /// One that nobody has reported to.
    pub(crate) fn new(
        known: Knowledge,
        hosts: Arc<Hosts>,
        fleet: Arc<Fleet>,
        reconciler: Arc<Reconciler>,
    ) -> Self {
        Self {
            known,
            hosts,
            fleet,
            reconciler,
            judged: Mutex::default(),
            write_now: Notify::new(),
            is_anew: AtomicBool::new(false),
            catching_up: Semaphore::new(CATCH_UPS_MAX),
        }
    }

    /// The routes that amphorae post to.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/v1/reports", post(receive))
            .route("/v1/reports/changes", post(receive_changes))
            .merge(hosts::router())
            .with_state(Arc::clone(self))
    }

    /// Takes a report from the amphora whose certificate was shown.
    pub(crate) async fn take(
        self: &Arc<Self>,
        from: AmphoraId,
        report: Report,
    ) -> Result<ReportReceipt, NotTaken> {
        self.see_who(from, report.info.amphora)?;
        let gap = self.catch_up(from, &report).await;
        let news = self.known.placements.with(from, |placed| {
            let sightings = &self.known.sightings;
            sightings.take_after(report, placed, clock::now(), gap)
        });
        let Some(news) = news else {
            self.count("late");
            return Ok(ReportReceipt::default());
        };
        self.count("taken");
        Ok(self.follow_up(from, news))
    }

    /// Takes what changed since a report from the amphora whose certificate was shown.
    pub(crate) fn take_changes(
        self: &Arc<Self>,
        from: AmphoraId,
        changes: ReportChanges,
    ) -> Result<ReportReceipt, NotTaken> {
        self.see_who(from, changes.amphora)?;
        let news = self.known.placements.with(from, |placed| {
            let sightings = &self.known.sightings;
            sightings.take_changes(changes, placed, clock::now())
        });
        let news = news.ok_or(NotTaken::NotFollowing)?;
        self.count("followed");
        Ok(self.follow_up(from, news))
    }

    /// Whether it is one of ours, and speaks of itself.
    fn see_who(&self, from: AmphoraId, named: AmphoraId) -> Result<(), NotTaken> {
        if named != from {
            return Err(NotTaken::Foreign);
        }
        if !self.fleet.has(from) {
            return Err(NotTaken::Unknown);
        }
        Ok(())
    }

    /// Does what follows from news.
    fn follow_up(self: &Arc<Self>, from: AmphoraId, news: News) -> ReportReceipt {
        let is_awaited = news.pause.is_none_or(|pause| self.fleet.is_long(pause));
        if news.booted {
            tracing::info!(amphora = %from, "amphora reported for the first time in this run of it");
            // What the run before counted is said by nobody again.
            self.is_anew.store(true, Ordering::Release);
        }
        if is_awaited || news.booted {
            self.write_now.notify_one();
        }
        self.reconciler.poke_all(from, news.changed);
        if !news.strangers.is_empty() {
            let intake = Arc::clone(self);
            realm::spawn(async move { intake.expel(from, news.strangers).await });
        }
        self.judge(from);
        ReportReceipt {
            again: false,
            remembers: true,
        }
    }

    fn count(&self, outcome: &str) {
        let reports = &self.known.metrics.reports;
        reports.with_label_values(&[outcome]).inc();
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
            let is_tick = tokio::select! {
                biased;
                _ = ticks.tick() => true,
                () = self.write_now.notified() => false,
            };
            let is_anew = self.is_anew.swap(false, Ordering::AcqRel);
            if is_anew || self.known.neighbours.may_be() {
                // They judge by it who is silent.
                self.write_heard().await;
            }
            if is_tick {
                self.fleet.ids().into_iter().for_each(|id| self.judge(id));
            }
            if is_anew || written.elapsed() >= TALLY_WRITE_INTERVAL {
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
        // Nobody closes it.
        let _turn = self.catching_up.acquire().await;
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
        let carried = self.known.placements.on(id);
        self.reconciler.poke_all(id, carried);
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
    match read(&intake, request).await {
        Ok((from, report)) => answer_to(&intake, from, intake.take(from, report).await),
        Err(refusal) => refusal,
    }
}

async fn receive_changes(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    match read(&intake, request).await {
        Ok((from, changes)) => answer_to(&intake, from, intake.take_changes(from, changes)),
        Err(refusal) => refusal,
    }
}

/// Who asks, and what.
async fn read<T: DeserializeOwned>(
    intake: &Intake,
    request: Request,
) -> Result<(AmphoraId, T), Response> {
    let peer = request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.amphora);
    let refuse = |status, message: &str| {
        intake.count("refused");
        answer(status, &Message { message })
    };
    let Some(from) = peer else {
        return Err(refuse(StatusCode::FORBIDDEN, "only amphorae report here"));
    };
    let body = to_bytes(request.into_body(), REPORT_BYTES_MAX)
        .await
        .map_err(|error| {
            let why = format!("the report cannot be read: {error}");
            refuse(StatusCode::BAD_REQUEST, &why)
        })?;
    let asked = serde_json::from_slice(&body).map_err(|error| {
        tracing::warn!(amphora = %from, %error, "a report cannot be understood");
        let why = format!("the report cannot be understood: {error}");
        refuse(StatusCode::BAD_REQUEST, &why)
    })?;
    Ok((from, asked))
}

fn answer_to(intake: &Intake, from: AmphoraId, taken: Result<ReportReceipt, NotTaken>) -> Response {
    let error = match taken {
        Ok(receipt) => return answer(StatusCode::OK, &receipt),
        Err(error) => error,
    };
    let message = error.to_string();
    let message = Message { message: &message };
    if error == NotTaken::NotFollowing {
        tracing::debug!(amphora = %from, "an amphora is to tell all of it");
        intake.count("not_following");
        return answer(StatusCode::CONFLICT, &message);
    }
    tracing::warn!(amphora = %from, %error, "a report was refused");
    answer(StatusCode::FORBIDDEN, &message)
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
