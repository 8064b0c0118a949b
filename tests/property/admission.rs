//! Any sequence of admitted commands leaves a tree that an amphora takes, and touches what it says it touches (I7).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
};

use krater_amphora_api::{ExpectedCodes, Generation, HttpVersion, SnapshotSpec};
use krater_amphora_core::{limits as amphora, snapshot::Snapshot};
use krater_controller_core::{
    carried::Carried,
    change::Change,
    command::{NewHealthMonitor, NewL7Policy, NewL7Rule, NewListener, NewMember, NewPool, PoolRef},
    compile::{Defaults, compile},
    limits,
    model::{
        AdditionalVip, CompareType, Description, HttpMonitor, InsertHeaders, L7Action, L7RuleType,
        LbAlgorithm, ListenerProtocol, MonitorKind, Name, PoolProtocol, RedirectCode, RedirectUrl,
        Tags, Timeouts,
    },
    tree::{LoadBalancerTree, Row, Touch},
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use uuid::Uuid;

use crate::{
    cases,
    house::{House, parsed, uuid, vault},
    wish::{self, Wish, addresses, new_balancer, pool_of, wishes},
};

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_admitted_sequence_compiles_to_a_snapshot_that_an_amphora_takes(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(40),
    ) {
        let (mut house, _) = House::found(new, vip, additional);
        check_compiled(&house);
        follow(&mut house, wishes, |_, change, house| {
            if !change.is_empty() {
                check_compiled(house);
            }
        });
    }

    #[test]
    fn what_an_amphora_has_no_words_for_is_left_out_of_what_it_is_sent(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(40),
    ) {
        let (mut house, _) = House::found_on(Carried::everything(), new, vip, additional);
        check_left_out(&house);
        follow(&mut house, wishes, |_, _, house| check_left_out(house));
    }

    #[test]
    fn a_command_touches_what_it_says_and_nothing_else(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(40),
    ) {
        let (mut house, change) = House::found(new, vip, additional);
        prop_assert_eq!(change.basis, None);
        prop_assert_eq!(change.touched.len(), house.tree.facts().count());
        follow(&mut house, wishes, check_touched);
    }

    #[test]
    fn what_was_deleted_is_compiled_no_more_and_nothing_is_left_without_its_parent(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(40),
    ) {
        let (mut house, _) = House::found(new, vip, additional);
        let mut gone = BTreeSet::new();
        follow(&mut house, wishes, |_, change, house| {
            let facts = change.tree.facts();
            gone.extend(facts.filter(|row| row.touch == Touch::Delete).map(|row| row.id.uuid()));
            check_deleted(&house.tree, &gone);
        });
    }
}

#[test]
fn every_kind_of_command_is_admitted_in_some_sequence() {
    // Always the same sequences, until all has been seen or plainly never is.
    let mut runner = TestRunner::deterministic();
    let mut admitted = BTreeMap::<String, u32>::new();
    let all_seen = |admitted: &BTreeMap<String, u32>| {
        admitted.len() == KINDS && admitted.values().all(|times| *times > 1)
    };
    for _ in 0..3_000 {
        if all_seen(&admitted) {
            break;
        }
        let (new, (vip, additional), wishes) = (new_balancer(), addresses(), wishes(40))
            .new_tree(&mut runner)
            .expect("a case")
            .current();
        let (mut house, _) = House::found(new, vip, additional);
        for command in wishes {
            let Some(command) = command.command(&house.tree) else {
                continue;
            };
            let text = format!("{command:?}");
            let kind = text.split('(').next().unwrap_or_default().to_owned();
            if house.run(command).is_ok_and(|change| !change.is_empty()) {
                *admitted.entry(kind).or_default() += 1;
            }
        }
    }
    assert!(all_seen(&admitted), "{admitted:?}");
}

/// Of commands: all but the creation of the load balancer itself, which begins each sequence.
const KINDS: usize = 21;

