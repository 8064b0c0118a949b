//! Processes that have a successor: seen off when their connections have ended, their time is up or they are too large.

use std::{fs, time::Duration};

use tokio::{
    process::Child,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{MARGIN, Order, Upgrade, pass_on};

/// All of them.
#[derive(Debug)]
pub(super) struct Predecessors {
    upgrade: Upgrade,
    /// They are to end now.
    ending: watch::Sender<bool>,
    seen_off: JoinSet<()>,
}

impl Predecessors {
    pub(super) fn new(upgrade: Upgrade) -> Self {
        Self {
            upgrade,
            ending: watch::Sender::new(false),
            seen_off: JoinSet::new(),
        }
    }

    /// Takes one in that has let go.
    pub(super) fn add(&mut self, child: Child) {
        // Those that have ended are forgotten.
        while self.seen_off.try_join_next().is_some() {}
        let ending = self.ending.subscribe();
        self.seen_off.spawn(see_off(child, self.upgrade, ending));
    }

    /// Waits until they have ended, and has them end if that takes longer than `patience`.
    pub(super) async fn end(&mut self, patience: Duration) {
        let all = async |seen_off: &mut JoinSet<()>| while seen_off.join_next().await.is_some() {};
        if timeout(patience, all(&mut self.seen_off)).await.is_err() {
            self.ending.send_replace(true);
            all(&mut self.seen_off).await;
        }
    }
}

async fn see_off(mut child: Child, upgrade: Upgrade, mut ending: watch::Receiver<bool>) {
    let pid = child.id();
    // It ends by itself when its time is up.
    let deadline = Instant::now() + upgrade.drain + MARGIN;
    loop {
        let bytes = pid.and_then(resident_bytes).unwrap_or_default();
        if bytes > upgrade.memory_max {
            warn!(
                pid,
                bytes,
                "a process that has a successor takes too much memory: its connections are cut"
            );
            pass_on(pid, Order::End);
        }
        tokio::select! {
            status = child.wait() => {
                match status {
                    Ok(status) => info!(pid, %status, "a process that had a successor has ended"),
                    Err(error) => warn!(pid, %error, "a process that had a successor cannot be waited for"),
                }
                return;
            }
            () = sleep_until(deadline) => {
                warn!(pid, "a process that has a successor does not end and is killed");
                // It may have ended just now.
                let _ = child.kill().await;
                return;
            }
            // The sender is dropped with the supervisor: then nobody is to be ended.
            Ok(()) = ending.changed() => {
                pass_on(pid, Order::End);
                if timeout(MARGIN, child.wait()).await.is_err() {
                    let _ = child.kill().await;
                }
                return;
            }
            () = sleep(LOOK) => {}
        }
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
    use super::*;

    #[test]
    fn what_a_process_takes_is_read() {
        let bytes = resident_bytes(std::process::id()).unwrap();
        assert!((1 << 20..1 << 34).contains(&bytes), "{bytes}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
