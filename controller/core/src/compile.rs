//! A tree → what an amphora should do about it: the one translation between tenants' words and the data plane's (D2).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use krater_amphora_api::{
    Algorithm, HttpProbeSpec, InsertHeadersSpec, ListenerProtocol as Spoken, ListenerSpec,
    MemberSpec, MonitorSpec, PoolId, PoolProtocol as SpokenToMembers, PoolSpec, ProbeSpec,
    SnapshotSpec, TimeoutsSpec, VipSpec,
};

use crate::{
    limits,
    model::{
        HealthMonitor, InsertHeaders, LbAlgorithm, Listener, ListenerProtocol, LoadBalancer,
        Member, MonitorKind, Pool, PoolProtocol, Timeouts,
    },
    tree::{LoadBalancerTree, Row},
};

/// What the deployment fills in where the tenant left it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Concurrent connections of a listener without a limit of its own, at least 1 (reference 6.4, remarks).
    pub connection_limit: u32,
}

impl Default for Defaults {
    /// Octavia's `default_connection_limit` (reference 20.10).
    fn default() -> Self {
        Self {
            connection_limit: 50_000,
        }
    }
}

/// Compiles a tree. Rows that are being deleted are left out; what names them is left without.
#[must_use]
pub fn compile(tree: &LoadBalancerTree, defaults: Defaults) -> SnapshotSpec {
    let balancer = &tree.load_balancer.value;
    let mut members = BTreeMap::<PoolId, Vec<MemberSpec>>::new();
    for member in wanted(&tree.members) {
        members
            .entry(member.pool)
            .or_default()
            .push(compile_member(member));
    }
    let mut monitors: BTreeMap<PoolId, MonitorSpec> = wanted(&tree.health_monitors)
        .map(|monitor| (monitor.pool, compile_monitor(monitor)))
        .collect();
    let pools: Vec<PoolSpec> = wanted(&tree.pools)
        .map(|pool| {
            compile_pool(
                pool,
                members.remove(&pool.id).unwrap_or_default(),
                monitors.remove(&pool.id),
            )
        })
        .collect();
    let known: BTreeSet<PoolId> = pools.iter().map(|pool| pool.id).collect();
    SnapshotSpec {
        load_balancer: balancer.id,
        name: balancer.name.as_str().into(),
        generation: tree.generation(),
        enabled: balancer.admin_state_up && !tree.load_balancer.is_leaving(),
        vips: compile_vips(balancer),
        listeners: wanted(&tree.listeners)
            .map(|listener| {
                compile_listener(
                    listener,
                    &known,
                    balancer.steering.connections_max,
                    defaults,
                )
            })
            .collect(),
        pools,
        takes_over: false,
    }
}

/// The values of the rows that are not being deleted.
fn wanted<T>(rows: &[Row<T>]) -> impl Iterator<Item = &T> {
    rows.iter()
        .filter(|row| !row.is_leaving())
        .map(|row| &row.value)
}

/// Every address once, even should the network have given one twice: an amphora refuses to bind it twice.
fn compile_vips(balancer: &LoadBalancer) -> Vec<VipSpec> {
    let mut seen = BTreeSet::new();
    core::iter::once(balancer.vip.address)
        .chain(balancer.additional_vips.iter().map(|vip| vip.address))
        .filter(|address| seen.insert(address.to_canonical()))
        .map(|address| VipSpec { address })
        .collect()
}

fn compile_listener(
    listener: &Listener,
    known: &BTreeSet<PoolId>,
    connections_max: Option<u32>,
    defaults: Defaults,
) -> ListenerSpec {
    let Timeouts {
        client_data_ms,
        member_connect_ms,
        member_data_ms,
        tcp_inspect_ms,
    } = listener.timeouts;
    let limit = listener
        .connection_limit
        .filter(|limit| *limit > 0)
        .unwrap_or(defaults.connection_limit)
        .min(connections_max.unwrap_or(u32::MAX));
    ListenerSpec {
        id: listener.id,
        name: listener.name.as_str().into(),
        enabled: listener.admin_state_up,
        protocol: match listener.protocol {
            ListenerProtocol::Tcp => Spoken::Tcp,
            ListenerProtocol::Http => Spoken::Http,
        },
        port: listener.protocol_port,
        connection_limit: limit.max(1),
        default_pool: listener.default_pool.filter(|pool| known.contains(pool)),
        allowed_cidrs: listener.allowed_cidrs.clone(),
        timeouts: TimeoutsSpec {
            client_data_ms,
            member_connect_ms,
            member_data_ms,
            tcp_inspect_ms,
        },
        insert_headers: compile_headers(&listener.insert_headers),
    }
}

fn compile_headers(headers: &InsertHeaders) -> InsertHeadersSpec {
    InsertHeadersSpec {
        x_forwarded_for: headers.inserts("X-Forwarded-For"),
        x_forwarded_port: headers.inserts("X-Forwarded-Port"),
        x_forwarded_proto: headers.inserts("X-Forwarded-Proto"),
    }
}

fn compile_pool(pool: &Pool, members: Vec<MemberSpec>, monitor: Option<MonitorSpec>) -> PoolSpec {
    PoolSpec {
        id: pool.id,
        name: pool.name.as_str().into(),
        enabled: pool.admin_state_up,
        protocol: match pool.protocol {
            PoolProtocol::Tcp => SpokenToMembers::Tcp,
            PoolProtocol::Http => SpokenToMembers::Http,
        },
        algorithm: match pool.lb_algorithm {
            LbAlgorithm::RoundRobin => Algorithm::RoundRobin,
            LbAlgorithm::LeastConnections => Algorithm::LeastConnections,
            LbAlgorithm::SourceIp => Algorithm::SourceIp,
            LbAlgorithm::SourceIpPort => Algorithm::SourceIpPort,
        },
        members,
        monitor,
    }
}

fn compile_member(member: &Member) -> MemberSpec {
    MemberSpec {
        id: member.id,
        name: member.name.as_str().into(),
        enabled: member.admin_state_up,
        address: member.address,
        port: member.protocol_port,
        weight: member.weight,
        backup: member.backup,
        monitor_address: member.monitor_address,
        monitor_port: member.monitor_port,
    }
}

fn compile_monitor(monitor: &HealthMonitor) -> MonitorSpec {
    MonitorSpec {
        id: monitor.id,
        enabled: monitor.admin_state_up,
        probe: match &monitor.kind {
            MonitorKind::Tcp { .. } => ProbeSpec::Tcp,
            MonitorKind::Ping { .. } => ProbeSpec::Ping,
            MonitorKind::Http(http) => ProbeSpec::Http(HttpProbeSpec {
                method: http.http_method.clone(),
                path: http.url_path.clone(),
                expected_codes: http.expected.clone(),
                version: http.http_version,
                domain_name: http.domain_name.as_deref().map(String::from),
            }),
        },
        delay_ms: milliseconds(monitor.delay_seconds),
        timeout_ms: milliseconds(monitor.timeout_seconds),
        rise: monitor.max_retries,
        fall: monitor.max_retries_down,
    }
}

fn milliseconds(seconds: u32) -> u32 {
    seconds
        .min(limits::MONITOR_SECONDS_MAX)
        .saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
