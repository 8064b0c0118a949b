//! Every refusal of the domain, as clients see it.

use krater_amphora_api::{ListenerId, LoadBalancerId, MemberId, PoolId};
use krater_controller_core::{
    model::{Family, HealthMonitorId, L7PolicyId, L7RuleId, ListenerProtocol, PoolProtocol},
    query::ResourceId,
    refusal::Refusal,
};
use serde_json::json;

use crate::{
    fake::Api,
    sample::{LISTENER, LOAD_BALANCER, MEMBER_1, MONITOR, POLICY, POOL, RULE, id, uuid},
};

/// What is not there.
fn absences() -> Vec<(Refusal, u16, String)> {
    let load_balancer = LoadBalancerId::new(id(LOAD_BALANCER));
    let not_found = |id, name: &str, text: &str| {
        (
            Refusal::NotFound(id),
            404,
            format!("{name} {text} not found."),
        )
    };
    vec![
        not_found(
            ResourceId::LoadBalancer(load_balancer),
            "Load Balancer",
            LOAD_BALANCER,
        ),
        not_found(
            ResourceId::Listener(ListenerId::new(id(LISTENER))),
            "Listener",
            LISTENER,
        ),
        not_found(ResourceId::Pool(PoolId::new(id(POOL))), "Pool", POOL),
        not_found(
            ResourceId::Member(MemberId::new(id(MEMBER_1))),
            "Member",
            MEMBER_1,
        ),
        not_found(
            ResourceId::HealthMonitor(HealthMonitorId::new(id(MONITOR))),
            "Health Monitor",
            MONITOR,
        ),
        not_found(
            ResourceId::L7Policy(L7PolicyId::new(id(POLICY))),
            "L7 Policy",
            POLICY,
        ),
        not_found(ResourceId::L7Rule(L7RuleId::new(id(RULE))), "L7 Rule", RULE),
    ]
}

/// Those of 400, and 403 of policy.
fn refusals() -> Vec<(Refusal, u16, String)> {
    let load_balancer = LoadBalancerId::new(id(LOAD_BALANCER));
    vec![
        (
            Refusal::NotPermitted,
            403,
            "Policy does not allow this request to be performed.".into(),
        ),
        (
            Refusal::MissingProject,
            400,
            "Validation failure: Missing project ID in request where one is required.".into(),
        ),
        (
            Refusal::Invalid("no".into()),
            400,
            "Validation failure: no".into(),
        ),
        (
            Refusal::InvalidOption {
                value: "http_method".into(),
                field: "health monitors of type TCP".into(),
            },
            400,
            "http_method is not a valid option for health monitors of type TCP".into(),
        ),
        (
            Refusal::UnknownNetworkResource {
                kind: "Subnet",
                id: "x".into(),
            },
            400,
            "Subnet x not found.".into(),
        ),
        (
            Refusal::UnknownProvider("zz".into()),
            400,
            "Provider 'zz' is not enabled.".into(),
        ),
        (
            Refusal::ProtocolMismatch {
                listener: ListenerProtocol::Http,
                pool: PoolProtocol::Tcp,
            },
            400,
            "The pool protocol 'TCP' is invalid while the listener protocol is 'HTTP'.".into(),
        ),
        (
            Refusal::HasChildren(load_balancer),
            400,
            format!(
                "Validation failure: Cannot delete Load Balancer {LOAD_BALANCER} - it has children"
            ),
        ),
        (
            Refusal::MemberTwice,
            400,
            "Member must be updated only once in the same request.".into(),
        ),
    ]
}

/// Those of 400 about L7 policies and rules.
fn refusals_of_secrets() -> Vec<(Refusal, u16, String)> {
    vec![
        (
            Refusal::CertificateNotRetrieved(vec!["web".into()]),
            400,
            "Could not retrieve certificate: web".into(),
        ),
        (
            Refusal::CertificateNotRetrieved(vec!["web".into(), "sni".into()]),
            400,
            "Could not retrieve certificate: ['web', 'sni']".into(),
        ),
        (
            Refusal::UnreadableBundle("no".into()),
            400,
            "The PKCS12 bundle is unreadable. Please check the PKCS12 bundle validity. In addition, make sure it does not \
             require a pass phrase. Error: no"
                .into(),
        ),
    ]
}

fn l7_refusals() -> Vec<(Refusal, u16, String)> {
    vec![
        (
            Refusal::InvalidL7Policy("Invalid update options".into()),
            400,
            "Invalid L7 Policy arguments: Invalid update options".into(),
        ),
        (
            Refusal::UnknownL7Action("None".into()),
            400,
            "Invalid L7 Policy action specified: None".into(),
        ),
        (
            Refusal::InvalidL7Rule("Invalid characters in key".into()),
            400,
            "Error parsing L7Rule: Invalid characters in key".into(),
        ),
    ]
}

