//! What of a report is told: all of it, or what changed since the one before, to a controller that remembers that.
//!
//! At rest nearly nothing changes from one heartbeat to the next, and to read and compare all of it again and again is
//! what a fleet costs its controllers. Who is told of changes has to know what they follow: a controller that does not says
//! so, and is told everything.

use alloc::{collections::BTreeMap, vec::Vec};

use krater_amphora_api::{Report, ReportChanges, ReportReceipt};

use crate::limits::CHANGES_BETWEEN_REPORTS_MAX;

/// What one controller remembers of what it was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    last: Option<Report>,
    /// How often changes alone were told since all was.
    changes: u32,
}

impl Told {
    /// What of a report that controller is to be told, if not all of it.
    #[must_use]
    pub fn changes(&self, report: &Report) -> Option<ReportChanges> {
        let last = self.last.as_ref()?;
        let is_told_whole = last.info != report.info
            || last.metrics_port != report.metrics_port
            || self.changes >= CHANGES_BETWEEN_REPORTS_MAX;
        if is_told_whole {
            return None;
        }
        let mut before: BTreeMap<_, _> = last.load_balancers.iter().map(|it| (it.id, it)).collect();
        let mut load_balancers = Vec::new();
        for now in &report.load_balancers {
            if before.remove(&now.id) != Some(now) {
                load_balancers.push(now.clone());
            }
        }
        Some(ReportChanges {
            amphora: report.info.amphora,
            boot: report.info.boot,
            since: last.sequence,
            sequence: report.sequence,
            load_balancers,
            gone: before.into_keys().collect(),
        })
    }

    /// Notes that the controller took all of a report.
    pub fn note_report(&mut self, report: Report, receipt: &ReportReceipt) {
        self.last = Some(report).filter(|_| receipt.remembers);
        self.changes = 0;
    }

    /// Notes that it took what changed, which comes to that report.
    pub fn note_changes(&mut self, report: Report, receipt: &ReportReceipt) {
        self.last = Some(report).filter(|_| receipt.remembers);
        self.changes += 1;
    }

    /// Has everything told next: nobody knows what the controller took.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString as _, vec};

    use krater_amphora_api::{
        AmphoraId, BootId, ContractVersion, Counters, Generation, Info, ListenerId, ListenerReport,
        ListenerState, LoadBalancerId, LoadBalancerReport,
    };
    use uuid::Uuid;

    use super::*;

    const REMEMBERS: ReportReceipt = ReportReceipt {
        again: false,
        remembers: true,
    };

    fn lb(number: u128) -> LoadBalancerId {
        LoadBalancerId::new(Uuid::from_u128(number))
    }

    fn said(number: u128, connections: u64) -> LoadBalancerReport {
        let counters = Counters {
            total_connections: connections,
            ..Counters::default()
        };
        LoadBalancerReport {
            id: lb(number),
            generation: Generation::FIRST,
            listeners: vec![ListenerReport {
                id: ListenerId::new(Uuid::from_u128(number)),
                state: ListenerState::Open,
                counters,
                failures: BTreeMap::new(),
            }],
            pools: Vec::new(),
            announcement: None,
        }
    }

    fn report(sequence: u64, load_balancers: Vec<LoadBalancerReport>) -> Report {
        Report {
            info: Info {
                amphora: AmphoraId::new(Uuid::from_u128(1)),
                boot: BootId::new(Uuid::from_u128(2)),
                contract: ContractVersion::CURRENT,
                version: "1".to_string(),
                pid: 1,
                workers: 1,
                addresses: Vec::new(),
            },
            sequence,
            load_balancers,
            metrics_port: None,
        }
    }

    #[test]
    fn what_is_as_it_was_is_not_told_again_to_who_remembers_it() {
        let mut told = Told::default();
        let first = report(1, vec![said(1, 0), said(2, 0), said(3, 0)]);
        assert_eq!(told.changes(&first), None, "it was told nothing yet");
        told.note_report(first, &REMEMBERS);
        let second = report(2, vec![said(1, 0), said(3, 5), said(4, 0)]);
        let changes = told.changes(&second).unwrap();
        assert_eq!((changes.since, changes.sequence), (1, 2));
        assert_eq!(changes.load_balancers, [said(3, 5), said(4, 0)]);
        assert_eq!(changes.gone, [lb(2)]);
        told.note_changes(second.clone(), &REMEMBERS);
        let third = Report {
            sequence: 3,
            ..second
        };
        let changes = told.changes(&third).unwrap();
        assert_eq!((changes.load_balancers, changes.gone), (vec![], vec![]));
    }

    #[test]
    fn who_may_not_know_what_was_told_is_told_everything() {
        let mut told = Told::default();
        told.note_report(report(1, vec![said(1, 0)]), &ReportReceipt::default());
        let next = report(2, vec![said(1, 0)]);
        assert_eq!(told.changes(&next), None, "a controller of before");
        told.note_report(next, &REMEMBERS);
        let mut renamed = report(3, vec![said(1, 0)]);
        renamed.info.version = "2".to_string();
        assert_eq!(told.changes(&renamed), None);
        let next = report(3, vec![said(1, 0)]);
        assert!(told.changes(&next).is_some());
        told.forget();
        assert_eq!(told.changes(&next), None);
    }

    #[test]
    fn everything_is_told_from_time_to_time() {
        let mut told = Told::default();
        let mut wholes = 0;
        for sequence in 1..=3 * u64::from(CHANGES_BETWEEN_REPORTS_MAX) {
            let next = report(sequence, vec![said(1, 0)]);
            match told.changes(&next) {
                Some(_) => told.note_changes(next, &REMEMBERS),
                None => {
                    wholes += 1;
                    told.note_report(next, &REMEMBERS);
                }
            }
        }
        assert_eq!(wholes, 3);
    }
}
