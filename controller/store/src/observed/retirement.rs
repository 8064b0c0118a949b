//! Amphorae that are to go, and what keeps them from it.

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, LoadBalancerId};

use super::fleet::amphora_key;
use crate::{
    Store, StoreError,
    engine::{Durability, retried},
    row::{self, column, read_id},
};

/// The load balancers of an amphora.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Those that are placed there.
    pub placed: Vec<LoadBalancerId>,
    /// Those that were moved away and may be there still.
    pub leaving: Vec<LoadBalancerId>,
}

impl Store {
    /// Notes that an amphora is to go. From then on nobody places anything there, and what was placed before shows in
    /// [`Store::carried`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn note_retiring(&self, amphora: AmphoraId, at: Timestamp) -> Result<(), StoreError> {
        retried!(self.try_note_retiring(amphora, at))
    }

    async fn try_note_retiring(&self, amphora: AmphoraId, at: Timestamp) -> Result<(), StoreError> {
        let doing = "note that an amphora is to go";
        let id = row::id_text(amphora.uuid());
        let mut transaction = self.begin_as(Durability::Promised, doing).await?;
        transaction.lock(doing, &amphora_key(&id)).await?;
        let statement =
            sqlx::query("UPDATE amphora SET retiring = 1, updated_us = $2 WHERE id = $1")
                .bind(id)
                .bind(row::time_us(at));
        transaction.run(doing, statement).await?;
        transaction.commit(doing).await
    }

    /// What an amphora carries, whichever controller placed it there.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn carried(&self, amphora: AmphoraId) -> Result<Carried, StoreError> {
        let statement = sqlx::query(CARRIED).bind(row::id_text(amphora.uuid()));
        let mut carried = Carried::default();
        for found in &self
            .all("look up what an amphora carries", statement)
            .await?
        {
            let id = read_id(found, 0, "an id").map(LoadBalancerId::new)?;
            let is_placed: i64 = column(found, 1, "a place")?;
            if is_placed == 1 {
                carried.placed.push(id);
            } else {
                carried.leaving.push(id);
            }
        }
        Ok(carried)
    }
}

const CARRIED: &str =
    "SELECT load_balancer_id, CAST(1 AS BIGINT) FROM placement WHERE amphora_id = $1
    UNION ALL SELECT load_balancer_id, CAST(1 AS BIGINT) FROM companion WHERE amphora_id = $1
    UNION ALL SELECT load_balancer_id, CAST(0 AS BIGINT) FROM departure WHERE amphora_id = $1";
