//! The hosts that amphorae run on, and the tokens that let them in.

use jiff::{SignedDuration, Timestamp};
use krater_amphora_api::{HostFacts, HostId};
use sqlx::any::AnyRow;

use super::settlement::no_present;
use crate::{
    Store, StoreError,
    engine::{Statement, retried},
    row::{self, column, read_document, read_id, read_time},
};

/// A host as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Its id, as in its certificate.
    pub id: HostId,
    /// Its zone.
    pub zone: String,
    /// What it last said of itself.
    pub facts: HostFacts,
    /// What is to become of it.
    pub state: HostState,
    /// The most load balancers on it, if that is bounded.
    pub load_balancers_max: Option<u32>,
    /// The most amphorae on it, if that is bounded.
    pub amphorae_max: Option<u32>,
    /// When it came.
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
}

/// What is to become of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It is to carry load balancers.
    Active,
    /// Everything is to leave it, and nothing goes there.
    Draining,
    /// It is no host of this deployment any more: its certificates count for nothing.
    Removed,
}

/// What lets one host in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostToken {
    /// Of its secret.
    pub hash: String,
    /// The zone of the host.
    pub zone: String,
    /// The most load balancers on the host, if that is bounded.
    pub load_balancers_max: Option<u32>,
    /// The most amphorae on the host, if that is bounded.
    pub amphorae_max: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What became of a host that asked to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// It is in.
    Done(Box<HostRecord>),
    /// There is no such token.
    Unknown,
    /// A host came with the token.
    Used,
    /// The token has ended.
    Expired(Timestamp),
}

/// A host that asks to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its id if it is let in.
    pub id: HostId,
    /// What tells its key from others.
    pub key_digest: String,
    /// What it says of itself.
    pub facts: HostFacts,
}

impl Store {
    /// Remembers a token. Those that ended long ago are forgotten.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn put_host_token(&self, token: &HostToken) -> Result<(), StoreError> {
        let doing = "remember a token for a host";
        let old = token.created_at.checked_sub(TOKENS_KEPT);
        let old = old.unwrap_or(Timestamp::MIN);
        let forget =
            || sqlx::query("DELETE FROM host_token WHERE expires_us < $1").bind(row::time_us(old));
        retried!(self.run(doing, forget()))?;
        let put = || {
            sqlx::query(PUT_TOKEN)
                .bind(token.hash.clone())
                .bind(token.zone.clone())
                .bind(token.load_balancers_max.map(i64::from))
                .bind(token.amphorae_max.map(i64::from))
                .bind(row::time_us(token.created_at))
                .bind(row::time_us(token.expires_at))
        };
        retried!(self.run(doing, put())).map(drop)
    }

    /// Lets a host in that came with the token of this hash, once. The host that it let in is let in again, by its key, as
    /// long as the token lasts and nobody heard of that host: the answer may have been lost.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn enrol_host(
        &self,
        hash: &str,
        newcomer: &Newcomer,
        now: Timestamp,
    ) -> Result<Enrolment, StoreError> {
        // Strangers ask this. Whoever comes with a secret that nobody made waits for nobody, and has nobody wait.
        let statement = sqlx::query(TOKEN).bind(hash.to_owned());
        if self.all("look up a token", statement).await?.is_empty() {
            return Ok(Enrolment::Unknown);
        }
        retried!(self.try_enrol_host(hash, newcomer, now))
    }

    async fn try_enrol_host(
        &self,
        hash: &str,
        newcomer: &Newcomer,
        now: Timestamp,
    ) -> Result<Enrolment, StoreError> {
        let doing = "let a host in";
        let mut transaction = self.begin(doing).await?;
        transaction.lock(doing, ENROLLING).await?;
        let statement = sqlx::query(TOKEN).bind(hash.to_owned());
        let Some(token) = transaction.all(doing, statement).await?.into_iter().next() else {
            transaction.rollback().await?;
            return Ok(Enrolment::Unknown);
        };
        let expires_at = read_time(column(&token, 3, "a time")?, "a time")?;
        if column::<Option<&str>>(&token, 4, "a host")?.is_some() {
            let statement = sqlx::query(KNOWN)
                .bind(hash.to_owned())
                .bind(newcomer.key_digest.clone())
                .bind(row::time_us(now));
            let known = transaction.all(doing, statement).await?;
            transaction.rollback().await?;
            let record = known.first().map(read_host).transpose()?;
            return Ok(record.map_or(Enrolment::Used, |record| Enrolment::Done(Box::new(record))));
        }
        if expires_at <= now {
            transaction.rollback().await?;
            return Ok(Enrolment::Expired(expires_at));
        }
        let bound = |index| -> Result<Option<u32>, StoreError> {
            let most: Option<i64> = column(&token, index, "a limit")?;
            Ok(most.and_then(|most| u32::try_from(most).ok()))
        };
        let record = HostRecord {
            id: newcomer.id,
            zone: column(&token, 0, "a zone")?,
            facts: newcomer.facts.clone(),
            state: HostState::Active,
            load_balancers_max: bound(1)?,
            amphorae_max: bound(2)?,
            enrolled_at: now,
            last_seen: None,
        };
        let statement = put_host(&record, &newcomer.key_digest)?;
        transaction.run(doing, statement).await?;
        let statement = sqlx::query("UPDATE host_token SET host_id = $2 WHERE hash = $1")
            .bind(hash.to_owned())
            .bind(row::id_text(record.id.uuid()));
        transaction.run(doing, statement).await?;
        transaction.commit(doing).await?;
        Ok(Enrolment::Done(Box::new(record)))
    }

    /// All hosts, those that were removed among them, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        let rows = self.all("list the hosts", sqlx::query(HOSTS)).await?;
        rows.iter().map(read_host).collect()
    }

    /// Notes what a host said of itself. Of one that is not there nothing is stored, and nothing older overwrites what is
    /// newer, unless that was noted by a clock that was ahead.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn note_host(
        &self,
        host: HostId,
        facts: &HostFacts,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let document = row::document(facts)?;
        let statement = || {
            sqlx::query(HEARD)
                .bind(row::id_text(host.uuid()))
                .bind(row::time_us(at))
                .bind(facts.name.clone())
                .bind(facts.agent.clone())
                .bind(document.clone())
                .bind(row::time_us(no_present(at)))
        };
        retried!(self.learn("note what a host said", statement())).map(drop)
    }

    /// Forgets hosts that were removed and not heard of since then.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_removed_hosts(&self, before: Timestamp) -> Result<u64, StoreError> {
        let statement = || sqlx::query(FORGET).bind(row::time_us(before));
        retried!(self.run("forget hosts that were removed", statement()))
    }

    /// Notes what is to become of a host. One that was removed stays so. Answers whether there is such a host.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_host_state(&self, host: HostId, state: HostState) -> Result<bool, StoreError> {
        let statement = || {
            sqlx::query("UPDATE host SET state = $2 WHERE id = $1 AND state <> 'removed'")
                .bind(row::id_text(host.uuid()))
                .bind(state.name())
        };
        let changed = retried!(self.run("note what is to become of a host", statement()))?;
        Ok(changed > 0)
    }
}

