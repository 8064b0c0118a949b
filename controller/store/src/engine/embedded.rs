//! SQLite: a file, or memory, of one process.

mod group;

use std::{
    collections::BTreeSet,
    fmt,
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use krater_controller_core::network::Located;
use sqlx::{
    AnyConnection, ConnectOptions as _, Connection as _, Row as _, SqlSafeStr,
    any::{AnyConnectOptions, AnyRow},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::group::{Group, Share};
use super::{
    Durability, Statement,
    addresses::Addresses,
    simulated::{Framed, Passage, at_once, carry},
};
use crate::StoreError;

/// A database file. Clones share one connection that writes, so that a writing verb waits for the one before it and
/// never for a lock of the engine, and a few that only read, so that whoever asks does not wait for the disk under
/// somebody who writes.
#[derive(Clone)]
pub(super) struct Embedded {
    inner: Arc<Inner>,
    /// The way there, in simulations.
    passage: Option<Arc<dyn Passage>>,
}

struct Inner {
    path: PathBuf,
    link: Arc<Mutex<Option<Link>>>,
    /// How many wait for the connection that writes to write something more.
    waiting: AtomicUsize,
    /// The addresses in use, once asked for.
    addresses: std::sync::Mutex<Option<Addresses>>,
    /// None where the database is in memory, which is its one connection's own.
    readers: Vec<Arc<Mutex<Option<Link>>>>,
    /// Whose turn it is when all of them are busy.
    turn: AtomicUsize,
}

/// The connection, with what a cancelled verb left behind on it.
struct Link {
    connection: AnyConnection,
    /// A transaction was begun and not ended: its future was dropped, or its end failed.
    unfinished: bool,
    /// What commits wait for.
    durability: Durability,
    /// Transactions that are complete and wait to be committed together.
    group: Option<Group>,
}

impl Embedded {
    /// Opens the database file, makes it (mode 0600) if there is none, and checks it.
    pub(super) async fn open_file(path: &Path) -> Result<Self, StoreError> {
        make_file(path)?;
        Self::connect(path.to_owned(), &url_of(path)?, READERS).await
    }

    /// A database that lives as long as the store.
    pub(super) async fn open_in_memory() -> Result<Self, StoreError> {
        Self::connect(PathBuf::from(":memory:"), "sqlite::memory:", 0).await
    }

    /// Writes everything down and closes the database. Clones fail from then on.
    pub(super) async fn close(&self) {
        // The one that writes is the last: it tidies up.
        for reader in &self.inner.readers {
            if let Some(link) = reader.lock().await.take() {
                // It has nothing to lose.
                let _ = link.connection.close().await;
            }
        }
        let Ok(mut last) = self.link().await else {
            return;
        };
        if last.has_group() {
            // Whoever waits for it is told how it went.
            match last.conclude("close the database").await {
                Ok(again) => last = again,
                Err(_) => return,
            }
        }
        if let Some(link) = last.guard.take()
            && let Err(error) = link.connection.close().await
        {
            // Nothing is lost: what was committed is on disk, the next start replays the log.
            tracing::warn!(%error, "the database did not close cleanly");
        }
    }

    async fn connect(path: PathBuf, url: &str, readers: usize) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let fail = |source| StoreError::from_engine(&path, "open the database", source);
        let options = AnyConnectOptions::from_str(url)
            .map_err(fail)?
            .disable_statement_logging();
        let mut connection = AnyConnection::connect_with(&options).await.map_err(fail)?;
        claim(&mut connection, &path).await?;
        sqlx::raw_sql(SETTINGS)
            .execute(&mut connection)
            .await
            .map_err(fail)?;
        let mut links = Vec::with_capacity(readers);
        for _ in 0..readers {
            let mut connection = AnyConnection::connect_with(&options).await.map_err(fail)?;
            sqlx::raw_sql(READER_SETTINGS)
                .execute(&mut connection)
                .await
                .map_err(fail)?;
            links.push(Arc::new(Mutex::new(Some(Link::new(connection)))));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                link: Arc::new(Mutex::new(Some(Link::new(connection)))),
                waiting: AtomicUsize::new(0),
                addresses: std::sync::Mutex::default(),
                readers: links,
                turn: AtomicUsize::new(0),
            }),
            passage: None,
        })
    }

    /// The same database as one of several processes uses it, if it is in memory.
    pub(super) fn simulated(&self, passage: Arc<dyn Passage>) -> Option<Self> {
        self.inner.readers.is_empty().then(|| Self {
            inner: Arc::clone(&self.inner),
            passage: Some(passage),
        })
    }

    /// The way there, in simulations.
    pub(super) const fn passage(&self) -> Option<&Arc<dyn Passage>> {
        self.passage.as_ref()
    }

    async fn reach(&self, doing: &'static str) -> Result<(), StoreError> {
        match &self.passage {
            Some(passage) => passage.reach(doing).await,
            None => Ok(()),
        }
    }

    async fn answer(&self, doing: &'static str) -> Result<(), StoreError> {
        match &self.passage {
            Some(passage) => passage.answer(doing).await,
            None => Ok(()),
        }
    }

    /// Takes the connection and begins a transaction. Dropped without [`Transaction::commit`] it is rolled back.
    pub(super) async fn begin_as(
        &self,
        durability: Durability,
        doing: &'static str,
    ) -> Result<Transaction, StoreError> {
        self.reach(doing).await?;
        let mut transaction = self.writing(durability, doing).await?;
        transaction.begin(doing).await?;
        Ok(transaction)
    }

    /// Runs one writing statement in a transaction of its own and answers how many rows it wrote.
    pub(super) async fn run_as(
        &self,
        durability: Durability,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        self.reach(doing).await?;
        let mut connection = self.writing(durability, doing).await?;
        if !connection.has_group() && !connection.is_wanted() {
            let written = connection.run(doing, statement).await?;
            drop(connection);
            self.answer(doing).await?;
            return Ok(written);
        }
        connection.begin(doing).await?;
        let written = connection.run(doing, statement).await?;
        connection.commit(doing, Vec::new(), Vec::new()).await?;
        Ok(written)
    }

    /// All rows of one reading statement.
    pub(super) async fn all(
        &self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<AnyRow>, StoreError> {
        self.reach(doing).await?;
        let rows = self.reader().await?.all(doing, statement).await?;
        self.answer(doing).await?;
        Ok(rows)
    }

    /// Takes a connection for several reading statements that see one and the same moment.
    pub(super) async fn reading(&self, doing: &'static str) -> Result<Transaction, StoreError> {
        self.reach(doing).await?;
        let mut transaction = self.reader().await?;
        transaction.link()?.unfinished = true;
        transaction.batch(doing, "BEGIN").await?;
        transaction.framed = Framed::Yes;
        Ok(transaction)
    }

    /// The addresses in use: from memory, or once by `load`. Nobody who writes is waited for.
    pub(super) async fn addresses(
        &self,
        doing: &'static str,
        load: Statement,
        read: impl Fn(&AnyRow) -> Result<Located, StoreError>,
    ) -> Result<Arc<BTreeSet<Located>>, StoreError> {
        if let Some(known) = &*self.inner.addresses() {
            return Ok(known.in_use());
        }
        // Nothing is committed between the look and the memory.
        let mut connection = self.link().await?;
        if connection.has_group() {
            connection = connection.conclude(doing).await?;
        }
        let rows = connection.all(doing, load).await?;
        let found = rows.iter().map(read).collect::<Result<_, _>>()?;
        let mut addresses = self.inner.addresses();
        Ok(addresses.get_or_insert(found).in_use())
    }

    /// The connection that writes, outside any transaction but that of a group, committing as `durability` says or
    /// better.
    async fn writing(
        &self,
        durability: Durability,
        doing: &'static str,
    ) -> Result<Transaction, StoreError> {
        let mut connection = {
            let _waiting = Waiting::behind(&self.inner);
            self.link().await?
        };
        let link = connection.link()?;
        if link.durability == durability {
            return Ok(connection);
        }
        if link.group.is_some() {
            if durability == Durability::Learned {
                return Ok(connection);
            }
            // What is promised cannot be part of what may be forgotten.
            connection = connection.conclude(doing).await?;
        }
        let text = match durability {
            Durability::Promised => "PRAGMA synchronous = FULL",
            Durability::Learned => "PRAGMA synchronous = NORMAL",
        };
        connection.batch(doing, text).await?;
        connection.link()?.durability = durability;
        Ok(connection)
    }

    /// The connection that writes.
    async fn link(&self) -> Result<Transaction, StoreError> {
        let guard = Arc::clone(&self.inner.link).lock_owned().await;
        self.cleaned(guard).await
    }

    /// A connection to read from: one that is free, else the one whose turn it is. What was committed before is seen
    /// on every one of them.
    async fn reader(&self) -> Result<Transaction, StoreError> {
        let readers = &self.inner.readers;
        let free = |reader: &Arc<Mutex<_>>| Arc::clone(reader).try_lock_owned().ok();
        if let Some(free) = readers.iter().find_map(free) {
            return self.cleaned(free).await;
        }
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        match readers.get(turn.checked_rem(readers.len()).unwrap_or_default()) {
            Some(reader) => self.cleaned(Arc::clone(reader).lock_owned().await).await,
            None => self.link().await,
        }
    }

    /// Ends what a verb that was dropped left behind.
    async fn cleaned(
        &self,
        guard: OwnedMutexGuard<Option<Link>>,
    ) -> Result<Transaction, StoreError> {
        let inner = Arc::clone(&self.inner);
        let passage = self.passage.clone();
        let mut connection = Transaction {
            inner,
            guard,
            passage,
            framed: Framed::No,
        };
        if connection.link()?.unfinished {
            connection.undo().await?;
        }
        Ok(connection)
    }
}