#[test]
fn the_largest_tree_there_may_be_is_taken_by_an_amphora_and_fits_its_message() {
    // The characters that need the most bytes in JSON.
    let name = Name::parse("\u{1}".repeat(limits::TEXT_CHARACTERS_MAX)).expect("a name");
    let listeners = (1..=limits::LISTENERS_MAX).map(|port| largest_listener(port, &name));
    let pools = (0..limits::POOLS_MAX).map(|number| NewPool {
        name: name.clone(),
        health_monitor: Some(largest_monitor()),
        protocol: PoolProtocol::Http,
        ..pool_of(
            largest_members(number, &name),
            LbAlgorithm::LeastConnections,
        )
    });
    let mut new = wish::bare_balancer();
    new.name = name.clone();
    new.listeners = listeners.collect();
    new.pools = pools.collect();
    let additional = (1..=limits::ADDITIONAL_VIPS_MAX).map(|host| AdditionalVip {
        address: [10, 0, 1, u8::try_from(host).expect("a host")].into(),
        subnet_id: uuid(4),
    });
    let vip = wish::vip([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into());
    let (house, _) = House::build(new, vip, additional.collect()).expect("all within the limits");
    let snapshot = house.snapshot();
    assert_eq!(snapshot.listeners().len(), limits::LISTENERS_MAX);
    let bytes = serde_json::to_vec(snapshot.spec()).expect("a spec").len();
    assert!(
        bytes <= amphora::SPEC_BODY_BYTES_MAX,
        "{bytes} bytes, an amphora reads {}",
        amphora::SPEC_BODY_BYTES_MAX
    );
}

fn largest_listener(port: usize, name: &Name) -> NewListener {
    let network = |number: usize| {
        format!(
            "2001:1db8:1111:2222:3333:4444:{:x}:{:x}/128",
            4_096 + port,
            4_096 + number
        )
    };
    let most = limits::ALLOWED_CIDRS_TOTAL_MAX / limits::LISTENERS_MAX;
    NewListener {
        name: name.clone(),
        description: Description::default(),
        admin_state_up: false,
        protocol: ListenerProtocol::Http,
        protocol_port: u16::try_from(port).expect("a port"),
        connection_limit: Some(u32::MAX),
        default_pool: Some(PoolRef::New(0)),
        allowed_cidrs: (0..most).map(network).collect(),
        timeouts: Timeouts::default(),
        insert_headers: InsertHeaders::default(),
        tls: Default::default(),
        hsts: Default::default(),
        l7_policies: largest_policies(port, name),
        tags: Tags::default(),
    }
}

/// The share of one listener in all the policies and rules there may be: values that cost the most to write.
fn largest_policies(port: usize, name: &Name) -> Vec<NewL7Policy> {
    let url = format!("http://a/{}", "x".repeat(limits::TEXT_CHARACTERS_MAX - 9));
    let patterns = limits::L7_PATTERNS_MAX;
    let rule = |number: usize| {
        let is_pattern = port <= patterns && number == 0;
        NewL7Rule {
            admin_state_up: true,
            rule_type: L7RuleType::Header,
            compare_type: if is_pattern {
                CompareType::Regex
            } else {
                CompareType::EqualTo
            },
            key: Some("k".repeat(limits::TEXT_CHARACTERS_MAX)),
            value: if is_pattern {
                "\u{1}".repeat(limits::TEXT_CHARACTERS_MAX)
            } else {
                "\\".repeat(limits::TEXT_CHARACTERS_MAX)
            },
            invert: false,
            tags: Tags::default(),
        }
    };
    let policies = limits::L7_POLICIES_MAX / limits::LISTENERS_MAX;
    let rules = limits::L7_RULES_MAX / limits::L7_POLICIES_MAX;
    let policy = NewL7Policy {
        name: name.clone(),
        description: Description::default(),
        admin_state_up: true,
        action: L7Action::RedirectPrefix {
            prefix: RedirectUrl::parse(url).expect("a URL"),
            code: RedirectCode::Permanent,
        },
        position: None,
        tags: Tags::default(),
        rules: (0..rules).map(rule).collect(),
    };
    vec![policy; policies]
}

fn largest_members(pool: usize, name: &Name) -> Vec<NewMember> {
    let address = |number: u16| {
        IpAddr::from([
            0x2001,
            0x1db8,
            0x1111,
            0x2222,
            0x3333,
            0x4444,
            0x5555,
            0x1000 + number,
        ])
    };
    let member = |number| NewMember {
        name: name.clone(),
        admin_state_up: false,
        address: address(number),
        protocol_port: u16::try_from(pool + 10_000).expect("a port"),
        weight: 256,
        backup: false,
        subnet_id: None,
        monitor_address: Some(address(0)),
        monitor_port: Some(u16::MAX),
        request_sriov: false,
        tags: Tags::default(),
    };
    let most = u16::try_from(limits::MEMBERS_MAX / limits::POOLS_MAX).expect("few");
    (1..=most).map(member).collect()
}

fn largest_monitor() -> NewHealthMonitor {
    let code = |code| ExpectedCodes {
        first: code,
        last: code,
    };
    let codes = vec![200; 16];
    NewHealthMonitor {
        name: Name::default(),
        admin_state_up: false,
        kind: MonitorKind::Http(HttpMonitor {
            http_method: "OPTIONS".into(),
            url_path: format!("/{}", "\"".repeat(limits::PROBE_TEXT_CHARACTERS_MAX - 1)),
            expected_codes: ["200"; 16].join(","),
            expected: codes.into_iter().map(code).collect(),
            http_version: Some(HttpVersion::Http11),
            domain_name: Some("d".repeat(limits::PROBE_TEXT_CHARACTERS_MAX)),
        }),
        delay_seconds: limits::MONITOR_SECONDS_MAX,
        timeout_seconds: limits::MONITOR_SECONDS_MAX,
        max_retries: 10,
        max_retries_down: 10,
        tags: Tags::default(),
    }
}

/// The policies of a listener that stay have the positions 1, 2, 3 …, and no other listener's.
fn check_positions(tree: &LoadBalancerTree) {
    let positions = tree.positions();
    let mut taken = BTreeMap::<_, Vec<u32>>::new();
    for row in tree.l7_policies.iter().filter(|row| !row.is_leaving()) {
        let listener = tree.listener(row.value.listener).expect("a listener");
        assert!(!listener.is_leaving(), "a policy of nobody");
        let position = positions[&row.value.id];
        taken.entry(row.value.listener).or_default().push(position);
    }
    for mut positions in taken.into_values() {
        positions.sort_unstable();
        let last = u32::try_from(positions.len()).expect("few");
        assert_eq!(positions, (1..=last).collect::<Vec<_>>());
    }
}

/// Has the wishes done one after the other, and shows `check` each change with the house before and after it.
fn follow(house: &mut House, wishes: Vec<Wish>, mut check: impl FnMut(&House, &Change, &House)) {
    for wish in wishes {
        if let Wish::Settle(behind) = wish {
            let now = house.tree.generation().number();
            if let Some(then) = Generation::from_number(now.saturating_sub(u64::from(behind))) {
                house.settle(then);
            }
            continue;
        }
        let before = house.clone();
        let Some(command) = wish.command(&before.tree) else {
            continue;
        };
        match house.run(command) {
            Ok(change) => check(&before, &change, house),
            Err(_) => assert_eq!(house.tree, before.tree, "a refusal changes nothing"),
        }
    }
}

/// The snapshot says what the tree says, no more and no less.
fn check_compiled(house: &House) {
    let snapshot = parsed(&house.tree);
    let tree = &house.tree;
    assert_eq!(snapshot.generation(), tree.generation());
    assert_eq!(snapshot.load_balancer(), tree.id());
    let mut wanted = staying(&tree.listeners, |value| value.id.uuid());
    wanted.extend(staying(&tree.pools, |value| value.id.uuid()));
    wanted.extend(staying(&tree.members, |value| value.id.uuid()));
    wanted.extend(staying(&tree.health_monitors, |value| value.id.uuid()));
    assert_eq!(
        ids(snapshot.spec()),
        wanted,
        "what is wanted is what is sent"
    );
    for listener in snapshot.listeners() {
        let row = tree.listener(listener.id).expect("a row");
        let pool = row.value.default_pool;
        assert_eq!(listener.default_pool, pool, "of listener {}", listener.id);
        let sent = listener.policies.pools();
        let through = tree.pools_through_policies(listener.id);
        assert!(
            sent.into_iter().all(|pool| through.contains(&pool)),
            "a pool that no policy names"
        );
    }
    check_again(&snapshot);
}

/// The snapshot, which an amphora takes, has nothing that the tree has not.
fn check_left_out(house: &House) {
    let snapshot = parsed(&house.tree);
    let sent = ids(snapshot.spec());
    let known: BTreeSet<_> = house.tree.facts().map(|facts| facts.id.uuid()).collect();
    assert!(sent.is_subset(&known));
    check_again(&snapshot);
}

/// What an amphora keeps on its disk is what it will take when it starts again.
fn check_again(snapshot: &Snapshot) {
    let again = Snapshot::parse(snapshot.spec().clone()).expect("it was parsed before");
    assert_eq!(&again, snapshot);
}

fn staying<T>(rows: &[Row<T>], id: impl Fn(&T) -> Uuid) -> BTreeSet<Uuid> {
    let rows = rows.iter().filter(|row| !row.is_leaving());
    rows.map(|row| id(&row.value)).collect()
}

/// The ids of all children in a spec.
fn ids(spec: &SnapshotSpec) -> BTreeSet<Uuid> {
    let listeners = spec.listeners.iter().map(|listener| listener.id.uuid());
    let pools = spec.pools.iter().flat_map(|pool| {
        let members = pool.members.iter().map(|member| member.id.uuid());
        let monitor = pool.monitor.iter().map(|monitor| monitor.id.uuid());
        members.chain(monitor).chain([pool.id.uuid()])
    });
    listeners.chain(pools).collect()
}

fn check_touched(before: &House, change: &Change, after: &House) {
    assert_eq!(change.basis, Some(before.tree.generation()));
    if change.is_empty() {
        assert_eq!(after.tree, before.tree, "an empty change changes nothing");
        return;
    }
    let generation = after.tree.generation();
    assert_eq!(generation, before.tree.generation().next());
    assert!(after.tree.contains(change.subject));
    let touched: BTreeSet<_> = change.touched.iter().map(|id| id.uuid()).collect();
    assert_eq!(touched.len(), change.touched.len(), "touched twice");
    assert!(touched.contains(&after.tree.id().uuid()));
    let carrying = after
        .tree
        .facts()
        .filter(|row| row.generation == generation);
    let carrying: BTreeSet<_> = carrying.map(|row| row.id.uuid()).collect();
    assert_eq!(touched, carrying, "touched is what carries the generation");

    let pending = |house: &House| -> BTreeMap<Uuid, bool> {
        let rows = house.tree.facts();
        let late = |row: Generation| house.settled.is_none_or(|settled| settled < row);
        rows.map(|row| (row.id.uuid(), late(row.generation)))
            .collect()
    };
    let (was, is) = (pending(before), pending(after));
    for (id, late) in is {
        let expected = touched.contains(&id) || was[&id];
        assert_eq!(
            late, expected,
            "{id} is pending exactly if it was or is touched"
        );
    }
    let (old, new) = (&before.tree, &after.tree);
    let root = |tree: &LoadBalancerTree| vec![tree.load_balancer.clone()];
    check_rows(&root(old), &root(new), &touched, |value| value.id.uuid());
    check_rows(&old.listeners, &new.listeners, &touched, |value| {
        value.id.uuid()
    });
    check_rows(&old.pools, &new.pools, &touched, |value| value.id.uuid());
    check_rows(&old.members, &new.members, &touched, |value| {
        value.id.uuid()
    });
    let (old, new) = (&old.health_monitors, &new.health_monitors);
    check_rows(old, new, &touched, |value| value.id.uuid());
    let (old, new) = (&before.tree, &after.tree);
    check_rows(&old.l7_policies, &new.l7_policies, &touched, |value| {
        value.id.uuid()
    });
    check_rows(&old.l7_rules, &new.l7_rules, &touched, |value| {
        value.id.uuid()
    });
}

/// Rows stay where they are, new ones come behind them; what was not touched is as it was.
fn check_rows<T: Debug + PartialEq>(
    old: &[Row<T>],
    new: &[Row<T>],
    touched: &BTreeSet<Uuid>,
    id: impl Fn(&T) -> Uuid,
) {
    assert!(new.len() >= old.len(), "a command takes no row away");
    for (old, new) in old.iter().zip(new) {
        assert_eq!(id(&old.value), id(&new.value), "rows keep their order");
        assert_eq!(old.created_at, new.created_at);
        assert!(!old.is_leaving() || new.is_leaving(), "nothing comes back");
        if !touched.contains(&id(&new.value)) {
            assert_eq!(old, new, "it was not touched");
        }
    }
    for row in &new[old.len()..] {
        assert_eq!((row.touch, row.updated_at), (Touch::Create, None));
        assert!(touched.contains(&id(&row.value)));
    }
}

fn check_deleted(tree: &LoadBalancerTree, gone: &BTreeSet<Uuid>) {
    let spec = compile(tree, &Defaults::default(), &vault(tree));
    let sent = ids(&spec);
    let back: Vec<_> = sent.intersection(gone).collect();
    assert!(back.is_empty(), "deleted and sent all the same: {back:?}");
    assert!(!spec.enabled || !gone.contains(&tree.id().uuid()));
    if tree.load_balancer.is_leaving() {
        assert!(sent.is_empty(), "children go with their load balancer");
    }
    let pools = staying(&tree.pools, |pool| pool.id.uuid());
    let listeners = tree.listeners.iter().filter(|row| !row.is_leaving());
    let members = tree.members.iter().filter(|row| !row.is_leaving());
    let monitors = tree.health_monitors.iter().filter(|row| !row.is_leaving());
    let policies = || tree.l7_policies.iter().filter(|row| !row.is_leaving());
    let named = listeners
        .filter_map(|row| row.value.default_pool)
        .chain(members.map(|row| row.value.pool))
        .chain(monitors.map(|row| row.value.pool))
        .chain(policies().filter_map(|row| row.value.action.pool().copied()));
    for pool in named {
        assert!(pools.contains(&pool.uuid()), "pool {pool} is gone");
    }
    let ids = staying(&tree.l7_policies, |policy| policy.id.uuid());
    for row in tree.l7_rules.iter().filter(|row| !row.is_leaving()) {
        assert!(ids.contains(&row.value.policy.uuid()), "a rule of nobody");
    }
    check_positions(tree);
}