impl HostState {
    /// As it is stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }
}

fn put_host(host: &HostRecord, key_digest: &str) -> Result<Statement, StoreError> {
    Ok(sqlx::query(PUT_HOST)
        .bind(row::id_text(host.id.uuid()))
        .bind(host.facts.name.clone())
        .bind(host.zone.clone())
        .bind(host.facts.agent.clone())
        .bind(row::document(&host.facts)?)
        .bind(host.state.name())
        .bind(key_digest.to_owned())
        .bind(host.load_balancers_max.map(i64::from))
        .bind(host.amphorae_max.map(i64::from))
        .bind(row::time_us(host.enrolled_at)))
}

fn read_host(found: &AnyRow) -> Result<HostRecord, StoreError> {
    let bound = |index| -> Result<Option<u32>, StoreError> {
        let most: Option<i64> = column(found, index, "a limit")?;
        Ok(most.and_then(|most| u32::try_from(most).ok()))
    };
    let last_seen: Option<i64> = column(found, 7, "a time")?;
    Ok(HostRecord {
        id: HostId::new(read_id(found, 0, "an id")?),
        zone: column(found, 1, "a zone")?,
        facts: read_document(column(found, 2, "a host")?, "a host")?,
        state: match column(found, 3, "the state of a host")? {
            "active" => HostState::Active,
            "removed" => HostState::Removed,
            // What is not understood gets nothing new.
            _ => HostState::Draining,
        },
        load_balancers_max: bound(4)?,
        amphorae_max: bound(5)?,
        enrolled_at: read_time(column(found, 6, "a time")?, "a time")?,
        last_seen: last_seen.map(|us| read_time(us, "a time")).transpose()?,
    })
}

/// How long it is known that a token has ended: whoever comes with it is told so.
const TOKENS_KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Whoever lets a host in locks this.
const ENROLLING: &str = "enrolling";

const TOKEN: &str = "SELECT zone, load_balancers_max, amphorae_max, expires_us, host_id FROM host_token WHERE hash = $1";

const PUT_TOKEN: &str =
    "INSERT INTO host_token (hash, zone, load_balancers_max, amphorae_max, created_us, expires_us)
    VALUES ($1, $2, $3, $4, $5, $6)";

const HOSTS: &str =
    "SELECT id, zone, facts, state, load_balancers_max, amphorae_max, enrolled_us, last_seen_us
    FROM host ORDER BY enrolled_us, id";

const KNOWN: &str = "SELECT h.id, h.zone, h.facts, h.state, h.load_balancers_max, h.amphorae_max, h.enrolled_us, h.last_seen_us
    FROM host h JOIN host_token t ON t.host_id = h.id WHERE t.hash = $1 AND h.key_digest = $2 AND h.state <> 'removed'
        AND h.last_seen_us IS NULL AND t.expires_us > $3";

const PUT_HOST: &str = "INSERT INTO host
    (id, name, zone, agent, facts, state, key_digest, load_balancers_max, amphorae_max, enrolled_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

const HEARD: &str = "UPDATE host SET last_seen_us = $2, name = $3, agent = $4, facts = $5
    WHERE id = $1 AND (last_seen_us IS NULL OR last_seen_us < $2 OR last_seen_us > $6)";

const FORGET: &str =
    "DELETE FROM host WHERE state = 'removed' AND COALESCE(last_seen_us, enrolled_us) < $1";

#[cfg(test)]
mod tests;
