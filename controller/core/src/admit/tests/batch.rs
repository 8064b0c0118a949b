//! Reference 8.4: the members of a pool at once.

use alloc::{string::ToString, vec, vec::Vec};

use uuid::Uuid;

use crate::{
    command::{BatchMember, BatchMode, Command, MemberUpdate},
    model::{PoolProtocol, Tags},
    refusal::Refusal,
    resource::ResourceId,
    sample::{House, entry, name, new_pool},
    tree::Touch,
};

fn batch(house: &House, entries: Vec<BatchMember>, mode: BatchMode) -> Command {
    Command::BatchMembers(house.pool(), entries, mode)
}

#[test]
fn replacing_creates_updates_and_deletes() {
    let mut house = House::furnished();
    let (first, second) = (house.member(0), house.member(1));
    let entries = vec![entry("10.1.0.2", 8080), entry("10.1.0.3", 8080)];
    let change = house
        .run(batch(&house, entries, BatchMode::Replace))
        .unwrap();
    assert_eq!(change.subject, ResourceId::Pool(house.pool()));
    assert_eq!(change.tree.member(first).unwrap().touch, Touch::Delete);
    assert_eq!(change.tree.member(second).unwrap().touch, Touch::Update);
    assert_eq!(change.tree.members[2].touch, Touch::Create);
    assert_eq!(change.tree.members[2].value.address.to_string(), "10.1.0.3");
}

#[test]
fn adding_keeps_what_is_not_named() {
    let mut house = House::furnished();
    let first = house.member(0);
    let change = house
        .run(batch(
            &house,
            vec![entry("10.1.0.3", 8080)],
            BatchMode::Additive,
        ))
        .unwrap();
    assert_eq!(
        change.tree.member(first).unwrap().generation,
        crate::sample::generation(1)
    );
    assert_eq!(change.tree.members.len(), 3);
}

#[test]
fn omitted_fields_of_a_known_member_become_the_defaults_of_a_post_except_three() {
    let mut house = House::furnished();
    let (pool, id) = (house.pool(), house.member(0));
    let tags = Tags::parse(["blue".to_string()]).unwrap();
    let update = MemberUpdate {
        name: Some(name("kept")),
        tags: Some(tags.clone()),
        weight: Some(9),
        backup: Some(true),
        admin_state_up: Some(false),
        monitor_address: Some(Some("10.1.0.99".parse().unwrap())),
        monitor_port: Some(Some(9_000)),
    };
    house.run(Command::UpdateMember(pool, id, update)).unwrap();
    house
        .run(batch(
            &house,
            vec![entry("10.1.0.1", 8080)],
            BatchMode::Additive,
        ))
        .unwrap();
    let member = &house.tree.member(id).unwrap().value;
    assert_eq!(
        (member.weight, member.backup, member.admin_state_up),
        (1, false, true)
    );
    assert_eq!((member.monitor_address, member.monitor_port), (None, None));
    assert_eq!((member.name.as_str(), &member.tags), ("kept", &tags));
    let subnet_id = Some(Uuid::from_u128(7));
    let mut given = entry("10.1.0.1", 8080);
    given.member.subnet_id = subnet_id;
    given.member.name = name("given");
    let given = BatchMember {
        names: true,
        tags: true,
        subnet: true,
        ..given
    };
    house
        .run(batch(&house, vec![given], BatchMode::Additive))
        .unwrap();
    let member = &house.tree.member(id).unwrap().value;
    assert_eq!(
        (member.name.as_str(), &member.tags, member.subnet_id),
        ("given", &Tags::default(), subnet_id)
    );
}

#[test]
fn one_member_twice_is_refused() {
    let mut house = House::furnished();
    let known = vec![entry("10.1.0.1", 8080), entry("10.1.0.1", 8080)];
    assert_eq!(
        house.ask(batch(&house, known, BatchMode::Replace)),
        Err(Refusal::MemberTwice)
    );
    let new = vec![entry("10.1.0.7", 80), entry("::ffff:10.1.0.7", 80)];
    let refusal = house.ask(batch(&house, new, BatchMode::Replace));
    assert!(matches!(
        refusal,
        Err(Refusal::DuplicateMember { port: 80, .. })
    ));
}

#[test]
fn one_bad_entry_refuses_all() {
    let mut house = House::furnished();
    let before = house.tree.clone();
    let entries = vec![entry("10.1.0.7", 80), entry("169.254.169.254", 80)];
    assert!(matches!(
        house.run(batch(&house, entries, BatchMode::Replace)),
        Err(Refusal::InvalidOption { .. })
    ));
    assert_eq!(house.tree, before);
}

#[test]
fn nothing_for_an_empty_pool_changes_nothing() {
    let mut house = House::empty();
    house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
    house.settle();
    for mode in [BatchMode::Replace, BatchMode::Additive] {
        let change = house.run(batch(&house, vec![], mode)).unwrap();
        assert!(change.is_empty());
        assert_eq!(change.basis, Some(change.tree.generation()));
    }
}

#[test]
fn nothing_empties_a_pool_when_replacing_and_passes_through_pending_when_adding() {
    let mut house = House::furnished();
    let change = house
        .ask(batch(&house, vec![], BatchMode::Additive))
        .unwrap();
    assert!(
        change
            .tree
            .members
            .iter()
            .all(|row| row.touch == Touch::Create)
    );
    assert!(
        change
            .touched
            .contains(&ResourceId::LoadBalancer(house.id()))
    );
    let change = house
        .run(batch(&house, vec![], BatchMode::Replace))
        .unwrap();
    assert!(
        change
            .tree
            .members
            .iter()
            .all(|row| row.touch == Touch::Delete)
    );
    house.settle();
    assert!(house.tree.members.is_empty());
}

#[test]
fn a_member_that_is_being_deleted_comes_back_as_a_new_one() {
    let mut house = House::furnished();
    let first = house.member(0);
    house
        .run(Command::DeleteMember(house.pool(), first))
        .unwrap();
    let change = house
        .run(batch(
            &house,
            vec![entry("10.1.0.1", 8080)],
            BatchMode::Additive,
        ))
        .unwrap();
    assert_eq!(change.tree.member(first).unwrap().touch, Touch::Delete);
    assert_eq!(change.tree.members.last().unwrap().touch, Touch::Create);
}

#[test]
fn other_pools_are_left_alone() {
    let mut house = House::furnished();
    house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
    let other = house.tree.pools[1].value.id;
    house
        .run(Command::BatchMembers(
            other,
            vec![entry("10.1.0.1", 8080)],
            BatchMode::Replace,
        ))
        .unwrap();
    house
        .run(Command::BatchMembers(other, vec![], BatchMode::Replace))
        .unwrap();
    assert!(
        house
            .tree
            .members_of(house.pool())
            .all(|row| row.touch == Touch::Create)
    );
}
