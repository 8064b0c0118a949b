//! Load balancers: how they look, what a body may say.

use krater_amphora_api::{Generation, LoadBalancerId};
use krater_controller_core::{
    command::{Cascade, Command, LoadBalancerUpdate, NewLoadBalancer},
    model::{Chosen, Description, Name, ProjectId, Tags, VipRequest},
    status::Reason,
    tree::Touch,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{
        self, LISTENER, LOAD_BALANCER, MEMBER_1, MEMBER_2, MONITOR, NETWORK, POLICY, POOL, PORT,
        PROJECT, RULE, STRANGER, SUBNET, SUBNET_6, id,
    },
};

const PATH: &str = "/v2/lbaas/loadbalancers";

fn item() -> String {
    format!("{PATH}/{LOAD_BALANCER}")
}

/// The sample as reference 5.2 shows its own.
fn golden() -> Value {
    json!({"loadbalancer": {"id": LOAD_BALANCER, "name": "edge-1", "description": "public entry",
        "provisioning_status": "ACTIVE", "operating_status": "DEGRADED", "admin_state_up": true,
        "project_id": PROJECT, "tenant_id": PROJECT,
        "created_at": "2025-03-04T10:11:12", "updated_at": "2025-03-04T10:12:40",
        "vip_address": "203.0.113.40", "vip_port_id": PORT, "vip_subnet_id": SUBNET, "vip_network_id": NETWORK,
        "vip_qos_policy_id": null, "vip_vnic_type": "normal", "vip_sg_ids": [],
        "additional_vips": [{"subnet_id": SUBNET_6, "ip_address": "2001:db8::40", "port_id": PORT}],
        "listeners": [{"id": LISTENER}], "pools": [{"id": POOL}],
        "provider": "amphora", "flavor_id": null, "availability_zone": null, "tags": ["prod"]}})
}

#[tokio::test]
async fn a_load_balancer_looks_as_in_the_reference() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    let list = json!({"loadbalancers": [golden()["loadbalancer"]], "loadbalancers_links": []});
    assert_eq!(api.get(PATH).await.json(), list);
}

#[tokio::test]
async fn statuses_follow_generations_and_errors_say_why() {
    let api = Api::new();
    let second = Generation::FIRST.next();
    for (touch, status) in [
        (Touch::Create, "PENDING_CREATE"),
        (Touch::Update, "PENDING_UPDATE"),
        (Touch::Delete, "PENDING_DELETE"),
    ] {
        {
            let row = &mut api.fake.views.lock().unwrap()[0].tree.load_balancer;
            (row.touch, row.generation) = (touch, second);
        }
        assert_eq!(
            api.get(&item()).await.json()["loadbalancer"]["provisioning_status"],
            status
        );
    }
    {
        let view = &mut api.fake.views.lock().unwrap()[0];
        view.observed.settled = Some(second);
        let reason = Reason {
            code: "amphora_unreachable".into(),
            message: "the amphora does not answer".into(),
            step: "apply".into(),
            heals: true,
        };
        view.observed
            .errors
            .insert(id(LOAD_BALANCER), reason.clone());
        view.observed.errors.insert(id(MEMBER_1), reason);
    }
    let reason = json!({"code": "amphora_unreachable", "message": "the amphora does not answer", "step": "apply",
        "heals": true});
    let shown = api.get(&item()).await.json();
    assert_eq!(shown["loadbalancer"]["provisioning_status"], "ERROR");
    assert_eq!(shown["loadbalancer"]["status_reason"], reason);
    let tree = api.get(&format!("{}/status", item())).await.json();
    assert_eq!(tree["statuses"]["loadbalancer"]["status_reason"], reason);
    let pool = &tree["statuses"]["loadbalancer"]["listeners"][0]["pools"][0];
    assert_eq!(pool["members"][0]["status_reason"], reason);
    assert_eq!(pool["members"][1].get("status_reason"), None);
    let listener = api
        .get(&format!("/v2/lbaas/listeners/{LISTENER}"))
        .await
        .json();
    assert_eq!(listener["listener"].get("status_reason"), None);
}

