//! The command pipeline: many at once, and each as if it were alone.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use krater_controller_api::Application as _;
use krater_controller_core::{
    command::{BatchMode, Cascade, Command, Operation},
    envelope::Envelope,
    query::{Answer, Caller, Persona, Query, ResourceId, TreeFilter},
    refusal::Refusal,
};
use uuid::Uuid;

use crate::testbed::{AMPHORA, House, OTHER, new_listener, new_member, pool_of};

mod terms;

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_writes_to_one_load_balancer_at_once_all_succeed_and_add_up() {
    let house = Arc::new(House::build().await);
    let view = house.serving().await;
    let pool = pool_of(&view);
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..200 {
        let house = Arc::clone(&house);
        writes.spawn(async move {
            let command = Command::CreateMember(pool, Box::new(new_member(address(number))));
            house
                .execute(command)
                .await
                .map(|executed| executed.subject)
        });
    }
    let subjects = writes.join_all().await;
    assert_eq!(
        subjects.iter().filter(|written| written.is_err()).count(),
        0
    );
    let id = view.tree.id();
    let settled = house.until(id, "settled", |view| !view.is_pending()).await;
    let members: BTreeSet<IpAddr> = settled
        .tree
        .members
        .iter()
        .map(|row| row.value.address)
        .collect();
    assert_eq!(members, (0..200).map(address).collect());
    assert_eq!(
        settled.tree.generation().number(),
        view.tree.generation().number() + 200
    );
    assert_eq!(house.amphora.held(id).unwrap().pools[0].members.len(), 200);
    assert!(
        house.application.turns.0.lock().unwrap().is_empty(),
        "queues are taken away"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn load_balancers_created_at_once_have_an_address_each() {
    let house = Arc::new(House::build().await);
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let house = Arc::clone(&house);
        creates.spawn(async move {
            let new = house.new_load_balancer();
            house
                .execute(Command::CreateLoadBalancer(Box::new(new)))
                .await
                .unwrap()
        });
    }
    let created = creates.join_all().await;
    let addresses: BTreeSet<IpAddr> = created
        .iter()
        .map(|executed| executed.view.tree.load_balancer.value.vip.address)
        .collect();
    assert_eq!(addresses.len(), 50);
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused_by_name() {
    let house = House::build().await;
    let taken = house.serving().await.tree.load_balancer.value.vip.address;
    let mut new = house.new_load_balancer();
    new.vip.address = Some(taken);
    let refusal = house
        .execute(Command::CreateLoadBalancer(Box::new(new)))
        .await
        .unwrap_err();
    assert!(
        matches!(refusal, Refusal::AddressInUse { address, .. } if address == taken),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn the_first_get_after_a_change_finds_it_settled() {
    let house = House::build().await;
    let new = Box::new(house.new_load_balancer());
    let executed = house
        .execute(Command::CreateLoadBalancer(new))
        .await
        .unwrap();
    assert!(executed.view.is_pending());
    let id = executed.view.tree.id();
    assert!(!house.get(id).await.unwrap().is_pending());
    house
        .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .await
        .unwrap();
    let gone = house.get(id).await.unwrap_err();
    assert_eq!(gone, Refusal::NotFound(ResourceId::LoadBalancer(id)));
}

#[tokio::test]
async fn a_get_does_not_wait_for_ever() {
    let house = House::build().await;
    house.amphora.set_up(false);
    let new = Box::new(house.new_load_balancer());
    let executed = house
        .execute(Command::CreateLoadBalancer(new))
        .await
        .unwrap();
    let began = std::time::Instant::now();
    assert!(
        house
            .get(executed.view.tree.id())
            .await
            .unwrap()
            .is_pending()
    );
    assert!(began.elapsed() >= crate::limits::SETTLE_WAIT_MAX);
    assert!(began.elapsed() < krater_controller_core::blame::PATIENCE);
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_the_words_for_it() {
    let house = House::build().await;
    let pool = krater_amphora_api::PoolId::new(Uuid::from_u128(1));
    let command = Command::BatchMembers(pool, Vec::new(), BatchMode::Replace);
    assert_eq!(
        house.execute(command).await.unwrap_err(),
        Refusal::ParentPoolNotFound(pool)
    );
    let id = krater_amphora_api::LoadBalancerId::new(Uuid::from_u128(1));
    let command = Command::CreateListener(id, Box::new(new_listener(80, None)));
    let missing = ResourceId::LoadBalancer(id);
    assert_eq!(
        house.execute(command).await.unwrap_err(),
        Refusal::NotFound(missing)
    );
}

#[tokio::test]
async fn a_member_in_a_subnet_nobody_knows_is_refused() {
    let house = House::build().await;
    let pool = pool_of(&house.serving().await);
    let mut member = new_member(address(1));
    member.subnet_id = Some(Uuid::from_u128(7));
    let refusal = house
        .execute(Command::CreateMember(pool, Box::new(member)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::UnknownNetworkResource { kind: "Subnet", .. }
        ),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_caller_sees_and_changes_only_what_the_policy_permits() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    let caller = |project, persona| {
        let project = krater_controller_core::model::ProjectId::parse(project);
        Caller::new("somebody", project, persona)
    };
    let stranger = caller("elsewhere", Persona::Member);
    let reader = caller("house", Persona::Observer);
    let service = caller("elsewhere", Persona::Service);
    let query = || Query::Tree(ResourceId::LoadBalancer(id));
    assert_eq!(
        house
            .application
            .answer(&stranger, query())
            .await
            .unwrap_err(),
        Refusal::NotPermitted
    );
    assert!(house.application.answer(&reader, query()).await.is_ok());
    for (caller, lists_members) in [(&stranger, false), (&reader, true), (&service, true)] {
        let members = Query::MembersOf(pool_of(&view));
        let answer = house.application.answer(caller, members).await;
        assert_eq!(answer.is_ok(), lists_members, "{caller:?}");
    }
    for action in [
        query(),
        Query::Statistics(ResourceId::LoadBalancer(id)),
        Query::Trees(TreeFilter::default()),
    ] {
        let answer = house.application.answer(&service, action).await;
        assert_eq!(answer.unwrap_err(), Refusal::NotPermitted);
    }
    let delete = || Command::DeleteLoadBalancer(id, Cascade::WithChildren);
    for caller in [&stranger, &reader] {
        assert_eq!(
            house
                .application
                .execute(caller, delete(), &Envelope::default())
                .await
                .unwrap_err(),
            Refusal::NotPermitted
        );
        assert_eq!(
            house
                .application
                .answer(caller, Query::Amphorae)
                .await
                .unwrap_err(),
            Refusal::NotPermitted
        );
    }
    let count = async |caller| match house
        .application
        .answer(caller, Query::Trees(TreeFilter::default()))
        .await
    {
        Ok(Answer::Trees(views)) => views.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((count(&stranger).await, count(&reader).await), (0, 1));
}

#[tokio::test]
async fn what_changes_nothing_succeeds_and_stores_nothing() {
    let house = House::build().await;
    let view = house.serving().await;
    let (id, pool) = (view.tree.id(), pool_of(&view));
    house.amphora.set_up(false);
    for member in &view.tree.members {
        let member = member.value.id;
        house
            .execute(Command::DeleteMember(pool, member))
            .await
            .unwrap();
        let again = house.execute(Command::DeleteMember(pool, member)).await;
        assert_eq!(again.unwrap().subject, ResourceId::Member(member));
    }
    let delete = || Command::DeleteLoadBalancer(id, Cascade::WithChildren);
    let first = house.execute(delete()).await.unwrap();
    let again = house.execute(delete()).await.unwrap();
    assert_eq!(again.subject, ResourceId::LoadBalancer(id));
    assert_eq!(again.view.tree, first.view.tree);
    let stored = house.view(id).await.unwrap();
    assert_eq!(stored.tree.generation(), first.view.tree.generation());
}

fn operator(house: &House) -> Caller {
    house.caller.clone()
}

async fn operate(house: &House, operation: Operation) -> Result<(), Refusal> {
    house
        .application
        .operate(&operator(house), operation, &Envelope::default())
        .await
}

#[tokio::test]
async fn an_amphora_that_fails_over_has_its_load_balancers_pending_at_once_and_then_elsewhere() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_room_elsewhere(true);
    operate(&house, Operation::FailOver(AMPHORA)).await.unwrap();
    let told = house.view(id).await.unwrap();
    assert!(told.tree.generation() > view.tree.generation());
    house.until(id, "settled", |view| !view.is_pending()).await;
    assert_eq!(house.known.placements.of(id), Some(OTHER));
    // Once more, though there is nothing left on it: it is on its way already.
    let again = operate(&house, Operation::FailOver(AMPHORA)).await;
    assert_eq!(again, Err(Refusal::AmphoraImmutable(AMPHORA)));
}

#[tokio::test]
async fn only_what_carries_something_fails_over_and_only_what_serves_nobody_is_deleted() {
    let house = House::build().await;
    let id = house.serving().await.tree.id();
    house.amphora.set_room_elsewhere(true);
    let nobody = krater_amphora_api::AmphoraId::new(Uuid::from_u128(9));
    for (operation, refusal) in [
        (Operation::FailOver(OTHER), Refusal::AmphoraImmutable(OTHER)),
        (
            Operation::Delete(AMPHORA),
            Refusal::AmphoraImmutable(AMPHORA),
        ),
        (
            Operation::Delete(nobody),
            Refusal::AmphoraNotFound {
                kind: "Amphora",
                id: nobody,
            },
        ),
    ] {
        assert_eq!(operate(&house, operation).await, Err(refusal));
    }
    assert_eq!(operate(&house, Operation::Delete(OTHER)).await, Ok(()));
    house.amphora.set_silent(true);
    let still = operate(&house, Operation::Delete(AMPHORA)).await;
    assert_eq!(still, Ok(()), "it is silent");
    assert!(house.view(id).await.is_some());
}

#[tokio::test]
async fn an_amphora_that_is_configured_is_sent_everything_once_more() {
    let house = House::build().await;
    house.serving().await;
    let before = house.amphora.pushes();
    operate(&house, Operation::Configure(AMPHORA))
        .await
        .unwrap();
    let pushed = async {
        while house.amphora.pushes() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testbed::BOUND, pushed)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_an_amphora_counted_is_told_by_listener_and_to_operators_alone() {
    let house = House::build().await;
    let view = house.serving().await;
    house.hear(house.amphora.report(1, 1));
    let ask = async |amphora| {
        let query = Query::AmphoraStatistics(amphora);
        house.application.answer(&operator(&house), query).await
    };
    let Answer::AmphoraStatistics(counted) = ask(AMPHORA).await.unwrap() else {
        panic!("it is asked what it counted");
    };
    assert_eq!(counted[0].load_balancer, view.tree.id());
    assert_eq!(counted[0].listener, view.tree.listeners[0].value.id);
    let none = Refusal::AmphoraNotFound {
        kind: "Amphora stats for",
        id: OTHER,
    };
    assert_eq!(ask(OTHER).await.unwrap_err(), none);
    let project = krater_controller_core::model::ProjectId::parse("house");
    let member = Caller::new("somebody", project, Persona::Member);
    for query in [Query::Amphorae, Query::AmphoraStatistics(AMPHORA)] {
        let refused = house.application.answer(&member, query).await;
        assert_eq!(refused.unwrap_err(), Refusal::NotPermitted);
    }
    let operation = Operation::Configure(AMPHORA);
    assert_eq!(
        house
            .application
            .operate(&member, operation, &Envelope::default())
            .await,
        Err(Refusal::NotPermitted)
    );
    let command = Command::FailOver(view.tree.id(), None, None);
    assert_eq!(
        house
            .application
            .execute(&member, command, &Envelope::default())
            .await
            .unwrap_err(),
        Refusal::NotPermitted
    );
}
