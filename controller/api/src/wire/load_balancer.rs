//! Load balancers as JSON (reference 5).

use std::collections::BTreeSet;

use krater_controller_core::{
    command::{LoadBalancerUpdate, NewLoadBalancer},
    model::{Chosen, ListenerId, LoadBalancer, PoolId, ProjectId, VipRequest},
    scan::Related,
    status::OperatingStatus,
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    graph, listener, pool,
    row::{self, Item},
};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
    settings::Provider,
};

/// Reads the body of POST `/loadbalancers`, children included (reference 17).
pub(crate) fn parse_new(body: Value, providers: &[Provider]) -> Result<NewLoadBalancer, Fault> {
    let (new, children) = body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| read_new(fields, providers))
    })?;
    let (listeners, pools) = children.resolve()?;
    Ok(NewLoadBalancer {
        listeners,
        pools,
        ..new
    })
}

fn read_new(
    fields: &mut Fields,
    providers: &[Provider],
) -> Result<(NewLoadBalancer, graph::Children), Fault> {
    let flavor_id = match fields.uuid("flavor_id")? {
        // That no flavor is wanted is said by leaving it out (reference 5.3 step 6).
        Given::Null => return Err(Fault::validation("Invalid flavor_id.")),
        given => given.value(),
    };
    let zone = fields.text("availability_zone", body::TEXT_CHARACTERS_MAX)?;
    let provider = fields.text("provider", PROVIDER_CHARACTERS_MAX)?.value();
    if let Some(name) = &provider
        && !providers.iter().any(|provider| provider.name == *name)
    {
        return Err(Fault::bad_request(format!(
            "Provider '{name}' is not enabled."
        )));
    }
    let new = NewLoadBalancer {
        project: project(fields)?,
        name: fields.name()?.or_default(),
        description: fields.description()?.or_default(),
        admin_state_up: fields.admin_state_up()?.or(true),
        vip: read_vip(fields)?,
        provider,
        flavor_id,
        availability_zone: zone.value(),
        chosen: Chosen::default(),
        tags: fields.tags()?.unwrap_or_default(),
        listeners: Vec::new(),
        pools: Vec::new(),
    };
    let children = graph::read(fields)?;
    Ok((new, children))
}

/// Reads the body of PUT `/loadbalancers/{id}`.
pub(crate) fn parse_update(body: Value) -> Result<LoadBalancerUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            Ok(LoadBalancerUpdate {
                name: fields.name()?.value(),
                description: fields.description()?.value(),
                admin_state_up: fields.admin_state_up()?.value(),
                vip_qos_policy_id: fields.uuid("vip_qos_policy_id")?.clear(),
                vip_sg_ids: security_groups(fields)?.set(Vec::new()),
                tags: fields.tags()?,
            })
        })
    })
}

/// A load balancer as JSON, its children by id only.
pub(crate) fn render(view: &TreeView, related: &Related) -> Item {
    let listeners = related.listeners.iter().copied().map(ListenerId::uuid);
    let pools = related.pools.iter().copied().map(PoolId::uuid);
    render_with(view, row::references(listeners), row::references(pools))
}

/// A load balancer as JSON with all below it, as its creation answers (reference 17).
pub(crate) fn render_tree(view: &TreeView) -> Item {
    let listeners = view
        .tree
        .listeners
        .iter()
        .map(|row| Value::Object(listener::render_nested(view, row).object));
    let pools = view
        .tree
        .pools
        .iter()
        .map(|row| Value::Object(pool::render_nested(view, row).object));
    render_with(view, listeners.collect(), pools.collect())
}

/// A load balancer without what is below it, as the status tree shows it (reference 5.6).
pub(crate) fn render_status(view: &TreeView) -> Map<String, Value> {
    let row = &view.tree.load_balancer;
    let id = row.value.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, OperatingStatus::Offline);
    row::extend(
        &mut object,
        json!({"id": id, "name": row.value.name.as_str()}),
    );
    object
}

