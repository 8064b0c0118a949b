//! What projects may have, and whether a change keeps within it.

use krater_controller_core::{
    audit::Entry,
    model::ProjectId,
    quota::{Counted, Growth, Limit, Limits, QuotaRecord, QuotaUpdate},
};
use sqlx::any::AnyRow;

use crate::{
    Store, StoreError, audit,
    engine::{Transaction, retried},
    row::{column, counted_name},
};

impl Store {
    /// What was set for a project; `None` when nothing ever was.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn quota(&self, project: &ProjectId) -> Result<Option<QuotaRecord>, StoreError> {
        let statement = sqlx::query(QUOTA).bind(project.as_str().to_owned());
        let rows = self.all("load a quota", statement).await?;
        rows.first().map(|found| read_record(found, 0)).transpose()
    }

    /// What was set for projects, by project.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn quotas(&self) -> Result<Vec<(ProjectId, QuotaRecord)>, StoreError> {
        let rows = self.all("load quotas", sqlx::query(QUOTAS)).await?;
        rows.iter()
            .map(|found| {
                let project: &str = column(found, 0, "a project")?;
                let project = ProjectId::parse(project).ok_or_else(|| {
                    StoreError::unreadable("a project", &format_args!("{project:?} is none"))
                })?;
                Ok((project, read_record(found, 1)?))
            })
            .collect()
    }

    /// Sets what the update names and answers what is set then. What the project has already is not looked at.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_quota(
        &self,
        project: &ProjectId,
        update: &QuotaUpdate,
        record: Option<&Entry>,
    ) -> Result<QuotaRecord, StoreError> {
        retried!(self.try_set_quota(project, update, record))
    }

    async fn try_set_quota(
        &self,
        project: &ProjectId,
        update: &QuotaUpdate,
        record: Option<&Entry>,
    ) -> Result<QuotaRecord, StoreError> {
        let doing = "set a quota";
        let mut transaction = self.begin(doing).await?;
        lock(&mut transaction, project).await?;
        let found = record_of(&mut transaction, project).await?;
        let set = found.unwrap_or_default().updated(update);
        transaction.run(doing, put(project, &set)).await?;
        if let Some(entry) = record {
            audit::write(&mut transaction, entry).await?;
        }
        transaction.commit(doing).await?;
        Ok(set)
    }

    /// Makes everything as configured again for a project. `false` when nothing ever was set for it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn reset_quota(
        &self,
        project: &ProjectId,
        record: Option<&Entry>,
    ) -> Result<bool, StoreError> {
        let doing = "reset a quota";
        let mut transaction = self.begin(doing).await?;
        lock(&mut transaction, project).await?;
        let Some(_) = record_of(&mut transaction, project).await? else {
            transaction.rollback().await?;
            return Ok(false);
        };
        let statement = put(project, &QuotaRecord::default());
        transaction.run(doing, statement).await?;
        if let Some(entry) = record {
            audit::write(&mut transaction, entry).await?;
        }
        transaction.commit(doing).await?;
        Ok(true)
    }

    /// The first kind of which the project would have too many. An answer for now: [`Store::apply_under`] is what
    /// decides.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn quota_met(
        &self,
        project: &ProjectId,
        growth: &Growth,
        defaults: &Limits,
    ) -> Result<Option<Counted>, StoreError> {
        let mut reading = self.reading("count resources").await?;
        let met = first_met(&mut reading, project, growth, defaults).await?;
        reading.end("count resources").await?;
        Ok(met)
    }
}

/// The first kind of which the project would have too many if it grew so, by its rows as this transaction sees them.
///
/// Rows being deleted count until they are gone (reference 12). Whoever writes more has locked the project before this
/// counts.
pub(crate) async fn first_met(
    transaction: &mut Transaction,
    project: &ProjectId,
    growth: &Growth,
    defaults: &Limits,
) -> Result<Option<Counted>, StoreError> {
    let mut more = growth.more().peekable();
    if more.peek().is_none() {
        return Ok(None);
    }
    let record = record_of(transaction, project).await?.unwrap_or_default();
    let limits = record.over(defaults);
    for (kind, more) in more {
        let met = match limits.get(kind).before(more) {
            None => false,
            Some(None) => true,
            Some(Some(most)) => more_than(transaction, project, kind, most).await?,
        };
        if met {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

/// Whether the project has more than `most` rows of a kind. Not more than that are counted.
async fn more_than(
    transaction: &mut Transaction,
    project: &ProjectId,
    kind: Counted,
    most: u64,
) -> Result<bool, StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let statement = sqlx::query(COUNT)
        .bind(project.as_str().to_owned())
        .bind(counted_name(kind))
        .bind(most.saturating_add(1));
    let found = transaction.one("count resources", statement).await?;
    let count: i64 = column(&found, 0, "a count")?;
    Ok(count > most)
}

/// Lets one after the other write what the project has, or may have.
pub(crate) async fn lock(
    transaction: &mut Transaction,
    project: &ProjectId,
) -> Result<(), StoreError> {
    let key = format!("project {}", project.as_str());
    transaction.lock("lock a project", &key).await
}

async fn record_of(
    transaction: &mut Transaction,
    project: &ProjectId,
) -> Result<Option<QuotaRecord>, StoreError> {
    let statement = sqlx::query(QUOTA).bind(project.as_str().to_owned());
    let rows = transaction.all("load a quota", statement).await?;
    rows.first().map(|found| read_record(found, 0)).transpose()
}

fn read_record(row: &AnyRow, first: usize) -> Result<QuotaRecord, StoreError> {
    let mut record = QuotaRecord::default();
    for (position, kind) in Counted::ALL.into_iter().enumerate() {
        let number: Option<i64> = column(row, first.saturating_add(position), "a limit")?;
        let limit = number.map(|number| {
            let wrong = || StoreError::unreadable("a limit", &format_args!("{number} is none"));
            Limit::from_number(number).ok_or_else(wrong)
        });
        *record.get_mut(kind) = limit.transpose()?;
    }
    Ok(record)
}

fn put(project: &ProjectId, record: &QuotaRecord) -> crate::engine::Statement {
    let mut statement = sqlx::query(PUT).bind(project.as_str().to_owned());
    for kind in Counted::ALL {
        statement = statement.bind(record.get(kind).map(Limit::number));
    }
    statement
}

const QUOTA: &str =
    "SELECT load_balancer, listener, pool, member, health_monitor, l7_policy, l7_rule
    FROM quota WHERE project_id = $1";

const QUOTAS: &str =
    "SELECT project_id, load_balancer, listener, pool, member, health_monitor, l7_policy, l7_rule
    FROM quota ORDER BY project_id";

const PUT: &str = "INSERT INTO quota
    (project_id, load_balancer, listener, pool, member, health_monitor, l7_policy, l7_rule)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (project_id) DO UPDATE SET load_balancer = excluded.load_balancer, listener = excluded.listener,
        pool = excluded.pool, member = excluded.member, health_monitor = excluded.health_monitor,
        l7_policy = excluded.l7_policy, l7_rule = excluded.l7_rule";

/// Counts no further than it has to.
const COUNT: &str = "SELECT COUNT(*) FROM
    (SELECT 1 FROM resource WHERE project_id = $1 AND kind = $2 LIMIT $3) AS counted";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "quota/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
