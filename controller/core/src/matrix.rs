//! Compatibility as tables: one per question, walked by admission and by tests.

use crate::model::{CompareType, L7RuleType, ListenerProtocol, MonitorType, PoolProtocol};

/// Pool protocols each listener protocol may send to. Source: reference 21.2.
pub const LISTENER_TO_POOL: &[(ListenerProtocol, &[PoolProtocol])] = &[
    (
        ListenerProtocol::Tcp,
        &[
            PoolProtocol::Tcp,
            PoolProtocol::Http,
            PoolProtocol::Https,
            PoolProtocol::Proxy,
            PoolProtocol::ProxyV2,
        ],
    ),
    (
        ListenerProtocol::Http,
        &[
            PoolProtocol::Http,
            PoolProtocol::Proxy,
            PoolProtocol::ProxyV2,
        ],
    ),
    (
        ListenerProtocol::Https,
        &[
            PoolProtocol::Tcp,
            PoolProtocol::Https,
            PoolProtocol::Proxy,
            PoolProtocol::ProxyV2,
        ],
    ),
    (
        ListenerProtocol::TerminatedHttps,
        &[
            PoolProtocol::Http,
            PoolProtocol::Proxy,
            PoolProtocol::ProxyV2,
        ],
    ),
    (ListenerProtocol::Udp, &[PoolProtocol::Udp]),
    (ListenerProtocol::Sctp, &[PoolProtocol::Sctp]),
    (ListenerProtocol::Prometheus, &[]),
];

/// Health monitor types of pools of streams, and of the others. Source: reference 21.3.
const OF_STREAMS: &[MonitorType] = &[
    MonitorType::Http,
    MonitorType::Https,
    MonitorType::Ping,
    MonitorType::Tcp,
    MonitorType::TlsHello,
];
const STREAMLESS: &[MonitorType] = &[
    MonitorType::UdpConnect,
    MonitorType::Sctp,
    MonitorType::Tcp,
    MonitorType::Http,
];

/// Health monitor types each pool protocol may have. Source: reference 21.3.
pub const POOL_TO_MONITOR: &[(PoolProtocol, &[MonitorType])] = &[
    (PoolProtocol::Tcp, OF_STREAMS),
    (PoolProtocol::Http, OF_STREAMS),
    (PoolProtocol::Https, OF_STREAMS),
    (PoolProtocol::Proxy, OF_STREAMS),
    (PoolProtocol::ProxyV2, OF_STREAMS),
    (PoolProtocol::Udp, STREAMLESS),
    (PoolProtocol::Sctp, STREAMLESS),
];

/// Listener protocols that may have L7 policies. Source: reference 21.1.
pub const LISTENERS_WITH_POLICIES: &[ListenerProtocol] =
    &[ListenerProtocol::Http, ListenerProtocol::TerminatedHttps];

/// How each type of L7 rule may compare. Source: reference 11.3.
pub const RULE_TO_COMPARE: &[(L7RuleType, &[CompareType])] = &[
    (L7RuleType::HostName, &CompareType::ALL),
    (L7RuleType::Path, &CompareType::ALL),
    (
        L7RuleType::FileType,
        &[CompareType::Regex, CompareType::EqualTo],
    ),
    (L7RuleType::Header, &CompareType::ALL),
    (L7RuleType::Cookie, &CompareType::ALL),
    (L7RuleType::SslConnHasCert, &[CompareType::EqualTo]),
    (L7RuleType::SslVerifyResult, &[CompareType::EqualTo]),
    (L7RuleType::SslDnField, &CompareType::ALL),
];

/// What each type of L7 rule does with its key. Source: reference 11.3.
pub const RULE_TO_KEY: &[(L7RuleType, KeyUse)] = &[
    (L7RuleType::HostName, KeyUse::Unused),
    (L7RuleType::Path, KeyUse::Unused),
    (L7RuleType::FileType, KeyUse::Unused),
    (L7RuleType::Header, KeyUse::Required),
    (L7RuleType::Cookie, KeyUse::Required),
    (L7RuleType::SslConnHasCert, KeyUse::Absent),
    (L7RuleType::SslVerifyResult, KeyUse::Absent),
    (L7RuleType::SslDnField, KeyUse::Required),
];

/// What a type of L7 rule does with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Nothing; a superfluous one is no error.
    Unused,
    /// It needs one.
    Required,
    /// It must have none.
    Absent,
}

/// Whether a listener of protocol `listener` may have L7 policies.
#[must_use]
pub fn has_policies(listener: ListenerProtocol) -> bool {
    LISTENERS_WITH_POLICIES.contains(&listener)
}

