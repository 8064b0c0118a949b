//! Quotas through the whole command pipeline.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use krater_controller_api::Application as _;
use krater_controller_core::{
    command::{BatchMember, BatchMode, Cascade, Command, QuotaCommand},
    envelope::Envelope,
    model::ProjectId,
    query::{Answer, Caller, Persona, Query},
    quota::{Counted, Limit, Limits, QuotaUpdate},
    refusal::Refusal,
};

use crate::testbed::{House, new_listener, new_member, pool_of};

fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).unwrap()
}

fn caller(persona: Persona, own: Option<&str>) -> Caller {
    Caller::new("somebody", own.map(project), persona)
}

async fn allow(house: &House, kind: Counted, most: u32) {
    let mut update = QuotaUpdate::default();
    *update.get_mut(kind) = Some(Some(Limit::AtMost(most)));
    let command = QuotaCommand::Set(project("house"), update);
    let envelope = Envelope::default();
    let changed = house
        .application
        .change_quota(&house.caller, command, &envelope);
    changed.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_creations_at_once_never_pass_the_limit_by_one() {
    let house = Arc::new(House::build().await);
    allow(&house, Counted::LoadBalancer, 7).await;
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let house = Arc::clone(&house);
        creates.spawn(async move {
            let new = Box::new(house.new_load_balancer());
            house.execute(Command::CreateLoadBalancer(new)).await
        });
    }
    let outcomes = creates.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 7);
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(
        refused
            .into_iter()
            .all(|why| *why == Refusal::QuotaMet("Load Balancer"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_of_many_load_balancers_are_counted_together() {
    let house = Arc::new(House::build().await);
    let mut pools = Vec::new();
    for _ in 0..4 {
        pools.push(pool_of(&house.serving().await));
    }
    allow(&house, Counted::Member, 25).await;
    let mut creates = tokio::task::JoinSet::new();
    for number in 0..100 {
        let house = Arc::clone(&house);
        let pool = pools[usize::from(number % 4)];
        creates.spawn(async move {
            let new = Box::new(new_member(address(number)));
            house.execute(Command::CreateMember(pool, new)).await
        });
    }
    let outcomes = creates.join_all().await;
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        25
    );
}

#[tokio::test]
async fn a_deleted_load_balancer_makes_room_when_it_is_gone() {
    let house = House::build().await;
    allow(&house, Counted::LoadBalancer, 1).await;
    let create = || Command::CreateLoadBalancer(Box::new(house.new_load_balancer()));
    let first = house.execute(create()).await.unwrap().view.tree.id();
    let met = Refusal::QuotaMet("Load Balancer");
    assert_eq!(house.execute(create()).await.unwrap_err(), met);
    house
        .execute(Command::DeleteLoadBalancer(first, Cascade::WithChildren))
        .await
        .unwrap();
    house.until_gone(first).await;
    assert!(house.execute(create()).await.is_ok());
}

#[tokio::test]
async fn a_quota_is_told_before_a_conflict_and_after_a_bad_request() {
    let house = House::build().await;
    let view = house.serving().await;
    let duplicate =
        |port| Command::CreateListener(view.tree.id(), Box::new(new_listener(port, None)));
    let refusal = house.execute(duplicate(80)).await.unwrap_err();
    assert!(matches!(refusal, Refusal::DuplicatePort { .. }));
    allow(&house, Counted::Listener, 1).await;
    let refusal = house.execute(duplicate(80)).await.unwrap_err();
    assert_eq!(refusal, Refusal::QuotaMet("Listener"));
}

#[tokio::test]
async fn a_batch_within_the_limit_may_replace_all() {
    let house = House::build().await;
    let pool = pool_of(&house.serving().await);
    allow(&house, Counted::Member, 2).await;
    let batch = |numbers: &[u8]| {
        let entries = numbers.iter().map(|number| BatchMember {
            member: new_member(address(*number)),
            names: false,
            tags: false,
            subnet: false,
        });
        Command::BatchMembers(pool, entries.collect(), BatchMode::Replace)
    };
    house.execute(batch(&[1, 2])).await.unwrap();
    house.execute(batch(&[3, 4])).await.unwrap();
    assert_eq!(
        house.execute(batch(&[3, 4, 5])).await.unwrap_err(),
        Refusal::QuotaMet("Member")
    );
}

#[tokio::test]
async fn quotas_do_not_bind_whom_the_driver_exempts() {
    let mut house = House::build().await;
    allow(&house, Counted::LoadBalancer, 0).await;
    let create = |house: &House| Command::CreateLoadBalancer(Box::new(house.new_load_balancer()));
    assert!(house.execute(create(&house)).await.is_err());
    house.caller.exempt_from_quota = true;
    assert!(house.execute(create(&house)).await.is_ok());
}

#[tokio::test]
async fn quotas_are_read_and_written_by_whom_the_policy_permits() {
    let house = House::build().await;
    allow(&house, Counted::Pool, 3).await;
    let ask = async |caller: &Caller, query| house.application.answer(caller, query).await;
    let no = Err(Refusal::NotPermitted);
    let admin = caller(Persona::Admin, None);
    let three = Limits {
        pool: Limit::AtMost(3),
        ..Limits::default()
    };
    let own = || Query::Quota(project("house"));
    let defaults = || Query::QuotaDefaults(None);
    for role in [Persona::Member, Persona::Observer] {
        let (mine, other) = (caller(role, Some("house")), caller(role, Some("other")));
        let nobody = caller(role, None);
        assert_eq!(ask(&mine, own()).await, Ok(Answer::Quota(three)));
        assert_eq!(ask(&other, own()).await, no);
        assert_eq!(ask(&nobody, own()).await, no);
        let all = Ok(Answer::Quotas(vec![(project("house"), three)]));
        assert_eq!(ask(&mine, Query::Quotas(None)).await, all);
        let none = Ok(Answer::Quotas(Vec::new()));
        assert_eq!(ask(&other, Query::Quotas(None)).await, none);
        let foreign = Query::Quotas(Some(project("house")));
        assert_eq!(ask(&other, foreign).await, no);
        assert_eq!(ask(&nobody, Query::Quotas(None)).await, no);
        let unlimited = Ok(Answer::Quota(Limits::default()));
        assert_eq!(ask(&other, defaults()).await, unlimited);
        assert_eq!(ask(&nobody, defaults()).await, no);
        let foreign = Query::QuotaDefaults(Some(project("house")));
        assert_eq!(ask(&other, foreign).await, no);
        for command in [
            QuotaCommand::Set(project("house"), QuotaUpdate::default()),
            QuotaCommand::Reset(project("house")),
        ] {
            let changed = house
                .application
                .change_quota(&mine, command, &Envelope::default())
                .await;
            assert_eq!(changed, Err(Refusal::NotPermitted));
        }
    }
    let all = Ok(Answer::Quotas(vec![(project("house"), three)]));
    assert_eq!(ask(&admin, Query::Quotas(None)).await, all);
    let reset = |text| QuotaCommand::Reset(project(text));
    let change = async |command| {
        house
            .application
            .change_quota(&admin, command, &Envelope::default())
            .await
    };
    assert_eq!(change(reset("house")).await, Ok(Limits::default()));
    let unknown = Err(Refusal::NoQuotaRecord(project("nowhere")));
    assert_eq!(change(reset("nowhere")).await, unknown);
}
