//! Compatibility as tables: one per question, walked by admission and by tests.

use crate::model::{CompareType, L7RuleType, ListenerProtocol, MonitorType, PoolProtocol};

/// Pool protocols each listener protocol may send to. Source: reference 21.2.
pub const LISTENER_TO_POOL: &[(ListenerProtocol, &[PoolProtocol])] = &[
    (
        ListenerProtocol::Tcp,
        &[PoolProtocol::Tcp, PoolProtocol::Http],
    ),
    (ListenerProtocol::Http, &[PoolProtocol::Http]),
];

/// Health monitor types each pool protocol may have. Source: reference 21.3.
pub const POOL_TO_MONITOR: &[(PoolProtocol, &[MonitorType])] = &[
    (
        PoolProtocol::Tcp,
        &[MonitorType::Http, MonitorType::Ping, MonitorType::Tcp],
    ),
    (
        PoolProtocol::Http,
        &[MonitorType::Http, MonitorType::Ping, MonitorType::Tcp],
    ),
];

/// Listener protocols that may have L7 policies. Source: reference 21.1.
pub const LISTENERS_WITH_POLICIES: &[ListenerProtocol] = &[ListenerProtocol::Http];

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

    #[test]
    fn protocols_pair_as_the_reference_says() {
        assert!(carries(ListenerProtocol::Tcp, PoolProtocol::Tcp));
        assert!(carries(ListenerProtocol::Tcp, PoolProtocol::Http));
        assert!(carries(ListenerProtocol::Http, PoolProtocol::Http));
        assert!(!carries(ListenerProtocol::Http, PoolProtocol::Tcp));
        for pool in [PoolProtocol::Tcp, PoolProtocol::Http] {
            for monitor in [MonitorType::Tcp, MonitorType::Ping, MonitorType::Http] {
                assert!(judges(pool, monitor));
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
