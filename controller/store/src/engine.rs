//! Opening a database, running statements on it, and all that differs between engines.
//!
//! SQLite ([`embedded`]) belongs to one process, PostgreSQL ([`server`]) to any number of them. Statements are the same;
//! how transactions begin, what they wait for and who is told afterwards is not.

mod addresses;
mod embedded;
mod server;
mod simulated;

use std::{borrow::Cow, collections::BTreeSet, fmt, path::Path, sync::Arc};

use krater_controller_core::network::Located;
use sqlx::{
    Any,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use self::{embedded::Embedded, server::Server};
use crate::StoreError;

pub use self::{
    server::{News, ServerSettings},
    simulated::{Crossing, Passage},
};

/// The desired and the observed state. Cheap to clone; clones are the same connections.
#[derive(Clone)]
pub struct Store {
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Embedded(Embedded),
    Server(Arc<Server>),
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut: somebody was promised it. It waits for the disk.
    Promised,
    /// The end of the process. After a power cut it may be forgotten, all of it and nothing older: what is known of
    /// the world is learned again (D28).
    Learned,
}

/// A statement of ours.
pub(crate) type Statement = Query<'static, Any, AnyArguments>;

/// Does something again when others came between it and the commit, a few times. Writers of an embedded database come
/// one after the other, so it is done once there.
macro_rules! retried {
    ($attempt:expr) => {{
        let mut left = $crate::engine::RETRIES_MAX;
        loop {
            match $attempt.await {
                Err(error) if error.is_contention() && left > 0 => left -= 1,
                done => break done,
            }
        }
    }};
}
pub(crate) use retried;

impl Store {
    /// Opens the database file, makes it (mode 0600) if there is none, and checks it.
    pub(crate) async fn open_file(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            engine: Engine::Embedded(Embedded::open_file(path).await?),
        })
    }

    /// A database that lives as long as the store.
    pub(crate) async fn open_in_memory() -> Result<Self, StoreError> {
        Ok(Self {
            engine: Engine::Embedded(Embedded::open_in_memory().await?),
        })
    }

    /// Connects to a database on a server and checks it.
    pub(crate) async fn open_server(settings: &ServerSettings) -> Result<Self, StoreError> {
        Ok(Self {
            engine: Engine::Server(Arc::new(Server::connect(settings).await?)),
        })
    }

    /// The same database in memory, as one of several processes of a simulation uses it. None for any other database.
    #[must_use]
    pub fn simulated(&self, passage: Arc<dyn Passage>) -> Option<Self> {
        match &self.engine {
            Engine::Embedded(embedded) => Some(Self {
                engine: Engine::Embedded(embedded.simulated(passage)?),
            }),
            Engine::Server(_) => None,
        }
    }

    /// Whether other processes may use the same database at the same time.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        match &self.engine {
            Engine::Embedded(embedded) => embedded.passage().is_some(),
            Engine::Server(_) => true,
        }
    }

    /// What the database is, for people.
    #[must_use]
    pub const fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Embedded(_) => "SQLite",
            Engine::Server(_) => "PostgreSQL",
        }
    }

    /// Writes everything down and closes the database. Clones fail from then on.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Embedded(embedded) => embedded.close().await,
            Engine::Server(server) => server.close().await,
        }
    }

    /// Copies an embedded database to a file that is there and empty, while others write. A database on a server is a
    /// [`StoreError::Defect`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let (Engine::Embedded(embedded), Some(path)) = (&self.engine, path.to_str()) else {
            let why = "only an embedded database is copied, to a path that is text";
            return Err(StoreError::Defect(why.to_owned()));
        };
        let statement = sqlx::query("VACUUM INTO $1").bind(path.to_owned());
        embedded
            .run_as(Durability::Promised, "copy the database", statement)
            .await
            .map(drop)
    }

    /// Tells the other processes that share the database something, soon and perhaps never: whoever misses it looks by
    /// itself. Nothing where there are no others.
    pub fn announce(&self, news: &str) {
        match &self.engine {
            Engine::Embedded(embedded) => {
                if let Some(passage) = embedded.passage() {
                    passage.announce(news);
                }
            }
            Engine::Server(server) => server.announce(news),
        }
    }

    /// What the processes that share the database announce, this one included. None where there are no others.
    #[must_use]
    pub fn listen(&self) -> Option<News> {
        match &self.engine {
            Engine::Embedded(embedded) => {
                let passage = embedded.passage()?;
                Some(News::from(passage.listen()))
            }
            Engine::Server(server) => Some(server.listen()),
        }
    }

    /// Has the addresses in use read again by whoever asks next.
    pub fn doubt_addresses(&self) {
        if let Engine::Server(server) = &self.engine {
            server.doubt_addresses();
        }
    }

    /// Notes that an address is in use that was thought to be free.
    pub(crate) fn note_taken(&self, address: Located) {
        if let Engine::Server(server) = &self.engine {
            server.note_taken(address);
        }
    }

    /// Begins a transaction. Dropped without [`Transaction::commit`] it is rolled back.
    pub(crate) async fn begin(&self, doing: &'static str) -> Result<Transaction, StoreError> {
        self.begin_as(Durability::Promised, doing).await
    }

    /// [`Store::begin`] of one that survives what its durability says.
    pub(crate) async fn begin_as(
        &self,
        durability: Durability,
        doing: &'static str,
    ) -> Result<Transaction, StoreError> {
        Ok(match &self.engine {
            Engine::Embedded(it) => Transaction::Embedded(it.begin_as(durability, doing).await?),
            Engine::Server(it) => Transaction::Server(it.begin_as(durability, doing).await?),
        })
    }

    /// Runs one writing statement in a transaction of its own and answers how many rows it wrote.
    pub(crate) async fn run(
        &self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        self.run_as(Durability::Promised, doing, statement).await
    }

    /// [`Store::run`] of what is learned again after a power cut.
    pub(crate) async fn learn(
        &self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        self.run_as(Durability::Learned, doing, statement).await
    }

    async fn run_as(
        &self,
        durability: Durability,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        match &self.engine {
            Engine::Embedded(it) => it.run_as(durability, doing, statement).await,
            Engine::Server(it) => it.run_as(durability, doing, statement).await,
        }
    }

    /// All rows of one reading statement.
    pub(crate) async fn all(
        &self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<AnyRow>, StoreError> {
        match &self.engine {
            Engine::Embedded(it) => it.all(doing, statement).await,
            Engine::Server(it) => it.all(doing, statement).await,
        }
    }

    /// Takes a connection for several reading statements that see one and the same moment.
    pub(crate) async fn reading(&self, doing: &'static str) -> Result<Transaction, StoreError> {
        Ok(match &self.engine {
            Engine::Embedded(it) => Transaction::Embedded(it.reading(doing).await?),
            Engine::Server(it) => Transaction::Server(it.reading(doing).await?),
        })
    }

    /// The addresses in use: from memory, or by `load`. Nobody who writes is waited for.
    pub(crate) async fn addresses(
        &self,
        doing: &'static str,
        load: Statement,
        read: impl Fn(&AnyRow) -> Result<Located, StoreError>,
    ) -> Result<Arc<BTreeSet<Located>>, StoreError> {
        match &self.engine {
            Engine::Embedded(it) => it.addresses(doing, load, read).await,
            Engine::Server(it) => it.addresses(doing, load, read).await,
        }
    }

    /// The microseconds since the epoch as the server's clock tells them, in SQL; none where a process is alone.
    pub(crate) fn now_expression(&self) -> Option<Cow<'static, str>> {
        match &self.engine {
            Engine::Embedded(embedded) => {
                let passage = embedded.passage()?;
                Some(passage.now_us().to_string().into())
            }
            Engine::Server(_) => Some(server::NOW_US.into()),
        }
    }

    /// A step of the schema as this engine is to be told it. Texts compare as bytes everywhere.
    pub(crate) fn schema_text(&self, step: &str) -> String {
        match &self.engine {
            Engine::Embedded(_) => step.to_owned(),
            Engine::Server(_) => step.replace(" TEXT", " TEXT COLLATE \"C\""),
        }
    }

    /// Makes sure that the transaction is the only one that changes the schema, and the schema ours.
    pub(crate) async fn claim_schema(
        &self,
        transaction: &mut Transaction,
    ) -> Result<(), StoreError> {
        match (&self.engine, transaction) {
            (Engine::Server(it), Transaction::Server(transaction)) => it.claim(transaction).await,
            // Checked when the file was opened.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
impl Store {
    /// The embedded engine, for tests that look into it.
    fn embedded(&self) -> &Embedded {
        match &self.engine {
            Engine::Embedded(embedded) => embedded,
            Engine::Server(_) => panic!("not embedded"),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.engine {
            Engine::Embedded(embedded) => embedded.fmt(f),
            Engine::Server(server) => server.fmt(f),
        }
    }
}

/// A transaction, with the exclusive use of a connection.
pub(crate) enum Transaction {
    Embedded(embedded::Transaction),
    Server(server::Transaction),
}

impl Transaction {
    /// Runs one writing statement and answers how many rows it wrote.
    pub(crate) async fn run(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Embedded(it) => it.run(doing, statement).await,
            Self::Server(it) => it.run(doing, statement).await,
        }
    }

    /// All rows of one reading statement.
    pub(crate) async fn all(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Vec<AnyRow>, StoreError> {
        match self {
            Self::Embedded(it) => it.all(doing, statement).await,
            Self::Server(it) => it.all(doing, statement).await,
        }
    }

    /// The one row of a reading statement that always has one.
    pub(crate) async fn one(
        &mut self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<AnyRow, StoreError> {
        match self {
            Self::Embedded(it) => it.one(doing, statement).await,
            Self::Server(it) => it.one(doing, statement).await,
        }
    }

    /// Runs statements that take no values: text of this program, nothing from outside.
    pub(crate) async fn batch(
        &mut self,
        doing: &'static str,
        sql: String,
    ) -> Result<(), StoreError> {
        match self {
            Self::Embedded(it) => it.batch(doing, sqlx::AssertSqlSafe(sql)).await,
            Self::Server(it) => it.batch(doing, sql).await,
        }
    }

    /// Makes all other transactions that lock the same key wait until this one ends, where writers run side by side.
    pub(crate) async fn lock(&mut self, doing: &'static str, key: &str) -> Result<(), StoreError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Server(it) => it.lock(doing, key).await,
        }
    }

    /// Makes everything since the beginning permanent.
    pub(crate) async fn commit(self, doing: &'static str) -> Result<(), StoreError> {
        self.commit_addresses(doing, Vec::new(), Vec::new()).await
    }

    /// [`Transaction::commit`] of one that claimed or released addresses.
    pub(crate) async fn commit_addresses(
        self,
        doing: &'static str,
        claimed: Vec<Located>,
        released: Vec<Located>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Embedded(it) => it.commit(doing, claimed, released).await,
            Self::Server(it) => it.commit(doing, &claimed, &released).await,
        }
    }

    /// Ends [`Store::reading`].
    pub(crate) async fn end(self, doing: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Embedded(it) => it.end(doing).await,
            Self::Server(it) => it.commit(doing, &[], &[]).await,
        }
    }

    /// Undoes everything since the beginning now rather than when the connection is used next.
    pub(crate) async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(it) => it.rollback().await,
            Self::Server(it) => it.rollback().await,
        }
    }
}

/// Times that something is done again because others came between: a deadlock takes two, each of which may meet
/// somebody else the next time.
pub(crate) const RETRIES_MAX: u32 = 20;
