//! The routes of the API, and what may stand behind a question mark.

use http::Method;
use proptest::{collection::vec, prelude::*, sample::select};

/// A path with the names in braces replaced.
pub(super) fn fill(path: &str, names: &[(&'static str, String)]) -> String {
    names.iter().fold(path.to_owned(), |path, (name, id)| {
        path.replace(&format!("{{{name}}}"), id)
    })
}

/// Parameters, some of which a list knows.
pub(super) fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![3 => select(PARAMETERS).prop_map(String::from), 1 => "[a-z_-]{1,9}"];
    let value = prop_oneof![
        2 => select(VALUES).prop_map(String::from),
        2 => "[a-zA-Z0-9:,._~%+-]{0,12}",
        1 => "[!$-;=?-~]{0,40}",
    ];
    let pair = (name, value).prop_map(|(name, value)| format!("{name}={value}"));
    vec(pair, 0..4).prop_map(|pairs| pairs.join("&"))
}

/// Those that take a body, in an order in which each can be had after those before it.
pub(super) const WITH_BODY: &[(Method, &str)] = &[
    (Method::POST, "/v2/lbaas/loadbalancers"),
    (Method::PUT, "/v2/lbaas/loadbalancers/{balancer}"),
    (Method::POST, "/v2.0/lbaas/listeners"),
    (Method::PUT, "/v2/lbaas/listeners/{listener}"),
    (Method::POST, "/load-balancer/v2/lbaas/pools"),
    (Method::PUT, "/v2/lbaas/pools/{pool}"),
    (Method::POST, "/v2/lbaas/pools/{pool}/members"),
    (Method::PUT, "/v2/lbaas/pools/{pool}/members"),
    (Method::PUT, "/v2/lbaas/pools/{pool}/members/{member}"),
    (Method::POST, "/v2/lbaas/healthmonitors"),
    (Method::PUT, "/v2/lbaas/healthmonitors/{monitor}"),
    (Method::POST, "/v2/lbaas/flavorprofiles"),
    (Method::PUT, "/v2/lbaas/flavorprofiles/{flavor_profile}"),
    (Method::POST, "/v2/lbaas/flavors"),
    (Method::PUT, "/v2/lbaas/flavors/{flavor}"),
    (Method::POST, "/v2/lbaas/availabilityzoneprofiles"),
    (
        Method::PUT,
        "/v2/lbaas/availabilityzoneprofiles/{zone_profile}",
    ),
    (Method::POST, "/v2/lbaas/availabilityzones"),
    (Method::PUT, "/v2/lbaas/availabilityzones/{zone}"),
];

/// All there are, and some that are not.
pub(super) const ALL: &[&str] = &[
    "/",
    "/healthcheck",
    "/v2",
    "/v2.0/octavia",
    "/v2/lbaas/loadbalancers",
    "/v2.0/loadbalancers",
    "/v2/lbaas/loadbalancers/{balancer}",
    "/v2/lbaas/loadbalancers/{balancer}/status",
    "/v2/lbaas/loadbalancers/{balancer}/stats",
    "/v2/lbaas/loadbalancers/{balancer}/failover",
    "/v2/lbaas/loadbalancers/{nobody}",
    "/v2/lbaas/loadbalancers/{nobody}/failover",
    "/v2/lbaas/loadbalancers/no-uuid",
    "/v2/lbaas/listeners",
    "/v2/lbaas/listeners/{listener}",
    "/v2/lbaas/listeners/{listener}/stats",
    "/v2/lbaas/listeners/{nobody}",
    "/v2/lbaas/listeners/%00",
    "/v2/lbaas/pools",
    "/v2/lbaas/pools/{pool}",
    "/v2/lbaas/pools/{nobody}",
    "/v2/lbaas/pools/{pool}/members",
    "/v2/lbaas/pools/{pool}/members/{member}",
    "/v2/lbaas/pools/{pool}/members/{nobody}",
    "/v2/lbaas/pools/{nobody}/members",
    "/v2/lbaas/pools/{nobody}/members/{member}",
    "/v2/lbaas/pools/x/members/y",
    "/v2/lbaas/healthmonitors",
    "/v2/lbaas/healthmonitors/{monitor}",
    "/v2/lbaas/healthmonitors/{nobody}",
    "/v2/lbaas/l7policies",
    "/v2/lbaas/l7policies/{nobody}",
    "/v2/lbaas/l7policies/{policy}",
    "/v2/lbaas/l7policies/{policy}/rules",
    "/v2/lbaas/l7policies/{policy}/rules/{rule}",
    "/v2/lbaas/l7policies/{policy}/rules/{nobody}",
    "/v2/lbaas/l7policies/{nobody}/rules",
    "/v2/lbaas/l7policies/{nobody}/rules/{rule}",
    "/v2/lbaas/quotas",
    "/v2/lbaas/quotas/{nobody}",
    "/v2/lbaas/quotas/{nobody}/default",
    "/v2/lbaas/flavors",
    "/v2/lbaas/flavors/{flavor}",
    "/v2/lbaas/flavors/{nobody}",
    "/v2/lbaas/flavorprofiles",
    "/v2/lbaas/flavorprofiles/{flavor_profile}",
    "/v2/lbaas/flavorprofiles/{nobody}",
    "/v2/lbaas/availabilityzones",
    "/v2/lbaas/availabilityzones/{zone}",
    "/v2/lbaas/availabilityzones/x",
    "/v2/lbaas/availabilityzones/%ff",
    "/v2/lbaas/availabilityzoneprofiles",
    "/v2/lbaas/availabilityzoneprofiles/{zone_profile}",
    "/v2/lbaas/availabilityzoneprofiles/{nobody}",
    "/v2/lbaas/providers",
    "/v2/lbaas/providers/amphora",
    "/v2/lbaas/providers/amphora/flavor_capabilities",
    "/v2/lbaas/providers/x/availability_zone_capabilities",
    "/v2/octavia/amphorae",
    "/v2/octavia/amphorae/{nobody}/failover",
    "/v2.0/networks",
    "/v2.0/networks/{nobody}",
    "/v2.0/subnets",
    "/v2.0/subnets/{nobody}",
    "/v2.0/ports",
    "/v2.0/ports/{nobody}",
    "/v2.0/qos/policies",
    "/v2.0/security-groups",
    "/v2.0/extensions",
    "/v2/lbaas",
    "/v2/lbaas/nothing",
    "/v3",
    "//",
    "/%ff/%c3%28",
];

const PARAMETERS: &[&str] = &[
    "limit",
    "marker",
    "sort",
    "page_reverse",
    "fields",
    "tags",
    "not-tags",
    "tags-any",
    "not-tags-any",
    "name",
    "id",
    "project_id",
    "admin_state_up",
    "protocol_port",
    "vip_address",
    "created_at",
    "provisioning_status",
    "cascade",
    "additive_only",
];
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "99999999999999999999",
    "true",
    "None",
    "name:desc",
    "created_at:asc,id",
    "00000000-0000-4000-8000-0000000003e8",
    "10.0.0.2",
    "%00",
    "%F0%9F%A6%80",
    "%ff",
    "%",
    "a,b,,c",
];
