//! Rules of members.

use alloc::{boxed::Box, string::ToString, vec};

use uuid::Uuid;

use crate::{
    command::{BatchMode, Command, MemberUpdate, NewMember},
    limits,
    model::{MemberId, PoolId, PoolProtocol},
    refusal::Refusal,
    resource::ResourceId,
    sample::{House, new_member, new_pool},
};

#[test]
fn two_members_of_a_pool_differ_in_address_or_port() {
    let mut house = House::furnished();
    let taken = house.add_member(new_member("10.1.0.1", 8080));
    assert!(matches!(
        taken,
        Err(Refusal::DuplicateMember { port: 8080, .. })
    ));
    // Another spelling of the same address.
    assert!(matches!(
        house.add_member(new_member("::ffff:10.1.0.1", 8080)),
        Err(Refusal::DuplicateMember { .. })
    ));
    house.add_member(new_member("10.1.0.1", 8081)).unwrap();
    house
        .run(Command::DeleteMember(house.pool(), house.member(0)))
        .unwrap();
    house.add_member(new_member("10.1.0.1", 8080)).unwrap();
}

#[test]
fn two_pools_may_have_the_same_member() {
    let mut house = House::furnished();
    house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
    let other = house.tree.pools[1].value.id;
    house
        .run(Command::CreateMember(
            other,
            Box::new(new_member("10.1.0.1", 8080)),
        ))
        .unwrap();
}

#[test]
fn addresses_no_member_can_have_are_refused() {
    let mut house = House::furnished();
    assert_eq!(
        house
            .add_member(new_member("169.254.169.254", 80))
            .unwrap_err()
            .to_string(),
        "169.254.169.254 is not a valid option for member address"
    );
    for address in [
        "::ffff:169.254.169.254",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
    ] {
        let as_member = house.add_member(new_member(address, 80));
        assert!(
            matches!(as_member, Err(Refusal::InvalidOption { .. })),
            "{address}"
        );
        let monitor_address = Some(address.parse().unwrap());
        let as_probed = house.add_member(NewMember {
            monitor_address,
            ..new_member("10.1.0.7", 80)
        });
        assert!(
            matches!(as_probed, Err(Refusal::InvalidOption { .. })),
            "{address}"
        );
        let update = MemberUpdate {
            monitor_address: Some(monitor_address),
            ..MemberUpdate::default()
        };
        let later = house.ask(Command::UpdateMember(house.pool(), house.member(0), update));
        assert!(
            matches!(later, Err(Refusal::InvalidOption { .. })),
            "{address}"
        );
    }
}

#[test]
fn an_unknown_pool_is_a_missing_parent() {
    let mut house = House::furnished();
    let pool = PoolId::new(Uuid::nil());
    let member = house.member(0);
    for command in [
        Command::CreateMember(pool, Box::new(new_member("10.1.0.9", 80))),
        Command::UpdateMember(pool, member, MemberUpdate::default()),
        Command::DeleteMember(pool, member),
        Command::BatchMembers(pool, vec![], BatchMode::Replace),
    ] {
        let target = command.target().unwrap();
        assert_eq!(target, ResourceId::Pool(pool));
        assert_eq!(
            command.target_missing(target),
            Refusal::ParentPoolNotFound(pool)
        );
        assert_eq!(house.ask(command), Err(Refusal::ParentPoolNotFound(pool)));
    }
}

#[test]
fn a_member_of_another_pool_is_not_found() {
    let mut house = House::furnished();
    house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
    let (member, other) = (house.member(0), house.tree.pools[1].value.id);
    let unknown = Err(Refusal::NotFound(ResourceId::Member(member)));
    assert_eq!(
        house.ask(Command::UpdateMember(
            other,
            member,
            MemberUpdate::default()
        )),
        unknown
    );
    assert_eq!(house.ask(Command::DeleteMember(other, member)), unknown);
    let stranger = MemberId::new(Uuid::nil());
    assert_eq!(
        house.ask(Command::DeleteMember(house.pool(), stranger)),
        Err(Refusal::NotFound(ResourceId::Member(stranger)))
    );
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let mut house = House::furnished();
    let (pool, id) = (house.pool(), house.member(0));
    let update = MemberUpdate {
        weight: Some(0),
        monitor_port: Some(Some(9_000)),
        ..MemberUpdate::default()
    };
    house.run(Command::UpdateMember(pool, id, update)).unwrap();
    let update = MemberUpdate {
        backup: Some(true),
        monitor_port: Some(None),
        ..MemberUpdate::default()
    };
    let change = house.run(Command::UpdateMember(pool, id, update)).unwrap();
    let member = &change.tree.member(id).unwrap().value;
    assert_eq!(
        (member.weight, member.backup, member.monitor_port),
        (0, true, None)
    );
    assert_eq!((member.name.as_str(), member.protocol_port), ("a1", 8080));
}

#[test]
fn one_that_is_being_deleted_may_be_deleted_again_and_nothing_else() {
    let mut house = House::furnished();
    let (pool, id) = (house.pool(), house.member(0));
    house.run(Command::DeleteMember(pool, id)).unwrap();
    assert!(
        house
            .run(Command::DeleteMember(pool, id))
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        house.ask(Command::UpdateMember(pool, id, MemberUpdate::default())),
        Err(Refusal::BeingDeleted(ResourceId::Member(id)))
    );
}

#[test]
fn the_subnets_of_members_are_told_for_looking_up() {
    let subnet = Uuid::from_u128(7);
    let new = NewMember {
        subnet_id: Some(subnet),
        ..new_member("10.1.0.9", 80)
    };
    let pool = PoolId::new(Uuid::nil());
    let command = Command::CreateMember(pool, Box::new(new));
    assert_eq!(
        command
            .member_subnets()
            .into_iter()
            .collect::<alloc::vec::Vec<_>>(),
        [subnet]
    );
    assert!(Command::DeletePool(pool).member_subnets().is_empty());
}

#[test]
fn a_load_balancer_has_no_more_members_than_the_limit() {
    let mut house = House::furnished();
    let pool = house.pool();
    let row = house.tree.members[0].clone();
    while house.tree.members.len() < limits::MEMBERS_MAX - 1 {
        let mut row = row.clone();
        let number = u128::try_from(house.tree.members.len()).unwrap();
        row.value.id = MemberId::new(Uuid::from_u128(number));
        row.value.protocol_port = u16::try_from(number).unwrap();
        row.value.address = "10.2.0.1".parse().unwrap();
        house.tree.members.push(row);
    }
    house.add_member(new_member("10.1.0.8", 80)).unwrap();
    assert_eq!(
        house.add_member(new_member("10.1.0.9", 80)),
        Err(Refusal::QuotaMet("Member"))
    );
    let entries = vec![crate::sample::entry("10.1.0.9", 80)];
    let additive = Command::BatchMembers(pool, entries.clone(), BatchMode::Additive);
    assert_eq!(house.ask(additive), Err(Refusal::QuotaMet("Member")));
    house
        .run(Command::BatchMembers(pool, entries, BatchMode::Replace))
        .unwrap();
}
