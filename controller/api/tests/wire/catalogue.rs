//! Flavors, availability zones, their profiles, and what providers say of themselves.

use http::Method;
use krater_controller_core::refusal::Refusal;
use serde_json::{Value, json};

use crate::{
    fake::{Api, Reply},
    sample::STRANGER,
};

const FLAVORS: &str = "/v2/lbaas/flavors";
const FLAVOR_PROFILES: &str = "/v2/lbaas/flavorprofiles";
const ZONES: &str = "/v2/lbaas/availabilityzones";
const ZONE_PROFILES: &str = "/v2/lbaas/availabilityzoneprofiles";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

mod lists;

/// What tells one family from the other on the wire.
struct Words {
    offers: &'static str,
    profiles: &'static str,
    offer: &'static str,
    profile: &'static str,
    offer_list: &'static str,
    profile_list: &'static str,
    profile_links: &'static str,
    profile_id: &'static str,
    data: &'static str,
    good_data: &'static str,
    other_data: &'static str,
}

const FLAVOR: Words = Words {
    offers: FLAVORS,
    profiles: FLAVOR_PROFILES,
    offer: "flavor",
    profile: "flavorprofile",
    offer_list: "flavors",
    profile_list: "flavorprofiles",
    profile_links: "flavorprofile_links",
    profile_id: "flavor_profile_id",
    data: "flavor_data",
    good_data: r#"{"loadbalancer_topology": "SINGLE"}"#,
    other_data: r#"{"krater_tenancy": "dedicated"}"#,
};
const ZONE: Words = Words {
    offers: ZONES,
    profiles: ZONE_PROFILES,
    offer: "availability_zone",
    profile: "availability_zone_profile",
    offer_list: "availability_zones",
    profile_list: "availability_zone_profiles",
    profile_links: "availability_zone_profile_links",
    profile_id: "availability_zone_profile_id",
    data: "availability_zone_data",
    good_data: r#"{"compute_zone": "rack-a"}"#,
    other_data: r#"{"compute_zone": "local"}"#,
};
const BOTH: [Words; 2] = [FLAVOR, ZONE];

impl Words {
    fn profile_body(&self) -> Value {
        json!({"name": "p", "provider_name": "amphora", self.data: self.good_data})
    }

