//! Secrets from the API to amphorae, with a store that is only pretended.

use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use krater_controller_api::Application as _;
use krater_controller_core::{
    audit::{AuditFilter, Deed, Outcome},
    carried::Carried,
    command::{Command, ListenerTlsUpdate, ListenerUpdate, NewListener},
    model::{ClientAuthentication, ListenerProtocol, ListenerTls, SecretRef},
    query::{Answer, Query},
    status::ProvisioningStatus,
    tree::TreeView,
};
use krater_driver::RawSecret;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
};
use zeroize::Zeroizing;

use super::*;
use crate::{
    clock,
    reconcile::Urgency,
    testbed::{House, Setting, new_listener},
};

/// A store that holds what it is told to.
#[derive(Default)]
struct Pretended {
    held: Mutex<BTreeMap<String, String>>,
    down: Mutex<bool>,
    changed: Notify,
    asked: Mutex<Vec<String>>,
}

impl Pretended {
    fn put(&self, name: &str, text: String) {
        lock(&self.held).insert(name.to_owned(), text);
        self.changed.notify_one();
    }

    fn set_down(&self, down: bool) {
        *lock(&self.down) = down;
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked))
    }
}

#[async_trait]
impl SecretStore for Pretended {
    async fn fetch(&self, _: &ProjectId, need: &Need) -> Result<RawSecret, DriverError> {
        let name = need.reference.as_str();
        lock(&self.asked).push(name.to_owned());
        if *lock(&self.down) {
            return Err(DriverError::Transient("it is down".to_owned()));
        }
        let held = lock(&self.held).get(name).cloned();
        let text = held.ok_or_else(|| DriverError::NotFound(format!("there is no {name}")))?;
        Ok(RawSecret::Whole(Zeroizing::new(text.into_bytes())))
    }

    async fn check_access(&self, _: Option<&str>, need: &Need) -> Result<(), DriverError> {
        if need.reference.as_str() == "forbidden" {
            return Err(DriverError::NotFound("not for you".to_owned()));
        }
        Ok(())
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn web() -> String {
    valid_until(clock::now() + SignedDuration::from_hours(24 * 365))
}

fn valid_until(not_after: jiff::Timestamp) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["web.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 1, 1)
        + Duration::from_secs((not_after.as_second() - 1_577_836_800).unsigned_abs());
    let certificate = params.self_signed(&key).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

/// An authority, and its list of revoked certificates.
fn authority() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "ca");
    let certificate = params.self_signed(&key).unwrap().pem();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2035, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::new(params, key)).unwrap();
    (certificate, list.pem().unwrap())
}

fn reference(name: &str) -> SecretRef {
    SecretRef::parse(name.to_owned()).unwrap()
}

struct Home {
    house: House,
    store: Arc<Pretended>,
}

impl Home {
    async fn build() -> Self {
        let store = Arc::new(Pretended::default());
        let setting = Setting {
            carried: Carried::everything(),
            secrets: store.clone(),
            ..Setting::default()
        };
        let house = House::build_with(setting).await;
        Self { house, store }
    }

    fn renewal(&self) -> Renewal {
        let reconciler = Arc::clone(&self.house.reconciler);
        Renewal {
            vault: Arc::clone(&self.house.vault),
            known: self.house.known.clone(),
            poke: Box::new(move |id| reconciler.poke(id, Urgency::Tenant)),
            interval: Duration::from_secs(3_600),
        }
    }

    fn listener(&self, port: u16, certificate: &str) -> NewListener {
        NewListener {
            protocol: ListenerProtocol::TerminatedHttps,
            tls: ListenerTls {
                certificate: Some(reference(certificate)),
                ..ListenerTls::default()
            },
            ..new_listener(port, None)
        }
    }

    /// A load balancer with a listener that ends TLS by the certificate `web`, in force.
    async fn secured(&self) -> TreeView {
        self.store.put("web", web());
        let id = self.house.serving().await.tree.id();
        let new = self.listener(443, "web");
        let command = Command::CreateListener(id, Box::new(new));
        self.house.execute(command).await.unwrap();
        self.settled(id).await
    }

    async fn settled(&self, id: LoadBalancerId) -> TreeView {
        loop {
            let query = Query::Tree(ResourceId::LoadBalancer(id));
            let answer = self.house.application.answer(&self.house.caller, query);
            if let Answer::Tree(view) = answer.await.unwrap()
                && !view.is_pending()
            {
                return *view;
            }
        }
    }

    /// The chain that the amphora shows at the port.
    fn shown(&self, id: LoadBalancerId, port: u16) -> Option<String> {
        let spec = self.house.amphora.held(id)?;
        let listener = spec.listeners.into_iter().find(|one| one.port == port)?;
        Some(listener.tls?.default_certificate?.chain)
    }

