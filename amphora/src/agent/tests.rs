//! Specs on their way into force and out of it.

use uuid::Uuid;

use super::*;
use crate::{
    housekeeper::Finish,
    keep::{Holder, StateLock},
};

fn spec(balancer: u128) -> (LoadBalancerId, Bytes) {
    let json = serde_json::json!({
        "load_balancer": Uuid::from_u128(balancer), "generation": 1, "vips": [{"address": "127.0.0.1"}],
        "listeners": [{"id": Uuid::from_u128(9), "protocol": "tcp", "port": 1, "enabled": false}],
        "pools": [],
    });
    (
        LoadBalancerId::new(Uuid::from_u128(balancer)),
        Bytes::from(json.to_string()),
    )
}

#[test]
fn the_state_folder_is_given_up_once_the_disk_is_done_and_nothing_begins_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let keep = Keep::open(&path).unwrap();
    let tenure = Tenure::new(StateLock::acquire(&path).unwrap());
    crate::housekeeper::run(1, Duration::ZERO, Default::default(), |housekeeper| async {
        let id = AmphoraId::new(Uuid::from_u128(1));
        let kept = (keep.clone(), tenure.clone());
        let agent = Agent::restore(housekeeper, kept, id, None, None).unwrap();
        let (finish, is_finished) = std::sync::mpsc::channel();
        let slow = agent.on_disk(move |_| {
            let _ = is_finished.recv();
            Ok(())
        });
        let is_held = || StateLock::holder(&path).unwrap() != Holder::Nobody;
        let hasty = async {
            // By now the slow one has begun, and the folder is being given up.
            let (one, body) = spec(1);
            let refused = agent.apply(one, body.clone()).await;
            assert!(matches!(refused, Err(Refusal::Ending(_))), "{refused:?}");
            assert!(is_held());
            finish.send(()).unwrap();
            (one, body)
        };
        let (slow, given_up, (one, body)) =
            tokio::join!(biased; slow, tenure.give_up(|| false), hasty);
        slow.unwrap().unwrap();
        assert!(!given_up && is_held());
        assert!(keep.is_empty().unwrap());
        // Nobody wanted it: all is as before.
        agent.apply(one, body).await.unwrap();
        assert!(tenure.give_up(|| true).await);
        assert!(!is_held());
        let (two, body) = spec(2);
        assert!(agent.apply(two, body).await.is_err());
        assert_eq!(keep.load().unwrap().len(), 1);
        Ok(Finish::Stop)
    })
    .unwrap();
}

#[test]
fn an_ending_process_does_not_say_that_its_namespace_is_to_have_no_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    let tenure = Tenure::new(StateLock::acquire(folder.path()).unwrap());
    let mut kept = None;
    crate::housekeeper::run(1, Duration::ZERO, Default::default(), |housekeeper| {
        let id = AmphoraId::new(Uuid::from_u128(1));
        let agent = Agent::restore(housekeeper, (keep, tenure), id, None, None).unwrap();
        assert!(agent.addresses().is_ok());
        kept = Some(agent);
        std::future::ready(Ok(crate::housekeeper::Finish::Stop))
    })
    .unwrap();
    assert_eq!(kept.unwrap().addresses().unwrap_err(), Ending);
}

#[test]
fn of_two_applies_that_want_the_same_listener_one_is_refused_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    let tenure = Tenure::new(StateLock::acquire(folder.path()).unwrap());
    crate::housekeeper::run(1, Duration::ZERO, Default::default(), |housekeeper| async {
        let id = AmphoraId::new(Uuid::from_u128(1));
        let agent = Agent::restore(housekeeper, (keep.clone(), tenure), id, None, None).unwrap();
        let ((one, first), (two, second)) = (spec(1), spec(2));
        // Both are on their way to the disk before either is in force.
        let (first, second) = tokio::join!(agent.apply(one, first), agent.apply(two, second));
        first.unwrap();
        assert!(matches!(second, Err(Refusal::Invalid(reasons)) if reasons.len() == 1));
        agent
            .delete(one, Generation::FIRST.next(), Leave::Gone)
            .await
            .unwrap();
        agent.apply(two, spec(2).1).await.unwrap();
        assert!(agent.claims.borrow().is_empty());
        Ok(Finish::Stop)
    })
    .unwrap();
    let kept: Vec<_> = keep.load().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].load_balancer(), spec(2).0);
}
