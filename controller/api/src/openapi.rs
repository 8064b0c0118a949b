//! The OpenAPI document of the API, made from tables: the fields of each resource and all that can be asked.
//!
//! Bodies are read field by field, not by derived types, so that every coercion and sentence is the reference's; the
//! document is therefore made from tables of its own, and tests hold both to each other.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

mod operation;

mod operating;

mod balancing;

mod resource;

mod field;

pub use field::{Field, Mode, Null, Takes};
pub use operation::{Answers, Operation, Query, Sends, all, methods};
pub use resource::Resource;

use balancing::{
    HEALTH_MONITOR, L7_POLICY, L7_RULE, LISTENER, LOAD_BALANCER, MEMBER, NESTED_L7_POLICY,
    NESTED_LISTENER, NESTED_POOL, POOL,
};
use operating::{
    AMPHORA, AVAILABILITY_ZONE, AVAILABILITY_ZONE_PROFILE, FLAVOR, FLAVOR_PROFILE, QUOTA,
};

/// Every kind of resource.
pub const RESOURCES: &[Resource] = &[
    LOAD_BALANCER,
    LISTENER,
    POOL,
    MEMBER,
    HEALTH_MONITOR,
    L7_POLICY,
    L7_RULE,
    QUOTA,
    FLAVOR,
    FLAVOR_PROFILE,
    AVAILABILITY_ZONE,
    AVAILABILITY_ZONE_PROFILE,
    AMPHORA,
];

/// The document, in OpenAPI 3.1.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "krater",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The OpenStack load-balancing API v2 as krater serves it. Every path below /v2 is served \
                below /v2.0 too, those below /v2/lbaas also without lbaas, and all of them below /load-balancer. \
                Values are coerced as the reference does: numbers and truth values may be sent as texts.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
            },
            "parameters": parameters(),
            "headers": {
                "RequestId": {
                    "description": "What the request is called in logs and in the audit trail.",
                    "schema": {"type": "string"},
                },
                "ETag": {
                    "description": "The version of the resource's configuration, for If-Match.",
                    "schema": {"type": "string"},
                },
            },
            "responses": faults(),
            "schemas": schemas(),
        },
    })
}

fn paths() -> Map<String, Value> {
    let mut paths = Map::new();
    for operation in all() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_ascii_lowercase(), describe(operation));
        }
    }
    paths
}

fn describe(operation: &Operation) -> Value {
    let mut parameters = path_parameters(operation.path);
    let reference = |name: &str| json!({"$ref": format!("#/components/parameters/{name}")});
    match operation.answers {
        Answers::Many(_) => parameters.extend(LIST_PARAMETERS.iter().map(|name| reference(name))),
        Answers::One(_) if operation.method == "GET" => parameters.push(reference("fields")),
        _ => {}
    }
    if operation.faults.contains(&422) {
        parameters.push(reference("idempotency_key"));
    }
    if operation.faults.contains(&412) {
        parameters.push(reference("if_match"));
    }
    for query in operation.queries {
        let kind = if query.truth { "boolean" } else { "string" };
        parameters.push(json!({
            "name": query.name, "in": "query", "description": query.about, "schema": {"type": kind},
        }));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses(operation),
    });
    let Some(object) = described.as_object_mut() else {
        return described;
    };
    if let Some(schema) = body(operation.sends) {
        object.insert(
            "requestBody".into(),
            json!({"required": true, "content": {"application/json": {"schema": schema}}}),
        );
    }
    if !operation.path.starts_with("/v2") {
        object.insert("security".into(), json!([]));
    }
    described
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

fn body(sends: Sends) -> Option<Value> {
    match sends {
        Sends::Nothing => None,
        Sends::New(resource) => Some(resource.body(&resource.creation())),
        Sends::Changes(resource) => Some(resource.body(&resource.update())),
        Sends::Members => Some(json!({
            "type": "object",
            "properties": {
                "members": {"type": "array", "items": {"$ref": "#/components/schemas/MemberCreate"}},
            },
            "required": ["members"],
            "additionalProperties": false,
        })),
    }
}

