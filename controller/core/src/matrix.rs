//! Compatibility as tables: one per question, walked by admission and by tests.

use crate::model::{ListenerProtocol, MonitorType, PoolProtocol};

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
}
