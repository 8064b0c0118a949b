//! Specs with anything in them: mostly plausible, so that some pass, with every field able to be nonsense.

use core::net::IpAddr;

use krater_amphora_api::{
    AccessLogSpec, AlpnProtocol, CertificateSpec, CipherSuite, ClientCertificatesSpec, Comparison,
    HstsSpec, ListenerSpec, MemberSpec, PassiveHealthSpec, PersistenceSpec, PolicyAction,
    PolicySpec, PrivateKeyPem, RuleSpec, RuleSubject, TlsVersion, VipSpec,
};
use proptest::{prelude::*, sample::subsequence};

use super::{
    announcement::{self, any_address},
    policy::policy,
    *,
};

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z]{0,8}", 1 => ".{0,20}", 1 => Just("n".repeat(300))]
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::RoundRobin),
        Just(Algorithm::LeastConnections),
        Just(Algorithm::SourceIp),
        Just(Algorithm::SourceIpPort),
    ]
}

fn any_probe() -> impl Strategy<Value = ProbeSpec> {
    let codes = prop_oneof![6 => (100_u16..300, 300_u16..600), 1 => any::<(u16, u16)>()];
    let http = (
        prop_oneof![6 => Just("GET".to_owned()), 1 => any_text()],
        prop_oneof![6 => "/[a-z?=&]{0,9}", 1 => any_text()],
        prop::collection::vec(
            codes.prop_map(|(first, last)| ExpectedCodes { first, last }),
            0..4,
        ),
        prop::option::of(prop_oneof![
            Just(HttpVersion::Http10),
            Just(HttpVersion::Http11)
        ]),
        prop::option::weighted(0.2, any_text()),
    );
    let http = http.prop_map(|(method, path, expected_codes, version, domain_name)| {
        ProbeSpec::Http(HttpProbeSpec {
            method,
            path,
            expected_codes,
            version,
            domain_name,
        })
    });
    prop_oneof![
        Just(ProbeSpec::Tcp),
        Just(ProbeSpec::Ping),
        Just(ProbeSpec::UdpConnect),
        http
    ]
}

fn any_monitor() -> impl Strategy<Value = MonitorSpec> {
    let number = 0_u128..50;
    (
        number,
        any::<bool>(),
        any_probe(),
        any_timer(),
        any_timer(),
        mostly(1_u8..=10),
        mostly(1_u8..=10),
    )
        .prop_map(
            |(number, enabled, probe, delay_ms, timeout_ms, rise, fall)| MonitorSpec {
                enabled,
                delay_ms,
                timeout_ms,
                rise,
                fall,
                ..monitor(number, probe)
            },
        )
}

fn any_timer() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 8 => 10_u32..100_000, 1 => any::<u32>()]
}

fn mostly<T: Arbitrary + 'static>(
    range: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![12 => range, 1 => any::<T>()]
}

fn any_member() -> impl Strategy<Value = MemberSpec> {
    let probed = (
        prop::option::of(any_address()),
        prop::option::of(mostly(1_u16..)),
    );
    (
        0_u128..500,
        any_text(),
        any::<bool>(),
        any_address(),
        mostly(1_u16..),
        mostly(0_u16..=256),
        any::<bool>(),
        probed,
    )
        .prop_map(
            |(
                number,
                name,
                enabled,
                address,
                port,
                weight,
                backup,
                (monitor_address, monitor_port),
            )| MemberSpec {
                id: member_id(number),
                name,
                enabled,
                address,
                port,
                weight,
                backup,
                monitor_address,
                monitor_port,
            },
        )
}

fn any_certificate() -> impl Strategy<Value = CertificateSpec> {
    (any_text(), any_text()).prop_map(|(chain, key)| CertificateSpec {
        chain,
        key: PrivateKeyPem::new(key),
    })
}

