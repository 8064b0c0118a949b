//! Everything that can be asked of the API, one entry each: the table behind the document and behind the test that
//! every answer it names is given.

use super::{
    balancing::{HEALTH_MONITOR, L7_POLICY, L7_RULE, LISTENER, LOAD_BALANCER, MEMBER, POOL},
    operating::{
        AMPHORA, AVAILABILITY_ZONE, AVAILABILITY_ZONE_PROFILE, FLAVOR, FLAVOR_PROFILE, QUOTA,
    },
    resource::Resource,
};

/// One thing that can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    /// The path, with names in braces where there are ids.
    pub path: &'static str,
    /// A word for it, unique.
    pub id: &'static str,
    /// What it does, one sentence.
    pub summary: &'static str,
    /// The body.
    pub sends: Sends,
    /// The status of success.
    pub success: u16,
    /// What success answers.
    pub answers: Answers,
    /// Query parameters beside those of lists.
    pub queries: &'static [Query],
    /// All other statuses that a fault of the client, or the state of things, may lead to.
    pub faults: &'static [u16],
}

/// The body of a request.
#[derive(Clone, Copy, Debug)]
pub enum Sends {
    /// None.
    Nothing,
    /// A new one.
    New(&'static Resource),
    /// Changes of one.
    Changes(&'static Resource),
    /// All members of a pool.
    Members,
}

/// The body of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Answers {
    /// None.
    Nothing,
    /// One of them.
    One(&'static Resource),
    /// Many of them.
    Many(&'static Resource),
    /// A document with the schema of that name.
    Document(&'static str),
    /// Text.
    Text,
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether it is a truth value; else a text.
    pub truth: bool,
}

const CASCADE: &[Query] = &[Query {
    name: "cascade",
    about: "Whether its children are deleted along with it.",
    truth: true,
}];
const ADDITIVE: &[Query] = &[Query {
    name: "additive_only",
    about: "Whether members that are not named stay.",
    truth: true,
}];

const LIST: &[u16] = &[400, 401, 403, 406, 503];
const LIST_BELOW: &[u16] = &[400, 401, 403, 404, 406, 503];
const SHOW: &[u16] = &[400, 401, 403, 404, 406, 503];
const CREATE: &[u16] = &[400, 401, 403, 404, 406, 409, 410, 413, 415, 422, 501, 503];
/// A creation that the data plane always carries.
const CREATE_CARRIED: &[u16] = &[400, 401, 403, 404, 406, 409, 410, 413, 415, 422, 503];
const UPDATE: &[u16] = &[400, 401, 403, 404, 406, 409, 412, 413, 415, 501, 503];
/// An update that the data plane always carries.
const UPDATE_CARRIED: &[u16] = &[400, 401, 403, 404, 406, 409, 412, 413, 415, 503];
/// A second deletion is no conflict.
const DELETE: &[u16] = &[400, 401, 403, 404, 406, 412, 503];
/// The deletion of what others may refer to.
const DELETE_UNUSED: &[u16] = &[400, 401, 403, 404, 406, 409, 412, 503];

/// The five operations of a kind of resource with a collection of its own.
macro_rules! collection {
    ($resource:ident, $path:literal, $id:literal, $one:literal, $many:literal, $a_one:literal;
     $list:expr, $create:expr, $update:expr, $delete:expr, $cascade:expr) => {
        [
            Operation {
                method: "GET",
                path: $path,
                id: concat!("list_", $many),
                summary: concat!("Lists ", $a_one, "s that the caller may see."),
                sends: Sends::Nothing,
                success: 200,
                answers: Answers::Many(&$resource),
                queries: &[],
                faults: $list,
            },
            Operation {
                method: "POST",
                path: $path,
                id: concat!("create_", $one),
                summary: concat!("Creates a ", $a_one, "."),
                sends: Sends::New(&$resource),
                success: 201,
                answers: Answers::One(&$resource),
                queries: &[],
                faults: $create,
            },
            Operation {
                method: "GET",
                path: concat!($path, "/{", $id, "}"),
                id: concat!("show_", $one),
                summary: concat!("Shows a ", $a_one, "."),
                sends: Sends::Nothing,
                success: 200,
                answers: Answers::One(&$resource),
                queries: &[],
                faults: SHOW,
            },
            Operation {
                method: "PUT",
                path: concat!($path, "/{", $id, "}"),
                id: concat!("update_", $one),
                summary: concat!("Changes a ", $a_one, "."),
                sends: Sends::Changes(&$resource),
                success: 200,
                answers: Answers::One(&$resource),
                queries: &[],
                faults: $update,
            },
            Operation {
                method: "DELETE",
                path: concat!($path, "/{", $id, "}"),
                id: concat!("delete_", $one),
                summary: concat!("Deletes a ", $a_one, "."),
                sends: Sends::Nothing,
                success: 204,
                answers: Answers::Nothing,
                queries: $cascade,
                faults: $delete,
            },
        ]
    };
}

/// The families of operations, in the order of the document.
const OPERATIONS: &[&[Operation]] = &[
    &DISCOVERY,
    &collection!(LOAD_BALANCER, "/v2/lbaas/loadbalancers", "loadbalancer_id", "loadbalancer", "loadbalancers", "load balancer"; LIST,
        CREATE, UPDATE_CARRIED, DELETE, CASCADE),
    &LOAD_BALANCER_MORE,
    &collection!(LISTENER, "/v2/lbaas/listeners", "listener_id", "listener", "listeners", "listener"; LIST,
        CREATE, UPDATE_CARRIED, DELETE, &[]),
    &LISTENER_MORE,
    &collection!(POOL, "/v2/lbaas/pools", "pool_id", "pool", "pools", "pool"; LIST, CREATE, UPDATE, DELETE_UNUSED, &[]),
    &collection!(MEMBER, "/v2/lbaas/pools/{pool_id}/members", "member_id", "member", "members", "pool's member"; LIST_BELOW,
        CREATE_CARRIED, UPDATE_CARRIED, DELETE, &[]),
    &MEMBER_MORE,
    &collection!(HEALTH_MONITOR, "/v2/lbaas/healthmonitors", "healthmonitor_id", "healthmonitor", "healthmonitors", "health monitor"; LIST,
        CREATE, UPDATE_CARRIED, DELETE, &[]),
    &collection!(L7_POLICY, "/v2/lbaas/l7policies", "l7policy_id", "l7policy", "l7policies", "forwarding policy"; LIST,
        CREATE_CARRIED, UPDATE_CARRIED, DELETE, &[]),
    &collection!(L7_RULE, "/v2/lbaas/l7policies/{l7policy_id}/rules", "rule_id", "l7rule", "l7rules", "policy's rule"; LIST_BELOW,
        CREATE, UPDATE, DELETE, &[]),
    &QUOTAS,
    &PROVIDERS,
    &collection!(FLAVOR, "/v2/lbaas/flavors", "flavor_id", "flavor", "flavors", "flavor"; LIST,
        &[400, 401, 403, 406, 409, 413, 415, 503], &[400, 401, 403, 404, 406, 409, 413, 415, 503],
        &[400, 401, 403, 404, 406, 409, 503], &[]),
    &collection!(FLAVOR_PROFILE, "/v2/lbaas/flavorprofiles", "flavorprofile_id", "flavorprofile", "flavorprofiles", "flavor profile"; LIST,
        &[400, 401, 403, 406, 413, 415, 501, 503], &[400, 401, 403, 404, 406, 409, 413, 415, 501, 503],
        &[400, 401, 403, 404, 406, 409, 503], &[]),
    &collection!(AVAILABILITY_ZONE, "/v2/lbaas/availabilityzones", "availability_zone_name", "availability_zone",
        "availability_zones", "availability zone"; LIST,
        &[400, 401, 403, 406, 409, 413, 415, 503], &[400, 401, 403, 404, 406, 413, 415, 503],
        &[400, 401, 403, 404, 406, 409, 503], &[]),
    &collection!(AVAILABILITY_ZONE_PROFILE, "/v2/lbaas/availabilityzoneprofiles", "availabilityzoneprofile_id",
        "availability_zone_profile", "availability_zone_profiles", "zone profile"; LIST,
        &[400, 401, 403, 406, 413, 415, 501, 503], &[400, 401, 403, 404, 406, 409, 413, 415, 501, 503],
        &[400, 401, 403, 404, 406, 409, 503], &[]),
    &AMPHORAE,
];

/// All operations.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().copied().flatten()
}

/// The methods that something has at this path, in the spelling of the document or any other (reference 1.1).
#[must_use]
pub fn methods(path: &str) -> Vec<&'static str> {
    let asked = segments(path);
    let unnamed = |known: &[&str]| known.iter().filter(|name| name.starts_with('{')).count();
    let matches = |operation: &'static Operation| {
        let known = segments(operation.path);
        let fits = known.len() == asked.len()
            && known
                .iter()
                .zip(&asked)
                .all(|(known, asked)| known.starts_with('{') || known == asked);
        fits.then(|| (unnamed(&known), operation.method))
    };
    let found: Vec<_> = all().filter_map(matches).collect();
    // A path that is spelled out is not one of those with a name in its place.
    let closest = found.iter().map(|(unnamed, _)| *unnamed).min();
    found
        .into_iter()
        .filter(|(unnamed, _)| Some(*unnamed) == closest)
        .map(|(_, method)| method)
        .collect()
}

/// A path in the one spelling that all others are compared in.
fn segments(path: &str) -> Vec<&str> {
    let mut segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty() && !matches!(*segment, "load-balancer" | "lbaas"))
        .collect();
    if let Some(last) = segments.last_mut() {
        *last = last.strip_suffix(".json").unwrap_or(last);
    }
    for segment in &mut segments {
        *segment = match *segment {
            "v2.0" => "v2",
            "statuses" => "status",
            other => other,
        };
    }
    segments
}

