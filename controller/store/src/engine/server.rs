//! PostgreSQL: a database that any number of processes share.
//!
//! Connections come from two pools: one whose commits wait for the disk, and one whose commits do not, which learns and
//! reads (D28). The server commits together by itself what is committed at the same time, so there is no [`super::embedded`]
//! group here. A connection that was idle, or is older than the last trouble with any of them, is asked whether it lives
//! before it is used, so that a server that was away costs those who were using it, and nobody after it is back.

mod news;
mod settings;

use std::{
    collections::BTreeSet,
    fmt,
    str::FromStr as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use krater_controller_core::network::Located;
use sqlx::{
    Any, AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Pool, Row as _,
    any::{AnyConnectOptions, AnyRow},
    pool::PoolOptions,
};

use self::news::Newsroom;
use super::{Durability, Statement, addresses::Addresses};
use crate::StoreError;

pub use self::{news::News, settings::ServerSettings};

/// The connections to one database.
pub(super) struct Server {
    /// What people call it: host, port and database.
    name: Arc<str>,
    promised: Pool<Any>,
    learned: Pool<Any>,
    trouble: Trouble,
    addresses: Mutex<Option<Known>>,
    newsroom: Newsroom,
}

/// When a connection last failed.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<Instant>>>);

/// The addresses in use, as of a moment.
struct Known {
    at: Instant,
    /// How long they are believed.
    age_max: Duration,
    addresses: Addresses,
}

impl Server {
    /// Connects and checks that the server is one we can use.
    pub(super) async fn connect(settings: &ServerSettings) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let name: Arc<str> = settings.name().into();
        let fail = |source| StoreError::from_server(&name, "connect to the database", source);
        let options = AnyConnectOptions::from_str(&settings.full_url()?)
            .map_err(fail)?
            .disable_statement_logging();
        let trouble = Trouble::default();
        let pool = |durability| {
            let most = (settings.connections_max / 2).max(1);
            trouble
                .watched(PoolOptions::new(), setup(settings, durability))
                .max_connections(most)
                .acquire_timeout(ACQUIRE_TIME_MAX)
                .idle_timeout(IDLE_TIME_MAX)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        let server = Self {
            promised: pool(Durability::Promised),
            learned: pool(Durability::Learned),
            newsroom: Newsroom::open(settings, &name)?,
            name,
            trouble: trouble.clone(),
            addresses: Mutex::default(),
        };
        server.check_version().await?;
        Ok(server)
    }

    async fn check_version(&self) -> Result<(), StoreError> {
        let doing = "ask the database server for its version";
        let statement = sqlx::query("SELECT current_setting('server_version_num')");
        let rows = self.all(doing, statement).await?;
        let text: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
        let version: u32 = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        if version < VERSION_MIN {
            return Err(StoreError::OldServer {
                server: self.name.to_string(),
                found: version / 10_000,
            });
        }
        Ok(())
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.newsroom.close().await;
        self.promised.close().await;
        self.learned.close().await;
    }

    /// See [`super::Store::announce`].
    pub(super) fn announce(&self, news: &str) {
        self.newsroom.announce(news);
    }

    /// See [`super::Store::listen`].
    pub(super) fn listen(&self) -> News {
        self.newsroom.listen()
    }

    /// Begins a transaction.
    pub(super) async fn begin_as(
        self: &Arc<Self>,
        durability: Durability,
        doing: &'static str,
    ) -> Result<Transaction, StoreError> {
        // Each statement sees what was committed before it: whoever waited for a row or a lock decides by what it finds
        // then, and nobody is sent away because others were there too.
        self.open(durability, "BEGIN ISOLATION LEVEL READ COMMITTED", doing)
            .await
    }

    /// Begins a transaction whose statements all see one moment.
    pub(super) async fn reading(
        self: &Arc<Self>,
        doing: &'static str,
    ) -> Result<Transaction, StoreError> {
        let text = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.open(Durability::Learned, text, doing).await
    }

    async fn open(
        self: &Arc<Self>,
        durability: Durability,
        text: &'static str,
        doing: &'static str,
    ) -> Result<Transaction, StoreError> {
        let begun = self.pool(durability).begin_with(text).await;
        Ok(Transaction {
            open: begun.map_err(|source| self.failed(doing, source))?,
            server: Arc::clone(self),
        })
    }

    /// Runs one writing statement, which commits by itself.
    pub(super) async fn run_as(
        &self,
        durability: Durability,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        let done = statement.execute(self.pool(durability)).await;
        done.map(|done| done.rows_affected())
            .map_err(|source| self.failed(doing, source))
    }

    /// All rows of one reading statement.
    pub(super) async fn all(
        &self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let rows = statement.fetch_all(&self.learned).await;
        rows.map_err(|source| self.failed(doing, source))
    }

    /// The addresses in use, as they were a moment ago: what others did since then the table's key tells.
    pub(super) async fn addresses(
        &self,
        doing: &'static str,
        load: Statement,
        read: impl Fn(&AnyRow) -> Result<Located, StoreError>,
    ) -> Result<Arc<BTreeSet<Located>>, StoreError> {
        let at = Instant::now();
        if let Some(known) = &*self.known()
            && at.saturating_duration_since(known.at) < known.age_max
        {
            return Ok(known.addresses.in_use());
        }
        let rows = self.all(doing, load).await?;
        let addresses: Addresses = rows.iter().map(read).collect::<Result<_, _>>()?;
        let in_use = addresses.in_use();
        let age_max = at.elapsed().saturating_mul(ADDRESSES_READ_SHARE);
        *self.known() = Some(Known {
            at,
            age_max: age_max.clamp(ADDRESSES_AGE_MIN, ADDRESSES_AGE_MAX),
            addresses,
        });
        Ok(in_use)
    }

    /// Has them read again.
    pub(super) fn doubt_addresses(&self) {
        *self.known() = None;
    }

    /// Notes that somebody else has an address.
    pub(super) fn note_taken(&self, address: Located) {
        if let Some(known) = &mut *self.known()
            && !known.addresses.in_use().contains(&address)
        {
            known.addresses.claim(address);
        }
    }

    /// Has others who would change the schema wait, and refuses a schema that holds something of others.
    pub(super) async fn claim(&self, transaction: &mut Transaction) -> Result<(), StoreError> {
        let doing = "check the database";
        transaction.lock(doing, "krater schema").await?;
        let row = transaction.one(doing, sqlx::query(TABLES)).await?;
        let fail = |error: sqlx::Error| StoreError::unreadable("a number of tables", &error);
        let (all, ours): (i64, i64) =
            (row.try_get(0).map_err(fail)?, row.try_get(1).map_err(fail)?);
        if all > 0 && ours == 0 {
            return Err(StoreError::ForeignTables {
                server: self.name.to_string(),
            });
        }
        Ok(())
    }

    const fn pool(&self, durability: Durability) -> &Pool<Any> {
        match durability {
            Durability::Promised => &self.promised,
            Durability::Learned => &self.learned,
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        if matches!(source, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) {
            self.trouble.note();
        }
        StoreError::from_server(&self.name, doing, source)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Trouble {
    fn note(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// Has new connections set up, and suspicious ones asked whether they live.
    fn watched(&self, options: PoolOptions<Any>, setup: String) -> PoolOptions<Any> {
        let trouble = self.clone();
        options
            .after_connect(move |connection, _| {
                let setup = setup.clone();
                Box::pin(async move {
                    connection
                        .execute(sqlx::raw_sql(AssertSqlSafe(setup)))
                        .await?;
                    Ok(())
                })
            })
            .before_acquire(move |connection, meta| {
                let since = trouble.lock().map(|at| at.elapsed());
                let is_suspicious =
                    meta.idle_for > IDLE_UNASKED_MAX || since.is_some_and(|since| meta.age > since);
                Box::pin(async move { Ok(!is_suspicious || connection.ping().await.is_ok()) })
            })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a new connection is told.
fn setup(settings: &ServerSettings, durability: Durability) -> String {
    let synchronous = match durability {
        // As the server is set up; it may wait for replicas too.
        Durability::Promised => "",
        Durability::Learned => "SET synchronous_commit = off; ",
    };
    let timeout = settings.statement_timeout.as_millis();
    format!(
        "{synchronous}SET statement_timeout = {timeout}; SET lock_timeout = {timeout}; \
        SET idle_in_transaction_session_timeout = {}",
        IDLE_IN_TRANSACTION_MAX.as_millis()
    )
}

/// A transaction. Dropped it is rolled back.
pub(crate) struct Transaction {
    server: Arc<Server>,
    open: sqlx::Transaction<'static, Any>,
}

impl Transaction {
    /// See [`super::Transaction::run`].
    pub(super) async fn run(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        let done = statement.execute(&mut *self.open).await;
        done.map(|done| done.rows_affected())
            .map_err(|source| self.server.failed(doing, source))
    }

    /// See [`super::Transaction::all`].
    pub(super) async fn all(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let rows = statement.fetch_all(&mut *self.open).await;
        rows.map_err(|source| self.server.failed(doing, source))
    }

    /// See [`super::Transaction::one`].
    pub(super) async fn one(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<AnyRow, StoreError> {
        let row = statement.fetch_one(&mut *self.open).await;
        row.map_err(|source| self.server.failed(doing, source))
    }

    /// See [`super::Transaction::batch`].
    pub(super) async fn batch(
        &mut self,
        doing: &'static str,
        sql: String,
    ) -> Result<(), StoreError> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *self.open)
            .await;
        done.map(drop)
            .map_err(|source| self.server.failed(doing, source))
    }

    /// See [`super::Transaction::lock`].
    pub(super) async fn lock(&mut self, doing: &'static str, key: &str) -> Result<(), StoreError> {
        let statement = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(number_of(key));
        self.all(doing, statement).await.map(drop)
    }

    /// Commits, and notes addresses that were claimed or released by it.
    pub(super) async fn commit(
        self,
        doing: &'static str,
        claimed: &[Located],
        released: &[Located],
    ) -> Result<(), StoreError> {
        let Self { server, open } = self;
        let committed = open.commit().await;
        committed.map_err(|source| server.failed(doing, source))?;
        if let Some(known) = &mut *server.known() {
            claimed.iter().for_each(|one| known.addresses.claim(*one));
            released
                .iter()
                .for_each(|one| known.addresses.release(*one));
        }
        Ok(())
    }

    /// See [`super::Transaction::rollback`].
    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        let Self { server, open } = self;
        open.rollback()
            .await
            .map_err(|source| server.failed("undo a change", source))
    }
}

/// The number of a lock (FNV-1a): two keys with the same one merely wait for each other.
fn number_of(key: &str) -> i64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.cast_signed()
}

/// The tables in our schema, and whether the one that every database of ours has is among them.
const TABLES: &str = "SELECT COUNT(*), COUNT(*) FILTER (WHERE table_name = 'schema_version')
    FROM information_schema.tables WHERE table_schema = current_schema()";

/// The present moment, whatever moment the transaction began at.
pub(super) const NOW_US: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// Release 14, the oldest that is still cared for.
const VERSION_MIN: u32 = 140_000;
/// How long a request waits for a connection: as long as clients wait for an answer that says why not.
const ACQUIRE_TIME_MAX: Duration = Duration::from_secs(3);
/// When a connection that nobody needs is given back to the server.
const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// How long a connection may have been idle to be trusted without a question.
const IDLE_UNASKED_MAX: Duration = Duration::from_secs(1);
/// When the server gives up on a transaction of a process that was stopped in the middle of it, and lets others have its
/// rows.
const IDLE_IN_TRANSACTION_MAX: Duration = Duration::from_secs(5);
/// How old the addresses in memory may be: other processes release some too. What one of many thousands lags behind is
/// found out where it matters, by the table's key or for want of a free one.
const ADDRESSES_AGE_MIN: Duration = Duration::from_secs(1);
const ADDRESSES_AGE_MAX: Duration = Duration::from_secs(60);
/// They are believed for so many times the time it takes to read them: that is a fiftieth of the time at most.
const ADDRESSES_READ_SHARE: u32 = 50;

#[cfg(test)]
pub(crate) mod tests;
