//! How a driver fails: the reconciler understands nothing finer.

use thiserror::Error;

/// A driver could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DriverError {
    /// Trying again will not help until somebody changes something; the text says what.
    #[error("{0}")]
    Permanent(String),
    /// Trying again may help.
    #[error("{0}")]
    Transient(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
}
