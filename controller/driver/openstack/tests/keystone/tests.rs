//! What callers get, how often the identity service is asked for it, and what happens when it fails.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use krater_controller_core::{
    caller::{Caller, Persona, RoleSet},
    model::ProjectId,
};
use krater_driver::{Authenticator, Credentials, Unauthenticated, kit::check_authenticator};
use krater_driver_openstack::{CacheSettings, Keystone, KeystoneSettings, Login, SetupError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::fake::{Fake, Mode};

fn settings(fake: &Fake) -> KeystoneSettings {
    KeystoneSettings {
        url: format!("http://{}", fake.address),
        login: Login::Password {
            user: "krater".into(),
            user_domain: "Default".into(),
            password: "hush".into(),
            project: "service".into(),
            project_domain: "Default".into(),
        },
        cafile: None,
        role_set: RoleSet::KeystoneDefault,
        service_roles: BTreeSet::from(["service".into()]),
        timeout: Duration::from_secs(10),
        cache: CacheSettings::default(),
    }
}

/// Asks about every token each time; what was good goes on while nobody can say.
fn forgetful(fake: &Fake) -> KeystoneSettings {
    KeystoneSettings {
        cache: CacheSettings {
            lifetime: Duration::ZERO,
            refused: Duration::ZERO,
            ..CacheSettings::default()
        },
        ..settings(fake)
    }
}

fn keystone(settings: &KeystoneSettings) -> Keystone {
    Keystone::new(settings).unwrap()
}

fn token(token: &str) -> Credentials {
    Credentials {
        token: Some(token.into()),
        ..Credentials::default()
    }
}

fn alice() -> Caller {
    let project = ProjectId::parse("alpha");
    let personas = [Persona::Member, Persona::Observer].into_iter();
    Caller::new(
        "user-id",
        project,
        personas.collect::<krater_controller_core::caller::Personas>(),
    )
}

async fn ask(keystone: &Keystone, text: &str) -> Result<Caller, Unauthenticated> {
    keystone.authenticate(&token(text)).await
}

fn is_unavailable(outcome: &Result<Caller, Unauthenticated>) -> bool {
    matches!(outcome, Err(Unauthenticated::Unavailable(_)))
}

#[tokio::test]
async fn it_passes_the_conformance_kit() {
    let fake = Fake::start().await;
    let bad = [
        Credentials::default(),
        token(""),
        token("nobody"),
        token("old-alice"),
        token("with a space"),
        token("käse"),
        token(&"x".repeat(9_000)),
    ];
    let keystone = keystone(&settings(&fake));
    check_authenticator(&keystone, &token("alice"), &bad)
        .await
        .unwrap();
    // What cannot be a token at all is not asked about.
    assert_eq!(fake.questions(), 3);
}

#[tokio::test]
async fn a_caller_is_who_the_token_says() {
    let fake = Fake::start().await;
    let keystone = keystone(&settings(&fake));
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    let root = Caller::new("user-id", None, Persona::Admin);
    assert_eq!(ask(&keystone, "root").await.unwrap(), root);
    let login = fake.last_login();
    let user = &login["auth"]["identity"]["password"]["user"];
    assert_eq!(user["name"], "krater");
    assert_eq!(user["password"], "hush");
}

#[tokio::test]
async fn an_application_credential_logs_in_too() {
    let fake = Fake::start().await;
    let login = Login::ApplicationCredential {
        id: "abc".into(),
        secret: "hush".into(),
    };
    let keystone = keystone(&KeystoneSettings {
        login,
        ..settings(&fake)
    });
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    let login = fake.last_login();
    let credential = &login["auth"]["identity"]["application_credential"];
    assert_eq!(credential["secret"], "hush");
}

#[tokio::test]
async fn a_token_is_asked_about_once_good_or_bad() {
    let fake = Fake::start().await;
    let keystone = keystone(&settings(&fake));
    for _ in 0..20 {
        assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
        assert_eq!(
            ask(&keystone, "nobody").await,
            Err(Unauthenticated::Required)
        );
    }
    assert_eq!(fake.questions(), 2);
    assert_eq!(fake.logins(), 1);
}

#[tokio::test]
async fn those_who_come_at_once_wait_for_one_answer() {
    let fake = Fake::start().await;
    let keystone = Arc::new(keystone(&settings(&fake)));
    fake.behave(Mode::Hanging);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let keystone = Arc::clone(&keystone);
            tokio::spawn(async move { ask(&keystone, "alice").await })
        })
        .collect();
    while fake.questions() == 0 {
        tokio::task::yield_now().await;
    }
    fake.behave(Mode::Well);
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), alice());
    }
    assert_eq!((fake.questions(), fake.logins()), (1, 1));
}

#[tokio::test]
async fn a_revoked_token_is_refused_when_it_is_asked_about_again() {
    let fake = Fake::start().await;
    let keystone = keystone(&forgetful(&fake));
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    fake.revoke("alice");
    for _ in 0..2 {
        assert_eq!(
            ask(&keystone, "alice").await,
            Err(Unauthenticated::Required)
        );
    }
    // It is not good again because nobody can be asked.
    fake.behave(Mode::Status(500));
    assert!(is_unavailable(&ask(&keystone, "alice").await));
}

