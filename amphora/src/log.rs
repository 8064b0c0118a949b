//! Where log lines go: to standard error, by way of a thread of their own that may lose them.
//!
//! Standard error may be a pipe to a controller. Traffic must stop neither when that dies (the pipe breaks) nor when
//! it hangs (the pipe is full): no thread that carries traffic or answers a controller ever waits for a log line.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use tracing_subscriber::EnvFilter;

use crate::limits::{FLUSH_TIME_MAX, LOG_LINES_MAX};

/// The way to the thread that writes.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before was written.
    Flush(SyncSender<()>),
}

impl Log {
    /// Starts logging what the filter in `KRATER_LOG` lets through; `info` and worse unless set. An error is one
    /// sentence about the filter or the system.
    ///
    /// The thread that writes is there before the process moves anywhere, and gives up what it may do by `renounce`.
    pub(crate) fn start(renounce: fn() -> io::Result<()>) -> Result<Self, String> {
        let directives = std::env::var("KRATER_LOG").unwrap_or_default();
        let directives = if directives.is_empty() {
            "info"
        } else {
            &directives
        };
        let filter = EnvFilter::try_new(directives).map_err(|error| error.to_string())?;
        let log = Self::to(io::stderr(), renounce).map_err(|error| error.to_string())?;
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || writer.clone())
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .log_internal_errors(false)
            .try_init()
            .map_err(|error| error.to_string())?;
        Ok(log)
    }

    fn to(
        output: impl Write + Send + 'static,
        renounce: fn() -> io::Result<()>,
    ) -> io::Result<Self> {
        let (lines, received) = sync_channel(LOG_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                // Who cannot give up anything has nothing; this is no place to tell of it.
                let _ = renounce();
                write_out(&received, output, &counter);
            })?;
        Ok(Self { lines, lost })
    }

    /// Waits until what was logged so far is written, but not for long: the reader may be hanging.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIME_MAX);
        }
    }
}

impl Write for Log {
    /// Called once per line, since lines are formatted whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(line.to_vec())) {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Failures to write are not reported: there is nowhere to report them to.
fn write_out(lines: &Receiver<Line>, mut output: impl Write, lost: &AtomicU64) {
    for line in lines {
        match line {
            Line::Text(text) => {
                let _ = output.write_all(&text);
            }
            Line::Flush(done) => {
                let _ = done.try_send(());
            }
        }
        let lost = lost.swap(0, Relaxed);
        if lost > 0 {
            let _ = writeln!(output, "{lost} log lines were lost: the reader is too slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Sender, channel},
        time::Duration,
    };

    use super::*;

    /// Takes a line only when the test lets it.
    struct Slow {
        allowed: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _ = self.allowed.recv();
            let _ = self.taken.send(text.to_vec());
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_hanging_reader_and_lost_lines_are_confessed() {
        let (allow, allowed) = channel();
        let (taken, seen) = channel();
        let mut log = Log::to(Slow { allowed, taken }, || Ok(())).unwrap();
        for _ in 0..LOG_LINES_MAX + 10 {
            log.write_all(b"line\n").unwrap();
        }
        drop(allow);
        log.flush();
        let text: Vec<u8> = std::iter::from_fn(|| seen.recv_timeout(Duration::from_secs(10)).ok())
            .take(LOG_LINES_MAX)
            .flatten()
            .collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("line\nline\n"), "{text}");
        assert!(text.contains(" log lines were lost"), "{text}");
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut log = Log::to(writer, || Ok(())).unwrap();
        log.write_all(b"line\n").unwrap();
        Log::flush(&log);
        log.write_all(b"line\n").unwrap();
    }
}
