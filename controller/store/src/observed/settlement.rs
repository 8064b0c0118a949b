//! How far the data plane has followed: settled generations, errors, operating status, and what is due.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use krater_amphora_api::{Generation, LoadBalancerId};
use krater_controller_core::status::{OperatingStatus, ProvisioningStatus, Reason};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    Store, StoreError, batch,
    engine::{Durability, retried},
    row::{self, column, read_id},
};

/// How the attempt to bring a generation into force ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which load balancer.
    pub load_balancer: LoadBalancerId,
    /// Which generation was tried.
    pub generation: Generation,
    /// Whether it is in force.
    pub outcome: Outcome,
    /// Why resources are in `ERROR`, by resource id; replaces what was known before. May be non-empty with
    /// [`Outcome::Applied`] too: a port may be taken while all else serves.
    pub errors: BTreeMap<Uuid, Reason>,
    /// When to try again though nothing was asked; `None`: never.
    pub due_at: Option<Timestamp>,
    /// Failed attempts in a row.
    pub attempts: u32,
}

/// Whether a generation is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is: rows deleted up to it are forgotten.
    Applied,
    /// It is not: deleted rows stay, since the data plane may still serve them.
    Failed,
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// It is stored.
    Done,
    /// A later generation settled before, or the load balancer is gone: nothing was written.
    Stale,
}

/// What became of statuses that were to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// They are stored.
    Done,
    /// They are stored instead of such that were said by a clock that was ahead, though others may know better by now.
    OverWrongClock,
    /// What is stored is of later, or the load balancer is gone: nothing was written.
    Stale,
}

/// A load balancer that wants attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which one.
    pub load_balancer: LoadBalancerId,
    /// Failed attempts in a row so far.
    pub attempts: u32,
}

/// The statuses of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub load_balancer: LoadBalancerId,
    /// How far what is wanted of it is in force.
    pub provisioning: ProvisioningStatus,
    /// How it works.
    pub operating: OperatingStatus,
}