#[tokio::test]
async fn what_nothing_was_heard_of_shows_its_first_status() {
    let api = Api::new();
    api.fake.views.lock().unwrap()[0].observed.operating.clear();
    let status =
        async |path: &str, root: &str| api.get(path).await.json()[root]["operating_status"].clone();
    assert_eq!(status(&item(), "loadbalancer").await, "OFFLINE");
    assert_eq!(
        status(&format!("/v2/listeners/{LISTENER}"), "listener").await,
        "OFFLINE"
    );
    assert_eq!(
        status(&format!("/v2/pools/{POOL}"), "pool").await,
        "OFFLINE"
    );
    assert_eq!(
        status(&format!("/v2/healthmonitors/{MONITOR}"), "healthmonitor").await,
        "ONLINE"
    );
    let member = format!("/v2/pools/{POOL}/members/{MEMBER_1}");
    assert_eq!(status(&member, "member").await, "OFFLINE");
    api.fake.views.lock().unwrap()[0].tree.health_monitors[0]
        .value
        .admin_state_up = false;
    assert_eq!(
        status(&format!("/v2/healthmonitors/{MONITOR}"), "healthmonitor").await,
        "OFFLINE"
    );
    api.fake.views.lock().unwrap()[0]
        .tree
        .health_monitors
        .clear();
    assert_eq!(status(&member, "member").await, "NO_MONITOR");
}

#[tokio::test]
async fn the_status_tree_looks_as_in_the_reference() {
    let api = Api::new();
    let golden = json!({"statuses": {"loadbalancer": {"id": LOAD_BALANCER, "name": "edge-1",
        "operating_status": "DEGRADED", "provisioning_status": "ACTIVE", "listeners": [{"id": LISTENER,
        "name": "web", "operating_status": "ONLINE", "provisioning_status": "ACTIVE", "l7policies": [{"id": POLICY,
        "name": "to-shop", "provisioning_status": "ACTIVE", "operating_status": "OFFLINE", "rules": [{"id": RULE,
        "type": "PATH", "provisioning_status": "ACTIVE", "operating_status": "OFFLINE"}]}], "pools": [{"id": POOL,
        "name": "app", "provisioning_status": "ACTIVE", "operating_status": "DEGRADED",
        "health_monitor": {"id": MONITOR, "name": "ready", "type": "HTTP", "provisioning_status": "ACTIVE",
        "operating_status": "ONLINE"}, "members": [
        {"id": MEMBER_1, "name": "a1", "operating_status": "ONLINE", "provisioning_status": "ACTIVE",
        "address": "10.1.0.11", "protocol_port": 8080},
        {"id": MEMBER_2, "name": "a2", "operating_status": "ERROR", "provisioning_status": "ACTIVE",
        "address": "10.1.0.12", "protocol_port": 8080}]}]}]}}});
    assert_eq!(api.get(&format!("{}/status", item())).await.json(), golden);
    assert_eq!(
        api.get(&format!("{}/statuses", item())).await.json(),
        golden
    );
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.health_monitors.clear();
    }
    let tree = api.get(&format!("{}/status", item())).await.json();
    assert_eq!(
        tree["statuses"]["loadbalancer"]["listeners"][0]["pools"][0]["health_monitor"],
        Value::Null
    );
    api.fake.views.lock().unwrap()[0].tree.listeners[0]
        .value
        .default_pool = None;
    let tree = api.get(&format!("{}/status", item())).await.json();
    assert_eq!(
        tree["statuses"]["loadbalancer"]["listeners"][0]["pools"],
        json!([])
    );
}