/// Versions, suites and what is spoken inside; mostly all there is.
fn any_terms() -> impl Strategy<Value = (Vec<TlsVersion>, Vec<CipherSuite>, Vec<AlpnProtocol>)> {
    let versions = vec![TlsVersion::Tls12, TlsVersion::Tls13];
    let alpn = vec![AlpnProtocol::H2, AlpnProtocol::Http11, AlpnProtocol::Http10];
    let suites = CipherSuite::ALL.to_vec();
    (
        prop_oneof![4 => Just(versions.clone()), 1 => subsequence(versions, 0..=2)],
        prop_oneof![
            4 => Just(suites.clone()),
            1 => subsequence(suites.clone(), 0..=9),
            1 => prop::collection::vec(prop::sample::select(suites), 0..4),
        ],
        subsequence(alpn, 0..=3),
    )
}

fn any_listener_tls() -> impl Strategy<Value = ListenerTlsSpec> {
    let clients = (any::<bool>(), any_text(), prop::option::of(any_text())).prop_map(
        |(required, authorities, revoked)| ClientCertificatesSpec {
            required,
            authorities,
            revoked,
        },
    );
    (
        prop::option::weighted(0.8, any_certificate()),
        prop::collection::vec(any_certificate(), 0..3),
        prop::option::weighted(0.3, clients),
        any_terms(),
    )
        .prop_map(
            |(default_certificate, sni_certificates, clients, (versions, cipher_suites, alpn))| {
                ListenerTlsSpec {
                    default_certificate,
                    sni_certificates,
                    clients,
                    versions,
                    cipher_suites,
                    alpn,
                }
            },
        )
}

fn any_pool_tls() -> impl Strategy<Value = PoolTlsSpec> {
    (
        prop::option::of(any_certificate()),
        prop::option::weighted(0.7, any_text()),
        prop::option::weighted(0.3, any_text()),
        any_terms(),
    )
        .prop_map(
            |(certificate, authorities, revoked, (versions, cipher_suites, alpn))| PoolTlsSpec {
                certificate,
                authorities,
                revoked,
                versions,
                cipher_suites,
                alpn,
            },
        )
}

fn any_hsts() -> impl Strategy<Value = HstsSpec> {
    (any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
        |(max_age_seconds, include_subdomains, preload)| HstsSpec {
            max_age_seconds,
            include_subdomains,
            preload,
        },
    )
}

fn any_pool() -> impl Strategy<Value = PoolSpec> {
    let protocol = prop_oneof![
        Just(PoolProtocol::Tcp),
        Just(PoolProtocol::Http),
        Just(PoolProtocol::Proxy),
        Just(PoolProtocol::ProxyV2),
        Just(PoolProtocol::Udp)
    ];
    let members = prop::collection::vec(any_member(), 0..4);
    (
        0_u128..8,
        any_text(),
        any::<bool>(),
        protocol,
        any_algorithm(),
        any_persistence(),
        members,
        prop::option::of(any_monitor()),
        (
            prop::option::weighted(0.3, any_passive_health()),
            any_timer(),
            prop::option::weighted(0.3, any_pool_tls()),
            prop::option::weighted(0.3, mostly(1_u32..1_000_000)),
        ),
    )
        .prop_map(
            |(
                number,
                name,
                enabled,
                protocol,
                algorithm,
                persistence,
                members,
                monitor,
                (passive_health, slow_start_ms, tls, member_requests),
            )| {
                PoolSpec {
                    id: pool_id(number),
                    name,
                    enabled,
                    protocol,
                    algorithm,
                    persistence,
                    members,
                    monitor,
                    passive_health,
                    slow_start_ms,
                    member_requests,
                    tls,
                }
            },
        )
}

fn any_passive_health() -> impl Strategy<Value = PassiveHealthSpec> {
    (
        mostly(1_u32..),
        mostly(1_u32..1_000),
        any_timer(),
        mostly(1_u8..=100),
    )
        .prop_map(
            |(failures, out_ms, out_max_ms, share_percent)| PassiveHealthSpec {
                failures,
                out_ms,
                out_max_ms,
                share_percent,
            },
        )
}

