//! Secrets of the deployment as the store sees them: sealed by somebody else.

use crate::{Store, StoreError, row::column};

impl Store {
    /// What is kept under the name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn sealed(&self, name: &str) -> Result<Option<String>, StoreError> {
        let statement =
            sqlx::query("SELECT document FROM sealed WHERE name = $1").bind(name.to_owned());
        let rows = self.all("read a sealed secret", statement).await?;
        rows.first()
            .map(|found| column(found, 0, "a sealed secret"))
            .transpose()
    }

    /// Keeps another document under the name if the one there is still `before`; answers whether it was.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn replace_sealed(
        &self,
        name: &str,
        before: &str,
        document: &str,
    ) -> Result<bool, StoreError> {
        let statement =
            sqlx::query("UPDATE sealed SET document = $3 WHERE name = $1 AND document = $2")
                .bind(name.to_owned())
                .bind(before.to_owned())
                .bind(document.to_owned());
        let replaced = self.run("replace a sealed secret", statement).await?;
        Ok(replaced > 0)
    }

    /// Keeps a document under the name unless there is one; answers what is there then.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn keep_sealed(&self, name: &str, document: &str) -> Result<String, StoreError> {
        let doing = "keep a sealed secret";
        let statement = sqlx::query(
            "INSERT INTO sealed (name, document) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        );
        let statement = statement.bind(name.to_owned()).bind(document.to_owned());
        self.run(doing, statement).await?;
        let found = self.sealed(name).await?;
        found.ok_or_else(|| StoreError::Defect("a sealed secret was not kept".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::new_database;

    #[tokio::test]
    async fn the_first_to_keep_a_secret_wins_on_both_engines() {
        let shared = Store::connect(&new_database()).await.unwrap();
        for store in [Store::in_memory().await.unwrap(), shared] {
            assert_eq!(store.sealed("a").await.unwrap(), None);
            assert_eq!(store.keep_sealed("a", "one").await.unwrap(), "one");
            assert_eq!(store.keep_sealed("a", "two").await.unwrap(), "one");
            assert_eq!(store.sealed("a").await.unwrap().as_deref(), Some("one"));
            assert!(!store.replace_sealed("a", "two", "three").await.unwrap());
            assert!(store.replace_sealed("a", "one", "three").await.unwrap());
            assert_eq!(store.sealed("a").await.unwrap().as_deref(), Some("three"));
        }
    }
}
