//! What the controller says of itself to Prometheus: every metric in one table, with its help text.

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

/// All metrics.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) load_balancers: IntGaugeVec,
    pub(crate) amphorae: IntGaugeVec,
    pub(crate) amphora_load_balancers: IntGaugeVec,
    /// Amphorae that cannot be started as they are wanted.
    pub(crate) amphorae_in_trouble: IntGauge,
    pub(crate) pending: IntGauge,
    pub(crate) certificate_expiry: IntGaugeVec,
    /// Secrets in use that cannot be renewed.
    pub(crate) secrets_refused: IntGauge,
    pub(crate) lag_seconds: Gauge,
    /// Time from the request that changed a load balancer until the change was in force.
    pub(crate) settle_seconds: Histogram,
    /// Changes that could not be brought into force in time and showed as `ERROR`.
    pub(crate) conceded: IntCounter,
    /// Time to answer a request of the API.
    pub(crate) request_seconds: HistogramVec,
    /// Reports of amphorae.
    pub(crate) reports: IntCounterVec,
    /// Amphorae that were on no record and were ended.
    pub(crate) orphans: IntCounter,
    /// Failures of the store.
    pub(crate) store_errors: IntCounter,
    /// Refusals that the audit trail lacks.
    pub(crate) audit_dropped: IntCounter,
}

impl Metrics {
    /// Declares every metric.
    ///
    /// # Errors
    /// When two have one name: a defect that shows at every start.
    pub(crate) fn declare() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let opts = |row: Row| Opts::new(row.0, row.1);
        let seconds = |row: Row| HistogramOpts::new(row.0, row.1).buckets(LATENCY_BUCKETS.to_vec());
        let build = keep(&registry, IntGaugeVec::new(opts(BUILD), BUILD.2)?)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            load_balancers: keep(
                &registry,
                IntGaugeVec::new(opts(LOAD_BALANCERS), LOAD_BALANCERS.2)?,
            )?,
            amphorae: keep(&registry, IntGaugeVec::new(opts(AMPHORAE), AMPHORAE.2)?)?,
            amphora_load_balancers: keep(&registry, IntGaugeVec::new(opts(PLACED), PLACED.2)?)?,
            amphorae_in_trouble: keep(&registry, IntGauge::with_opts(opts(IN_TROUBLE))?)?,
            pending: keep(&registry, IntGauge::with_opts(opts(PENDING))?)?,
            certificate_expiry: keep(&registry, IntGaugeVec::new(opts(EXPIRY), EXPIRY.2)?)?,
            secrets_refused: keep(&registry, IntGauge::with_opts(opts(SECRETS_REFUSED))?)?,
            lag_seconds: keep(&registry, Gauge::with_opts(opts(LAG))?)?,
            settle_seconds: keep(&registry, Histogram::with_opts(seconds(SETTLE))?)?,
            conceded: keep(&registry, IntCounter::with_opts(opts(CONCEDED))?)?,
            request_seconds: keep(&registry, HistogramVec::new(seconds(REQUESTS), REQUESTS.2)?)?,
            reports: keep(&registry, IntCounterVec::new(opts(REPORTS), REPORTS.2)?)?,
            audit_dropped: keep(&registry, IntCounter::with_opts(opts(AUDIT_DROPPED))?)?,
            orphans: keep(&registry, IntCounter::with_opts(opts(ORPHANS))?)?,
            store_errors: keep(&registry, IntCounter::with_opts(opts(STORE_ERRORS))?)?,
            registry,
        })
    }

    /// Everything that was counted, in Prometheus' text format.
    pub(crate) fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Registers a metric and gives it back.
fn keep<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: M,
) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Name, help text and labels of a metric.
type Row = (&'static str, &'static str, &'static [&'static str]);

const BUILD: Row = (
    "krater_controller_build_info",
    "Always 1; the release.",
    &["version"],
);
const LOAD_BALANCERS: Row = (
    "krater_controller_load_balancers",
    "Load balancers by status.",
    &["provisioning_status", "operating_status"],
);
const AMPHORAE: Row = (
    "krater_controller_amphorae",
    "Amphorae by status.",
    &["status"],
);
const PLACED: Row = (
    "krater_controller_amphora_load_balancers",
    "Load balancers placed on an amphora.",
    &["amphora"],
);
const IN_TROUBLE: Row = (
    "krater_controller_amphorae_in_trouble",
    "Amphorae of this controller's hosts that cannot be started, or not be held to what their flavor lets them take.",
    &[],
);
const PENDING: Row = (
    "krater_controller_reconcile_pending",
    "Load balancers with a change of a tenant that is not in force yet.",
    &[],
);
const EXPIRY: Row = (
    "krater_controller_certificate_expiry_seconds",
    "Time until a certificate in use ends to be valid; less than 0 since it has ended.",
    &["load_balancer", "resource", "secret"],
);
const SECRETS_REFUSED: Row = (
    "krater_controller_secrets_refused",
    "Secrets in use that are gone, cannot be read or are no good; what was read before stays in force.",
    &[],
);
const LAG: Row = (
    "krater_controller_reconcile_lag_seconds",
    "How long the oldest change that is not in force yet has been waiting.",
    &[],
);
const SETTLE: Row = (
    "krater_controller_settle_seconds",
    "Time from the request that changed a load balancer until the change was in force.",
    &[],
);
const CONCEDED: Row = (
    "krater_controller_conceded_total",
    "Changes that could not be brought into force in time and showed as ERROR.",
    &[],
);
const REQUESTS: Row = (
    "krater_controller_request_seconds",
    "Time to answer a request of the API.",
    &["route", "method", "class"],
);
const REPORTS: Row = (
    "krater_controller_reports_total",
    "Reports of amphorae by what became of them.",
    &["outcome"],
);
const ORPHANS: Row = (
    "krater_controller_orphans_total",
    "Amphorae of this host that were on no record and were ended.",
    &[],
);
const STORE_ERRORS: Row = (
    "krater_controller_store_errors_total",
    "Requests and tasks the database failed.",
    &[],
);

const AUDIT_DROPPED: Row = (
    "krater_controller_audit_dropped_total",
    "Refusals that came faster than the audit trail takes them down.",
    &[],
);

/// From what a change takes here (milliseconds) to the patience of an operation.
const LATENCY_BUCKETS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_declared_once_and_shows_with_its_help() {
        let metrics = Metrics::declare().unwrap();
        metrics.reports.with_label_values(&["taken"]).inc();
        metrics
            .request_seconds
            .with_label_values(&["other", "GET", "2xx"])
            .observe(0.004);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for name in [
            "krater_controller_reports_total{outcome=\"taken\"} 1",
            "# HELP krater_controller_settle_seconds",
            "# HELP krater_controller_store_errors_total",
            "krater_controller_request_seconds_bucket{class=\"2xx\",method=\"GET\",route=\"other\",le=\"0.005\"} 1",
        ] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
    }
}
