//! Idempotency keys, versions and the audit trail through the whole pipeline.

use std::sync::Arc;

use krater_controller_api::{Application as _, Executed, Novelty};
use krater_controller_core::{
    audit::{AuditFilter, Deed, Kept, Outcome},
    command::{Cascade, Command, LoadBalancerUpdate, QuotaCommand},
    envelope::{Envelope, Once, Precondition},
    model::{Name, ProjectId},
    query::{Answer, Caller, Persona, Query, ResourceId},
    quota::{Limit, QuotaUpdate},
    refusal::Refusal,
};

use crate::testbed::{House, new_listener};

fn keyed(key: &str, digest: &str) -> Envelope {
    Envelope {
        request_id: format!("req-{key}"),
        deed: Deed::Create,
        once: Some(Once {
            key: key.to_owned(),
            scope: "POST somewhere".to_owned(),
            digest: digest.to_owned(),
        }),
        ..Envelope::default()
    }
}

async fn execute(
    house: &House,
    command: Command,
    envelope: &Envelope,
) -> Result<Executed, Refusal> {
    house
        .application
        .execute(&house.caller, command, envelope)
        .await
}

fn create(house: &House) -> Command {
    Command::CreateLoadBalancer(Box::new(house.new_load_balancer()))
}

async fn trail(house: &House, filter: AuditFilter) -> Vec<Kept> {
    let filter = AuditFilter {
        limit: 1_000,
        ..filter
    };
    match house
        .application
        .answer(&house.caller, Query::Audit(filter))
        .await
    {
        Ok(Answer::Audit(kept)) => kept,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_creations_at_once_under_one_key_create_one_load_balancer() {
    let house = Arc::new(House::build().await);
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let house = Arc::clone(&house);
        creates.spawn(async move {
            let envelope = keyed("one", "same");
            execute(&house, create(&house), &envelope).await.unwrap()
        });
    }
    let all = creates.join_all().await;
    let new = all.iter().filter(|one| one.novelty == Novelty::New);
    assert_eq!(new.count(), 1);
    assert!(all.iter().all(|one| one.subject == all[0].subject));
    let views = house.known.store.views(&Default::default()).await.unwrap();
    assert_eq!(views.len(), 1);
    assert_eq!(trail(&house, AuditFilter::default()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_asked_for_many_times_at_once_is_created_once_and_is_no_duplicate() {
    let house = Arc::new(House::build().await);
    let id = house.serving().await.tree.id();
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let house = Arc::clone(&house);
        creates.spawn(async move {
            let command = Command::CreateListener(id, Box::new(new_listener(8_080, None)));
            let executed = execute(&house, command, &keyed("child", "same")).await;
            executed.unwrap().subject
        });
    }
    let subjects = creates.join_all().await;
    assert!(subjects.iter().all(|subject| *subject == subjects[0]));
    assert_eq!(house.view(id).await.unwrap().tree.listeners.len(), 2);
}

#[tokio::test]
async fn a_key_is_for_one_body_and_for_what_is_still_there() {
    let house = House::build().await;
    let (first, other) = (keyed("k", "first"), keyed("k", "other"));
    let created = execute(&house, create(&house), &first).await.unwrap();
    let reused = execute(&house, create(&house), &other).await;
    assert_eq!(reused.unwrap_err(), Refusal::KeyReused("k".to_owned()));
    let id = created.view.tree.id();
    house.until(id, "settled", |view| !view.is_pending()).await;
    let again = execute(&house, create(&house), &first).await.unwrap();
    assert_eq!(again.novelty, Novelty::Repeated);
    assert!(!again.view.is_pending(), "as it is now");
    house
        .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .await
        .unwrap();
    house.until_gone(id).await;
    let gone = execute(&house, create(&house), &first).await.unwrap_err();
    let id = ResourceId::LoadBalancer(id);
    assert_eq!(gone, Refusal::CreatedAndGone(id));
    assert!(
        execute(&house, create(&house), &keyed("l", "first"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_key_is_only_for_its_project_and_a_repetition_needs_no_room() {
    let house = House::build().await;
    let update = QuotaUpdate {
        load_balancer: Some(Some(Limit::AtMost(1))),
        ..QuotaUpdate::default()
    };
    let project = ProjectId::parse("house").unwrap();
    let set = QuotaCommand::Set(project, update);
    let plain = Envelope::default();
    let changed = house
        .application
        .change_quota(&house.caller, set, &plain)
        .await;
    changed.unwrap();
    let envelope = keyed("k", "d");
    execute(&house, create(&house), &envelope).await.unwrap();
    let again = execute(&house, create(&house), &envelope).await.unwrap();
    assert_eq!(again.novelty, Novelty::Repeated);
    let elsewhere = Caller::new("other", ProjectId::parse("elsewhere"), Persona::Member);
    let other = house
        .application
        .execute(&elsewhere, create(&house), &envelope)
        .await;
    assert_eq!(other.unwrap().novelty, Novelty::New);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_changes_meant_for_one_version_one_is_made() {
    let house = Arc::new(House::build().await);
    let view = house.serving().await;
    let (id, version) = (view.tree.id(), view.tree.generation());
    let envelope = |versions: Vec<_>| Envelope {
        precondition: Precondition::OneOf(versions),
        ..Envelope::default()
    };
    let rename = |name: String| {
        let update = LoadBalancerUpdate {
            name: Name::parse(name).ok(),
            ..LoadBalancerUpdate::default()
        };
        Command::UpdateLoadBalancer(id, update)
    };
    let mut changes = tokio::task::JoinSet::new();
    for number in 0..30 {
        let house = Arc::clone(&house);
        let (command, envelope) = (rename(format!("n{number}")), envelope(vec![version]));
        changes.spawn(async move { execute(&house, command, &envelope).await });
    }
    let outcomes = changes.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let now = house.view(id).await.unwrap().tree.generation();
    assert_eq!(now.number(), version.number() + 1);
    let subject = ResourceId::LoadBalancer(id);
    let delete = || Command::DeleteLoadBalancer(id, Cascade::WithChildren);
    for versions in [vec![], vec![version]] {
        let refused = execute(&house, delete(), &envelope(versions)).await;
        assert_eq!(refused.unwrap_err(), Refusal::Changed(subject, now));
    }
    assert_eq!(house.view(id).await.unwrap().tree.generation(), now);
    let both = envelope(vec![version, now]);
    assert!(execute(&house, delete(), &both).await.is_ok());
}

#[tokio::test]
async fn every_change_is_in_the_trail_and_only_operators_read_it() {
    let house = House::build().await;
    let envelope = |id: &str, deed| Envelope {
        request_id: id.to_owned(),
        global_request_id: Some("req-all".to_owned()),
        deed,
        ..Envelope::default()
    };
    let created = execute(&house, create(&house), &envelope("req-1", Deed::Create)).await;
    let id = created.unwrap().view.tree.id();
    let listener = Command::CreateListener(id, Box::new(new_listener(81, None)));
    let listener = execute(&house, listener, &envelope("req-2", Deed::Create)).await;
    let listener = listener.unwrap().subject;
    let reset = QuotaCommand::Set(ProjectId::parse("house").unwrap(), QuotaUpdate::default());
    let quota = envelope("req-3", Deed::Update);
    let changed = house
        .application
        .change_quota(&house.caller, reset, &quota)
        .await;
    changed.unwrap();
    let all = trail(&house, AuditFilter::default()).await;
    let told: Vec<_> = all
        .iter()
        .map(|kept| {
            let entry = &kept.entry;
            assert_eq!(entry.outcome, Outcome::Done);
            assert_eq!(entry.user, "anybody");
            assert_eq!(entry.roles, "Admin");
            (
                entry.request_id.as_str(),
                entry.deed.name(),
                entry.kind.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("req-3", "update", "quota"),
            ("req-2", "create", "listener"),
            ("req-1", "create", "loadbalancer"),
        ]
    );
    let one = AuditFilter {
        resource: Some(listener.uuid().to_string()),
        ..AuditFilter::default()
    };
    let one = trail(&house, one).await;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].entry.load_balancer, Some(id));
    let member = Caller::new("somebody", ProjectId::parse("house"), Persona::Member);
    let refused = house
        .application
        .answer(&member, Query::Audit(AuditFilter::default()))
        .await;
    assert_eq!(refused.unwrap_err(), Refusal::NotPermitted);
}
