//! Look-ups of networks, subnets and ports.

use krater_controller_core::{
    model::ProjectId,
    network::{Audience, FixedIp, PortView},
};
use serde_json::json;

use crate::{
    fake::Api,
    sample::{self, LOAD_BALANCER, NETWORK, PORT, PROJECT, STRANGER, SUBNET, SUBNET_6},
};

#[tokio::test]
async fn networks_look_as_the_network_service_shows_them() {
    let body = Api::new().get("/v2.0/networks?name=local").await.json();
    assert_eq!(
        body,
        json!({"networks": [{"id": NETWORK, "name": "local", "subnets": [SUBNET, SUBNET_6], "status": "ACTIVE",
            "admin_state_up": true, "shared": true, "router:external": false, "tenant_id": "", "project_id": ""}]})
    );
}

#[tokio::test]
async fn subnets_look_as_the_network_service_shows_them() {
    let api = Api::new();
    let body = api.get("/v2/subnets?name=local-v4").await.json();
    assert_eq!(
        body,
        json!({"subnets": [{"id": SUBNET, "name": "local-v4", "network_id": NETWORK, "cidr": "203.0.113.0/24",
            "ip_version": 4, "gateway_ip": null, "enable_dhcp": false, "dns_nameservers": [], "host_routes": [],
            "allocation_pools": [{"start": "203.0.113.2", "end": "203.0.113.254"}],
            "tenant_id": "", "project_id": ""}]})
    );
    let body = api.get(&format!("/v2/subnets/{SUBNET_6}")).await.json();
    assert_eq!(
        (&body["subnet"]["id"], &body["subnet"]["ip_version"]),
        (&json!(SUBNET_6), &json!(6))
    );
}

#[tokio::test]
async fn ports_are_those_of_vips() {
    let api = Api::new();
    let port = json!({"id": PORT, "name": format!("octavia-lb-{LOAD_BALANCER}"),
        "device_id": format!("lb-{LOAD_BALANCER}"), "device_owner": "Octavia", "network_id": NETWORK,
        "fixed_ips": [{"subnet_id": SUBNET, "ip_address": "203.0.113.40"},
            {"subnet_id": SUBNET_6, "ip_address": "2001:db8::40"}],
        "status": "DOWN", "admin_state_up": false, "security_groups": [],
        "tenant_id": PROJECT, "project_id": PROJECT});
    assert_eq!(
        api.get("/v2.0/ports").await.json(),
        json!({"ports": [port]})
    );
    assert_eq!(
        api.get(&format!("/v2.0/ports/{PORT}")).await.json(),
        json!({"port": port})
    );
}

#[tokio::test]
async fn ports_of_networks_are_shown_once_with_who_has_them() {
    let api = Api::new();
    let port = |id: &str, name: &str, project: Option<&str>, device: Option<&str>| PortView {
        id: sample::id(id),
        name: name.into(),
        project: project.and_then(ProjectId::parse),
        device_id: device.map(Into::into),
        fixed_ips: vec![FixedIp {
            address: "203.0.113.40".parse().unwrap(),
            subnet_id: sample::id(SUBNET),
        }],
    };
    let mut network = sample::network();
    network.ports = vec![
        port(PORT, "adopted", None, Some("lb-of-a-moment-ago")),
        port(STRANGER, "free", Some("p1"), None),
    ];
    *api.fake.networks.lock().unwrap() = vec![network];
    let fixed_ips = json!([{"subnet_id": SUBNET, "ip_address": "203.0.113.40"}]);
    let body = api.get("/v2.0/ports").await.json();
    assert_eq!(
        body,
        json!({"ports": [
            {"id": PORT, "name": "adopted", "device_id": format!("lb-{LOAD_BALANCER}"), "device_owner": "Octavia",
                "network_id": NETWORK, "fixed_ips": fixed_ips, "status": "DOWN", "admin_state_up": true,
                "security_groups": [], "tenant_id": "", "project_id": ""},
            {"id": STRANGER, "name": "free", "device_id": "", "device_owner": "", "network_id": NETWORK,
                "fixed_ips": fixed_ips, "status": "DOWN", "admin_state_up": true, "security_groups": [],
                "tenant_id": "p1", "project_id": "p1"},
        ]})
    );
    for (query, found) in [
        ("name=free", vec![STRANGER]),
        ("device_owner=Octavia", vec![PORT]),
        ("project_id=p1", vec![STRANGER]),
        ("name=none", vec![]),
    ] {
        let path = format!("/v2.0/ports?{query}");
        assert_eq!(api.get(&path).await.ids("ports"), found, "{query}");
    }
}

