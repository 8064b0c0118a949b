//! Why a probe failed.

use alloc::string::String;
use core::{fmt, time::Duration};

/// Why a probe failed. As text: a sentence for the tenant, lower case, no full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// Nothing came back in time.
    Timeout {
        /// The time that was allowed.
        after: Duration,
        /// What was waited for.
        stage: Stage,
    },
    /// The port is closed.
    Refused,
    /// The network knows no way to the member; the text is the system's.
    Unreachable(String),
    /// The member ended the connection before it had answered.
    Closed,
    /// It answered with a status that is not expected.
    Status(u16),
    /// What it answered is not HTTP.
    Malformed,
    /// No TLS could be agreed on; the text is why.
    Tls(String),
    /// We could not even ask (no descriptors, no permission): this says nothing of the member, and no verdict comes
    /// of it.
    Local(String),
}

/// What a probe was waiting for when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The TCP handshake.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// The answer to the HTTP request or to the echo.
    Answer,
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout {
                after,
                stage: Stage::Connect,
            } => write!(f, "no connection within {after:?}"),
            Self::Timeout {
                after,
                stage: Stage::Handshake,
            } => write!(f, "no TLS handshake within {after:?}"),
            Self::Timeout {
                after,
                stage: Stage::Answer,
            } => write!(f, "no answer within {after:?}"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable(cause) => write!(f, "unreachable: {cause}"),
            Self::Closed => f.write_str("connection closed before an answer"),
            Self::Status(status) => {
                write!(f, "answered with status {status}, which is not expected")
            }
            Self::Malformed => f.write_str("the answer is not HTTP"),
            Self::Tls(cause) => write!(f, "no TLS: {cause}"),
            Self::Local(cause) => write!(f, "not probed: {cause}"),
        }
    }
}
