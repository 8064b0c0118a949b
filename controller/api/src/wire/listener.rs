//! Listeners as JSON (reference 6).

use core::net::IpAddr;
use std::collections::BTreeMap;

use krater_controller_core::{
    command::{ListenerUpdate, NewL7Policy, NewListener, PoolRef},
    limits,
    model::{
        Description, Hsts, InsertHeaders, L7PolicyId, Listener, ListenerProtocol, ListenerTls,
        LoadBalancerId, Name, PoolId, Tags, Timeouts,
    },
    scan::Related,
    status::OperatingStatus,
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};

use super::{
    l7_policy,
    member::PORT_MAX,
    row::{self, Item},
    tls,
};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads the body of POST `/listeners`.
pub(crate) fn parse_new(body: Value) -> Result<(LoadBalancerId, NewListener), Fault> {
    let (parent, listener, default_pool) = body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            fields.project_of_child()?;
            let parent = fields
                .uuid("loadbalancer_id")?
                .mandatory("loadbalancer_id")?;
            if fields.take("default_pool").value().is_some() {
                return Err(Fault::validation(
                    "default_pool can only be given when a whole load balancer is created.",
                ));
            }
            let policies = fields.list(l7_policy::ROOT_LIST, Ok)?.or_default();
            if !policies.is_empty() {
                return Err(Fault::validation(
                    "l7policies can only be given when a whole load balancer is created.",
                ));
            }
            let listener = ListenerBody::read(fields)?;
            Ok((
                LoadBalancerId::new(parent),
                listener,
                fields.uuid("default_pool_id")?.value(),
            ))
        })
    })?;
    let default_pool = default_pool.map(|id| PoolRef::Existing(PoolId::new(id)));
    Ok((parent, listener.into_new(default_pool, Vec::new())))
}

/// Reads the body of PUT `/listeners/{id}`.
pub(crate) fn parse_update(body: Value) -> Result<ListenerUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            let defaults = Timeouts::default();
            Ok(ListenerUpdate {
                name: fields.name()?.value(),
                description: fields.description()?.value(),
                admin_state_up: fields.admin_state_up()?.value(),
                connection_limit: connection_limit(fields)?.set(None),
                default_pool: fields.uuid("default_pool_id")?.map(PoolId::new).clear(),
                allowed_cidrs: allowed_cidrs(fields)?.set(Vec::new()),
                client_data_ms: timeout(fields, "timeout_client_data")?
                    .set(defaults.client_data_ms),
                member_connect_ms: timeout(fields, "timeout_member_connect")?
                    .set(defaults.member_connect_ms),
                member_data_ms: timeout(fields, "timeout_member_data")?
                    .set(defaults.member_data_ms),
                tcp_inspect_ms: timeout(fields, "timeout_tcp_inspect")?
                    .set(defaults.tcp_inspect_ms),
                insert_headers: insert_headers(fields)?.set(InsertHeaders::default()),
                tls: tls::read_listener_update(fields)?,
                hsts: tls::read_hsts_update(fields)?,
                tags: fields.tags()?,
            })
        })
    })
}

/// All that the body of a new listener says, but for its pool.
pub(crate) struct ListenerBody {
    name: Name,
    description: Description,
    admin_state_up: bool,
    protocol: ListenerProtocol,
    protocol_port: u16,
    connection_limit: Option<u32>,
    allowed_cidrs: Vec<String>,
    timeouts: Timeouts,
    insert_headers: InsertHeaders,
    tls: ListenerTls,
    hsts: Hsts,
    tags: Tags,
}

