//! What changes need of a data plane.

use alloc::{boxed::Box, collections::BTreeMap, string::ToString, vec, vec::Vec};

use super::*;
use crate::{
    command::{Command, NewListener, NewPool, PoolRef, PoolUpdate},
    model::{
        HttpMonitor, InsertHeaders, MonitorKind, PersistenceType, PoolTls, SecretRef,
        SessionPersistence,
    },
    sample::{House, http_kind, new_listener, new_member, new_monitor, new_pool},
};

fn listener(protocol: ListenerProtocol) -> NewListener {
    new_listener(protocol, 81)
}

fn http() -> HttpMonitor {
    http_kind().http().unwrap().clone()
}

/// What a change of `house` needs.
fn needed(house: &mut House, command: Command) -> Vec<Feature> {
    needs(&house.ask(command).unwrap()).collect()
}

#[test]
fn what_a_listener_needs() {
    let mut house = House::furnished();
    let id = house.id();
    let mut needed = |new| needed(&mut house, Command::CreateListener(id, Box::new(new)));
    let mut told = listener(ListenerProtocol::Http);
    let names = ["X-Forwarded-For", "X-Real-IP"];
    told.insert_headers = InsertHeaders(BTreeMap::from(
        names.map(|name| (name.into(), "true".into())),
    ));
    let mut ended = listener(ListenerProtocol::TerminatedHttps);
    ended.tls.certificate = SecretRef::parse("r".into());
    let mut strict = ended.clone();
    strict.hsts.max_age_seconds = Some(1);
    let mut metrics = listener(ListenerProtocol::Prometheus);
    metrics.tls.certificate = SecretRef::parse("r".into());
    for (new, features) in [
        (listener(ListenerProtocol::Tcp), vec![]),
        (listener(ListenerProtocol::Https), vec![]),
        (ended, vec![]),
        (strict, vec![]),
        (listener(ListenerProtocol::Udp), vec![]),
        (listener(ListenerProtocol::Sctp), vec![Feature::Sctp]),
        (metrics, vec![]),
        (told, vec![]),
    ] {
        assert_eq!(needed(new.clone()), features, "{new:?}");
    }
}

#[test]
fn what_a_pool_and_all_in_it_needs() {
    let with = |protocol, address| NewPool {
        members: vec![new_member(address, 80)],
        ..new_pool(protocol)
    };
    let kept = |kind| NewPool {
        session_persistence: Some(SessionPersistence {
            cookie_name: (kind == PersistenceType::AppCookie).then(|| "id".into()),
            kind,
            timeout_seconds: None,
            granularity: None,
        }),
        ..new_pool(PoolProtocol::Http)
    };
    let tls = |protocol, tls| NewPool {
        tls,
        ..new_pool(protocol)
    };
    let judged = |protocol, kind| NewPool {
        health_monitor: Some(new_monitor(kind)),
        ..new_pool(protocol)
    };
    let secret = || SecretRef::parse("r".into());
    let certificate = PoolTls {
        certificate: secret(),
        ..PoolTls::default()
    };
    let enabled = PoolTls {
        enabled: true,
        ..PoolTls::default()
    };
    let (six, four) = ("2001:db8::1", "10.1.0.1");
    let by = |monitor| MonitorKind::new(monitor, http());
    let (http, udp) = (PoolProtocol::Http, PoolProtocol::Udp);
    let sctp = Feature::SctpMonitors;
    let around = Feature::TlsAroundStreams;
    for (new, features) in [
        (with(http, six), vec![]),
        (with(udp, four), vec![]),
        // A member is reached whatever its IP version: no packet is passed on as it is.
        (with(udp, six), vec![]),
        (new_pool(PoolProtocol::Sctp), vec![Feature::Sctp]),
        (new_pool(PoolProtocol::Https), vec![]),
        (new_pool(PoolProtocol::Proxy), vec![]),
        (new_pool(PoolProtocol::ProxyV2), vec![]),
        // Without TLS a reference is kept and has no effect (reference 7.2).
        (tls(PoolProtocol::Tcp, certificate), vec![]),
        (tls(http, enabled.clone()), vec![]),
        (tls(PoolProtocol::Proxy, enabled.clone()), vec![]),
        (tls(PoolProtocol::ProxyV2, enabled.clone()), vec![]),
        (tls(PoolProtocol::Tcp, enabled.clone()), vec![around]),
        (tls(PoolProtocol::Https, enabled.clone()), vec![around]),
        (tls(udp, enabled), vec![around]),
        (kept(PersistenceType::SourceIp), vec![]),
        (kept(PersistenceType::HttpCookie), vec![]),
        (kept(PersistenceType::AppCookie), vec![]),
        (judged(http, by(MonitorType::Ping)), vec![]),
        (judged(http, by(MonitorType::Https)), vec![]),
        (judged(http, by(MonitorType::TlsHello)), vec![]),
        (judged(udp, by(MonitorType::UdpConnect)), vec![]),
        (judged(udp, by(MonitorType::Sctp)), vec![sctp]),
    ] {
        let change = House::empty().add_pool(new.clone()).unwrap();
        assert_eq!(needs(&change).collect::<Vec<_>>(), features, "{new:?}");
        assert_eq!(Carried::everything().check(&change), Ok(()));
        assert_eq!(
            Carried::release().check(&change).is_ok(),
            features.is_empty()
        );
    }
}

