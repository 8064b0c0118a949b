//! Rules of health monitors (reference 9).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use krater_amphora_api::{HealthMonitorId, HttpVersion, PoolId};

use super::{
    draft::{Draft, Mark},
    pool,
};
use crate::{
    change::Change,
    command::{HealthMonitorUpdate, NewHealthMonitor},
    limits, matrix,
    model::{HealthMonitor, HttpMonitor, MonitorKind, MonitorType, PoolProtocol},
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked knowing the protocol of its pool.
pub(super) fn check_new(
    new: &NewHealthMonitor,
    pool: PoolProtocol,
    rules: &Rules,
) -> Result<(), Refusal> {
    let monitor = new.kind.monitor_type();
    if monitor == MonitorType::Ping && !rules.ping_monitors {
        return Err(Refusal::Disallowed {
            kind: "type",
            name: monitor.name().into(),
        });
    }
    if !matrix::judges(pool, monitor) {
        return Err(Refusal::Invalid(if pool.is_streamless() {
            format!(
                "The associated pool protocol is {}, so only a {} health monitor is supported.",
                pool.name(),
                judges_of(pool)
            )
        } else {
            format!(
                "The {} type is only supported for pools of type UDP/SCTP.",
                monitor.name()
            )
        }));
    }
    check_udp_delay(&new.kind, new.delay_seconds, rules)?;
    check(&new.kind, new.delay_seconds, new.timeout_seconds)
}

/// The types of monitors that may judge a pool of `protocol`, as a sentence lists them.
fn judges_of(protocol: PoolProtocol) -> String {
    let by = matrix::POOL_TO_MONITOR
        .iter()
        .filter(|(judged, _)| *judged == protocol)
        .flat_map(|(_, by)| by.iter().map(|monitor| monitor.name()));
    by.collect::<Vec<_>>().join("/")
}

/// What nobody answers must not be asked too often (reference 9.3).
fn check_udp_delay(kind: &MonitorKind, delay_seconds: u32, rules: &Rules) -> Result<(), Refusal> {
    let least = rules.udp_connect_delay_min_seconds;
    if kind.monitor_type() == MonitorType::UdpConnect && delay_seconds < least {
        return Err(Refusal::Invalid(format!(
            "The request delay value {delay_seconds} should be larger than {least} for UDP-CONNECT health monitor \
             type."
        )));
    }
    Ok(())
}

pub(super) fn create(
    mut draft: Draft<'_>,
    pool: PoolId,
    new: NewHealthMonitor,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let row = pool::find(&draft.tree, pool)?;
    check_new(&new, row.value.protocol, rules)?;
    draft.require_staying(row, ResourceId::Pool(pool))?;
    if draft
        .tree
        .monitor_of(pool)
        .is_some_and(|monitor| !monitor.is_leaving())
    {
        return Err(Refusal::AlreadyMonitored(pool));
    }
    let id = add(&mut draft, pool, new);
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::HealthMonitor(id)))
}

/// Adds a checked monitor.
pub(super) fn add(draft: &mut Draft<'_>, pool: PoolId, new: NewHealthMonitor) -> HealthMonitorId {
    let id = HealthMonitorId::new(draft.next_id());
    draft.add_health_monitor(HealthMonitor {
        id,
        pool,
        name: new.name,
        admin_state_up: new.admin_state_up,
        kind: new.kind,
        delay_seconds: new.delay_seconds,
        timeout_seconds: new.timeout_seconds,
        max_retries: new.max_retries,
        max_retries_down: new.max_retries_down,
        tags: new.tags,
    });
    id
}

pub(super) fn update(
    mut draft: Draft<'_>,
    id: HealthMonitorId,
    update: HealthMonitorUpdate,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    check_fields(&row.value.kind, &update)?;
    if let Some(delay_seconds) = update.delay_seconds {
        check_udp_delay(&row.value.kind, delay_seconds, rules)?;
    }
    // The rules hold for what comes out, not for what went in: clearing one field can break what another needs.
    let mut changed = row.value.clone();
    apply(&mut changed, update);
    check(
        &changed.kind,
        changed.delay_seconds,
        changed.timeout_seconds,
    )?;
    draft.require_staying(row, ResourceId::HealthMonitor(id))?;
    let pool = changed.pool;
    let mut changed = Some(changed);
    draft.change_monitor(id, Mark::Named, |monitor| {
        super::set(monitor, changed.take())
    });
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::HealthMonitor(id)))
}