fn responses(operation: &Operation) -> Map<String, Value> {
    let json_of = |schema: Value| json!({"application/json": {"schema": schema}});
    let content = match operation.answers {
        Answers::Nothing => None,
        Answers::One(resource) => Some(json_of(json!({
            "type": "object",
            "properties": {
                resource.root: {"$ref": format!("#/components/schemas/{}", resource.component)},
            },
            "required": [resource.root],
        }))),
        Answers::Many(resource) => Some(json_of(resource.list())),
        Answers::Document(name) => Some(json_of(
            json!({"$ref": format!("#/components/schemas/{name}")}),
        )),
        Answers::Text => Some(json!({"text/plain": {"schema": {"type": "string"}}})),
    };
    let mut success = json!({
        "description": operation.summary,
        "headers": {"x-openstack-request-id": {"$ref": "#/components/headers/RequestId"}},
    });
    if let (Some(content), Some(object)) = (content, success.as_object_mut()) {
        object.insert("content".into(), content);
    }
    let mut responses = Map::new();
    responses.insert(operation.success.to_string(), success);
    for status in operation.faults {
        if matches!(operation.answers, Answers::Text) && *status == 503 {
            responses.insert(
                status.to_string(),
                json!({"description": "It does not; the text says why.", "content": {"text/plain": {"schema": {"type": "string"}}}}),
            );
            continue;
        }
        let reference = format!("#/components/responses/Status{status}");
        responses.insert(status.to_string(), json!({"$ref": reference}));
    }
    responses
}

/// Every answer that is no success and that an operation names.
fn faults() -> Map<String, Value> {
    let statuses: BTreeSet<u16> = all()
        .flat_map(|operation| operation.faults)
        .copied()
        .collect();
    statuses
        .into_iter()
        .map(|status| (format!("Status{status}"), fault(status)))
        .collect()
}

/// An answer that is no success, in one of the three forms (reference 1.5).
fn fault(status: u16) -> Value {
    let (about, form) = match status {
        400 => ("The request is wrong; the sentence says how.", "Fault"),
        401 => (
            "There is no token, or one that is not valid.",
            "IdentityFault",
        ),
        403 => ("The caller may not do this, or a quota is met.", "Fault"),
        404 => ("Nothing has this id.", "Fault"),
        406 => ("The client takes no JSON.", "RoutingFault"),
        409 => (
            "It conflicts with how things are; the sentence says with what.",
            "Fault",
        ),
        410 => ("What the Idempotency-Key created is gone since.", "Fault"),
        412 => ("It has changed since the version in If-Match.", "Fault"),
        413 => {
            return json!({"description": "The body is too large.", "content": {"text/plain": {"schema": {"type": "string"}}}});
        }
        415 => ("The body is no JSON.", "Fault"),
        422 => ("The Idempotency-Key was used for another request.", "Fault"),
        501 => (
            "The data plane of this release does not carry it; the sentence says what.",
            "Fault",
        ),
        _ => (
            "Something it needs cannot be reached right now; it is worth trying again.",
            "Fault",
        ),
    };
    let forms = match form {
        "Fault" => json!({"anyOf": [
            {"$ref": "#/components/schemas/Fault"},
            {"$ref": "#/components/schemas/RoutingFault"},
            {"$ref": "#/components/schemas/IdentityFault"},
        ]}),
        form => json!({"$ref": format!("#/components/schemas/{form}")}),
    };
    json!({"description": about, "content": {"application/json": {"schema": forms}}})
}

