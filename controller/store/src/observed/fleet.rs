//! The amphorae, and which load balancer is on which.

use std::collections::BTreeMap;

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, BootId, LoadBalancerId};
use krater_controller_core::model::Tenancy;

use crate::{
    Store, StoreError,
    engine::{Durability, Statement, retried},
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
    /// Its zone.
    pub zone: String,
    /// Whether it was made for one load balancer.
    pub tenancy: Tenancy,
    /// Whether it is to go, once it carries nothing any more.
    pub fate: Fate,
    /// When something of this last changed, being heard of aside.
    pub updated_at: Option<Timestamp>,
}

/// Whether an amphora is to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is to be kept running.
    Stays,
    /// What it carries is to move to others, then it ends.
    Retires,
}

/// Where a load balancer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// On which amphora.
    pub amphora: AmphoraId,
    /// With how many others at most it wants to be there, itself included.
    pub load_balancers_max: Option<u32>,
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
                let updated: Option<i64> = column(found, 11, "a time")?;
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
                    zone: column(found, 8, "a zone")?,
                    tenancy: match column(found, 9, "a tenancy")? {
                        "dedicated" => Tenancy::Dedicated,
                        _ => Tenancy::Shared,
                    },
                    fate: match column::<i64>(found, 10, "a fate")? {
                        0 => Fate::Stays,
                        _ => Fate::Retires,
                    },
                    updated_at: updated.map(|us| read_time(us, "a time")).transpose()?,
                })
            })
            .collect()
    }

    /// Remembers an amphora, or what is new about it. Where it is and for whom does not change.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_amphora(&self, amphora: &AmphoraRecord) -> Result<(), StoreError> {
        retried!(self.run("remember an amphora", put_amphora(amphora))).map(drop)
    }

    /// Forgets an amphora and its placements. What its listeners counted stays in the totals. Absent counts as done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_amphora(&self, amphora: AmphoraId) -> Result<(), StoreError> {
        let statement =
            || sqlx::query("DELETE FROM amphora WHERE id = $1").bind(row::id_text(amphora.uuid()));
        retried!(self.run("forget an amphora", statement())).map(drop)
    }

    /// Places a load balancer, on a `new` amphora if there is one, which is remembered by that too; all of it or nothing.
    /// If it was elsewhere before, that is a departure from now on. `false`: the load balancer or the amphora is gone,
    /// and nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_placement(
        &self,
        load_balancer: LoadBalancerId,
        placement: Placement,
        new: Option<&AmphoraRecord>,
    ) -> Result<bool, StoreError> {
        retried!(self.try_put_placement(load_balancer, placement, new))
    }

    async fn try_put_placement(
        &self,
        load_balancer: LoadBalancerId,
        placement: Placement,
        new: Option<&AmphoraRecord>,
    ) -> Result<bool, StoreError> {
        // Where there is an amphora already, a placement that a power cut took is decided again from the same facts, and
        // whoever holds the load balancer then says so. A new amphora must not be started without being on record.
        let durability = match new {
            Some(_) => Durability::Promised,
            None => Durability::Learned,
        };
        let mut transaction = self.begin_as(durability, PLACING).await?;
        if let Some(new) = new {
            transaction.run(PLACING, put_amphora(new)).await?;
        }
        for sql in [DEPART, ARRIVE] {
            let statement = sqlx::query(sql)
                .bind(row::id_text(load_balancer.uuid()))
                .bind(row::id_text(placement.amphora.uuid()));
            transaction.run(PLACING, statement).await?;
        }
        let statement = sqlx::query(PUT_PLACEMENT)
            .bind(row::id_text(load_balancer.uuid()))
            .bind(row::id_text(placement.amphora.uuid()))
            .bind(placement.load_balancers_max.map(i64::from));
        if transaction.run(PLACING, statement).await? == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit(PLACING).await?;
        Ok(true)
    }

    /// Whose load balancers are on which amphora.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn projects_of_amphorae(&self) -> Result<Vec<(AmphoraId, String)>, StoreError> {
        let rows = self
            .all("look up whose amphorae are", sqlx::query(PROJECTS))
            .await?;
        rows.iter()
            .map(|found| {
                let amphora = read_id(found, 0, "an id").map(AmphoraId::new)?;
                Ok((amphora, column(found, 1, "a project")?))
            })
            .collect()
    }

    /// All departures: load balancers with amphorae that they were moved away from and that may hold them still.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn departures(&self) -> Result<Vec<(LoadBalancerId, AmphoraId)>, StoreError> {
        let statement = sqlx::query(
            "SELECT load_balancer_id, amphora_id FROM departure ORDER BY load_balancer_id, amphora_id",
        );
        let rows = self.all("look up departures", statement).await?;
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

    /// Forgets a departure: the amphora has let go. Absent counts as done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_departure(
        &self,
        load_balancer: LoadBalancerId,
        amphora: AmphoraId,
    ) -> Result<(), StoreError> {
        let statement =
            sqlx::query("DELETE FROM departure WHERE load_balancer_id = $1 AND amphora_id = $2")
                .bind(row::id_text(load_balancer.uuid()))
                .bind(row::id_text(amphora.uuid()));
        self.run("forget a departure", statement).await.map(drop)
    }

    /// All placements.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn placements(&self) -> Result<BTreeMap<LoadBalancerId, Placement>, StoreError> {
        let statement =
            sqlx::query("SELECT load_balancer_id, amphora_id, load_balancers_max FROM placement");
        let rows = self.all("look up placements", statement).await?;
        rows.iter()
            .map(|found| {
                let most: Option<i64> = column(found, 2, "a limit")?;
                let placement = Placement {
                    amphora: read_id(found, 1, "an id").map(AmphoraId::new)?,
                    load_balancers_max: most.and_then(|most| u32::try_from(most).ok()),
                };
                Ok((
                    read_id(found, 0, "an id").map(LoadBalancerId::new)?,
                    placement,
                ))
            })
            .collect()
    }
}

