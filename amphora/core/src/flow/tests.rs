use std::{collections::BTreeMap, net::SocketAddr, time::Duration, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{sample, snapshot::Pool};

const SECOND: u64 = 1_000_000_000;

fn key(number: u32) -> FlowKey {
    let [a, b, c, d] = number.to_be_bytes();
    let client = if number.is_multiple_of(2) {
        SocketAddr::from(([10, b, c, d], 1_000 + u16::from(a)))
    } else {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, u16::from(c), u16::from(d)], 53))
    };
    FlowKey { door: 0, client }
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

const fn at_second(number: u64) -> Instant {
    Instant(number * SECOND)
}

fn expired(flows: &mut Flows<u32>, now: Instant) -> Vec<u32> {
    let mut gone: Vec<_> = core::iter::from_fn(|| flows.expire(now))
        .map(|left| left.value)
        .collect();
    gone.sort_unstable();
    gone
}

#[test]
fn the_longest_silent_gives_way_when_the_table_is_full() {
    let mut flows = Flows::new(2, 7);
    let (first, _) = flows.admit(key(1), at_second(1), seconds(60), 1);
    let (second, left) = flows.admit(key(2), at_second(2), seconds(60), 2);
    assert_eq!((left, flows.is_full()), (None, true));
    flows.touch(first, at_second(3));
    let (third, left) = flows.admit(key(3), at_second(4), seconds(60), 3);
    assert_eq!(
        left,
        Some(Left {
            key: key(2),
            value: 2
        })
    );
    assert_eq!((flows.get(second), flows.find(&key(2))), (None, None));
    assert_eq!(
        (flows.find(&key(1)), flows.find(&key(3))),
        (Some(first), Some(third))
    );
    assert_eq!(flows.oldest(), Some(first));
}

#[test]
fn a_name_does_not_pass_to_who_takes_the_place() {
    let mut flows = Flows::new(1, 7);
    let (first, _) = flows.admit(key(1), at_second(1), seconds(60), 1);
    let (second, _) = flows.admit(key(2), at_second(1), seconds(60), 2);
    assert_eq!(first.slot, second.slot);
    assert_eq!(flows.get(first), None);
    assert_eq!(flows.remove(first), None);
    assert_eq!(FlowId::from_bits(second.to_bits()), second);
    assert!(second.to_bits() < 1 << FlowId::BITS);
}

#[test]
fn a_session_ends_when_it_was_silent_for_its_time_and_no_sooner() {
    let mut flows = Flows::new(8, 7);
    let (first, _) = flows.admit(key(1), at_second(0), seconds(10), 1);
    // Beyond a turn of the wheel.
    flows.admit(key(2), at_second(0), seconds(1_000), 2);
    flows.touch(first, at_second(9));
    assert_eq!(expired(&mut flows, at_second(18)), []);
    assert_eq!(
        expired(
            &mut flows,
            at_second(19).saturating_add(Flows::<u32>::GRAIN)
        ),
        [1]
    );
    assert_eq!(expired(&mut flows, at_second(999)), []);
    assert_eq!(expired(&mut flows, at_second(1_001)), [2]);
    assert_eq!((flows.len(), flows.poll_timeout()), (0, None));
}

#[test]
fn an_end_that_was_set_comes_however_busy_the_session_is() {
    let mut flows = Flows::new(8, 7);
    let (id, _) = flows.admit(key(1), at_second(0), seconds(100), 1);
    flows.end_at(id, Some(at_second(5)), at_second(1));
    flows.touch(id, at_second(4));
    assert_eq!(expired(&mut flows, at_second(4)), []);
    assert_eq!(expired(&mut flows, at_second(6)), [1]);
    let (id, _) = flows.admit(key(1), at_second(6), seconds(100), 1);
    flows.end_at(id, Some(at_second(8)), at_second(6));
    flows.end_at(id, None, at_second(7));
    assert_eq!(expired(&mut flows, at_second(100)), []);
    flows.set_idle(id, seconds(1), at_second(100));
    assert_eq!(expired(&mut flows, at_second(101)), [1]);
}

#[test]
fn those_that_leave_together_are_looked_at_once_each() {
    let mut flows = Flows::new(8, 7);
    for number in 0..6 {
        flows.admit(key(number), at_second(0), seconds(60), number);
    }
    let mut gone = Vec::new();
    flows.remove_where(|_, value| value % 2 == 0, |left| gone.push(left.value));
    assert_eq!((gone, flows.len()), (vec![0, 2, 4], 3));
}

#[test]
fn standing_follows_health_then_membership() {
    let pool = |change: fn(&mut krater_amphora_api::MemberSpec)| {
        let mut member = sample::member(1);
        change(&mut member);
        sample::parsed_pool(krater_amphora_api::Algorithm::RoundRobin, vec![member])
    };
    let of = |pool: &Pool, up| Standing::of(Some(pool), pool.members.first(), up);
    assert_eq!(of(&pool(|_| {}), true), Standing::Keeps);
    assert_eq!(of(&pool(|_| {}), false), Standing::Leaves);
    assert_eq!(
        of(&pool(|member| member.weight = 0), true),
        Standing::Drains
    );
    assert_eq!(
        of(&pool(|member| member.enabled = false), true),
        Standing::Drains
    );
    let mut disabled = pool(|_| {});
    disabled.enabled = false;
    assert_eq!(of(&disabled, true), Standing::Drains);
    assert_eq!(Standing::of(Some(&disabled), None, true), Standing::Drains);
    assert_eq!(Standing::of(None, None, true), Standing::Drains);
    assert_eq!(Standing::of(None, None, false), Standing::Leaves);
}

