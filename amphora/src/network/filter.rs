//! Allowed CIDRs in the kernel: a client that a listener refuses is answered there and costs nothing here.
//!
//! The same list is looked at for each connection that gets through (`gate`), so that it holds where no rules could be
//! loaded too.

use std::{
    fmt::Write as _,
    io,
    net::IpAddr,
    process::{Output, Stdio},
};

use krater_amphora_core::snapshot::{Snapshot, Transport};
use tokio::{io::AsyncWriteExt as _, process::Command};

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
pub(super) async fn load(rules: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).await?;
    }
    let Output { status, stderr, .. } = child.wait_with_output().await?;
    if status.success() {
        return Ok(());
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
}
