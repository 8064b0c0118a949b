//! Callers as OpenStack's identity service knows them: their tokens are validated there and remembered here.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use krater_controller_core::caller::{Caller, RoleSet};
use krater_driver::{Authenticator, Credentials, Unauthenticated};

use crate::{
    cache::{Cache, Ended, Key, Known},
    client::SetupError,
    clock,
    flight::Flights,
    limits::TOKEN_BYTES_MAX,
    session::{Session, Trouble},
    settings::KeystoneSettings,
};

/// An authenticator that believes an identity service.
///
/// A token beside an `X-Service-Token` is believed although it has ended when the service token is valid and has one
/// of the service roles: a service then finishes on behalf of a user what took longer than the user's token lasts. A
/// service token that is not valid refuses the request; one without such a role changes nothing.
pub struct Keystone {
    session: Session,
    role_set: RoleSet,
    service_roles: BTreeSet<String>,
    lifetime: Duration,
    cache: Cache<Vouched>,
    flights: Flights<Key, Result<Option<Vouched>, Trouble>>,
}

/// Somebody whose token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vouched {
    caller: Caller,
    service: bool,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone")
            .field("session", &self.session)
            .field("role_set", &self.role_set)
            .finish_non_exhaustive()
    }
}

impl Keystone {
    /// An authenticator; asks nobody yet, so that krater starts while the identity service is down.
    ///
    /// # Errors
    /// [`SetupError`]
    pub fn new(settings: &KeystoneSettings) -> Result<Self, SetupError> {
        Ok(Self {
            session: Session::new(settings)?,
            role_set: settings.role_set,
            service_roles: settings
                .service_roles
                .iter()
                .map(|role| role.to_lowercase())
                .collect(),
            lifetime: settings.cache.lifetime,
            cache: Cache::new(settings.cache.clone()),
            flights: Flights::default(),
        })
    }

    async fn vouch(&self, token: &str, ended: Ended) -> Result<Vouched, Unauthenticated> {
        let possible = (1..=TOKEN_BYTES_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !possible {
            return Err(Unauthenticated::Required);
        }
        let key = Key::of(token, ended);
        let known = match self.cache.look(&key, Instant::now()) {
            Known::Good(vouched) => return Ok(vouched),
            Known::Refused => return Err(Unauthenticated::Required),
            Known::Stale(vouched) => Some(vouched),
            Known::Nothing => None,
        };
        let ask = async || self.ask(token, key, ended).await;
        match self.flights.join(key, ask).await {
            Ok(Some(vouched)) => Ok(vouched),
            Ok(None) => Err(Unauthenticated::Required),
            Err(_) => known.ok_or_else(|| Unauthenticated::Unavailable(UNAVAILABLE.to_owned())),
        }
    }

    async fn ask(&self, token: &str, key: Key, ended: Ended) -> Result<Option<Vouched>, Trouble> {
        let Some(token) = self.session.describe(token, ended).await? else {
            self.cache.refuse(key, Instant::now());
            return Ok(None);
        };
        let service = self
            .service_roles
            .iter()
            .any(|role| token.identity.has(role));
        let vouched = Vouched {
            caller: Caller::of(token.identity, self.role_set),
            service,
        };
        let left = clock::left_until(token.expires_at);
        let left = match ended {
            Ended::Refused => left,
            Ended::Accepted => left.max(self.lifetime),
        };
        self.cache.keep(key, vouched.clone(), left, Instant::now());
        Ok(Some(vouched))
    }
}

#[async_trait]
impl Authenticator for Keystone {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated> {
        let token = credentials
            .token
            .as_deref()
            .ok_or(Unauthenticated::Required)?;
        let ended = match credentials.service_token.as_deref() {
            None | Some("") => Ended::Refused,
            Some(service) if self.vouch(service, Ended::Refused).await?.service => Ended::Accepted,
            Some(_) => Ended::Refused,
        };
        Ok(self.vouch(token, ended).await?.caller)
    }
}

/// What callers are told; the log says why.
const UNAVAILABLE: &str =
    "The identity service cannot say right now whose token this is. Please try again.";
