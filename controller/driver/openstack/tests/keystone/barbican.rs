//! What is read of a key manager, on whose behalf, and what happens when it fails.

use std::{collections::BTreeSet, time::Duration};

use krater_controller_core::{
    caller::RoleSet,
    model::{ProjectId, SecretRef},
    secret::{Need, Purpose},
};
use krater_driver::{
    DriverError, Secret, SecretStore as _,
    secret_kit::{Holdings, check_secrets},
};
use krater_driver_openstack::{Barbican, BarbicanSettings, CacheSettings, KeystoneSettings, Login};
use rcgen::{CertificateParams, KeyPair};

use crate::{fake::Fake, keys::Keys};

const CONTAINER: &str = "11111111-1111-4111-8111-111111111111";
const CERTIFICATE: &str = "22222222-2222-4222-8222-222222222222";
const KEY: &str = "33333333-3333-4333-8333-333333333333";
const WHOLE: &str = "44444444-4444-4444-8444-444444444444";
const AUTHORITY: &str = "55555555-5555-4555-8555-555555555555";
const GENERIC: &str = "66666666-6666-4666-8666-666666666666";
const NOTHING: &str = "77777777-7777-4777-8777-777777777777";

struct Cloud {
    identity: Fake,
    keys: Keys,
    store: Barbican,
}

