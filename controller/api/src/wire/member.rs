//! Members as JSON (reference 8).

use krater_controller_core::{
    command::{BatchMember, MemberUpdate, NewMember},
    model::{Member, PoolId},
    status::OperatingStatus,
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};

use super::row::{self, Item};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads the body of POST `/pools/{id}/members`.
pub(crate) fn parse_new(body: Value) -> Result<NewMember, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            fields.project_of_child()?;
            MemberBody::read(fields)
        })
    })
    .map(MemberBody::into_new)
}

/// Reads a member inside a pool of a whole tree.
pub(crate) fn read_nested(value: Value, path: &str) -> Result<MemberBody, Fault> {
    body::read(value, path, MemberBody::read)
}

/// Reads the body of PUT `/pools/{id}/members/{id}`.
pub(crate) fn parse_update(body: Value) -> Result<MemberUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            Ok(MemberUpdate {
                name: fields.name()?.value(),
                admin_state_up: fields.admin_state_up()?.value(),
                weight: fields.integer("weight", 0, WEIGHT_MAX)?.set(WEIGHT_DEFAULT),
                backup: fields.boolean("backup")?.set(false),
                monitor_address: fields.address("monitor_address")?.clear(),
                monitor_port: fields.integer("monitor_port", 1, PORT_MAX)?.clear(),
                tags: fields.tags()?,
            })
        })
    })
}

/// Reads the body of PUT `/pools/{id}/members` (reference 8.4). The same new member twice is for the domain to refuse.
pub(crate) fn parse_batch(body: Value) -> Result<Vec<BatchMember>, Fault> {
    let bodies = body::read(body, BATCH_ARGUMENT, |fields| {
        let path = fields.path_of(ROOT_LIST);
        let entry = |value| {
            body::read(value, &path, |fields| {
                fields.project_of_child()?;
                MemberBody::read(fields)
            })
        };
        fields.list(ROOT_LIST, entry)?.mandatory(ROOT_LIST)
    })?;
    Ok(bodies.into_iter().map(MemberBody::into_batch).collect())
}

/// All that the body of a new member says.
pub(crate) struct MemberBody {
    member: NewMember,
    names: bool,
    tags: bool,
    subnet: bool,
}

impl MemberBody {
    fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let name = fields.name()?;
        let tags = fields.tags()?;
        let subnet = fields.uuid("subnet_id")?;
        Ok(Self {
            names: name != Given::Absent,
            tags: tags.is_some(),
            subnet: subnet != Given::Absent,
            member: NewMember {
                name: name.or_default(),
                admin_state_up: fields.admin_state_up()?.or(true),
                address: fields.address("address")?.mandatory("address")?,
                protocol_port: fields
                    .integer("protocol_port", 1, PORT_MAX)?
                    .mandatory("protocol_port")?,
                weight: fields.integer("weight", 0, WEIGHT_MAX)?.or(WEIGHT_DEFAULT),
                backup: match fields.boolean("backup")? {
                    Given::Null => return Err(Fault::option("None", "backup")),
                    given => given.or(false),
                },
                subnet_id: subnet.value(),
                monitor_address: fields.address("monitor_address")?.value(),
                monitor_port: fields.integer("monitor_port", 1, PORT_MAX)?.value(),
                request_sriov: fields.boolean("request_sriov")?.or(false),
                tags: tags.unwrap_or_default(),
            },
        })
    }

    /// The member.
    pub(crate) fn into_new(self) -> NewMember {
        self.member
    }

    fn into_batch(self) -> BatchMember {
        BatchMember {
            member: self.member,
            names: self.names,
            tags: self.tags,
            subnet: self.subnet,
        }
    }
}

/// A member of `view` as JSON.
pub(crate) fn render(view: &TreeView, row: &Row<Member>) -> Item {
    let member = &row.value;
    let id = member.id.uuid();
    let mut object = row::shared_keys(view, id, row, &member.tags, idle_status(view, member.pool));
    row::extend(
        &mut object,
        json!({
            "name": member.name.as_str(),
            "admin_state_up": member.admin_state_up,
            "address": member.address,
            "protocol_port": member.protocol_port,
            "weight": member.weight,
            "backup": member.backup,
            "subnet_id": member.subnet_id,
            "monitor_address": member.monitor_address,
            "monitor_port": member.monitor_port,
            "vnic_type": member.vnic_type.name(),
        }),
    );
    Item {
        created_at: row.created_at,
        object,
    }
}

/// The members of the pool `pool`, each as JSON.
pub(crate) fn render_of_pool(view: &TreeView, pool: PoolId) -> impl Iterator<Item = Item> {
    view.tree
        .members
        .iter()
        .filter(move |row| row.value.pool == pool)
        .map(move |row| render(view, row))
}

/// A member as the status tree shows it (reference 5.6).
pub(crate) fn render_status(view: &TreeView, row: &Row<Member>) -> Map<String, Value> {
    let member = &row.value;
    let id = member.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, idle_status(view, member.pool));
    row::extend(
        &mut object,
        json!({
            "id": id,
            "name": member.name.as_str(),
            "address": member.address,
            "protocol_port": member.protocol_port,
        }),
    );
    object
}

/// What a member shows before anything was heard of it (reference 8.3).
fn idle_status(view: &TreeView, pool: PoolId) -> OperatingStatus {
    if view
        .tree
        .health_monitors
        .iter()
        .any(|monitor| monitor.value.pool == pool)
    {
        OperatingStatus::Offline
    } else {
        OperatingStatus::NoMonitor
    }
}

/// What members can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[
    "address",
    "protocol_port",
    "weight",
    "backup",
    "subnet_id",
    "monitor_address",
    "monitor_port",
    "vnic_type",
];
/// The largest port.
pub(crate) const PORT_MAX: i64 = 65_535;

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "member_";
/// The argument's name of a batch in errors.
pub(crate) const BATCH_ARGUMENT: &str = "members_";
/// The key of one.
pub(crate) const ROOT: &str = "member";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "members";
const WEIGHT_MAX: i64 = 256;
const WEIGHT_DEFAULT: u16 = 1;
