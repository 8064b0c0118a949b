//! Bounds of the management side of this process, each with its reason (I12). The core bounds what a spec may hold.

use std::time::Duration;

/// A configuration file is a page of text; a larger one is the wrong file.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Enough for every controller of a fleet; each is tried in turn when one fails.
pub(crate) const CONTROLLERS_MAX: usize = 64;

/// One worker per core; more threads than this on one host would be a slip of the hand.
pub(crate) const WORKERS_MAX: usize = 1_024;

/// A snapshot file of a standalone process: far above a thousand listeners of ten members, small enough to hold twice.
pub(crate) const SNAPSHOT_FILE_BYTES_MAX: u64 = 256 << 20;

/// Connections to the agent at once. Controllers keep one or two each.
pub(crate) const AGENT_CONNECTIONS_MAX: usize = 256;

/// Streams of one HTTP/2 connection to the agent at once: bounds the specs held in memory.
pub(crate) const AGENT_STREAMS_MAX: u32 = 64;

/// Time for a TLS handshake with the agent, or for the head of a request to it.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Time for the body of a request to the agent: a stalled sender must not hold a connection for ever.
pub(crate) const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Deleted load balancers whose last generation is remembered, so that a late push cannot bring one back (I8).
pub(crate) const TOMBSTONES_MAX: usize = 4_096;

/// Threads that wait for the disk on behalf of applies; more would only queue in the disk.
pub(crate) const BLOCKING_THREADS_MAX: usize = 16;

/// Probes under way at once. Each holds a descriptor for at most its timeout.
pub(crate) const PROBES_MAX: usize = 512;

/// Bytes of an answer read in search of the end of its status line.
pub(crate) const STATUS_LINE_BYTES_MAX: usize = 1_024;

/// Connections to the metrics endpoint at once. A scraper needs one.
pub(crate) const METRICS_CONNECTIONS_MAX: usize = 32;

/// Reports sent because something changed are at least this far apart, so that a flapping fleet cannot drown intake.
pub(crate) const REPORT_GAP_MIN: Duration = Duration::from_millis(200);

/// How long a change waits for others to travel in the same report.
pub(crate) const REPORT_DEBOUNCE: Duration = Duration::from_millis(50);

/// Time for one report: connect, handshake, send, answer.
pub(crate) const REPORT_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of the answer to a report; the rest is not read.
pub(crate) const RECEIPT_BYTES_MAX: usize = 64 << 10;

/// Log lines that wait to be written. More means that nobody reads, or that nobody could.
pub(crate) const LOG_LINES_MAX: usize = 4_096;
