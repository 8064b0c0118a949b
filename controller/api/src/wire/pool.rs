//! Pools as JSON (reference 7).

use krater_controller_core::{
    command::{NewHealthMonitor, NewMember, NewPool, PoolParent, PoolUpdate},
    model::{
        Description, LbAlgorithm, ListenerId, LoadBalancerId, MemberId, Name, Pool, PoolProtocol,
        PoolTls, SessionPersistence, Tags,
    },
    query::ResourceId,
    scan::Related,
    status::OperatingStatus,
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};

use super::{
    health_monitor, member, persistence,
    row::{self, Item},
    tls,
};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads the body of POST `/pools`.
pub(crate) fn parse_new(body: Value) -> Result<(PoolParent, NewPool), Fault> {
    let (parent, pool) = body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            fields.project_of_child()?;
            let parent = PoolParent {
                load_balancer: fields
                    .uuid("loadbalancer_id")?
                    .value()
                    .map(LoadBalancerId::new),
                listener: fields.uuid("listener_id")?.value().map(ListenerId::new),
            };
            if parent.load_balancer.is_none() && parent.listener.is_none() {
                return Err(Fault::bad_request(
                    "Must provide at least one of: loadbalancer_id, listener_id",
                ));
            }
            let members = fields
                .list("members", Ok)?
                .value()
                .is_some_and(|members| !members.is_empty());
            if members || fields.take("healthmonitor").value().is_some() {
                return Err(Fault::validation(
                    "members and healthmonitor can only be given when a whole load balancer is created.",
                ));
            }
            Ok((parent, PoolBody::read(fields)?))
        })
    })?;
    Ok((parent, pool.into_new(Vec::new(), None)))
}

/// Reads the body of PUT `/pools/{id}`.
pub(crate) fn parse_update(body: Value) -> Result<PoolUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            Ok(PoolUpdate {
                name: fields.name()?.value(),
                description: fields.description()?.value(),
                admin_state_up: fields.admin_state_up()?.value(),
                lb_algorithm: algorithm(fields)?.set_not_null(ALGORITHM)?,
                session_persistence: persistence::read_update(fields)?.clear(),
                tls: tls::read_pool_update(fields)?,
                tags: fields.tags()?,
            })
        })
    })
}

/// All that the body of a new pool says, but for what is below it.
pub(crate) struct PoolBody {
    name: Name,
    description: Description,
    admin_state_up: bool,
    protocol: PoolProtocol,
    lb_algorithm: LbAlgorithm,
    session_persistence: Option<SessionPersistence>,
    tls: PoolTls,
    tags: Tags,
}

impl PoolBody {
    /// Reads the fields that a pool has wherever it is created.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, Fault> {
        Ok(Self {
            name: fields.name()?.or_default(),
            description: fields.description()?.or_default(),
            admin_state_up: fields.admin_state_up()?.or(true),
            protocol: fields
                .one_of("protocol", &PoolProtocol::ALL, PoolProtocol::name)?
                .mandatory("protocol")?,
            lb_algorithm: algorithm(fields)?.mandatory(ALGORITHM)?,
            session_persistence: persistence::read_new(fields)?,
            tls: tls::read_pool(fields)?,
            tags: fields.tags()?.unwrap_or_default(),
        })
    }

    /// Its name, by which listeners of the same request refer to it.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The pool.
    pub(crate) fn into_new(
        self,
        members: Vec<NewMember>,
        health_monitor: Option<NewHealthMonitor>,
    ) -> NewPool {
        NewPool {
            name: self.name,
            description: self.description,
            admin_state_up: self.admin_state_up,
            protocol: self.protocol,
            lb_algorithm: self.lb_algorithm,
            session_persistence: self.session_persistence,
            tls: self.tls,
            tags: self.tags,
            members,
            health_monitor,
        }
    }
}

/// A pool of `view` as JSON.
pub(crate) fn render(view: &TreeView, row: &Row<Pool>, related: &Related) -> Item {
    let mut item = render_own(view, row, related);
    item.object.insert(
        "members".into(),
        row::references(related.members.iter().copied().map(MemberId::uuid)),
    );
    item.object.insert(
        "loadbalancers".into(),
        row::references([view.tree.load_balancer.value.id.uuid()]),
    );
    // The only key that is left out rather than null (reference 1.4).
    if let Some(monitor) = related.health_monitor {
        item.object
            .insert("healthmonitor_id".into(), json!(monitor.uuid()));
    }
    item
}

/// The same inside a whole tree, with all below it.
pub(crate) fn render_nested(view: &TreeView, row: &Row<Pool>) -> Item {
    let id = row.value.id;
    let mut item = render_own(view, row, &Related::of(&view.tree, ResourceId::Pool(id)));
    let members = member::render_of_pool(view, id).map(|member| Value::Object(member.object));
    item.object.insert("members".into(), members.collect());
    let monitor = view
        .tree
        .health_monitors
        .iter()
        .find(|monitor| monitor.value.pool == id);
    let monitor = monitor.map(|monitor| health_monitor::render_nested(view, monitor).object);
    item.object.insert(
        "healthmonitor".into(),
        monitor.map_or(Value::Null, Value::Object),
    );
    item
}

/// A pool with all below it, as the status tree shows it (reference 5.6).
pub(crate) fn render_status(view: &TreeView, row: &Row<Pool>) -> Map<String, Value> {
    let pool = &row.value;
    let id = pool.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, OperatingStatus::Offline);
    let monitor = view
        .tree
        .health_monitors
        .iter()
        .find(|monitor| monitor.value.pool == pool.id);
    let monitor = monitor.map(|monitor| health_monitor::render_status(view, monitor));
    let members = view
        .tree
        .members
        .iter()
        .filter(|member| member.value.pool == pool.id);
    let members: Vec<_> = members
        .map(|member| member::render_status(view, member))
        .collect();
    row::extend(
        &mut object,
        json!({"id": id, "name": pool.name.as_str(), "health_monitor": monitor, "members": members}),
    );
    object
}

fn render_own(view: &TreeView, row: &Row<Pool>, related: &Related) -> Item {
    let pool = &row.value;
    let mut object = row::shared_keys(
        view,
        pool.id.uuid(),
        row,
        &pool.tags,
        OperatingStatus::Offline,
    );
    row::extend(
        &mut object,
        json!({
            "name": pool.name.as_str(),
            "description": pool.description.as_str(),
            "admin_state_up": pool.admin_state_up,
            "protocol": pool.protocol.name(),
            "lb_algorithm": pool.lb_algorithm.name(),
            "listeners": row::references(related.listeners.iter().copied().map(ListenerId::uuid)),
            persistence::ROOT: persistence::render(pool.session_persistence.as_ref()),
        }),
    );
    row::extend(&mut object, tls::render_pool(&pool.tls));
    Item {
        created_at: row.created_at,
        object,
    }
}

fn algorithm(fields: &mut Fields) -> Result<Given<LbAlgorithm>, Fault> {
    fields.one_of(ALGORITHM, &LbAlgorithm::ALL, LbAlgorithm::name)
}

/// What pools can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[
    "description",
    "protocol",
    "lb_algorithm",
    "tls_enabled",
    "tls_container_ref",
    "ca_tls_container_ref",
    "crl_container_ref",
    "tls_ciphers",
];

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "pool_";
/// The key of one.
pub(crate) const ROOT: &str = "pool";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "pools";
const ALGORITHM: &str = "lb_algorithm";
