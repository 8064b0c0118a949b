//! The endpoint that scrapers ask: looks at what is only known when somebody asks, and shows all metrics.

use std::sync::Arc;

use axum::{Router, body::Body, extract::State, response::Response, routing::get};
use http::{StatusCode, header};

use crate::{
    clock,
    fleet::Fleet,
    knowledge::Knowledge,
    reconcile::{Agents as _, Reconciler},
    vault::Vault,
};

/// What is looked at when somebody asks.
pub(crate) struct Scrape {
    pub(crate) known: Knowledge,
    pub(crate) vault: Arc<Vault>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) reconciler: Arc<Reconciler>,
}

impl Scrape {
    /// The route that scrapers ask.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(scrape))
            .with_state(Arc::new(self))
    }

    fn look(&self) {
        let metrics = &self.known.metrics;
        metrics.load_balancers.reset();
        for ((provisioning, operating), count) in self.known.census.counts() {
            metrics
                .load_balancers
                .with_label_values(&[provisioning, operating])
                .set(count);
        }
        metrics.amphorae.reset();
        metrics.amphora_load_balancers.reset();
        let mut in_trouble = 0;
        for amphora in self.fleet.views(&|id| self.reconciler.behind(id)) {
            metrics
                .amphorae
                .with_label_values(&[amphora.status.name()])
                .inc();
            let placed = i64::try_from(amphora.load_balancers.len()).unwrap_or(i64::MAX);
            metrics
                .amphora_load_balancers
                .with_label_values(&[&amphora.id.to_string()])
                .set(placed);
            in_trouble += i64::from(self.fleet.trouble(amphora.id).is_some());
        }
        metrics.amphorae_in_trouble.set(in_trouble);
        metrics.certificate_expiry.reset();
        let now = clock::now();
        for one in self.vault.certificates() {
            let left = one.not_after.duration_since(now).as_secs();
            let labels = [
                one.load_balancer.to_string(),
                one.resource.uuid().to_string(),
                one.secret,
            ];
            metrics
                .certificate_expiry
                .with_label_values(&labels.each_ref().map(String::as_str))
                .set(left);
        }
        let (pending, lag) = self.reconciler.lag();
        metrics
            .pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        metrics.lag_seconds.set(lag.as_secs_f64());
    }
}

async fn scrape(State(scrape): State<Arc<Scrape>>) -> Response {
    scrape.look();
    let (status, body) = match scrape.known.metrics.render() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string().into_bytes(),
        ),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(TEXT_FORMAT),
    );
    response
}

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
