//! Secrets in the key manager of a cloud: certificate containers, and secrets that hold PKCS#12 or PEM.
//!
//! Of a reference only the kind and the id count: the key manager that is asked is the one of the settings, whatever
//! host a tenant wrote. Krater reads as itself; whether a tenant may have it do so is asked with the tenant's own token.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use krater_controller_core::{
    model::{ProjectId, SecretRef},
    secret::{Need, Purpose},
};
use krater_driver::{DriverError, Parts, RawSecret, SECRET_BYTES_MAX, SecretStore};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    client::{Answer, HttpClient, NoAnswer, SetupError},
    limits::{OUTAGE_PAUSE, SECRET_QUESTIONS_MAX, TOKEN_BYTES_MAX},
    session::{Session, Trouble, secret_value},
    settings::{KeystoneSettings, UrlError},
};

/// How to reach a key manager.
#[derive(Clone, Debug)]
pub struct BarbicanSettings {
    /// Its address, e.g. `https://key-manager.example.test`; `/v1` is added when it is missing.
    pub url: String,
    /// Who krater is, and where it logs in.
    pub keystone: KeystoneSettings,
    /// A PEM file with the authorities its certificate may be from; those of this host when `None`.
    pub cafile: Option<PathBuf>,
    /// How long an answer may take, connection included.
    pub timeout: Duration,
}

impl BarbicanSettings {
    /// The address of the v1 API, without a slash at the end.
    ///
    /// # Errors
    /// [`UrlError`]
    pub fn base(url: &str) -> Result<String, UrlError> {
        KeystoneSettings::base_of(url, "/v1")
    }
}

/// A secret store that is a key manager.
pub struct Barbican {
    session: Session,
    client: HttpClient,
    base: String,
    /// When it could last not be reached, and why.
    silent: Mutex<Option<(Instant, String)>>,
    questions: Semaphore,
}

impl fmt::Debug for Barbican {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barbican")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Barbican {
    /// A store; asks nobody yet, so that krater starts while the key manager is down.
    ///
    /// # Errors
    /// [`SetupError`]
    pub fn new(settings: &BarbicanSettings) -> Result<Self, SetupError> {
        let base = BarbicanSettings::base(&settings.url)?;
        let tls = base.starts_with("https:");
        let cafile = settings.cafile.as_deref();
        Ok(Self {
            session: Session::new(&settings.keystone)?,
            client: HttpClient::new(cafile, tls, settings.timeout, SECRET_BYTES_MAX)?,
            base,
            silent: Mutex::default(),
            questions: Semaphore::new(SECRET_QUESTIONS_MAX),
        })
    }