/// An operation without a body that answers a document.
const fn get(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answers: Answers,
    faults: &'static [u16],
) -> Operation {
    Operation {
        method: "GET",
        path,
        id,
        summary,
        sends: Sends::Nothing,
        success: 200,
        answers,
        queries: &[],
        faults,
    }
}

/// An operation that has something done and answers at once.
const fn act(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    faults: &'static [u16],
) -> Operation {
    Operation {
        method: "PUT",
        path,
        id,
        summary,
        sends: Sends::Nothing,
        success: 202,
        answers: Answers::Nothing,
        queries: &[],
        faults,
    }
}

const DISCOVERY: [Operation; 3] = [
    get(
        "/",
        "versions",
        "Lists the versions of the API; anybody may ask.",
        Answers::Document("Versions"),
        &[406],
    ),
    get(
        "/openapi.json",
        "openapi",
        "Answers this document; anybody may ask.",
        Answers::Document("Document"),
        &[406],
    ),
    get(
        "/healthcheck",
        "healthcheck",
        "Says whether the API works; 404 unless it is switched on.",
        Answers::Text,
        &[404, 503],
    ),
];

const LOAD_BALANCER_MORE: [Operation; 3] = [
    get(
        "/v2/lbaas/loadbalancers/{loadbalancer_id}/status",
        "show_loadbalancer_status",
        "Shows the statuses of a load balancer and all below it.",
        Answers::Document("StatusTree"),
        &[401, 403, 404, 406, 503],
    ),
    get(
        "/v2/lbaas/loadbalancers/{loadbalancer_id}/stats",
        "show_loadbalancer_statistics",
        "Shows what a load balancer did since it was created.",
        Answers::Document("Statistics"),
        &[401, 403, 404, 406, 503],
    ),
    act(
        "/v2/lbaas/loadbalancers/{loadbalancer_id}/failover",
        "fail_over_loadbalancer",
        "Moves a load balancer to another amphora.",
        &[400, 401, 403, 404, 406, 409, 503],
    ),
];

