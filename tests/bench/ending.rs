//! A measurement that is told to end takes away what it has set up.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Has SIGINT and SIGTERM ask for the end, instead of ending this program alone.
pub(crate) fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut int, mut term) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = int.recv() => {} _ = term.recv() => {} }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Whether the measurement is to end.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends the measurement if it is to end: whoever is waited for and whatever was started goes as it does after a failure.
pub(crate) fn go_on() {
    assert!(
        !is_interrupted(),
        "it was told to end: nothing is left running"
    );
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
