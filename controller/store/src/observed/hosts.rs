//! The hosts that amphorae run on, and the tokens that let them in.

use jiff::{SignedDuration, Timestamp};
use krater_amphora_api::{HostFacts, HostId};
use sqlx::any::AnyRow;

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
    Done(HostRecord),
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
            return Ok(record.map_or(Enrolment::Used, Enrolment::Done));
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
        Ok(Enrolment::Done(record))
    }

    /// All hosts, those that were removed among them, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        let rows = self.all("list the hosts", sqlx::query(HOSTS)).await?;
        rows.iter().map(read_host).collect()
    }

    /// Notes what a host said of itself. Of one that is not there nothing is stored.
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
    WHERE id = $1 AND (last_seen_us IS NULL OR last_seen_us < $2)";

const FORGET: &str =
    "DELETE FROM host WHERE state = 'removed' AND COALESCE(last_seen_us, enrolled_us) < $1";

#[cfg(test)]
mod tests {
    use krater_amphora_api::{BootId, ContractVersion};
    use uuid::Uuid;

    use super::*;
    use crate::fixture::new_database;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn newcomer(number: u128, key: &str) -> Newcomer {
        Newcomer {
            id: HostId::new(Uuid::from_u128(number)),
            key_digest: key.to_owned(),
            facts: HostFacts {
                name: "h".to_owned(),
                agent: "192.0.2.1:9880".to_owned(),
                boot: BootId::new(Uuid::from_u128(9)),
                contract: ContractVersion::CURRENT,
                version: "1".to_owned(),
                cores: 2,
                memory_bytes: 1 << 30,
            },
        }
    }

    async fn stores() -> [Store; 2] {
        let shared = Store::connect(&new_database()).await.unwrap();
        [Store::in_memory().await.unwrap(), shared]
    }

    #[tokio::test]
    async fn a_token_lets_one_host_in_within_its_time_and_that_one_again() {
        for store in stores().await {
            let token = |hash: &str| HostToken {
                hash: hash.to_owned(),
                zone: "z".to_owned(),
                load_balancers_max: Some(7),
                amphorae_max: None,
                created_at: at(1_000_000_000),
                expires_at: at(1_000_000_100),
            };
            store.put_host_token(&token("a")).await.unwrap();
            store.put_host_token(&token("b")).await.unwrap();
            let now = at(1_000_000_050);
            let enrol = |hash, newcomer, now| {
                let store = store.clone();
                async move { store.enrol_host(hash, &newcomer, now).await.unwrap() }
            };
            assert_eq!(enrol("c", newcomer(1, "k1"), now).await, Enrolment::Unknown);
            let Enrolment::Done(first) = enrol("a", newcomer(1, "k1"), now).await else {
                panic!("not let in");
            };
            assert_eq!(
                (first.zone.as_str(), first.load_balancers_max),
                ("z", Some(7))
            );
            assert_eq!(enrol("a", newcomer(2, "k2"), now).await, Enrolment::Used);
            let again = enrol("a", newcomer(3, "k1"), at(1_000_000_099)).await;
            assert_eq!(again, Enrolment::Done(first.clone()));
            let late = at(1_000_000_100);
            let expired = enrol("b", newcomer(4, "k4"), late).await;
            assert_eq!(expired, Enrolment::Expired(late));
            assert_eq!(store.hosts().await.unwrap(), std::slice::from_ref(&first));
            // An answer that was lost is asked for again soon, and not by a host that has spoken since.
            assert_eq!(enrol("a", newcomer(3, "k1"), late).await, Enrolment::Used);
            store.note_host(first.id, &first.facts, now).await.unwrap();
            assert_eq!(enrol("a", newcomer(3, "k1"), now).await, Enrolment::Used);
        }
    }

    #[tokio::test]
    async fn a_host_is_remembered_with_what_it_says_and_one_that_was_removed_stays_so() {
        for store in stores().await {
            let token = HostToken {
                hash: "a".to_owned(),
                zone: "z".to_owned(),
                load_balancers_max: None,
                amphorae_max: Some(2),
                created_at: at(0),
                expires_at: at(100),
            };
            store.put_host_token(&token).await.unwrap();
            let host = newcomer(1, "k");
            let enrolled = store.enrol_host("a", &host, at(1)).await.unwrap();
            assert!(matches!(enrolled, Enrolment::Done(_)));
            let mut facts = host.facts.clone();
            facts.agent = "192.0.2.2:9880".to_owned();
            store.note_host(host.id, &facts, at(5)).await.unwrap();
            store.note_host(host.id, &host.facts, at(4)).await.unwrap();
            let found = store.hosts().await.unwrap().remove(0);
            assert_eq!((found.facts, found.last_seen), (facts, Some(at(5))));
            for (state, known) in [
                (HostState::Draining, true),
                (HostState::Removed, true),
                (HostState::Active, false),
            ] {
                assert_eq!(store.set_host_state(host.id, state).await.unwrap(), known);
            }
            assert_eq!(
                store.hosts().await.unwrap().remove(0).state,
                HostState::Removed
            );
            // Its token lets nobody in any more, itself neither.
            let again = store.enrol_host("a", &host, at(6)).await.unwrap();
            assert_eq!(again, Enrolment::Used);
        }
    }

    #[tokio::test]
    async fn who_comes_with_a_token_that_nobody_made_waits_for_nobody() {
        // In memory there is one connection for everything.
        let [_, store] = stores().await;
        let mut busy = store.begin("let a host in").await.unwrap();
        busy.lock("let a host in", ENROLLING).await.unwrap();
        let enrolled = store.enrol_host("x", &newcomer(1, "k"), at(1)).await;
        assert_eq!(enrolled.unwrap(), Enrolment::Unknown);
        busy.rollback().await.unwrap();
    }

    #[tokio::test]
    async fn a_host_that_was_removed_is_forgotten_once_nobody_can_hear_of_it() {
        for store in stores().await {
            for (number, hash) in [(1, "a"), (2, "b"), (3, "c")] {
                let token = HostToken {
                    hash: hash.to_owned(),
                    zone: "z".to_owned(),
                    load_balancers_max: None,
                    amphorae_max: None,
                    created_at: at(0),
                    expires_at: at(100),
                };
                store.put_host_token(&token).await.unwrap();
                let host = newcomer(number, hash);
                let enrolled = store.enrol_host(hash, &host, at(1)).await.unwrap();
                assert!(matches!(enrolled, Enrolment::Done(_)));
            }
            let hosts = store.hosts().await.unwrap();
            let heard = &hosts[1];
            store
                .note_host(heard.id, &heard.facts, at(9))
                .await
                .unwrap();
            for host in &hosts[..2] {
                store
                    .set_host_state(host.id, HostState::Removed)
                    .await
                    .unwrap();
            }
            assert_eq!(store.forget_removed_hosts(at(9)).await.unwrap(), 1);
            let left: Vec<_> = store.hosts().await.unwrap();
            let left: Vec<_> = left.iter().map(|host| host.id).collect();
            assert_eq!(left, [hosts[1].id, hosts[2].id]);
        }
    }
}
