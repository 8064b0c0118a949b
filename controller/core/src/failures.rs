//! What failed lately, by cause: the last hour of a listener, minute by minute, from the absolute counters of amphorae.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

use krater_amphora_api::BootId;

use crate::limits::{CAUSE_NAME_BYTES_MAX, CAUSES_MAX};

/// Minutes that are kept.
pub const MINUTES: usize = 60;

/// What one amphora has counted so far, by cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    boot: BootId,
    counts: BTreeMap<Box<str>, u64>,
}

impl Heard {
    /// Of a run that begins to count: all that comes is added.
    #[must_use]
    pub const fn nothing(boot: BootId) -> Self {
        Self {
            boot,
            counts: BTreeMap::new(),
        }
    }

    /// Takes what an amphora counted, in place of what it `said` before. Answers what was added since.
    ///
    /// What is heard first (`said` is `None`) was counted nobody knows when, and is only remembered. A run that is new began at zero. Within
    /// a run a count that comes in lower than before is one that was overtaken, and adds nothing.
    #[must_use]
    pub fn next(
        said: Option<Self>,
        boot: BootId,
        counts: &BTreeMap<String, u64>,
    ) -> (Self, Vec<(Box<str>, u64)>) {
        let known = said.is_some();
        let mut before = match said {
            Some(said) if said.boot == boot => said.counts,
            _ => BTreeMap::new(),
        };
        let mut added = Vec::new();
        for (cause, count) in counts.iter().filter(|(cause, _)| is_name(cause)) {
            let is_new = !before.contains_key(cause.as_str());
            if is_new && before.len() >= CAUSES_MAX {
                continue;
            }
            let last = before.entry(cause.as_str().into()).or_default();
            if known && *count > *last {
                added.push((cause.as_str().into(), *count - *last));
            }
            *last = (*last).max(*count);
        }
        let counts = before;
        (Self { boot, counts }, added)
    }
}

/// Names come from elsewhere and go to terminals.
fn is_name(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    plain && (1..=CAUSE_NAME_BYTES_MAX).contains(&text.len())
}

/// The last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// The newest minute that anything was added in, counted from any time.
    newest: u64,
    causes: BTreeMap<Box<str>, Box<[u32; MINUTES]>>,
}

impl Hour {
    /// Counts failures in that minute. One that is over already counts as the newest.
    pub fn add(&mut self, minute: u64, cause: &str, times: u64) {
        self.turn(minute);
        let at = place(self.newest);
        if !self.causes.contains_key(cause) && self.causes.len() >= CAUSES_MAX {
            return;
        }
        let counts = self
            .causes
            .entry(cause.into())
            .or_insert_with(|| Box::new([0; MINUTES]));
        if let Some(count) = counts.get_mut(at) {
            *count = count.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        }
    }

    /// What failed in the present minute and so many whole ones before it (at most the hour), by cause.
    #[must_use]
    pub fn over(&self, minute: u64, minutes: usize) -> BTreeMap<&str, u64> {
        let now = minute.max(self.newest);
        let first = now.saturating_sub(minutes as u64);
        let oldest = (self.newest + 1).saturating_sub(MINUTES as u64);
        let kept = first.max(oldest)..=self.newest;
        let sum = |counts: &[u32; MINUTES]| {
            let of = |minute| counts.get(place(minute)).copied().unwrap_or_default();
            kept.clone().map(|minute| u64::from(of(minute))).sum()
        };
        let sums = self
            .causes
            .iter()
            .map(|(cause, counts)| (cause.as_ref(), sum(counts)));
        sums.filter(|(_, sum)| *sum > 0).collect()
    }

    /// Makes `minute` the newest, if it is later.
    fn turn(&mut self, minute: u64) {
        if minute <= self.newest {
            return;
        }
        let passed = (minute - self.newest).min(MINUTES as u64);
        for later in (minute + 1 - passed)..=minute {
            let at = place(later);
            for counts in self.causes.values_mut() {
                if let Some(count) = counts.get_mut(at) {
                    *count = 0;
                }
            }
        }
        self.causes
            .retain(|_, counts| counts.iter().any(|count| *count > 0));
        self.newest = minute;
    }
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use uuid::Uuid;

    use super::*;

    fn boot(number: u128) -> BootId {
        BootId::new(Uuid::from_u128(number))
    }

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, count)| ((*name).into(), *count))
            .collect()
    }

    fn added(said: &mut Option<Heard>, boot: BootId, pairs: &[(&str, u64)]) -> u64 {
        let (heard, added) = Heard::next(said.take(), boot, &counts(pairs));
        *said = Some(heard);
        added.iter().map(|(_, times)| times).sum()
    }

    #[test]
    fn what_is_added_is_never_negative_whoever_begins_anew() {
        let mut said = None;
        assert_eq!(added(&mut said, boot(1), &[("a", 7)]), 0, "heard first");
        assert_eq!(added(&mut said, boot(1), &[("a", 9), ("b", 1)]), 3);
        assert_eq!(added(&mut said, boot(1), &[("a", 8)]), 0, "overtaken");
        assert_eq!(added(&mut said, boot(1), &[("a", 10), ("b", 1)]), 1);
        assert_eq!(added(&mut said, boot(2), &[("a", 2)]), 2, "a new run");
        assert_eq!(added(&mut said, boot(2), &[]), 0);
        let mut fresh = Some(Heard::nothing(boot(1)));
        assert_eq!(added(&mut fresh, boot(1), &[("a", 7)]), 7);
        assert_eq!(added(&mut said, boot(2), &[("\u{1b}[2J", 5), ("", 1)]), 0);
    }

    #[test]
    fn names_without_end_are_not_kept() {
        let many: Vec<_> = (0..1_000).map(|number| format!("cause_{number}")).collect();
        let pairs: Vec<_> = many.iter().map(|name| (name.as_str(), 1)).collect();
        let mut said = None;
        added(&mut said, boot(1), &[]);
        assert_eq!(added(&mut said, boot(1), &pairs), CAUSES_MAX as u64);
        let mut hour = Hour::default();
        many.iter().for_each(|name| hour.add(5, name, 1));
        assert_eq!(hour.over(5, 1).len(), CAUSES_MAX);
    }

    #[test]
    fn windows_hold_what_happened_in_them_and_an_hour_ago_is_forgotten() {
        let mut hour = Hour::default();
        hour.add(1_000, "a", 1);
        hour.add(1_000, "b", 5);
        hour.add(1_014, "a", 2);
        hour.add(1_015, "a", 4);
        // Late.
        hour.add(1_003, "a", 8);
        let a = |now, minutes| hour.over(now, minutes).get("a").copied().unwrap_or(0);
        assert_eq!((a(1_015, 1), a(1_015, 15), a(1_015, 60)), (14, 15, 15));
        assert_eq!((a(1_016, 1), a(1_017, 1)), (12, 0));
        assert_eq!((a(1_031, 15), a(1_060, 60), a(1_080, 60)), (0, 15, 0));
        assert_eq!(hour.over(1_015, 60).len(), 2);
        hour.add(1_059, "a", 0);
        assert_eq!(hour.over(1_059, 60).get("b"), Some(&5));
        hour.add(1_060, "a", 1);
        assert_eq!(hour.over(1_060, 60).get("b"), None);
        hour.add(9_000, "a", 1);
        assert_eq!(hour.over(9_000, 60).get("a"), Some(&1));
    }
}
