//! Specs to test with.

use alloc::{string::String, vec, vec::Vec};

use krater_amphora_api::{
    Algorithm, ExpectedCodes, Generation, HealthMonitorId, HttpProbeSpec, InsertHeadersSpec,
    ListenerId, ListenerProtocol, ListenerSpec, LoadBalancerId, MemberId, MemberSpec, MonitorSpec,
    PoolId, PoolProtocol, PoolSpec, ProbeSpec, SnapshotSpec, TimeoutsSpec, VipSpec,
};
use uuid::Uuid;

use crate::snapshot::{Pool, Snapshot};

pub(crate) const fn listener_id(number: u128) -> ListenerId {
    ListenerId::new(Uuid::from_u128(0x1000_0000_0000 + number))
}

pub(crate) const fn pool_id(number: u128) -> PoolId {
    PoolId::new(Uuid::from_u128(0x2000_0000_0000 + number))
}

pub(crate) const fn member_id(number: u128) -> MemberId {
    MemberId::new(Uuid::from_u128(0x3000_0000_0000 + number))
}

pub(crate) const fn monitor_id(number: u128) -> HealthMonitorId {
    HealthMonitorId::new(Uuid::from_u128(0x4000_0000_0000 + number))
}

/// A load balancer with one VIP, an HTTP listener on port 80 and a pool of two HTTP members with an HTTP monitor.
pub(crate) fn spec() -> SnapshotSpec {
    SnapshotSpec {
        load_balancer: LoadBalancerId::new(Uuid::from_u128(1)),
        name: String::from("web"),
        generation: Generation::FIRST,
        enabled: true,
        vips: vec![vip("192.0.2.10")],
        listeners: vec![ListenerSpec {
            default_pool: Some(pool_id(1)),
            ..listener(1, ListenerProtocol::Http, 80)
        }],
        pools: vec![PoolSpec {
            monitor: Some(monitor(1, ProbeSpec::Http(http_probe()))),
            ..pool(1, PoolProtocol::Http, vec![member(1), member(2)])
        }],
        takes_over: false,
        member_drain_ms: None,
        announcement: None,
        session_peers: Vec::new(),
    }
}

pub(crate) fn vip(address: &str) -> VipSpec {
    VipSpec {
        address: address.parse().unwrap(),
    }
}

pub(crate) fn listener(number: u128, protocol: ListenerProtocol, port: u16) -> ListenerSpec {
    ListenerSpec {
        id: listener_id(number),
        name: String::from("front"),
        enabled: true,
        protocol,
        port,
        connection_limit: 50_000,
        default_pool: None,
        allowed_cidrs: Vec::new(),
        timeouts: TimeoutsSpec::default(),
        insert_headers: InsertHeadersSpec::default(),
        source_rate: None,
        tls: None,
        hsts: None,
        policies: Vec::new(),
        access_log: None,
        congestion_control: None,
    }
}

pub(crate) fn pool(number: u128, protocol: PoolProtocol, members: Vec<MemberSpec>) -> PoolSpec {
    PoolSpec {
        id: pool_id(number),
        name: String::from("back"),
        enabled: true,
        protocol,
        algorithm: Algorithm::RoundRobin,
        persistence: None,
        members,
        monitor: None,
        passive_health: None,
        slow_start_ms: 0,
        member_requests: None,
        tls: None,
    }
}

pub(crate) fn member(number: u128) -> MemberSpec {
    MemberSpec {
        id: member_id(number),
        name: String::from("server"),
        enabled: true,
        address: "198.51.100.1".parse().unwrap(),
        port: 8080,
        weight: 1,
        backup: false,
        monitor_address: None,
        monitor_port: None,
    }
}

pub(crate) fn monitor(number: u128, probe: ProbeSpec) -> MonitorSpec {
    MonitorSpec {
        id: monitor_id(number),
        enabled: true,
        probe,
        delay_ms: 5_000,
        timeout_ms: 2_000,
        rise: 2,
        fall: 3,
    }
}

pub(crate) fn http_probe() -> HttpProbeSpec {
    HttpProbeSpec {
        method: String::from("GET"),
        path: String::from("/ready?deep=1"),
        expected_codes: vec![ExpectedCodes {
            first: 200,
            last: 204,
        }],
        version: None,
        domain_name: None,
    }
}

/// A parsed pool of the given algorithm and members.
pub(crate) fn parsed_pool(algorithm: Algorithm, members: Vec<MemberSpec>) -> Pool {
    let spec = SnapshotSpec {
        listeners: Vec::new(),
        pools: vec![PoolSpec {
            algorithm,
            ..pool(1, PoolProtocol::Tcp, members)
        }],
        ..spec()
    };
    Snapshot::parse(spec).unwrap().pools()[0].clone()
}
