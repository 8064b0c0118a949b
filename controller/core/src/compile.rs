//! A tree → what an amphora should do about it: the one translation between tenants' words and the data plane's (D2).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use krater_amphora_api::{
    Algorithm, Comparison, HttpProbeSpec, InsertHeadersSpec, L7PolicyId, ListenerId,
    ListenerProtocol as Spoken, ListenerSpec, ListenerTlsSpec, MemberSpec, MonitorSpec,
    PERSISTENCE_SECONDS_MAX, PersistenceSpec, PolicyAction, PolicySpec, PoolId,
    PoolProtocol as SpokenToMembers, PoolSpec, PoolTlsSpec, ProbeSpec, RuleSpec, RuleSubject,
    SnapshotSpec, TimeoutsSpec, VipSpec,
};

use crate::{
    limits,
    model::{
        CompareType, HealthMonitor, HttpMonitor, InsertHeaders, L7Action, L7Rule, L7RuleType,
        LbAlgorithm, Listener, ListenerProtocol, LoadBalancer, Member, MonitorKind,
        PersistenceType, Pool, PoolProtocol, Timeouts, UsualTreatment,
    },
    secret::Secrets,
    tree::{LoadBalancerTree, Row},
};

mod tls;

pub use tls::unservable;

/// What the deployment fills in where the tenant left it open, and what it allows nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Concurrent connections of a listener without a limit of its own, at least 1 (reference 6.4, remarks).
    pub connection_limit: u32,
    /// How members and clients are treated where the flavor says nothing.
    pub treatment: UsualTreatment,
    /// Ciphers, by their names in OpenSSL, that are not spoken.
    pub ciphers_prohibited: BTreeSet<String>,
    /// Time between two adverts of amphorae that take turns, in milliseconds.
    pub advert_interval_ms: u32,
}

impl Default for Defaults {
    /// Octavia's `default_connection_limit` (reference 20.10).
    fn default() -> Self {
        Self {
            connection_limit: 50_000,
            treatment: UsualTreatment::default(),
            ciphers_prohibited: BTreeSet::new(),
            advert_interval_ms: 1_000,
        }
    }
}

