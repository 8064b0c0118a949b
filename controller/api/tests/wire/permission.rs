//! What the API itself permits or refuses: whatever belongs to no project, and lists (reference 2.2, 2.4).

use krater_controller_core::query::{Persona, Query};
use serde_json::json;

use crate::{
    fake::Api,
    sample::{LOAD_BALANCER, POOL, PROJECT},
};

const REFUSED: &str = "Policy does not allow this request to be performed.";

#[tokio::test]
async fn providers_are_for_whoever_reads_and_their_capabilities_for_administrators() {
    let api = Api::new();
    let capabilities = "/v2/lbaas/providers/amphora/flavor_capabilities";
    for (persona, project, lists, administers) in [
        (Persona::Admin, None, true, true),
        (Persona::Operator, None, false, true),
        (Persona::GlobalObserver, None, true, false),
        (Persona::Member, Some(PROJECT), true, false),
        (Persona::Observer, Some(PROJECT), true, false),
        (Persona::Observer, None, false, false),
        (Persona::Writer, Some(PROJECT), false, false),
        (Persona::Service, Some(PROJECT), false, false),
    ] {
        api.be(persona, project);
        let reply = api.get("/v2/lbaas/providers").await;
        let status = if lists { 200 } else { 403 };
        assert_eq!(reply.status, status, "{persona:?}");
        let reply = api.get(capabilities).await;
        assert_eq!(reply.status != 403, administers, "{persona:?}");
    }
}

#[tokio::test]
async fn a_failover_is_for_administrators() {
    let api = Api::new();
    let path = format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}/failover");
    for persona in [Persona::Member, Persona::Observer, Persona::GlobalObserver] {
        api.be(persona, Some(PROJECT));
        api.put(&path, json!({})).await.assert_fault(403, REFUSED);
    }
    for persona in [Persona::Admin, Persona::Operator] {
        api.be(persona, None);
        assert_ne!(api.put(&path, json!({})).await.status, 403, "{persona:?}");
    }
}

#[tokio::test]
async fn lists_are_for_whoever_reads() {
    let api = Api::new();
    for kind in ["loadbalancers", "listeners", "pools", "healthmonitors"] {
        let path = format!("/v2/lbaas/{kind}");
        for persona in [
            Persona::Operator,
            Persona::Writer,
            Persona::QuotaAdmin,
            Persona::Service,
        ] {
            api.be(persona, Some(PROJECT));
            api.get(&path).await.assert_fault(403, REFUSED);
        }
        api.be(Persona::GlobalObserver, Some("elsewhere"));
        assert_eq!(api.get(&path).await.ids(kind).len(), 1);
        let none = api.get(&format!("{path}?project_id=elsewhere")).await;
        assert!(none.ids(kind).is_empty());
    }
}

#[tokio::test]
async fn the_list_of_members_is_asked_for_as_such() {
    let api = Api::new();
    let path = format!("/v2/lbaas/pools/{POOL}/members");
    assert_eq!(api.get(&path).await.status, 200);
    let asked = api.fake.queries.lock().unwrap().last().unwrap().clone();
    assert!(matches!(asked, Query::MembersOf(_)), "{asked:?}");
}