impl Inner {
    fn addresses(&self) -> std::sync::MutexGuard<'_, Option<Addresses>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    const fn new(connection: AnyConnection) -> Self {
        Self {
            connection,
            unfinished: false,
            durability: Durability::Promised,
            group: None,
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("path", &self.inner.path)
            .finish_non_exhaustive()
    }
}

/// One that waits for the connection that writes, counted as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn behind(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&inner.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Exclusive use of the connection.
pub(crate) struct Transaction {
    inner: Arc<Inner>,
    guard: OwnedMutexGuard<Option<Link>>,
    passage: Option<Arc<dyn Passage>>,
    framed: Framed,
}

impl Transaction {
    /// Runs one writing statement and answers how many rows it wrote.
    pub(super) async fn run(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        let (passage, framed) = (self.passage.clone(), self.framed);
        let running = statement.execute(&mut self.link()?.connection);
        let done = carry(passage, framed, doing, running).await?;
        done.map(|done| done.rows_affected())
            .map_err(|source| self.failed(doing, source))
    }

    /// All rows of one reading statement.
    pub(super) async fn all(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let (passage, framed) = (self.passage.clone(), self.framed);
        let running = statement.fetch_all(&mut self.link()?.connection);
        let rows = carry(passage, framed, doing, running).await?;
        rows.map_err(|source| self.failed(doing, source))
    }

