//! The amphorae, and which load balancer is on which.

use std::collections::BTreeMap;

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, BootId, LoadBalancerId};

use crate::{
    Store, StoreError,
    row::{self, column, read_id, read_time},
};

/// An amphora as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmphoraRecord {
    /// Its id, stored before it is started.
    pub id: AmphoraId,
    /// When it was decided on.
    pub created_at: Timestamp,
    /// `host:port` of its agent, once known.
    pub agent: Option<String>,
    /// `host:port` of its metrics endpoint, once known.
    pub metrics: Option<String>,
    /// The run of its process last heard of.
    pub boot: Option<BootId>,
    /// Release of its program.
    pub version: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
}

impl Store {
    /// All amphorae, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn amphorae(&self) -> Result<Vec<AmphoraRecord>, StoreError> {
        let rows = self.all("list the amphorae", sqlx::query(AMPHORAE)).await?;
        rows.iter()
            .map(|found| {
                let boot: Option<&str> = column(found, 4, "a boot id")?;
                let pid: Option<i64> = column(found, 6, "a process id")?;
                let last_seen: Option<i64> = column(found, 7, "a time")?;
                Ok(AmphoraRecord {
                    id: AmphoraId::new(read_id(found, 0, "an id")?),
                    created_at: read_time(column(found, 1, "a time")?, "a time")?,
                    agent: column(found, 2, "an agent address")?,
                    metrics: column(found, 3, "a metrics address")?,
                    // What cannot be read here the next report replaces.
                    boot: boot.and_then(|text| text.parse().ok()),
                    version: column(found, 5, "a version")?,
                    pid: pid.and_then(|pid| u32::try_from(pid).ok()),
                    last_seen: last_seen.map(|us| read_time(us, "a time")).transpose()?,
                })
            })
            .collect()
    }

    /// Remembers an amphora, or what is new about it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_amphora(&self, amphora: &AmphoraRecord) -> Result<(), StoreError> {
        let statement = sqlx::query(PUT_AMPHORA)
            .bind(row::id_text(amphora.id.uuid()))
            .bind(row::time_us(amphora.created_at))
            .bind(amphora.agent.clone())
            .bind(amphora.metrics.clone())
            .bind(amphora.boot.map(|boot| row::id_text(boot.uuid())))
            .bind(amphora.version.clone())
            .bind(amphora.pid.map(i64::from))
            .bind(amphora.last_seen.map(row::time_us));
        self.run("remember an amphora", statement).await.map(drop)
    }

    /// Forgets an amphora and its placements. What its listeners counted stays in the totals. Absent counts as done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_amphora(&self, amphora: AmphoraId) -> Result<(), StoreError> {
        let statement =
            sqlx::query("DELETE FROM amphora WHERE id = $1").bind(row::id_text(amphora.uuid()));
        self.run("forget an amphora", statement).await.map(drop)
    }

    /// The amphora that carries the load balancer, if that is decided.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn placement(
        &self,
        load_balancer: LoadBalancerId,
    ) -> Result<Option<AmphoraId>, StoreError> {
        let statement = sqlx::query("SELECT amphora_id FROM placement WHERE load_balancer_id = $1")
            .bind(row::id_text(load_balancer.uuid()));
        let rows = self.all("look up a placement", statement).await?;
        rows.first()
            .map(|found| read_id(found, 0, "an id").map(AmphoraId::new))
            .transpose()
    }

    /// Places a load balancer, moving it if it was elsewhere. `false`: the load balancer or the amphora is gone, and
    /// nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_placement(
        &self,
        load_balancer: LoadBalancerId,
        amphora: AmphoraId,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(PUT_PLACEMENT)
            .bind(row::id_text(load_balancer.uuid()))
            .bind(row::id_text(amphora.uuid()));
        Ok(self.run("place a load balancer", statement).await? > 0)
    }

    /// The load balancers placed on the amphora.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn placements_of(
        &self,
        amphora: AmphoraId,
    ) -> Result<Vec<LoadBalancerId>, StoreError> {
        let statement =
            sqlx::query("SELECT load_balancer_id FROM placement WHERE amphora_id = $1 ORDER BY load_balancer_id")
                .bind(row::id_text(amphora.uuid()));
        let rows = self.all("look up placements", statement).await?;
        rows.iter()
            .map(|found| read_id(found, 0, "an id").map(LoadBalancerId::new))
            .collect()
    }

    /// All placements.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn placements(&self) -> Result<BTreeMap<LoadBalancerId, AmphoraId>, StoreError> {
        let statement = sqlx::query("SELECT load_balancer_id, amphora_id FROM placement");
        let rows = self.all("look up placements", statement).await?;
        rows.iter()
            .map(|found| {
                let load_balancer = read_id(found, 0, "an id").map(LoadBalancerId::new)?;
                Ok((
                    load_balancer,
                    read_id(found, 1, "an id").map(AmphoraId::new)?,
                ))
            })
            .collect()
    }
}

const AMPHORAE: &str =
    "SELECT id, created_us, agent, metrics, boot, version, pid, last_seen_us FROM amphora
    ORDER BY created_us, id";

const PUT_AMPHORA: &str = "INSERT INTO amphora (id, created_us, agent, metrics, boot, version, pid, last_seen_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (id) DO UPDATE SET agent = excluded.agent, metrics = excluded.metrics, boot = excluded.boot,
        version = excluded.version, pid = excluded.pid, last_seen_us = excluded.last_seen_us";

const PUT_PLACEMENT: &str = "INSERT INTO placement (load_balancer_id, amphora_id)
    SELECT r.id, a.id FROM resource r, amphora a WHERE r.id = $1 AND r.kind = 'load_balancer' AND a.id = $2
    ON CONFLICT (load_balancer_id) DO UPDATE SET amphora_id = excluded.amphora_id";

#[cfg(test)]
mod tests;
