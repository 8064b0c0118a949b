//! Who is blamed for what.

use alloc::{boxed::Box, vec, vec::Vec};

use krater_amphora_api::{ListenerId, MemberId};

use super::*;
use crate::{
    command::{Cascade, Command, LoadBalancerUpdate, MemberUpdate},
    model::ListenerProtocol,
    plan::{Outcome, Settled},
    sample::{House, new_balancer, new_listener, new_member},
    status::ProvisioningStatus,
};

fn amphora() -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(5))
}

fn unreachable() -> Failure {
    Failure::Unreachable {
        amphora: amphora(),
        detail: "connection refused".into(),
    }
}

fn no_room() -> Failure {
    Failure::NoRoom(NoRoom::Full { amphorae_max: 1 })
}

fn refused_for(subject: Subject) -> Failure {
    let rejections = vec![Rejection {
        subject,
        reason: "the port is 0".into(),
    }];
    Failure::Refused {
        amphora: amphora(),
        rejections,
        message: "refused".into(),
    }
}

fn blamed_ids(view: &TreeView, failure: &Failure) -> Vec<Uuid> {
    errors(view, failure).into_keys().collect()
}

#[test]
fn a_new_load_balancer_that_cannot_be_placed_is_in_error_with_its_children() {
    let house = House::of(new_balancer()).unwrap();
    let errors = errors(&house.view(), &no_room());
    assert_eq!(errors[&house.id().uuid()].code, "no_capacity");
    let mut graph = House::furnished();
    graph.settled = None;
    assert_eq!(blamed_ids(&graph.view(), &no_room()).len(), 6);
}

#[test]
fn the_child_a_request_named_is_blamed_and_its_parents_are_not() {
    let mut house = House::furnished();
    house.add_member(new_member("10.1.0.9", 80)).unwrap();
    let errors = errors(&house.view(), &unreachable());
    assert_eq!(
        errors.keys().copied().collect::<Vec<_>>(),
        [house.member(2).uuid()]
    );
    let reason = &errors[&house.member(2).uuid()];
    assert_eq!(
        (reason.code.as_str(), reason.step.as_str(), reason.heals),
        ("amphora_unreachable", "apply", true)
    );
    assert!(
        reason
            .message
            .ends_with("does not answer: connection refused"),
        "{}",
        reason.message
    );
}

#[test]
fn a_change_of_the_load_balancer_itself_is_blamed_on_it() {
    let mut house = House::furnished();
    house
        .run(Command::UpdateLoadBalancer(
            house.id(),
            LoadBalancerUpdate::default(),
        ))
        .unwrap();
    assert_eq!(
        blamed_ids(&house.view(), &unreachable()),
        [house.id().uuid()]
    );
    house
        .run(Command::DeleteLoadBalancer(
            house.id(),
            Cascade::WithChildren,
        ))
        .unwrap();
    assert!(blamed_ids(&house.view(), &unreachable()).contains(&house.id().uuid()));
}

#[test]
fn every_unsettled_change_is_blamed_not_only_the_last() {
    let mut house = House::furnished();
    let (pool, member) = (house.pool(), house.member(0));
    house
        .run(Command::UpdateMember(pool, member, MemberUpdate::default()))
        .unwrap();
    house
        .run(Command::UpdateListener(house.listener(), Box::default()))
        .unwrap();
    let mut expected = [member.uuid(), house.listener().uuid()];
    expected.sort_unstable();
    assert_eq!(blamed_ids(&house.view(), &unreachable()), expected);
}

#[test]
fn a_refusal_is_on_the_resource_it_is_about_and_on_what_it_held_back() {
    let mut house = House::furnished();
    let listener = house.listener();
    house.add_member(new_member("10.1.0.9", 80)).unwrap();
    let errors = errors(&house.view(), &refused_for(Subject::Listener(listener)));
    assert_eq!(errors[&listener.uuid()].message, "the port is 0");
    assert!(!errors[&listener.uuid()].heals);
    let held_back = &errors[&house.member(2).uuid()];
    assert_eq!(held_back.code, "refused_by_amphora");
    assert!(
        held_back
            .message
            .ends_with(&format!("listener {listener}: the port is 0")),
        "{}",
        held_back.message
    );
    assert_eq!(errors.len(), 2);
}

#[test]
fn a_refusal_about_nothing_in_the_tree_is_on_the_load_balancer() {
    let house = House::furnished();
    for subject in [
        Subject::LoadBalancer,
        Subject::Listener(ListenerId::new(Uuid::nil())),
        Subject::Member(MemberId::new(Uuid::nil())),
    ] {
        assert_eq!(
            blamed_ids(&house.view(), &refused_for(subject)),
            [house.id().uuid()]
        );
    }
    let silent = Failure::Refused {
        amphora: amphora(),
        rejections: vec![],
        message: "too large".into(),
    };
    let errors = errors(&house.view(), &silent);
    assert!(errors[&house.id().uuid()].message.ends_with("too large"));
}