#[tokio::test]
async fn statistics_are_five_numbers() {
    let golden = json!({"stats": {"active_connections": 12, "bytes_in": 81923, "bytes_out": 612003,
        "request_errors": 1, "total_connections": 4211}});
    let api = Api::new();
    assert_eq!(api.get(&format!("{}/stats", item())).await.json(), golden);
    assert_eq!(
        api.get(&format!("/v2/lbaas/listeners/{LISTENER}/stats"))
            .await
            .json(),
        golden
    );
    let reply = api.get(&format!("{PATH}/{STRANGER}/stats")).await;
    reply.assert_fault(404, &format!("Load Balancer {STRANGER} not found."));
}

#[tokio::test]
async fn the_least_body_takes_the_defaults() {
    let api = Api::new();
    let reply = api
        .post(PATH, json!({"loadbalancer": {"vip_subnet_id": SUBNET}}))
        .await;
    assert_eq!(reply.status, 201);
    assert_eq!(
        api.command(),
        Command::CreateLoadBalancer(Box::new(NewLoadBalancer {
            project: None,
            name: Name::default(),
            description: Description::default(),
            admin_state_up: true,
            vip: VipRequest {
                subnet_id: Some(id(SUBNET)),
                ..VipRequest::default()
            },
            provider: None,
            flavor_id: None,
            availability_zone: None,
            chosen: Chosen::default(),
            tags: Tags::default(),
            listeners: vec![],
            pools: vec![],
        }))
    );
}

#[tokio::test]
async fn the_fullest_body_is_taken_word_for_word() {
    let api = Api::new();
    let reply = api
        .post(
            "/v2.0/lbaas/loadbalancers",
            json!({"loadbalancer": {"name": "n", "description": "d", "admin_state_up": "off", "project_id": "p1",
                "tenant_id": "p2", "vip_address": "2001:DB8:0::7", "vip_port_id": PORT.to_uppercase(),
                "vip_subnet_id": SUBNET.replace('-', ""), "vip_network_id": NETWORK, "provider": "octavia",
                "tags": ["b", "a", "b"], "additional_vips": [{"subnet_id": SUBNET_6, "ip_address": "203.0.113.9",
                "port_id": PORT}, {"subnet_id": STRANGER}], "flavor_id": STRANGER.to_uppercase(),
                "availability_zone": "rack a",
                "vip_qos_policy_id": STRANGER, "vip_sg_ids": [PORT, STRANGER, PORT], "listeners": [],
                "pools": null}}),
        )
        .await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let Command::CreateLoadBalancer(new) = api.command() else {
        panic!()
    };
    assert_eq!(
        *new,
        NewLoadBalancer {
            project: ProjectId::parse("p1"),
            name: Name::parse("n".into()).unwrap(),
            description: Description::parse("d".into()).unwrap(),
            admin_state_up: false,
            vip: VipRequest {
                address: Some("2001:db8::7".parse().unwrap()),
                port_id: Some(id(PORT)),
                subnet_id: Some(id(SUBNET)),
                network_id: Some(id(NETWORK)),
                additional: vec![
                    (id(SUBNET_6), Some("203.0.113.9".parse().unwrap())),
                    (id(STRANGER), None),
                ],
                qos_policy_id: Some(id(STRANGER)),
                security_group_ids: vec![id(PORT), id(STRANGER)],
            },
            provider: Some("octavia".into()),
            flavor_id: Some(id(STRANGER)),
            availability_zone: Some("rack a".into()),
            chosen: Chosen::default(),
            tags: sample::tags(&["a", "b"]),
            listeners: vec![],
            pools: vec![],
        }
    );
}

#[tokio::test]
async fn null_means_what_the_reference_says_it_means() {
    let api = Api::new();
    let body = json!({"loadbalancer": {"name": null, "description": null, "admin_state_up": null, "project_id": null,
        "tenant_id": "p2", "vip_address": null, "vip_port_id": null, "vip_subnet_id": null, "vip_network_id": NETWORK,
        "provider": null, "availability_zone": null, "tags": null, "additional_vips": null, "listeners": null, "vip_sg_ids": null}});
    assert_eq!(api.post(PATH, body).await.status, 201);
    let Command::CreateLoadBalancer(new) = api.command() else {
        panic!()
    };
    assert!(!new.admin_state_up, "a null admin_state_up is false");
    assert_eq!(new.project, ProjectId::parse("p2"));
    assert_eq!(
        (new.name.as_str(), new.tags, new.provider),
        ("", Tags::default(), None)
    );
}

