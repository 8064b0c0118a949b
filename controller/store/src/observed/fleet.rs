//! The amphorae, and which load balancer is on which.

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, BootId, LoadBalancerId};
use krater_controller_core::model::{Seat, Tenancy};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use self::terms::{is_as_decided, takes_another};
use crate::{
    Store, StoreError, batch,
    engine::{Durability, Statement, retried},
    row::{self, column, read_id, read_time},
};

use super::settlement::no_present;

mod terms;

pub use self::terms::{HostTerms, PutTerms};

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
    /// Whose it is to start and end it, where there are several controllers.
    pub host: String,
    /// The network that it lives on, if that is not its host's.
    pub network: Option<Uuid>,
}

/// What was heard of an amphora.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Of which one.
    pub amphora: AmphoraId,
    /// When.
    pub at: Timestamp,
    /// The run of its process, its release and its process id.
    pub run: Option<(BootId, String, u32)>,
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
    /// Which of its places that is.
    pub seat: Seat,
}

/// Everything known of where a load balancer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its places, the first one first.
    pub placements: Vec<Placement>,
    /// The amphorae it may still be on.
    pub departures: Vec<AmphoraId>,
}

/// What became of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// It is stored.
    Done,
    /// The load balancer or the amphora is gone, or the amphora is to go.
    Gone,
    /// Somebody else placed it meanwhile, or others filled the amphora or the fleet: look again.
    LostRace,
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
                    host: column(found, 12, "a host")?,
                    network: column::<Option<&str>>(found, 13, "a network")?
                        .and_then(|text| text.parse().ok()),
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

    /// Forgets an amphora, its placements and its own addresses. What its listeners counted stays in the totals. Absent
    /// counts as done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_amphora(&self, amphora: AmphoraId) -> Result<(), StoreError> {
        retried!(self.try_forget_amphora(amphora))
    }

    async fn try_forget_amphora(&self, amphora: AmphoraId) -> Result<(), StoreError> {
        let doing = "forget an amphora";
        let id = row::id_text(amphora.uuid());
        let mut transaction = self.begin(doing).await?;
        let own = "SELECT address, network_id FROM vip WHERE amphora_id = $1";
        let rows = transaction
            .all(doing, sqlx::query(own).bind(id.clone()))
            .await?;
        let released: Vec<_> = rows
            .iter()
            .map(row::read_located)
            .collect::<Result<_, _>>()?;
        let statement = sqlx::query("DELETE FROM amphora WHERE id = $1").bind(id);
        transaction.run(doing, statement).await?;
        transaction
            .commit_addresses(doing, Vec::new(), released)
            .await
    }

    /// Remembers a new shared amphora unless its zone has `wanted` that are to stay, there are `most` in all, or `most_there`
    /// on its host.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_amphora_if_fewer(
        &self,
        amphora: &AmphoraRecord,
        wanted: usize,
        most: usize,
        most_there: Option<u32>,
    ) -> Result<bool, StoreError> {
        retried!(self.try_put_amphora_if_fewer(amphora, wanted, most, most_there))
    }

    async fn try_put_amphora_if_fewer(
        &self,
        amphora: &AmphoraRecord,
        wanted: usize,
        most: usize,
        most_there: Option<u32>,
    ) -> Result<bool, StoreError> {
        let doing = "remember an amphora";
        let mut transaction = self.begin(doing).await?;
        transaction.lock(doing, FLEET).await?;
        let statement = sqlx::query(FLEET_COUNT).bind(amphora.zone.clone());
        let found = transaction.one(doing, statement).await?;
        let (all, shared): (i64, i64) =
            (column(&found, 0, "a count")?, column(&found, 1, "a count")?);
        let is_less = |count: i64, most: usize| usize::try_from(count).is_ok_and(|it| it < most);
        if !is_less(all, most)
            || !is_less(shared, wanted)
            || !takes_another(&mut transaction, doing, &amphora.host, most_there).await?
        {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.run(doing, put_amphora(amphora)).await?;
        transaction.commit(doing).await?;
        Ok(true)
    }

    /// Notes what was heard of amphorae just now; of one that is forgotten nothing is stored, and nothing older overwrites
    /// what is newer, unless that was noted by a clock that was ahead.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn note_heard(&self, heard: &[Heard]) -> Result<(), StoreError> {
        if heard.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<&Heard> = heard.iter().collect();
        sorted.sort_unstable_by_key(|heard| heard.amphora);
        retried!(self.try_note_heard(&sorted))
    }

    async fn try_note_heard(&self, heard: &[&Heard]) -> Result<(), StoreError> {
        let doing = "note what amphorae were heard of";
        let mut transaction = self.begin_as(Durability::Learned, doing).await?;
        for some in batch::pieces(heard) {
            let sql = format!("{HEARD} {} {HEARD_WHERE}", batch::rows(some.len(), 6));
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for heard in some {
                let run = heard.run.as_ref();
                statement = statement
                    .bind(row::id_text(heard.amphora.uuid()))
                    .bind(row::time_us(heard.at))
                    .bind(run.map(|(boot, ..)| row::id_text(boot.uuid())))
                    .bind(run.map(|(_, version, _)| version.clone()))
                    .bind(run.map(|(.., pid)| i64::from(*pid)))
                    .bind(row::time_us(no_present(heard.at)));
            }
            transaction.run(doing, statement).await?;
        }
        transaction.commit(doing).await
    }

    /// Where a load balancer is, and the amphorae it may still be on.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn whereabouts(
        &self,
        load_balancer: LoadBalancerId,
    ) -> Result<Whereabouts, StoreError> {
        let statement = sqlx::query(WHEREABOUTS).bind(row::id_text(load_balancer.uuid()));
        let mut whereabouts = Whereabouts::default();
        for found in &self.all("look up a placement", statement).await? {
            let amphora = read_id(found, 0, "an id").map(AmphoraId::new)?;
            match seat(column(found, 1, "a place")?) {
                None => whereabouts.departures.push(amphora),
                Some(seat) => {
                    let most: Option<i64> = column(found, 2, "a limit")?;
                    whereabouts.placements.push(Placement {
                        amphora,
                        load_balancers_max: most.and_then(|most| u32::try_from(most).ok()),
                        seat,
                    });
                }
            }
        }
        whereabouts
            .placements
            .sort_by_key(|placement| placement.seat);
        Ok(whereabouts)
    }

    /// Places a load balancer, on a `new` amphora if there is one, which is remembered by that too; all of it or nothing.
    /// If it was elsewhere before, that is a departure from now on. Unless it is [`Put::Done`], nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_placement(
        &self,
        load_balancer: LoadBalancerId,
        placement: Placement,
        new: Option<&AmphoraRecord>,
        terms: Option<PutTerms>,
    ) -> Result<Put, StoreError> {
        retried!(self.try_put_placement(load_balancer, placement, new, terms))
    }

    async fn try_put_placement(
        &self,
        load_balancer: LoadBalancerId,
        placement: Placement,
        new: Option<&AmphoraRecord>,
        terms: Option<PutTerms>,
    ) -> Result<Put, StoreError> {
        // Where there is an amphora already, a placement that a power cut took is decided again from the same facts, and
        // whoever holds the load balancer then says so. A new amphora must not be started without being on record.
        let durability = match new {
            Some(_) => Durability::Promised,
            None => Durability::Learned,
        };
        let mut transaction = self.begin_as(durability, PLACING).await?;
        if let Some(terms) = terms
            && !is_as_decided(&mut transaction, load_balancer, placement, new, terms).await?
        {
            transaction.rollback().await?;
            return Ok(Put::LostRace);
        }
        if let Some(new) = new {
            transaction.run(PLACING, put_amphora(new)).await?;
        }
        let (depart, put_placement) = match placement.seat {
            Seat::First => (DEPART, PUT_PLACEMENT),
            Seat::Second => (DEPART_SECOND, PUT_COMPANION),
        };
        for sql in [depart, ARRIVE] {
            let statement = sqlx::query(sql)
                .bind(row::id_text(load_balancer.uuid()))
                .bind(row::id_text(placement.amphora.uuid()));
            transaction.run(PLACING, statement).await?;
        }
        let statement = sqlx::query(put_placement)
            .bind(row::id_text(load_balancer.uuid()))
            .bind(row::id_text(placement.amphora.uuid()))
            .bind(placement.load_balancers_max.map(i64::from));
        if transaction.run(PLACING, statement).await? == 0 {
            transaction.rollback().await?;
            return Ok(Put::Gone);
        }
        transaction.commit(PLACING).await?;
        Ok(Put::Done)
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
    pub async fn placements(&self) -> Result<Vec<(LoadBalancerId, Placement)>, StoreError> {
        let rows = self
            .all("look up placements", sqlx::query(PLACEMENTS))
            .await?;
        rows.iter()
            .map(|found| {
                let most: Option<i64> = column(found, 2, "a limit")?;
                let placement = Placement {
                    amphora: read_id(found, 1, "an id").map(AmphoraId::new)?,
                    load_balancers_max: most.and_then(|most| u32::try_from(most).ok()),
                    seat: seat(column(found, 3, "a place")?).unwrap_or(Seat::First),
                };
                Ok((
                    read_id(found, 0, "an id").map(LoadBalancerId::new)?,
                    placement,
                ))
            })
            .collect()
    }
}