#[tokio::test]
async fn krater_logs_in_again_when_its_own_token_is_worth_nothing() {
    let fake = Fake::start().await;
    let keystone = keystone(&forgetful(&fake));
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    fake.revoke_own();
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    assert_eq!(fake.logins(), 2);
    // Twice at most for one question, whatever it answers.
    fake.behave(Mode::Status(401));
    assert!(is_unavailable(&ask(&keystone, "root").await));
    assert_eq!((fake.logins(), fake.questions()), (3, 5));
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_at_once() {
    let fake = Fake::start().await;
    fake.refuse_logins(true);
    let keystone = keystone(&settings(&fake));
    for name in ["alice", "root", "alice"] {
        assert!(is_unavailable(&ask(&keystone, name).await));
    }
    assert_eq!((fake.logins(), fake.questions()), (1, 0));
}

#[tokio::test]
async fn whatever_goes_wrong_is_503_but_for_whom_is_known() {
    let fake = Fake::start().await;
    let keystone = keystone(&forgetful(&fake));
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    for mode in [
        Mode::Status(500),
        Mode::Status(502),
        Mode::Status(503),
        Mode::Status(429),
        Mode::Status(403),
        Mode::Status(300),
        Mode::Status(204),
        Mode::Body(Vec::new()),
        Mode::Body(b"<html>hello</html>".to_vec()),
        Mode::Body(br#"{"token": {"user": {"id": 7}}}"#.to_vec()),
        Mode::Body(vec![b' '; 10 << 20]),
        Mode::HangingUp,
    ] {
        fake.behave(mode.clone());
        assert!(is_unavailable(&ask(&keystone, "root").await), "{mode:?}");
        assert_eq!(ask(&keystone, "alice").await.unwrap(), alice(), "{mode:?}");
    }
    fake.behave(Mode::Well);
    assert!(ask(&keystone, "root").await.is_ok());
}

#[tokio::test]
async fn an_outage_is_met_with_what_is_known_and_ends_by_itself() {
    let mut fake = Fake::start().await;
    let keystone = keystone(&forgetful(&fake));
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    fake.stop().await;
    for _ in 0..20 {
        assert!(is_unavailable(&ask(&keystone, "root").await));
        assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    }
    fake.resume().await;
    let start = Instant::now();
    while ask(&keystone, "root").await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_was_known_ends_with_the_time_it_may_be_trusted_unasked() {
    let mut fake = Fake::start().await;
    let mut settings = forgetful(&fake);
    settings.cache.outage = Duration::ZERO;
    let keystone = keystone(&settings);
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    fake.stop().await;
    assert!(is_unavailable(&ask(&keystone, "alice").await));
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_no_longer_than_chosen() {
    let fake = Fake::start().await;
    let keystone = keystone(&KeystoneSettings {
        timeout: Duration::from_millis(200),
        ..settings(&fake)
    });
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
    fake.behave(Mode::Hanging);
    let start = Instant::now();
    for name in ["root", "nova", "another"] {
        assert!(is_unavailable(&ask(&keystone, name).await));
    }
    // The first waits, the others know.
    assert!(start.elapsed() < Duration::from_millis(900));
    assert_eq!(fake.questions(), 2);
    assert_eq!(ask(&keystone, "alice").await.unwrap(), alice());
}

#[tokio::test]
async fn a_token_that_ended_is_good_beside_a_service_token_with_the_role() {
    let fake = Fake::start().await;
    let keystone = keystone(&settings(&fake));
    let with = |user: &str, service: &str| Credentials {
        service_token: Some(service.into()),
        ..token(user)
    };
    let refused = Err(Unauthenticated::Required);
    for (user, service, expected) in [
        ("old-alice", "", false),
        ("old-alice", "nobody", false),
        ("old-alice", "old-alice", false),
        // Valid, without a service role: it changes nothing.
        ("old-alice", "alice", false),
        ("alice", "root", true),
        ("old-alice", "nova", true),
        ("alice", "nova", true),
        ("nobody", "nova", false),
        // Valid user, invalid service: refused as a whole.
        ("alice", "nobody", false),
    ] {
        let outcome = keystone.authenticate(&with(user, service)).await;
        if expected {
            assert!(
                outcome.unwrap().personas.include(Persona::Member),
                "{user} by {service}"
            );
        } else {
            assert_eq!(outcome, refused, "{user} by {service}");
        }
    }
    // Alone it is refused still.
    assert_eq!(ask(&keystone, "old-alice").await, refused);
    let before = fake.questions();
    keystone
        .authenticate(&with("old-alice", "nova"))
        .await
        .unwrap();
    assert_eq!(fake.questions(), before);
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let fake = Fake::start().await;
    let settings = settings(&fake);
    let keystone = keystone(&settings);
    ask(&keystone, "alice").await.unwrap();
    let shown = format!("{keystone:?} {settings:?} {:?}", token("a-token"));
    for secret in ["hush", "own-1", "a-token"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_named_authority_is_trusted_and_of_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, authority) = tls();
    let cafile = folder.path().join("ca.pem");
    std::fs::write(&cafile, authority).unwrap();
    let fake = Fake::start_with(Some(acceptor)).await;
    let with = |cafile: PathBuf| KeystoneSettings {
        url: format!("https://{}/v3", fake.address),
        cafile: Some(cafile),
        ..settings(&fake)
    };
    let trusting = keystone(&with(cafile.clone()));
    assert_eq!(ask(&trusting, "alice").await.unwrap(), alice());
    std::fs::write(&cafile, tls().1).unwrap();
    let other = keystone(&with(cafile.clone()));
    assert!(is_unavailable(&ask(&other, "alice").await));
    std::fs::write(&cafile, "nothing").unwrap();
    for path in [cafile, folder.path().join("absent.pem")] {
        let error = Keystone::new(&with(path)).unwrap_err();
        assert!(matches!(error, SetupError::Authorities { .. }), "{error}");
    }
}

/// A server for 127.0.0.1 and the authority that vouches for it.
fn tls() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority)
}