async fn assert_refused(wrong: impl IntoIterator<Item = (Value, &str)>) {
    let api = Api::new();
    for (patch, sentence) in wrong {
        let mut body = json!({"vip_subnet_id": SUBNET});
        body.as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        let reply = api.post(PATH, json!({"loadbalancer": body})).await;
        reply.assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn wrong_names_states_and_addresses_are_refused() {
    let long = "x".repeat(256);
    assert_refused([
        (
            json!({"id": STRANGER}),
            "Unknown attribute for argument load_balancer.loadbalancer: id",
        ),
        (
            json!({"created_at": "x", "operating_status": "x"}),
            "Unknown attributes for argument load_balancer.loadbalancer: created_at, operating_status",
        ),
        (json!({"vip_vnic_type": "normal"}), "Unknown attribute"),
        (
            json!({"name": long}),
            "Value should have a maximum character requirement of 255",
        ),
        (
            json!({"name": 5}),
            "Invalid input for field/attribute name. Value: '5'. Value should be string",
        ),
        (json!({"description": long}), "field/attribute description."),
        (
            json!({"admin_state_up": "perhaps"}),
            "Value not an unambiguous boolean: perhaps",
        ),
        (
            json!({"admin_state_up": 2}),
            "Value not an unambiguous boolean: 2",
        ),
        (
            json!({"project_id": "x".repeat(37)}),
            "maximum character requirement of 36",
        ),
        (
            json!({"tenant_id": "x".repeat(37)}),
            "maximum character requirement of 36",
        ),
        (
            json!({"vip_address": "10.0.0"}),
            "Invalid input for field/attribute vip_address. Value: '10.0.0'. Value should be IPv4 or IPv6 format",
        ),
        (json!({"vip_subnet_id": "x"}), "Value should be UUID format"),
        (json!({"vip_port_id": 7}), "Value should be UUID format"),
        (
            json!({"vip_network_id": "x"}),
            "Value should be UUID format",
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_options_and_additional_addresses_are_refused() {
    let long = "x".repeat(256);
    assert_refused([
        (json!({"provider": "zz"}), "Provider 'zz' is not enabled."),
        (
            json!({"provider": "x".repeat(65)}),
            "maximum character requirement of 64",
        ),
        (json!({"tags": "a"}), "Value not a valid list: a"),
        (json!({"tags": [""]}), "minimum character requirement of 1"),
        (
            json!({"tags": [long]}),
            "maximum character requirement of 255",
        ),
        (json!({"tags": [7]}), "Value should be string"),
        (
            json!({"tags": (0..257).map(|n| n.to_string()).collect::<Vec<_>>()}),
            "257 tags",
        ),
        (json!({"flavor_id": "x"}), "Value should be UUID format"),
        (
            json!({"flavor_id": null}),
            "Validation failure: Invalid flavor_id.",
        ),
        (json!({"availability_zone": 7}), "Value should be string"),
        (
            json!({"availability_zone": long}),
            "maximum character requirement of 255",
        ),
        (
            json!({"vip_qos_policy_id": "x"}),
            "Value should be UUID format",
        ),
        (json!({"vip_sg_ids": ["x"]}), "Value should be UUID format"),
        (json!({"vip_sg_ids": "x"}), "Value not a valid list"),
        (json!({"additional_vips": [{}]}), "Mandatory field missing."),
        (
            json!({"additional_vips": [{"subnet_id": null}]}),
            "None is not a valid option for subnet_id",
        ),
        (
            json!({"additional_vips": [{"subnet_id": SUBNET_6, "foo": 1}]}),
            "Unknown attribute for argument load_balancer.loadbalancer.additional_vips: foo",
        ),
        (json!({"additional_vips": [7]}), "Value should be an object"),
        (
            json!({"additional_vips": [{"subnet_id": SUBNET_6, "port_id": STRANGER}]}),
            "Validation failure: additional_vips are on the port of the VIP and cannot have one of their own.",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_update_changes_what_it_names_only() {
    let api = Api::new();
    let load_balancer = LoadBalancerId::new(id(LOAD_BALANCER));
    for (body, update) in [
        (json!({}), LoadBalancerUpdate::default()),
        (
            json!({"name": "n", "description": "d", "admin_state_up": 0, "tags": [], "vip_sg_ids": [],
                "vip_qos_policy_id": null}),
            LoadBalancerUpdate {
                name: Some(Name::parse("n".into()).unwrap()),
                description: Some(Description::parse("d".into()).unwrap()),
                admin_state_up: Some(false),
                vip_qos_policy_id: Some(None),
                vip_sg_ids: Some(vec![]),
                tags: Some(Tags::default()),
            },
        ),
        (
            json!({"name": null, "description": null, "admin_state_up": null, "tags": null}),
            LoadBalancerUpdate {
                name: Some(Name::default()),
                description: Some(Description::default()),
                admin_state_up: Some(false),
                ..LoadBalancerUpdate::default()
            },
        ),
        (
            json!({"vip_qos_policy_id": STRANGER, "vip_sg_ids": [PORT, STRANGER, PORT]}),
            LoadBalancerUpdate {
                vip_qos_policy_id: Some(Some(id(STRANGER))),
                vip_sg_ids: Some(vec![id(PORT), id(STRANGER)]),
                ..LoadBalancerUpdate::default()
            },
        ),
        (
            json!({"vip_sg_ids": null}),
            LoadBalancerUpdate {
                vip_sg_ids: Some(vec![]),
                ..LoadBalancerUpdate::default()
            },
        ),
    ] {
        let reply = api.put(&item(), json!({"loadbalancer": body})).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, golden()));
        assert_eq!(
            api.command(),
            Command::UpdateLoadBalancer(load_balancer, update)
        );
    }
}

#[tokio::test]
async fn what_is_fixed_at_creation_is_unknown_to_updates() {
    let api = Api::new();
    for (name, value) in [
        ("vip_address", json!("10.0.0.1")),
        ("vip_subnet_id", json!(SUBNET)),
        ("vip_port_id", json!(PORT)),
        ("vip_network_id", json!(NETWORK)),
        ("project_id", json!("p1")),
        ("tenant_id", json!("p1")),
        ("provider", json!("amphora")),
        ("flavor_id", json!(null)),
        ("availability_zone", json!(null)),
        ("additional_vips", json!([])),
        ("listeners", json!([])),
        ("pools", json!([])),
    ] {
        let reply = api
            .put(&item(), json!({"loadbalancer": {name: value}}))
            .await;
        reply.assert_fault(
            400,
            &format!("Unknown attribute for argument load_balancer.loadbalancer: {name}"),
        );
    }
}

#[tokio::test]
async fn a_deletion_takes_children_along_only_when_told_to() {
    let api = Api::new();
    let load_balancer = LoadBalancerId::new(id(LOAD_BALANCER));
    for (query, cascade) in [
        ("", Cascade::OnlyIfEmpty),
        ("?cascade=false", Cascade::OnlyIfEmpty),
        ("?cascade=True", Cascade::WithChildren),
        ("?cascade=1", Cascade::WithChildren),
    ] {
        let reply = api.delete(&format!("{}{query}", item())).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
        assert_eq!(
            api.command(),
            Command::DeleteLoadBalancer(load_balancer, cascade)
        );
    }
    let reply = api.delete(&format!("{}?cascade=perhaps", item())).await;
    reply.assert_fault(400, "Value not an unambiguous boolean: perhaps");
}