#[test]
fn a_listener_that_passes_on_what_comes_cannot_have_it_sealed() {
    let sealed = |house: &mut House, protocol| {
        house
            .add_pool(NewPool {
                tls: PoolTls {
                    enabled: true,
                    ..PoolTls::default()
                },
                ..new_pool(protocol)
            })
            .unwrap();
        house.tree.pools.last().unwrap().value.id
    };
    for protocol in [PoolProtocol::Proxy, PoolProtocol::ProxyV2] {
        let mut house = House::furnished();
        let (id, pool) = (house.id(), sealed(&mut house, protocol));
        for (spoken, features) in [
            (ListenerProtocol::Http, vec![]),
            (ListenerProtocol::Tcp, vec![Feature::TlsBelowStreams]),
            (ListenerProtocol::Https, vec![Feature::TlsBelowStreams]),
        ] {
            let mut new = listener(spoken);
            new.default_pool = Some(PoolRef::Existing(pool));
            let command = Command::CreateListener(id, Box::new(new));
            assert_eq!(needed(&mut house, command), features, "{spoken:?}");
        }
    }
    // Nor can the pool of one be sealed afterwards.
    let mut house = House::furnished();
    house.add_pool(new_pool(PoolProtocol::Proxy)).unwrap();
    let pool = house.tree.pools.last().unwrap().value.id;
    let mut new = listener(ListenerProtocol::Tcp);
    new.default_pool = Some(PoolRef::Existing(pool));
    let id = house.id();
    house
        .run(Command::CreateListener(id, Box::new(new)))
        .unwrap();
    let mut update = PoolUpdate::default();
    update.tls.enabled = Some(true);
    let command = Command::UpdatePool(pool, Box::new(update));
    assert_eq!(needed(&mut house, command), [Feature::TlsBelowStreams]);
}

#[test]
fn what_a_change_does_not_touch_or_takes_away_needs_nothing() {
    let mut house = House::furnished();
    house.add_pool(new_pool(PoolProtocol::Sctp)).unwrap();
    let (http, sctp) = (house.pool(), house.tree.pools[1].value.id);
    let update = |id| Command::UpdatePool(id, Box::default());
    assert_eq!(needed(&mut house, update(http)), []);
    assert_eq!(needed(&mut house, update(sctp)), [Feature::Sctp]);
    assert_eq!(needed(&mut house, Command::DeletePool(sctp)), []);
    house.run(Command::DeletePool(sctp)).unwrap();
    assert_eq!(needed(&mut house, Command::DeletePool(sctp)), []);
}

#[test]
fn a_refusal_names_what_is_lacking() {
    let change = House::empty()
        .add_pool(new_pool(PoolProtocol::Sctp))
        .unwrap();
    assert_eq!(
        Carried::release().check(&change).unwrap_err().to_string(),
        "the protocol SCTP cannot be had in this release."
    );
}
