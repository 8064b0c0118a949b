//! Method and path → handler.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use krater_controller_core::{
    audit::Deed,
    envelope::{Envelope, Token},
};
use serde_json::{Value, json};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    amphorae,
    application::Application,
    catalogue,
    context::Context,
    discovery,
    fault::Fault,
    health,
    incoming::{self, NoBody},
    openapi,
    parameters::Parameters,
    path::{Path, Place},
    quotas, read,
    reply::{self, Reply},
    settings::Settings,
    terms,
    wire::{l7_rule, member, quota},
    write,
};

/// The API as a router. It answers every path, so routes of others go before it.
pub fn router(application: Arc<dyn Application>, settings: Settings) -> Router {
    Router::new().fallback(handle).with_state(Arc::new(Api {
        application,
        settings,
    }))
}

/// The route a response came from, in the response's extensions: of a closed set, fit for a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteName(pub &'static str);

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// That and why a request was refused, in the response's extensions: for the log and the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What was to be done.
    pub deed: Deed,
    /// To a resource of which kind.
    pub kind: &'static str,
    /// To which one, as far as the path names it.
    pub resource: Option<String>,
    /// What is there already that it was about: the resource, or what a new one was to belong to.
    pub about: Option<Uuid>,
    /// Why not, without values that the client sent.
    pub sentence: String,
}

impl Refused {
    fn new(
        sentence: String,
        method: &Method,
        place: Option<Place<'_>>,
        about: Option<Uuid>,
    ) -> Self {
        let (kind, resource) = place.map_or(("unknown", None), terms::subject);
        let cut = |id: &str| id.chars().take(ID_CHARACTERS_MAX).collect();
        let named = place.and_then(|place| resource.or_else(|| terms::parent(place)));
        Self {
            deed: place.map_or(Deed::Update, |place| terms::deed(method, place)),
            kind,
            resource: resource.map(cut),
            about: about.or_else(|| Uuid::parse_str(named?).ok()),
            sentence,
        }
    }
}

struct Api {
    application: Arc<dyn Application>,
    settings: Settings,
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let request_id = format!("req-{}", Uuid::new_v4());
    let span = tracing::info_span!(
        "request",
        request_id = %request_id,
        method = %request.method(),
        path = %request.uri().path(),
    );
    async move {
        let (parts, body) = request.into_parts();
        let path = Path::parse(parts.uri.path());
        let name = path.map_or("unknown", |path| path.place.label());
        let place = path.map(|path| path.place);
        let about = OnceLock::new();
        let answer = answer(&api, &parts, body, path, (&request_id, &about)).await;
        let (mut response, sentence) = match answer {
            Ok(reply) => {
                let response = reply.into_response();
                let refused = response.status() == StatusCode::PAYLOAD_TOO_LARGE;
                (response, refused.then(|| TOO_LARGE.to_owned()))
            }
            Err(fault) => {
                tracing::debug!(status = fault.status.as_u16(), fault = ?fault.form, "refused");
                let identity_uri = api.settings.identity_uri.as_deref();
                let response = reply::fault_response(&fault, identity_uri);
                (response, Some(fault.sentence()))
            }
        };
        if let Some(sentence) = sentence {
            let about = about.get().copied();
            let refused = Refused::new(sentence, &parts.method, place, about);
            response.extensions_mut().insert(refused);
        }
        if parts.method == Method::OPTIONS || response.status() == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110, 15.5.6: what may be asked here instead.
            let methods = openapi::methods(parts.uri.path()).join(", ");
            if let Ok(methods) = HeaderValue::try_from(methods) {
                response.headers_mut().insert(header::ALLOW, methods);
            }
        }
        response.extensions_mut().insert(RouteName(name));
        if let Ok(value) = HeaderValue::try_from(request_id) {
            response
                .headers_mut()
                .insert("x-openstack-request-id", value);
        }
        response
    }
    .instrument(span)
    .await
}