#[tokio::test]
async fn a_network_for_some_is_not_shared() {
    let api = Api::new();
    let mut network = sample::network();
    network.subnets[0].gateway = "203.0.113.1".parse().ok();
    for (projects, owner) in [(&["p1"][..], "p1"), (&["p1", "p2"], "")] {
        let projects = projects.iter().filter_map(|name| ProjectId::parse(name));
        network.audience = Audience::Projects(projects.collect());
        *api.fake.networks.lock().unwrap() = vec![network.clone()];
        let shown = &api.get("/v2.0/networks").await.json()["networks"][0];
        assert_eq!(shown["shared"], false);
        assert_eq!(
            (&shown["project_id"], &shown["tenant_id"]),
            (&json!(owner), &json!(owner))
        );
        let shown = &api.get("/v2.0/subnets").await.json()["subnets"][0];
        assert_eq!(
            (&shown["project_id"], &shown["gateway_ip"]),
            (&json!(owner), &json!("203.0.113.1"))
        );
    }
}

#[tokio::test]
async fn look_ups_select_by_exact_values() {
    let api = Api::new();
    for (path, found) in [
        (format!("networks?id={NETWORK}"), vec![NETWORK]),
        (format!("networks?id={STRANGER}"), vec![]),
        ("networks?name=loc".to_owned(), vec![]),
        (
            format!("subnets?network_id={NETWORK}"),
            vec![SUBNET, SUBNET_6],
        ),
        (format!("subnets?network_id={STRANGER}"), vec![]),
        ("subnets?ip_version=6".to_owned(), vec![SUBNET_6]),
        (
            format!("subnets?id={SUBNET}&id={SUBNET_6}"),
            vec![SUBNET, SUBNET_6],
        ),
        (
            format!("ports?device_id=lb-{LOAD_BALANCER}&network_id={NETWORK}"),
            vec![PORT],
        ),
        (
            "ports?fixed_ips=ip_address%3D203.0.113.40".to_owned(),
            vec![PORT],
        ),
        (
            "ports?fixed_ips=ip_address%3D203.0.113.41".to_owned(),
            vec![],
        ),
        (
            format!("ports?fixed_ips=subnet_id%3D{SUBNET_6}"),
            vec![PORT],
        ),
    ] {
        let root = path.split('?').next().unwrap();
        assert_eq!(
            api.get(&format!("/v2.0/{path}")).await.ids(root),
            found,
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_404_or_an_empty_list() {
    let api = Api::new();
    for (path, name) in [
        ("networks", "Network"),
        ("subnets", "Subnet"),
        ("ports", "Port"),
    ] {
        let reply = api.get(&format!("/v2.0/{path}/{STRANGER}")).await;
        reply.assert_fault(404, &format!("{name} {STRANGER} not found."));
        assert_eq!(
            api.post(&format!("/v2.0/{path}"), json!({})).await.status,
            405
        );
    }
    for (path, name) in [
        ("qos/policies", "QoS policy"),
        ("security-groups", "Security group"),
        ("extensions", "Extension"),
    ] {
        let reply = api.get(&format!("/v2.0/{path}/{STRANGER}")).await;
        reply.assert_fault(404, &format!("{name} {STRANGER} not found."));
    }
    assert_eq!(
        api.get("/v2.0/qos/policies").await.json(),
        json!({"policies": []})
    );
    assert_eq!(
        api.get("/v2.0/security-groups").await.json(),
        json!({"security_groups": []})
    );
    assert_eq!(
        api.get("/v2.0/extensions").await.json(),
        json!({"extensions": []})
    );
}
