//! The audit trail. What was done is written with it, by the transaction that does it; what was refused afterwards.

use jiff::Timestamp;
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    audit::{AuditFilter, Deed, Entry, Kept, Outcome},
    model::ProjectId,
};
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    engine::{Statement, Transaction},
    row::{self, column},
};

impl Store {
    /// Writes down entries of what changed nothing here.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn note(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut transaction = self.begin(NOTING).await?;
        for entry in entries {
            write(&mut transaction, entry).await?;
        }
        transaction.commit(NOTING).await
    }

    /// The entries that pass the filter, newest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<Kept>, StoreError> {
        let rows = self.all("read the audit trail", wanted(filter)).await?;
        rows.iter().map(read).collect()
    }

    /// Forgets entries from before `before`, and the oldest beyond `rows_max`; at most `limit` of them at once, so that
    /// nobody waits long. Answers how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn prune_audit(
        &self,
        before: Timestamp,
        rows_max: u32,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let doing = "prune the audit trail";
        let statement = sqlx::query(SURPLUS).bind(i64::from(rows_max));
        let surplus = self.all(doing, statement).await?;
        let surplus: Option<&str> = match surplus.first() {
            Some(found) => Some(column(found, 0, "a mark")?),
            None => None,
        };
        // Marks up to the surplus go, those of its own time too.
        let beyond = surplus.map(|mark| format!("{mark}{AFTER_ALL}"));
        let before = mark_of(before, "");
        let bound = beyond.max(Some(before)).unwrap_or_default();
        let statement = sqlx::query(PRUNE).bind(bound).bind(i64::from(limit));
        self.run(doing, statement).await
    }
}

/// Writes an entry as a part of what it is about.
pub(crate) async fn write(transaction: &mut Transaction, entry: &Entry) -> Result<(), StoreError> {
    let (status, sentence) = match &entry.outcome {
        Outcome::Done => (None, None),
        Outcome::Refused { status, sentence } => (Some(i64::from(*status)), Some(sentence.clone())),
    };
    let project = |project: &Option<ProjectId>| project.as_ref().map(|it| it.as_str().to_owned());
    let statement = sqlx::query(INSERT)
        .bind(mark_of(entry.at, &entry.request_id))
        .bind(row::time_us(entry.at))
        .bind(entry.request_id.clone())
        .bind(entry.global_request_id.clone())
        .bind(entry.user.clone())
        .bind(project(&entry.caller_project))
        .bind(entry.roles.clone())
        .bind(entry.deed.name())
        .bind(entry.kind.clone())
        .bind(entry.resource.clone())
        .bind(entry.load_balancer.map(|id| row::id_text(id.uuid())))
        .bind(project(&entry.project))
        .bind(status)
        .bind(sentence);
    transaction.run(NOTING, statement).await.map(drop)
}

/// A request leaves one entry, so its id tells entries of one moment apart.
fn mark_of(at: Timestamp, request_id: &str) -> String {
    let us = u64::try_from(row::time_us(at)).unwrap_or(0);
    format!("{us:016x}{request_id}")
}

/// The narrowest way in has an index; the rest of the filter is checked on the way.
fn wanted(filter: &AuditFilter) -> Statement {
    let balancer = filter.load_balancer.map(row::id_text);
    let sql = if balancer.is_some() {
        BY_LOAD_BALANCER
    } else if filter.resource.is_some() {
        BY_RESOURCE
    } else if filter.project.is_some() {
        BY_PROJECT
    } else {
        ALL
    };
    let until = filter.until.map(|until| mark_of(until, ""));
    let upper = [until, filter.marker.clone()].into_iter().flatten().min();
    let lower = filter.since.map(|since| mark_of(since, ""));
    sqlx::query(sql)
        .bind(lower.unwrap_or_default())
        .bind(upper.unwrap_or_else(|| AFTER_ALL.to_owned()))
        .bind(i64::from(filter.limit))
        .bind(balancer)
        .bind(filter.resource.clone())
        .bind(filter.project.clone())
        .bind(filter.user.clone())
        .bind(filter.request_id.clone())
}

fn read(found: &AnyRow) -> Result<Kept, StoreError> {
    let text = |index, what| column::<String>(found, index, what);
    let maybe = |index, what| column::<Option<String>>(found, index, what);
    let project = |index| {
        let text = maybe(index, "a project")?;
        Ok::<_, StoreError>(text.and_then(|text| ProjectId::parse(&text)))
    };
    let deed = text(7, "a deed")?;
    let deed = Deed::from_name(&deed)
        .ok_or_else(|| StoreError::unreadable("a deed", &format_args!("{deed} is none")))?;
    let balancer = maybe(10, "an id")?.map(|text| {
        Uuid::parse_str(&text).map_err(|error| StoreError::unreadable("an id", &error))
    });
    let status: Option<i64> = column(found, 12, "a status code")?;
    let outcome = match status {
        None => Outcome::Done,
        Some(status) => Outcome::Refused {
            status: u16::try_from(status).unwrap_or_default(),
            sentence: maybe(13, "a sentence")?.unwrap_or_default(),
        },
    };
    Ok(Kept {
        mark: text(0, "a mark")?,
        entry: Entry {
            at: row::read_time(column(found, 1, "a time")?, "a time")?,
            request_id: text(2, "a request id")?,
            global_request_id: maybe(3, "a request id")?,
            user: text(4, "a user")?,
            caller_project: project(5)?,
            roles: text(6, "roles")?,
            deed,
            kind: text(8, "a kind")?,
            resource: maybe(9, "an id")?,
            load_balancer: balancer.transpose()?.map(LoadBalancerId::new),
            project: project(11)?,
            outcome,
        },
    })
}

const NOTING: &str = "write the audit trail";
/// Sorts after every mark, and after everything that begins with one.
const AFTER_ALL: &str = "~";

const INSERT: &str = "INSERT INTO audit (mark, at_us, request_id, global_request_id, user_id, caller_project_id, roles,
        deed, kind, resource_id, load_balancer_id, project_id, status, sentence)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (mark) DO NOTHING";

macro_rules! entries_where {
    ($condition:literal) => {
        concat!(
            "SELECT mark, at_us, request_id, global_request_id, user_id, caller_project_id, roles, deed, kind,
                resource_id, load_balancer_id, project_id, status, sentence
            FROM audit WHERE mark >= $1 AND mark < $2 AND ",
            $condition,
            " AND ($4 IS NULL OR load_balancer_id = $4) AND ($5 IS NULL OR resource_id = $5)
            AND ($6 IS NULL OR project_id = $6) AND ($7 IS NULL OR user_id = $7)
            AND ($8 IS NULL OR request_id = $8 OR global_request_id = $8)
            ORDER BY mark DESC LIMIT $3"
        )
    };
}

const ALL: &str = entries_where!("1 = 1");
const BY_LOAD_BALANCER: &str = entries_where!("load_balancer_id = $4");
const BY_RESOURCE: &str = entries_where!("resource_id = $5");
const BY_PROJECT: &str = entries_where!("project_id = $6");

/// The newest entry that is one too many.
const SURPLUS: &str = "SELECT mark FROM audit ORDER BY mark DESC LIMIT 1 OFFSET $1";

const PRUNE: &str = "DELETE FROM audit WHERE mark IN
    (SELECT mark FROM audit WHERE mark < $1 ORDER BY mark LIMIT $2)";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "audit/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