#[test]
fn errors_last_until_something_heals_them() {
    let mut house = House::furnished();
    house
        .add_listener(new_listener(ListenerProtocol::Tcp, 81))
        .unwrap();
    let listener = house.tree.listeners[1].value.id.uuid();
    let mut view = house.view();
    view.observed.errors = errors(&view, &unreachable());
    view.observed
        .errors
        .insert(Uuid::nil(), view.observed.errors[&listener].clone());
    view.observed.settled = Some(view.tree.generation());
    let row = &view.tree.listeners[1];
    assert_eq!(
        view.provisioning_status(listener, row),
        ProvisioningStatus::Error
    );
    // Tried again, in vain: the same resources, but not one that is gone; the reason is the newest.
    let again = errors(&view, &no_room());
    assert_eq!(again.keys().copied().collect::<Vec<_>>(), [listener]);
    assert_eq!(again[&listener].code, "no_capacity");
    // A refusal says more than silence does.
    view.observed.errors = errors(&view, &refused_for(Subject::LoadBalancer));
    let silent = errors(&view, &unreachable());
    assert_eq!(silent[&listener].code, "refused_by_amphora");
}

#[test]
fn a_taken_port_is_no_failed_generation() {
    let house = House::furnished();
    let mut view = house.view();
    let bind = Reason {
        code: "port_in_use".into(),
        message: "x".into(),
        step: STEP_BIND.into(),
        heals: true,
    };
    view.observed
        .errors
        .insert(house.listener().uuid(), bind.clone());
    assert_eq!(
        Settled::of(&view.observed).unwrap().outcome,
        Outcome::InForce
    );
    assert_eq!(
        errors(&view, &unreachable())[&house.listener().uuid()],
        bind
    );
    view.observed.errors = errors(&view, &refused_for(Subject::LoadBalancer));
    assert_eq!(
        Settled::of(&view.observed).unwrap().outcome,
        Outcome::Failed
    );
}

#[test]
fn every_failure_names_its_step() {
    let view = House::of(new_balancer()).unwrap().view();
    let detail = || String::from("no");
    for (failure, code, step) in [
        (no_room(), "no_capacity", "place"),
        (
            Failure::NotStarted {
                amphora: amphora(),
                detail: detail(),
            },
            "amphora_not_started",
            "start",
        ),
        (unreachable(), "amphora_unreachable", "apply"),
        (
            Failure::NotLeft {
                amphora: amphora(),
                detail: detail(),
            },
            "amphora_unreachable",
            "remove",
        ),
        (
            refused_for(Subject::LoadBalancer),
            "refused_by_amphora",
            "apply",
        ),
        (
            Failure::NotReleased { detail: detail() },
            "address_not_released",
            "release",
        ),
    ] {
        let reason = &errors(&view, &failure)[&view.tree.id().uuid()];
        assert_eq!((reason.code.as_str(), reason.step.as_str()), (code, step));
    }
}

fn no_secret(unusable: bool) -> Failure {
    let house = House::furnished();
    Failure::NoSecret {
        of: ResourceId::Listener(house.tree.listeners[0].value.id),
        reference: SecretRef::parse("web".into()).unwrap(),
        detail: "no".into(),
        unusable,
    }
}

#[test]
fn who_needs_a_secret_that_is_not_there_is_in_error_and_says_which() {
    let mut house = House::furnished();
    house.settled = None;
    let errors = errors(&house.view(), &no_secret(false));
    let listener = house.tree.listeners[0].value.id;
    assert_eq!(
        errors[&listener.uuid()].message,
        alloc::format!("web that Listener {} refers to: no", listener)
    );
}

#[test]
fn every_error_says_what_the_table_of_codes_says_and_every_code_is_said() {
    use alloc::collections::BTreeSet;

    use crate::status::CODES;

    let mut house = House::furnished();
    house.settled = None;
    let view = house.view();
    let bare_refusal = Failure::Refused {
        amphora: amphora(),
        rejections: Vec::new(),
        message: "it is full".into(),
    };
    let detail = || String::from("no");
    let failures = [
        no_room(),
        Failure::NoRoom(NoRoom::NoSuchZone("north".into())),
        Failure::NoRoom(NoRoom::NoHost { zone: None }),
        Failure::NoRoom(NoRoom::OneHost),
        Failure::NoRoom(NoRoom::NoAddress { reason: detail() }),
        Failure::NoRoom(NoRoom::NoBuilder {
            obstacles: vec![detail()],
        }),
        Failure::NotStarted {
            amphora: amphora(),
            detail: detail(),
        },
        unreachable(),
        Failure::NotLeft {
            amphora: amphora(),
            detail: detail(),
        },
        refused_for(Subject::LoadBalancer),
        bare_refusal,
        Failure::NotReleased { detail: detail() },
        no_secret(false),
        no_secret(true),
    ];
    let mut said = BTreeSet::new();
    for failure in &failures {
        for reason in errors(&view, failure).into_values() {
            assert!(reason.is_known(), "{reason:?}");
            assert!(!reason.message.is_empty(), "{reason:?}");
            said.insert((reason.code, reason.step));
        }
    }
    let rows = || {
        CODES
            .iter()
            .map(|row| (String::from(row.0), String::from(row.1)))
    };
    // Ports are judged from reports, see `rollup`.
    said.extend(rows().filter(|row| row.1 == STEP_BIND));
    assert_eq!(said, rows().collect());
    assert_eq!(said.len(), CODES.len(), "a row is there twice");
}
