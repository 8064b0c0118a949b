//! Rules of L7 policies.

use alloc::{boxed::Box, vec, vec::Vec};

use uuid::Uuid;

use crate::{
    carried::Carried,
    command::{
        Cascade, Command, L7PolicyUpdate, NewL7Policy, NewL7Rule, NewListener, NewLoadBalancer,
        PoolRef, Redirect,
    },
    limits, matrix,
    model::{
        CompareType, L7Action, L7PolicyId, L7RuleType, ListenerId, ListenerProtocol, Name, PoolId,
        PoolProtocol,
    },
    refusal::Refusal,
    resource::ResourceId,
    sample::{
        House, name, new_balancer, new_listener, new_policy, new_pool, new_rule, path_rule, pending,
    },
    tree::Touch,
};

const REJECT: L7Action<PoolRef> = L7Action::Reject;

fn named(text: &str, position: Option<u32>) -> NewL7Policy {
    NewL7Policy {
        name: name(text),
        position,
        ..new_policy(REJECT)
    }
}

fn update(id: L7PolicyId, update: L7PolicyUpdate) -> Command {
    Command::UpdateL7Policy(id, Box::new(update))
}

fn moved(id: L7PolicyId, position: Option<u32>) -> Command {
    update(
        id,
        L7PolicyUpdate {
            position: Some(position),
            ..L7PolicyUpdate::default()
        },
    )
}

fn redirected(id: L7PolicyId, pool: PoolId) -> Command {
    let redirect = Redirect {
        pool: Some(Some(pool)),
        ..Redirect::default()
    };
    update(
        id,
        L7PolicyUpdate {
            redirect,
            ..L7PolicyUpdate::default()
        },
    )
}

/// The policies of the first listener that stay, each with its position, in their order.
fn order(house: &House) -> Vec<(&str, u32)> {
    let tree = &house.tree;
    let positions = tree.positions();
    let rows = tree.policies_of(&tree.listeners[0].value);
    rows.into_iter()
        .filter(|row| !row.is_leaving())
        .map(|row| (row.value.name.as_str(), positions[&row.value.id]))
        .collect()
}

fn id_of(house: &House, text: &str) -> L7PolicyId {
    let mut policies = house.tree.l7_policies.iter();
    let row = policies.find(|row| row.value.name.as_str() == text);
    row.unwrap().value.id
}

/// A house whose first listener has the policies a, b and c, settled.
fn abc() -> House {
    let mut house = House::furnished();
    for text in ["a", "b", "c"] {
        house.add_policy(named(text, None)).unwrap();
    }
    house.settle();
    house
}

#[test]
fn a_new_policy_takes_the_position_it_asks_for_and_moves_the_others() {
    for (position, expected) in [
        (None, ["a", "b", "c", "x"]),
        (Some(1), ["x", "a", "b", "c"]),
        (Some(2), ["a", "x", "b", "c"]),
        (Some(3), ["a", "b", "x", "c"]),
        (Some(4), ["a", "b", "c", "x"]),
        (Some(2_147_483_647), ["a", "b", "c", "x"]),
    ] {
        let mut house = abc();
        let change = house.add_policy(named("x", position)).unwrap();
        let numbered: Vec<_> = expected.into_iter().zip(1..).collect();
        assert_eq!(order(&house), numbered, "{position:?}");
        // The others are where they are because of their listener, and are not touched.
        let touched: Vec<_> = change.touched.iter().map(|id| id.kind()).collect();
        assert_eq!(touched, ["Load Balancer", "Listener", "L7 Policy"]);
    }
}

#[test]
fn a_policy_moves_to_the_position_it_is_given() {
    for (text, position, expected) in [
        ("a", Some(1), ["a", "b", "c"]),
        ("a", Some(2), ["b", "a", "c"]),
        ("a", Some(3), ["b", "c", "a"]),
        ("a", Some(9), ["b", "c", "a"]),
        ("a", None, ["b", "c", "a"]),
        ("c", Some(1), ["c", "a", "b"]),
        ("c", Some(2), ["a", "c", "b"]),
        ("b", Some(1), ["b", "a", "c"]),
    ] {
        let mut house = abc();
        house.run(moved(id_of(&house, text), position)).unwrap();
        let numbered: Vec<_> = expected.into_iter().zip(1..).collect();
        assert_eq!(order(&house), numbered, "{text} to {position:?}");
    }
}