/// Whether a rule of type `rule` may compare as `compare` says.
#[must_use]
pub fn compares(rule: L7RuleType, compare: CompareType) -> bool {
    RULE_TO_COMPARE
        .iter()
        .any(|(of, ways)| *of == rule && ways.contains(&compare))
}

/// What a rule of type `rule` does with its key.
#[must_use]
pub fn key_use(rule: L7RuleType) -> KeyUse {
    RULE_TO_KEY
        .iter()
        .find(|(of, _)| *of == rule)
        .map_or(KeyUse::Unused, |(_, key)| *key)
}

/// Whether a listener of protocol `listener` may send to a pool of protocol `pool`.
#[must_use]
pub fn carries(listener: ListenerProtocol, pool: PoolProtocol) -> bool {
    LISTENER_TO_POOL
        .iter()
        .any(|(from, to)| *from == listener && to.contains(&pool))
}

/// Whether a pool of protocol `pool` may be judged by a monitor of type `monitor`.
#[must_use]
pub fn judges(pool: PoolProtocol, monitor: MonitorType) -> bool {
    POOL_TO_MONITOR
        .iter()
        .any(|(judged, by)| *judged == pool && by.contains(&monitor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row of reference 21.2 as it is printed there, its columns in the order of [`PoolProtocol::ALL`].
    const PRINTED_POOLS: [(ListenerProtocol, &str); 7] = [
        (ListenerProtocol::Tcp, "yyyyy--"),
        (ListenerProtocol::Http, "-y-yy--"),
        (ListenerProtocol::Https, "y-yyy--"),
        (ListenerProtocol::TerminatedHttps, "-y-yy--"),
        (ListenerProtocol::Udp, "-----y-"),
        (ListenerProtocol::Sctp, "------y"),
        (ListenerProtocol::Prometheus, "-------"),
    ];

    /// The same of reference 21.3, its columns in the order of [`MonitorType::ALL`].
    const PRINTED_MONITORS: [(PoolProtocol, &str); 7] = [
        (PoolProtocol::Tcp, "yyyyy--"),
        (PoolProtocol::Http, "yyyyy--"),
        (PoolProtocol::Https, "yyyyy--"),
        (PoolProtocol::Proxy, "yyyyy--"),
        (PoolProtocol::ProxyV2, "yyyyy--"),
        (PoolProtocol::Udp, "y--y-yy"),
        (PoolProtocol::Sctp, "y--y-yy"),
    ];

    #[test]
    fn protocols_pair_as_the_reference_says() {
        assert_eq!(
            PRINTED_POOLS.map(|(listener, _)| listener),
            ListenerProtocol::ALL
        );
        for (listener, row) in PRINTED_POOLS {
            for (pool, cell) in PoolProtocol::ALL.into_iter().zip(row.chars()) {
                assert_eq!(
                    carries(listener, pool),
                    cell == 'y',
                    "{listener:?} {pool:?}"
                );
            }
        }
    }

    #[test]
    fn monitors_judge_pools_as_the_reference_says() {
        assert_eq!(PRINTED_MONITORS.map(|(pool, _)| pool), PoolProtocol::ALL);
        for (pool, row) in PRINTED_MONITORS {
            for (monitor, cell) in MonitorType::ALL.into_iter().zip(row.chars()) {
                assert_eq!(judges(pool, monitor), cell == 'y', "{pool:?} {monitor:?}");
            }
        }
    }

    #[test]
    fn rules_compare_and_use_keys_as_the_reference_says() {
        // REGEX, STARTS_WITH, ENDS_WITH, CONTAINS, EQUAL_TO as in reference 11.3.
        let table = [
            (L7RuleType::HostName, [true; 5], KeyUse::Unused),
            (L7RuleType::Path, [true; 5], KeyUse::Unused),
            (
                L7RuleType::FileType,
                [true, false, false, false, true],
                KeyUse::Unused,
            ),
            (L7RuleType::Header, [true; 5], KeyUse::Required),
            (L7RuleType::Cookie, [true; 5], KeyUse::Required),
            (
                L7RuleType::SslConnHasCert,
                [false, false, false, false, true],
                KeyUse::Absent,
            ),
            (
                L7RuleType::SslVerifyResult,
                [false, false, false, false, true],
                KeyUse::Absent,
            ),
            (L7RuleType::SslDnField, [true; 5], KeyUse::Required),
        ];
        assert_eq!(table.map(|(rule, _, _)| rule), L7RuleType::ALL);
        for (rule, ways, key) in table {
            assert_eq!(CompareType::ALL.map(|way| compares(rule, way)), ways);
            assert_eq!(key_use(rule), key, "{rule:?}");
        }
    }
}
