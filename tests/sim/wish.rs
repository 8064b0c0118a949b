//! What clients wish for.

use std::net::{IpAddr, Ipv4Addr};

use krater_controller_core::{
    command::{
        BatchMember, NewHealthMonitor, NewListener, NewLoadBalancer, NewMember, NewPool, PoolRef,
    },
    model::{
        Chosen, Description, InsertHeaders, LbAlgorithm, ListenerProtocol, MonitorKind, Name,
        OfferId, PoolProtocol, ProjectId, Tags, Timeouts, VipRequest,
    },
};
use krater_driver_local::NoopNetwork;

use crate::dice::Dice;

/// A load balancer, sometimes with a listener and a pool, all of one name.
pub(crate) fn load_balancer(
    name: &str,
    project: &ProjectId,
    flavor: Option<OfferId>,
    dice: &mut Dice,
) -> NewLoadBalancer {
    let is_whole = dice.per_mille(600);
    let (listeners, pools) = if is_whole {
        let pool = Some(PoolRef::New(0));
        (
            vec![listener(name, name, 80, pool)],
            vec![pool_of(name, dice)],
        )
    } else {
        (Vec::new(), Vec::new())
    };
    NewLoadBalancer {
        project: Some(project.clone()),
        name: named(name),
        description: described(name),
        admin_state_up: true,
        vip: VipRequest {
            network_id: NoopNetwork::new().unwrap().network_id("noop"),
            ..VipRequest::default()
        },
        provider: None,
        flavor_id: flavor.map(OfferId::uuid),
        availability_zone: None,
        chosen: Chosen::default(),
        tags: Tags::default(),
        listeners,
        pools,
    }
}

fn pool_of(name: &str, dice: &mut Dice) -> NewPool {
    let health_monitor = dice.per_mille(500).then(monitor);
    NewPool {
        health_monitor,
        ..pool(name, name, dice)
    }
}

pub(crate) fn listener(
    name: &str,
    token: &str,
    port: u16,
    default_pool: Option<PoolRef>,
) -> NewListener {
    NewListener {
        name: named(name),
        description: described(token),
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

pub(crate) fn pool(name: &str, token: &str, dice: &mut Dice) -> NewPool {
    let algorithms = [LbAlgorithm::RoundRobin, LbAlgorithm::LeastConnections];
    NewPool {
        name: named(name),
        description: described(token),
        admin_state_up: true,
        protocol: PoolProtocol::Tcp,
        lb_algorithm: algorithms[dice.index(2)],
        session_persistence: None,
        tls: Default::default(),
        tags: Tags::default(),
        members: Vec::new(),
        health_monitor: None,
    }
}

pub(crate) fn member(name: &str, number: u64, dice: &mut Dice) -> NewMember {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    NewMember {
        name: named(name),
        admin_state_up: true,
        address: IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
        protocol_port: 80,
        weight: dice.within(1..257) as u16,
        backup: false,
        subnet_id: None,
        monitor_address: None,
        monitor_port: None,
        request_sriov: false,
        tags: Tags::default(),
    }
}

pub(crate) const fn batched(member: NewMember) -> BatchMember {
    BatchMember {
        member,
        names: true,
        tags: true,
        subnet: true,
    }
}

fn monitor() -> NewHealthMonitor {
    NewHealthMonitor {
        name: Name::default(),
        admin_state_up: true,
        kind: MonitorKind::Tcp {
            http_version: None,
            domain_name: None,
        },
        delay_seconds: 5,
        timeout_seconds: 3,
        max_retries: 3,
        max_retries_down: 3,
        tags: Tags::default(),
    }
}

fn named(text: &str) -> Name {
    Name::parse(text.to_owned()).unwrap()
}

fn described(text: &str) -> Description {
    Description::parse(text.to_owned()).unwrap()
}
