//! `krater up` and `krater controller`: run until told to stop.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, IsTerminal as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    config::{Config, Log, LogFormat},
    controller::{Amphorae, Controller},
    signals::Signals,
    up::{self, Demo},
};

/// Whether somebody chose on the command line or in the environment what is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogChoice {
    /// Somebody did, so they want to see it.
    Chosen,
    /// It is as the settings file says, or the default.
    Usual,
}

/// Runs everything on this host.
pub(crate) fn up(config: &Config, demo: Demo, log: LogChoice) -> anyhow::Result<()> {
    // A screen that people read is no place for a log, unless they asked for it there.
    let to_file = io::stderr().is_terminal() && log == LogChoice::Usual;
    let log_file = to_file.then(|| config.state_dir.join("krater.log"));
    match &log_file {
        Some(path) => begin_log(&config.log, Mutex::new(open_log(path)?)),
        None => begin_log(&config.log, io::stderr),
    }
    run(async |signals| up::run(config, demo, log_file.as_deref(), signals).await)
}

/// Runs the controller alone.
pub(crate) fn controller(config: &Config) -> anyhow::Result<()> {
    begin_log(&config.log, io::stderr);
    run(async |signals| run_controller(config, signals).await)
}

async fn run_controller(config: &Config, signals: &mut Signals) -> anyhow::Result<()> {
    let controller = Controller::start(config).await?;
    tracing::info!(api = %controller.api, state = %config.state_dir.display(), "krater is up");
    signals.next().await;
    tracing::info!("stopping; amphorae go on serving");
    tokio::select! {
        stopped = controller.stop(Amphorae::Serve) => stopped.context("the amphorae"),
        () = signals.next() => anyhow::bail!("stopped without waiting for requests in progress"),
    }
}

fn run(body: impl AsyncFnOnce(&mut Signals) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let ran = runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen to signals")?;
        body(&mut signals).await
    });
    runtime.shutdown_background();
    ran
}

fn begin_log<W>(log: &Log, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Checked when the settings were read.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false);
    let begun = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Only one log can begin per process, and this is the only place that begins one.
    debug_assert!(begun.is_ok());
}

/// Opens the log, putting an old one that has grown large aside.
fn open_log(path: &Path) -> anyhow::Result<File> {
    let context = || {
        format!(
            "cannot write to {}; choose another folder with --state-dir",
            path.display()
        )
    };
    if let Some(folder) = path.parent() {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(context)?;
    }
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        let mut aside = PathBuf::from(path).into_os_string();
        aside.push(".old");
        fs::rename(path, aside).with_context(context)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(context)
}

/// What a log may have grown to when the next start puts it aside.
const LOG_BYTES_MAX: u64 = 16 << 20;