    async fn told(&self, id: LoadBalancerId, deed: Deed) -> Vec<Outcome> {
        let filter = AuditFilter {
            load_balancer: Some(id.uuid()),
            limit: 100,
            ..AuditFilter::default()
        };
        let kept = self.house.known.store.audit(&filter).await.unwrap();
        let entries = kept.into_iter().map(|kept| kept.entry);
        let of_deed = entries.filter(|entry| entry.deed == deed && entry.user == "krater");
        of_deed.map(|entry| entry.outcome).collect()
    }
}

#[tokio::test]
async fn a_certificate_gets_from_the_store_to_the_amphora_and_nowhere_else() {
    let home = Home::build().await;
    let view = home.secured().await;
    let id = view.tree.id();
    let certificate = lock(&home.store.held)["web"].clone();
    let chain = home.shown(id, 443).unwrap();
    assert!(certificate.starts_with(&chain), "{chain}");
    assert_eq!(view.tree.load_balancer.value.secrets.len(), 1);
    let stored = format!("{:?}", view.tree);
    assert!(!stored.contains("BEGIN") && !stored.contains("PRIVATE"));
    // Read for the request; what is kept is what is compiled from.
    assert_eq!(home.store.asked(), ["web"]);
}

#[tokio::test]
async fn what_cannot_be_had_or_is_no_good_is_refused_before_anything_is_stored() {
    let home = Home::build().await;
    let view = home.secured().await;
    let id = view.tree.id();
    let ((ca, list), (other, _)) = (authority(), authority());
    for (name, text) in [
        ("text", "no".to_owned()),
        ("ca", ca),
        ("other", other),
        ("list", list),
    ] {
        home.store.put(name, text);
    }
    let asks = async |edit: &dyn Fn(&mut ListenerTls)| {
        let mut new = home.listener(444, "web");
        edit(&mut new.tls);
        let command = Command::CreateListener(id, Box::new(new));
        home.house.execute(command).await.map(drop)
    };
    let absent = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Err(Refusal::CertificateNotRetrieved(names))
    };
    let lost = asks(&|tls| tls.certificate = Some(reference("lost"))).await;
    assert_eq!(lost, absent(&["lost"]));
    let several = asks(&|tls| {
        tls.certificate = Some(reference("forbidden"));
        tls.sni_certificates = vec![reference("web"), reference("lost")];
    });
    assert_eq!(several.await, absent(&["forbidden", "lost"]));
    let bundle = asks(&|tls| tls.certificate = Some(reference("text"))).await;
    assert!(
        matches!(bundle, Err(Refusal::UnreadableBundle(_))),
        "{bundle:?}"
    );
    let sentence = |refused: Result<(), Refusal>| match refused {
        Err(Refusal::Invalid(sentence)) => sentence,
        other => panic!("{other:?}"),
    };
    let keyless = asks(&|tls| tls.certificate = Some(reference("ca"))).await;
    assert_eq!(
        sentence(keyless),
        "ca: there must be one private key in it."
    );
    let no_authority = asks(&|tls| tls.client_ca = Some(reference("list"))).await;
    assert!(sentence(no_authority).starts_with("list: certificates of authorities as PEM"));
    let foreign = asks(&|tls| {
        tls.client_ca = Some(reference("other"));
        tls.client_crl = Some(reference("list"));
        tls.client_authentication = ClientAuthentication::Mandatory;
    });
    assert!(sentence(foreign.await).contains("was not issued by the authorities"));
    home.store.set_down(true);
    let down = asks(&|tls| tls.sni_certificates = vec![reference("new")]).await;
    assert!(matches!(down, Err(Refusal::Unavailable(_))), "{down:?}");
    home.store.set_down(false);
    assert_eq!(
        home.settled(id).await.tree.generation(),
        view.tree.generation()
    );
    let good = asks(&|tls| {
        tls.client_ca = Some(reference("ca"));
        tls.client_crl = Some(reference("list"));
        tls.client_authentication = ClientAuthentication::Optional;
    });
    assert_eq!(good.await, Ok(()));
}

#[tokio::test]
async fn a_store_that_is_down_hinders_nobody_who_needs_nothing_new_of_it() {
    let home = Home::build().await;
    let view = home.secured().await;
    let (id, listener) = (view.tree.id(), view.tree.listeners[1].value.id);
    home.store.set_down(true);
    home.store.asked();
    let update = ListenerUpdate {
        connection_limit: Some(Some(7)),
        tls: ListenerTlsUpdate {
            certificate: Some(Some(reference("web"))),
            ..ListenerTlsUpdate::default()
        },
        ..ListenerUpdate::default()
    };
    let command = Command::UpdateListener(listener, Box::new(update));
    home.house.execute(command).await.unwrap();
    let view = home.settled(id).await;
    assert!(view.observed.errors.is_empty());
    let held = home.house.amphora.held(id).unwrap();
    assert_eq!(held.generation, view.tree.generation());
    assert!(home.store.asked().is_empty());
}