/// Those of 409, and the rest.
fn further_refusals() -> Vec<(Refusal, u16, String)> {
    let load_balancer = LoadBalancerId::new(id(LOAD_BALANCER));
    let address = "10.1.0.11".parse().unwrap();
    vec![
        (
            Refusal::BeingDeleted(ResourceId::LoadBalancer(load_balancer)),
            409,
            format!("Load Balancer {LOAD_BALANCER} is immutable and cannot be updated."),
        ),
        (
            Refusal::DuplicatePort { protocol: ListenerProtocol::Http, port: 80 },
            409,
            "Another Listener on this Load Balancer is already using protocol HTTP and protocol_port 80".into(),
        ),
        (
            Refusal::DuplicateMember { address, port: 80 },
            409,
            "Another member on this pool is already using ip 10.1.0.11 on protocol_port 80".into(),
        ),
        (
            Refusal::BeingDeleted(ResourceId::L7Policy(L7PolicyId::new(id(POLICY)))),
            409,
            format!("L7Policy {POLICY} is immutable and cannot be updated."),
        ),
        (
            Refusal::PoolInUse { pool: PoolId::new(id(POOL)), policy: L7PolicyId::new(id(POLICY)) },
            409,
            format!("Pool {POOL} is in use by L7 policy {POLICY}"),
        ),
        (Refusal::TooManyRules("many".into()), 409, "Too many rules on L7 policy many".into()),
        (Refusal::AlreadyMonitored(PoolId::new(uuid(1))), 409, "This pool already has a health monitor".into()),
        (Refusal::AlreadyHasPool(ListenerId::new(uuid(1))), 409, "This listener already has a default pool".into()),
        (
            Refusal::AddressInUse { address, reason: "by another".into() },
            409,
            "The VIP IP address is already in use: 10.1.0.11: by another".into(),
        ),
        (Refusal::NoQuotaRecord(krater_controller_core::model::ProjectId::parse("p1").unwrap()), 404,
            "Quotas p1 not found.".into()),
        (
            Refusal::Disallowed {
                kind: "protocol",
                name: "PROMETHEUS".into(),
            },
            400,
            "The selected protocol is not allowed in this deployment: PROMETHEUS".into(),
        ),
        (
            Refusal::ChildOfPrometheus,
            400,
            "Protocol PROMETHEUS listeners cannot have child objects.".into(),
        ),
        (Refusal::QuotaMet("Listener"), 403, "Quota has been met for resources: Listener".into()),
        (
            Refusal::NotSupported("moons.".into()),
            501,
            "Provider 'amphora' does not support a requested option: moons.".into(),
        ),
        (Refusal::Unavailable("the disk is full".into()), 503, "the disk is full".into()),
        (
            Refusal::Defect("secret".into()),
            500,
            "Something unknown went wrong; the controller's log says what, under this answer's request id.".into(),
        ),
        (
            Refusal::UnknownLookup { kind: "Subnet", id: id(POOL) },
            404,
            format!("Subnet {POOL} not found."),
        ),
    ]
}

/// Those about flavors and zones.
fn refusals_of_the_catalogue() -> Vec<(Refusal, u16, String)> {
    vec![
        (
            Refusal::Disallowed {
                kind: "availability_zone",
                name: "rack-a".into(),
            },
            400,
            "The selected availability_zone is not allowed in this deployment: rack-a".into(),
        ),
        (
            Refusal::FlavorOfAnotherProvider {
                flavor: id(POOL),
                provider: "octavia".into(),
            },
            400,
            format!("Flavor '{POOL}' is not compatible with provider 'octavia'"),
        ),
        (
            Refusal::OfferNameTaken {
                family: Family::Flavor,
                name: "gold".into(),
            },
            409,
            "A flavor of gold already exists.".into(),
        ),
        (
            Refusal::OfferNameTaken {
                family: Family::Zone,
                name: "rack-a".into(),
            },
            409,
            "A availability zone of rack-a already exists.".into(),
        ),
        (
            Refusal::CatalogueInUse {
                kind: "Availability Zone",
                key: "rack-a".into(),
            },
            409,
            "Availability Zone rack-a is in use and cannot be modified.".into(),
        ),
        (
            Refusal::NotInCatalogue {
                kind: "Availability Zone",
                key: "rack-a".into(),
            },
            404,
            "Availability Zone rack-a not found.".into(),
        ),
    ]
}