impl Cloud {
    async fn start() -> Self {
        let identity = Fake::start().await;
        let keys = Keys::start().await;
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["web.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let text = "text/plain";
        keys.put(CERTIFICATE, "alice", text, certificate.as_bytes());
        keys.put(KEY, "alice", text, key.serialize_pem().as_bytes());
        let whole = format!("{certificate}{}", key.serialize_pem());
        keys.put(WHOLE, "alice", "application/octet-stream", whole.as_bytes());
        keys.put(AUTHORITY, "alice", text, certificate.as_bytes());
        let parts = [("certificate", CERTIFICATE), ("private_key", KEY)];
        keys.put_container(CONTAINER, "alice", "certificate", &parts);
        keys.put_container(GENERIC, "alice", "generic", &parts);
        let keystone = KeystoneSettings {
            url: format!("http://{}", identity.address),
            login: Login::ApplicationCredential {
                id: "krater".into(),
                secret: "hush".into(),
            },
            cafile: None,
            role_set: RoleSet::KeystoneDefault,
            service_roles: BTreeSet::new(),
            timeout: Duration::from_secs(10),
            cache: CacheSettings::default(),
        };
        let settings = BarbicanSettings {
            url: format!("http://{}/", keys.address),
            keystone,
            cafile: None,
            timeout: Duration::from_secs(10),
        };
        let store = Barbican::new(&settings).unwrap();
        Self {
            identity,
            keys,
            store,
        }
    }
}

fn need(purpose: Purpose, kind: &str, id: &str) -> Need {
    Need {
        purpose,
        reference: SecretRef::parse(format!("https://keys.test/v1/{kind}/{id}")).unwrap(),
    }
}

fn container(id: &str) -> Need {
    need(Purpose::Certificate, "containers", id)
}

fn secret(id: &str) -> Need {
    need(Purpose::Certificate, "secrets", id)
}

fn project() -> ProjectId {
    ProjectId::parse("alpha").unwrap()
}

#[tokio::test]
async fn a_key_manager_does_what_every_secret_store_does() {
    let cloud = Cloud::start().await;
    let good = [
        container(CONTAINER),
        secret(WHOLE),
        need(Purpose::Authorities, "secrets", AUTHORITY),
    ];
    for one in &good {
        cloud.store.check_access(Some("alice"), one).await.unwrap();
    }
    let holds = Holdings {
        good: &good,
        unusable: &[secret(AUTHORITY)],
        absent: &[
            secret(NOTHING),
            container(NOTHING),
            container(GENERIC),
            need(Purpose::Authorities, "containers", CONTAINER),
            need(Purpose::Certificate, "orders", WHOLE),
        ],
        owner: &project(),
        stranger: None,
    };
    check_secrets(&cloud.store, &holds).await.unwrap();
    assert_eq!(cloud.identity.logins(), 1);
}

#[tokio::test]
async fn krater_reads_what_the_caller_may_and_is_let_in_by_the_caller() {
    let cloud = Cloud::start().await;
    let store = &cloud.store;
    // Krater by itself may not.
    let refused = store.fetch(&project(), &container(CONTAINER)).await;
    assert!(matches!(refused, Err(DriverError::NotFound(_))));
    for (token, what) in [
        (Some("mallory"), &container(CONTAINER)),
        (Some("mallory"), &secret(WHOLE)),
        (None, &secret(WHOLE)),
        (Some(""), &secret(WHOLE)),
        (Some("a b"), &secret(WHOLE)),
    ] {
        let told = store.check_access(token, what).await;
        assert!(matches!(told, Err(DriverError::NotFound(_))), "{told:?}");
    }
    let of = |kind: &str, id: &str| cloud.keys.readers(&format!("{kind}/{id}"));
    assert!(of("secrets", KEY).is_empty());
    store
        .check_access(Some("alice"), &container(CONTAINER))
        .await
        .unwrap();
    for (kind, id) in [
        ("containers", CONTAINER),
        ("secrets", CERTIFICATE),
        ("secrets", KEY),
    ] {
        assert_eq!(of(kind, id), BTreeSet::from(["user-id".to_owned()]));
    }
    assert!(of("secrets", WHOLE).is_empty());
    let raw = store.fetch(&project(), &container(CONTAINER)).await;
    assert!(Secret::read(Purpose::Certificate, &raw.ok().unwrap()).is_ok());
    // Once is enough.
    cloud.keys.asked();
    store
        .check_access(Some("alice"), &container(CONTAINER))
        .await
        .unwrap();
    let asked = cloud.keys.asked();
    assert!(
        asked.iter().all(|line| line.starts_with("GET")),
        "{asked:?}"
    );
    assert!(
        asked.iter().all(|line| line.ends_with("by alice")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn only_the_key_manager_of_the_settings_is_asked() {
    let cloud = Cloud::start().await;
    let elsewhere = Keys::start().await;
    let reference = format!("http://{}/v1/secrets/{WHOLE}", elsewhere.address);
    let need = Need {
        purpose: Purpose::Certificate,
        reference: SecretRef::parse(reference).unwrap(),
    };
    cloud
        .store
        .check_access(Some("alice"), &need)
        .await
        .unwrap();
    assert!(cloud.store.fetch(&project(), &need).await.is_ok());
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn what_may_help_later_is_told_from_what_will_not() {
    let cloud = Cloud::start().await;
    let store = &cloud.store;
    store
        .check_access(Some("alice"), &secret(WHOLE))
        .await
        .unwrap();
    let fetch = async || store.fetch(&project(), &secret(WHOLE)).await.map(drop);
    for status in [500, 502, 503, 429] {
        cloud.keys.fail(Some(status));
        let told = fetch().await;
        assert!(
            matches!(told, Err(DriverError::Transient(_))),
            "{status}: {told:?}"
        );
    }
    for (status, not_found) in [(404, true), (403, true), (400, false)] {
        cloud.keys.fail(Some(status));
        let told = fetch().await;
        let expected = match told {
            Err(DriverError::NotFound(_)) => not_found,
            Err(DriverError::Permanent(_)) => !not_found,
            _ => false,
        };
        assert!(expected, "{status}: {told:?}");
    }
    cloud.keys.fail(None);
    // A token that is revoked is replaced.
    cloud.keys.believe_from(2);
    assert_eq!(fetch().await, Ok(()));
    assert_eq!(cloud.identity.logins(), 2);
    cloud.keys.believe_from(1_000);
    let told = fetch().await;
    assert!(matches!(told, Err(DriverError::Transient(_))), "{told:?}");
    cloud.keys.believe_from(0);
    cloud.keys.stop();
    let told = fetch().await;
    assert!(
        matches!(told, Ok(()) | Err(DriverError::Transient(_))),
        "connections that are kept may go on: {told:?}"
    );
}
