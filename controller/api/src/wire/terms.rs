//! What profiles say: JSON in a string, key by key (reference 13, 14.1, 20.8).

use std::collections::BTreeSet;

use krater_controller_core::{
    limits::{
        ACCESS_LOG_ONE_IN_MAX, CPU_PERCENT_MAX, CPU_PERCENT_MIN, MEMBER_DRAIN_SECONDS_MAX,
        MEMBER_REQUESTS_MAX, MEMORY_MIB_MAX, MEMORY_MIB_MIN, PASSIVE_FAILURES_MAX,
        PASSIVE_SECONDS_MAX, SLOW_START_SECONDS_MAX, SOURCE_RATE_MAX,
    },
    model::{
        ACCESS_LOG_KEY, COMPUTE_ZONE_KEY, CONGESTION_KEY, CONNECTIONS_KEY, CPU_KEY, Congestion,
        Family, FlavorTerms, LOAD_BALANCERS_KEY, MEMBER_DRAIN_KEY, MEMBER_REQUESTS_KEY, MEMORY_KEY,
        MemberDrain, PASSIVE_FAILURES_KEY, PASSIVE_SECONDS_KEY, PASSIVE_SHARE_KEY, SLOW_START_KEY,
        SOURCE_RATE_KEY, TENANCY_KEY, TOPOLOGY_KEY, Tenancy, Terms, Topology, Treatment,
        VIP_NETWORKS_KEY, ZoneTerms,
    },
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::body::echo;

/// Understands a profile's data. `None` when it is no JSON object; a sentence when a key or value in it is none the
/// provider knows.
pub(crate) fn parse(family: Family, text: &str) -> Option<Result<Terms, String>> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return None;
    };
    Some(match family {
        Family::Flavor => flavor(&object).map(Terms::Flavor),
        Family::Zone => zone(&object).map(Terms::Zone),
    })
}

fn flavor(object: &Map<String, Value>) -> Result<FlavorTerms, String> {
    let mut terms = FlavorTerms::default();
    for (key, value) in object {
        match key.as_str() {
            TOPOLOGY_KEY => {
                terms.topology = match value.as_str() {
                    Some("SINGLE") => Topology::Single,
                    Some("ACTIVE_STANDBY") => Topology::ActiveStandby,
                    _ => return Err(wrong(key, value, "SINGLE or ACTIVE_STANDBY")),
                };
            }
            TENANCY_KEY => {
                terms.tenancy = match value.as_str() {
                    Some("shared") => Tenancy::Shared,
                    Some("dedicated") => Tenancy::Dedicated,
                    _ => return Err(wrong(key, value, "shared or dedicated")),
                };
            }
            LOAD_BALANCERS_KEY => terms.load_balancers_max = Some(count(key, value)?),
            CONNECTIONS_KEY => terms.connections_max = Some(count(key, value)?),
            MEMORY_KEY => {
                let mib = number(key, value, MEMORY_MIB_MIN, MEMORY_MIB_MAX)?;
                terms.allotment.memory_mib = Some(mib);
            }
            CPU_KEY => {
                let percent = number(key, value, CPU_PERCENT_MIN, CPU_PERCENT_MAX)?;
                terms.allotment.cpu_percent = Some(percent);
            }
            _ if treatment(key, value, &mut terms.treatment)? => {}
            _ => return Err(unknown(Family::Flavor, key)),
        }
    }
    if !terms.allotment.is_unbounded() && terms.tenancy != Tenancy::Dedicated {
        // What is shared is not one load balancer's to bound.
        return Err(format!(
            "{MEMORY_KEY} and {CPU_KEY} are for amphorae of one load balancer: {TENANCY_KEY} is to be dedicated."
        ));
    }
    Ok(terms)
}