async fn answer(
    api: &Api,
    parts: &Parts,
    body: Body,
    path: Option<Path<'_>>,
    (request_id, about): (&str, &OnceLock<Uuid>),
) -> Result<Reply, Fault> {
    if parts.method == Method::OPTIONS {
        return Ok(Reply::Options);
    }
    let application = api.application.as_ref();
    let settings = &api.settings;
    let base = incoming::base(parts, settings, path.map_or("", |path| path.prefix));
    match path.map(|path| path.place) {
        Some(Place::Healthcheck) => {
            let accept = parts
                .headers
                .get(header::ACCEPT)
                .and_then(|value| value.to_str().ok());
            return health::check(
                application,
                settings,
                &parts.method,
                accept.unwrap_or_default(),
            )
            .await;
        }
        Some(Place::Versions) => {
            incoming::check_accept(&parts.headers)?;
            return match parts.method {
                Method::GET => Ok(Reply::ok(discovery::versions(&base))),
                _ => Err(Fault::no_such_method()),
            };
        }
        Some(Place::Document) => {
            incoming::check_accept(&parts.headers)?;
            return match parts.method {
                Method::GET => Ok(Reply::ok(DOCUMENT.clone())),
                _ => Err(Fault::no_such_method()),
            };
        }
        _ => {}
    }
    let credentials = incoming::credentials(&parts.headers)?;
    let caller = application.authenticate(&credentials).await?;
    let Some(Path { prefix, place }) = path else {
        return Err(Fault::no_such_path());
    };
    incoming::check_accept(&parts.headers)?;
    let own_path = parts.uri.path().strip_prefix(prefix).unwrap_or_default();
    let context = Context {
        application,
        settings,
        caller,
        parameters: Parameters::checked(parts.uri.query().unwrap_or_default())?,
        url: format!("{base}{own_path}"),
        envelope: Envelope {
            request_id: request_id.to_owned(),
            global_request_id: terms::global_request_id(&parts.headers).map(String::from),
            deed: terms::deed(&parts.method, place),
            precondition: terms::precondition(&parts.headers, &parts.method, place)?,
            once: None,
            token: credentials.token.map(Token::new),
        },
        once: OnceLock::new(),
        about,
    };
    match parts.method {
        Method::GET => handle_get(&context, place).await,
        Method::POST => handle_post(&context, place, parts, body).await,
        Method::PUT => handle_put(&context, place, parts, body).await,
        Method::DELETE => handle_delete(&context, place).await,
        _ => Err(Fault::no_such_method()),
    }
}

async fn handle_get(context: &Context<'_>, place: Place<'_>) -> Result<Reply, Fault> {
    match place {
        Place::Version => Ok(Reply::ok(Value::from("v2"))),
        Place::Collection(kind) => read::list(context, kind).await,
        Place::Item(kind, id) => read::show(context, kind, id).await,
        Place::Status(id) => read::show_status(context, id).await,
        Place::Statistics(kind, id) => read::show_statistics(context, kind, id).await,
        Place::Members(pool) => read::list_members(context, pool).await,
        Place::Member(pool, id) => read::show_member(context, pool, id).await,
        Place::Rules(policy) => read::list_rules(context, policy).await,
        Place::Rule(policy, id) => read::show_rule(context, policy, id).await,
        Place::Quotas => quotas::list(context).await,
        Place::Quota(project) => quotas::show(context, project).await,
        Place::QuotaDefaults(project) => quotas::show_defaults(context, project).await,
        Place::Providers => catalogue::list_providers(context),
        Place::Capabilities(provider, family) => {
            catalogue::list_capabilities(context, provider, family)
        }
        Place::Shelf(shelf) => catalogue::list(context, shelf).await,
        Place::Shelved(shelf, key) => catalogue::show(context, shelf, key).await,
        Place::Lookups(lookup) => read::list_lookups(context, lookup).await,
        Place::Lookup(lookup, id) => read::show_lookup(context, lookup, id).await,
        Place::Nothing(root) => Ok(Reply::ok(json!({root: []}))),
        Place::Nowhere(kind, id) => Err(Fault::not_found(kind, id)),
        Place::Amphorae => amphorae::list(context).await,
        Place::Amphora(id) => amphorae::show(context, id).await,
        Place::AmphoraStatistics(id) => amphorae::show_statistics(context, id).await,
        Place::Failover(_)
        | Place::AmphoraAct(..)
        | Place::Provider
        | Place::Versions
        | Place::Healthcheck
        | Place::Document => Err(Fault::no_such_method()),
    }
}

async fn handle_post(
    context: &Context<'_>,
    place: Place<'_>,
    parts: &Parts,
    body: Body,
) -> Result<Reply, Fault> {
    match place {
        Place::Collection(kind) => match json_body(context, parts, body, kind.argument()).await? {
            Ok(body) => write::create(context, kind, body).await,
            Err(reply) => Ok(reply),
        },
        Place::Members(pool) => match json_body(context, parts, body, member::ARGUMENT).await? {
            Ok(body) => write::create_member(context, pool, body).await,
            Err(reply) => Ok(reply),
        },
        Place::Rules(policy) => match json_body(context, parts, body, l7_rule::ARGUMENT).await? {
            Ok(body) => write::create_rule(context, policy, body).await,
            Err(reply) => Ok(reply),
        },
        Place::Shelf(shelf) => match json_body(context, parts, body, shelf.argument()).await? {
            Ok(body) => catalogue::create(context, shelf, body).await,
            Err(reply) => Ok(reply),
        },
        // The reference takes the id for the body.
        Place::Shelved(shelf, _) => Err(Fault::bad_request(format!(
            "Unknown argument: \"{}\"",
            shelf.argument()
        ))),
        Place::Item(kind, _) => Err(Fault::bad_request(format!(
            "Unknown argument: \"{}\"",
            kind.argument()
        ))),
        Place::Member(..) => Err(Fault::bad_request(format!(
            "Unknown argument: \"{}\"",
            member::ARGUMENT
        ))),
        Place::Rule(..) => Err(Fault::bad_request(format!(
            "Unknown argument: \"{}\"",
            l7_rule::ARGUMENT
        ))),
        _ => Err(Fault::no_such_method()),
    }
}