impl ListenerBody {
    /// Reads the fields that a listener has wherever it is created.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let protocol = fields
            .one_of("protocol", &ListenerProtocol::ALL, ListenerProtocol::name)?
            .mandatory("protocol")?;
        let defaults = Timeouts::default();
        Ok(Self {
            name: fields.name()?.or_default(),
            description: fields.description()?.or_default(),
            admin_state_up: fields.admin_state_up()?.or(true),
            protocol,
            protocol_port: fields
                .integer("protocol_port", 1, PORT_MAX)?
                .mandatory("protocol_port")?,
            connection_limit: connection_limit(fields)?.or(None),
            allowed_cidrs: allowed_cidrs(fields)?.or_default(),
            timeouts: Timeouts {
                client_data_ms: timeout(fields, "timeout_client_data")?.or(defaults.client_data_ms),
                member_connect_ms: timeout(fields, "timeout_member_connect")?
                    .or(defaults.member_connect_ms),
                member_data_ms: timeout(fields, "timeout_member_data")?.or(defaults.member_data_ms),
                tcp_inspect_ms: timeout(fields, "timeout_tcp_inspect")?.or(defaults.tcp_inspect_ms),
            },
            insert_headers: insert_headers(fields)?.or_default(),
            tls: tls::read_listener(fields)?,
            hsts: tls::read_hsts(fields)?,
            tags: fields.tags()?.unwrap_or_default(),
        })
    }

    /// The listener.
    pub(crate) fn into_new(
        self,
        default_pool: Option<PoolRef>,
        l7_policies: Vec<NewL7Policy>,
    ) -> NewListener {
        NewListener {
            name: self.name,
            description: self.description,
            admin_state_up: self.admin_state_up,
            protocol: self.protocol,
            protocol_port: self.protocol_port,
            connection_limit: self.connection_limit,
            default_pool,
            allowed_cidrs: self.allowed_cidrs,
            timeouts: self.timeouts,
            insert_headers: self.insert_headers,
            tls: self.tls,
            hsts: self.hsts,
            l7_policies,
            tags: self.tags,
        }
    }
}

/// A listener of `view` as JSON.
pub(crate) fn render(view: &TreeView, row: &Row<Listener>, related: &Related) -> Item {
    let policies = related.l7_policies.iter().copied().map(L7PolicyId::uuid);
    let policies = row::references(policies);
    let mut item = render_with(view, row, policies);
    item.object.insert(
        "loadbalancers".into(),
        row::references([view.tree.load_balancer.value.id.uuid()]),
    );
    item
}

/// The same inside a whole tree, which needs no way back, with all below it.
pub(crate) fn render_nested(view: &TreeView, row: &Row<Listener>) -> Item {
    let positions = view.tree.positions();
    let position = |id| positions.get(&id).copied().unwrap_or_default();
    let policies = view.tree.policies_of(&row.value).into_iter();
    let policies = policies.map(|policy| {
        let item = l7_policy::render_nested(view, policy, position(policy.value.id));
        Value::Object(item.object)
    });
    render_with(view, row, policies.collect())
}

fn render_with(view: &TreeView, row: &Row<Listener>, policies: Value) -> Item {
    let listener = &row.value;
    let mut object = row::shared_keys(
        view,
        listener.id.uuid(),
        row,
        &listener.tags,
        OperatingStatus::Offline,
    );
    let cidrs = if listener.allowed_cidrs.is_empty() {
        Value::Null
    } else {
        json!(listener.allowed_cidrs)
    };
    row::extend(
        &mut object,
        json!({
            "name": listener.name.as_str(),
            "description": listener.description.as_str(),
            "admin_state_up": listener.admin_state_up,
            "protocol": listener.protocol.name(),
            "protocol_port": listener.protocol_port,
            "connection_limit": listener.connection_limit.map_or(-1, i64::from),
            "default_pool_id": listener.default_pool.map(PoolId::uuid),
            "l7policies": policies,
            "insert_headers": listener.insert_headers.0,
            "allowed_cidrs": cidrs,
            "timeout_client_data": listener.timeouts.client_data_ms,
            "timeout_member_connect": listener.timeouts.member_connect_ms,
            "timeout_member_data": listener.timeouts.member_data_ms,
            "timeout_tcp_inspect": listener.timeouts.tcp_inspect_ms,
        }),
    );
    row::extend(
        &mut object,
        tls::render_listener(&listener.tls, listener.hsts),
    );
    Item {
        created_at: row.created_at,
        object,
    }
}

