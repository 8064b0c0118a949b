//! Wishes about listeners.

use krater_controller_core::command::{HstsUpdate, ListenerTlsUpdate, ListenerUpdate, NewListener};
use proptest::prelude::*;

use super::set;
use crate::{tls, value};

pub(super) fn new_listener() -> BoxedStrategy<NewListener> {
    let headers = prop_oneof![3 => Just(None), 1 => value::insert_headers().prop_map(Some)];
    let own = (value::name(), value::description(), value::tags());
    let rest = (
        value::mostly_true(),
        value::listener_protocol(),
        value::port(),
        value::connection_limit(),
        value::allowed_cidrs(),
        value::timeouts(),
        headers,
        (tls::listener_tls(), tls::hsts()),
    );
    (own, rest)
        .prop_map(|((name, description, tags), rest)| {
            let (
                admin_state_up,
                protocol,
                protocol_port,
                connection_limit,
                allowed_cidrs,
                timeouts,
                headers,
                (tls, hsts),
            ) = rest;
            NewListener {
                name,
                description,
                admin_state_up,
                protocol,
                protocol_port,
                connection_limit,
                default_pool: None,
                allowed_cidrs,
                timeouts,
                insert_headers: headers.unwrap_or_default(),
                tls,
                hsts,
                l7_policies: Vec::new(),
                tags,
            }
        })
        .boxed()
}

pub(super) fn listener_update() -> BoxedStrategy<ListenerUpdate> {
    let own = (
        set(value::name()),
        set(value::description()),
        set(value::tags()),
    );
    let timers = (
        set(value::timeout_ms()),
        set(value::timeout_ms()),
        set(value::timeout_ms()),
        set(value::timeout_ms()),
    );
    let rest = (
        set(any::<bool>()),
        set(value::connection_limit()),
        set(value::allowed_cidrs()),
        set(value::insert_headers()),
    );
    let tls = prop_oneof![
        4 => Just((ListenerTlsUpdate::default(), HstsUpdate::default())),
        1 => (tls::listener_tls_update(), tls::hsts_update()),
    ];
    (own, timers, rest, tls)
        .prop_map(|((name, description, tags), timers, rest, (tls, hsts))| {
            let (client_data_ms, member_connect_ms, member_data_ms, tcp_inspect_ms) = timers;
            let (admin_state_up, connection_limit, allowed_cidrs, insert_headers) = rest;
            ListenerUpdate {
                name,
                description,
                admin_state_up,
                connection_limit,
                default_pool: None,
                allowed_cidrs,
                client_data_ms,
                member_connect_ms,
                member_data_ms,
                tcp_inspect_ms,
                insert_headers,
                tls,
                hsts,
                tags,
            }
        })
        .boxed()
}