const LISTENER_MORE: [Operation; 1] = [get(
    "/v2/lbaas/listeners/{listener_id}/stats",
    "show_listener_statistics",
    "Shows what a listener did since it was created.",
    Answers::Document("Statistics"),
    &[401, 403, 404, 406, 503],
)];

const MEMBER_MORE: [Operation; 1] = [Operation {
    method: "PUT",
    path: "/v2/lbaas/pools/{pool_id}/members",
    id: "replace_members",
    summary: "Creates, changes and deletes members so that a pool has those named.",
    sends: Sends::Members,
    success: 202,
    answers: Answers::Nothing,
    queries: ADDITIVE,
    faults: &[400, 401, 403, 404, 406, 409, 413, 415, 503],
}];

const QUOTAS: [Operation; 6] = [
    get(
        "/v2/lbaas/quotas",
        "list_quotas",
        "Lists the quotas of projects that have some of their own.",
        Answers::Many(&QUOTA),
        LIST,
    ),
    get(
        "/v2/lbaas/quotas/defaults",
        "show_default_quotas",
        "Shows the quotas of projects that have none of their own.",
        Answers::One(&QUOTA),
        &[401, 403, 406, 503],
    ),
    get(
        "/v2/lbaas/quotas/{project_id}",
        "show_quota",
        "Shows the quotas of a project.",
        Answers::One(&QUOTA),
        &[401, 403, 404, 406, 503],
    ),
    get(
        "/v2/lbaas/quotas/{project_id}/default",
        "show_default_quota",
        "Shows the quotas a project has when it has none of its own.",
        Answers::One(&QUOTA),
        &[401, 403, 404, 406, 503],
    ),
    Operation {
        method: "PUT",
        path: "/v2/lbaas/quotas/{project_id}",
        id: "update_quota",
        summary: "Gives a project quotas of its own.",
        sends: Sends::Changes(&QUOTA),
        success: 202,
        answers: Answers::One(&QUOTA),
        queries: &[],
        faults: &[400, 401, 403, 404, 406, 413, 415, 503],
    },
    Operation {
        method: "DELETE",
        path: "/v2/lbaas/quotas/{project_id}",
        id: "delete_quota",
        summary: "Gives a project the default quotas again.",
        sends: Sends::Nothing,
        success: 202,
        answers: Answers::Nothing,
        queries: &[],
        faults: &[400, 401, 403, 404, 406, 503],
    },
];

