//! What holds after any sequence of commands.

use alloc::{boxed::Box, collections::BTreeSet, vec, vec::Vec};

use proptest::prelude::*;

use crate::{
    command::{
        BatchMode, Cascade, Command, HealthMonitorUpdate, L7PolicyUpdate, L7RuleUpdate,
        ListenerUpdate, LoadBalancerUpdate, MemberUpdate, NewL7Policy, NewListener, NewMember,
        PoolParent, PoolRef, PoolUpdate, Redirect,
    },
    compile::{Defaults, compile},
    model::{L7Action, ListenerProtocol, PoolProtocol},
    sample::{
        House, entry, http_kind, new_balancer, new_listener, new_member, new_monitor, new_policy,
        new_pool, path_rule, tcp_kind,
    },
    tree::{LoadBalancerTree, Row},
};

/// One command of each kind, about the rows of `house`, which is furnished.
pub(super) fn one_of_each(house: &House) -> Vec<Command> {
    let (id, listener, pool, member, monitor) = (
        house.id(),
        house.listener(),
        house.pool(),
        house.member(0),
        house.monitor(),
    );
    vec![
        Command::UpdateLoadBalancer(id, LoadBalancerUpdate::default()),
        Command::DeleteLoadBalancer(id, Cascade::WithChildren),
        Command::CreateListener(id, Box::new(new_listener(ListenerProtocol::Tcp, 90))),
        Command::UpdateListener(listener, Box::default()),
        Command::DeleteListener(listener),
        Command::CreatePool(
            PoolParent {
                load_balancer: Some(id),
                listener: None,
            },
            Box::new(new_pool(PoolProtocol::Tcp)),
        ),
        Command::UpdatePool(pool, Box::default()),
        Command::DeletePool(pool),
        Command::CreateMember(pool, Box::new(new_member("10.1.0.9", 80))),
        Command::UpdateMember(pool, member, MemberUpdate::default()),
        Command::DeleteMember(pool, member),
        Command::BatchMembers(pool, vec![entry("10.1.0.9", 80)], BatchMode::Replace),
        Command::CreateHealthMonitor(pool, Box::new(new_monitor(tcp_kind()))),
        Command::UpdateHealthMonitor(monitor, Box::default()),
        Command::DeleteHealthMonitor(monitor),
        Command::CreateL7Policy(listener, Box::new(new_policy(L7Action::Reject))),
    ]
}

/// A command in numbers: which kind, and which of the rows there are.
type Wish = (u8, usize, usize, u8);

fn command(wish: Wish, tree: &LoadBalancerTree) -> Option<Command> {
    match wish.0 {
        0..=5 => about_listeners(wish, tree),
        6..=9 => about_pools(wish, tree),
        10..=18 => about_members(wish, tree),
        _ => about_policies(wish, tree),
    }
}

fn pick<T>(rows: &[Row<T>], number: usize) -> Option<&T> {
    rows.get(number % rows.len().max(1)).map(|row| &row.value)
}

fn port(salt: u8) -> u16 {
    u16::from(salt % 4) + 80
}

fn is_up(salt: u8) -> bool {
    !salt.is_multiple_of(3)
}

fn about_listeners((kind, one, other, salt): Wish, tree: &LoadBalancerTree) -> Option<Command> {
    let listener = pick(&tree.listeners, one).map(|listener| listener.id);
    let pool = pick(&tree.pools, other).map(|pool| pool.id);
    let protocol = if salt.is_multiple_of(2) {
        ListenerProtocol::Tcp
    } else {
        ListenerProtocol::Http
    };
    Some(match kind {
        0 => Command::UpdateLoadBalancer(
            tree.id(),
            LoadBalancerUpdate {
                admin_state_up: Some(is_up(salt)),
                ..LoadBalancerUpdate::default()
            },
        ),
        1 => Command::DeleteLoadBalancer(tree.id(), Cascade::OnlyIfEmpty),
        2 | 3 => Command::CreateListener(
            tree.id(),
            Box::new(NewListener {
                default_pool: pool.filter(|_| is_up(salt)).map(PoolRef::Existing),
                ..new_listener(protocol, port(salt))
            }),
        ),
        4 => Command::UpdateListener(
            listener?,
            Box::new(ListenerUpdate {
                default_pool: Some(pool),
                ..ListenerUpdate::default()
            }),
        ),
        _ => Command::DeleteListener(listener?),
    })
}

