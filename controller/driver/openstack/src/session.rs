//! Krater's own session at the identity service: logs in, stays logged in, and asks what tokens are.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    cache::Ended,
    client::{Answer, HttpClient, NoAnswer, SetupError},
    clock,
    limits::{ANSWER_BYTES_MAX, LOGIN_PAUSE, OUTAGE_PAUSE, QUESTIONS_MAX, RENEWAL_MARGIN},
    settings::{KeystoneSettings, Login},
    wire::{self, Token},
};

/// Why nobody can say what a token is. A sentence for the log, not for tenants.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Trouble {
    /// The identity service does not answer.
    #[error("the identity service cannot be reached: {0}")]
    Silent(String),
    /// It answers, and not with what is needed.
    #[error("the identity service is of no help: {0}")]
    Unhelpful(String),
    /// It does not let us in.
    #[error("the identity service refuses krater's own login: {0}")]
    LockedOut(String),
}

/// The session.
pub(crate) struct Session {
    client: HttpClient,
    base: String,
    login: Login,
    own: Mutex<Option<Arc<Own>>>,
    /// One logs in at a time; with when the last login failed, and how.
    logging_in: tokio::sync::Mutex<Option<(Instant, Trouble)>>,
    /// When the service could last not be reached, and why.
    silent: Mutex<Option<(Instant, Trouble)>>,
    questions: Semaphore,
    waiting_time_max: Duration,
    troubled: AtomicBool,
}

/// Our own token.
pub(crate) struct Own {
    pub(crate) token: SecretString,
    /// The id of krater's own user.
    pub(crate) user: String,
    fresh_until: Instant,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that logs in when it is first needed: the identity service may be down when krater starts.
    pub(crate) fn new(settings: &KeystoneSettings) -> Result<Self, SetupError> {
        let base = KeystoneSettings::base(&settings.url)?;
        let tls = base.starts_with("https:");
        Ok(Self {
            client: HttpClient::new(
                settings.cafile.as_deref(),
                tls,
                settings.timeout,
                ANSWER_BYTES_MAX,
            )?,
            base,
            login: settings.login.clone(),
            own: Mutex::default(),
            logging_in: tokio::sync::Mutex::default(),
            silent: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
            waiting_time_max: settings.timeout,
            troubled: AtomicBool::new(false),
        })
    }