fn any_persistence() -> impl Strategy<Value = Option<PersistenceSpec>> {
    let mask = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ];
    let timeout = prop_oneof![6 => 1_u32..1_000, 1 => any::<u32>()];
    let by_source = (prop::option::of(timeout), prop::option::of(mask)).prop_map(
        |(timeout_seconds, granularity)| PersistenceSpec::SourceIp {
            timeout_seconds,
            granularity,
        },
    );
    let name = prop_oneof![6 => "[a-zA-Z_.-]{1,8}", 1 => any_text()];
    let by_cookie = prop_oneof![
        Just(PersistenceSpec::HttpCookie),
        name.prop_map(|name| PersistenceSpec::AppCookie { name }),
    ];
    prop::option::weighted(0.2, prop_oneof![3 => by_source, 1 => by_cookie])
}

fn any_policies() -> impl Strategy<Value = Vec<PolicySpec>> {
    let url = || prop_oneof![6 => "https?://[a-z]{1,8}", 1 => any_text()];
    let code = || prop_oneof![6 => Just(302_u16), 1 => any::<u16>()];
    let action = prop_oneof![
        Just(PolicyAction::Reject),
        (url(), code()).prop_map(|(url, code)| PolicyAction::RedirectToUrl { url, code }),
        (url(), code()).prop_map(|(prefix, code)| PolicyAction::RedirectPrefix { prefix, code }),
        (0_u128..8).prop_map(|number| PolicyAction::RedirectToPool(pool_id(number))),
    ];
    let name = || prop_oneof![6 => "[a-z-]{1,8}", 1 => any_text()];
    let subject = prop_oneof![
        Just(RuleSubject::HostName),
        Just(RuleSubject::Path),
        name().prop_map(RuleSubject::Header),
        name().prop_map(RuleSubject::Cookie),
    ];
    let comparison = prop_oneof![
        Just(Comparison::Regex),
        Just(Comparison::StartsWith),
        Just(Comparison::EndsWith),
        Just(Comparison::Contains),
        Just(Comparison::EqualTo),
    ];
    let value = prop_oneof![6 => "[a-z/.]{0,8}", 1 => "[a-z(){}*0-9]{0,8}", 1 => any_text()];
    let rule = (subject, comparison, value, any::<bool>()).prop_map(
        |(subject, comparison, value, invert)| RuleSpec {
            subject,
            comparison,
            value,
            invert,
        },
    );
    let rules = prop_oneof![12 => prop::collection::vec(rule, 1..4), 1 => Just(vec![])];
    let policy = (0_u128..500, action, rules).prop_map(|(number, action, rules)| PolicySpec {
        rules,
        ..policy(number, action)
    });
    prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(policy, 1..4)]
}