fn about_pools((kind, one, other, salt): Wish, tree: &LoadBalancerTree) -> Option<Command> {
    let pool = pick(&tree.pools, one).map(|pool| pool.id);
    let listener = pick(&tree.listeners, other).map(|listener| listener.id);
    let protocol = if salt.is_multiple_of(5) {
        PoolProtocol::Tcp
    } else {
        PoolProtocol::Http
    };
    Some(match kind {
        6 | 7 => {
            let parent = PoolParent {
                load_balancer: Some(tree.id()),
                listener: listener.filter(|_| is_up(salt)),
            };
            Command::CreatePool(parent, Box::new(new_pool(protocol)))
        }
        8 => Command::UpdatePool(
            pool?,
            Box::new(PoolUpdate {
                admin_state_up: Some(is_up(salt)),
                ..PoolUpdate::default()
            }),
        ),
        _ => Command::DeletePool(pool?),
    })
}

fn about_members((kind, one, other, salt): Wish, tree: &LoadBalancerTree) -> Option<Command> {
    let pool = pick(&tree.pools, other).map(|pool| pool.id);
    let member = pick(&tree.members, one).map(|member| (member.pool, member.id));
    let monitor = pick(&tree.health_monitors, one).map(|monitor| monitor.id);
    let address = alloc::format!("10.1.0.{}", salt % 5 + 1);
    let batch = || vec![entry(&address, port(salt))];
    Some(match kind {
        10 | 11 => {
            let weight = u16::from(salt);
            let new = NewMember {
                weight,
                admin_state_up: is_up(salt),
                ..new_member(&address, port(salt))
            };
            Command::CreateMember(pool?, Box::new(new))
        }
        12 => {
            let (pool, id) = member?;
            Command::UpdateMember(
                pool,
                id,
                MemberUpdate {
                    weight: Some(0),
                    ..MemberUpdate::default()
                },
            )
        }
        13 => {
            let (pool, id) = member?;
            Command::DeleteMember(pool, id)
        }
        14 => Command::BatchMembers(pool?, batch(), BatchMode::Replace),
        15 => Command::BatchMembers(pool?, batch(), BatchMode::Additive),
        16 => Command::CreateHealthMonitor(pool?, Box::new(new_monitor(http_kind()))),
        17 => Command::UpdateHealthMonitor(
            monitor?,
            Box::new(HealthMonitorUpdate {
                admin_state_up: Some(is_up(salt)),
                ..HealthMonitorUpdate::default()
            }),
        ),
        _ => Command::DeleteHealthMonitor(monitor?),
    })
}

fn about_policies((kind, one, other, salt): Wish, tree: &LoadBalancerTree) -> Option<Command> {
    let listener = pick(&tree.listeners, one).map(|listener| listener.id);
    let pool = pick(&tree.pools, other).map(|pool| pool.id);
    let policy = pick(&tree.l7_policies, one).map(|policy| policy.id);
    let rule = pick(&tree.l7_rules, other).map(|rule| (rule.policy, rule.id));
    let position = Some(u32::from(salt % 4) + 1).filter(|_| is_up(salt));
    Some(match kind {
        19 | 20 => {
            let action = match pool {
                Some(pool) if is_up(salt) => L7Action::RedirectToPool(PoolRef::Existing(pool)),
                _ => L7Action::Reject,
            };
            let new = NewL7Policy {
                position,
                ..new_policy(action)
            };
            Command::CreateL7Policy(listener?, Box::new(new))
        }
        21 => Command::UpdateL7Policy(
            policy?,
            Box::new(L7PolicyUpdate {
                position: Some(position),
                admin_state_up: Some(is_up(salt)),
                redirect: Redirect {
                    pool: pool.filter(|_| salt.is_multiple_of(2)).map(Some),
                    ..Redirect::default()
                },
                ..L7PolicyUpdate::default()
            }),
        ),
        22 => Command::DeleteL7Policy(policy?),
        23 | 24 => Command::CreateL7Rule(policy?, Box::new(path_rule())),
        25 => {
            let (policy, id) = rule?;
            let update = L7RuleUpdate {
                invert: Some(is_up(salt)),
                ..L7RuleUpdate::default()
            };
            Command::UpdateL7Rule(policy, id, update)
        }
        _ => {
            let (policy, id) = rule?;
            Command::DeleteL7Rule(policy, id)
        }
    })
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    prop::collection::vec((0..27_u8, 0..8_usize, 0..8_usize, any::<u8>()), 1..60)
}

/// Positions of the policies that stay are 1, 2, 3 … for each listener, and what they name stays as well.
fn check_policies(tree: &LoadBalancerTree) {
    let positions = tree.positions();
    for listener in tree.listeners.iter().filter(|row| !row.is_leaving()) {
        let own = |row: &&Row<crate::model::L7Policy>| {
            !row.is_leaving() && row.value.listener == listener.value.id
        };
        let mut taken: Vec<_> = tree
            .l7_policies
            .iter()
            .filter(own)
            .map(|row| positions[&row.value.id])
            .collect();
        taken.sort_unstable();
        let last = u32::try_from(taken.len()).unwrap();
        assert!(taken.into_iter().eq(1..=last), "positions have gaps");
    }
    for row in tree.l7_policies.iter().filter(|row| !row.is_leaving()) {
        let listener = tree.listener(row.value.listener).unwrap();
        assert!(!listener.is_leaving());
        if let Some(pool) = row.value.action.pool() {
            assert!(!tree.pool(*pool).unwrap().is_leaving());
        }
    }
    for row in tree.l7_rules.iter().filter(|row| !row.is_leaving()) {
        assert!(!tree.l7_policy(row.value.policy).unwrap().is_leaving());
    }
}