    /// What a token is; `None` when it is nothing, or not any more.
    ///
    /// # Errors
    /// [`Trouble`], logged here when it begins.
    pub(crate) async fn describe(
        &self,
        token: &str,
        ended: Ended,
    ) -> Result<Option<Token>, Trouble> {
        let described = self.describe_inner(token, ended).await;
        match &described {
            Ok(_) if self.troubled.swap(false, Ordering::Relaxed) => {
                tracing::info!("the identity service answers again");
            }
            Err(trouble) if !self.troubled.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%trouble, "callers cannot be told apart but for those known already");
            }
            _ => {}
        }
        described
    }

    async fn describe_inner(&self, token: &str, ended: Ended) -> Result<Option<Token>, Trouble> {
        let _seat = timeout(self.waiting_time_max, self.questions.acquire())
            .await
            .map_err(|_| Trouble::Silent("too many questions wait for it".to_owned()))?;
        // Our own token may have been revoked: once more with a new one.
        for _ in 0..2 {
            let own = self.own_token().await?;
            let answer = self.ask(self.question(&own, token, ended)?).await?;
            match answer.status {
                StatusCode::OK => return read_token(&answer).map(Some),
                // What cannot be a token at all may be answered by 400.
                StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => return Ok(None),
                StatusCode::UNAUTHORIZED => self.forget(&own),
                StatusCode::FORBIDDEN => {
                    let reason =
                        "krater's user may not validate tokens; it needs the role service or admin";
                    return Err(Trouble::Unhelpful(reason.to_owned()));
                }
                status => return Err(unhelpful(status)),
            }
        }
        Err(Trouble::LockedOut(
            "its own tokens are not good to it".to_owned(),
        ))
    }

    fn question(
        &self,
        own: &Own,
        token: &str,
        ended: Ended,
    ) -> Result<Request<Full<Bytes>>, Trouble> {
        let allow_expired = match ended {
            Ended::Refused => "",
            Ended::Accepted => "&allow_expired=1",
        };
        Request::builder()
            .uri(format!(
                "{}/auth/tokens?nocatalog{allow_expired}",
                self.base
            ))
            .header(header::ACCEPT, "application/json")
            .header("x-auth-token", secret_value(own.token.expose_secret())?)
            .header("x-subject-token", secret_value(token)?)
            .body(Full::default())
            .map_err(|error| Trouble::Unhelpful(error.to_string()))
    }

    /// Krater's own token; logs in if there is none.
    pub(crate) async fn own_token(&self) -> Result<Arc<Own>, Trouble> {
        if let Some(own) = self.present() {
            return Ok(own);
        }
        let mut last_failure = self.logging_in.lock().await;
        // Somebody else may have logged in meanwhile.
        if let Some(own) = self.present() {
            return Ok(own);
        }
        if let Some((at, trouble)) = &*last_failure
            && at.elapsed() < LOGIN_PAUSE
        {
            return Err(trouble.clone());
        }
        let outcome = self.log_in().await;
        *last_failure = match &outcome {
            Err(trouble @ Trouble::LockedOut(_)) => Some((Instant::now(), trouble.clone())),
            _ => None,
        };
        let own = Arc::new(outcome?);
        *lock(&self.own) = Some(Arc::clone(&own));
        Ok(own)
    }

    async fn log_in(&self) -> Result<Own, Trouble> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/auth/tokens?nocatalog", self.base))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(wire::login(&self.login).to_string()))
            .map_err(|error| Trouble::Unhelpful(error.to_string()))?;
        let answer = self.ask(request).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => {}
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(Trouble::LockedOut(format!("it answers {status}")));
            }
            status => return Err(unhelpful(status)),
        }
        let described = read_token(&answer)?;
        let left = clock::left_until(described.expires_at);
        let token = wire::issued(&answer.headers)
            .ok_or_else(|| Trouble::Unhelpful("it gives no token at login".to_owned()))?;
        Ok(Own {
            token,
            user: described.identity.user,
            fresh_until: Instant::now() + left.saturating_sub(RENEWAL_MARGIN),
        })
    }

    fn present(&self) -> Option<Arc<Own>> {
        let own = lock(&self.own);
        own.as_ref()
            .filter(|own| Instant::now() < own.fresh_until)
            .cloned()
    }

    /// Drops a token of krater's own that somebody refused.
    pub(crate) fn forget(&self, refused: &Arc<Own>) {
        let mut own = lock(&self.own);
        // Somebody else may have a new one already.
        if own.as_ref().is_some_and(|own| Arc::ptr_eq(own, refused)) {
            *own = None;
        }
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
        if let Some((at, trouble)) = &*lock(&self.silent)
            && at.elapsed() < OUTAGE_PAUSE
        {
            return Err(trouble.clone());
        }
        let outcome = self.client.ask(request).await;
        let trouble = match outcome {
            Ok(answer) => {
                *lock(&self.silent) = None;
                return Ok(answer);
            }
            Err(NoAnswer::Unreachable(reason)) => Trouble::Silent(reason),
            // It is there: only this question went wrong, and others need not wait.
            Err(reason) => return Err(Trouble::Unhelpful(reason.to_string())),
        };
        *lock(&self.silent) = Some((Instant::now(), trouble.clone()));
        Err(trouble)
    }
}

fn read_token(answer: &Answer) -> Result<Token, Trouble> {
    wire::token(&answer.body).map_err(Trouble::Unhelpful)
}

fn unhelpful(status: StatusCode) -> Trouble {
    Trouble::Unhelpful(format!("it answers {status}"))
}

pub(crate) fn secret_value(text: &str) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Trouble::Unhelpful("a token cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
