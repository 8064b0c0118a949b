//! Hosts and tokens, on both engines.

use krater_amphora_api::{BootId, ContractVersion};
use uuid::Uuid;

use super::*;
use crate::fixture::new_database;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn newcomer(number: u128, key: &str) -> Newcomer {
    Newcomer {
        id: HostId::new(Uuid::from_u128(number)),
        key_digest: key.to_owned(),
        facts: HostFacts {
            name: "h".to_owned(),
            agent: "192.0.2.1:9880".to_owned(),
            boot: BootId::new(Uuid::from_u128(9)),
            contract: ContractVersion::CURRENT,
            version: "1".to_owned(),
            cores: 2,
            memory_bytes: 1 << 30,
            networks: None,
        },
    }
}

async fn stores() -> [Store; 2] {
    let shared = Store::connect(&new_database()).await.unwrap();
    [Store::in_memory().await.unwrap(), shared]
}

#[tokio::test]
async fn a_token_lets_one_host_in_within_its_time_and_that_one_again() {
    for store in stores().await {
        let token = |hash: &str| HostToken {
            hash: hash.to_owned(),
            zone: "z".to_owned(),
            load_balancers_max: Some(7),
            amphorae_max: None,
            created_at: at(1_000_000_000),
            expires_at: at(1_000_000_100),
        };
        store.put_host_token(&token("a")).await.unwrap();
        store.put_host_token(&token("b")).await.unwrap();
        let now = at(1_000_000_050);
        let enrol = |hash, newcomer, now| {
            let store = store.clone();
            async move { store.enrol_host(hash, &newcomer, now).await.unwrap() }
        };
        assert_eq!(enrol("c", newcomer(1, "k1"), now).await, Enrolment::Unknown);
        let Enrolment::Done(first) = enrol("a", newcomer(1, "k1"), now).await else {
            panic!("not let in");
        };
        let first = *first;
        assert_eq!(
            (first.zone.as_str(), first.load_balancers_max),
            ("z", Some(7))
        );
        assert_eq!(enrol("a", newcomer(2, "k2"), now).await, Enrolment::Used);
        let again = enrol("a", newcomer(3, "k1"), at(1_000_000_099)).await;
        assert_eq!(again, Enrolment::Done(Box::new(first.clone())));
        let late = at(1_000_000_100);
        let expired = enrol("b", newcomer(4, "k4"), late).await;
        assert_eq!(expired, Enrolment::Expired(late));
        assert_eq!(store.hosts().await.unwrap(), std::slice::from_ref(&first));
        // An answer that was lost is asked for again soon, and not by a host that has spoken since.
        assert_eq!(enrol("a", newcomer(3, "k1"), late).await, Enrolment::Used);
        store.note_host(first.id, &first.facts, now).await.unwrap();
        assert_eq!(enrol("a", newcomer(3, "k1"), now).await, Enrolment::Used);
    }
}

#[tokio::test]
async fn a_host_is_remembered_with_what_it_says_and_one_that_was_removed_stays_so() {
    for store in stores().await {
        let token = HostToken {
            hash: "a".to_owned(),
            zone: "z".to_owned(),
            load_balancers_max: None,
            amphorae_max: Some(2),
            created_at: at(0),
            expires_at: at(100),
        };
        store.put_host_token(&token).await.unwrap();
        let host = newcomer(1, "k");
        let enrolled = store.enrol_host("a", &host, at(1)).await.unwrap();
        assert!(matches!(enrolled, Enrolment::Done(_)));
        let mut facts = host.facts.clone();
        facts.agent = "192.0.2.2:9880".to_owned();
        store.note_host(host.id, &facts, at(5)).await.unwrap();
        store.note_host(host.id, &host.facts, at(4)).await.unwrap();
        let found = store.hosts().await.unwrap().remove(0);
        assert_eq!((found.facts, found.last_seen), (facts.clone(), Some(at(5))));
        // What no clock can have shown yet was noted by one that was ahead.
        let ahead = i64::try_from(crate::SKEW_MAX.as_secs()).unwrap() + 7;
        for (at_us, kept) in [(ahead, ahead), (7, ahead), (6, 6)] {
            store.note_host(host.id, &facts, at(at_us)).await.unwrap();
            let found = store.hosts().await.unwrap().remove(0);
            assert_eq!(found.last_seen, Some(at(kept)));
        }
        for (state, known) in [
            (HostState::Draining, true),
            (HostState::Removed, true),
            (HostState::Active, false),
        ] {
            assert_eq!(store.set_host_state(host.id, state).await.unwrap(), known);
        }
        assert_eq!(
            store.hosts().await.unwrap().remove(0).state,
            HostState::Removed
        );
        // Its token lets nobody in any more, itself neither.
        let again = store.enrol_host("a", &host, at(6)).await.unwrap();
        assert_eq!(again, Enrolment::Used);
    }
}

#[tokio::test]
async fn who_comes_with_a_token_that_nobody_made_waits_for_nobody() {
    // In memory there is one connection for everything.
    let [_, store] = stores().await;
    let mut busy = store.begin("let a host in").await.unwrap();
    busy.lock("let a host in", ENROLLING).await.unwrap();
    let enrolled = store.enrol_host("x", &newcomer(1, "k"), at(1)).await;
    assert_eq!(enrolled.unwrap(), Enrolment::Unknown);
    busy.rollback().await.unwrap();
}

#[tokio::test]
async fn a_host_that_was_removed_is_forgotten_once_nobody_can_hear_of_it() {
    for store in stores().await {
        for (number, hash) in [(1, "a"), (2, "b"), (3, "c")] {
            let token = HostToken {
                hash: hash.to_owned(),
                zone: "z".to_owned(),
                load_balancers_max: None,
                amphorae_max: None,
                created_at: at(0),
                expires_at: at(100),
            };
            store.put_host_token(&token).await.unwrap();
            let host = newcomer(number, hash);
            let enrolled = store.enrol_host(hash, &host, at(1)).await.unwrap();
            assert!(matches!(enrolled, Enrolment::Done(_)));
        }
        let hosts = store.hosts().await.unwrap();
        let heard = &hosts[1];
        store
            .note_host(heard.id, &heard.facts, at(9))
            .await
            .unwrap();
        for host in &hosts[..2] {
            store
                .set_host_state(host.id, HostState::Removed)
                .await
                .unwrap();
        }
        assert_eq!(store.forget_removed_hosts(at(9)).await.unwrap(), 1);
        let left: Vec<_> = store.hosts().await.unwrap();
        let left: Vec<_> = left.iter().map(|host| host.id).collect();
        assert_eq!(left, [hosts[1].id, hosts[2].id]);
    }
}