/// What an amphora would refuse.
fn check_compiled(tree: &LoadBalancerTree) {
    let spec = compile(
        tree,
        &Defaults::default(),
        &crate::secret::Secrets::default(),
    );
    assert_eq!(spec.generation, tree.generation());
    assert!(!spec.vips.is_empty());
    let ports: BTreeSet<_> = spec
        .listeners
        .iter()
        .map(|listener| listener.port)
        .collect();
    assert_eq!(ports.len(), spec.listeners.len(), "a port twice");
    let pools: BTreeSet<_> = spec.pools.iter().map(|pool| pool.id).collect();
    assert_eq!(pools.len(), spec.pools.len(), "a pool twice");
    for listener in &spec.listeners {
        assert!(
            listener
                .default_pool
                .is_none_or(|pool| pools.contains(&pool)),
            "a pool that is not there"
        );
        assert!(listener.connection_limit >= 1);
    }
    for pool in &spec.pools {
        let keys: BTreeSet<_> = pool
            .members
            .iter()
            .map(|member| (member.address, member.port))
            .collect();
        assert_eq!(keys.len(), pool.members.len(), "a member twice");
    }
}

proptest! {
    #[test]
    fn any_sequence_of_commands_keeps_the_tree_sound(wishes in wishes(), settles in any::<u64>()) {
        let mut house = House::of(new_balancer()).unwrap();
        for (turn, wish) in wishes.into_iter().enumerate() {
            let before = house.tree.clone();
            let Some(command) = command(wish, &before) else { continue };
            let Ok(change) = house.run(command) else {
                prop_assert_eq!(&house.tree, &before, "a refusal changes nothing");
                continue;
            };
            prop_assert_eq!(change.basis, Some(before.generation()));
            if change.is_empty() {
                prop_assert_eq!(&house.tree, &before);
                continue;
            }
            // I7: generations strictly increase, and only what was touched carries the new one.
            prop_assert!(house.tree.generation() > before.generation());
            let touched: BTreeSet<_> = change.touched.iter().map(|id| id.uuid()).collect();
            for facts in house.tree.facts() {
                prop_assert!(facts.generation <= house.tree.generation());
                let is_new = facts.generation == house.tree.generation();
                prop_assert_eq!(is_new, touched.contains(&facts.id.uuid()));
            }
            prop_assert!(touched.contains(&house.id().uuid()));
            prop_assert!(house.tree.contains(change.subject));
            check_compiled(&house.tree);
            check_policies(&house.tree);
            let view = house.view();
            prop_assert!(view.is_pending());
            if settles >> (turn % 64) & 1 == 1 {
                house.settle();
                prop_assert!(!house.view().is_pending());
                prop_assert!(crate::sample::pending(&house.view()).is_empty());
            }
            if house.tree.load_balancer.is_leaving() {
                break;
            }
        }
    }

    #[test]
    fn replacing_leaves_exactly_the_members_named(
        first in prop::collection::btree_set((1..6_u8, 80..83_u16), 0..8),
        second in prop::collection::btree_set((1..6_u8, 80..83_u16), 0..8),
    ) {
        let mut house = House::empty();
        house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
        for wanted in [first, second] {
            let entries = wanted.iter().map(|(host, port)| entry(&alloc::format!("10.1.0.{host}"), *port)).collect();
            house.run(Command::BatchMembers(house.pool(), entries, BatchMode::Replace)).unwrap();
            let members = &compile(&house.tree, &Defaults::default(), &crate::secret::Secrets::default()).pools[0].members;
            let got: BTreeSet<_> = members.iter().map(|member| (member.address, member.port)).collect();
            let wanted: BTreeSet<_> = wanted
                .into_iter()
                .map(|(host, port)| (core::net::IpAddr::from([10, 1, 0, host]), port))
                .collect();
            prop_assert_eq!(got, wanted);
        }
    }
}

#[test]
fn each_kind_of_command_is_admitted_once() {
    for command in one_of_each(&House::furnished()) {
        if matches!(command, Command::CreateHealthMonitor(..)) {
            continue;
        }
        let mut house = House::furnished();
        let target = command.target().unwrap();
        assert!(house.tree.contains(target));
        let change = house
            .run(command.clone())
            .unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
        assert!(!change.is_empty());
    }
}