fn any_listener() -> impl Strategy<Value = ListenerSpec> {
    let protocol = prop_oneof![
        Just(ListenerProtocol::Tcp),
        Just(ListenerProtocol::Http),
        Just(ListenerProtocol::Udp)
    ];
    let pool = prop::option::weighted(0.6, (0_u128..8).prop_map(pool_id));
    let cidrs = prop::collection::vec(
        prop_oneof![8 => "10\\.[0-9]\\.0\\.0/[12][0-9]", 1 => any_text()],
        0..3,
    );
    let timers = (any_timer(), any_timer(), any_timer(), any_timer());
    (
        0_u128..50,
        any_text(),
        any::<bool>(),
        protocol,
        mostly(1_u16..),
        mostly(1_u32..),
        pool,
        cidrs,
        timers,
        (
            prop::option::weighted(0.2, any::<[bool; 6]>()),
            any_policies(),
            prop::option::weighted(0.2, mostly(1_u32..1_000)),
            prop::option::weighted(0.2, mostly(1_u32..1_000)),
            prop::option::weighted(0.3, any_listener_tls()),
            prop::option::weighted(0.2, any_hsts()),
            prop::option::weighted(0.2, Just("cubic".parse().unwrap())),
        ),
    )
        .prop_map(
            |(
                number,
                name,
                enabled,
                protocol,
                port,
                connection_limit,
                pool,
                cidrs,
                timers,
                (headers, policies, source_rate, one_in, tls, hsts, congestion_control),
            )| {
                let (client_data_ms, member_connect_ms, member_data_ms, tcp_inspect_ms) = timers;
                ListenerSpec {
                    id: listener_id(number),
                    name,
                    enabled,
                    protocol,
                    port,
                    connection_limit,
                    default_pool: pool,
                    allowed_cidrs: cidrs,
                    timeouts: TimeoutsSpec {
                        client_data_ms,
                        member_connect_ms,
                        member_data_ms,
                        tcp_inspect_ms,
                    },
                    insert_headers: inserted(headers.unwrap_or_default()),
                    source_rate,
                    policies,
                    access_log: one_in.map(|one_in| AccessLogSpec { one_in }),
                    tls,
                    hsts,
                    congestion_control,
                }
            },
        )
}

fn inserted(headers: [bool; 6]) -> InsertHeadersSpec {
    let [
        x_forwarded_for,
        x_forwarded_port,
        x_forwarded_proto,
        x_forwarded_ip,
        x_client_ip,
        x_real_ip,
    ] = headers;
    InsertHeadersSpec {
        x_forwarded_for,
        x_forwarded_port,
        x_forwarded_proto,
        x_forwarded_ip,
        x_client_ip,
        x_real_ip,
        ..InsertHeadersSpec::default()
    }
}

fn any_spec() -> impl Strategy<Value = SnapshotSpec> {
    (
        any_text(),
        any::<bool>(),
        prop::collection::vec(any_address().prop_map(|address| VipSpec { address }), 0..3),
        prop::collection::vec(any_listener(), 0..4),
        prop::collection::vec(any_pool(), 0..4),
        prop::option::weighted(0.3, any_timer()),
        prop::option::weighted(0.3, announcement::anything()),
    )
        .prop_map(
            |(name, enabled, vips, listeners, pools, member_drain_ms, announcement)| SnapshotSpec {
                announcement,
                member_drain_ms,
                name,
                enabled,
                vips,
                listeners,
                pools,
                ..spec()
            },
        )
}

/// The parts of `spec` that are fine alone and together: what is left can only be refused for nothing.
fn without_faults(mut spec: SnapshotSpec) -> SnapshotSpec {
    for _ in 0..100 {
        let Err(rejections) = Snapshot::parse(spec.clone()) else {
            return spec;
        };
        for rejection in rejections {
            match rejection.subject {
                Subject::LoadBalancer => {
                    (spec.name, spec.vips) = (String::new(), vec![sample::vip("192.0.2.1")]);
                    spec.member_drain_ms = None;
                    spec.announcement = None;
                }
                Subject::Listener(id) => spec.listeners.retain(|listener| listener.id != id),
                Subject::Pool(id) => spec.pools.retain(|pool| pool.id != id),
                Subject::Member(id) => {
                    spec.pools
                        .iter_mut()
                        .for_each(|pool| pool.members.retain(|member| member.id != id));
                }
                Subject::HealthMonitor(id) => {
                    for pool in &mut spec.pools {
                        pool.monitor = pool.monitor.take().filter(|monitor| monitor.id != id);
                    }
                }
            }
        }
    }
    panic!("a fault was not where the rejection said: {spec:?}");
}

