//! The number that orders the wanted states of one load balancer.

use core::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

/// Which version of a load balancer's wanted state this is. Strictly increases per load balancer.
///
/// An amphora never applies a generation older than the one it holds (I8), so pushes may race and repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// The first generation of a new load balancer.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The generation after this one. The only way to make a larger one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The generation as a number, for storage and display.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0.get()
    }

    /// Reads back what [`Generation::number`] gave; `None` for zero.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
