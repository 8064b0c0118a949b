//! What failed, by cause.

use std::collections::BTreeMap;

use krater_amphora_api::Cause;

use super::{Counter, Lanes};

/// What failed, by the first `N` causes.
#[derive(Debug)]
pub struct Failures<const N: usize>([Counter; N]);

impl<const N: usize> Default for Failures<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Failures<N> {
    /// Counts one. One that is not among the first `N` is none of this meter's.
    pub fn count(&self, cause: Cause) {
        self.add(cause, 1);
    }

    /// Counts several.
    pub fn add(&self, cause: Cause, times: u64) {
        if let Some(counter) = self.0.get(cause.index()) {
            counter.add(times);
        }
    }
}

/// What failed, by cause and summed over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureTotals<const N: usize>([u64; N]);

impl<const N: usize> FailureTotals<N> {
    /// Those that happened.
    pub fn seen(&self) -> impl Iterator<Item = (Cause, u64)> {
        let all = Cause::ALL.iter().copied().zip(self.0);
        all.filter(|(_, times)| *times > 0)
    }

    /// Those that happened, by the name of their cause.
    #[must_use]
    pub fn named(&self) -> BTreeMap<String, u64> {
        let seen = self.seen();
        seen.map(|(cause, times)| (cause.name().to_owned(), times))
            .collect()
    }

    /// How often it was that cause.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(cause.index()).copied().unwrap_or_default()
    }
}

impl<L: Default> Lanes<L> {
    /// Adds the lanes' failures.
    #[must_use]
    pub(super) fn sum_failures<const N: usize>(
        &self,
        read: impl Fn(&L) -> &Failures<N>,
    ) -> FailureTotals<N> {
        let mut sums = [0_u64; N];
        for lane in self.used() {
            for (sum, counter) in sums.iter_mut().zip(&read(lane).0) {
                *sum += counter.read();
            }
        }
        FailureTotals(sums)
    }
}