/// I1, looked at from outside.
fn assert_valid(snapshot: &Snapshot) {
    assert!(!snapshot.vips().is_empty());
    announcement::assert_valid(snapshot);
    let mut ports = alloc::collections::BTreeSet::new();
    for listener in snapshot.listeners() {
        assert!(listener.port > 0 && listener.connection_limit > 0);
        assert!(ports.insert((listener.mode.transport(), listener.port)));
        let pool = listener
            .default_pool
            .map(|pool| snapshot.pool(pool).unwrap());
        assert!(pool.is_none_or(|pool| match listener.protocol {
            ListenerProtocol::Tcp => pool.protocol != PoolProtocol::Udp,
            ListenerProtocol::Http =>
                !matches!(pool.protocol, PoolProtocol::Tcp | PoolProtocol::Udp),
            ListenerProtocol::Udp => pool.protocol == PoolProtocol::Udp,
            ListenerProtocol::Prometheus => false,
        }));
        assert_eq!(
            listener.mode == Mode::Http,
            listener.protocol == ListenerProtocol::Http
                || pool.is_some_and(|pool| pool.protocol == PoolProtocol::Http)
        );
        assert!(
            !listener.timeouts.client_data.is_zero() && !listener.timeouts.member_connect.is_zero()
        );
    }
    assert_sealed(snapshot);
    for pool in snapshot.pools() {
        assert_eq!(snapshot.pool(pool.id), Some(pool));
        for member in &pool.members {
            assert!(
                member.address.port() > 0
                    && member.probe_address.port() > 0
                    && member.weight <= 256
            );
        }
        if let Some(monitor) = &pool.monitor {
            assert!(
                !monitor.delay.is_zero()
                    && !monitor.timeout.is_zero()
                    && monitor.rise > 0
                    && monitor.fall > 0
            );
            if let Probe::Http(http) = &monitor.probe {
                let text = format!(
                    "{}{}{}",
                    http.method,
                    http.path,
                    http.host.as_deref().unwrap_or_default()
                );
                assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
                assert!((100..600).any(|status| http.expected.contains(status)));
            }
        }
    }
}

/// TLS is where HTTP is, with all that a handshake needs.
fn assert_sealed(snapshot: &Snapshot) {
    let agree = |versions: &[TlsVersion], suites: &[CipherSuite]| {
        let spoken = |version: &TlsVersion| suites.iter().any(|suite| suite.version() == *version);
        assert!(!versions.is_empty() && versions.iter().all(spoken));
    };
    for (id, tls) in snapshot.terminations() {
        let mut listeners = snapshot.listeners().iter();
        let listener = listeners.find(|listener| listener.id == id).unwrap();
        assert_eq!(listener.mode, Mode::Http);
        assert!(tls.default_certificate.is_some() || !tls.sni_certificates.is_empty());
        agree(&tls.versions, &tls.cipher_suites);
    }
    for listener in snapshot.listeners() {
        let ends = snapshot.terminations().any(|(id, _)| id == listener.id);
        assert!(listener.hsts.is_none() || ends);
    }
    for (id, tls) in snapshot.sealed_pools() {
        let protocol = snapshot.pool(id).unwrap().protocol;
        assert!(!matches!(protocol, PoolProtocol::Tcp | PoolProtocol::Udp));
        assert!(tls.authorities.is_some() || tls.revoked.is_none());
        agree(&tls.versions, &tls.cipher_suites);
        let mut streams = snapshot.listeners().iter();
        assert!(
            !streams
                .any(|listener| listener.mode == Mode::Tcp && listener.default_pool == Some(id))
        );
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_what_passes_is_valid(spec in any_spec()) {
        match Snapshot::parse(spec.clone()) {
            Ok(snapshot) => {
                prop_assert_eq!(snapshot.spec(), &spec);
                assert_valid(&snapshot);
            }
            Err(rejections) => prop_assert!(!rejections.is_empty()),
        }
    }

    #[test]
    fn taking_away_what_was_refused_leaves_a_spec_that_passes(spec in any_spec()) {
        assert_valid(&Snapshot::parse(without_faults(spec)).unwrap());
    }
}