/// Fields that only HTTP and HTTPS monitors have; even null is refused on others (reference 9.3).
fn check_fields(kind: &MonitorKind, update: &HealthMonitorUpdate) -> Result<(), Refusal> {
    if kind.monitor_type().asks_http() {
        return Ok(());
    }
    let field = [
        (update.http_method.is_some(), "http_method"),
        (update.url_path.is_some(), "url_path"),
        (update.expected_codes.is_some(), "expected_codes"),
    ]
    .into_iter()
    .find_map(|(given, field)| given.then_some(field));
    match field {
        Some(field) => Err(Refusal::InvalidOption {
            value: field.into(),
            field: format!("health monitors of type {}", kind.name()),
        }),
        None => Ok(()),
    }
}

fn apply(monitor: &mut HealthMonitor, update: HealthMonitorUpdate) {
    let HealthMonitorUpdate {
        name,
        admin_state_up,
        delay_seconds,
        timeout_seconds,
        max_retries,
        max_retries_down,
        http_method,
        url_path,
        expected_codes,
        http_version,
        domain_name,
        tags,
    } = update;
    super::set(&mut monitor.name, name);
    super::set(&mut monitor.admin_state_up, admin_state_up);
    super::set(&mut monitor.delay_seconds, delay_seconds);
    super::set(&mut monitor.timeout_seconds, timeout_seconds);
    super::set(&mut monitor.max_retries, max_retries);
    super::set(&mut monitor.max_retries_down, max_retries_down);
    super::set(&mut monitor.tags, tags);
    let (version, domain) = monitor.kind.host_mut();
    super::set(version, http_version);
    super::set(domain, domain_name);
    if let Some(http) = monitor.kind.http_mut() {
        super::set(&mut http.http_method, http_method);
        super::set(&mut http.url_path, url_path);
        if let Some((written, parsed)) = expected_codes {
            http.expected_codes = written;
            http.expected = parsed;
        }
    }
}

pub(super) fn delete(mut draft: Draft<'_>, id: HealthMonitorId) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    if row.is_leaving() {
        return Ok(draft.unchanged(ResourceId::HealthMonitor(id)));
    }
    let pool = row.value.pool;
    draft.change_monitor(id, Mark::Leaves, |_| ());
    draft.touch_pool_and_users(pool);
    Ok(draft.finish(ResourceId::HealthMonitor(id)))
}

fn find(tree: &LoadBalancerTree, id: HealthMonitorId) -> Result<&Row<HealthMonitor>, Refusal> {
    tree.health_monitor(id)
        .ok_or(Refusal::NotFound(ResourceId::HealthMonitor(id)))
}

/// The rules every monitor obeys, new or changed.
fn check(kind: &MonitorKind, delay_seconds: u32, timeout_seconds: u32) -> Result<(), Refusal> {
    for (field, seconds) in [("delay", delay_seconds), ("timeout", timeout_seconds)] {
        if seconds > limits::MONITOR_SECONDS_MAX {
            return Err(Refusal::Invalid(format!(
                "{field} is at most {} seconds.",
                limits::MONITOR_SECONDS_MAX
            )));
        }
    }
    if let Some(domain) = kind.domain_name() {
        check_domain(domain)?;
        match kind.http_version() {
            None => {
                return Err(Refusal::Invalid(
                    "'http_version' must be specified when 'domain_name' is provided.".into(),
                ));
            }
            Some(HttpVersion::Http10) => {
                return Err(Refusal::InvalidOption {
                    value: "http_version 1.0".into(),
                    field: "health monitors HTTP 1.1 domain name health check".into(),
                });
            }
            Some(HttpVersion::Http11) => (),
        }
    }
    kind.http().map_or(Ok(()), check_http)
}

/// What a probe writes into its request must be able to stand there.
fn check_http(http: &HttpMonitor) -> Result<(), Refusal> {
    let path = &http.url_path;
    let fits = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits || path.chars().count() > limits::PROBE_TEXT_CHARACTERS_MAX {
        return Err(Refusal::Invalid(format!(
            "url_path '{path}' is not a path: it starts with a slash and has at most {} visible ASCII characters.",
            limits::PROBE_TEXT_CHARACTERS_MAX
        )));
    }
    let codes = &http.expected;
    let sound = codes
        .iter()
        .all(|range| (100..=range.last).contains(&range.first) && range.last <= 599);
    if codes.is_empty()
        || !sound
        || http.expected_codes.chars().count() > limits::EXPECTED_CODES_CHARACTERS_MAX
    {
        return Err(Refusal::InvalidOption {
            value: http.expected_codes.clone(),
            field: "expected_codes".into(),
        });
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), Refusal> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let short = domain.chars().count() <= limits::PROBE_TEXT_CHARACTERS_MAX;
    if domain.is_empty() || !short || !domain.bytes().all(fits) {
        return Err(Refusal::InvalidOption {
            value: domain.to_string(),
            field: String::from("domain_name"),
        });
    }
    Ok(())
}
