use std::{vec, vec::Vec};

use krater_amphora_api::{ListenerProtocol, ListenerSpec, SnapshotSpec};
use proptest::prelude::*;

use super::*;
use crate::sample;

fn snapshot(vips: &[&str], listeners: &[(u128, u16)]) -> Snapshot {
    parse(vips, listeners, |_| {})
}

fn parse(
    vips: &[&str],
    listeners: &[(u128, u16)],
    change: impl FnOnce(&mut SnapshotSpec),
) -> Snapshot {
    let listeners = listeners
        .iter()
        .map(|(number, port)| sample::listener(*number, ListenerProtocol::Tcp, *port))
        .collect();
    let vips = vips.iter().map(|vip| sample::vip(vip)).collect();
    let mut spec = SnapshotSpec {
        vips,
        listeners,
        ..sample::spec()
    };
    change(&mut spec);
    Snapshot::parse(spec).unwrap()
}

fn key(listener: u128, address: &str) -> SocketKey {
    SocketKey {
        listener: sample::listener_id(listener),
        place: Place {
            transport: Transport::Stream,
            address: address.parse().unwrap(),
        },
    }
}

#[test]
fn a_first_snapshot_opens_each_listener_on_each_vip_and_a_last_one_closes_them() {
    let only = snapshot(&["192.0.2.1", "2001:db8::1"], &[(1, 80), (2, 443)]);
    let all = [
        key(1, "192.0.2.1:80"),
        key(1, "[2001:db8::1]:80"),
        key(2, "192.0.2.1:443"),
        key(2, "[2001:db8::1]:443"),
    ];
    let opened = Transition::between(None, Some(&only));
    assert_eq!(
        (
            opened.open.as_slice(),
            opened.keep.len(),
            opened.close.len()
        ),
        (&all[..], 0, 0)
    );
    let closed = Transition::between(Some(&only), None);
    assert_eq!(
        (
            closed.close.as_slice(),
            closed.keep.len(),
            closed.open.len()
        ),
        (&all[..], 0, 0)
    );
    assert!(Transition::between(None, None).changes_nothing());
}

#[test]
fn what_leaves_the_socket_keeps_it() {
    let old = snapshot(&["192.0.2.1"], &[(1, 80)]);
    let new = parse(&["192.0.2.1"], &[(1, 80)], |spec| {
        spec.listeners[0].connection_limit = 7;
        spec.listeners[0].default_pool = Some(sample::pool_id(1));
        spec.generation = spec.generation.next();
    });
    let transition = Transition::between(Some(&old), Some(&new));
    assert!(transition.changes_nothing());
    assert_eq!(transition.keep, [key(1, "192.0.2.1:80")]);
}

#[test]
fn another_port_or_vip_closes_one_socket_and_opens_another() {
    let old = snapshot(&["192.0.2.1"], &[(1, 80)]);
    let port = Transition::between(Some(&old), Some(&snapshot(&["192.0.2.1"], &[(1, 81)])));
    assert_eq!(
        (port.close, port.open),
        (vec![key(1, "192.0.2.1:80")], vec![key(1, "192.0.2.1:81")])
    );
    let vip = Transition::between(Some(&old), Some(&snapshot(&["192.0.2.2"], &[(1, 80)])));
    assert_eq!(
        (vip.close, vip.open),
        (vec![key(1, "192.0.2.1:80")], vec![key(1, "192.0.2.2:80")])
    );
}

#[test]
fn a_port_that_moves_between_listeners_is_closed_and_opened() {
    let old = snapshot(&["192.0.2.1"], &[(1, 80)]);
    let new = snapshot(&["192.0.2.1"], &[(2, 80)]);
    let moved = Transition::between(Some(&old), Some(&new));
    assert_eq!(
        (moved.close, moved.open),
        (vec![key(1, "192.0.2.1:80")], vec![key(2, "192.0.2.1:80")])
    );
}

#[test]
fn a_listener_that_changes_from_streams_to_datagrams_gets_another_socket() {
    let old = snapshot(&["192.0.2.1"], &[(1, 80)]);
    let new = parse(&["192.0.2.1"], &[(1, 80)], |spec| {
        spec.listeners[0].protocol = ListenerProtocol::Udp
    });
    let changed = Transition::between(Some(&old), Some(&new));
    assert_eq!(changed.close, [key(1, "192.0.2.1:80")]);
    let place = changed.open[0].place;
    assert_eq!(
        (place.transport, std::format!("{place}")),
        (
            Transport::Datagram,
            std::string::String::from("192.0.2.1:80/udp")
        )
    );
}

#[test]
fn disabling_closes() {
    let old = snapshot(&["192.0.2.1"], &[(1, 80), (2, 81)]);
    let one = parse(&["192.0.2.1"], &[(1, 80), (2, 81)], |spec| {
        spec.listeners[1].enabled = false
    });
    assert_eq!(
        Transition::between(Some(&old), Some(&one)).close,
        [key(2, "192.0.2.1:81")]
    );
    let all = parse(&["192.0.2.1"], &[(1, 80), (2, 81)], |spec| {
        spec.enabled = false
    });
    assert_eq!(Transition::between(Some(&old), Some(&all)).close.len(), 2);
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let vips = prop::collection::btree_set(0_u8..4, 1..4);
    let listeners = prop::collection::btree_map(1_u16..6, (0_u128..6, any::<bool>()), 0..5);
    (any::<bool>(), vips, listeners).prop_map(|(enabled, vips, listeners)| {
        let mut ids = BTreeSet::new();
        let listeners = listeners
            .into_iter()
            .filter(|(_, (id, _))| ids.insert(*id))
            .map(|(port, (id, enabled))| ListenerSpec {
                enabled,
                ..sample::listener(id, ListenerProtocol::Http, port)
            })
            .collect();
        let vips = vips
            .iter()
            .map(|last| krater_amphora_api::VipSpec {
                address: [192, 0, 2, *last].into(),
            })
            .collect();
        Snapshot::parse(SnapshotSpec {
            enabled,
            vips,
            listeners,
            ..sample::spec()
        })
        .unwrap()
    })
}

fn set(of: Vec<SocketKey>) -> BTreeSet<SocketKey> {
    let count = of.len();
    let set: BTreeSet<_> = of.into_iter().collect();
    assert_eq!(set.len(), count, "a socket is named twice");
    set
}

proptest! {
    #[test]
    fn opened_and_kept_are_the_new_sockets_closed_and_kept_the_old(
        old in prop::option::of(any_snapshot()),
        new in prop::option::of(any_snapshot()),
    ) {
        let transition = Transition::between(old.as_ref(), new.as_ref());
        let all = |snapshot: &Option<Snapshot>| set(snapshot.iter().flat_map(sockets).collect());
        let (open, keep, close) = (set(transition.open), set(transition.keep), set(transition.close));
        prop_assert!(open.is_disjoint(&keep) && open.is_disjoint(&close) && keep.is_disjoint(&close));
        prop_assert_eq!(&open | &keep, all(&new));
        prop_assert_eq!(&close | &keep, all(&old));
        prop_assert_eq!(keep, &all(&old) & &all(&new));
    }
}