impl Store {
    /// The statuses of all load balancers.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn standings(&self) -> Result<Vec<Standing>, StoreError> {
        let rows = self.all("read statuses", sqlx::query(STANDINGS)).await?;
        rows.iter()
            .map(|found| {
                let id = read_id(found, 0, "an id")?;
                let (row, observed) = (
                    row::read_row::<()>(found, 1, "nothing")?,
                    row::read_observed(found)?,
                );
                let operating = observed.operating.get(&id).copied();
                Ok(Standing {
                    load_balancer: LoadBalancerId::new(id),
                    provisioning: observed.provisioning_status(id, &row),
                    operating: operating.unwrap_or(OperatingStatus::Offline),
                })
            })
            .collect()
    }

    /// Load balancers with a generation that has not settled, or whose time to try again has come; longest waiting
    /// first, at most `limit`. A time that is further away than anybody waits was set by a clock that was ahead.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Due>, StoreError> {
        let statement = sqlx::query(DUE)
            .bind(row::time_us(now))
            .bind(i64::from(limit))
            .bind(row::time_us(no_present(now)));
        let rows = self.all("find out what is due", statement).await?;
        rows.iter()
            .map(|found| {
                let attempts: i64 = column(found, 1, "a number of attempts")?;
                Ok(Due {
                    load_balancer: LoadBalancerId::new(read_id(found, 0, "an id")?),
                    attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }

    /// Makes load balancers due at `at` (sooner, if they are due sooner), e.g. because an amphora lost them.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn make_due(
        &self,
        load_balancers: &[LoadBalancerId],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let doing = "make load balancers due";
        if load_balancers.is_empty() {
            return Ok(());
        }
        // All who lock several take them in the same order.
        let mut sorted = load_balancers.to_vec();
        sorted.sort_unstable();
        retried!(self.try_make_due(&sorted, at, doing))
    }

    async fn try_make_due(
        &self,
        load_balancers: &[LoadBalancerId],
        at: Timestamp,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_as(Durability::Learned, doing).await?;
        for some in batch::pieces(load_balancers) {
            let sql = format!("{MAKE_DUE} {} {MAKE_DUE_WHERE}", batch::rows(some.len(), 2));
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for id in some {
                statement = statement
                    .bind(row::id_text(id.uuid()))
                    .bind(row::time_us(at));
            }
            transaction.run(doing, statement).await?;
        }
        transaction.commit(doing).await
    }

    /// Notes that a load balancer was due and nothing is to be done about it, until `again` if that is given. What is
    /// due later stays so.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn note_looked_at(
        &self,
        load_balancer: LoadBalancerId,
        now: Timestamp,
        again: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let statement = || {
            sqlx::query(LOOKED_AT)
                .bind(row::id_text(load_balancer.uuid()))
                .bind(row::time_us(now))
                .bind(row::time_us(no_present(now)))
                .bind(again.map(row::time_us))
        };
        let doing = "note that a load balancer was looked at";
        let written = retried!(self.learn(doing, statement()))?;
        match again {
            // Somebody else looked too, and saw no reason to do so again.
            Some(again) if written == 0 => self.make_due(&[load_balancer], again).await,
            _ => Ok(()),
        }
    }

    /// Stores how far the data plane has followed, and forgets the rows it let go of. Settled generations never go
    /// back.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        retried!(self.try_settle(settlement))
    }

    async fn try_settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let doing = "store how far the data plane has followed";
        let id = row::id_text(settlement.load_balancer.uuid());
        let generation = row::generation_number(settlement.generation);
        let statement = sqlx::query(SETTLE)
            .bind(id.clone())
            .bind(generation)
            .bind(errors_document(&settlement.errors)?)
            .bind(settlement.due_at.map(row::time_us))
            .bind(i64::from(settlement.attempts));
        let written = match settlement.outcome {
            Outcome::Failed => self.learn(doing, statement).await?,
            Outcome::Applied => {
                let mut transaction = self.begin_as(Durability::Learned, doing).await?;
                let written = transaction.run(doing, statement).await?;
                if written > 0 {
                    transaction
                        .run(
                            doing,
                            sqlx::query(FORGET_CHILDREN).bind(id).bind(generation),
                        )
                        .await?;
                }
                transaction.commit(doing).await?;
                written
            }
        };
        Ok(if written == 0 {
            Settled::Stale
        } else {
            Settled::Done
        })
    }

    /// Forgets a load balancer, its children, its addresses and all that is known of it. Only one that was deleted
    /// (`Touch::Delete`) goes; absent counts as done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget(&self, load_balancer: LoadBalancerId) -> Result<(), StoreError> {
        retried!(self.try_forget(load_balancer))
    }

    async fn try_forget(&self, load_balancer: LoadBalancerId) -> Result<(), StoreError> {
        let doing = "forget a load balancer";
        let id = row::id_text(load_balancer.uuid());
        let mut transaction = self.begin(doing).await?;
        let statement = sqlx::query(ADDRESSES_TO_FORGET).bind(id.clone());
        let rows = transaction.all(doing, statement).await?;
        let released: Vec<_> = rows
            .iter()
            .map(row::read_located)
            .collect::<Result<_, _>>()?;
        transaction.run(doing, sqlx::query(FORGET).bind(id)).await?;
        transaction
            .commit_addresses(doing, Vec::new(), released)
            .await
    }

    /// Replaces the errors of a load balancer, if `settled` is still its settled generation and nothing is stored that
    /// is of later than `as_of`; `false` if not. What is of later than the present was said by a clock that was ahead.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_errors(
        &self,
        load_balancer: LoadBalancerId,
        settled: Generation,
        errors: &BTreeMap<Uuid, Reason>,
        as_of: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(PUT_ERRORS)
            .bind(row::id_text(load_balancer.uuid()))
            .bind(row::generation_number(settled))
            .bind(errors_document(errors)?)
            .bind(row::time_us(as_of))
            .bind(row::time_us(no_present(now)));
        Ok(self.learn("store errors", statement).await? > 0)
    }

    /// Replaces the operating statuses of a load balancer and its children, by resource id. Of a load balancer that
    /// is gone nothing is stored, and nothing that is of later than `as_of` is overwritten, unless it is of later than
    /// the present.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_operating(
        &self,
        load_balancer: LoadBalancerId,
        statuses: &BTreeMap<Uuid, OperatingStatus>,
        as_of: Timestamp,
        now: Timestamp,
    ) -> Result<Kept, StoreError> {
        let document = row::operating_document(statuses)?;
        let statement = || {
            sqlx::query(PUT_OPERATING)
                .bind(row::id_text(load_balancer.uuid()))
                .bind(document.clone())
                .bind(row::time_us(as_of))
        };
        let doing = "store operating statuses";
        if retried!(self.learn(doing, statement()))? > 0 {
            return Ok(Kept::Done);
        }
        let statement = || {
            sqlx::query(PUT_OPERATING_OVER_WRONG_CLOCK)
                .bind(row::id_text(load_balancer.uuid()))
                .bind(document.clone())
                .bind(row::time_us(as_of))
                .bind(row::time_us(no_present(now)))
        };
        let written = retried!(self.learn(doing, statement()))?;
        Ok(if written > 0 {
            Kept::OverWrongClock
        } else {
            Kept::Stale
        })
    }
}

