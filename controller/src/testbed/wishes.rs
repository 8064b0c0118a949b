//! What tests ask for, and where it is in what they get.

use std::net::IpAddr;

use krater_controller_core::{
    command::{NewListener, NewMember, PoolRef},
    model::{Description, InsertHeaders, ListenerProtocol, Name, PoolId, Tags, Timeouts},
    tree::TreeView,
};

pub(crate) fn new_listener(port: u16, default_pool: Option<PoolRef>) -> NewListener {
    NewListener {
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        protocol: ListenerProtocol::Tcp,
        protocol_port: port,
        connection_limit: None,
        default_pool,
        allowed_cidrs: Vec::new(),
        timeouts: Timeouts::default(),
        insert_headers: InsertHeaders::default(),
        tls: Default::default(),
        hsts: Default::default(),
        l7_policies: Vec::new(),
        tags: Tags::default(),
    }
}

pub(crate) fn new_member(address: IpAddr) -> NewMember {
    NewMember {
        name: Name::default(),
        admin_state_up: true,
        address,
        protocol_port: 80,
        weight: 1,
        backup: false,
        subnet_id: None,
        monitor_address: None,
        monitor_port: None,
        request_sriov: false,
        tags: Tags::default(),
    }
}

/// The first pool of a tree.
pub(crate) fn pool_of(view: &TreeView) -> PoolId {
    view.tree.pools[0].value.id
}
