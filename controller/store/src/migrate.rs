//! The schema. Forward only; each release reads what the one before it wrote.

use std::path::Path;

use sqlx::Row as _;

use crate::{
    StoreError,
    engine::{ServerSettings, Store},
};

/// One step of the schema, in order; its number is its position, counted from 1. A released step never changes.
const STEPS: &[&str] = &[
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
    include_str!("../migrations/0005.sql"),
    include_str!("../migrations/0006.sql"),
    include_str!("../migrations/0007.sql"),
    include_str!("../migrations/0008.sql"),
    include_str!("../migrations/0009.sql"),
    include_str!("../migrations/0010.sql"),
    include_str!("../migrations/0011.sql"),
    include_str!("../migrations/0012.sql"),
];

/// The schema that this release knows.
pub(crate) const SCHEMA: i64 = 12;

impl Store {
    /// The schema that this release knows.
    pub const SCHEMA: i64 = SCHEMA;

    /// Opens the database file, makes it (mode 0600) if there is none, checks it and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] with a sentence that says what to do.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::open_file(path).await?;
        migrate(&store).await?;
        Ok(store)
    }

    /// Connects to a database on a server, checks it and brings its schema up to date. Several processes may do so at
    /// once.
    ///
    /// # Errors
    /// [`StoreError`] with a sentence that says what to do.
    pub async fn connect(settings: &ServerSettings) -> Result<Self, StoreError> {
        let store = Self::open_server(settings).await?;
        migrate(&store).await?;
        Ok(store)
    }

    /// A database that lives as long as the store, for tests and the simulator.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn in_memory() -> Result<Self, StoreError> {
        let store = Self::open_in_memory().await?;
        migrate(&store).await?;
        Ok(store)
    }
}

/// Brings the schema up to date, all missing steps at once or none; [`StoreError::NewerSchema`] when a newer release
/// was here.
async fn migrate(store: &Store) -> Result<(), StoreError> {
    let doing = "bring the schema of the database up to date";
    let mut transaction = store.begin(doing).await?;
    store.claim_schema(&mut transaction).await?;
    let versions =
        "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)";
    transaction.batch(doing, versions.to_owned()).await?;
    let row = transaction
        .one(
            doing,
            sqlx::query("SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM schema_version"),
        )
        .await?;
    let found: i64 = row
        .try_get(0)
        .map_err(|error| StoreError::unreadable("the schema version", &error))?;
    let mut version = 0;
    for step in STEPS {
        version += 1;
        if version <= found {
            continue;
        }
        transaction.batch(doing, store.schema_text(step)).await?;
        transaction
            .run(
                doing,
                sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(version),
            )
            .await?;
    }
    if found > version {
        return Err(StoreError::NewerSchema {
            found,
            known: version,
        });
    }
    transaction.commit(doing).await
}

#[cfg(test)]
mod tests {
    use super::STEPS;

    #[test]
    fn the_schema_is_numbered_by_its_steps() {
        assert_eq!(i64::try_from(STEPS.len()), Ok(super::SCHEMA));
    }

    #[test]
    fn columns_are_text_and_bigint_only_and_no_step_uses_a_vendors_words() {
        for step in STEPS {
            let text = step.to_ascii_uppercase();
            for word in [
                "INTEGER",
                "BLOB",
                "BOOLEAN",
                "TIMESTAMP",
                "AUTOINCREMENT",
                "WITHOUT ROWID",
                "STRICT",
                "SERIAL",
                "JSONB",
            ] {
                assert!(!text.contains(word), "{word} in the schema");
            }
        }
    }
}