fn parameters() -> Value {
    let query = |name: &str, about: &str| json!({"name": name, "in": "query", "description": about, "schema": {"type": "string"}});
    json!({
        "limit": {
            "name": "limit", "in": "query", "description": "The most objects of the page.",
            "schema": {"type": "integer"},
        },
        "marker": query("marker", "The id of the last object of the page before."),
        "page_reverse": query("page_reverse", "True: the page before the marker."),
        "sort": query("sort", "Keys with directions, e.g. name:asc,created_at:desc."),
        "sort_key": query("sort_key", "Keys to sort by, in another form."),
        "sort_dir": query("sort_dir", "Directions of the keys."),
        "tags": query("tags", "Objects that have all of these."),
        "tags-any": query("tags-any", "Objects that have one of these."),
        "not-tags": query("not-tags", "Objects that do not have all of these."),
        "not-tags-any": query("not-tags-any", "Objects that have none of these."),
        "fields": {
            "name": "fields", "in": "query", "description": "The only keys to show.",
            "schema": {"type": "array", "items": {"type": "string"}},
        },
        "if_match": {
            "name": "If-Match", "in": "header",
            "description": "The ETag the resource must still have.",
            "schema": {"type": "string", "pattern": "^[ -~]*$"},
        },
        "idempotency_key": {
            "name": "Idempotency-Key", "in": "header",
            "description": "A word of the client's for this creation: sent again, it creates nothing twice.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        },
    })
}

fn schemas() -> Map<String, Value> {
    let mut schemas = documents();
    for resource in RESOURCES {
        resource.describe(&mut schemas);
    }
    let child = ["project_id", "tenant_id"];
    let mut nest = |name: &str, resource: &Resource, parents: &[&str], more: &[Field]| {
        let parents: Vec<&str> = child.iter().chain(parents).copied().collect();
        schemas.insert(name.into(), resource.nested(&parents, more));
    };
    nest(
        "NestedListener",
        &LISTENER,
        &["loadbalancer_id", "default_pool_id"],
        NESTED_LISTENER,
    );
    nest(
        "NestedPool",
        &POOL,
        &["loadbalancer_id", "listener_id", "needed"],
        NESTED_POOL,
    );
    nest("NestedMember", &MEMBER, &[], &[]);
    nest("NestedHealthMonitor", &HEALTH_MONITOR, &["pool_id"], &[]);
    nest(
        "NestedL7Policy",
        &L7_POLICY,
        &["listener_id", "redirect_pool_id"],
        NESTED_L7_POLICY,
    );
    nest("NestedL7Rule", &L7_RULE, &[], &[]);
    schemas
}

/// Schemas of what is no resource.
fn documents() -> Map<String, Value> {
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let counts = json!({
        "active_connections": count, "bytes_in": count, "bytes_out": count, "request_errors": count,
        "total_connections": count,
    });
    let capabilities = |key: &str| {
        json!({"type": "object", "required": [key], "properties": {key: {"type": "array", "items": {
            "type": "object", "properties": {"name": text, "description": text},
        }}}})
    };
    let described = json!({
        "Fault": {"type": "object", "required": ["faultcode", "faultstring", "debuginfo"], "properties": {
            "faultcode": {"enum": ["Client", "Server"]}, "faultstring": text, "debuginfo": {"type": ["string", "null"]},
        }},
        "RoutingFault": {"type": "object", "required": ["code", "title", "description"], "properties": {
            "code": {"type": "integer"}, "title": text, "description": text,
        }},
        "IdentityFault": {"type": "object", "required": ["error"], "properties": {"error": {
            "type": "object", "required": ["code", "title", "message"],
            "properties": {"code": {"type": "integer"}, "title": text, "message": text},
        }}},
        "Link": {"type": "object", "required": ["rel", "href"], "properties": {
            "rel": {"enum": ["next", "previous"]}, "href": text,
        }},
        "StatusReason": {"type": "object", "required": ["code", "message", "step", "heals"], "properties": {
            "code": text, "message": text, "step": text, "heals": {"type": "boolean"},
        }},
        "Statistics": {"type": "object", "required": ["stats"], "properties": {
            "stats": {"type": "object", "properties": counts},
        }},
        "AmphoraStatistics": {"type": "object", "required": ["amphora_stats"], "properties": {
            "amphora_stats": {"type": "array", "items": {"type": "object", "properties": counts}},
        }},
        "StatusTree": {"type": "object", "required": ["statuses"], "properties": {
            "statuses": {"type": "object", "required": ["loadbalancer"], "properties": {"loadbalancer": {"type": "object"}}},
        }},
        "Providers": {"type": "object", "required": ["providers"], "properties": {"providers": {
            "type": "array", "items": {"type": "object", "properties": {"name": text, "description": text}},
        }}},
        "FlavorCapabilities": capabilities("flavor_capabilities"),
        "AvailabilityZoneCapabilities": capabilities("availability_zone_capabilities"),
        "Versions": {"type": "object", "required": ["versions"], "properties": {"versions": {
            "type": "array", "items": {"type": "object", "required": ["id", "status", "updated", "links"]},
        }}},
        "Document": {"type": "object", "required": ["openapi", "paths"]},
    });
    match described {
        Value::Object(described) => described,
        _ => Map::new(),
    }
}

const LIST_PARAMETERS: &[&str] = &[
    "limit",
    "marker",
    "page_reverse",
    "sort",
    "sort_key",
    "sort_dir",
    "tags",
    "tags-any",
    "not-tags",
    "not-tags-any",
    "fields",
];