#[test]
fn a_policy_that_goes_leaves_no_gap() {
    let mut house = abc();
    let b = id_of(&house, "b");
    house.run(Command::DeleteL7Policy(b)).unwrap();
    assert_eq!(order(&house), [("a", 1), ("c", 2)]);
    // While it goes it is shown where it would be, and counts no more.
    assert_eq!(house.tree.positions()[&b], 2);
    house.add_policy(named("x", Some(2))).unwrap();
    assert_eq!(order(&house), [("a", 1), ("x", 2), ("c", 3)]);
    house.settle();
    assert_eq!(order(&house), [("a", 1), ("x", 2), ("c", 3)]);
    house.add_policy(named("y", Some(3))).unwrap();
    assert_eq!(order(&house), [("a", 1), ("x", 2), ("y", 3), ("c", 4)]);
    assert!(!house.tree.listeners[0].value.l7_policies.contains(&b));
    assert_eq!(
        house.run(Command::DeleteL7Policy(b)),
        Err(Refusal::NotFound(ResourceId::L7Policy(b)))
    );
}

#[test]
fn positions_of_two_listeners_are_their_own() {
    let mut house = abc();
    house
        .add_listener(new_listener(ListenerProtocol::Http, 81))
        .unwrap();
    let other = house.tree.listeners[1].value.id;
    let command = Command::CreateL7Policy(other, Box::new(named("x", Some(7))));
    house.run(command).unwrap();
    assert_eq!(house.tree.positions()[&id_of(&house, "x")], 1);
    assert_eq!(order(&house), [("a", 1), ("b", 2), ("c", 3)]);
}

#[test]
fn a_policy_is_one_of_a_listener_that_is_there() {
    let mut house = House::furnished();
    let nobody = ListenerId::new(Uuid::nil());
    let create = |listener| Command::CreateL7Policy(listener, Box::new(new_policy(REJECT)));
    assert_eq!(
        house.ask(create(nobody)),
        Err(Refusal::NotFound(ResourceId::Listener(nobody)))
    );
    assert!(house.ask(create(house.listener())).is_ok());
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    let listener = house.listener();
    assert_eq!(
        house.ask(create(listener)),
        Err(Refusal::BeingDeleted(ResourceId::Listener(listener)))
    );
}

#[test]
fn only_listeners_that_see_requests_have_policies() {
    for protocol in ListenerProtocol::ALL {
        let mut house = House::empty();
        house.add_listener(new_listener(protocol, 80)).unwrap();
        let created = house.add_policy(new_policy(REJECT)).map(|_| ());
        let nested = NewLoadBalancer {
            listeners: vec![NewListener {
                l7_policies: vec![new_policy(REJECT)],
                ..new_listener(protocol, 80)
            }],
            ..new_balancer()
        };
        let nested = House::of(nested).map(|_| ());
        if matrix::has_policies(protocol) {
            assert_eq!((created, nested), (Ok(()), Ok(())));
        } else {
            let sentence = alloc::format!(
                "{} protocol listeners do not support L7 policies",
                protocol.name()
            );
            let refusal = Err(match protocol {
                ListenerProtocol::Prometheus => Refusal::ChildOfPrometheus,
                _ => Refusal::NotSupported(sentence),
            });
            assert_eq!((created, nested), (refusal.clone(), refusal));
        }
    }
}

#[test]
fn a_redirect_pool_is_one_the_listener_may_send_to() {
    let mut house = House::furnished();
    house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
    house.add_pool(new_pool(PoolProtocol::Http)).unwrap();
    house.add_policy(new_policy(REJECT)).unwrap();
    let (tcp, http) = (house.tree.pools[1].value.id, house.tree.pools[2].value.id);
    let nobody = PoolId::new(Uuid::nil());
    let mismatch = Refusal::ProtocolMismatch {
        listener: ListenerProtocol::Http,
        pool: PoolProtocol::Tcp,
    };
    for (pool, expected) in [
        (nobody, Err(Refusal::NotFound(ResourceId::Pool(nobody)))),
        (tcp, Err(mismatch)),
        (http, Ok(())),
    ] {
        let new = new_policy(L7Action::RedirectToPool(PoolRef::Existing(pool)));
        let create = Command::CreateL7Policy(house.listener(), Box::new(new));
        assert_eq!(house.ask(create).map(|_| ()), expected);
        let change = redirected(house.policy(0), pool);
        assert_eq!(house.ask(change).map(|_| ()), expected);
    }
    let new = new_policy(L7Action::RedirectToPool(PoolRef::New(0)));
    assert!(matches!(house.add_policy(new), Err(Refusal::Invalid(_))));
    house.run(Command::DeletePool(http)).unwrap();
    assert_eq!(
        house.ask(redirected(house.policy(0), http)),
        Err(Refusal::BeingDeleted(ResourceId::Pool(http)))
    );
}

