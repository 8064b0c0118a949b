//! What projects may have for which nothing was set.

use std::fmt::Write as _;

use krater_controller_core::quota::{Counted, Limit, Limits};
use serde::Deserialize;

/// The section as it is written; what is left out is without a limit.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct QuotaFile {
    load_balancer: Option<i64>,
    listener: Option<i64>,
    pool: Option<i64>,
    member: Option<i64>,
    health_monitor: Option<i64>,
    l7policy: Option<i64>,
    l7rule: Option<i64>,
}

/// The limits, and what is wrong with those that are none.
pub(super) fn parse(file: &QuotaFile, flaws: &mut Vec<String>) -> Limits {
    Limits::of(|kind| {
        let Some(number) = given(file, kind) else {
            return Limit::default();
        };
        Limit::from_number(number).unwrap_or_else(|| {
            let (name, most) = (name(kind), Limit::MAX);
            flaws.push(format!(
                "quota.{name}: {number} is not between -1 (no limit) and {most}"
            ));
            Limit::default()
        })
    })
}

/// Writes the section as it is read.
pub(super) fn print(limits: &Limits, out: &mut String) {
    out.push_str("\n[quota]\n");
    for kind in Counted::ALL {
        let _ = writeln!(out, "{} = {}", name(kind), limits.get(kind).number());
    }
}

const fn given(file: &QuotaFile, kind: Counted) -> Option<i64> {
    match kind {
        Counted::LoadBalancer => file.load_balancer,
        Counted::Listener => file.listener,
        Counted::Pool => file.pool,
        Counted::Member => file.member,
        Counted::HealthMonitor => file.health_monitor,
        Counted::L7Policy => file.l7policy,
        Counted::L7Rule => file.l7rule,
    }
}

const fn name(kind: Counted) -> &'static str {
    match kind {
        Counted::LoadBalancer => "load_balancer",
        Counted::Listener => "listener",
        Counted::Pool => "pool",
        Counted::Member => "member",
        Counted::HealthMonitor => "health_monitor",
        Counted::L7Policy => "l7policy",
        Counted::L7Rule => "l7rule",
    }
}
