//! Hosts as one controller of several hears of them.

use krater_amphora_api::{BootId, ContractVersion, HostFacts, HostedAmphora};
use uuid::Uuid;

use super::*;
use crate::{limits::REMOVED_KEPT, testbed::House};

const HOST: HostId = HostId::new(Uuid::from_u128(7));

fn facts() -> HostFacts {
    HostFacts {
        name: "h".to_owned(),
        agent: "192.0.2.1:9880".to_owned(),
        boot: BootId::new(Uuid::from_u128(9)),
        contract: ContractVersion::CURRENT,
        version: "1".to_owned(),
        cores: 2,
        memory_bytes: 1 << 30,
        networks: None,
    }
}

fn report() -> HostReport {
    HostReport {
        host: HOST,
        facts: facts(),
        amphorae: Vec::<HostedAmphora>::new(),
    }
}

/// One host that was let in.
async fn with_host(house: &House, folder: &tempfile::TempDir) -> Arc<Hosts> {
    let hosts = crate::fleet::tests::parts(house, folder, 0).hosts;
    let now = clock::now();
    let token = HostToken {
        hash: "a".to_owned(),
        zone: "local".to_owned(),
        load_balancers_max: None,
        amphorae_max: None,
        created_at: now,
        expires_at: now.checked_add(TOKEN_LIFETIME).unwrap(),
    };
    let newcomer = Newcomer {
        id: HOST,
        key_digest: "k".to_owned(),
        facts: facts(),
    };
    let store = &house.known.store;
    store.put_host_token(&token).await.unwrap();
    let enrolled = store.enrol_host("a", &newcomer, now).await.unwrap();
    assert!(matches!(enrolled, Enrolment::Done(_)));
    hosts.learn().await.unwrap();
    hosts
}

#[tokio::test]
async fn what_a_host_says_is_written_down_again_and_again_while_it_reports() {
    let (house, folder) = (House::build().await, tempfile::tempdir().unwrap());
    let hosts = with_host(&house, &folder).await;
    let written = async || house.known.store.hosts().await.unwrap()[0].last_seen;
    hosts.take(report()).await.unwrap();
    let first = written().await;
    assert!(first.is_some());
    // More often than it is written down.
    for _ in 0..5 {
        tokio::time::pause();
        tokio::time::advance(HOST_WRITE_INTERVAL / 2).await;
        tokio::time::resume();
        hosts.take(report()).await.unwrap();
    }
    assert!(written().await > first, "others would think it silent");
}

#[tokio::test]
async fn a_host_that_a_clock_was_ahead_for_is_not_there_for_as_long_as_that() {
    let (house, folder) = (House::build().await, tempfile::tempdir().unwrap());
    let hosts = with_host(&house, &folder).await;
    let seen = || hosts.named(&HOST.to_string()).unwrap().last_seen;
    let hour = Duration::from_secs(3_600);
    let ahead = clock::now().checked_add(hour).unwrap();
    let store = &house.known.store;
    store.note_host(HOST, &facts(), ahead).await.unwrap();
    hosts.learn().await.unwrap();
    assert_eq!(seen(), None, "another controller's");
    // What is heard now is what counts, there too.
    hosts.take(report()).await.unwrap();
    assert!(seen() <= Some(clock::now()));
    let written = store.hosts().await.unwrap()[0].last_seen;
    assert!(written <= Some(clock::now()), "{written:?}");
    // This controller's own, set back since.
    lock(&hosts.host(HOST).unwrap().record).last_seen = Some(ahead);
    assert!(seen() <= Some(clock::now()));
}

#[tokio::test]
async fn whose_an_amphora_is_while_nobody_can_say_is_no_reason_to_refuse_it_for_good() {
    let (house, folder) = (House::build().await, tempfile::tempdir().unwrap());
    let hosts = with_host(&house, &folder).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key);
    let request_pem = request.unwrap().pem().unwrap();
    let asked = CertificateRequest {
        amphora: Some(AmphoraId::new(Uuid::from_u128(1))),
        request_pem,
    };
    let down = async { Err(StoreError::DiskFull { path: "/".into() }) };
    let refused = hosts.certify(HOST, asked.clone(), down).await;
    assert!(matches!(refused, Err(NotGiven::Store(_))));
    let foreign = hosts.certify(HOST, asked, async { Ok(false) }).await;
    assert!(matches!(foreign, Err(NotGiven::Foreign)));
}

#[tokio::test]
async fn a_host_that_was_removed_is_known_until_it_is_off_the_record() {
    let (house, folder) = (House::build().await, tempfile::tempdir().unwrap());
    let hosts = with_host(&house, &folder).await;
    hosts.set_state(HOST, HostState::Removed).await.unwrap();
    let gone = hosts.take(report()).await;
    assert!(matches!(gone, Err(NotGiven::Removed)));
    let later = clock::now().checked_add(REMOVED_KEPT).unwrap();
    let store = &house.known.store;
    assert_eq!(store.forget_removed_hosts(later).await.unwrap(), 1);
    hosts.learn().await.unwrap();
    let gone = hosts.take(report()).await;
    assert!(matches!(gone, Err(NotGiven::UnknownHost)));
}