    async fn make_profile(&self, api: &Api) -> String {
        let body = json!({self.profile: self.profile_body()});
        let reply = api.post(self.profiles, body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()[self.profile]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn make_offer(&self, api: &Api, name: &str, profile: &str) -> Reply {
        let body = json!({"name": name, self.profile_id: profile});
        api.post(self.offers, json!({self.offer: body})).await
    }

    /// The path of an offer that a POST answered.
    fn path_of(&self, reply: &Reply) -> String {
        let object = reply.json()[self.offer].clone();
        let key = object.get("id").unwrap_or_else(|| &object["name"]);
        format!("{}/{}", self.offers, key.as_str().unwrap())
    }
}

fn patched(body: &Value, patch: &Value) -> Value {
    let mut body = body.clone();
    for (key, value) in patch.as_object().unwrap() {
        if value == "(left out)" {
            body.as_object_mut().unwrap().remove(key);
        } else {
            body[key] = value.clone();
        }
    }
    body
}

#[tokio::test]
async fn flavors_and_profiles_look_as_in_the_reference() {
    let api = Api::new();
    let data = "{\"loadbalancer_topology\":  \"SINGLE\"}";
    let body = json!({"name": "ha", "provider_name": "amphora", "flavor_data": data});
    let reply = api
        .post(FLAVOR_PROFILES, json!({"flavorprofile": body}))
        .await;
    assert_eq!(reply.status, 201);
    let profile = reply.json()["flavorprofile"]["id"].clone();
    assert_eq!(
        reply.json(),
        json!({"flavorprofile": {"id": profile, "name": "ha", "provider_name": "amphora", "flavor_data": data}})
    );
    let body = json!({"name": "small", "description": "one", "enabled": "off", "flavor_profile_id": profile});
    let reply = api.post(FLAVORS, json!({"flavor": body})).await;
    assert_eq!(reply.status, 201);
    let id = reply.json()["flavor"]["id"].clone();
    let shown = json!({"flavor": {"id": id, "name": "small", "description": "one", "enabled": false,
        "flavor_profile_id": profile}});
    assert_eq!(reply.json(), shown);
    let path = format!("{FLAVORS}/{}", id.as_str().unwrap());
    assert_eq!(api.get(&path).await.json(), shown);
    let only = api.get(&format!("{path}?fields=name,enabled")).await.json();
    assert_eq!(only, json!({"flavor": {"name": "small", "enabled": false}}));
}

#[tokio::test]
async fn zones_are_known_by_name_and_have_no_id() {
    let api = Api::new();
    let profile = ZONE.make_profile(&api).await;
    let reply = ZONE.make_offer(&api, "rack a/1+ü", &profile).await;
    let shown = json!({"availability_zone": {"name": "rack a/1+ü", "description": "", "enabled": true,
        "availability_zone_profile_id": profile}});
    assert_eq!((reply.status.as_u16(), reply.json()), (201, shown.clone()));
    let path = format!("{ZONES}/rack%20a%2F1+%C3%BC");
    assert_eq!(api.get(&path).await.json(), shown);
    assert_eq!(api.get(&format!("{path}.json")).await.json(), shown);
    let body = json!({"availability_zone": {"enabled": false, "description": null}});
    let reply = api.put(&path, body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["availability_zone"]["enabled"], false);
    assert_eq!(api.delete(&path).await.status, 204);
    api.get(&path)
        .await
        .assert_fault(404, "Availability Zone rack a/1+ü not found.");
    api.get(&format!("{ZONES}/%ff"))
        .await
        .assert_fault(404, "Availability Zone %ff not found.");
}

#[tokio::test]
async fn every_way_to_a_shelf_leads_there() {
    let api = Api::new();
    for words in BOTH {
        for base in [words.offers, words.profiles] {
            let collection = base.trim_start_matches("/v2/lbaas/");
            for prefix in [
                "/v2",
                "/v2.0",
                "/v2/lbaas",
                "/v2.0/lbaas",
                "/load-balancer/v2/lbaas",
            ] {
                for suffix in ["", "/", ".json"] {
                    let path = format!("{prefix}/{collection}{suffix}");
                    assert_eq!(api.get(&path).await.status, 200, "{path}");
                }
            }
            api.put(base, json!({}))
                .await
                .assert_fault(400, "Missing argument: \"id\"");
            api.delete(base)
                .await
                .assert_fault(400, "Missing argument: \"id\"");
            api.post(&format!("{base}/x"), json!({}))
                .await
                .assert_fault(400, "Unknown argument: \"");
            let reply = api.call(Method::PATCH, base).await;
            reply.assert_routing_fault(405, "Method Not Allowed", "");
            api.post(&format!("{base}?x=1"), json!({"x": {}}))
                .await
                .assert_fault(400, "Unknown argument: \"x\"");
        }
    }
}

#[tokio::test]
async fn profiles_are_read_strictly() {
    let api = Api::new();
    for words in BOTH {
        let data = words.data;
        let long = "x".repeat(256);
        for (patch, sentence) in [
            (
                json!({"name": "(left out)"}),
                "Invalid input for field/attribute name. Value: 'None'. Mandatory field missing.",
            ),
            (json!({"name": null}), "None is not a valid option for name"),
            (json!({"name": 7}), "Value should be string"),
            (
                json!({"name": long}),
                "maximum character requirement of 255",
            ),
            (
                json!({"provider_name": "(left out)"}),
                "Mandatory field missing.",
            ),
            (
                json!({"provider_name": null}),
                "None is not a valid option for provider_name",
            ),
            (
                json!({"provider_name": "zz"}),
                "Provider 'zz' is not enabled.",
            ),
            (
                json!({"provider_name": long}),
                "maximum character requirement of 255",
            ),
            (json!({data: "(left out)"}), "Mandatory field missing."),
            (json!({data: null}), "None is not a valid option for"),
            (json!({data: {}}), "Value should be string"),
            (
                json!({data: "{"}),
                &format!("{{ is not a valid option for {data}"),
            ),
            (
                json!({data: ""}),
                &format!(" is not a valid option for {data}"),
            ),
            (
                json!({data: "[]"}),
                &format!("[] is not a valid option for {data}"),
            ),
            (
                json!({data: format!("{{}}{}", " ".repeat(4_095))}),
                "maximum character requirement of 4096",
            ),
            (json!({"id": STRANGER}), "Unknown attribute for argument "),
            (
                json!({"description": "x"}),
                "Unknown attribute for argument ",
            ),
        ] {
            let body = json!({words.profile: patched(&words.profile_body(), &patch)});
            api.post(words.profiles, body)
                .await
                .assert_fault(400, sentence);
        }
    }
}

#[tokio::test]
async fn profiles_that_keep_to_the_rules_are_taken() {
    let api = Api::new();
    for words in BOTH {
        let data = words.data;
        for patch in [
            json!({}),
            json!({"name": ""}),
            json!({"provider_name": "octavia"}),
            json!({data: "{}"}),
            json!({data: format!("{{}}{}", " ".repeat(4_094))}),
        ] {
            let body = json!({words.profile: patched(&words.profile_body(), &patch)});
            assert_eq!(api.post(words.profiles, body).await.status, 201, "{patch}");
        }
    }
}

#[tokio::test]
async fn what_profiles_do_not_have_is_named_in_the_words_of_the_reference() {
    let api = Api::new();
    let body = json!({"flavorprofile": {"foo": 1, "name": "x", "provider_name": "amphora", "flavor_data": "{}"}});
    api.post(FLAVOR_PROFILES, body).await.assert_fault(
        400,
        "Unknown attribute for argument flavor_profile_.flavorprofile: foo",
    );
    let body = json!({"availability_zone_profile": {"foo": 1, "name": "x", "provider_name": "amphora",
        "availability_zone_data": "{}"}});
    api.post(ZONE_PROFILES, body).await.assert_fault(
        400,
        "Unknown attribute for argument availability_zone_profile_.availability_zone_profile: foo",
    );
}

#[tokio::test]
async fn keys_and_values_the_provider_does_not_know_are_501_after_all_else() {
    let api = Api::new();
    let sentence = "Provider 'amphora' does not support a requested option: ";
    for (words, data) in [
        (&FLAVOR, r#"{"compute_flavor": "lb.small"}"#),
        (&FLAVOR, r#"{"krater_connections_max": 0}"#),
        (&ZONE, r#"{"management_network": "x"}"#),
        (&ZONE, r#"{"compute_zone": "moon"}"#),
    ] {
        let mut body = patched(&words.profile_body(), &json!({words.data: data}));
        let reply = api.post(words.profiles, json!({words.profile: body})).await;
        reply.assert_fault(501, sentence);
        body["provider_name"] = json!("zz");
        let reply = api.post(words.profiles, json!({words.profile: body})).await;
        reply.assert_fault(400, "Provider 'zz' is not enabled.");
        let update = json!({words.profile: {words.data: data}});
        let profile = words.make_profile(&api).await;
        let path = format!("{}/{profile}", words.profiles);
        api.put(&path, update.clone())
            .await
            .assert_fault(501, sentence);
        assert_eq!(words.make_offer(&api, data, &profile).await.status, 201);
        api.put(&path, update)
            .await
            .assert_fault(409, "in use and cannot be modified.");
    }
}

#[tokio::test]
async fn offers_are_read_strictly() {
    for words in BOTH {
        let api = Api::new();
        let profile = words.make_profile(&api).await;
        let own = words.profile_id;
        let good = json!({"name": "small", "description": "d", "enabled": true, own: profile});
        let long = "x".repeat(256);
        for (patch, sentence) in [
            (json!({"name": "(left out)"}), "Mandatory field missing."),
            (json!({"name": null}), "None is not a valid option for name"),
            (
                json!({"name": long}),
                "maximum character requirement of 255",
            ),
            (
                json!({"description": long}),
                "maximum character requirement of 255",
            ),
            (
                json!({"enabled": null}),
                "None is not a valid option for enabled",
            ),
            (
                json!({"enabled": "perhaps"}),
                "Value not an unambiguous boolean: perhaps",
            ),
            (json!({own: "(left out)"}), "Mandatory field missing."),
            (
                json!({own: null}),
                &format!("None is not a valid option for {own}"),
            ),
            (json!({own: "x"}), "Value should be UUID format"),
            (
                json!({own: STRANGER}),
                &format!("Validation failure: Invalid {own}."),
            ),
            (
                json!({own: NIL}),
                &format!("Validation failure: Invalid {own}."),
            ),
            (json!({"id": STRANGER}), "Unknown attribute for argument "),
            (
                json!({"project_id": "p"}),
                "Unknown attribute for argument ",
            ),
        ] {
            let body = json!({words.offer: patched(&good, &patch)});
            api.post(words.offers, body)
                .await
                .assert_fault(400, sentence);
        }
    }
}

#[tokio::test]
async fn offers_that_keep_to_the_rules_are_taken() {
    for words in BOTH {
        let api = Api::new();
        let profile = words.make_profile(&api).await;
        let own = words.profile_id;
        let good = json!({"name": "small", "description": "d", "enabled": true, own: profile});
        for (number, patch) in [
            json!({}),
            json!({"description": null}),
            json!({"description": "(left out)"}),
            json!({"enabled": "(left out)"}),
            json!({own: profile.replace('-', "").to_uppercase()}),
        ]
        .iter()
        .enumerate()
        {
            let mut body = patched(&good, patch);
            body["name"] = json!(format!("small-{number}"));
            let reply = api.post(words.offers, json!({words.offer: body})).await;
            assert_eq!(reply.status, 201, "{patch}: {reply:?}");
            assert_eq!(reply.json()[words.offer]["enabled"], true);
        }
    }
}

#[tokio::test]
async fn a_zone_needs_a_name_and_a_profile_of_its_family() {
    let api = Api::new();
    let profile = ZONE.make_profile(&api).await;
    let reply = ZONE.make_offer(&api, "", &profile).await;
    reply.assert_fault(400, "minimum character requirement of 1");
    let reply = ZONE.make_offer(&api, NIL, &profile).await;
    reply.assert_fault(400, "is not a valid option for name");
    let flavor = FLAVOR.make_profile(&api).await;
    let reply = ZONE.make_offer(&api, "mixed", &flavor).await;
    reply.assert_fault(
        400,
        "Validation failure: Invalid availability_zone_profile_id.",
    );
}

#[tokio::test]
async fn updates_change_what_they_name() {
    for words in BOTH {
        let api = Api::new();
        let profile = words.make_profile(&api).await;
        let path = words.path_of(&words.make_offer(&api, "small", &profile).await);
        let before = api.get(&path).await.json()[words.offer].clone();
        let put = async |body: Value| api.put(&path, json!({words.offer: body})).await;
        let reply = put(json!({})).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()[words.offer]),
            (200, &before)
        );
        let reply = put(json!({"description": "d", "enabled": 0})).await;
        let changed = patched(&before, &json!({"description": "d", "enabled": false}));
        assert_eq!(reply.json()[words.offer], changed);
        for (body, sentence) in [
            (
                json!({"enabled": null}),
                "None is not a valid option for enabled",
            ),
            (
                json!({words.profile_id: profile}),
                "Unknown attribute for argument ",
            ),
            (json!({"id": STRANGER}), "Unknown attribute for argument "),
        ] {
            put(body).await.assert_fault(400, sentence);
        }
        let path = format!("{}/{profile}", words.profiles);
        for (body, sentence) in [
            (json!({"name": null}), "None is not a valid option for name"),
            (
                json!({"provider_name": null}),
                "None is not a valid option for provider_name",
            ),
            (json!({words.data: null}), "None is not a valid option for"),
            (json!({words.data: "x"}), "x is not a valid option for"),
            (json!({"id": STRANGER}), "Unknown attribute for argument "),
        ] {
            api.put(&path, json!({words.profile: body}))
                .await
                .assert_fault(400, sentence);
        }
    }
    let api = Api::new();
    let profile = FLAVOR.make_profile(&api).await;
    let path = FLAVOR.path_of(&FLAVOR.make_offer(&api, "small", &profile).await);
    let reply = api.put(&path, json!({"flavor": {"name": "tiny"}})).await;
    assert_eq!(reply.json()["flavor"]["name"], "tiny");
    api.put(&path, json!({"flavor": {"name": null}}))
        .await
        .assert_fault(400, "None is not a valid option for name");
    let profile = ZONE.make_profile(&api).await;
    let path = ZONE.path_of(&ZONE.make_offer(&api, "rack", &profile).await);
    api.put(&path, json!({"availability_zone": {"name": "other"}}))
        .await
        .assert_fault(
            400,
            "Unknown attribute for argument availability_zone_.availability_zone: name",
        );
}

#[tokio::test]
async fn a_profile_in_use_can_be_renamed_and_nothing_more() {
    for words in BOTH {
        let api = Api::new();
        let profile = words.make_profile(&api).await;
        let offer = words.path_of(&words.make_offer(&api, "small", &profile).await);
        let path = format!("{}/{profile}", words.profiles);
        let put = async |body: Value| api.put(&path, json!({words.profile: body})).await;
        let in_use = format!("{profile} is in use and cannot be modified.");
        assert_eq!(put(json!({"name": "renamed"})).await.status, 200);
        // What it says already is no change.
        let same = json!({"provider_name": "amphora", words.data: words.good_data});
        assert_eq!(put(same).await.status, 200);
        put(json!({words.data: words.other_data}))
            .await
            .assert_fault(409, &in_use);
        put(json!({"provider_name": "octavia"}))
            .await
            .assert_fault(409, &in_use);
        api.delete(&path).await.assert_fault(409, &in_use);
        assert_eq!(api.delete(&offer).await.status, 204);
        assert_eq!(put(json!({words.data: words.other_data})).await.status, 200);
        assert_eq!(put(json!({"provider_name": "octavia"})).await.status, 200);
        assert_eq!(api.delete(&path).await.status, 204);
        api.delete(&path).await.assert_fault(404, "not found.");
    }
}

#[tokio::test]
async fn names_of_offers_are_unique_in_their_family() {
    let api = Api::new();
    for (words, sentence) in [
        (&FLAVOR, "A flavor of small already exists."),
        (&ZONE, "A availability zone of small already exists."),
    ] {
        let profile = words.make_profile(&api).await;
        assert_eq!(words.make_offer(&api, "small", &profile).await.status, 201);
        words
            .make_offer(&api, "small", &profile)
            .await
            .assert_fault(409, sentence);
    }
    let profile = FLAVOR.make_profile(&api).await;
    let path = FLAVOR.path_of(&FLAVOR.make_offer(&api, "large", &profile).await);
    let rename = json!({"flavor": {"name": "small"}});
    api.put(&path, rename)
        .await
        .assert_fault(409, "A flavor of small already exists.");
    let keep = json!({"flavor": {"name": "large"}});
    assert_eq!(api.put(&path, keep).await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let api = Api::new();
    for (words, offer, profile) in [
        (&FLAVOR, "Flavor", "Flavor Profile"),
        (&ZONE, "Availability Zone", "Availability Zone Profile"),
    ] {
        for (base, root, name) in [
            (words.offers, words.offer, offer),
            (words.profiles, words.profile, profile),
        ] {
            for key in [STRANGER, NIL, "not-a-uuid"] {
                let path = format!("{base}/{key}");
                let sentence = format!("{name} {key} not found.");
                api.get(&path).await.assert_fault(404, &sentence);
                api.delete(&path).await.assert_fault(404, &sentence);
                api.put(&path, json!({root: {}}))
                    .await
                    .assert_fault(404, &sentence);
            }
        }
    }
    // A profile of one family is none of the other.
    let profile = FLAVOR.make_profile(&api).await;
    let path = format!("{ZONE_PROFILES}/{profile}");
    api.get(&path)
        .await
        .assert_fault(404, "Availability Zone Profile");
    api.delete(&path)
        .await
        .assert_fault(404, "Availability Zone Profile");
}

#[tokio::test]
async fn refusals_of_the_application_are_passed_on() {
    let api = Api::new();
    for words in BOTH {
        let refused = "Policy does not allow this request to be performed.";
        let path = format!("{}/{STRANGER}", words.offers);
        api.refuse(Refusal::NotPermitted);
        api.get(words.profiles).await.assert_fault(403, refused);
        api.refuse(Refusal::NotPermitted);
        api.get(&path).await.assert_fault(403, refused);
        api.refuse(Refusal::NotPermitted);
        api.delete(&path).await.assert_fault(403, refused);
    }
}