    /// Asks as krater itself. A token of its own may have been revoked: once more with a new one.
    async fn ask_as_krater(&self, path: &str, accept: &str) -> Result<Answer, DriverError> {
        for _ in 0..2 {
            let own = self.session.own_token().await.map_err(identity)?;
            let token = own.token.expose_secret();
            let answer = self
                .ask(Method::GET, path, accept, token, Bytes::new())
                .await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            self.session.forget(&own);
        }
        Err(DriverError::Transient(
            "the key manager does not believe krater's own tokens".to_owned(),
        ))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        token: &str,
        body: Bytes,
    ) -> Result<Answer, DriverError> {
        if let Some((at, reason)) = &*lock(&self.silent)
            && at.elapsed() < OUTAGE_PAUSE
        {
            return Err(unreachable(reason));
        }
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, JSON)
            .header("x-auth-token", secret_value(token).map_err(identity)?)
            .body(Full::new(body))
            .map_err(|error| DriverError::Permanent(error.to_string()))?;
        let _seat = self.questions.acquire().await;
        match self.client.ask(request).await {
            Ok(answer) => {
                *lock(&self.silent) = None;
                Ok(answer)
            }
            Err(NoAnswer::Unreachable(reason)) => {
                *lock(&self.silent) = Some((Instant::now(), reason.clone()));
                Err(unreachable(&reason))
            }
            Err(NoAnswer::TooLarge) => Err(DriverError::Permanent(format!(
                "it has more than {SECRET_BYTES_MAX} bytes"
            ))),
            Err(NoAnswer::Broken(reason)) => Err(unreachable(&reason)),
        }
    }

    async fn container(&self, id: &str) -> Result<Container, DriverError> {
        let answer = self
            .ask_as_krater(&format!("/containers/{id}"), JSON)
            .await?;
        read(&good(answer, "the container")?)
    }

    /// What a secret holds.
    async fn payload(&self, id: &str) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let answer = self.ask_as_krater(&format!("/secrets/{id}"), JSON).await?;
        let described: Described = read(&good(answer, "the secret")?)?;
        let kind = described.content_types.unwrap_or_default();
        let kind = kind.get("default").map_or(BYTES, String::as_str);
        let path = format!("/secrets/{id}/payload");
        let answer = self.ask_as_krater(&path, kind).await?;
        let answer = good(answer, "the secret")?;
        Ok(Zeroizing::new(answer.body.to_vec()))
    }

    async fn certificate(&self, container: &Container) -> Result<RawSecret, DriverError> {
        if container.kind != "certificate" {
            return Err(DriverError::Permanent(format!(
                "it is a container of type {:?} and not \"certificate\"",
                container.kind
            )));
        }
        let part = async |name: &str| match container.part(name)? {
            Some(id) => self.payload(&id).await.map(Some),
            None => Ok(None),
        };
        let missing = |name: &str| DriverError::Permanent(format!("the container has no {name:?}"));
        let certificate = part("certificate").await?;
        let key = part("private_key").await?;
        Ok(RawSecret::Parts(Box::new(Parts {
            certificate: certificate.ok_or_else(|| missing("certificate"))?.to_vec(),
            intermediates: part("intermediates").await?.map(|bytes| bytes.to_vec()),
            key: key.ok_or_else(|| missing("private_key"))?,
            passphrase: part("private_key_passphrase").await?,
        })))
    }

    /// Lets krater read a secret or container, by its path, as its owner: otherwise the key manager may refuse it
    /// although the owner wants it. Where the owner cannot say so krater's own roles decide.
    async fn share(&self, token: &str, path: &str) -> Result<(), DriverError> {
        let path = format!("{path}/acl");
        let answer = self
            .ask(Method::GET, &path, JSON, token, Bytes::new())
            .await?;
        if answer.status != StatusCode::OK {
            return Ok(());
        }
        let list: AccessList = read(&answer)?;
        let mut readers = list.read.users;
        let krater = self
            .session
            .own_token()
            .await
            .map_err(identity)?
            .user
            .clone();
        if readers.contains(&krater) {
            return Ok(());
        }
        readers.push(krater);
        let open = list.read.project_access;
        let body = json!({"read": {"users": readers, "project-access": open}}).to_string();
        let answer = self
            .ask(Method::PUT, &path, JSON, token, body.into())
            .await?;
        if !answer.status.is_success() {
            tracing::debug!(status = %answer.status, path, "a tenant cannot share it with krater");
        }
        Ok(())
    }
}

#[async_trait]
impl SecretStore for Barbican {
    async fn fetch(&self, _project: &ProjectId, need: &Need) -> Result<RawSecret, DriverError> {
        match Place::parse(&need.reference)? {
            Place::Secret(id) => self.payload(&id).await.map(RawSecret::Whole),
            Place::Container(id) if need.purpose == Purpose::Certificate => {
                let container = self.container(&id).await?;
                self.certificate(&container).await
            }
            Place::Container(_) => Err(DriverError::Permanent(
                "a container holds certificates only: a secret with PEM is needed".to_owned(),
            )),
        }
    }

    async fn check_access(&self, token: Option<&str>, need: &Need) -> Result<(), DriverError> {
        let place = Place::parse(&need.reference)?;
        let possible = |token: &&str| {
            (1..=TOKEN_BYTES_MAX).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let token = token.filter(possible).ok_or_else(|| {
            DriverError::NotFound("nobody says on whose behalf it is to be read".to_owned())
        })?;
        let (path, what) = match &place {
            Place::Secret(id) => (format!("/secrets/{id}"), "the secret"),
            Place::Container(id) => (format!("/containers/{id}"), "the container"),
        };
        let answer = self
            .ask(Method::GET, &path, JSON, token, Bytes::new())
            .await?;
        let answer = good(answer, what)?;
        self.share(token, &path).await?;
        let secrets = match place {
            Place::Secret(_) => Vec::new(),
            Place::Container(_) => read::<Container>(&answer)?.parts()?,
        };
        for id in secrets {
            // A container may be readable, and what is in it not.
            let path = format!("/secrets/{id}");
            let answer = self
                .ask(Method::GET, &path, JSON, token, Bytes::new())
                .await?;
            good(answer, "a secret of the container")?;
            self.share(token, &path).await?;
        }
        Ok(())
    }

    /// It tells nobody when something changes.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// What a reference is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Secret(String),
    Container(String),
}

impl Place {
    fn parse(reference: &SecretRef) -> Result<Self, DriverError> {
        Self::of(reference.as_str()).ok_or_else(|| {
            DriverError::Permanent(
                "it is not the reference of a secret or container, like https://HOST/v1/secrets/ID"
                    .to_owned(),
            )
        })
    }

