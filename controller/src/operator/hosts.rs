//! Hosts, for operators: tokens that let them in, what they carry, draining and removing them.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use krater_controller_api::Application;
use krater_controller_core::{
    audit::Deed,
    policy::{self, Action},
    query::{AmphoraStatus, Caller},
    refusal::Refusal,
};
use krater_controller_store::{HostRecord, HostState, StoreError};
use serde::{Deserialize, Serialize};

use super::{Message, answer, authenticated, note, refused};
use crate::{
    cause::chain,
    clock,
    fleet::Fleet,
    hosts::{Hosts, NoToken, TokenWish, standing},
    knowledge::Knowledge,
    pki::IDENTITY_LIFETIME,
};

/// What is needed to answer for hosts.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) application: Arc<dyn Application>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) known: Knowledge,
}

/// A host as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HostDocument {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) zone: String,
    /// What is to become of it: `active` or `draining`.
    pub(crate) state: String,
    /// Whether it is heard of: `up` or `silent`; `expired` once it cannot be believed any more and has to join again.
    pub(crate) status: String,
    pub(crate) agent: String,
    pub(crate) version: String,
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    /// What becomes of networks of tenants there.
    #[serde(default)]
    pub(crate) networks: String,
    pub(crate) load_balancers: u64,
    pub(crate) load_balancers_max: Option<u32>,
    pub(crate) amphorae: Vec<HostAmphoraDocument>,
    pub(crate) amphorae_max: Option<u32>,
    pub(crate) enrolled_at: String,
    pub(crate) last_seen: Option<String>,
    /// What happened to it lately, oldest first.
    pub(crate) events: Vec<HostEventDocument>,
}

/// Something that happened to a host as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HostEventDocument {
    pub(crate) at: String,
    pub(crate) what: String,
}

/// An amphora of a host as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HostAmphoraDocument {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) load_balancers: u64,
    /// Why it cannot be started, while that is so.
    pub(crate) trouble: Option<String>,
}

/// The hosts as they travel to operators.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct HostsDocument {
    pub(crate) hosts: Vec<HostDocument>,
}

/// What a token is to let in.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TokenRequest {
    pub(crate) zone: Option<String>,
    pub(crate) lifetime_seconds: Option<u64>,
    pub(crate) load_balancers_max: Option<u32>,
    pub(crate) amphorae_max: Option<u32>,
}

/// A token as it travels to an operator, once.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TokenDocument {
    pub(crate) token: String,
    pub(crate) zone: String,
    pub(crate) expires_at: String,
}

/// A refusal: status and sentence.
type No = (StatusCode, String);

/// The routes about hosts.
pub(crate) fn router(desk: Desk) -> Router {
    Router::new()
        .route("/krater/v1/hosts", get(list))
        .route("/krater/v1/hosts/tokens", post(make_token))
        .route("/krater/v1/hosts/{id}", get(show).delete(remove))
        .route("/krater/v1/hosts/{id}/drain", post(drain))
        .route("/krater/v1/hosts/{id}/undrain", post(undrain))
        .route("/krater/v1/hosts/{id}/renew", post(renew))
        .with_state(desk)
}

async fn list(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    let listed = async {
        desk.operator(&headers).await?;
        let hosts = desk.hosts.records();
        let hosts = hosts.into_iter().map(|host| desk.document(host)).collect();
        Ok(HostsDocument { hosts })
    };
    reply("operator_hosts", StatusCode::OK, listed.await)
}

async fn show(State(desk): State<Desk>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let shown = async {
        desk.operator(&headers).await?;
        Ok(desk.document(desk.find(&id)?))
    };
    reply("operator_host", StatusCode::OK, shown.await)
}