/// Compiles a tree. Rows that are being deleted are left out, and so is what the data plane has no words for, which
/// [`crate::carried`] refuses to begin with; what names them is left without. So is what [`unservable`] tells of, and
/// whatever needs a secret that is not among `secrets`: all that [`crate::secret::needs`] tells should be there.
#[must_use]
pub fn compile(tree: &LoadBalancerTree, defaults: &Defaults, secrets: &Secrets) -> SnapshotSpec {
    let balancer = &tree.load_balancer.value;
    let treatment = defaults.treatment.with(balancer.steering.treatment);
    let mut members = BTreeMap::<PoolId, Vec<MemberSpec>>::new();
    for member in wanted(&tree.members) {
        members
            .entry(member.pool)
            .or_default()
            .push(compile_member(member));
    }
    let mut monitors: BTreeMap<PoolId, MonitorSpec> = wanted(&tree.health_monitors)
        .filter_map(|monitor| Some((monitor.pool, compile_monitor(monitor)?)))
        .collect();
    let pools: Vec<PoolSpec> = wanted(&tree.pools)
        .filter_map(|pool| {
            compile_pool(
                pool,
                members.remove(&pool.id).unwrap_or_default(),
                monitors.remove(&pool.id),
                &treatment,
                tls::of_pool(pool, defaults, secrets).travels()?,
            )
        })
        .collect();
    let known: BTreeSet<PoolId> = pools.iter().map(|pool| pool.id).collect();
    let mut policies = compile_policies(tree);
    SnapshotSpec {
        load_balancer: balancer.id,
        name: balancer.name.as_str().into(),
        generation: tree.generation(),
        enabled: balancer.admin_state_up && !tree.load_balancer.is_leaving(),
        vips: compile_vips(balancer),
        listeners: wanted(&tree.listeners)
            .filter_map(|listener| {
                let policies = policies.remove(&listener.id).unwrap_or_default();
                compile_listener(
                    listener,
                    policies,
                    compile_default_pool(tree, listener, &known),
                    balancer.steering.connections_max,
                    &treatment,
                    defaults.connection_limit,
                    tls::of_listener(listener, defaults, secrets).travels()?,
                )
            })
            .collect(),
        pools,
        takes_over: false,
        member_drain_ms: treatment.member_drain_ms,
        announcement: None,
        session_peers: Vec::new(),
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

/// The pool that a listener sends to, if the data plane has words for it and for the two together.
fn compile_default_pool(
    tree: &LoadBalancerTree,
    listener: &Listener,
    known: &BTreeSet<PoolId>,
) -> Option<PoolId> {
    let id = listener.default_pool.filter(|id| known.contains(id))?;
    let pool = &tree.pool(id)?.value;
    (!pool.seals_streams_of(listener.protocol)).then_some(id)
}

fn compile_listener(
    listener: &Listener,
    policies: Vec<PolicySpec>,
    default_pool: Option<PoolId>,
    connections_max: Option<u32>,
    treatment: &UsualTreatment,
    connection_limit: u32,
    tls: Option<ListenerTlsSpec>,
) -> Option<ListenerSpec> {
    let protocol = match listener.protocol {
        // TLS that is passed on is a stream like any other.
        ListenerProtocol::Tcp | ListenerProtocol::Https => Spoken::Tcp,
        ListenerProtocol::Http | ListenerProtocol::TerminatedHttps => Spoken::Http,
        ListenerProtocol::Udp => Spoken::Udp,
        ListenerProtocol::Prometheus => Spoken::Prometheus,
        ListenerProtocol::Sctp => return None,
    };
    let Timeouts {
        client_data_ms,
        member_connect_ms,
        member_data_ms,
        tcp_inspect_ms,
    } = listener.timeouts;
    let limit = listener
        .connection_limit
        .filter(|limit| *limit > 0)
        .unwrap_or(connection_limit)
        .min(connections_max.unwrap_or(u32::MAX));
    Some(ListenerSpec {
        id: listener.id,
        name: listener.name.as_str().into(),
        enabled: listener.admin_state_up,
        protocol,
        port: listener.protocol_port,
        connection_limit: limit.max(1),
        default_pool,
        allowed_cidrs: listener.allowed_cidrs.clone(),
        timeouts: TimeoutsSpec {
            client_data_ms,
            member_connect_ms,
            member_data_ms,
            tcp_inspect_ms,
        },
        insert_headers: compile_headers(&listener.insert_headers),
        source_rate: treatment.source_rate(),
        policies,
        access_log: treatment.access_log(),
        tls,
        hsts: tls::hsts(listener),
        // Datagrams have none.
        congestion_control: treatment
            .congestion_control()
            .filter(|_| protocol != Spoken::Udp),
    })
}

/// The policies that are evaluated, by listener and position (reference 18.6, 19.6): those that are enabled, have a rule
/// that is, and do not send to a pool that is not.
fn compile_policies(tree: &LoadBalancerTree) -> BTreeMap<ListenerId, Vec<PolicySpec>> {
    let pools: BTreeSet<PoolId> = wanted(&tree.pools)
        .filter(|pool| pool.admin_state_up && compile_pool_protocol(pool).is_some())
        .map(|pool| pool.id)
        .collect();
    let mut rules = BTreeMap::<L7PolicyId, Vec<RuleSpec>>::new();
    for rule in wanted(&tree.l7_rules).filter(|rule| rule.admin_state_up) {
        rules
            .entry(rule.policy)
            .or_default()
            .push(compile_rule(rule));
    }
    let looks_at_certificates: BTreeSet<L7PolicyId> = wanted(&tree.l7_rules)
        .filter(|rule| rule.admin_state_up && rule.rule_type.looks_at_certificates())
        .map(|rule| rule.policy)
        .collect();
    let mut compiled = BTreeMap::new();
    for listener in wanted(&tree.listeners) {
        // Where no TLS ends nobody shows any, and the data plane has no words for it.
        let shown = listener.protocol == ListenerProtocol::TerminatedHttps;
        let policies = tree.policies_of(listener).into_iter();
        let policies = policies
            .filter(|row| !row.is_leaving() && row.value.admin_state_up)
            .filter(|row| shown || !looks_at_certificates.contains(&row.value.id))
            .filter(|row| {
                let pool = row.value.action.pool();
                pool.is_none_or(|pool| pools.contains(pool))
            })
            .filter_map(|row| {
                Some(PolicySpec {
                    id: row.value.id,
                    action: compile_action(&row.value.action),
                    rules: rules.remove(&row.value.id)?,
                })
            });
        compiled.insert(listener.id, policies.collect());
    }
    compiled
}

fn compile_action(action: &L7Action) -> PolicyAction {
    match action {
        L7Action::Reject => PolicyAction::Reject,
        L7Action::RedirectToUrl { url, code } => PolicyAction::RedirectToUrl {
            url: url.as_str().into(),
            code: code.number(),
        },
        L7Action::RedirectPrefix { prefix, code } => PolicyAction::RedirectPrefix {
            prefix: prefix.as_str().into(),
            code: code.number(),
        },
        L7Action::RedirectToPool(pool) => PolicyAction::RedirectToPool(*pool),
    }
}

/// A rule in the data plane's words.
fn compile_rule(rule: &L7Rule) -> RuleSpec {
    let key = || rule.key.clone().unwrap_or_default();
    let subject = match rule.rule_type {
        L7RuleType::HostName => RuleSubject::HostName,
        L7RuleType::Path | L7RuleType::FileType => RuleSubject::Path,
        L7RuleType::Header => RuleSubject::Header(key()),
        L7RuleType::Cookie => RuleSubject::Cookie(key()),
        L7RuleType::SslConnHasCert => RuleSubject::CertificateShown,
        L7RuleType::SslVerifyResult => RuleSubject::CertificateVerified,
        L7RuleType::SslDnField => RuleSubject::CertificateSubject(key()),
    };
    let comparison = match rule.compare_type {
        CompareType::Regex => Comparison::Regex,
        CompareType::StartsWith => Comparison::StartsWith,
        // A file type is how a path ends; no dot is implied.
        CompareType::EqualTo if rule.rule_type == L7RuleType::FileType => Comparison::EndsWith,
        CompareType::EndsWith => Comparison::EndsWith,
        CompareType::Contains => Comparison::Contains,
        CompareType::EqualTo => Comparison::EqualTo,
    };
    // Quotes are there to hold spaces and are no part of what is compared with (reference 11.3).
    let value = rule.value.as_str();
    let bare = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|_| rule.compare_type != CompareType::Regex);
    let value = match rule.rule_type {
        // The only value there is for it is `true`, in any case of letters.
        L7RuleType::SslConnHasCert => "1",
        L7RuleType::SslVerifyResult => match value.trim_start_matches('0') {
            "" => "0",
            digits => digits,
        },
        _ => bare.unwrap_or(value),
    };
    RuleSpec {
        subject,
        comparison,
        value: value.into(),
        invert: rule.invert,
    }
}

fn compile_headers(headers: &InsertHeaders) -> InsertHeadersSpec {
    InsertHeadersSpec {
        x_forwarded_for: headers.inserts("X-Forwarded-For"),
        x_forwarded_port: headers.inserts("X-Forwarded-Port"),
        x_forwarded_proto: headers.inserts("X-Forwarded-Proto"),
        x_forwarded_ip: headers.inserts("X-Forwarded-IP"),
        x_client_ip: headers.inserts("X-Client-IP"),
        x_real_ip: headers.inserts("X-Real-IP"),
        x_ssl_client_verify: headers.inserts("X-SSL-Client-Verify"),
        x_ssl_client_has_cert: headers.inserts("X-SSL-Client-Has-Cert"),
        x_ssl_client_dn: headers.inserts("X-SSL-Client-DN"),
        x_ssl_client_cn: headers.inserts("X-SSL-Client-CN"),
        x_ssl_issuer: headers.inserts("X-SSL-Issuer"),
        x_ssl_client_sha1: headers.inserts("X-SSL-Client-SHA1"),
        x_ssl_client_not_before: headers.inserts("X-SSL-Client-Not-Before"),
        x_ssl_client_not_after: headers.inserts("X-SSL-Client-Not-After"),
    }
}

fn compile_pool(
    pool: &Pool,
    members: Vec<MemberSpec>,
    monitor: Option<MonitorSpec>,
    treatment: &UsualTreatment,
    tls: Option<PoolTlsSpec>,
) -> Option<PoolSpec> {
    Some(PoolSpec {
        id: pool.id,
        name: pool.name.as_str().into(),
        enabled: pool.admin_state_up,
        protocol: compile_pool_protocol(pool)?,
        algorithm: match pool.lb_algorithm {
            LbAlgorithm::RoundRobin => Algorithm::RoundRobin,
            LbAlgorithm::LeastConnections => Algorithm::LeastConnections,
            LbAlgorithm::SourceIp => Algorithm::SourceIp,
            LbAlgorithm::SourceIpPort => Algorithm::SourceIpPort,
        },
        persistence: compile_persistence(pool),
        members,
        monitor,
        passive_health: treatment.passive_health(),
        slow_start_ms: treatment.slow_start_ms,
        member_requests: compile_member_requests(pool, treatment),
        tls,
    })
}

/// How many requests one of its members may have; where there are none, nothing has to be said.
fn compile_member_requests(pool: &Pool, treatment: &UsualTreatment) -> Option<u32> {
    let knows_requests = matches!(
        pool.protocol,
        PoolProtocol::Http | PoolProtocol::Proxy | PoolProtocol::ProxyV2
    );
    treatment.member_requests().filter(|_| knows_requests)
}

/// How clients are kept with their members. Whoever is known by address is forgotten after a while if the pool has no
/// streams, and else when there is no room for all (reference 19.4).
fn compile_persistence(pool: &Pool) -> Option<PersistenceSpec> {
    let kept = pool.session_persistence.as_ref()?;
    Some(match kept.kind {
        PersistenceType::SourceIp => PersistenceSpec::SourceIp {
            timeout_seconds: pool.protocol.is_streamless().then(|| {
                let own = kept.timeout_seconds.filter(|seconds| *seconds > 0);
                own.unwrap_or(limits::PERSISTENCE_SECONDS_DEFAULT)
                    .min(PERSISTENCE_SECONDS_MAX)
            }),
            granularity: kept.granularity,
        },
        PersistenceType::HttpCookie => PersistenceSpec::HttpCookie,
        PersistenceType::AppCookie => PersistenceSpec::AppCookie {
            name: kept.cookie_name.clone()?,
        },
    })
}

/// What the members of a pool are spoken to in; `None` where the data plane cannot.
fn compile_pool_protocol(pool: &Pool) -> Option<SpokenToMembers> {
    match pool.protocol {
        // A member that expects TLS must not be sent what it would have protected.
        protocol if pool.tls.enabled && !protocol.can_be_sealed() => None,
        PoolProtocol::Tcp | PoolProtocol::Https => Some(SpokenToMembers::Tcp),
        PoolProtocol::Http => Some(SpokenToMembers::Http),
        PoolProtocol::Proxy => Some(SpokenToMembers::Proxy),
        PoolProtocol::ProxyV2 => Some(SpokenToMembers::ProxyV2),
        PoolProtocol::Udp => Some(SpokenToMembers::Udp),
        PoolProtocol::Sctp => None,
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

fn compile_monitor(monitor: &HealthMonitor) -> Option<MonitorSpec> {
    Some(MonitorSpec {
        id: monitor.id,
        enabled: monitor.admin_state_up,
        probe: match &monitor.kind {
            MonitorKind::Tcp { .. } => ProbeSpec::Tcp,
            MonitorKind::Ping { .. } => ProbeSpec::Ping,
            MonitorKind::Http(http) => ProbeSpec::Http(compile_http_probe(http)),
            MonitorKind::Https(http) => ProbeSpec::Https(compile_http_probe(http)),
            MonitorKind::TlsHello { domain_name, .. } => ProbeSpec::TlsHello {
                server_name: domain_name.clone(),
            },
            MonitorKind::UdpConnect { .. } => ProbeSpec::UdpConnect,
            MonitorKind::Sctp { .. } => return None,
        },
        delay_ms: milliseconds(monitor.delay_seconds),
        timeout_ms: milliseconds(monitor.timeout_seconds),
        rise: monitor.max_retries,
        fall: monitor.max_retries_down,
    })
}

fn compile_http_probe(http: &HttpMonitor) -> HttpProbeSpec {
    HttpProbeSpec {
        method: http.http_method.clone(),
        path: http.url_path.clone(),
        expected_codes: http.expected.clone(),
        version: http.http_version,
        domain_name: http.domain_name.clone(),
    }
}

fn milliseconds(seconds: u32) -> u32 {
    seconds
        .min(limits::MONITOR_SECONDS_MAX)
        .saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
