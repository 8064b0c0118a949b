//! Look-ups of networks, subnets and ports.

use serde_json::json;

use crate::{
    fake::Api,
    sample::{LOAD_BALANCER, NETWORK, PORT, PROJECT, STRANGER, SUBNET, SUBNET_6},
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
