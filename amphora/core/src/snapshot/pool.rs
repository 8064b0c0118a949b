//! Checks of pools and their members.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use krater_amphora_api::{
    HealthMonitorId, MemberId, MemberSpec, PassiveHealthSpec, PoolId, PoolProtocol, PoolSpec,
    ProbeSpec, Subject,
};

use super::{
    Member, Pool,
    parse::{Reasons, at_most, host_address_fault, name},
    persistence, probe, tls,
};
use crate::{
    conduct::{ConductConfig, PassiveHealth},
    limits,
};

/// Every pool of the spec, in order.
pub(super) fn parse_all(specs: &[PoolSpec], reasons: &mut Reasons) -> Vec<Pool> {
    at_most(
        limits::POOLS_MAX,
        specs.len(),
        "pools",
        Subject::LoadBalancer,
        reasons,
    );
    let members = specs.iter().map(|pool| pool.members.len()).sum();
    at_most(
        limits::MEMBERS_MAX,
        members,
        "members",
        Subject::LoadBalancer,
        reasons,
    );
    let mut seen = Seen::default();
    specs
        .iter()
        .map(|pool| parse(pool, &mut seen, reasons))
        .collect()
}

/// Ids met so far. Members and monitors are unique over all pools: counters and verdicts are kept by their id.
#[derive(Default)]
struct Seen {
    pools: BTreeSet<PoolId>,
    members: BTreeSet<MemberId>,
    monitors: BTreeSet<HealthMonitorId>,
}

fn parse(spec: &PoolSpec, seen: &mut Seen, reasons: &mut Reasons) -> Pool {
    let subject = Subject::Pool(spec.id);
    reasons.require(seen.pools.insert(spec.id), subject, || {
        String::from("the pool is listed twice")
    });
    name(&spec.name, subject, reasons);
    tls::check_pool(spec, reasons);
    let mut members = Vec::with_capacity(spec.members.len());
    for member in &spec.members {
        reasons.require(
            seen.members.insert(member.id),
            Subject::Member(member.id),
            || String::from("the member is listed twice"),
        );
        members.push(parse_member(member, reasons));
    }
    if let Some(monitor) = &spec.monitor {
        reasons.require(
            seen.monitors.insert(monitor.id),
            Subject::HealthMonitor(monitor.id),
            || String::from("the health monitor is listed twice"),
        );
        // Elsewhere a closed UDP port would say nothing of the one that is served.
        reasons.require(
            monitor.probe != ProbeSpec::UdpConnect || spec.protocol == PoolProtocol::Udp,
            Subject::HealthMonitor(monitor.id),
            || String::from("only members of a udp pool can be probed by udp_connect"),
        );
    }
    // A disabled monitor is checked like any other, so that enabling it cannot fail; then it is as if it were absent.
    let monitor = spec
        .monitor
        .as_ref()
        .map(|monitor| (monitor.enabled, probe::parse(monitor, reasons)));
    Pool {
        id: spec.id,
        name: spec.name.clone(),
        enabled: spec.enabled,
        protocol: spec.protocol,
        algorithm: spec.algorithm,
        persistence: spec
            .persistence
            .as_ref()
            .map(|wanted| persistence::parse(wanted, spec.protocol, subject, reasons)),
        members,
        monitor: monitor.and_then(|(enabled, config)| enabled.then_some(config)),
        conduct: ConductConfig {
            passive: spec
                .passive_health
                .map(|passive| parse_passive(&passive, subject, reasons)),
            slow_start: parse_slow_start(spec.slow_start_ms, subject, reasons),
        },
        member_requests: parse_member_requests(spec.member_requests, subject, reasons),
    }
}

fn parse_passive(
    spec: &PassiveHealthSpec,
    subject: Subject,
    reasons: &mut Reasons,
) -> PassiveHealth {
    let failures = 1..=limits::PASSIVE_FAILURES_MAX;
    reasons.require(failures.contains(&spec.failures), subject, || {
        format!(
            "{} failures do not take a member out, 1 to {} do",
            spec.failures,
            limits::PASSIVE_FAILURES_MAX
        )
    });
    let (out, longest) = (spec.out_ms, spec.out_max_ms);
    let in_order = 1 <= out && out <= longest && longest <= limits::PASSIVE_OUT_MS_MAX;
    reasons.require(in_order, subject, || {
        format!(
            "a member is out for at least 1 and at most {} ms, the first time no longer than the last: not {out} to \
             {longest} ms",
            limits::PASSIVE_OUT_MS_MAX
        )
    });
    reasons.require((1..=100).contains(&spec.share_percent), subject, || {
        format!(
            "{} is no share of members that may be out, 1 to 100 percent are",
            spec.share_percent
        )
    });
    PassiveHealth {
        failures: spec.failures,
        out_first: Duration::from_millis(u64::from(out)),
        out_longest: Duration::from_millis(u64::from(longest)),
        share_percent: spec.share_percent,
    }
}

fn parse_slow_start(ms: u32, subject: Subject, reasons: &mut Reasons) -> Duration {
    reasons.require(ms <= limits::SLOW_START_MS_MAX, subject, || {
        format!(
            "a slow start of {ms} ms is longer than the most allowed, {} ms",
            limits::SLOW_START_MS_MAX
        )
    });
    Duration::from_millis(u64::from(ms))
}

fn parse_member_requests(
    most: Option<u32>,
    subject: Subject,
    reasons: &mut Reasons,
) -> Option<u32> {
    let allowed = 1..=limits::MEMBER_REQUESTS_MAX;
    reasons.require(
        most.is_none_or(|most| allowed.contains(&most)),
        subject,
        || {
            format!(
                "a member cannot have {} requests at once, but 1 to {}",
                most.unwrap_or_default(),
                limits::MEMBER_REQUESTS_MAX
            )
        },
    );
    most
}

fn parse_member(spec: &MemberSpec, reasons: &mut Reasons) -> Member {
    let subject = Subject::Member(spec.id);
    name(&spec.name, subject, reasons);
    reasons.require(spec.weight <= limits::WEIGHT_MAX, subject, || {
        format!(
            "weight {} is above the largest, {}",
            spec.weight,
            limits::WEIGHT_MAX
        )
    });
    let address = socket_address(spec.address, spec.port, "", subject, reasons);
    let probe_address = if spec.monitor_address.is_some() || spec.monitor_port.is_some() {
        let probed = (
            spec.monitor_address.unwrap_or(spec.address),
            spec.monitor_port.unwrap_or(spec.port),
        );
        // What was taken from the member itself was judged above.
        let same = SocketAddr::new(probed.0.to_canonical(), probed.1) == address;
        if same {
            address
        } else {
            socket_address(probed.0, probed.1, "monitor ", subject, reasons)
        }
    } else {
        address
    };
    Member {
        id: spec.id,
        name: spec.name.clone(),
        enabled: spec.enabled,
        address,
        weight: spec.weight,
        backup: spec.backup,
        probe_address,
        probed_apart: spec.monitor_address.is_some() || spec.monitor_port.is_some(),
    }
}

fn socket_address(
    address: IpAddr,
    port: u16,
    whose: &str,
    subject: Subject,
    reasons: &mut Reasons,
) -> SocketAddr {
    let address = address.to_canonical();
    if let Some(fault) = host_address_fault(address) {
        reasons.add(subject, format!("{whose}address {address} {fault}"));
    }
    reasons.require(port != 0, subject, || {
        format!("{whose}port 0 is not a port, 1 to 65535 are")
    });
    SocketAddr::new(address, port)
}
