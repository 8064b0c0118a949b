//! Allowed CIDRs in the kernel: a client that a listener refuses is answered there and costs nothing here.
//!
//! The same list is looked at for each connection that gets through (`gate`), so that it holds where no rules could be
//! loaded too.

use std::{
    fmt::Write as _,
    io,
    net::IpAddr,
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use krater_amphora_core::snapshot::{Snapshot, Transport};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};
use tracing::{info, warn};

use crate::limits::{FILTER_PAUSE_MAX, FILTER_PAUSE_MIN, FILTER_TIME_MAX};

/// What of the rules is in force, as far as that is known.
#[derive(Debug)]
pub(super) struct Filter {
    /// What loads them: `nft`.
    program: PathBuf,
    in_force: Option<String>,
    trouble: Option<Trouble>,
}

/// They could not be loaded.
#[derive(Debug)]
struct Trouble {
    reason: String,
    pause: Duration,
    next_try: Instant,
}

impl Filter {
    /// Nothing is known: the process before this one may have loaded some.
    pub(super) const fn by(program: PathBuf) -> Self {
        Self {
            program,
            in_force: None,
            trouble: None,
        }
    }

    /// Whether the kernel refuses whom listeners refuse, as of the last try.
    pub(super) const fn is_in_force(&self) -> bool {
        self.trouble.is_none()
    }

    /// Brings the kernel to `rules`, unless that failed lately. Where it cannot be told, listeners refuse.
    pub(super) async fn settle(&mut self, rules: String, now: Instant) {
        if self.in_force.as_ref() == Some(&rules) {
            // Nothing is left to be mended, whatever else failed on the way here.
            self.trouble = None;
            return;
        }
        if self.trouble.as_ref().is_some_and(|it| now < it.next_try) {
            return;
        }
        let nothing = self::rules(std::iter::empty());
        match load(&self.program, &rules).await {
            Ok(()) => {
                self.in_force = Some(rules);
                if self.trouble.take().is_some() {
                    info!("allowed CIDRs are in the kernel");
                }
            }
            // Who could not load any has none to take away.
            Err(error) if error.kind() == io::ErrorKind::NotFound && rules == nothing => {
                self.in_force = Some(rules);
                self.trouble = None;
            }
            Err(error) => {
                // What is there may let in whom these refuse, which is looked at again, but must not refuse whom they
                // let in.
                let emptied = rules != nothing && load(&self.program, &nothing).await.is_ok();
                self.in_force = emptied.then_some(nothing);
                self.note(error.to_string(), now);
            }
        }
    }

    fn note(&mut self, reason: String, now: Instant) {
        let before = self.trouble.take();
        if before.as_ref().is_none_or(|it| it.reason != reason) {
            warn!(
                reason,
                "allowed CIDRs are not in the kernel (nft): clients are refused once they are connected; it is tried again"
            );
        }
        let pause = before.map_or(FILTER_PAUSE_MIN, |it| {
            FILTER_PAUSE_MAX.min(it.pause.saturating_mul(2))
        });
        self.trouble = Some(Trouble {
            reason,
            pause,
            next_try: now + pause,
        });
    }
}

/// All rules there are to be, as `nft -f -` takes them: what was there before goes in the same transaction.
pub(crate) fn rules<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> String {
    let mut sets = String::new();
    let mut chain = String::new();
    let mut count = 0_u32;
    for snapshot in snapshots {
        for listener in snapshot
            .listeners()
            .iter()
            .filter(|listener| listener.enabled)
        {
            if listener.gate.is_everybody() {
                continue;
            }
            let (of, port) = (listener.mode.transport(), listener.port);
            for vip in snapshot.vips() {
                let allowed = listener
                    .gate
                    .ranges()
                    .filter(|(first, _)| first.is_ipv4() == vip.is_ipv4());
                let ranges: Vec<String> = allowed.map(|(first, last)| range(first, last)).collect();
                let family = if vip.is_ipv4() { "ip" } else { "ip6" };
                let unless = if ranges.is_empty() {
                    String::new()
                } else {
                    count += 1;
                    let kind = if vip.is_ipv4() {
                        "ipv4_addr"
                    } else {
                        "ipv6_addr"
                    };
                    // Writing to a string cannot fail.
                    let _ = writeln!(
                        sets,
                        "set allowed{count} {{ type {kind}; flags interval; elements = {{ {} }}; }}",
                        ranges.join(", ")
                    );
                    format!("{family} saddr != @allowed{count} ")
                };
                let (what, answer) = match of {
                    // What is established was let in, and stays.
                    Transport::Stream => (
                        format!("tcp dport {port} tcp flags & (fin|syn|rst|ack) == syn"),
                        "reject with tcp reset",
                    ),
                    Transport::Datagram => (format!("udp dport {port}"), "drop"),
                };
                let _ = writeln!(
                    chain,
                    "{family} daddr {vip} {what} {unless}counter {answer}"
                );
            }
        }
    }
    format!(
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{sets}chain input {{\n\
         type filter hook input priority 0; policy accept;\n{chain}}}\n}}\n"
    )
}

