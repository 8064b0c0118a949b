//! Which amphorae are given up, so that what they carry is served elsewhere.
//!
//! Nobody is given up for one reason: an amphora is lost when it is not heard of for its time *and* cannot be reached. And
//! nobody is given up by whoever is more likely to be blind than right: when most hosts seem lost at once, or more than
//! the budget allows within a while, what is in force stays where it is.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::time::Duration;

use jiff::Timestamp;
use krater_amphora_api::AmphoraId;

/// What is seen of an amphora.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Which amphora.
    pub amphora: AmphoraId,
    /// The host it is on.
    pub host: String,
    /// Whether it, or its host, was heard of lately: the first signal.
    pub heard: bool,
    /// Whether it can be reached: the second.
    pub reached: bool,
    /// Whether it may be given up: what is another controller's to start is not.
    pub expendable: bool,
    /// Whether it is to go already: given up before, or sent away.
    pub retiring: bool,
}

/// How much may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Hosts within [`Budget::window`], or the share of all hosts below, whichever is more.
    pub hosts_max: u64,
    /// One in so many hosts.
    pub one_in: u64,
    /// For how long a host that was given up counts.
    pub window: Duration,
}

/// Hosts that were given up, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent(BTreeMap<String, Timestamp>);

/// What is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Amphorae that are given up, with their hosts.
    pub lost: Vec<(AmphoraId, String)>,
    /// Amphorae that are as lost as those, and are not given up for this reason.
    pub held: Option<(Vec<(AmphoraId, String)>, Held)>,
}

/// Why nobody is given up though somebody is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// So many hosts of so many seem lost: it is more likely that this controller is cut off.
    Blind {
        /// Hosts that seem lost.
        lost: u64,
        /// All hosts.
        of: u64,
    },
    /// As many were given up lately as may be.
    Budget {
        /// So many hosts.
        most: u64,
    },
}

impl Held {
    /// For people.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Blind { lost, of } => format!(
                "{lost} of {of} hosts seem lost at once: it is more likely that this controller is cut off from them, so everything stays where it is"
            ),
            Self::Budget { most } => format!(
                "{most} hosts were given up lately, which is as many as may be: what this one carries stays where it is until that is a while ago (krater host drain moves it at once)"
            ),
        }
    }
}

/// Decides who is given up, and notes it in `spent`.
#[must_use]
pub fn judge(sights: &[Sight], budget: Budget, spent: &mut Spent, now: Timestamp) -> Judgement {
    spent.forget_before(now, budget.window);
    let hosts: BTreeSet<&str> = sights.iter().map(|sight| sight.host.as_str()).collect();
    let is_lost = |sight: &&Sight| !sight.heard && !sight.reached;
    let troubled: BTreeSet<&str> = sights
        .iter()
        .filter(is_lost)
        .map(|sight| sight.host.as_str())
        .collect();
    let mut lost: Vec<(AmphoraId, String)> = sights
        .iter()
        .filter(is_lost)
        .filter(|sight| sight.expendable)
        .map(|sight| (sight.amphora, sight.host.clone()))
        .collect();
    // What it carries is to leave anyway. It may have nowhere to go for long, and must not hold up the others.
    let retiring: BTreeSet<AmphoraId> = sights
        .iter()
        .filter(|sight| sight.retiring)
        .map(|sight| sight.amphora)
        .collect();
    lost.sort_unstable();
    if lost.is_empty() {
        return Judgement::default();
    }
    // Of those that are cut off at once one is silent for its time a moment before the others: whoever is not reached
    // counts, so that the first is not taken for the only one.
    let reached: BTreeSet<&str> = sights
        .iter()
        .filter(|sight| sight.reached)
        .map(|sight| sight.host.as_str())
        .collect();
    let seems_lost = |host: &&&str| troubled.contains(**host) || !reached.contains(**host);
    let few = hosts.iter().filter(seems_lost).count() as u64;
    let of = hosts.len() as u64;
    if few.saturating_mul(2) > of {
        let held = Held::Blind { lost: few, of };
        return Judgement {
            lost: Vec::new(),
            held: Some((lost, held)),
        };
    }
    let share = of.checked_div(budget.one_in).unwrap_or_default();
    let most = budget.hosts_max.max(share);
    let mut judgement = Judgement::default();
    let mut beyond = Vec::new();
    for (amphora, host) in lost {
        if retiring.contains(&amphora) {
            judgement.lost.push((amphora, host));
            continue;
        }
        let is_counted = spent.0.contains_key(&host);
        if !is_counted && spent.0.len() as u64 >= most {
            beyond.push((amphora, host));
            continue;
        }
        spent.0.insert(host.clone(), now);
        judgement.lost.push((amphora, host));
    }
    if !beyond.is_empty() {
        judgement.held = Some((beyond, Held::Budget { most }));
    }
    judgement
}

impl Spent {
    fn forget_before(&mut self, now: Timestamp, window: Duration) {
        self.0.retain(|_, at| {
            // What lies ahead is a clock that stepped back: it counts as now.
            Duration::try_from(now.duration_since(*at)).map_or(true, |age| age < window)
        });
    }
}

#[cfg(test)]
mod tests;