#[tokio::test]
async fn without_its_secret_a_change_waits_says_why_and_heals() {
    let home = Home::build().await;
    let view = home.secured().await;
    let id = view.tree.id();
    let listener = view.tree.listeners[1].value.id;
    let before = home.house.amphora.held(id).unwrap();
    // As after a restart while the store is down.
    lock(&home.house.vault.kept).retain(|_| false);
    home.store.set_down(true);
    let update = ListenerUpdate {
        connection_limit: Some(Some(7)),
        ..ListenerUpdate::default()
    };
    let command = Command::UpdateListener(listener, Box::new(update));
    home.house.execute(command).await.unwrap();
    let waiting = home.settled(id).await;
    let row = waiting.tree.listener(listener).unwrap();
    let status = waiting.provisioning_status(listener.uuid(), row);
    assert_eq!(status, ProvisioningStatus::Error);
    let reason = waiting.reason(listener.uuid()).unwrap();
    assert_eq!(
        (reason.code.as_str(), reason.heals),
        ("secret_unavailable", true)
    );
    assert!(reason.message.contains("it is down"), "{}", reason.message);
    assert_eq!(home.house.amphora.held(id), Some(before));
    // It is looked at as soon as secrets are read again, not at its next own try alone.
    home.store.set_down(false);
    home.renewal().round().await;
    loop {
        let view = home.settled(id).await;
        if view.observed.errors.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let held = home.house.amphora.held(id).unwrap();
    assert_eq!(held.listeners[1].connection_limit, 7);
}

#[tokio::test]
async fn a_renewed_secret_is_a_new_generation_of_whom_it_concerns() {
    let home = Home::build().await;
    let view = home.secured().await;
    let id = view.tree.id();
    let other = home.house.serving().await;
    let renewal = home.renewal();
    renewal.round().await;
    assert_eq!(
        home.settled(id).await.tree,
        view.tree,
        "nothing has changed"
    );
    let before = home.shown(id, 443).unwrap();

    home.store.put("web", web());
    renewal.round().await;
    let renewed = home.settled(id).await;
    assert_eq!(renewed.tree.generation(), view.tree.generation().next());
    assert_ne!(
        renewed.tree.load_balancer.value.secrets,
        view.tree.load_balancer.value.secrets
    );
    let after = home.shown(id, 443).unwrap();
    assert_ne!(after, before);
    assert_eq!(home.told(id, Deed::Renew).await, [Outcome::Done]);
    let unconcerned = home.settled(other.tree.id()).await;
    assert_eq!(unconcerned.tree, other.tree);
    renewal.round().await;
    assert_eq!(home.settled(id).await.tree, renewed.tree, "once is enough");

    // What is no good is told once, and what was good stays.
    home.store.put("web", "no".to_owned());
    renewal.round().await;
    renewal.round().await;
    assert_eq!(home.settled(id).await.tree, renewed.tree);
    assert_eq!(home.shown(id, 443), Some(after));
    let told = home.told(id, Deed::Renew).await;
    assert!(
        matches!(told.as_slice(), [Outcome::Refused { .. }, Outcome::Done]),
        "{told:?}"
    );
    assert_eq!(home.house.known.metrics.secrets_refused.get(), 1);
    lock(&home.store.held).remove("web");
    renewal.round().await;
    assert_eq!(home.settled(id).await.tree, renewed.tree);
    home.store.put("web", web());
    renewal.round().await;
    assert_eq!(
        home.settled(id).await.tree.generation(),
        renewed.tree.generation().next()
    );
    assert_eq!(home.house.known.metrics.secrets_refused.get(), 0);
}

#[tokio::test]
async fn what_changed_while_no_controller_ran_is_noticed_when_one_does() {
    let home = Home::build().await;
    let view = home.secured().await;
    let id = view.tree.id();
    home.store.put("web", web());
    // What a new process knows.
    lock(&home.house.vault.kept).retain(|_| false);
    home.house.vault.forget(id);
    let running = tokio::spawn(home.renewal().keep());
    loop {
        let now = home.settled(id).await;
        if now.tree.generation() > view.tree.generation() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // And what changes while it runs.
    let second = web();
    home.store.put("web", second.clone());
    loop {
        let shown = home.shown(id, 443).unwrap();
        if second.starts_with(&shown) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    running.abort();
}

#[tokio::test]
async fn the_end_of_a_certificate_is_announced_once_for_each_stage() {
    let home = Home::build().await;
    let now = clock::now();
    let view = home.secured().await;
    let id = view.tree.id();
    let renewal = home.renewal();
    renewal.round().await;
    assert!(home.told(id, Deed::Expire).await.is_empty());
    home.store.put(
        "web",
        valid_until(now + SignedDuration::from_hours(20 * 24)),
    );
    renewal.round().await;
    let announced = home.told(id, Deed::Expire).await.len();
    assert_eq!(announced, 1);
    // Once, though another process looks.
    home.renewal().round().await;
    assert_eq!(home.told(id, Deed::Expire).await.len(), 1);
    let certificates = home.house.vault.certificates();
    assert_eq!(certificates.len(), 1);
    assert_eq!(
        certificates[0].resource.uuid(),
        view.tree.listeners[1].value.id.uuid()
    );
    let days = certificates[0].not_after.duration_since(now).as_hours() / 24;
    assert!((19..=20).contains(&days), "{days}");
}