    /// The one row of a reading statement that always has one.
    pub(super) async fn one(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<AnyRow, StoreError> {
        let (passage, framed) = (self.passage.clone(), self.framed);
        let running = statement.fetch_one(&mut self.link()?.connection);
        let row = carry(passage, framed, doing, running).await?;
        row.map_err(|source| self.failed(doing, source))
    }

    /// Runs statements that take no values: what frames others, which have a way there and back of their own.
    pub(super) async fn batch(
        &mut self,
        doing: &'static str,
        sql: impl SqlSafeStr,
    ) -> Result<(), StoreError> {
        let is_simulated = self.passage.is_some();
        let running = sqlx::raw_sql(sql).execute(&mut self.link()?.connection);
        let done = if is_simulated {
            at_once(running)
        } else {
            running.await
        };
        done.map(drop).map_err(|source| self.failed(doing, source))
    }

    /// Makes everything since the beginning permanent, addresses that were claimed or released among it.
    pub(super) async fn commit(
        self,
        doing: &'static str,
        claimed: Vec<Located>,
        released: Vec<Located>,
    ) -> Result<(), StoreError> {
        self.commit_share(doing, Share { claimed, released }).await
    }

    /// Ends [`Embedded::reading`].
    pub(super) async fn end(mut self, doing: &'static str) -> Result<(), StoreError> {
        self.batch(doing, "COMMIT").await?;
        self.link()?.unfinished = false;
        let Self { guard, passage, .. } = self;
        drop(guard);
        match passage {
            Some(passage) => passage.answer(doing).await,
            None => Ok(()),
        }
    }

    /// Undoes everything since the beginning now rather than when the connection is used next.
    pub(super) async fn rollback(mut self) -> Result<(), StoreError> {
        self.undo().await
    }

    fn failed(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        StoreError::from_engine(&self.inner.path, doing, source)
    }

    fn link(&mut self) -> Result<&mut Link, StoreError> {
        self.guard.as_mut().ok_or(StoreError::Closed)
    }
}

/// Makes sure that the file is there and writable, readable by its owner only.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let Err(error) = opened else { return Ok(()) };
    let path = path.to_owned();
    Err(match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        _ => StoreError::Unopenable {
            path,
            detail: error.to_string(),
        },
    })
}

