//! Totals that tenants see never fall (I11), and statuses do not depend on the order in which amphorae were heard.

use std::collections::{BTreeMap, BTreeSet};

use krater_amphora_api::{
    BootId, Counters, ListenerReport, ListenerState, LoadBalancerReport, MemberHealth,
    MemberReport, PoolReport,
};
use krater_controller_core::{
    rollup::{initial, listener_errors, rollup},
    tally::{Tally, sum, tally},
    tree::{LoadBalancerTree, Touch},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use uuid::Uuid;

use crate::{
    cases,
    house::{House, uuid},
    wish::{addresses, new_balancer, wishes},
};

/// What one amphora says of one listener: in its present run, an earlier one that was long on its way, or a new one.
#[derive(Clone, Debug)]
struct Heard {
    amphora: u8,
    listener: u8,
    restarts: bool,
    /// How much it did since it last said something; less than nothing when a report was overtaken.
    steps: [i64; 4],
    active: u64,
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn totals_of_a_load_balancer_never_fall(
        start in select(vec![0_u64, 1_000, u64::MAX - 1_000]),
        heard in vec(heard(), 1..80),
    ) {
        let mut runs = BTreeMap::<u8, (u128, BTreeMap<u8, [u64; 4]>)>::new();
        let mut tallies = BTreeMap::<(u8, u8), Tally>::new();
        let mut before = growing(Counters::default());
        for report in heard {
            let (run, listeners) = runs.entry(report.amphora).or_default();
            if report.restarts {
                *run += 1;
                listeners.clear();
            }
            let counted = listeners.entry(report.listener).or_insert([start; 4]);
            for (counter, step) in counted.iter_mut().zip(report.steps) {
                *counter = counter.saturating_add_signed(step);
            }
            let counters = sent(report.active, *counted);
            let boot = BootId::new(uuid(u128::from(report.amphora) << 32 | *run));
            let key = (report.amphora, report.listener);
            let next = tally(tallies.get(&key), boot, counters);
            prop_assert_eq!(growing(next.total()), growing(next.total_at_rest()));
            prop_assert_eq!(next.total_at_rest().active_connections, 0);
            tallies.insert(key, next);
            let total = sum(tallies.values().map(Tally::total));
            let after = growing(total);
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before <= after, "{before} fell to {after}");
            }
            before = after;
        }
    }

    #[test]
    fn statuses_are_of_the_tree_and_do_not_depend_on_who_was_heard_first(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(12),
        said in vec((vec(state(), 8), vec(health(), 16), 0_u8..3, any::<Index>()), 0..4),
    ) {
        let (mut house, _) = House::found(new, vip, additional);
        let mut trees = vec![house.tree.clone()];
        for wish in wishes {
            if let Some(command) = wish.command(&house.tree) && house.run(command).is_ok() {
                trees.push(house.tree.clone());
            }
        }
        // Amphorae may be behind: they speak of the tree as it was.
        let mut reports: Vec<_> = said
            .iter()
            .map(|(states, healths, missing, at)| report(at.get(&trees), states, healths, *missing))
            .collect();
        let tree = &house.tree;
        let statuses = rollup(tree, &reports);
        let first = initial(tree);
        prop_assert_eq!(reports.is_empty(), statuses.is_empty());
        let leaving: BTreeSet<Uuid> = leaving(tree);
        for id in statuses.keys() {
            prop_assert!(first.contains_key(id), "{id} is not in the tree");
            prop_assert!(!leaving.contains(id), "{id} is being deleted");
        }
        let errors = listener_errors(tree, &reports);
        prop_assert!(errors.keys().all(|id| first.contains_key(id) && !leaving.contains(id)));
        reports.reverse();
        prop_assert_eq!(rollup(tree, &reports), statuses);
        let reported: BTreeSet<_> = listener_errors(tree, &reports).into_keys().collect();
        prop_assert_eq!(reported, errors.into_keys().collect::<BTreeSet<_>>());
    }
}

fn heard() -> impl Strategy<Value = Heard> {
    let step =
        || prop_oneof![6 => 0_i64..1_000, 1 => -50_i64..0, 1 => Just(0), 1 => Just(i64::MAX)];
    let steps = [step(), step(), step(), step()];
    let who = (0_u8..3, 0_u8..3, prop::bool::weighted(0.15));
    (who, steps, 0_u64..9).prop_map(|((amphora, listener, restarts), steps, active)| Heard {
        amphora,
        listener,
        restarts,
        steps,
        active,
    })
}

/// Counters as they come out of a report that travelled.
fn sent(active_connections: u64, counted: [u64; 4]) -> Counters {
    let [bytes_in, bytes_out, request_errors, total_connections] = counted;
    let counters = Counters {
        active_connections,
        bytes_in,
        bytes_out,
        request_errors,
        total_connections,
    };
    let text = serde_json::to_string(&counters).expect("counters can be written");
    let received = serde_json::from_str(&text).expect("counters can be read");
    assert_eq!(counters, received);
    received
}

fn growing(counters: Counters) -> [u64; 4] {
    let Counters {
        active_connections: _,
        bytes_in,
        bytes_out,
        request_errors,
        total_connections,
    } = counters;
    [bytes_in, bytes_out, request_errors, total_connections]
}

fn state() -> impl Strategy<Value = ListenerState> {
    select(vec![
        ListenerState::Open,
        ListenerState::Full,
        ListenerState::Disabled,
        ListenerState::Failed {
            reason: "address already in use".into(),
        },
    ])
}

fn health() -> impl Strategy<Value = MemberHealth> {
    select(vec![
        MemberHealth::NoMonitor,
        MemberHealth::Unproven,
        MemberHealth::Up,
        MemberHealth::Down,
    ])
}

/// What an amphora that holds `tree` may say; it leaves out every `missing`-th thing, if that is not 0.
fn report(
    tree: &LoadBalancerTree,
    states: &[ListenerState],
    healths: &[MemberHealth],
    missing: u8,
) -> LoadBalancerReport {
    let said = |at: usize| missing == 0 || !(at + 1).is_multiple_of(usize::from(missing) + 1);
    let listeners = tree.listeners.iter().zip(states.iter().cycle()).enumerate();
    let members = |pool| {
        let members = tree.members_of(pool).zip(healths.iter().cycle());
        let members = members.enumerate().filter(|(at, _)| said(*at));
        let members = members.map(|(_, (row, health))| MemberReport {
            id: row.value.id,
            health: *health,
            reason: None,
            active_connections: 0,
            out: false,
        });
        members.collect()
    };
    let pools = tree.pools.iter().enumerate().filter(|(at, _)| said(*at));
    LoadBalancerReport {
        announcement: None,
        id: tree.id(),
        generation: tree.generation(),
        listeners: listeners
            .filter(|(at, _)| said(*at))
            .map(|(_, (row, state))| ListenerReport {
                id: row.value.id,
                state: state.clone(),
                counters: Counters::default(),
                failures: Default::default(),
            })
            .collect(),
        pools: pools
            .map(|(_, row)| PoolReport {
                id: row.value.id,
                members: members(row.value.id),
            })
            .collect(),
    }
}

fn leaving(tree: &LoadBalancerTree) -> BTreeSet<Uuid> {
    let rows = tree.facts().skip(1);
    rows.filter(|row| row.touch == Touch::Delete)
        .map(|row| row.id.uuid())
        .collect()
}