fn put_amphora(amphora: &AmphoraRecord) -> Statement {
    sqlx::query(PUT_AMPHORA)
        .bind(row::id_text(amphora.id.uuid()))
        .bind(row::time_us(amphora.created_at))
        .bind(amphora.agent.clone())
        .bind(amphora.metrics.clone())
        .bind(amphora.boot.map(|boot| row::id_text(boot.uuid())))
        .bind(amphora.version.clone())
        .bind(amphora.pid.map(i64::from))
        .bind(amphora.last_seen.map(row::time_us))
        .bind(amphora.zone.clone())
        .bind(match amphora.tenancy {
            Tenancy::Shared => "shared",
            Tenancy::Dedicated => "dedicated",
        })
        .bind(i64::from(amphora.fate == Fate::Retires))
        .bind(amphora.updated_at.map(row::time_us))
}

const PLACING: &str = "place a load balancer";

const AMPHORAE: &str =
    "SELECT id, created_us, agent, metrics, boot, version, pid, last_seen_us, zone, tenancy, retiring, updated_us
    FROM amphora ORDER BY created_us, id";

/// What is to go stays so, whoever writes down something else of it.
const PUT_AMPHORA: &str = "INSERT INTO amphora
    (id, created_us, agent, metrics, boot, version, pid, last_seen_us, zone, tenancy, retiring, updated_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (id) DO UPDATE SET agent = excluded.agent, metrics = excluded.metrics, boot = excluded.boot,
        version = excluded.version, pid = excluded.pid, last_seen_us = excluded.last_seen_us,
        retiring = CASE WHEN amphora.retiring = 1 THEN 1 ELSE excluded.retiring END,
        updated_us = excluded.updated_us";

const PROJECTS: &str = "SELECT DISTINCT p.amphora_id, r.project_id
    FROM placement p JOIN resource r ON r.id = p.load_balancer_id ORDER BY p.amphora_id, r.project_id";

const DEPART: &str = "INSERT INTO departure (load_balancer_id, amphora_id)
    SELECT load_balancer_id, amphora_id FROM placement WHERE load_balancer_id = $1 AND amphora_id <> $2
    ON CONFLICT (load_balancer_id, amphora_id) DO NOTHING";

const ARRIVE: &str = "DELETE FROM departure WHERE load_balancer_id = $1 AND amphora_id = $2";

const PUT_PLACEMENT: &str =
    "INSERT INTO placement (load_balancer_id, amphora_id, load_balancers_max)
    SELECT r.id, a.id, CAST($3 AS BIGINT) FROM resource r, amphora a
    WHERE r.id = $1 AND r.kind = 'load_balancer' AND a.id = $2
    ON CONFLICT (load_balancer_id) DO UPDATE SET amphora_id = excluded.amphora_id,
        load_balancers_max = excluded.load_balancers_max";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "fleet/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
