//! How storage fails, told apart by what somebody can do about it.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The store could not do what it was asked. Nothing was written, nothing stored before was lost.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is a file, but it is not a database of ours.
    #[error(
        "{path} is not a krater database: move it away to start with an empty one, or restore it from a backup"
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error(
        "the database {path} is damaged ({detail}): restore it from a backup, or move it away to start empty"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check found first.
        detail: String,
    },
    /// A newer release wrote the database.
    #[error(
        "the database has schema {found}, this release knows schemas up to {known}: start the newer release again"
    )]
    NewerSchema {
        /// The schema in the database.
        found: i64,
        /// The newest one this release knows.
        known: i64,
    },
    /// No space is left.
    #[error(
        "no space is left for the database in {path}: free some, and requests will be accepted again"
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The file or its directory may not be written.
    #[error(
        "the database {path} cannot be written: check owner and mode of the file and its directory, and that the file system is not mounted read-only"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened or made.
    #[error("the database {path} cannot be opened: {detail}")]
    Unopenable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        detail: String,
    },
    /// Somebody else held the database for longer than a statement waits.
    #[error(
        "the database {path} is held by another process: end it, and requests will be accepted again"
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The database server does not answer, or not any more.
    #[error(
        "the database server {server} cannot be reached ({detail}): requests will be accepted again as soon as it can"
    )]
    Unreachable {
        /// What people call it.
        server: String,
        /// What went wrong.
        detail: String,
    },
    /// The database server knows no such user or database.
    #[error(
        "the database server {server} does not let us in ({detail}): check store.url, the password, and what the user may do"
    )]
    NotLetIn {
        /// What people call it.
        server: String,
        /// What it said.
        detail: String,
    },
    /// The disk of the database server is full.
    #[error(
        "no space is left on the database server {server}: free some, and requests will be accepted again"
    )]
    ServerFull {
        /// What people call it.
        server: String,
    },
    /// The database server follows another one.
    #[error(
        "the database server {server} only reads, as a standby does: name the primary in store.url"
    )]
    Standby {
        /// What people call it.
        server: String,
    },
    /// The database server took longer than it may.
    #[error("the database server {server} took too long to {doing}")]
    TooSlow {
        /// What people call it.
        server: String,
        /// What was being done.
        doing: &'static str,
    },
    /// The database server is of a release we do not know.
    #[error("the database server {server} is PostgreSQL {found}: use 14 or newer")]
    OldServer {
        /// What people call it.
        server: String,
        /// Its release.
        found: u32,
    },
    /// The database holds something of others.
    #[error(
        "the database {server} holds tables of another program: make one for krater alone, or a schema named in store.url"
    )]
    ForeignTables {
        /// What people call it.
        server: String,
    },
    /// Others came between: to be done again.
    #[error("others changed the same rows at the same moment, again and again: could not {doing}")]
    Contention {
        /// What was being done.
        doing: &'static str,
    },
    /// A stored value cannot be read: the database was written by hand, or by a release with a defect.
    #[error("{what} in the database cannot be read: {detail}")]
    Unreadable {
        /// Which value.
        what: String,
        /// Why.
        detail: String,
    },
    /// A change that contradicts itself: a defect of the caller.
    #[error("{0}")]
    Defect(String),
    /// The store was closed.
    #[error("the database is closed")]
    Closed,
    /// Any other failure of a statement.
    #[error("could not {doing}")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// What the engine says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Tells apart what the engine says by what somebody can do about it.
    pub(crate) fn from_engine(path: &Path, doing: &'static str, source: sqlx::Error) -> Self {
        let path = || path.to_owned();
        let code = source
            .as_database_error()
            .and_then(|error| error.code()?.parse::<u32>().ok());
        if code == Some(SQLITE_IOERR_SHMSIZE) {
            return Self::DiskFull { path: path() };
        }
        // The low byte of SQLite's extended codes is the primary one.
        match code.map(|code| code & 0xff) {
            Some(SQLITE_BUSY | SQLITE_LOCKED) => Self::Busy { path: path() },
            Some(SQLITE_READONLY) => Self::ReadOnly { path: path() },
            Some(SQLITE_CORRUPT) => Self::Corrupt {
                path: path(),
                detail: source.to_string(),
            },
            Some(SQLITE_FULL) => Self::DiskFull { path: path() },
            Some(SQLITE_CANTOPEN) => Self::Unopenable {
                path: path(),
                detail: source.to_string(),
            },
            Some(SQLITE_NOTADB) => Self::NotADatabase { path: path() },
            _ => Self::Statement {
                doing,
                source: Box::new(source),
            },
        }
    }

    /// [`StoreError::from_engine`] for what a database server says.
    pub(crate) fn from_server(name: &str, doing: &'static str, source: sqlx::Error) -> Self {
        let server = || name.to_owned();
        let unreachable = |detail: String| Self::Unreachable {
            server: server(),
            detail,
        };
        let said = match source {
            sqlx::Error::Database(said) => said,
            sqlx::Error::Io(error) => return unreachable(error.to_string()),
            sqlx::Error::Tls(error) => return unreachable(format!("no TLS: {error}")),
            sqlx::Error::PoolTimedOut => {
                return unreachable("no connection became free in time".to_owned());
            }
            sqlx::Error::PoolClosed => return Self::Closed,
            // A server that dies in the middle of an answer.
            sqlx::Error::Protocol(detail) => return unreachable(detail),
            sqlx::Error::BeginFailed | sqlx::Error::WorkerCrashed => {
                return unreachable(source.to_string());
            }
            other => {
                return Self::Statement {
                    doing,
                    source: Box::new(other),
                };
            }
        };
        let code = said.code().unwrap_or_default().into_owned();
        match code.as_str() {
            // A foreign key that was there when it was looked at, or not: the next look tells.
            "40001" | "40P01" | "23503" => Self::Contention { doing },
            "53100" => Self::ServerFull { server: server() },
            "25006" => Self::Standby { server: server() },
            "57014" | "55P03" | "25P03" => Self::TooSlow {
                server: server(),
                doing,
            },
            "28000" | "28P01" | "3D000" | "42501" => Self::NotLetIn {
                server: server(),
                detail: said.message().to_owned(),
            },
            // Insufficient resources; connections that are being ended or do not begin.
            code if code.starts_with("53")
                || code.starts_with("08")
                || matches!(code, "57P01" | "57P02" | "57P03") =>
            {
                unreachable(said.message().to_owned())
            }
            _ => Self::Statement {
                doing,
                source: Box::new(sqlx::Error::Database(said)),
            },
        }
    }

    /// Whether the same may succeed at once when it is done again.
    pub(crate) const fn is_contention(&self) -> bool {
        matches!(self, Self::Contention { .. })
    }

    /// The same once more, for another one whom it befell.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::NotADatabase { path } => Self::NotADatabase { path: path.clone() },
            Self::Corrupt { path, detail } => Self::Corrupt {
                path: path.clone(),
                detail: detail.clone(),
            },
            Self::NewerSchema { found, known } => Self::NewerSchema {
                found: *found,
                known: *known,
            },
            Self::DiskFull { path } => Self::DiskFull { path: path.clone() },
            Self::ReadOnly { path } => Self::ReadOnly { path: path.clone() },
            Self::Unopenable { path, detail } => Self::Unopenable {
                path: path.clone(),
                detail: detail.clone(),
            },
            Self::Busy { path } => Self::Busy { path: path.clone() },
            Self::Unreadable { what, detail } => Self::Unreadable {
                what: what.clone(),
                detail: detail.clone(),
            },
            Self::Defect(sentence) => Self::Defect(sentence.clone()),
            Self::Closed => Self::Closed,
            Self::Contention { doing } => Self::Contention { doing },
            // What servers say befalls one transaction, never several that share a commit.
            Self::Unreachable { .. }
            | Self::NotLetIn { .. }
            | Self::ServerFull { .. }
            | Self::Standby { .. }
            | Self::TooSlow { .. }
            | Self::OldServer { .. }
            | Self::ForeignTables { .. } => Self::Defect(self.to_string()),
            Self::Statement { doing, source } => Self::Statement {
                doing,
                source: source.to_string().into(),
            },
        }
    }

    /// A stored value that does not parse.
    pub(crate) fn unreadable(what: impl Into<String>, detail: &dyn std::fmt::Display) -> Self {
        Self::Unreadable {
            what: what.into(),
            detail: detail.to_string(),
        }
    }
}

// https://sqlite.org/rescode.html
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;
const SQLITE_NOTADB: u32 = 26;
/// The index of the write-ahead log cannot grow. On a full disk this comes before anything is written.
const SQLITE_IOERR_SHMSIZE: u32 = 10 | (19 << 8);

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, fmt, path::Path};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::StoreError;

    /// What SQLite says with an extended code.
    #[derive(Debug)]
    struct Said(u32);

    impl fmt::Display for Said {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(out, "disk I/O error")
        }
    }

    impl std::error::Error for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &str {
            "disk I/O error"
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.to_string().into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn told_apart(code: u32) -> StoreError {
        let said = sqlx::Error::Database(Box::new(Said(code)));
        StoreError::from_engine(Path::new("/state/krater.db"), "check the database", said)
    }

    #[test]
    fn a_log_index_that_cannot_grow_is_a_full_disk_and_other_io_errors_are_not() {
        assert!(matches!(told_apart(4874), StoreError::DiskFull { .. }));
        assert!(matches!(told_apart(13), StoreError::DiskFull { .. }));
        assert!(matches!(told_apart(778), StoreError::Statement { .. }));
        assert!(matches!(told_apart(1032), StoreError::ReadOnly { .. }));
    }
}
