//! What the JSON of every resource has: id, statuses, project, times, tags.

use jiff::Timestamp;
use krater_controller_core::{
    model::Tags,
    status::{OperatingStatus, ProvisioningStatus, Reason},
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// An object, and when the resource behind it was created: more finely than the object shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// The creation.
    pub(crate) created_at: Timestamp,
    /// The object.
    pub(crate) object: Map<String, Value>,
}

/// The keys that all resources have, for the row `row` of the resource `id`. `idle` is the operating status to show
/// while nothing was heard of the resource.
pub(crate) fn shared_keys<T>(
    view: &TreeView,
    id: Uuid,
    row: &Row<T>,
    tags: &Tags,
    idle: OperatingStatus,
) -> Map<String, Value> {
    let project = view.tree.load_balancer.value.project.as_str();
    let mut object = Map::new();
    object.insert("id".into(), json!(id));
    put_statuses(&mut object, view, id, row, idle);
    object.insert("project_id".into(), json!(project));
    object.insert("tenant_id".into(), json!(project));
    object.insert("created_at".into(), json!(time(row.created_at)));
    object.insert("updated_at".into(), json!(row.updated_at.map(time)));
    object.insert("tags".into(), tags.iter().map(Value::from).collect());
    object
}

/// Adds both statuses and, while the first is `ERROR`, the reason.
pub(crate) fn put_statuses<T>(
    object: &mut Map<String, Value>,
    view: &TreeView,
    id: Uuid,
    row: &Row<T>,
    idle: OperatingStatus,
) {
    let provisioning = view.provisioning_status(id, row);
    let operating = view.observed.operating.get(&id).copied().unwrap_or(idle);
    object.insert("provisioning_status".into(), json!(provisioning.name()));
    object.insert("operating_status".into(), json!(operating.name()));
    if provisioning == ProvisioningStatus::Error
        && let Some(reason) = view.reason(id)
    {
        object.insert("status_reason".into(), reason_object(reason));
    }
}

/// Adds the keys of `more`, an object.
pub(crate) fn extend(object: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        object.extend(more);
    }
}

/// `[{"id": …}, …]`
pub(crate) fn references(ids: impl IntoIterator<Item = Uuid>) -> Value {
    ids.into_iter().map(|id| json!({"id": id})).collect()
}

/// A time as clients parse it: UTC, whole seconds, no zone (reference 1.4).
pub(crate) fn time(timestamp: Timestamp) -> String {
    timestamp.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

fn reason_object(reason: &Reason) -> Value {
    json!({"code": reason.code, "message": reason.message, "step": reason.step, "heals": reason.heals})
}

/// The attributes every resource can be filtered and sorted by (reference 4.1).
pub(crate) const SHARED_ATTRIBUTES: &[&str] = &[
    "id",
    "name",
    "project_id",
    "admin_state_up",
    "provisioning_status",
    "operating_status",
    "created_at",
    "updated_at",
];
