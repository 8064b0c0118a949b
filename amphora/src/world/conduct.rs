//! The conduct of a member as those who connect to it see and count it; what to make of it the housekeeper decides.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};

use krater_amphora_api::{MemberId, PoolId};
use krater_amphora_core::{conduct::Terms, limits::SHARE_FULL};
use tokio::sync::mpsc;

/// A member whose connections fail again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// In which pool.
    pub pool: PoolId,
    /// Which member.
    pub member: MemberId,
}

/// Where alarms go: to nobody by default. No more wait there than there are members.
#[derive(Clone, Debug, Default)]
pub struct Alarms(Option<mpsc::UnboundedSender<Alarm>>);

/// One member's conduct. Counting is for those who fail: who succeeds only looks.
#[derive(Debug)]
pub(crate) struct Conduct {
    alarm: Alarm,
    alarms: Alarms,
    /// So many failures in a row raise the alarm; 0: never.
    most: AtomicU32,
    failures: AtomicU32,
    out: AtomicBool,
    share: AtomicU8,
}

impl Alarms {
    /// Alarms, and where they are heard.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Alarm>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }
}

impl Conduct {
    /// A member's that nothing is held against.
    pub(super) const fn new(alarm: Alarm, alarms: Alarms) -> Self {
        Self {
            alarm,
            alarms,
            most: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            out: AtomicBool::new(false),
            share: AtomicU8::new(SHARE_FULL),
        }
    }

    /// Has so many failures in a row raise the alarm; none if `None`.
    pub(super) fn heed(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(0), Relaxed);
    }

    /// A connection could not be established, or broke before the member had said anything.
    pub(crate) fn note_failure(&self) {
        let most = self.most.load(Relaxed);
        // Several threads may fail at once: the alarm is raised by the one that makes it full, once.
        if most != 0
            && self.failures.fetch_add(1, Relaxed).wrapping_add(1) == most
            && let Some(alarms) = &self.alarms.0
        {
            // Nobody hears it any more when the process ends.
            let _ = alarms.send(self.alarm);
        }
    }

    /// The member has said something, or a connection ended in order.
    pub(crate) fn note_success(&self) {
        // Written only when there is something to forget, so that the line stays with all cores.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Whether the alarm is still worth heeding.
    pub(crate) fn is_failing(&self) -> bool {
        let most = self.most.load(Relaxed);
        most != 0 && self.failures.load(Relaxed) >= most
    }

    /// What is thought of it.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            out: self.out.load(Relaxed),
            share: self.share.load(Relaxed),
        }
    }

    /// Takes over what is thought of it; `true` if that is new. One that is taken back is on probation: its next
    /// failure raises the alarm again.
    pub(crate) fn follow(&self, terms: Terms) -> bool {
        let before = self.terms();
        self.out.store(terms.out, Relaxed);
        self.share.store(terms.share, Relaxed);
        if before.out && !terms.out {
            let most = self.most.load(Relaxed);
            self.failures.store(most.saturating_sub(1), Relaxed);
        }
        before != terms
    }

    /// Counts from the beginning, after an alarm that nothing followed from.
    pub(crate) fn forgive(&self) {
        self.failures.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn failures_in_a_row_raise_one_alarm_and_one_on_probation_another() {
        let (alarms, mut heard) = Alarms::new();
        let alarm = Alarm {
            pool: PoolId::new(Uuid::from_u128(1)),
            member: MemberId::new(Uuid::from_u128(2)),
        };
        let conduct = Conduct::new(alarm, alarms);
        let fail = |times: usize| (0..times).for_each(|_| conduct.note_failure());
        fail(5);
        conduct.heed(Some(3));
        fail(2);
        conduct.note_success();
        fail(2);
        assert!(heard.try_recv().is_err() && !conduct.is_failing());
        fail(5);
        assert_eq!(heard.try_recv(), Ok(alarm));
        assert!(heard.try_recv().is_err() && conduct.is_failing());
        let out = Terms {
            out: true,
            share: SHARE_FULL,
        };
        assert!(conduct.follow(out) && !conduct.follow(out));
        fail(5);
        assert!(conduct.follow(Terms::GOOD));
        assert!(heard.try_recv().is_err());
        fail(1);
        assert_eq!(heard.try_recv(), Ok(alarm));
        conduct.forgive();
        conduct.heed(None);
        fail(9);
        assert!(heard.try_recv().is_err());
    }
}
