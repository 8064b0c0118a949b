//! The quota (reference 12).

use krater_controller_core::{
    model::ProjectId,
    quota::{Counted, Limit, Limits, QuotaUpdate},
};
use serde_json::{Map, Value, json};

use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// The key of one.
pub(crate) const ROOT: &str = "quota";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "quotas";
/// The name of its body in errors.
pub(crate) const ARGUMENT: &str = "quotas";
/// What lists of it can be filtered and sorted by.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "tenant_id",
    "loadbalancer",
    "load_balancer",
    "listener",
    "pool",
    "member",
    "healthmonitor",
    "health_monitor",
    "l7policy",
    "l7rule",
];

/// Reads the body of a PUT. Null makes a limit as configured again.
pub(crate) fn parse_update(body: Value) -> Result<QuotaUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            let mut update = QuotaUpdate::default();
            for kind in Counted::ALL {
                let (name, legacy) = names(kind);
                let mut given = limit(fields, name)?;
                if let Some(legacy) = legacy {
                    given = preferred(limit(fields, legacy)?, given);
                }
                *update.get_mut(kind) = given.clear();
            }
            Ok(update)
        })
    })
}

/// What a project may have, in both spellings.
pub(crate) fn render(project: &ProjectId, limits: &Limits) -> Map<String, Value> {
    let mut object = render_limits(limits);
    object.insert("project_id".into(), json!(project.as_str()));
    object.insert("tenant_id".into(), json!(project.as_str()));
    object
}

/// The limits alone, as they are configured for nobody in particular.
pub(crate) fn render_limits(limits: &Limits) -> Map<String, Value> {
    let mut object = Map::new();
    for kind in Counted::ALL {
        let number = limits.get(kind).number();
        let (name, legacy) = names(kind);
        object.insert(name.into(), json!(number));
        if let Some(legacy) = legacy {
            object.insert(legacy.into(), json!(number));
        }
    }
    object
}

/// A field's name, and the older one it also has.
const fn names(kind: Counted) -> (&'static str, Option<&'static str>) {
    match kind {
        Counted::LoadBalancer => ("load_balancer", Some("loadbalancer")),
        Counted::Listener => ("listener", None),
        Counted::Pool => ("pool", None),
        Counted::Member => ("member", None),
        Counted::HealthMonitor => ("health_monitor", Some("healthmonitor")),
        Counted::L7Policy => ("l7policy", None),
        Counted::L7Rule => ("l7rule", None),
    }
}

fn limit(fields: &mut Fields, name: &str) -> Result<Given<Limit>, Fault> {
    let given = fields.integer::<i64>(name, Limit::UNLIMITED, Limit::MAX)?;
    // The bounds are those of a limit.
    Ok(given.map(|number| Limit::from_number(number).unwrap_or_default()))
}

/// The older spelling wins if both have a value; a value wins over null, and null over nothing.
fn preferred<T>(legacy: Given<T>, given: Given<T>) -> Given<T> {
    match (legacy, given) {
        (Given::Value(value), _) | (_, Given::Value(value)) => Given::Value(value),
        (Given::Null, _) | (_, Given::Null) => Given::Null,
        (Given::Absent, Given::Absent) => Given::Absent,
    }
}