async fn make_token(State(desk): State<Desk>, headers: HeaderMap, body: Bytes) -> Response {
    let made = async {
        let caller = desk.operator(&headers).await?;
        let wish: TokenRequest = serde_json::from_slice(&body)
            .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        let wish = TokenWish {
            zone: wish.zone,
            lifetime: wish.lifetime_seconds.map(Duration::from_secs),
            load_balancers_max: wish.load_balancers_max,
            amphorae_max: wish.amphorae_max,
        };
        let made = desk
            .hosts
            .make_token(wish)
            .await
            .map_err(|error| match error {
                NoToken::Store(error) => unavailable(&error),
                other => (StatusCode::BAD_REQUEST, other.to_string()),
            })?;
        desk.note(&caller, Deed::Create, "host_token", None).await;
        Ok(TokenDocument {
            token: made.token,
            zone: made.zone,
            expires_at: made.expires_at.to_string(),
        })
    };
    reply("operator_host_token", StatusCode::CREATED, made.await)
}

async fn drain(State(desk): State<Desk>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = desk.change(&headers, &id, HostState::Draining);
    reply("operator_host_drain", StatusCode::ACCEPTED, done.await)
}

async fn undrain(State(desk): State<Desk>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = desk.change(&headers, &id, HostState::Active);
    reply("operator_host_undrain", StatusCode::ACCEPTED, done.await)
}

async fn renew(State(desk): State<Desk>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let done = async {
        let caller = desk.operator(&headers).await?;
        let host = desk.find(&id)?;
        let renewed = desk.hosts.renew(&host.id.to_string(), None).await;
        renewed.map_err(|reason| (StatusCode::SERVICE_UNAVAILABLE, reason))?;
        desk.note(&caller, Deed::Renew, "host", Some(host.id.to_string()))
            .await;
        Ok(desk.document(host))
    };
    reply("operator_host_renew", StatusCode::OK, done.await)
}

async fn remove(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let done = async {
        let caller = desk.operator(&headers).await?;
        let host = desk.find(&id)?;
        let force = match query.as_deref() {
            None | Some("force=false") => false,
            Some("force=true") => true,
            Some(other) => {
                let sentence = format!("{other}: there is no such parameter");
                return Err((StatusCode::BAD_REQUEST, sentence));
            }
        };
        let carried = desk.document(host.clone()).load_balancers;
        if carried > 0 && !force {
            return Err((
                StatusCode::CONFLICT,
                format!(
                    "host {id} carries {carried} load balancers: drain it first (krater host drain {id} --wait), or, if it is gone for good, remove it with --force"
                ),
            ));
        }
        desk.set(&caller, &host, HostState::Removed, Deed::Delete)
            .await?;
        Ok(Message {
            message: format!("host {id} is removed"),
        })
    };
    reply("operator_host_remove", StatusCode::OK, done.await)
}

impl Desk {
    /// Who asks, if they may.
    async fn operator(&self, headers: &HeaderMap) -> Result<Caller, No> {
        let caller = authenticated(&*self.application, headers).await?;
        if policy::permits_everywhere(&caller, Action::Administer) {
            Ok(caller)
        } else {
            Err(refused(Refusal::NotPermitted))
        }
    }

    /// The host of this id, or the one of this name.
    fn find(&self, wanted: &str) -> Result<HostRecord, No> {
        let all = self.hosts.records();
        let by_id = all.iter().find(|host| host.id.to_string() == wanted);
        if let Some(found) = by_id {
            return Ok(found.clone());
        }
        let mut named = all.into_iter().filter(|host| host.facts.name == wanted);
        match (named.next(), named.next()) {
            (Some(found), None) => Ok(found),
            (Some(_), Some(_)) => Err((
                StatusCode::CONFLICT,
                format!("several hosts are named {wanted}: say which by its id (krater host list)"),
            )),
            (None, _) => Err((
                StatusCode::NOT_FOUND,
                format!("there is no host {wanted}; krater host list shows those there are"),
            )),
        }
    }

    async fn change(
        &self,
        headers: &HeaderMap,
        id: &str,
        to: HostState,
    ) -> Result<HostDocument, No> {
        let caller = self.operator(headers).await?;
        let host = self.find(id)?;
        self.set(&caller, &host, to, Deed::Update).await?;
        Ok(self.document(self.find(&host.id.to_string())?))
    }

