//! Paths and what they name (reference 1.1).

use core::fmt;

use krater_controller_core::model::Family;

use crate::networks::Lookup;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// `/`
    Versions,
    /// `/healthcheck`
    Healthcheck,
    /// `/openapi.json`
    Document,
    /// `/v2` and what is no collection below it.
    Version,
    /// All resources of a kind.
    Collection(Kind),
    /// One of them.
    Item(Kind, &'a str),
    /// `/loadbalancers/{id}/status`
    Status(&'a str),
    /// `/loadbalancers/{id}/failover`
    Failover(&'a str),
    /// `/loadbalancers/{id}/stats` and `/listeners/{id}/stats`
    Statistics(Kind, &'a str),
    /// `/pools/{id}/members`
    Members(&'a str),
    /// `/pools/{id}/members/{id}`
    Member(&'a str, &'a str),
    /// `/l7policies/{id}/rules`
    Rules(&'a str),
    /// `/l7policies/{id}/rules/{id}`
    Rule(&'a str, &'a str),
    /// `/quotas`
    Quotas,
    /// `/quotas/{project}`
    Quota(&'a str),
    /// `/quotas/{project}/default`, and `/quotas/defaults` without a project
    QuotaDefaults(Option<&'a str>),
    /// `/providers`
    Providers,
    /// `/providers/{name}`
    Provider,
    /// `/providers/{name}/flavor_capabilities` and that of availability zones
    /// `/octavia/amphorae`
    Amphorae,
    /// `/octavia/amphorae/{id}`
    Amphora(&'a str),
    /// `/octavia/amphorae/{id}/stats`
    AmphoraStatistics(&'a str),
    /// `/octavia/amphorae/{id}/failover` and `/octavia/amphorae/{id}/config`
    AmphoraAct(&'a str, Act),
    Capabilities(&'a str, Family),
    /// All profiles of a family, or all flavors or zones.
    Shelf(Shelf),
    /// One of them.
    Shelved(Shelf, &'a str),
    /// Networks, subnets or ports.
    Lookups(Lookup),
    /// One of them.
    Lookup(Lookup, &'a str),
    /// A collection of the network service in which there is nothing.
    Nothing(&'static str),
    /// One of them, which there is not: what it is called, and its id.
    Nowhere(&'static str, &'a str),
}

/// What can be done with one amphora beside deleting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// `failover`
    FailOver,
    /// `config`
    Configure,
}

/// The kinds of resources with a collection of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Load balancers.
    LoadBalancer,
    /// Listeners.
    Listener,
    /// Pools.
    Pool,
    /// Health monitors.
    HealthMonitor,
    /// L7 policies.
    L7Policy,
}

/// The collections of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// Profiles of a family.
    Profiles(Family),
    /// Flavors or zones.
    Offers(Family),
}

/// A path, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// The prefix under which the whole API is also served.
    pub(crate) prefix: &'static str,
    /// What it names.
    pub(crate) place: Place<'a>,
}

impl<'a> Path<'a> {
    /// Takes a path apart; `None` when it names nothing.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let mut segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if segments.last() == Some(&"") {
            segments.pop();
        }
        if segments.iter().any(|segment| segment.is_empty()) {
            return None;
        }
        let (prefix, segments) = match segments.as_mut_slice() {
            [PREFIX, rest @ ..] => ("/load-balancer", rest),
            rest => ("", rest),
        };
        if let Some(last) = segments.last_mut() {
            *last = last.strip_suffix(".json").unwrap_or(last);
        }
        let place = match &*segments {
            [] => Place::Versions,
            ["healthcheck"] => Place::Healthcheck,
            ["openapi"] => Place::Document,
            ["v2" | "v2.0", "lbaas", rest @ ..] => place(rest)?,
            ["v2" | "v2.0", rest @ ..] => place(rest).or_else(|| place_beside(rest))?,
            _ => return None,
        };
        Some(Self { prefix, place })
    }
}

impl Path<'_> {
    /// The shortest spelling of a path: what all spellings of it have in common.
    pub(crate) fn shortest(path: &str) -> String {
        let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for optional in [&[PREFIX][..], &["v2", "v2.0"], &["lbaas"]] {
            if segments
                .first()
                .is_some_and(|first| optional.contains(first))
            {
                segments.remove(0);
            }
        }
        if let Some(last) = segments.last_mut() {
            *last = last.strip_suffix(".json").unwrap_or(last);
        }
        segments.join("/")
    }
}

/// What is served both with and without `lbaas`.
fn place<'a>(segments: &[&'a str]) -> Option<Place<'a>> {
    Some(match segments {
        [] => Place::Version,
        ["loadbalancers"] => Place::Collection(Kind::LoadBalancer),
        ["loadbalancers", id] => Place::Item(Kind::LoadBalancer, id),
        ["loadbalancers", id, "status" | "statuses"] => Place::Status(id),
        ["loadbalancers", id, "stats"] => Place::Statistics(Kind::LoadBalancer, id),
        ["loadbalancers", id, "failover"] => Place::Failover(id),
        ["listeners"] => Place::Collection(Kind::Listener),
        ["listeners", id] => Place::Item(Kind::Listener, id),
        ["listeners", id, "stats"] => Place::Statistics(Kind::Listener, id),
        ["pools"] => Place::Collection(Kind::Pool),
        ["pools", id] => Place::Item(Kind::Pool, id),
        ["pools", id, "members"] => Place::Members(id),
        ["pools", id, "members", member] => Place::Member(id, member),
        ["healthmonitors"] => Place::Collection(Kind::HealthMonitor),
        ["healthmonitors", id] => Place::Item(Kind::HealthMonitor, id),
        ["l7policies"] => Place::Collection(Kind::L7Policy),
        ["l7policies", id] => Place::Item(Kind::L7Policy, id),
        ["l7policies", id, "rules"] => Place::Rules(id),
        ["l7policies", id, "rules", rule] => Place::Rule(id, rule),
        ["providers"] => Place::Providers,
        ["providers", _] => Place::Provider,
        ["quotas"] => Place::Quotas,
        ["quotas", "defaults"] => Place::QuotaDefaults(None),
        ["quotas", project] => Place::Quota(project),
        ["quotas", project, "default"] => Place::QuotaDefaults(Some(project)),
        ["providers", name, "flavor_capabilities"] => Place::Capabilities(name, Family::Flavor),
        ["providers", name, "availability_zone_capabilities"] => {
            Place::Capabilities(name, Family::Zone)
        }
        ["flavors"] => Place::Shelf(Shelf::Offers(Family::Flavor)),
        ["flavors", id] => Place::Shelved(Shelf::Offers(Family::Flavor), id),
        ["flavorprofiles"] => Place::Shelf(Shelf::Profiles(Family::Flavor)),
        ["flavorprofiles", id] => Place::Shelved(Shelf::Profiles(Family::Flavor), id),
        ["availabilityzones"] => Place::Shelf(Shelf::Offers(Family::Zone)),
        ["availabilityzones", name] => Place::Shelved(Shelf::Offers(Family::Zone), name),
        ["availabilityzoneprofiles"] => Place::Shelf(Shelf::Profiles(Family::Zone)),
        ["availabilityzoneprofiles", id] => Place::Shelved(Shelf::Profiles(Family::Zone), id),
        _ => return None,
    })
}

/// What is served without `lbaas` only.
fn place_beside<'a>(segments: &[&'a str]) -> Option<Place<'a>> {
    Some(match segments {
        ["octavia"] => Place::Version,
        ["octavia", "amphorae"] => Place::Amphorae,
        ["octavia", "amphorae", id] => Place::Amphora(id),
        ["octavia", "amphorae", id, "stats"] => Place::AmphoraStatistics(id),
        ["octavia", "amphorae", id, "failover"] => Place::AmphoraAct(id, Act::FailOver),
        ["octavia", "amphorae", id, "config"] => Place::AmphoraAct(id, Act::Configure),
        ["networks"] => Place::Lookups(Lookup::Networks),
        ["networks", id] => Place::Lookup(Lookup::Networks, id),
        ["subnets"] => Place::Lookups(Lookup::Subnets),
        ["subnets", id] => Place::Lookup(Lookup::Subnets, id),
        ["ports"] => Place::Lookups(Lookup::Ports),
        ["ports", id] => Place::Lookup(Lookup::Ports, id),
        ["qos", "policies"] => Place::Nothing("policies"),
        ["qos", "policies", id] => Place::Nowhere("QoS policy", id),
        ["security-groups"] => Place::Nothing("security_groups"),
        ["security-groups", id] => Place::Nowhere("Security group", id),
        ["extensions"] => Place::Nothing("extensions"),
        ["extensions", alias] => Place::Nowhere("Extension", alias),
        _ => return None,
    })
}

impl Place<'_> {
    /// The place as a label: of a closed set, whatever the path.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Versions => "versions",
            Self::Healthcheck => "healthcheck",
            Self::Document => "openapi",
            Self::Version => "version",
            Self::Collection(Kind::LoadBalancer) => "loadbalancers",
            Self::Collection(Kind::Listener) => "listeners",
            Self::Collection(Kind::Pool) => "pools",
            Self::Collection(Kind::HealthMonitor) => "healthmonitors",
            Self::Collection(Kind::L7Policy) => "l7policies",
            Self::Item(Kind::LoadBalancer, _) => "loadbalancers/{id}",
            Self::Item(Kind::Listener, _) => "listeners/{id}",
            Self::Item(Kind::Pool, _) => "pools/{id}",
            Self::Item(Kind::HealthMonitor, _) => "healthmonitors/{id}",
            Self::Item(Kind::L7Policy, _) => "l7policies/{id}",
            Self::Status(_) => "loadbalancers/{id}/status",
            Self::Failover(_) => "loadbalancers/{id}/failover",
            Self::Statistics(Kind::Listener, _) => "listeners/{id}/stats",
            Self::Statistics(..) => "loadbalancers/{id}/stats",
            Self::Members(_) => "pools/{id}/members",
            Self::Member(..) => "pools/{id}/members/{id}",
            Self::Rules(_) => "l7policies/{id}/rules",
            Self::Rule(..) => "l7policies/{id}/rules/{id}",
            Self::Quotas => "quotas",
            Self::Quota(_) => "quotas/{project}",
            Self::QuotaDefaults(_) => "quotas/{project}/default",
            Self::Providers => "providers",
            Self::Provider => "providers/{name}",
            Self::Amphorae => "amphorae",
            Self::Amphora(_) => "amphorae/{id}",
            Self::AmphoraStatistics(_) => "amphorae/{id}/stats",
            Self::AmphoraAct(_, Act::Configure) => "amphorae/{id}/config",
            Self::AmphoraAct(_, Act::FailOver) => "amphorae/{id}/failover",
            Self::Capabilities(..) => "providers/{name}/capabilities",
            Self::Shelf(Shelf::Offers(Family::Flavor)) => "flavors",
            Self::Shelf(Shelf::Offers(Family::Zone)) => "availabilityzones",
            Self::Shelf(Shelf::Profiles(Family::Flavor)) => "flavorprofiles",
            Self::Shelf(Shelf::Profiles(Family::Zone)) => "availabilityzoneprofiles",
            Self::Shelved(Shelf::Offers(Family::Flavor), _) => "flavors/{id}",
            Self::Shelved(Shelf::Offers(Family::Zone), _) => "availabilityzones/{name}",
            Self::Shelved(Shelf::Profiles(Family::Flavor), _) => "flavorprofiles/{id}",
            Self::Shelved(Shelf::Profiles(Family::Zone), _) => "availabilityzoneprofiles/{id}",
            Self::Lookups(_) | Self::Lookup(..) | Self::Nothing(_) | Self::Nowhere(..) => "network",
        }
    }
}

impl fmt::Display for Kind {
    /// What one is called in "… not found" (reference 1.6).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoadBalancer => "Load Balancer",
            Self::Listener => "Listener",
            Self::Pool => "Pool",
            Self::HealthMonitor => "Health Monitor",
            Self::L7Policy => "L7 Policy",
        })
    }
}

/// A part of a path as it was before it was encoded; `None` when it is no text, or none that anything can be called.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    // In forms a plus is a space; in paths it is itself.
    let form = format!("={}", text.replace('+', "%2B").replace('&', "%26"));
    let decoded = form_urlencoded::parse(form.as_bytes()).next()?.1;
    (!decoded.contains([char::REPLACEMENT_CHARACTER, '\0'])).then(|| decoded.into_owned())
}

const PREFIX: &str = "load-balancer";