/// The same, done simply.
#[derive(Default)]
struct Model {
    flows: BTreeMap<u32, Entry>,
    order: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    seen: u64,
    idle: u64,
    until: u64,
    /// When its time was last set.
    noted: u64,
    order: u64,
}

impl Entry {
    fn deadline(&self) -> u64 {
        (self.seen + self.idle).min(self.until)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Datagram { client: u32, idle: u64 },
    Wait(u64),
    Remove(u32),
    EndIn(u32, u64),
    SetIdle(u32, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..12_u32;
    let idle = prop_oneof![0..2 * SECOND, 0..400 * SECOND];
    prop_oneof![
        6 => (client.clone(), idle.clone()).prop_map(|(client, idle)| Step::Datagram { client, idle }),
        3 => prop_oneof![0..SECOND, 0..300 * SECOND].prop_map(Step::Wait),
        1 => client.clone().prop_map(Step::Remove),
        1 => (client.clone(), idle.clone()).prop_map(|(client, after)| Step::EndIn(client, after)),
        1 => (client, idle).prop_map(|(client, idle)| Step::SetIdle(client, idle)),
    ]
}

proptest! {
    /// Whoever is found, evicted and expired is whom the model says, up to the grain of time.
    #[test]
    fn the_table_is_as_a_simple_model_says(
        steps in prop::collection::vec(step(), 1..200),
        capacity in 1..8_usize,
        start in prop_oneof![Just(0), any::<u32>().prop_map(|start| u64::from(start) * 1_000)],
    ) {
        let mut flows = Flows::new(capacity, 3);
        let mut model = Model::default();
        let mut now = start;
        for step in steps {
            match step {
                Step::Datagram { client, idle } => {
                    model.order += 1;
                    let order = model.order;
                    if let Some(id) = flows.find(&key(client)) {
                        flows.touch(id, Instant(now));
                        let entry = model.flows.get_mut(&client).unwrap();
                        (entry.seen, entry.order) = (now, order);
                    } else {
                        prop_assert!(!model.flows.contains_key(&client));
                        let (_, left) =
                            flows.admit(key(client), Instant(now), Duration::from_nanos(idle), client);
                        let oldest = model.flows.iter().min_by_key(|(_, entry)| entry.order);
                        let gives_way = (model.flows.len() == capacity).then(|| *oldest.unwrap().0);
                        prop_assert_eq!(left.map(|left| left.value), gives_way);
                        if let Some(gone) = gives_way {
                            model.flows.remove(&gone);
                        }
                        let until = u64::MAX;
                        model.flows.insert(client, Entry { seen: now, idle, until, noted: now, order });
                    }
                }
                Step::Wait(time) => {
                    now += time;
                    while let Some(left) = flows.expire(Instant(now)) {
                        let entry = model.flows.remove(&left.value).unwrap();
                        prop_assert!(entry.deadline() <= now, "{left:?} left too early");
                    }
                    let grain = u64::try_from(Flows::<u32>::GRAIN.as_nanos()).unwrap();
                    for (client, entry) in &model.flows {
                        prop_assert!(entry.deadline().max(entry.noted) + grain > now, "{client} is overdue");
                    }
                }
                Step::Remove(client) => {
                    let left = flows.find(&key(client)).and_then(|id| flows.remove(id));
                    prop_assert_eq!(left.is_some(), model.flows.remove(&client).is_some());
                }
                Step::EndIn(client, after) => {
                    if let Some(id) = flows.find(&key(client)) {
                        flows.end_at(id, Some(Instant(now + after)), Instant(now));
                        let entry = model.flows.get_mut(&client).unwrap();
                        (entry.until, entry.noted) = (now + after, now);
                    }
                }
                Step::SetIdle(client, idle) => {
                    if let Some(id) = flows.find(&key(client)) {
                        flows.set_idle(id, Duration::from_nanos(idle), Instant(now));
                        let entry = model.flows.get_mut(&client).unwrap();
                        (entry.idle, entry.noted) = (idle, now);
                    }
                }
            }
            prop_assert_eq!(flows.len(), model.flows.len());
            for client in 0..12 {
                let found = flows.find(&key(client)).and_then(|id| flows.get(id).copied());
                prop_assert_eq!(found, model.flows.contains_key(&client).then_some(client));
            }
            if let Some(next) = flows.poll_timeout() {
                let first = model.flows.values().map(Entry::deadline).min().unwrap();
                let grain = u64::try_from(Flows::<u32>::GRAIN.as_nanos()).unwrap();
                prop_assert!(next.0 <= first.max(now) + grain, "the next look comes too late");
            } else {
                prop_assert!(model.flows.is_empty());
            }
        }
    }
}