/// The moment from which on nothing can be present, whoever tells the time.
pub(super) fn no_present(now: Timestamp) -> Timestamp {
    now.checked_add(SKEW_MAX).unwrap_or(now)
}

/// Errors as they are stored: nothing when there are none, which is nearly always.
fn errors_document(errors: &BTreeMap<Uuid, Reason>) -> Result<Option<String>, StoreError> {
    if errors.is_empty() {
        Ok(None)
    } else {
        row::document(errors).map(Some)
    }
}

/// By how much the clocks of those who share a database may differ. What is said to be of later was said by a clock
/// that is set right since, or is wrong; nobody waits until it is true.
pub const SKEW_MAX: Duration = Duration::from_secs(30);

/// Without what is wanted, which is most of what there is.
const STANDINGS: &str =
    "SELECT r.id, r.touch, r.generation, r.created_us, r.updated_us, CAST('null' AS TEXT),
        o.settled, o.errors, o.operating
    FROM resource r LEFT JOIN observed o ON o.load_balancer_id = r.id WHERE r.kind = 'load_balancer'";

const DUE: &str = "SELECT r.id, COALESCE(o.attempts, 0)
    FROM resource r LEFT JOIN observed o ON o.load_balancer_id = r.id
    WHERE r.kind = 'load_balancer' AND (o.settled IS NULL OR o.settled < r.generation OR o.due_us <= $1 OR o.due_us > $3)
    ORDER BY COALESCE(o.due_us, 0), r.id LIMIT $2";

/// One that never settled is due anyway and has no row here.
const MAKE_DUE: &str = "UPDATE observed SET due_us = wanted.column2 FROM";
const MAKE_DUE_WHERE: &str = "AS wanted WHERE load_balancer_id = wanted.column1
    AND (due_us IS NULL OR due_us > wanted.column2)";

const LOOKED_AT: &str = "UPDATE observed SET due_us = $4
    WHERE load_balancer_id = $1 AND (due_us <= $2 OR due_us > $3)";

const SETTLE: &str = "INSERT INTO observed (load_balancer_id, settled, errors, due_us, attempts)
    SELECT id, $2, $3, $4, $5 FROM resource WHERE id = $1 AND kind = 'load_balancer'
    ON CONFLICT (load_balancer_id) DO UPDATE SET settled = excluded.settled, errors = excluded.errors,
        due_us = excluded.due_us, attempts = excluded.attempts
    WHERE observed.settled IS NULL OR observed.settled <= excluded.settled";

const FORGET_CHILDREN: &str = "DELETE FROM resource
    WHERE load_balancer_id = $1 AND touch = 'delete' AND generation <= $2 AND kind <> 'load_balancer'";

const ADDRESSES_TO_FORGET: &str =
    "SELECT v.address, v.network_id FROM vip v JOIN resource r ON r.id = v.load_balancer_id
    WHERE v.load_balancer_id = $1 AND r.touch = 'delete'";

/// Everything about it hangs on this row and goes with it.
const FORGET: &str =
    "DELETE FROM resource WHERE id = $1 AND kind = 'load_balancer' AND touch = 'delete'";

const PUT_ERRORS: &str =
    "UPDATE observed SET errors = $3 WHERE load_balancer_id = $1 AND settled = $2
        AND (as_of_us IS NULL OR as_of_us <= $4 OR as_of_us > $5)";

const PUT_OPERATING: &str = "INSERT INTO observed (load_balancer_id, operating, attempts, as_of_us)
    SELECT id, $2, 0, $3 FROM resource WHERE id = $1 AND kind = 'load_balancer'
    ON CONFLICT (load_balancer_id) DO UPDATE SET operating = excluded.operating, as_of_us = excluded.as_of_us
    WHERE observed.as_of_us IS NULL OR observed.as_of_us <= excluded.as_of_us";

const PUT_OPERATING_OVER_WRONG_CLOCK: &str = "UPDATE observed SET operating = $2, as_of_us = $3
    WHERE load_balancer_id = $1 AND as_of_us > $4";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "settlement/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
