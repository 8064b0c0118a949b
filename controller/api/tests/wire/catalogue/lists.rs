//! Lists of the catalogue, and of what providers can do with it.

use krater_controller_core::query::Persona;
use serde_json::{Value, json};

use super::BOTH;
use crate::{fake::Api, sample::PROJECT};

#[tokio::test]
async fn shelves_are_listed_by_the_rules_of_all_lists() {
    for words in BOTH {
        let api = Api::new();
        let profile = words.make_profile(&api).await;
        for name in ["b", "a", "c"] {
            assert_eq!(words.make_offer(&api, name, &profile).await.status, 201);
        }
        let list = async |query: &str| {
            let reply = api.get(&format!("{}?{query}", words.offers)).await;
            assert_eq!(reply.status, 200, "{query}: {reply:?}");
            let body = reply.json();
            let objects = body[words.offer_list].as_array().unwrap().clone();
            let names = objects.iter().map(|object| object["name"].clone());
            let links = &body[format!("{}_links", words.offer_list)];
            (Value::Array(names.collect()), links.clone())
        };
        assert_eq!(list("").await, (json!(["b", "a", "c"]), json!([])));
        assert_eq!(list("sort=name:desc").await.0, json!(["c", "b", "a"]));
        assert_eq!(list("sort_key=name").await.0, json!(["a", "b", "c"]));
        assert_eq!(list("name=a&enabled=true").await.0, json!(["a"]));
        assert_eq!(list("enabled=False").await.0, json!([]));
        assert_eq!(
            list(&format!("{}={profile}", words.profile_id)).await.0,
            json!(["b", "a", "c"])
        );
        let (names, links) = list("limit=2&sort=name").await;
        assert_eq!(names, json!(["a", "b"]));
        let next = links[0]["href"].as_str().unwrap();
        assert_eq!(
            (links.as_array().unwrap().len(), &links[0]["rel"]),
            (1, &json!("next"))
        );
        let page = api
            .get(next.trim_start_matches("http://lb.example.test:9876"))
            .await;
        assert_eq!(page.json()[words.offer_list][0]["name"], "c");
        let previous = &page.json()[format!("{}_links", words.offer_list)][0];
        assert_eq!(previous["rel"], "previous");
        let previous = previous["href"].as_str().unwrap();
        let back = api
            .get(previous.trim_start_matches("http://lb.example.test:9876"))
            .await;
        assert_eq!(back.json()[words.offer_list][1]["name"], "b");
    }
}

#[tokio::test]
async fn shelves_are_not_listed_by_what_they_do_not_have() {
    let api = Api::new();
    for words in BOTH {
        for query in [
            "x=1",
            "project_id=p",
            "tags=a",
            "name=a&name=b",
            "provisioning_status=ACTIVE",
        ] {
            api.get(&format!("{}?{query}", words.offers))
                .await
                .assert_fault(400, "One or more arguments are either duplicate or invalid");
        }
        for (query, sentence) in [
            (
                "sort=created_at",
                "Supplied sort key 'created_at' is not valid.",
            ),
            (
                "marker=nobody",
                "Supplied pagination marker 'nobody' is not valid.",
            ),
        ] {
            api.get(&format!("{}?{query}", words.offers))
                .await
                .assert_fault(400, sentence);
        }
        let reply = api.get(&format!("{}?limit=x", words.offers)).await;
        reply.assert_routing_fault(
            400,
            "Bad Request",
            "Supplied pagination limit 'x' is not valid.",
        );
    }
}

#[tokio::test]
async fn lists_of_profiles_have_links_in_the_singular() {
    for words in BOTH {
        let api = Api::new();
        let first = words.make_profile(&api).await;
        let second = words.make_profile(&api).await;
        let body = api
            .get(&format!("{}?fields=id", words.profiles))
            .await
            .json();
        assert_eq!(
            body,
            json!({words.profile_list: [{"id": first}, {"id": second}], words.profile_links: []})
        );
        let body = api.get(&format!("{}?limit=1", words.profiles)).await.json();
        let href = body[words.profile_links][0]["href"].as_str().unwrap();
        assert!(
            href.ends_with(&format!("?limit=1&marker={first}")),
            "{href}"
        );
        let found = api
            .get(&format!(
                "{}?provider_name=amphora&id={second}",
                words.profiles
            ))
            .await;
        assert_eq!(found.ids(words.profile_list), [second]);
    }
}

#[tokio::test]
async fn capabilities_are_what_profiles_can_say() {
    let api = Api::new();
    for (what, names) in [
        (
            "flavor_capabilities",
            vec![
                "loadbalancer_topology",
                "krater_tenancy",
                "krater_load_balancers_max",
                "krater_connections_max",
                "krater_passive_failures",
                "krater_passive_seconds",
                "krater_passive_share",
                "krater_slow_start_seconds",
                "krater_source_rate",
                "krater_member_drain_seconds",
                "krater_member_requests",
                "krater_access_log_one_in",
                "krater_congestion_control",
                "krater_memory_mib",
                "krater_cpu_percent",
            ],
        ),
        (
            "availability_zone_capabilities",
            vec!["compute_zone", "valid_vip_networks"],
        ),
    ] {
        let path = format!("/v2/lbaas/providers/octavia/{what}");
        let body = api.get(&path).await.json();
        assert_eq!(body.as_object().unwrap().len(), 1);
        let all = body[what].as_array().unwrap().clone();
        let found: Vec<&str> = all
            .iter()
            .map(|capability| capability["name"].as_str().unwrap())
            .collect();
        assert_eq!(found, names);
        let one = api.get(&format!("{path}?name={}", names[1])).await.json();
        assert_eq!(one, json!({what: [all[1]]}));
        let description = all[0]["description"].as_str().unwrap().replace(' ', "+");
        let one = api
            .get(&format!("{path}?description={description}&fields=name"))
            .await;
        assert_eq!(one.json(), json!({what: [{"name": names[0]}]}));
        assert_eq!(
            api.get(&format!("{path}?name=x")).await.json(),
            json!({what: []})
        );
        api.get(&format!("{path}?foo=x"))
            .await
            .assert_fault(400, "One or more arguments are either duplicate or invalid");
        api.get(&format!("/v2/lbaas/providers/zz/{what}"))
            .await
            .assert_fault(400, "Provider 'zz' is not enabled.");
        api.be(Persona::Member, Some(PROJECT));
        api.get(&format!("/v2/lbaas/providers/zz/{what}"))
            .await
            .assert_fault(403, "Policy does not allow");
        api.be(Persona::Admin, None);
    }
}

#[tokio::test]
async fn shelves_have_names_for_metrics() {
    let api = Api::new();
    for (path, route) in [
        ("flavors", "flavors"),
        ("flavors/x", "flavors/{id}"),
        ("flavorprofiles", "flavorprofiles"),
        ("flavorprofiles/x", "flavorprofiles/{id}"),
        ("availabilityzones", "availabilityzones"),
        ("availabilityzones/x", "availabilityzones/{name}"),
        ("availabilityzoneprofiles", "availabilityzoneprofiles"),
        (
            "availabilityzoneprofiles/x",
            "availabilityzoneprofiles/{id}",
        ),
    ] {
        let reply = api.get(&format!("/v2/lbaas/{path}")).await;
        assert_eq!(reply.route, route);
    }
}
