//! `krater db …`: what is stored, while no controller runs or beside one.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, IsTerminal as _, Read as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use krater_controller_store::{Checked, Store};
use serde_json::json;

use super::{Output, Settings};
use crate::{
    config::{Config, StoreConfig},
    controller::{DATABASE_FILE, host, open_store},
    state_lock::StateLock,
};

#[derive(Subcommand)]
pub(super) enum DbVerb {
    /// Write everything that is stored to a file, while controllers run.
    Backup {
        /// The file; it must not be there. "-" is the standard output.
        file: PathBuf,
        /// As what [default: sqlite with SQLite, lines with PostgreSQL].
        #[arg(long, value_enum)]
        format: Option<Format>,
        #[command(flatten)]
        how: How,
    },
    /// Read a backup into an empty database, of either engine if it is of lines. No controller may run.
    Restore {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Bring the schema up to date, as the start of a controller does.
    Migrate {
        #[command(flatten)]
        how: How,
    },
    /// Look for what should not be; says what to do about it. Fails when there is something.
    Check {
        #[command(flatten)]
        how: How,
    },
}

/// Which database, and how to answer.
#[derive(Args, Clone)]
pub(super) struct How {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// How to show the answer.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line of JSON for each row, which every engine can read.
    Lines,
    /// A database file.
    Sqlite,
}

impl DbVerb {
    pub(super) const fn settings(&self) -> &Settings {
        let (Self::Backup { how, .. }
        | Self::Restore { how, .. }
        | Self::Migrate { how }
        | Self::Check { how }) = self;
        &how.settings
    }

    /// Does it with complete settings; answers what to print.
    pub(super) async fn run(self, config: Config) -> anyhow::Result<String> {
        match self {
            Self::Backup { file, format, how } => {
                let store = open_existing(&config).await?;
                let format = format.unwrap_or(match config.store {
                    StoreConfig::Embedded => Format::Sqlite,
                    StoreConfig::Server(_) => Format::Lines,
                });
                let rows = backup(&store, &file, format).await?;
                store.close().await;
                let place = file.display().to_string();
                let text = match rows {
                    Some(rows) => format!("{rows} rows were written to {place}"),
                    None => format!("the database was copied to {place}"),
                };
                if place == "-" {
                    return Ok(String::new());
                }
                Ok(how.answer(&json!({"file": place, "rows": rows}), &text))
            }
            Self::Restore { file, how } => {
                let _lock = StateLock::take(&config.state_dir)?;
                let rows = restore(&config, &file).await?;
                let text = match rows {
                    Some(rows) => format!("{rows} rows were read from {}", file.display()),
                    None => format!("the database is that of {}", file.display()),
                };
                Ok(how.answer(
                    &json!({"file": file.display().to_string(), "rows": rows}),
                    &text,
                ))
            }
            Self::Migrate { how } => {
                let store = open_store(&config).await?;
                store.close().await;
                let (engine, schema) = (store.engine_name(), Store::SCHEMA);
                let text = format!(
                    "the database ({engine}) has schema {schema}, the newest this release knows"
                );
                Ok(how.answer(&json!({"engine": engine, "schema": schema}), &text))
            }
            Self::Check { how } => {
                let store = open_existing(&config).await?;
                let checked = store.check(&mut |what| say_progress(what)).await?;
                store.close().await;
                let answer = how.answer(&document(&checked), &sentences(&checked));
                if checked.findings.is_empty() {
                    return Ok(answer);
                }
                super::say(&answer);
                bail!(
                    "{} things are not as they should be",
                    checked.findings.len()
                )
            }
        }
    }
}

impl How {
    fn answer(&self, value: &serde_json::Value, text: &str) -> String {
        match self.output {
            Output::Json => format!("{value}\n"),
            Output::Table => format!("{text}\n"),
        }
    }
}

/// The store, which must be there: nobody wants a backup of nothing.
async fn open_existing(config: &Config) -> anyhow::Result<Store> {
    let path = config.state_dir.join(DATABASE_FILE);
    if config.store == StoreConfig::Embedded && !path.exists() {
        bail!("there is no database {}", path.display());
    }
    Ok(open_store(config).await?)
}

async fn backup(store: &Store, file: &Path, format: Format) -> anyhow::Result<Option<u64>> {
    let context = || format!("cannot write {}", file.display());
    let to_output = file == Path::new("-");
    if format == Format::Sqlite {
        if store.is_shared() {
            bail!("a PostgreSQL database is written as lines: leave --format out");
        }
        if to_output {
            bail!("a database file cannot be written to the standard output: --format lines can");
        }
        new_file(file).with_context(context)?;
        store.copy_to(file).await.with_context(context)?;
        return Ok(None);
    }
    let mut out: Box<dyn Write + Send> = if to_output {
        Box::new(BufWriter::new(io::stdout()))
    } else {
        Box::new(BufWriter::new(new_file(file).with_context(context)?))
    };
    let mut progress = |rows, table| say_progress(&format!("{rows} rows, now {table}"));
    let rows = store.dump(&mut *out, &mut progress).await?;
    drop(out);
    if !to_output {
        File::open(file)?.sync_all().with_context(context)?;
    }
    Ok(Some(rows))
}

async fn restore(config: &Config, file: &Path) -> anyhow::Result<Option<u64>> {
    let context = || format!("cannot read {}", file.display());
    let mut begin = [0; 16];
    let mut source = File::open(file).with_context(context)?;
    let read = source.read(&mut begin).with_context(context)?;
    if begin.get(..read) == Some(SQLITE_HEADER) {
        if config.store != StoreConfig::Embedded {
            bail!(
                "{} is a SQLite database: write a backup of it with --format lines first",
                file.display()
            );
        }
        let target = config.state_dir.join(DATABASE_FILE);
        let mut copy =
            new_file(&target).with_context(|| format!("cannot restore to {}", target.display()))?;
        io::copy(&mut File::open(file).with_context(context)?, &mut copy).with_context(context)?;
        copy.sync_all().with_context(context)?;
        // Checked, and brought up to date.
        open_store(config).await?.close().await;
        return Ok(None);
    }
    let store = open_store(config).await?;
    let mut lines = BufReader::new(File::open(file).with_context(context)?);
    let mut progress = |rows, table| say_progress(&format!("{rows} rows, now {table}"));
    let rows = store
        .load(&mut lines, &host(config)?, &mut progress)
        .await?;
    store.close().await;
    Ok(Some(rows))
}

/// A new file that only its owner can read.
fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Says how far it is, to people who watch.
fn say_progress(what: &str) {
    let mut out = io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K{what}");
        let _ = out.flush();
    }
}

fn document(checked: &Checked) -> serde_json::Value {
    let findings: Vec<_> = checked
        .findings
        .iter()
        .map(|finding| json!({"what": finding.what, "advice": finding.advice}))
        .collect();
    json!({"schema": checked.schema, "load_balancers": checked.load_balancers, "findings": findings})
}

fn sentences(checked: &Checked) -> String {
    if checked.findings.is_empty() {
        let (count, schema) = (checked.load_balancers, checked.schema);
        return format!("all is well: {count} load balancers, schema {schema}");
    }
    let lines = checked.findings.iter();
    let lines = lines.map(|finding| format!("{}\n  {}", finding.what, finding.advice));
    lines.collect::<Vec<_>>().join("\n")
}

/// <https://sqlite.org/fileformat.html#magic_header_string>
const SQLITE_HEADER: &[u8] = b"SQLite format 3\0";
