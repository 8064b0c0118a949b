//! Processes that have a successor: seen off when their connections have ended, their time is up or they are too large.

use std::{collections::VecDeque, fs, time::Duration};

use tokio::{
    process::Child,
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{MARGIN, Order, Upgrade, pass_on};
use crate::limits::PREDECESSORS_MAX;

/// All of them.
#[derive(Debug)]
pub(super) struct Predecessors {
    upgrade: Upgrade,
    /// How long connections may go on when everything is to end.
    drain: Duration,
    /// When those that are left are cut off, once that is known.
    end: watch::Sender<Option<Instant>>,
    /// Those that live, the oldest first; what is sent to one has it end.
    living: VecDeque<oneshot::Sender<()>>,
    seen_off: JoinSet<()>,
}

impl Predecessors {
    pub(super) fn new(upgrade: Upgrade, drain: Duration) -> Self {
        Self {
            upgrade,
            drain,
            end: watch::Sender::new(None),
            living: VecDeque::new(),
            seen_off: JoinSet::new(),
        }
    }

    /// Takes one in that has let go. If there are too many then, the oldest one ends.
    pub(super) fn add(&mut self, child: Child) {
        // Those that have ended are forgotten.
        while self.seen_off.try_join_next().is_some() {}
        self.living.retain(|one| !one.is_closed());
        if self.living.len() >= PREDECESSORS_MAX
            && let Some(oldest) = self.living.pop_front()
        {
            warn!(
                at_most = PREDECESSORS_MAX,
                "too many processes have a successor: the connections of the oldest one are cut"
            );
            // It may have ended just now.
            let _ = oldest.send(());
        }
        let (cut, is_cut) = oneshot::channel();
        self.living.push_back(cut);
        let departure = Departure {
            until: Instant::now() + self.upgrade.drain + MARGIN,
            memory_max: self.upgrade.memory_max,
            end: self.end.subscribe(),
            is_cut,
        };
        self.seen_off.spawn(departure.see_off(child));
    }

    /// Has all of them end as whoever serves has to, beginning now.
    pub(super) fn end(&self) {
        let at = Instant::now() + self.drain;
        self.end
            .send_if_modified(|end| end.replace(end.unwrap_or(at)).is_none());
    }

    /// Waits until they have ended.
    pub(super) async fn ended(&mut self) {
        while self.seen_off.join_next().await.is_some() {}
    }
}

/// What becomes of one of them.
struct Departure {
    /// Beyond this it has not ended by itself, as it was to.
    until: Instant,
    memory_max: u64,
    end: watch::Receiver<Option<Instant>>,
    is_cut: oneshot::Receiver<()>,
}

impl Departure {
    async fn see_off(mut self, mut child: Child) {
        let pid = child.id();
        tokio::select! {
            // It ends by itself when its connections have, or its time is up.
            status = child.wait() => return tell(pid, status),
            () = self.time_is_up(pid) => {}
        }
        pass_on(pid, Order::End);
        match timeout(MARGIN, child.wait()).await {
            Ok(status) => tell(pid, status),
            Err(_) => {
                warn!(
                    pid,
                    "a process that has a successor does not end and is killed"
                );
                // It may have ended just now.
                let _ = child.kill().await;
            }
        }
    }

    async fn time_is_up(&mut self, pid: Option<u32>) {
        loop {
            let until = self
                .end
                .borrow_and_update()
                .unwrap_or(self.until)
                .min(self.until);
            let bytes = pid.and_then(resident_bytes).unwrap_or_default();
            if bytes > self.memory_max {
                warn!(
                    pid,
                    bytes,
                    "a process that has a successor takes too much memory: its connections are cut"
                );
                return;
            }
            tokio::select! {
                () = sleep_until(until) => return,
                // A sender that is dropped says nothing.
                Ok(()) = &mut self.is_cut => return,
                Ok(()) = self.end.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }
}

fn tell(pid: Option<u32>, status: std::io::Result<std::process::ExitStatus>) {
    match status {
        Ok(status) => info!(pid, %status, "a process that had a successor has ended"),
        Err(error) => warn!(pid, %error, "a process that had a successor cannot be waited for"),
    }
}

/// The memory that a process has now.
fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Between two looks at what it takes.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::{io::AsyncReadExt, process::Command};

    use super::*;

    #[test]
    fn what_a_process_takes_is_read() {
        let bytes = resident_bytes(std::process::id()).unwrap();
        assert!((1 << 20..1 << 34).contains(&bytes), "{bytes}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }

    /// A process that does not end by itself, with its id.
    fn endless(command: &str) -> (Child, u32) {
        let child = Command::new("sh")
            .args(["-c", command])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = child.id().unwrap();
        (child, pid)
    }

    fn predecessors(drain: Duration, memory_max: u64) -> Predecessors {
        Predecessors::new(Upgrade { drain, memory_max }, Duration::ZERO)
    }

    fn lives(pid: u32) -> bool {
        fs::exists(format!("/proc/{pid}")).unwrap()
    }

    async fn gone(pid: u32) {
        while lives(pid) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    const HOUR: Duration = Duration::from_secs(3_600);
    const SLEEP: &str = "exec sleep 3600";

    #[tokio::test(start_paused = true)]
    async fn one_ends_when_its_time_is_up() {
        let mut predecessors = predecessors(Duration::ZERO, u64::MAX);
        let (child, _) = endless(SLEEP);
        predecessors.add(child);
        predecessors.ended().await;
    }

    #[tokio::test]
    async fn one_ends_that_takes_too_much_memory() {
        let mut predecessors = predecessors(HOUR, 1);
        let (child, _) = endless(SLEEP);
        predecessors.add(child);
        predecessors.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_end_is_killed() {
        let (mut child, pid) = endless("trap '' TERM; echo; exec sleep 3600");
        let mut told = child.stdout.take().unwrap();
        told.read_u8().await.unwrap();
        let mut predecessors = predecessors(HOUR, u64::MAX);
        predecessors.add(child);
        predecessors.end();
        predecessors.ended().await;
        assert!(!lives(pid));
    }

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_one_ends_and_the_others_go_on() {
        let mut predecessors = predecessors(HOUR, u64::MAX);
        let mut pids = Vec::new();
        for _ in 0..=PREDECESSORS_MAX {
            let (child, pid) = endless(SLEEP);
            predecessors.add(child);
            pids.push(pid);
        }
        gone(pids[0]).await;
        assert!(pids[1..].iter().all(|pid| lives(*pid)));
        // Told once, each ends while nobody waits for it.
        predecessors.end();
        for pid in pids {
            gone(pid).await;
        }
        predecessors.ended().await;
    }
}