fn every_refusal() -> impl Iterator<Item = (Refusal, u16, String)> {
    absences()
        .into_iter()
        .chain(refusals())
        .chain(l7_refusals())
        .chain(refusals_of_secrets())
        .chain(refusals_of_the_catalogue())
        .chain(further_refusals())
}

#[tokio::test]
async fn every_refusal_of_a_command_has_its_status_and_sentence() {
    let api = Api::new();
    for (refusal, status, sentence) in every_refusal() {
        api.refuse(refusal.clone());
        let reply = api
            .delete(&format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}"))
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.fault()),
            (status, sentence),
            "{refusal:?}"
        );
    }
}

#[tokio::test]
async fn every_refusal_of_a_query_has_its_status_and_sentence() {
    let api = Api::new();
    for (refusal, status, sentence) in every_refusal() {
        api.refuse(refusal.clone());
        let reply = api
            .get(&format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}"))
            .await;
        assert_eq!(
            (reply.status.as_u16(), reply.fault()),
            (status, sentence),
            "{refusal:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_parent_pool_is_404_in_form_b() {
    let api = Api::new();
    let description = format!("Pool {POOL} not found.");
    api.refuse(Refusal::ParentPoolNotFound(PoolId::new(id(POOL))));
    let body = json!({"member": {"weight": 1}});
    let reply = api
        .put(&format!("/v2/lbaas/pools/{POOL}/members/{MEMBER_1}"), body)
        .await;
    reply.assert_routing_fault(404, "Bad Request", &description);
    // A pool that is not found where it is the parent says the same.
    for path in ["members".to_owned(), format!("members/{MEMBER_1}")] {
        api.refuse(Refusal::NotFound(ResourceId::Pool(PoolId::new(id(POOL)))));
        let reply = api.get(&format!("/v2/lbaas/pools/{POOL}/{path}")).await;
        reply.assert_routing_fault(404, "Bad Request", &description);
    }
}

#[tokio::test]
async fn a_missing_parent_policy_is_404_in_form_b() {
    let api = Api::new();
    let policy = L7PolicyId::new(id(POLICY));
    let description = format!("L7Policy {POLICY} not found.");
    let path = format!("/v2/lbaas/l7policies/{POLICY}/rules");
    api.refuse(Refusal::ParentPolicyNotFound(policy));
    let reply = api.delete(&format!("{path}/{RULE}")).await;
    reply.assert_routing_fault(404, "Bad Request", &description);
    for path in [path.clone(), format!("{path}/{RULE}")] {
        api.refuse(Refusal::NotFound(ResourceId::L7Policy(policy)));
        let reply = api.get(&path).await;
        reply.assert_routing_fault(404, "Bad Request", &description);
    }
}

#[tokio::test]
async fn ids_that_cannot_be_are_not_found() {
    let api = Api::new();
    let without_dashes = LOAD_BALANCER.replace('-', "");
    for (collection, name) in [
        ("loadbalancers", "Load Balancer"),
        ("listeners", "Listener"),
        ("pools", "Pool"),
        ("healthmonitors", "Health Monitor"),
        ("l7policies", "L7 Policy"),
    ] {
        for text in ["not-a-uuid", &without_dashes] {
            let path = format!("/v2/lbaas/{collection}/{text}");
            let sentence = format!("{name} {text} not found.");
            api.get(&path).await.assert_fault(404, &sentence);
            api.delete(&path).await.assert_fault(404, &sentence);
            api.put(&path, json!({"x": {}}))
                .await
                .assert_fault(404, &sentence);
        }
    }
    for (path, sentence) in [
        ("loadbalancers/x/status", "Load Balancer x not found."),
        ("loadbalancers/x/stats", "Load Balancer x not found."),
        ("listeners/x/stats", "Listener x not found."),
    ] {
        api.get(&format!("/v2/lbaas/{path}"))
            .await
            .assert_fault(404, sentence);
    }
    let path = "/v2/lbaas/pools/x/members";
    api.get(path)
        .await
        .assert_routing_fault(404, "Bad Request", "Pool x not found.");
    api.put(path, json!({"members": []}))
        .await
        .assert_routing_fault(404, "Bad Request", "Pool x not found.");
    let path = format!("/v2/lbaas/pools/{POOL}/members/x");
    api.get(&path)
        .await
        .assert_fault(404, "Member x not found.");
    api.delete(&path)
        .await
        .assert_fault(404, "Member x not found.");
    assert_eq!(api.command_count(), 0);
}