    async fn set(
        &self,
        caller: &Caller,
        host: &HostRecord,
        state: HostState,
        deed: Deed,
    ) -> Result<(), No> {
        let stored = self.hosts.set_state(host.id, state).await;
        if !stored.map_err(|error| unavailable(&error))? {
            return Err((
                StatusCode::NOT_FOUND,
                format!("host {} is gone: somebody else removed it", host.id),
            ));
        }
        tracing::info!(host = %host.id, name = host.facts.name, state = state.name(), "what is to become of a host was decided");
        self.note(caller, deed, "host", Some(host.id.to_string()))
            .await;
        Ok(())
    }

    fn document(&self, host: HostRecord) -> HostDocument {
        let name = host.id.to_string();
        let status = match self.hosts.status(&host) {
            AmphoraStatus::Error if is_surely_expired(&host, clock::now()) => "expired",
            AmphoraStatus::Error => "silent",
            _ => "up",
        };
        let placements = &self.known.placements;
        let amphorae: Vec<HostAmphoraDocument> = self
            .fleet
            .on_host(&name)
            .into_iter()
            .map(|id| HostAmphoraDocument {
                id: id.to_string(),
                status: self.fleet.status(id).name().to_owned(),
                load_balancers: placements.count(id),
                trouble: self
                    .fleet
                    .trouble(id)
                    .or_else(|| self.hosts.hosted(&name, id)?.trouble),
            })
            .collect();
        let events = self.hosts.events(host.id).into_iter();
        HostDocument {
            events: events
                .map(|(at, what)| HostEventDocument {
                    at: at.to_string(),
                    what,
                })
                .collect(),
            id: name,
            networks: standing(&host.facts),
            name: host.facts.name,
            zone: host.zone,
            state: host.state.name().to_owned(),
            status: status.to_owned(),
            agent: host.facts.agent,
            version: host.facts.version,
            cores: host.facts.cores,
            memory_bytes: host.facts.memory_bytes,
            load_balancers: amphorae.iter().map(|amphora| amphora.load_balancers).sum(),
            load_balancers_max: host.load_balancers_max,
            amphorae,
            amphorae_max: host.amphorae_max,
            enrolled_at: host.enrolled_at.to_string(),
            last_seen: host.last_seen.map(|at| at.to_string()),
        }
    }

    async fn note(&self, caller: &Caller, deed: Deed, kind: &str, resource: Option<String>) {
        note(&self.known, caller, deed, kind, resource).await;
    }
}

/// Whether all certificates of the host have ended: it gets them while it is heard of.
fn is_surely_expired(host: &HostRecord, now: Timestamp) -> bool {
    let heard = host.last_seen.unwrap_or(host.enrolled_at);
    Duration::try_from(now.duration_since(heard)).is_ok_and(|silence| silence > IDENTITY_LIFETIME)
}

fn unavailable(error: &StoreError) -> No {
    tracing::error!(error = %chain(error), "a host could not be changed");
    let sentence = "the database cannot be reached: try again".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, sentence)
}

fn reply<T: Serialize>(route: &'static str, status: StatusCode, done: Result<T, No>) -> Response {
    match done {
        Ok(document) => answer(route, status, &document),
        Err((status, message)) => answer(route, status, &Message { message }),
    }
}

#[cfg(test)]
mod tests {
    use krater_amphora_api::{BootId, ContractVersion, HostFacts, HostId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_host_that_was_silent_for_longer_than_certificates_last_has_to_join_again() {
        let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let host = |last_seen| HostRecord {
            id: HostId::new(Uuid::from_u128(1)),
            zone: "z".to_owned(),
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
            state: HostState::Active,
            load_balancers_max: None,
            amphorae_max: None,
            enrolled_at: at(100),
            last_seen,
        };
        for (last_seen, now, expired) in [
            (None, 130, false),
            (None, 131, true),
            (Some(at(110)), 131, false),
            (Some(at(110)), 141, true),
            (Some(at(110)), 100, false),
        ] {
            let found = is_surely_expired(&host(last_seen), at(now));
            assert_eq!(found, expired, "{last_seen:?} {now}");
        }
    }
}