/// A listener without what is below it, as the status tree shows it (reference 5.6).
pub(crate) fn render_status(view: &TreeView, row: &Row<Listener>) -> Map<String, Value> {
    let listener = &row.value;
    let id = listener.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, OperatingStatus::Offline);
    row::extend(
        &mut object,
        json!({"id": id, "name": listener.name.as_str()}),
    );
    object
}

/// `connection_limit`, where -1 stands for none of its own.
fn connection_limit(fields: &mut Fields) -> Result<Given<Option<u32>>, Fault> {
    let given = fields.integer::<i64>("connection_limit", -1, i64::from(i32::MAX))?;
    Ok(given.map(|limit| u32::try_from(limit).ok()))
}

fn timeout(fields: &mut Fields, name: &str) -> Result<Given<u32>, Fault> {
    fields.integer(name, 0, TIMEOUT_MS_MAX)
}

/// `allowed_cidrs`, masked and merged.
fn allowed_cidrs(fields: &mut Fields) -> Result<Given<Vec<String>>, Fault> {
    let entry = |value: Value| {
        let masked = value.as_str().and_then(mask);
        masked.ok_or_else(|| {
            Fault::input(
                "allowed_cidrs",
                &body::echo(&value),
                "Value should be IPv4 or IPv6 CIDR format",
            )
        })
    };
    fields.list("allowed_cidrs", entry)?.parse(|cidrs| {
        let mut merged: Vec<String> =
            Vec::with_capacity(cidrs.len().min(limits::ALLOWED_CIDRS_MAX));
        for cidr in cidrs {
            if !merged.contains(&cidr) {
                merged.push(cidr);
            }
            if merged.len() > limits::ALLOWED_CIDRS_MAX {
                let most = limits::ALLOWED_CIDRS_MAX;
                return Err(Fault::validation(format!(
                    "A listener may have at most {most} allowed CIDRs."
                )));
            }
        }
        Ok(merged)
    })
}

/// The network of a CIDR with its host bits cleared; a bare address is a network of one.
fn mask(cidr: &str) -> Option<String> {
    let (address, length) = match cidr.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (cidr, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length: u32 = match length {
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok()?,
        Some(_) => return None,
        None => bits,
    };
    let host_bits = bits.checked_sub(length)?;
    // Shifting by the whole width is a length of 0: everything is cleared.
    let network: IpAddr = match address {
        IpAddr::V4(address) => IpAddr::V4(
            u32::MAX
                .checked_shl(host_bits)
                .map_or(0, |mask| address.to_bits() & mask)
                .into(),
        ),
        IpAddr::V6(address) => IpAddr::V6(
            u128::MAX
                .checked_shl(host_bits)
                .map_or(0, |mask| address.to_bits() & mask)
                .into(),
        ),
    };
    Some(format!("{network}/{length}"))
}

/// `insert_headers`, unchecked.
fn insert_headers(fields: &mut Fields) -> Result<Given<InsertHeaders>, Fault> {
    fields.take("insert_headers").parse(|value| {
        let Value::Object(headers) = value else {
            return Err(Fault::input(
                "insert_headers",
                &body::echo(&value),
                "Value should be an object",
            ));
        };
        let mut map = BTreeMap::new();
        for (name, value) in headers {
            map.insert(
                name,
                body::text("insert_headers", value, body::TEXT_CHARACTERS_MAX)?,
            );
        }
        Ok(InsertHeaders(map))
    })
}

/// What listeners can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[
    "description",
    "protocol",
    "protocol_port",
    "connection_limit",
    "default_pool_id",
    "default_tls_container_ref",
    "timeout_client_data",
    "timeout_member_connect",
    "timeout_member_data",
    "timeout_tcp_inspect",
    "client_ca_tls_container_ref",
    "client_authentication",
    "client_crl_container_ref",
    "tls_ciphers",
    "hsts_max_age",
    "hsts_include_subdomains",
    "hsts_preload",
];

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "listener_";
/// The key of one.
pub(crate) const ROOT: &str = "listener";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "listeners";
/// 24 days, the longest timer of the proxy the API was made for (reference 6.2).
const TIMEOUT_MS_MAX: i64 = 2_073_600_000;

#[cfg(test)]
mod tests;