    fn of(text: &str) -> Option<Self> {
        let web = text.starts_with("https://") || text.starts_with("http://");
        let mut segments = text.rsplit('/');
        let (id, kind) = (segments.next()?, segments.next()?);
        if !web || !is_id(id) {
            return None;
        }
        match kind {
            "secrets" => Some(Self::Secret(id.to_owned())),
            "containers" => Some(Self::Container(id.to_owned())),
            _ => None,
        }
    }
}

/// A UUID with its hyphens, as the key manager writes it.
fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    secret_refs: Vec<Named>,
}

impl Container {
    fn part(&self, name: &str) -> Result<Option<String>, DriverError> {
        let named = self
            .secret_refs
            .iter()
            .find(|part| part.name.as_deref() == Some(name));
        named.map(Named::id).transpose()
    }

    fn parts(&self) -> Result<Vec<String>, DriverError> {
        let parts = self.secret_refs.iter().take(PARTS_MAX);
        parts.map(Named::id).collect()
    }
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
    secret_ref: String,
}

impl Named {
    fn id(&self) -> Result<String, DriverError> {
        match Place::of(&self.secret_ref) {
            Some(Place::Secret(id)) => Ok(id),
            _ => Err(DriverError::Permanent(
                "the container refers to something that is no secret".to_owned(),
            )),
        }
    }
}

#[derive(Deserialize)]
struct Described {
    content_types: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct AccessList {
    read: Readers,
}

#[derive(Deserialize)]
struct Readers {
    #[serde(default)]
    users: Vec<String>,
    #[serde(rename = "project-access", default = "yes")]
    project_access: bool,
}

const fn yes() -> bool {
    true
}

/// What a status says, where only success is good.
fn good(answer: Answer, what: &str) -> Result<Answer, DriverError> {
    let status = answer.status;
    match status {
        status if status.is_success() => Ok(answer),
        StatusCode::NOT_FOUND => Err(DriverError::NotFound(format!("{what} is not there"))),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            Err(DriverError::NotFound(format!("{what} may not be read")))
        }
        StatusCode::TOO_MANY_REQUESTS => Err(answers(status)),
        status if status.is_client_error() => Err(DriverError::Permanent(format!(
            "{what}: the key manager answers {status}"
        ))),
        status => Err(answers(status)),
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: &Answer) -> Result<T, DriverError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        DriverError::Transient(format!(
            "the key manager's answer cannot be understood (line {} column {})",
            error.line(),
            error.column()
        ))
    })
}

fn answers(status: StatusCode) -> DriverError {
    DriverError::Transient(format!("the key manager answers {status}"))
}

fn unreachable(reason: &str) -> DriverError {
    DriverError::Transient(format!("the key manager cannot be reached: {reason}"))
}

fn identity(trouble: Trouble) -> DriverError {
    DriverError::Transient(trouble.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
/// A certificate, its key, a passphrase and intermediates; what more there is nobody reads.
const PARTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_reference_kind_and_id_count_and_nothing_else_is_one() {
        let id = "52c9b6b6-3a7e-4c7c-8f21-9f1f3f2d2a08";
        for host in [
            "https://keys.test/v1",
            "http://169.254.169.254",
            "https://a/b/c",
        ] {
            let secret = Place::of(&format!("{host}/secrets/{id}"));
            assert_eq!(secret, Some(Place::Secret(id.to_owned())));
            let container = Place::of(&format!("{host}/containers/{id}"));
            assert_eq!(container, Some(Place::Container(id.to_owned())));
        }
        for wrong in [
            format!("https://keys.test/v1/secrets/{id}/payload"),
            format!("https://keys.test/v1/orders/{id}"),
            format!("https://keys.test/v1/secrets/{id}/"),
            format!("https://keys.test/v1/secrets/{id}?x"),
            "https://keys.test/v1/secrets/../orders".to_owned(),
            "https://keys.test/v1/secrets/52c9b6b63a7e4c7c8f219f1f3f2d2a08".to_owned(),
            format!("secrets/{id}"),
            format!("file:///secrets/{id}"),
            String::new(),
        ] {
            assert_eq!(Place::of(&wrong), None, "{wrong}");
        }
    }
}