/// The path as sqlx wants it: with all that means something in a URL escaped.
fn url_of(path: &Path) -> Result<String, StoreError> {
    use fmt::Write as _;

    let path = std::path::absolute(path).map_err(|error| StoreError::Unopenable {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    let text = path.to_str().ok_or_else(|| StoreError::Unopenable {
        path: path.to_owned(),
        detail: "its path is not UTF-8".to_owned(),
    })?;
    let mut url = String::from("sqlite:");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    Ok(url)
}

/// Refuses a damaged database and one that is somebody else's; marks an empty one as ours.
async fn claim(connection: &mut AnyConnection, path: &Path) -> Result<(), StoreError> {
    let fail = |source| StoreError::from_engine(path, "check the database", source);
    let row = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(&mut *connection)
        .await
        .map_err(fail)?;
    let found: String = row.try_get(0).map_err(fail)?;
    if found != "ok" {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: found,
        });
    }
    let row = sqlx::query("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await
        .map_err(fail)?;
    let owner: i64 = row.try_get(0).map_err(fail)?;
    let row = sqlx::query("SELECT COUNT(*) FROM sqlite_schema")
        .fetch_one(&mut *connection)
        .await
        .map_err(fail)?;
    let objects: i64 = row.try_get(0).map_err(fail)?;
    match (owner, objects) {
        (APPLICATION_ID, _) => Ok(()),
        (0, 0) => sqlx::raw_sql(CLAIM)
            .execute(&mut *connection)
            .await
            .map(drop)
            .map_err(fail),
        _ => Err(StoreError::NotADatabase {
            path: path.to_owned(),
        }),
    }
}

/// "krat" in the header of the file says whose database it is.
const APPLICATION_ID: i64 = 0x6b72_6174;
const CLAIM: &str = "PRAGMA application_id = 1802658164";

/// WAL: neither our readers nor those of other processes (backup, `sqlite3`) stop whoever writes. FULL: what was answered survives a power cut; commits of what is known of the world do not wait for it (D28).
/// The log is cut back after a burst; the cache holds some ten thousand rows.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
    PRAGMA busy_timeout = 5000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384; \
    PRAGMA temp_store = MEMORY";

const READER_SETTINGS: &str = "PRAGMA query_only = ON; PRAGMA busy_timeout = 5000; PRAGMA cache_size = -8192; \
    PRAGMA temp_store = MEMORY";
/// Connections that read: as many as keep the cores of a small machine busy.
const READERS: usize = 4;

#[cfg(test)]
mod tests;
