//! The audit trail's slow side: what was refused is written down afterwards, as far as that is bearable, and what is
//! too old or too much is forgotten. What was done is written by the store with the change itself.

use std::sync::{Arc, Mutex, PoisonError};

use krater_controller_core::{audit::Entry, query::Caller};
use krater_controller_store::{Store, StoreError};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use uuid::Uuid;

use crate::{
    cause::chain,
    clock,
    config::Retention,
    limits::{
        PRUNE_INTERVAL, PRUNE_ROWS_MAX, REFUSALS_BURST_MAX, REFUSALS_PER_SECOND_MAX,
        REFUSALS_WAITING_MAX, REMOVED_KEPT,
    },
    metrics::Metrics,
    neighbours::{Duty, Neighbours},
};

/// A refusal to be written down.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) entry: Entry,
    /// What it was about, of what is there: whose that is, and in which load balancer, is looked up.
    pub(crate) about: Option<Uuid>,
}

/// Where refusals are noted.
pub(crate) struct Trail {
    sender: mpsc::Sender<Refusal>,
    allowance: Mutex<Allowance>,
    metrics: Arc<Metrics>,
}

impl Trail {
    /// A trail, and what it is to be kept from.
    pub(crate) fn begin(metrics: Arc<Metrics>) -> (Arc<Self>, mpsc::Receiver<Refusal>) {
        let (sender, receiver) = mpsc::channel(REFUSALS_WAITING_MAX);
        let trail = Self {
            sender,
            allowance: Mutex::new(Allowance {
                left: REFUSALS_BURST_MAX,
                at: Instant::now(),
            }),
            metrics,
        };
        (Arc::new(trail), receiver)
    }

    /// Notes a refusal. Somebody who is refused a thousand times a second gets a gap in the trail, not a database that
    /// is busy with it; the gap is counted.
    pub(crate) fn note(&self, refusal: Refusal) {
        let allowed = self
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now());
        if !allowed || self.sender.try_send(refusal).is_err() {
            self.metrics.audit_dropped.inc();
        }
    }
}

/// How many refusals may be noted still: so many at once, and so many a second from then on.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (since.mul_add(REFUSALS_PER_SECOND_MAX, self.left)).min(REFUSALS_BURST_MAX);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// What a caller acts as, in words.
pub(crate) fn roles(caller: &Caller) -> String {
    let names = caller.personas.iter().map(|persona| format!("{persona:?}"));
    names.collect::<Vec<_>>().join(" ")
}

/// Writes refusals down and forgets what is too old or too much, for ever.
pub(crate) async fn keep(
    store: Store,
    neighbours: Neighbours,
    mut refusals: mpsc::Receiver<Refusal>,
    retention: Retention,
    metrics: Arc<Metrics>,
) {
    let mut ticks = time::interval(PRUNE_INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        waiting.clear();
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                if let Err(error) = prune_alone(&neighbours, &store, &retention).await {
                    metrics.store_errors.inc();
                    tracing::warn!(error = %chain(&error), "what is too old could not be forgotten");
                }
            }
            _ = refusals.recv_many(&mut waiting, REFUSALS_WAITING_MAX) => {
                let count = waiting.len() as u64;
                if let Err(error) = write_down(&store, waiting.drain(..)).await {
                    metrics.store_errors.inc();
                    metrics.audit_dropped.inc_by(count);
                    tracing::warn!(error = %chain(&error), "refusals could not be written down");
                }
            }
        }
    }
}

async fn write_down(
    store: &Store,
    refusals: impl Iterator<Item = Refusal>,
) -> Result<(), StoreError> {
    let mut entries = Vec::new();
    for Refusal { mut entry, about } in refusals {
        if let Some(about) = about
            && let Some((load_balancer, project)) = store.owner(about).await?
        {
            entry.load_balancer = Some(load_balancer);
            entry.project = Some(project);
        }
        entries.push(entry);
    }
    store.note(&entries).await
}

/// One controller does it for all.
async fn prune_alone(
    neighbours: &Neighbours,
    store: &Store,
    retention: &Retention,
) -> Result<(), StoreError> {
    let Some(lease) = neighbours.take(Duty::Pruning).await? else {
        return Ok(());
    };
    let pruned = prune(store, retention).await;
    lease.release().await;
    pruned
}

/// Forgets what is too old or too much, a bounded number at a time so that requests come in between.
async fn prune(store: &Store, retention: &Retention) -> Result<(), StoreError> {
    let before = |age| {
        let now = clock::now();
        now.checked_sub(age).unwrap_or(now)
    };
    loop {
        let gone = store
            .prune_audit(
                before(retention.audit),
                retention.audit_rows,
                PRUNE_ROWS_MAX,
            )
            .await?;
        if gone < u64::from(PRUNE_ROWS_MAX) {
            break;
        }
    }
    loop {
        let gone = store
            .prune_once(before(retention.idempotency), PRUNE_ROWS_MAX)
            .await?;
        if gone < u64::from(PRUNE_ROWS_MAX) {
            break;
        }
    }
    store.forget_removed_hosts(before(REMOVED_KEPT)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use krater_controller_core::audit::{AuditFilter, Deed, Outcome};

    use super::*;
    use crate::testbed::House;

    #[tokio::test]
    async fn a_refusal_is_written_down_with_whose_it_was_about() {
        let house = House::build().await;
        let tree = house.serving().await.tree;
        let (store, id) = (&house.known.store, tree.id());
        let listener = tree.listeners[0].value.id.uuid();
        let refusal = |about| Refusal {
            entry: Entry {
                at: clock::now(),
                request_id: format!("req-{about:?}"),
                global_request_id: None,
                user: "somebody".to_owned(),
                caller_project: None,
                roles: String::new(),
                deed: Deed::Update,
                kind: "listener".to_owned(),
                resource: None,
                load_balancer: None,
                project: None,
                outcome: Outcome::Refused {
                    status: 409,
                    sentence: "no".to_owned(),
                },
            },
            about,
        };
        let gone = Some(Uuid::nil());
        let refusals = [Some(listener), gone, None].map(refusal);
        write_down(store, refusals.into_iter()).await.unwrap();
        let filter = AuditFilter {
            user: Some("somebody".to_owned()),
            limit: 10,
            ..AuditFilter::default()
        };
        let kept = store.audit(&filter).await.unwrap();
        assert_eq!(kept.len(), 3);
        for entry in kept.into_iter().map(|kept| kept.entry) {
            let known = entry.request_id == format!("req-{:?}", Some(listener));
            assert_eq!(entry.load_balancer, known.then_some(id));
            assert_eq!(entry.project, known.then(|| tree.project().clone()));
        }
    }

    #[test]
    fn a_flood_of_refusals_is_noted_in_part() {
        let began = Instant::now();
        let mut allowance = Allowance {
            left: REFUSALS_BURST_MAX,
            at: began,
        };
        let noted = (0..10_000).filter(|_| allowance.take(began)).count();
        assert_eq!(noted, 200);
        let later = began + Duration::from_secs(3);
        let noted = (0..10_000).filter(|_| allowance.take(later)).count();
        assert_eq!(noted, 60);
        let much_later = began + Duration::from_secs(3_600);
        let noted = (0..10_000).filter(|_| allowance.take(much_later)).count();
        assert_eq!(noted, 200);
    }
}