/// Reads a key of how members and clients are treated; `false` when it is none.
fn treatment(key: &str, value: &Value, treatment: &mut Treatment) -> Result<bool, String> {
    match key {
        PASSIVE_FAILURES_KEY => {
            treatment.passive_failures = Some(number(key, value, 0, PASSIVE_FAILURES_MAX)?);
        }
        PASSIVE_SECONDS_KEY => {
            treatment.passive_seconds = Some(number(key, value, 1, PASSIVE_SECONDS_MAX)?);
        }
        PASSIVE_SHARE_KEY => {
            let share = number(key, value, 1, 100)?;
            treatment.passive_share = u8::try_from(share).ok();
        }
        SLOW_START_KEY => {
            treatment.slow_start_seconds = Some(number(key, value, 0, SLOW_START_SECONDS_MAX)?);
        }
        SOURCE_RATE_KEY => {
            treatment.source_rate = Some(number(key, value, 0, SOURCE_RATE_MAX)?);
        }
        MEMBER_REQUESTS_KEY => {
            treatment.member_requests = Some(number(key, value, 0, MEMBER_REQUESTS_MAX)?);
        }
        MEMBER_DRAIN_KEY => {
            treatment.member_drain = Some(if value.as_str() == Some("never") {
                MemberDrain::Unbounded
            } else {
                MemberDrain::Seconds(number(key, value, 0, MEMBER_DRAIN_SECONDS_MAX)?)
            });
        }
        ACCESS_LOG_KEY => {
            let one_in = number(key, value, 0, ACCESS_LOG_ONE_IN_MAX)?;
            treatment.access_log_one_in = Some(one_in);
        }
        CONGESTION_KEY => {
            treatment.congestion_control = Some(congestion(key, value)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn congestion(key: &str, value: &Value) -> Result<Congestion, String> {
    let text = value.as_str().unwrap_or_default();
    if text == Congestion::SYSTEM {
        return Ok(Congestion::System);
    }
    let named = text.parse().map(Congestion::Named);
    named.map_err(|_| {
        wrong(
            key,
            value,
            "the name of a congestion control, 1 to 15 characters of a to z, 0 to 9, _ and -, or system",
        )
    })
}

fn zone(object: &Map<String, Value>) -> Result<ZoneTerms, String> {
    let mut terms = ZoneTerms::default();
    for (key, value) in object {
        match key.as_str() {
            COMPUTE_ZONE_KEY => match value.as_str() {
                Some(name) => terms.compute_zone = Some(name.to_owned()),
                None => return Err(wrong(key, value, "the name of a zone")),
            },
            VIP_NETWORKS_KEY => terms.vip_networks = Some(networks(key, value)?),
            _ => return Err(unknown(Family::Zone, key)),
        }
    }
    Ok(terms)
}

fn networks(key: &str, value: &Value) -> Result<BTreeSet<Uuid>, String> {
    let refused = || wrong(key, value, "a list of at least one network id");
    let entries = value.as_array().ok_or_else(refused)?;
    let id = |entry: &Value| {
        entry
            .as_str()
            .and_then(|text| Uuid::parse_str(text).ok())
            .ok_or_else(refused)
    };
    if entries.is_empty() {
        // Whether none or all are meant nobody could tell.
        return Err(refused());
    }
    entries.iter().map(id).collect()
}

fn count(key: &str, value: &Value) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number >= 1)
        .ok_or_else(|| wrong(key, value, "a whole number of at least 1"))
}

fn number(key: &str, value: &Value, least: u32, most: u32) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            let or_never = if key == MEMBER_DRAIN_KEY {
                ", or never"
            } else {
                ""
            };
            wrong(
                key,
                value,
                &format!("a whole number from {least} to {most}{or_never}"),
            )
        })
}

fn wrong(key: &str, value: &Value, wanted: &str) -> String {
    format!("{key} is {wanted}, not {}.", echo(value))
}

/// A key that is not acted on. Those of the reference that mean nothing here are told why.
fn unknown(family: Family, key: &str) -> String {
    let why = match (family, key) {
        (Family::Flavor, "compute_flavor") => {
            "amphorae are no virtual machines that come in sizes."
        }
        (Family::Flavor, "amp_image_tag") => "amphorae are not started from images.",
        (Family::Flavor, "sriov_vip" | "allow_member_sriov") => {
            "amphorae have no network cards of their own."
        }
        (Family::Zone, "volume_zone") => "amphorae have no volumes.",
        (Family::Zone, "management_network") => {
            "amphorae are reached over the network of their hosts."
        }
        _ => {
            let known: Vec<&str> = family.capabilities().iter().map(|(key, _)| *key).collect();
            let key = echo(&Value::from(key));
            return format!(
                "{key} is not a key it knows, which are: {}.",
                known.join(", ")
            );
        }
    };
    format!("{key}: {why}")
}

#[cfg(test)]
mod tests;