const PROVIDERS: [Operation; 3] = [
    get(
        "/v2/lbaas/providers",
        "list_providers",
        "Lists the providers.",
        Answers::Document("Providers"),
        LIST,
    ),
    get(
        "/v2/lbaas/providers/{provider_name}/flavor_capabilities",
        "list_flavor_capabilities",
        "Lists what a flavor may ask of a provider.",
        Answers::Document("FlavorCapabilities"),
        LIST,
    ),
    get(
        "/v2/lbaas/providers/{provider_name}/availability_zone_capabilities",
        "list_availability_zone_capabilities",
        "Lists what an availability zone may ask of a provider.",
        Answers::Document("AvailabilityZoneCapabilities"),
        LIST,
    ),
];

const AMPHORAE: [Operation; 6] = [
    get(
        "/v2/octavia/amphorae",
        "list_amphorae",
        "Lists amphorae.",
        Answers::Many(&AMPHORA),
        LIST,
    ),
    get(
        "/v2/octavia/amphorae/{amphora_id}",
        "show_amphora",
        "Shows an amphora.",
        Answers::One(&AMPHORA),
        SHOW,
    ),
    get(
        "/v2/octavia/amphorae/{amphora_id}/stats",
        "show_amphora_statistics",
        "Shows what an amphora did, listener by listener.",
        Answers::Document("AmphoraStatistics"),
        LIST_BELOW,
    ),
    act(
        "/v2/octavia/amphorae/{amphora_id}/config",
        "configure_amphora",
        "Sends an amphora its configuration again.",
        &[400, 401, 403, 404, 406, 409, 503],
    ),
    act(
        "/v2/octavia/amphorae/{amphora_id}/failover",
        "fail_over_amphora",
        "Moves all that an amphora carries elsewhere and ends it.",
        &[400, 401, 403, 404, 406, 409, 503],
    ),
    Operation {
        method: "DELETE",
        path: "/v2/octavia/amphorae/{amphora_id}",
        id: "delete_amphora",
        summary: "Ends an amphora that carries nothing or is in ERROR.",
        sends: Sends::Nothing,
        success: 204,
        answers: Answers::Nothing,
        queries: &[],
        faults: &[400, 401, 403, 404, 406, 409, 503],
    },
];