#[test]
fn a_pool_that_a_policy_sends_to_stays() {
    let mut house = House::with_policy();
    let (pool, policy) = (house.tree.pools[1].value.id, house.policy(0));
    let in_use = Refusal::PoolInUse { pool, policy };
    assert_eq!(house.run(Command::DeletePool(pool)), Err(in_use.clone()));
    // Even by a policy that is not evaluated.
    let off = L7PolicyUpdate {
        admin_state_up: Some(false),
        ..L7PolicyUpdate::default()
    };
    house.run(update(policy, off)).unwrap();
    assert_eq!(house.run(Command::DeletePool(pool)), Err(in_use));
    house.run(Command::DeleteL7Policy(policy)).unwrap();
    house.run(Command::DeletePool(pool)).unwrap();
    // A second deletion is none, whatever is said of it meanwhile.
    assert!(house.run(Command::DeletePool(pool)).unwrap().is_empty());
}

#[test]
fn a_listener_takes_its_policies_and_their_rules_along() {
    let mut house = House::with_policy();
    house
        .add_listener(new_listener(ListenerProtocol::Http, 81))
        .unwrap();
    let other = house.tree.listeners[1].value.id;
    let create = Command::CreateL7Policy(other, Box::new(new_policy(REJECT)));
    house.run(create).unwrap();
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    let touches: Vec<_> = house.tree.l7_policies.iter().map(|row| row.touch).collect();
    assert_eq!(touches, [Touch::Delete, Touch::Create]);
    assert_eq!(house.tree.l7_rules[0].touch, Touch::Delete);
    let pool = house.tree.pools[1].value.id;
    house.run(Command::DeletePool(pool)).unwrap();
}

#[test]
fn an_empty_update_is_refused() {
    let mut house = House::with_policy();
    let id = house.policy(0);
    assert_eq!(
        house.ask(update(id, L7PolicyUpdate::default())),
        Err(Refusal::InvalidL7Policy("Invalid update options".into()))
    );
    let renamed = L7PolicyUpdate {
        name: Some(name("x")),
        ..L7PolicyUpdate::default()
    };
    let change = house.run(update(id, renamed)).unwrap();
    let policy = &change.tree.l7_policies[0].value;
    assert_eq!(policy.name.as_str(), "x");
    assert!(policy.action.pool().is_some(), "the rest is as it was");
}