async fn handle_put(
    context: &Context<'_>,
    place: Place<'_>,
    parts: &Parts,
    body: Body,
) -> Result<Reply, Fault> {
    match place {
        Place::Item(kind, id) => match json_body(context, parts, body, kind.argument()).await? {
            Ok(body) => write::update(context, kind, id, body).await,
            Err(reply) => Ok(reply),
        },
        Place::Members(pool) => {
            match json_body(context, parts, body, member::BATCH_ARGUMENT).await? {
                Ok(body) => write::replace_members(context, pool, body).await,
                Err(reply) => Ok(reply),
            }
        }
        Place::Member(pool, id) => match json_body(context, parts, body, member::ARGUMENT).await? {
            Ok(body) => write::update_member(context, pool, id, body).await,
            Err(reply) => Ok(reply),
        },
        Place::Rule(policy, id) => {
            match json_body(context, parts, body, l7_rule::ARGUMENT).await? {
                Ok(body) => write::update_rule(context, policy, id, body).await,
                Err(reply) => Ok(reply),
            }
        }
        Place::Quota(project) => match json_body(context, parts, body, quota::ARGUMENT).await? {
            Ok(body) => quotas::set(context, project, body).await,
            Err(reply) => Ok(reply),
        },
        Place::Failover(id) => match nothing(context, body).await? {
            Ok(()) => write::fail_over(context, id).await,
            Err(reply) => Ok(reply),
        },
        Place::AmphoraAct(id, act) => match nothing(context, body).await? {
            Ok(()) => amphorae::act(context, id, act).await,
            Err(reply) => Ok(reply),
        },
        Place::Amphorae => Err(missing_id()),
        Place::Collection(_) | Place::Rules(_) | Place::Shelf(_) => Err(missing_id()),
        Place::Shelved(shelf, key) => {
            match json_body(context, parts, body, shelf.argument()).await? {
                Ok(body) => catalogue::update(context, shelf, key, body).await,
                Err(reply) => Ok(reply),
            }
        }
        _ => Err(Fault::no_such_method()),
    }
}

async fn handle_delete(context: &Context<'_>, place: Place<'_>) -> Result<Reply, Fault> {
    match place {
        Place::Item(kind, id) => write::delete(context, kind, id).await,
        Place::Member(pool, id) => write::delete_member(context, pool, id).await,
        Place::Amphora(id) => amphorae::delete(context, id).await,
        Place::Amphorae => Err(missing_id()),
        Place::Rule(policy, id) => write::delete_rule(context, policy, id).await,
        Place::Quota(project) => quotas::reset(context, project).await,
        Place::Shelved(shelf, key) => catalogue::delete(context, shelf, key).await,
        Place::Collection(_) | Place::Members(_) | Place::Rules(_) | Place::Shelf(_) => {
            Err(missing_id())
        }
        _ => Err(Fault::no_such_method()),
    }
}

/// The body, or the answer to one that is no fault of the forms this API has.
async fn json_body(
    context: &Context<'_>,
    parts: &Parts,
    body: Body,
    argument: &str,
) -> Result<Result<Value, Reply>, Fault> {
    let most = context.settings.body_bytes_max;
    match incoming::json_body(&parts.headers, body, most, argument).await {
        Ok(body) => {
            if parts.method == Method::POST {
                let place = Path::shortest(parts.uri.path());
                if let Some(once) = terms::once(&parts.headers, &place, &body)? {
                    context.once.get_or_init(|| once);
                }
            }
            Ok(Ok(body))
        }
        Err(NoBody::TooLarge) => Ok(Err(incoming::too_large(most))),
        Err(NoBody::Broken) => Err(Fault::bad_request(
            "The request's body ended before it was complete.",
        )),
        Err(NoBody::Refused(fault)) => Err(fault),
    }
}

/// The same for a body that may only be empty.
async fn nothing(context: &Context<'_>, body: Body) -> Result<Result<(), Reply>, Fault> {
    let most = context.settings.body_bytes_max;
    match incoming::no_body(body, most).await {
        Ok(()) => Ok(Ok(())),
        Err(NoBody::TooLarge) => Ok(Err(incoming::too_large(most))),
        Err(NoBody::Broken) => Err(Fault::bad_request(
            "The request's body ended before it was complete.",
        )),
        Err(NoBody::Refused(fault)) => Err(fault),
    }
}

fn missing_id() -> Fault {
    Fault::bad_request("Missing argument: \"id\"")
}

const TOO_LARGE: &str = "The request is too large.";
/// Of what a path names, in the audit trail: an id, or a project.
const ID_CHARACTERS_MAX: usize = 64;