fn render_with(view: &TreeView, listeners: Value, pools: Value) -> Item {
    let row: &Row<LoadBalancer> = &view.tree.load_balancer;
    let load_balancer = &row.value;
    let vip = &load_balancer.vip;
    let additional: Vec<Value> = load_balancer
        .additional_vips
        .iter()
        .map(|more| json!({"subnet_id": more.subnet_id, "ip_address": more.address, "port_id": vip.port_id}))
        .collect();
    let id = load_balancer.id.uuid();
    let mut object = row::shared_keys(view, id, row, &load_balancer.tags, OperatingStatus::Offline);
    row::extend(
        &mut object,
        json!({
            "name": load_balancer.name.as_str(),
            "description": load_balancer.description.as_str(),
            "admin_state_up": load_balancer.admin_state_up,
            "vip_address": vip.address,
            "vip_port_id": vip.port_id,
            "vip_subnet_id": vip.subnet_id,
            "vip_network_id": vip.network_id,
            "vip_qos_policy_id": load_balancer.vip_qos_policy_id,
            "vip_vnic_type": load_balancer.vip_vnic_type.name(),
            "vip_sg_ids": load_balancer.vip_sg_ids,
            "additional_vips": additional,
            "listeners": listeners,
            "pools": pools,
            "provider": load_balancer.provider,
            "flavor_id": load_balancer.flavor_id,
            "availability_zone": load_balancer.availability_zone,
        }),
    );
    Item {
        created_at: row.created_at,
        object,
    }
}

/// Security groups, those given twice once.
fn security_groups(fields: &mut Fields) -> Result<Given<Vec<Uuid>>, Fault> {
    let groups = fields.list("vip_sg_ids", |value| uuid("vip_sg_ids", &value))?;
    Ok(groups.map(|groups| {
        let mut seen = BTreeSet::new();
        groups
            .into_iter()
            .filter(|group| seen.insert(*group))
            .collect()
    }))
}

/// The project asked for, by either name; an empty one is none.
fn project(fields: &mut Fields) -> Result<Option<ProjectId>, Fault> {
    let project = fields
        .text("project_id", body::PROJECT_CHARACTERS_MAX)?
        .value();
    let tenant = fields
        .text("tenant_id", body::PROJECT_CHARACTERS_MAX)?
        .value();
    Ok(project.or(tenant).as_deref().and_then(ProjectId::parse))
}

/// The VIP asked for; whether it can be had is not for the body to say (reference 5.3, 5.4).
fn read_vip(fields: &mut Fields) -> Result<VipRequest, Fault> {
    let port_id = fields.uuid("vip_port_id")?.value();
    let path = fields.path_of("additional_vips");
    let entry = |value| {
        body::read(value, &path, |fields| {
            let port = fields.uuid("port_id")?.value();
            if port.is_some() && port != port_id {
                return Err(Fault::validation(
                    "additional_vips are on the port of the VIP and cannot have one of their own.",
                ));
            }
            let subnet = fields.uuid("subnet_id")?.mandatory("subnet_id")?;
            Ok((subnet, fields.address("ip_address")?.value()))
        })
    };
    Ok(VipRequest {
        address: fields.address("vip_address")?.value(),
        port_id,
        subnet_id: fields.uuid("vip_subnet_id")?.value(),
        network_id: fields.uuid("vip_network_id")?.value(),
        additional: fields.list("additional_vips", entry)?.or_default(),
        qos_policy_id: fields.uuid("vip_qos_policy_id")?.value(),
        security_group_ids: security_groups(fields)?.or_default(),
    })
}

fn uuid(name: &str, value: &Value) -> Result<Uuid, Fault> {
    let parsed = value.as_str().and_then(|text| Uuid::parse_str(text).ok());
    parsed.ok_or_else(|| Fault::input(name, &body::echo(value), "Value should be UUID format"))
}

/// What load balancers can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[
    "description",
    "vip_address",
    "vip_port_id",
    "vip_subnet_id",
    "vip_network_id",
    "vip_qos_policy_id",
    "vip_vnic_type",
    "provider",
    "flavor_id",
    "availability_zone",
];

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "load_balancer";
/// The key of one.
pub(crate) const ROOT: &str = "loadbalancer";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "loadbalancers";
const PROVIDER_CHARACTERS_MAX: usize = 64;
