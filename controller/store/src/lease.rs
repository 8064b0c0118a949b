//! Who attends to what while several processes share a database.
//!
//! A lease only keeps two from doing the same at once: whoever holds one may be stopped in the middle and wake up late,
//! so nothing may rest on it. It ends by itself, by the clock of the database server; one that would outlast those that
//! are taken now was taken before that clock was set back, and has ended too. A process that has the database
//! for itself holds every lease.

use std::time::Duration;

use crate::{Store, StoreError, engine::retried, row::column};

impl Store {
    /// Takes a lease, or has it last `length` from now on if `holder` has it. `false`: somebody else has it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        length: Duration,
    ) -> Result<bool, StoreError> {
        let Some(now) = self.now_expression() else {
            return Ok(true);
        };
        let length = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        let text = format!(
            "INSERT INTO lease (name, holder, until_us) VALUES ($1, $2, {now} + $3)
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us
            WHERE lease.holder = excluded.holder OR lease.until_us <= {now} OR lease.until_us > excluded.until_us"
        );
        let statement = || {
            sqlx::query(sqlx::AssertSqlSafe(text.clone()))
                .bind(name.to_owned())
                .bind(holder.to_owned())
                .bind(length)
        };
        let taken = retried!(self.learn("take a lease", statement()))?;
        Ok(taken > 0)
    }

    /// Gives a lease back, if `holder` has it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        if self.now_expression().is_none() {
            return Ok(());
        }
        let statement = || {
            sqlx::query("DELETE FROM lease WHERE name = $1 AND holder = $2")
                .bind(name.to_owned())
                .bind(holder.to_owned())
        };
        retried!(self.learn("release a lease", statement())).map(drop)
    }

    /// Leases that somebody has whose names begin so, and that were taken for no longer than `longest`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn leases(&self, prefix: &str, longest: Duration) -> Result<Vec<String>, StoreError> {
        let Some(now) = self.now_expression() else {
            return Ok(Vec::new());
        };
        let text = format!(
            "SELECT name FROM lease WHERE name LIKE $1 AND until_us > {now} AND until_us <= {now} + $2 ORDER BY name"
        );
        let statement = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(format!("{prefix}%"))
            .bind(i64::try_from(longest.as_micros()).unwrap_or(i64::MAX));
        let rows = self.all("look up leases", statement).await?;
        let name = |found| Ok(column::<&str>(found, 0, "a lease")?.to_owned());
        rows.iter().map(name).collect()
    }

    /// Forgets leases that have ended whose names begin so.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_ended_leases(&self, prefix: &str) -> Result<(), StoreError> {
        let Some(now) = self.now_expression() else {
            return Ok(());
        };
        let text = format!("DELETE FROM lease WHERE name LIKE $1 AND until_us <= {now}");
        let statement =
            || sqlx::query(sqlx::AssertSqlSafe(text.clone())).bind(format!("{prefix}%"));
        retried!(self.learn("forget leases that have ended", statement())).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::new_database;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_lease_is_held_by_one_until_it_is_given_back_or_has_ended() {
        let settings = new_database();
        let one = Store::connect(&settings).await.unwrap();
        let two = Store::connect(&settings).await.unwrap();
        assert!(one.take_lease("x", "one", LONG).await.unwrap());
        assert!(one.take_lease("x", "one", LONG).await.unwrap());
        assert!(!two.take_lease("x", "two", LONG).await.unwrap());
        assert!(two.take_lease("y", "two", LONG).await.unwrap());
        two.release_lease("x", "two").await.unwrap();
        assert!(!two.take_lease("x", "two", LONG).await.unwrap());
        one.release_lease("x", "one").await.unwrap();
        assert!(two.take_lease("x", "two", Duration::ZERO).await.unwrap());
        assert!(one.take_lease("x", "one", LONG).await.unwrap());
    }

    #[tokio::test]
    async fn a_lease_from_before_the_clock_was_set_back_has_ended() {
        let store = Store::connect(&new_database()).await.unwrap();
        assert!(store.take_lease("x", "one", LONG).await.unwrap());
        // As if it were taken now, by a clock that was ahead.
        let shorter = LONG / 2;
        assert!(store.take_lease("x", "two", shorter).await.unwrap());
        assert!(!store.take_lease("x", "one", shorter).await.unwrap());
    }

    #[tokio::test]
    async fn leases_are_told_by_how_their_names_begin_until_they_have_ended() {
        let store = Store::connect(&new_database()).await.unwrap();
        for (name, length) in [("a 1", LONG), ("a 2", Duration::ZERO), ("b 1", LONG)] {
            assert!(store.take_lease(name, "one", length).await.unwrap());
        }
        assert_eq!(store.leases("a ", LONG).await.unwrap(), ["a 1"]);
        let shorter = LONG / 2;
        assert_eq!(store.leases("a ", shorter).await.unwrap(), [""; 0]);
        store.forget_ended_leases("a ").await.unwrap();
        assert!(store.take_lease("a 2", "two", LONG).await.unwrap());
        assert!(!store.take_lease("a 1", "two", LONG).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_is_alone_holds_everything() {
        let store = Store::in_memory().await.unwrap();
        for holder in ["one", "two"] {
            assert!(store.take_lease("x", holder, LONG).await.unwrap());
        }
    }
}
