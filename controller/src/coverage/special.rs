//! Requests for the answers that depend on what an operation is about.

use krater_controller_api::openapi::Operation;
use serde_json::json;

use super::world::{Sent, World, body_for};
use crate::testbed::{AMPHORA, OTHER};

/// A request that should be answered with `status`, where the operation has one of its own for it.
pub(super) async fn request(world: &mut World, operation: &Operation, status: u16) -> Option<Sent> {
    if operation.id == "create_healthmonitor" && status != 409 {
        let protocol = if status == 501 { "UDP" } else { "TCP" };
        furnish_bare_pool(world, protocol).await;
    }
    match status {
        // A project is named, not found: only what cannot be one is lost.
        404 if operation.id.contains("_quota") && operation.id != "delete_quota" => {
            world.ids.insert("project_id", "x".repeat(40));
            Some(Sent::with(body_for(world, operation)))
        }
        404 => lost(world, operation),
        409 => conflict(world, operation).await,
        501 => {
            free(world, operation.id).await;
            unsupported(world, operation).await
        }
        503 if operation.id == "healthcheck" => {
            world.house.known.store.close().await;
            None
        }
        _ if status == operation.success => success(world, operation).await,
        _ => None,
    }
}

/// A pool that a monitor can be created for: the one that is there has one already.
pub(super) async fn furnish_bare_pool(world: &mut World, protocol: &str) {
    let balancer = world.ids["loadbalancer_id"].clone();
    let pool =
        json!({"loadbalancer_id": balancer, "protocol": protocol, "lb_algorithm": "ROUND_ROBIN"});
    let pool = world.create("/v2/pools", "pool", pool).await;
    world.ids.insert("bare_pool_id", pool);
}

/// What cannot be found is named in the body of a creation.
fn lost(world: &World, operation: &Operation) -> Option<Sent> {
    let mut body = body_for(world, operation)?;
    let (root, key) = match operation.id {
        "create_listener" => ("listener", "loadbalancer_id"),
        "create_pool" => ("pool", "loadbalancer_id"),
        "create_healthmonitor" => ("healthmonitor", "pool_id"),
        "create_l7policy" => ("l7policy", "listener_id"),
        "create_loadbalancer" => {
            body["loadbalancer"]["listeners"] =
                json!([{"protocol": "TCP", "protocol_port": 80, "default_pool_id": NOWHERE}]);
            return Some(Sent::with(Some(body)));
        }
        _ => return None,
    };
    body[root][key] = json!(NOWHERE);
    Some(Sent::with(Some(body)))
}

async fn conflict(world: &mut World, operation: &Operation) -> Option<Sent> {
    let mut body = body_for(world, operation);
    let mut set = |root: &str, key: &str, value: serde_json::Value| {
        if let Some(body) = &mut body {
            body[root][key] = value;
        }
    };
    match operation.id {
        "create_loadbalancer" => {
            set(
                "loadbalancer",
                "vip_address",
                json!(world.ids["vip_address"]),
            );
        }
        "create_listener" => set("listener", "protocol_port", json!(80)),
        "create_pool" => {
            set("pool", "protocol", json!("HTTP"));
            set("pool", "listener_id", json!(world.ids["listener_id"]));
        }
        "delete_pool" => {
            let policy = json!({
                "listener_id": world.ids["listener_id"], "action": "REDIRECT_TO_POOL",
                "redirect_pool_id": world.ids["pool_id"],
            });
            world.create("/v2/l7policies", "l7policy", policy).await;
        }
        "configure_amphora" => world.house.amphora.set_retiring(AMPHORA),
        "fail_over_amphora" => {
            world.ids.insert("amphora_id", OTHER.to_string());
        }
        "create_member" => set("member", "address", json!("10.1.0.11")),
        "create_healthmonitor" => {
            set("healthmonitor", "pool_id", json!(world.ids["pool_id"]));
        }
        "create_flavor" => set("flavor", "name", json!("plain")),
        "update_flavor" => {
            let profile = world.ids["flavorprofile_id"].clone();
            let other = json!({"name": "second", "flavor_profile_id": profile});
            world.create("/v2/flavors", "flavor", other).await;
            set("flavor", "name", json!("second"));
        }
        "create_availability_zone" => set("availability_zone", "name", json!("rack")),
        "update_flavorprofile" => {
            set(
                "flavorprofile",
                "flavor_data",
                json!("{\"loadbalancer_topology\": \"SINGLE\"}"),
            );
        }
        "update_availability_zone_profile" => {
            set(
                "availability_zone_profile",
                "availability_zone_data",
                json!("{\"compute_zone\": \"local\"}"),
            );
        }
        // In use.
        "delete_flavor"
        | "delete_flavorprofile"
        | "delete_availability_zone"
        | "delete_availability_zone_profile"
        | "delete_amphora" => {}
        // A load balancer that is being deleted, by an amphora that does not answer.
        _ => world.begin_to_delete().await,
    }
    Some(Sent::with(body))
}

