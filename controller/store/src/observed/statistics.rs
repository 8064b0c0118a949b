//! What listeners did: totals that outlive the amphorae which counted (I11).

use krater_amphora_api::{AmphoraId, BootId, Counters, ListenerId, LoadBalancerId};
use krater_controller_core::{
    query::ResourceId,
    tally::{Tally, sum},
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, any::AnyRow};

use crate::{
    Store, StoreError, batch,
    engine::{Durability, Statement, retried},
    row::{self, column, read_document, read_id},
};

/// What one listener did on one amphora.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerTally {
    /// Which listener.
    pub listener: ListenerId,
    /// Who counted.
    pub amphora: AmphoraId,
    /// What it did.
    pub tally: Tally,
}

/// What of a tally is a document.
#[derive(Serialize, Deserialize)]
struct Counted {
    base: Counters,
    boot: BootId,
    last: Counters,
}

impl Store {
    /// The tallies of all listeners of a load balancer.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tallies(
        &self,
        load_balancer: LoadBalancerId,
    ) -> Result<Vec<ListenerTally>, StoreError> {
        self.tallies_by(sqlx::query(OF_LOAD_BALANCER).bind(row::id_text(load_balancer.uuid())))
            .await
    }

    /// What an amphora counted.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tallies_by_amphora(
        &self,
        amphora: AmphoraId,
    ) -> Result<Vec<ListenerTally>, StoreError> {
        self.tallies_by(sqlx::query(OF_AMPHORA).bind(row::id_text(amphora.uuid())))
            .await
    }

    /// All tallies, those counted by amphorae that are no more among them.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn all_tallies(&self) -> Result<Vec<ListenerTally>, StoreError> {
        self.tallies_by(sqlx::query(ALL)).await
    }

    /// Stores tallies that changed, in one transaction. Those of listeners that are gone are passed over, and those that
    /// somebody else has counted further.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_tallies(&self, tallies: &[ListenerTally]) -> Result<(), StoreError> {
        let doing = "store statistics";
        if tallies.is_empty() {
            return Ok(());
        }
        // All who lock several take them in the same order.
        let mut sorted: Vec<&ListenerTally> = tallies.iter().collect();
        sorted.sort_unstable_by_key(|tally| (tally.listener, tally.amphora));
        retried!(self.try_put_tallies(&sorted, doing))
    }

    async fn try_put_tallies(
        &self,
        tallies: &[&ListenerTally],
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_as(Durability::Learned, doing).await?;
        for some in batch::pieces(tallies) {
            let sql = format!("{PUT} {} {PUT_WHERE}", batch::rows(some.len(), 4));
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for tally in some {
                let Tally { base, boot, last } = tally.tally;
                statement = statement
                    .bind(row::id_text(tally.listener.uuid()))
                    .bind(row::id_text(tally.amphora.uuid()))
                    .bind(row::document(&Counted { base, boot, last })?)
                    .bind(i64::try_from(tally.tally.progress()).unwrap_or(i64::MAX));
            }
            transaction.run(doing, statement).await?;
        }
        transaction.commit(doing).await
    }

    /// Totals of a listener, or of a load balancer as the sum over its listeners. Zero for what was never heard of.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn statistics(&self, id: ResourceId) -> Result<Counters, StoreError> {
        let sql = match id {
            ResourceId::LoadBalancer(_) => OF_LOAD_BALANCER,
            ResourceId::Listener(_) => OF_LISTENER,
            // The reference has statistics of these two kinds only (5.7, 6.1).
            ResourceId::Pool(_)
            | ResourceId::Member(_)
            | ResourceId::HealthMonitor(_)
            | ResourceId::L7Policy(_)
            | ResourceId::L7Rule(_) => {
                return Ok(Counters::default());
            }
        };
        let tallies = self
            .tallies_by(sqlx::query(sql).bind(row::id_text(id.uuid())))
            .await?;
        Ok(sum(tallies.iter().map(|counted| counted.tally.total())))
    }

    async fn tallies_by(&self, statement: Statement) -> Result<Vec<ListenerTally>, StoreError> {
        self.all("read statistics", statement)
            .await?
            .iter()
            .map(read_tally)
            .collect()
    }
}

fn read_tally(found: &AnyRow) -> Result<ListenerTally, StoreError> {
    let counted: Counted = read_document(column(found, 2, "a tally")?, "a tally")?;
    Ok(ListenerTally {
        listener: ListenerId::new(read_id(found, 0, "an id")?),
        amphora: AmphoraId::new(read_id(found, 1, "an id")?),
        tally: Tally {
            base: counted.base,
            boot: counted.boot,
            last: counted.last,
        },
    })
}

const OF_LOAD_BALANCER: &str = "SELECT t.listener_id, t.amphora_id, t.document
    FROM tally t JOIN resource r ON r.id = t.listener_id WHERE r.load_balancer_id = $1 ORDER BY r.seq, t.amphora_id";
const OF_LISTENER: &str =
    "SELECT listener_id, amphora_id, document FROM tally WHERE listener_id = $1";
const OF_AMPHORA: &str =
    "SELECT listener_id, amphora_id, document FROM tally WHERE amphora_id = $1";
const ALL: &str = "SELECT listener_id, amphora_id, document FROM tally";

const PUT: &str = "INSERT INTO tally (listener_id, amphora_id, document, weight)
    SELECT r.id, counted.column2, counted.column3, counted.column4 FROM";
const PUT_WHERE: &str =
    "AS counted JOIN resource r ON r.id = counted.column1 WHERE r.kind = 'listener'
    ON CONFLICT (listener_id, amphora_id) DO UPDATE SET document = excluded.document, weight = excluded.weight
    WHERE tally.weight <= excluded.weight";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "statistics/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
