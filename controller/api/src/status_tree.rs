//! The status tree of a load balancer (reference 5.6).

use krater_controller_core::tree::TreeView;
use serde_json::{Map, Value, json};

use crate::wire::{l7_policy, listener, load_balancer, pool};

/// The document. Pools are below the listeners that use them, so one nobody uses is not shown and one that two use is
/// shown twice.
pub(crate) fn document(view: &TreeView) -> Value {
    let mut tree = load_balancer::render_status(view);
    let listeners = view.tree.listeners.iter().map(|row| {
        let mut object: Map<String, Value> = listener::render_status(view, row);
        let through = view.tree.pools_through_policies(row.value.id);
        let used = view.tree.pools.iter().filter(|pool| {
            let id = pool.value.id;
            row.value.default_pool == Some(id) || through.contains(&id)
        });
        let pools: Vec<Value> = used
            .map(|pool| Value::Object(pool::render_status(view, pool)))
            .collect();
        object.insert("pools".into(), Value::Array(pools));
        // The reference's document has them, its code does not; who imports a policy looks for it here.
        let policies = view.tree.policies_of(&row.value).into_iter();
        let policies = policies.map(|policy| l7_policy::render_status(view, policy));
        object.insert("l7policies".into(), policies.collect());
        Value::Object(object)
    });
    tree.insert("listeners".into(), listeners.collect());
    json!({"statuses": {"loadbalancer": tree}})
}
