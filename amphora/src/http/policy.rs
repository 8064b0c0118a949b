//! What the policies of a listener make of a request (reference 19.6).

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, HOST, LOCATION},
    request::Parts,
};
use krater_amphora_api::ListenerProtocol;
use krater_amphora_core::l7::{Head, Verdict};

use super::{
    body::Reply,
    refusal::{CAUSE, Refusal},
};
use crate::{
    tls::Peer,
    world::{ListenerState, PoolState},
};

/// Where a request goes.
pub(super) enum Route<'a> {
    /// To a member of this pool.
    Pool(&'a PoolState),
    /// To nobody: it is answered with metrics.
    Metrics,
    /// Back to the client, who is to ask elsewhere.
    Redirected(Box<Response<Reply>>),
}

/// Where the request of this head goes.
pub(super) fn route<'a>(
    state: &'a ListenerState,
    parts: &Parts,
    tls: Option<&Peer>,
) -> Result<Route<'a>, Refusal> {
    if state.listener.protocol == ListenerProtocol::Prometheus {
        return Ok(Route::Metrics);
    }
    let pool = match state.listener.policies.evaluate(&Asked { parts, tls }) {
        Verdict::Default => state.pool.as_deref(),
        Verdict::Pool(id) => state.policy_pools.get(&id).map(AsRef::as_ref),
        Verdict::Reject => return Err(Refusal::Rejected),
        Verdict::Redirect {
            url,
            with_target,
            code,
        } => {
            let target = if with_target { target(parts) } else { "" };
            let response = redirection(url, target, code).ok_or(Refusal::BadTarget)?;
            return Ok(Route::Redirected(Box::new(response)));
        }
    };
    pool.map(Route::Pool).ok_or(Refusal::NoMember)
}

/// The path and query of a request, as a client would append them.
fn target(parts: &Parts) -> &str {
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    if target.starts_with('/') { target } else { "/" }
}

fn redirection(url: &str, target: &str, code: u16) -> Option<Response<Reply>> {
    let location = HeaderValue::try_from(format!("{url}{target}")).ok()?;
    let mut response = Response::new(Reply::Empty);
    *response.status_mut() = StatusCode::from_u16(code).ok()?;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CAUSE, HeaderValue::from_static("lb_policy_redirected"));
    // The others are meant to be remembered.
    if matches!(code, 302 | 303 | 307) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    Some(response)
}

/// A request's head as policies look at it.
struct Asked<'a> {
    parts: &'a Parts,
    tls: Option<&'a Peer>,
}

impl Head for Asked<'_> {
    fn host(&self) -> &[u8] {
        self.parts
            .headers
            .get(HOST)
            .map_or(&[], HeaderValue::as_bytes)
    }

    fn path(&self) -> &[u8] {
        self.parts.uri.path().as_bytes()
    }

    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut lines = self.parts.headers.get_all(name).iter();
        lines.any(|line| test(line.as_bytes()))
    }

    fn shows_certificate(&self) -> bool {
        self.tls.is_some_and(Peer::shows_certificate)
    }

    fn certificate_subject(&self, name: &str) -> Option<&[u8]> {
        let value = self.tls?.subject_field(name)?;
        Some(value.as_bytes())
    }
}