/// Puts rules in force, all of them or none.
async fn load(program: &PathBuf, rules: &str) -> io::Result<()> {
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let input = child.stdin.take();
    let loading = async {
        let written = match input {
            Some(mut input) => input.write_all(rules.as_bytes()).await,
            None => Ok(()),
        };
        // Who ends before it has read all says why.
        child.wait_with_output().await.map(|said| (said, written))
    };
    let loaded = timeout(FILTER_TIME_MAX, loading).await.map_err(|_| {
        let reason = format!("no answer within {} s", FILTER_TIME_MAX.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, reason)
    });
    let (Output { status, stderr, .. }, written) = loaded??;
    if status.success() {
        return written;
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&stderr).trim().to_owned(),
    ))
}

fn range(first: IpAddr, last: IpAddr) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

const TABLE: &str = "krater";

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;

    fn snapshot(allowed: &[&str]) -> Snapshot {
        let spec = serde_json::json!({
            "load_balancer": Uuid::from_u128(1), "generation": 1,
            "vips": [{"address": "10.0.0.10"}, {"address": "fd00::10"}],
            "listeners": [
                {"id": Uuid::from_u128(2), "protocol": "tcp", "port": 80, "allowed_cidrs": allowed},
                {"id": Uuid::from_u128(3), "protocol": "udp", "port": 53, "allowed_cidrs": allowed},
                {"id": Uuid::from_u128(4), "protocol": "tcp", "port": 81},
            ],
            "pools": [],
        });
        Snapshot::parse(serde_json::from_value(spec).unwrap()).unwrap()
    }

    #[test]
    fn whoever_is_not_allowed_is_refused_and_nobody_else() {
        let rules = rules([snapshot(&["10.1.0.0/16", "192.0.2.1/32"])].iter());
        let lines: Vec<&str> = rules.lines().collect();
        assert_eq!(
            lines,
            [
                "table inet krater",
                "delete table inet krater",
                "table inet krater {",
                "set allowed1 { type ipv4_addr; flags interval; elements = { 10.1.0.0-10.1.255.255, 192.0.2.1 }; }",
                "set allowed2 { type ipv4_addr; flags interval; elements = { 10.1.0.0-10.1.255.255, 192.0.2.1 }; }",
                "chain input {",
                "type filter hook input priority 0; policy accept;",
                "ip daddr 10.0.0.10 tcp dport 80 tcp flags & (fin|syn|rst|ack) == syn ip saddr != @allowed1 counter reject with tcp reset",
                // Nobody of that family is allowed.
                "ip6 daddr fd00::10 tcp dport 80 tcp flags & (fin|syn|rst|ack) == syn counter reject with tcp reset",
                "ip daddr 10.0.0.10 udp dport 53 ip saddr != @allowed2 counter drop",
                "ip6 daddr fd00::10 udp dport 53 counter drop",
                "}",
                "}",
            ]
        );
    }

    #[test]
    fn where_everybody_is_allowed_there_is_no_rule() {
        let rules = rules([snapshot(&[])].iter());
        assert!(
            !rules.contains("daddr") && !rules.contains("set "),
            "{rules}"
        );
    }

    /// Something to load rules with.
    fn loader(script: &str) -> (TempDir, Filter) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nft");
        let text = format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display());
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, Filter::by(program))
    }

    fn some_rules() -> String {
        rules([snapshot(&["10.1.0.0/16"])].iter())
    }

    #[tokio::test]
    async fn rules_that_could_not_be_loaded_are_loaded_once_that_works_and_not_tried_all_the_time()
    {
        let (folder, mut filter) =
            loader("echo >>tries\ncat >given\ntest -e works || { echo no >&2; exit 1; }");
        let tries = || fs::read(folder.path().join("tries")).map_or(0, |tries| tries.len());
        let start = Instant::now();
        filter.settle(some_rules(), start).await;
        assert!(!filter.is_in_force());
        // With what is in the way of nobody.
        assert_eq!(tries(), 2);
        filter.settle(some_rules(), start).await;
        filter.settle(rules(std::iter::empty()), start).await;
        assert_eq!(tries(), 2);
        filter.settle(some_rules(), start + FILTER_PAUSE_MIN).await;
        assert_eq!(tries(), 4);
        // Each pause is longer than the one before.
        filter
            .settle(some_rules(), start + FILTER_PAUSE_MIN * 2)
            .await;
        assert_eq!(tries(), 4);
        fs::write(folder.path().join("works"), "").unwrap();
        filter
            .settle(some_rules(), start + FILTER_PAUSE_MIN * 3)
            .await;
        assert!(filter.is_in_force());
        assert_eq!(tries(), 5);
        let given = fs::read_to_string(folder.path().join("given")).unwrap();
        assert_eq!(given, some_rules());
        filter.settle(some_rules(), start + FILTER_PAUSE_MAX).await;
        assert_eq!(tries(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_loads_rules_and_does_not_answer_is_waited_for_no_longer_than_that() {
        let (_folder, mut filter) = loader("exec sleep 600");
        filter.settle(some_rules(), Instant::now()).await;
        assert!(!filter.is_in_force());
        let reason = &filter.trouble.as_ref().unwrap().reason;
        assert!(reason.contains("no answer"), "{reason}");
    }

    #[tokio::test]
    async fn where_nobody_can_load_rules_and_there_are_none_nothing_is_wrong() {
        let mut filter = Filter::by("/nowhere/nft".into());
        filter
            .settle(rules(std::iter::empty()), Instant::now())
            .await;
        assert!(filter.is_in_force());
        filter.settle(some_rules(), Instant::now()).await;
        assert!(!filter.is_in_force());
    }
}