#[test]
fn what_becomes_pending_is_the_policy_its_listener_and_the_load_balancer() {
    let after = |command: &dyn Fn(&House) -> Command| {
        let mut house = House::with_policy();
        house.run(command(&house)).unwrap();
        pending(&house.view())
    };
    let create =
        |house: &House| Command::CreateL7Policy(house.listener(), Box::new(new_policy(REJECT)));
    let above = ["Load Balancer PENDING_UPDATE", "Listener PENDING_UPDATE"];
    let with = |rest: &[&'static str]| [&above, rest].concat();
    assert_eq!(after(&create), with(&["L7 Policy PENDING_CREATE"]));
    assert_eq!(
        after(&|house| moved(house.policy(0), None)),
        with(&["L7 Policy PENDING_UPDATE"])
    );
    assert_eq!(
        after(&|house| Command::DeleteL7Policy(house.policy(0))),
        with(&["L7 Policy PENDING_DELETE", "L7 Rule PENDING_DELETE"])
    );
    let rows = after(&|house| Command::DeleteLoadBalancer(house.id(), Cascade::WithChildren));
    assert_eq!(rows.len(), 9);
    assert!(rows.iter().all(|row| row.ends_with("PENDING_DELETE")));
}

#[test]
fn a_policy_with_a_rule_makes_its_listener_a_user_of_the_pool() {
    let mut house = House::with_policy();
    let pool = house.tree.pools[1].value.id;
    let users = |house: &House| house.tree.users_of(pool).count();
    assert_eq!(users(&house), 1);
    assert_eq!(house.tree.pools_through_policies(house.listener()).len(), 1);
    let switched = |up| {
        let up = L7PolicyUpdate {
            admin_state_up: Some(up),
            ..L7PolicyUpdate::default()
        };
        Box::new(up)
    };
    let policy = house.policy(0);
    house
        .run(Command::UpdateL7Policy(policy, switched(false)))
        .unwrap();
    assert_eq!(users(&house), 0);
    house
        .run(Command::UpdateL7Policy(policy, switched(true)))
        .unwrap();
    assert_eq!(users(&house), 1);
    house
        .run(Command::DeleteL7Rule(policy, house.rule(0)))
        .unwrap();
    assert_eq!(users(&house), 0, "without a rule it is not evaluated");
    house.settle();
    house
        .run(Command::UpdatePool(pool, Box::default()))
        .unwrap();
    assert_eq!(
        pending(&house.view()),
        ["Load Balancer PENDING_UPDATE", "Pool PENDING_UPDATE"]
    );
    house.add_rule(path_rule()).unwrap();
    house.settle();
    house
        .run(Command::UpdatePool(pool, Box::default()))
        .unwrap();
    assert_eq!(
        pending(&house.view()),
        [
            "Load Balancer PENDING_UPDATE",
            "Listener PENDING_UPDATE",
            "Pool PENDING_UPDATE"
        ]
    );
}

/// A load balancer with a listener that has these policies, and one pool of HTTP and one of TCP.
fn graph(policies: Vec<NewL7Policy>) -> Result<House, Refusal> {
    House::of(NewLoadBalancer {
        listeners: vec![NewListener {
            l7_policies: policies,
            ..new_listener(ListenerProtocol::Http, 80)
        }],
        pools: vec![new_pool(PoolProtocol::Http), new_pool(PoolProtocol::Tcp)],
        ..new_balancer()
    })
}

#[test]
fn a_whole_tree_comes_with_policies_and_rules() {
    let to_pool = NewL7Policy {
        name: name("pool"),
        rules: vec![path_rule(), path_rule()],
        ..new_policy(L7Action::RedirectToPool(PoolRef::New(0)))
    };
    let house = graph(vec![named("last", None), named("first", Some(1)), to_pool]).unwrap();
    assert_eq!(order(&house), [("first", 1), ("last", 2), ("pool", 3)]);
    let policy = &house.tree.l7_policies[2].value;
    assert_eq!(policy.action, L7Action::RedirectToPool(house.pool()));
    assert_eq!(house.tree.rules_of(policy.id).count(), 2);
    let rows = pending(&house.view());
    assert!(rows.iter().all(|row| row.ends_with("PENDING_CREATE")));

    let wrong = |pool| graph(vec![new_policy(L7Action::RedirectToPool(pool))]).map(|_| ());
    assert!(matches!(
        wrong(PoolRef::New(1)),
        Err(Refusal::ProtocolMismatch { .. })
    ));
    let nobody = PoolId::new(Uuid::nil());
    assert_eq!(
        wrong(PoolRef::Existing(nobody)),
        Err(Refusal::NotFound(ResourceId::Pool(nobody)))
    );
    assert!(matches!(wrong(PoolRef::New(9)), Err(Refusal::Defect(_))));
    let broken = NewL7Policy {
        rules: vec![new_rule(L7RuleType::Path, CompareType::EqualTo, "")],
        ..new_policy(REJECT)
    };
    assert!(matches!(
        graph(vec![broken]).map(|_| ()),
        Err(Refusal::InvalidL7Rule(_))
    ));
}

#[test]
fn policies_and_rules_are_counted() {
    let with_rules = |count| NewL7Policy {
        name: Name::parse("many".into()).unwrap(),
        rules: vec![path_rule(); count],
        ..new_policy(REJECT)
    };
    let result = |policies| graph(policies).map(|_| ());
    let most = limits::L7_RULES_PER_POLICY_MAX;
    assert_eq!(result(vec![with_rules(most)]), Ok(()));
    assert_eq!(
        result(vec![with_rules(most + 1)]),
        Err(Refusal::TooManyRules("many".into()))
    );
    let all = limits::L7_RULES_MAX / most;
    assert_eq!(result(vec![with_rules(most); all]), Ok(()));
    assert_eq!(
        result(vec![with_rules(most); all + 1]),
        Err(Refusal::QuotaMet("L7 Rule"))
    );
    let most = limits::L7_POLICIES_MAX;
    assert_eq!(
        result(vec![new_policy(REJECT); most + 1]),
        Err(Refusal::QuotaMet("L7 Policy"))
    );
    let mut house = graph(vec![new_policy(REJECT); most]).unwrap();
    let refused = Err(Refusal::QuotaMet("L7 Policy"));
    assert_eq!(house.add_policy(new_policy(REJECT)), refused);
    house.run(Command::DeleteL7Policy(house.policy(0))).unwrap();
    assert!(house.add_policy(new_policy(REJECT)).is_ok());
}

#[test]
fn what_is_not_carried_is_refused_until_it_goes() {
    let mut house = House::with_policy();
    let about = |rule_type| NewL7Rule {
        key: Some("CN".into()),
        ..new_rule(rule_type, CompareType::EqualTo, "a")
    };
    let change = house.add_rule(about(L7RuleType::Header)).unwrap();
    assert_eq!(Carried::release().check(&change), Ok(()));
    let change = house.add_rule(about(L7RuleType::SslDnField)).unwrap();
    assert_eq!(Carried::everything().check(&change), Ok(()));
    let sentence = "L7 rules about client certificates on listeners that end no TLS cannot be had in this release.";
    assert_eq!(
        Carried::release().check(&change),
        Err(Refusal::NotSupported(sentence.into()))
    );
    let change = house.run(Command::DeleteL7Policy(house.policy(0))).unwrap();
    assert_eq!(Carried::release().check(&change), Ok(()));
}
