//! Members and monitors, new and changed.

use krater_controller_core::command::{
    BatchMember, HealthMonitorUpdate, MemberUpdate, NewHealthMonitor, NewMember,
};
use proptest::{option, prelude::*};

use super::set;
use crate::value;

pub(crate) fn new_member() -> BoxedStrategy<NewMember> {
    let all = (
        value::name(),
        value::mostly_true(),
        value::address(),
        value::port(),
        value::weight(),
        prop::bool::weighted(0.25),
        option::of(value::some_uuid()),
        option::weighted(0.2, value::address()),
        option::weighted(0.2, value::port()),
        (prop::bool::weighted(0.02), value::tags()),
    );
    all.prop_map(|all| {
        let (name, admin_state_up, address, protocol_port, weight, backup, subnet_id, to, at, rest) =
            all;
        let (request_sriov, tags) = rest;
        NewMember {
            name,
            admin_state_up,
            address,
            protocol_port,
            weight,
            backup,
            subnet_id,
            monitor_address: to,
            monitor_port: at,
            request_sriov,
            tags,
        }
    })
    .boxed()
}

pub(crate) fn member_update() -> BoxedStrategy<MemberUpdate> {
    let all = (
        set(value::name()),
        set(any::<bool>()),
        set(value::weight()),
        set(any::<bool>()),
        set(option::of(value::address())),
        set(option::of(value::port())),
        set(value::tags()),
    );
    all.prop_map(
        |(name, admin_state_up, weight, backup, monitor_address, monitor_port, tags)| {
            MemberUpdate {
                name,
                admin_state_up,
                weight,
                backup,
                monitor_address,
                monitor_port,
                tags,
            }
        },
    )
    .boxed()
}

pub(crate) fn batch_member() -> BoxedStrategy<BatchMember> {
    let all = (new_member(), any::<bool>(), any::<bool>(), any::<bool>());
    all.prop_map(|(member, names, tags, subnet)| BatchMember {
        member,
        names,
        tags,
        subnet,
    })
    .boxed()
}

pub(crate) fn new_monitor() -> BoxedStrategy<NewHealthMonitor> {
    let all = (
        value::name(),
        value::mostly_true(),
        value::monitor_kind(),
        value::seconds(),
        value::seconds(),
        value::retries(),
        value::retries(),
        value::tags(),
    );
    all.prop_map(|all| {
        let (name, admin_state_up, kind, delay, timeout, max_retries, max_retries_down, tags) = all;
        NewHealthMonitor {
            name,
            admin_state_up,
            kind,
            delay_seconds: delay,
            timeout_seconds: timeout,
            max_retries,
            max_retries_down,
            tags,
        }
    })
    .boxed()
}

pub(crate) fn monitor_update() -> BoxedStrategy<HealthMonitorUpdate> {
    let own = (
        set(value::name()),
        set(any::<bool>()),
        set(value::seconds()),
        set(value::seconds()),
        set(value::retries()),
        set(value::retries()),
        set(value::tags()),
    );
    let http = (
        set(value::http_method()),
        set(value::url_path()),
        set(value::expected_codes()),
        set(option::of(value::http_version())),
        set(option::of(value::domain_name())),
    );
    // Half of them leave alone what only HTTP monitors have.
    let http = prop_oneof![Just((None, None, None, None, None)), http];
    (own, http)
        .prop_map(|(own, http)| {
            let (name, admin_state_up, delay, timeout, max_retries, max_retries_down, tags) = own;
            let (http_method, url_path, expected_codes, http_version, domain_name) = http;
            HealthMonitorUpdate {
                name,
                admin_state_up,
                delay_seconds: delay,
                timeout_seconds: timeout,
                max_retries,
                max_retries_down,
                http_method,
                url_path,
                expected_codes,
                http_version,
                domain_name,
                tags,
            }
        })
        .boxed()
}
