use std::thread;

use krater_amphora_api::{ListenerState, PoolProtocol, SnapshotSpec};
use krater_amphora_core::snapshot::Snapshot;

use crate::testbed::{Bed, connect, named, pool_spec, read_all};

/// The specs of two load balancers that are in force on the plane of the first.
fn two() -> (Bed, SnapshotSpec) {
    let mut first = Bed::tcp(&[named("a")]).started();
    let other = Bed::tcp(&[named("b")]).spec;
    first.plane.apply(parsed(&other)).unwrap();
    (first, other)
}

fn parsed(spec: &SnapshotSpec) -> Snapshot {
    Snapshot::parse(spec.clone()).unwrap()
}

/// The same, ready to be put in force.
fn ready(spec: &SnapshotSpec) -> crate::world::Prepared {
    crate::world::Prepared::new(parsed(spec), None).unwrap()
}

fn next(spec: &SnapshotSpec) -> SnapshotSpec {
    let generation = spec.generation.next();
    SnapshotSpec {
        generation,
        ..spec.clone()
    }
}

#[test]
fn load_balancers_that_change_at_once_may_exchange_all_they_have_and_nobody_is_refused() {
    let (mut bed, other) = two();
    let (mut one, mut two) = (next(&bed.spec), next(&other));
    let (here, there) = (bed.vip, other.vips[0].address);
    let asking = thread::spawn(move || {
        (0..200)
            .map(|_| read_all(&mut connect(here)))
            .collect::<Vec<_>>()
    });
    while !asking.is_finished() {
        (one, two) = (next(&one), next(&two));
        std::mem::swap(&mut one.vips, &mut two.vips);
        std::mem::swap(&mut one.listeners, &mut two.listeners);
        std::mem::swap(&mut one.pools, &mut two.pools);
        let refused = bed.plane.apply_all(vec![ready(&one), ready(&two)], &[]);
        assert_eq!(refused, []);
    }
    assert!(asking.join().unwrap().iter().all(|answer| answer == "a"));
    let at_the_other = (there, other.listeners[0].port).into();
    assert_eq!(read_all(&mut connect(at_the_other)), "b");
}

#[test]
fn who_is_refused_gives_up_nothing_and_the_others_are_in_force() {
    let (mut bed, other) = two();
    let third = Bed::tcp(&[named("c")]).spec;
    bed.plane.apply(parsed(&third)).unwrap();
    // The first wants the pool of one that stays, the second wants that of the first, the third is on its own.
    let mut wants_foreign = next(&bed.spec);
    wants_foreign.pools = vec![pool_spec(PoolProtocol::Tcp, &[])];
    wants_foreign.listeners[0].default_pool = None;
    wants_foreign.pools[0].id = third.pools[0].id;
    let mut wants_given_up = next(&other);
    wants_given_up.pools.push(bed.spec.pools[0].clone());
    let alone = Bed::tcp(&[named("d")]).spec;
    let refused = bed.plane.apply_all(
        vec![ready(&wants_foreign), ready(&wants_given_up), ready(&alone)],
        &[],
    );
    let ids: Vec<_> = refused.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [bed.spec.load_balancer, other.load_balancer]);
    assert_eq!(bed.ask(), "a");
    assert_eq!(bed.plane.held(other.load_balancer), Some(other.generation));
    assert_eq!(bed.plane.held(alone.load_balancer), Some(alone.generation));
    // Nothing is left behind of what was tried.
    assert_eq!(bed.plane.conflicts(&parsed(&next(&other))), []);
}

#[test]
fn what_one_gives_up_as_it_goes_is_there_for_who_comes_with_it() {
    let (mut bed, mut other) = two();
    other = next(&other);
    other.vips = bed.spec.vips.clone();
    other.listeners[0].port = bed.spec.listeners[0].port;
    other.pools.push(bed.spec.pools[0].clone());
    let gone = bed.spec.load_balancer;
    assert_eq!(bed.plane.apply_all(vec![ready(&other)], &[gone]), []);
    assert_eq!(bed.ask(), "b");
    assert_eq!(bed.plane.held(gone), None);
    assert!(!bed.plane.retry_failed());
}

#[test]
fn two_that_want_one_port_at_once_share_nothing() {
    let mut bed = Bed::tcp(&[named("a")]);
    let mut other = Bed::tcp(&[named("b")]).spec;
    other.vips = bed.spec.vips.clone();
    other.listeners[0].port = bed.spec.listeners[0].port;
    // Not even where an amphora of its own is expected to listen.
    other.takes_over = true;
    let both = vec![ready(&bed.spec), ready(&other)];
    assert_eq!(bed.plane.apply_all(both, &[]), []);
    let report = bed.plane.report(other.load_balancer).unwrap();
    let ListenerState::Failed { reason } = &report.listeners[0].state else {
        panic!("{report:?}")
    };
    assert!(reason.contains("by listener"), "{reason}");
    assert!((0..20).all(|_| bed.ask() == "a"));
}