async fn unsupported(world: &mut World, operation: &Operation) -> Option<Sent> {
    let mut body = body_for(world, operation)?;
    match operation.id {
        "create_loadbalancer" => {
            body["loadbalancer"]["listeners"] = json!([{"protocol": "SCTP", "protocol_port": 53}]);
        }
        "create_listener" => body["listener"]["protocol"] = json!("SCTP"),
        "create_pool" => body["pool"]["protocol"] = json!("SCTP"),
        "update_pool" => {
            let balancer = world.ids["loadbalancer_id"].clone();
            let pool = json!({"loadbalancer_id": balancer, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN"});
            let id = world.create("/v2/lbaas/pools", "pool", pool).await;
            world.ids.insert("pool_id", id);
            body["pool"]["tls_enabled"] = json!(true);
        }
        "create_healthmonitor" => body["healthmonitor"]["type"] = json!("SCTP"),
        "create_l7rule" | "update_l7rule" => {
            body["rule"] =
                json!({"type": "SSL_CONN_HAS_CERT", "compare_type": "EQUAL_TO", "value": "true"});
        }
        "create_flavorprofile" | "update_flavorprofile" => {
            body["flavorprofile"]["flavor_data"] = json!("{\"moons\": 2}");
        }
        "create_availability_zone_profile" | "update_availability_zone_profile" => {
            body["availability_zone_profile"]["availability_zone_data"] = json!("{\"moons\": 2}");
        }
        _ => {}
    }
    Some(Sent::with(Some(body)))
}

/// What has to be so before an operation succeeds.
async fn success(world: &mut World, operation: &Operation) -> Option<Sent> {
    free(world, operation.id).await;
    match operation.id {
        "delete_loadbalancer" => Some(Sent::with(None).query("cascade=true")),
        "delete_amphora" => {
            world.ids.insert("amphora_id", OTHER.to_string());
            None
        }
        _ => None,
    }
}

/// Has the operation be about something of the catalogue that nothing uses.
async fn free(world: &mut World, operation: &str) {
    let flavors = world.ids["flavorprofile_id"].clone();
    let zones = world.ids["availabilityzoneprofile_id"].clone();
    match operation {
        "update_flavorprofile" | "delete_flavorprofile" => {
            let profile = json!({"name": "free", "provider_name": "amphora", "flavor_data": "{}"});
            let id = world
                .create("/v2/flavorprofiles", "flavorprofile", profile)
                .await;
            world.ids.insert("flavorprofile_id", id);
        }
        "delete_flavor" => {
            let flavor = json!({"name": "free", "flavor_profile_id": flavors});
            let id = world.create("/v2/flavors", "flavor", flavor).await;
            world.ids.insert("flavor_id", id);
        }
        "update_availability_zone_profile" | "delete_availability_zone_profile" => {
            let profile =
                json!({"name": "free", "provider_name": "amphora", "availability_zone_data": "{}"});
            let id = world
                .create(
                    "/v2/availabilityzoneprofiles",
                    "availability_zone_profile",
                    profile,
                )
                .await;
            world.ids.insert("availabilityzoneprofile_id", id);
        }
        "delete_availability_zone" => {
            let zone = json!({"availability_zone": {"name": "free", "availability_zone_profile_id": zones}});
            let reply = world.post("/v2/availabilityzones", &zone).await;
            assert_eq!(reply.status, 201, "{}", reply.text);
            world
                .ids
                .insert("availability_zone_name", "free".to_owned());
        }
        _ => {}
    }
}

const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";
