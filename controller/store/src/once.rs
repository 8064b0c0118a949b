//! What was created under names that clients chose so that it is created once.

use jiff::Timestamp;
use krater_controller_core::{envelope::Once, model::ProjectId, query::ResourceId};

use crate::{
    Store, StoreError,
    engine::Transaction,
    row::{self, column, kind_name},
};

/// What was created under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedOnce {
    /// The digest of the body it was created from.
    pub digest: String,
    /// What it is.
    pub resource: ResourceId,
}

impl Store {
    /// What was created for a project under the name, if anything was and is remembered.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn created_once(
        &self,
        project: &ProjectId,
        once: &Once,
    ) -> Result<Option<CreatedOnce>, StoreError> {
        let statement = sqlx::query(FIND)
            .bind(project.as_str().to_owned())
            .bind(once.scope.clone())
            .bind(once.key.clone());
        let rows = self.all("look up an idempotency key", statement).await?;
        let Some(found) = rows.first() else {
            return Ok(None);
        };
        let kind: &str = column(found, 1, "a kind")?;
        let id = row::read_id(found, 2, "an id")?;
        let resource = row::read_resource(kind, id)
            .ok_or_else(|| StoreError::unreadable("a kind", &format_args!("{kind} is none")))?;
        Ok(Some(CreatedOnce {
            digest: column(found, 0, "a digest")?,
            resource,
        }))
    }

    /// Forgets names used before `before`; at most `limit` at once. Answers how many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn prune_once(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let statement = sqlx::query(PRUNE)
            .bind(row::time_us(before))
            .bind(i64::from(limit));
        self.run("forget idempotency keys", statement).await
    }
}

/// Takes the name for a new resource; `false` when something was created under it before. A project's oldest names
/// beyond [`NAMES_MAX`] are forgotten.
pub(crate) async fn claim(
    transaction: &mut Transaction,
    project: &ProjectId,
    once: &Once,
    resource: ResourceId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let doing = "remember an idempotency key";
    let project = project.as_str().to_owned();
    let statement = sqlx::query(CLAIM)
        .bind(project.clone())
        .bind(once.scope.clone())
        .bind(once.key.clone())
        .bind(once.digest.clone())
        .bind(kind_name(resource))
        .bind(row::id_text(resource.uuid()))
        .bind(row::time_us(now));
    if transaction.run(doing, statement).await? == 0 {
        return Ok(false);
    }
    let statement = sqlx::query(SURPLUS).bind(project).bind(NAMES_MAX);
    transaction.run(doing, statement).await?;
    Ok(true)
}

/// Names remembered per project: more than a busy client uses in an hour, few enough to cost some megabytes.
const NAMES_MAX: i64 = 10_000;

const FIND: &str =
    "SELECT digest, kind, resource_id FROM once WHERE project_id = $1 AND scope = $2 AND name = $3";

const CLAIM: &str =
    "INSERT INTO once (project_id, scope, name, digest, kind, resource_id, created_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, scope, name) DO NOTHING";

const SURPLUS: &str = "DELETE FROM once WHERE project_id = $1 AND created_us <
    (SELECT created_us FROM once WHERE project_id = $1 ORDER BY created_us DESC LIMIT 1 OFFSET $2)";

const PRUNE: &str = "DELETE FROM once WHERE (project_id, scope, name) IN
    (SELECT project_id, scope, name FROM once WHERE created_us < $1 ORDER BY created_us LIMIT $2)";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "once/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