/// A place as it is numbered; none for what was left.
const fn seat(number: i64) -> Option<Seat> {
    match number {
        1 => Some(Seat::First),
        2 => Some(Seat::Second),
        _ => None,
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
        .bind(amphora.host.clone())
        .bind(amphora.network.map(row::id_text))
}

/// Whoever places load balancers on an amphora or decides that it is to go locks this.
pub(super) fn amphora_key(amphora: &str) -> String {
    format!("amphora {amphora}")
}

const PLACING: &str = "place a load balancer";
/// Whoever decides on another amphora locks this.
const FLEET: &str = "fleet";

const FLEET_COUNT: &str = "SELECT COUNT(*),
        COALESCE(CAST(SUM(CASE WHEN zone = $1 AND tenancy = 'shared' AND retiring = 0 THEN 1 ELSE 0 END) AS BIGINT), 0)
    FROM amphora";

const PLACEMENTS: &str = "SELECT load_balancer_id, amphora_id, load_balancers_max, CAST(1 AS BIGINT) FROM placement
    UNION ALL SELECT load_balancer_id, amphora_id, load_balancers_max, CAST(2 AS BIGINT) FROM companion";

const HEARD: &str = "UPDATE amphora SET last_seen_us = said.column2, boot = COALESCE(said.column3, boot),
        version = COALESCE(said.column4, version), pid = COALESCE(said.column5, pid),
        updated_us = CASE WHEN said.column3 IS NULL OR boot = said.column3 THEN updated_us ELSE said.column2 END
    FROM";
const HEARD_WHERE: &str = "AS said WHERE id = said.column1
    AND (last_seen_us IS NULL OR last_seen_us < said.column2 OR last_seen_us > said.column6)";

const WHEREABOUTS: &str = "SELECT amphora_id, CAST(1 AS BIGINT), load_balancers_max FROM placement WHERE load_balancer_id = $1
    UNION ALL SELECT amphora_id, CAST(2 AS BIGINT), load_balancers_max FROM companion WHERE load_balancer_id = $1
    UNION ALL SELECT amphora_id, CAST(0 AS BIGINT), CAST(NULL AS BIGINT) FROM departure WHERE load_balancer_id = $1";

const AMPHORAE: &str =
    "SELECT id, created_us, agent, metrics, boot, version, pid, last_seen_us, zone, tenancy, retiring, updated_us,
        host, network
    FROM amphora ORDER BY created_us, id";

/// What is to go stays so, whoever writes down something else of it.
const PUT_AMPHORA: &str = "INSERT INTO amphora
    (id, created_us, agent, metrics, boot, version, pid, last_seen_us, zone, tenancy, retiring, updated_us, host,
        network)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (id) DO UPDATE SET agent = excluded.agent, metrics = excluded.metrics, boot = excluded.boot,
        version = excluded.version, pid = excluded.pid, last_seen_us = CASE
            WHEN excluded.last_seen_us IS NULL OR amphora.last_seen_us > excluded.last_seen_us
            THEN amphora.last_seen_us ELSE excluded.last_seen_us END,
        retiring = CASE WHEN amphora.retiring = 1 THEN 1 ELSE excluded.retiring END,
        updated_us = excluded.updated_us";

const PROJECTS: &str = "SELECT DISTINCT p.amphora_id, r.project_id
    FROM (SELECT load_balancer_id, amphora_id FROM placement
        UNION ALL SELECT load_balancer_id, amphora_id FROM companion) AS p
    JOIN resource r ON r.id = p.load_balancer_id ORDER BY p.amphora_id, r.project_id";

const DEPART: &str = "INSERT INTO departure (load_balancer_id, amphora_id)
    SELECT load_balancer_id, amphora_id FROM placement WHERE load_balancer_id = $1 AND amphora_id <> $2
    ON CONFLICT (load_balancer_id, amphora_id) DO NOTHING";

const DEPART_SECOND: &str = "INSERT INTO departure (load_balancer_id, amphora_id)
    SELECT load_balancer_id, amphora_id FROM companion WHERE load_balancer_id = $1 AND amphora_id <> $2
    ON CONFLICT (load_balancer_id, amphora_id) DO NOTHING";

const ARRIVE: &str = "DELETE FROM departure WHERE load_balancer_id = $1 AND amphora_id = $2";

const PUT_PLACEMENT: &str =
    "INSERT INTO placement (load_balancer_id, amphora_id, load_balancers_max)
    SELECT r.id, a.id, CAST($3 AS BIGINT) FROM resource r, amphora a
    WHERE r.id = $1 AND r.kind = 'load_balancer' AND a.id = $2 AND a.retiring = 0
        AND NOT EXISTS (SELECT 1 FROM companion c WHERE c.load_balancer_id = $1 AND c.amphora_id = $2)
    ON CONFLICT (load_balancer_id) DO UPDATE SET amphora_id = excluded.amphora_id,
        load_balancers_max = excluded.load_balancers_max";

/// Never where the first place is.
const PUT_COMPANION: &str =
    "INSERT INTO companion (load_balancer_id, amphora_id, load_balancers_max)
    SELECT r.id, a.id, CAST($3 AS BIGINT) FROM resource r, amphora a
    WHERE r.id = $1 AND r.kind = 'load_balancer' AND a.id = $2 AND a.retiring = 0
        AND NOT EXISTS (SELECT 1 FROM placement p WHERE p.load_balancer_id = $1 AND p.amphora_id = $2)
    ON CONFLICT (load_balancer_id) DO UPDATE SET amphora_id = excluded.amphora_id,
        load_balancers_max = excluded.load_balancers_max";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "fleet/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
