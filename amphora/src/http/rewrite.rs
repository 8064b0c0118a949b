//! Messages on their way through: what is taken out, what is put in.
//!
//! The message was parsed and will be written anew; here its head is made fit for the next hop.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::PathAndQuery,
};
use http_body::{Body, SizeHint};
use krater_amphora_core::{
    certificate::InsertCertificate,
    forwarded::{self, Existing, Scheme, headers},
    snapshot::Pool,
};

use super::{guard, refusal::Refusal};
use crate::{tls::Peer, upstream::Outgoing, world::ListenerState};

/// A request that can be served, with its target as an origin server takes it, or why it is not served.
pub(super) fn checked(mut parts: Parts) -> Result<Parts, Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    guard::check(&parts)?;
    parts.uri = origin_form(parts.uri, &mut parts.headers)?;
    Ok(parts)
}

/// A request that was [`checked`] as it is sent to a member.
pub(super) fn request(
    mut parts: Parts,
    body: Outgoing,
    (client, tls): (IpAddr, Option<&Peer>),
    state: &ListenerState,
    pool: &Pool,
) -> Request<Outgoing> {
    fit(&mut parts, &body.size_hint());
    let Parts {
        method,
        uri,
        mut headers,
        ..
    } = parts;
    insert_forwarded(&mut headers, (client, tls), state, pool);
    insert_certificate(&mut headers, tls, state);
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// A request as any member is sent it, before it is told anything of the client; `None` if it is refused. `body` is how
/// long its body is.
pub(crate) fn untold(parts: Parts, body: &SizeHint) -> Option<Parts> {
    let mut parts = checked(parts).ok()?;
    fit(&mut parts, body);
    Some(parts)
}

/// Makes the head of a request that was [`checked`] fit for a member.
fn fit(parts: &mut Parts, body: &SizeHint) {
    let headers = &mut parts.headers;
    let upgrade = if parts.version == Version::HTTP_11 && body.exact() == Some(0) {
        upgrade_wanted(headers)
    } else {
        None
    };
    strip(headers);
    // What was expected was met here.
    for name in [EXPECT, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    frame(headers, body);
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if !headers.contains_key(HOST) {
        // HTTP/1.0 knows no Host and HTTP/1.1 demands one; empty says that there is no authority (RFC 9112 3.2).
        headers.insert(HOST, HeaderValue::from_static(""));
    }
}

/// Makes the head of a member's answer fit for the client.
pub(crate) fn answer(headers: &mut HeaderMap) {
    strip(headers);
}

/// Makes an interim answer of a member fit for the client. It has no body, and says nothing of one.
pub(super) fn interim(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(CONTENT_LENGTH);
}

/// Makes the head of a member's `101` fit for the client: the upgrade is hop-by-hop, but both hops make it.
pub(super) fn switching_answer(headers: &mut HeaderMap) {
    let protocol = headers.get(UPGRADE).cloned();
    strip(headers);
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Whether a request asks for another protocol.
pub(super) fn is_upgrade(request: &Parts) -> bool {
    request.headers.contains_key(UPGRADE)
}

/// Whether an answer of `101` changes to what the request offers.
pub(super) fn is_agreed(request: &Parts, answer: &HeaderMap) -> bool {
    let (Some(offered), Some(chosen)) = (request.headers.get(UPGRADE), answer.get(UPGRADE)) else {
        return false;
    };
    protocols(chosen)
        .all(|chosen| protocols(offered).any(|offered| offered.eq_ignore_ascii_case(chosen)))
}

/// The target as an origin server takes it. The authority of an absolute target overrides `Host` (RFC 9112 3.2.2).
fn origin_form(uri: Uri, headers: &mut HeaderMap) -> Result<Uri, Refusal> {
    let Some(authority) = uri.authority() else {
        return Ok(uri);
    };
    headers.insert(
        HOST,
        HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadTarget)?,
    );
    let target = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(Uri::from(target))
}

/// The protocol that a request offers to change to.
fn upgrade_wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(UPGRADE)?;
    let asked = options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    // Whoever got to speak HTTP/2 with a member by this way would be past every rule of the listener.
    let text = offered.to_str().ok().filter(|_| asked)?;
    let others: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|protocol| !is_http(protocol))
        .collect();
    HeaderValue::from_str(&others.join(", "))
        .ok()
        .filter(|others| !others.is_empty())
}

/// Whether a protocol that is offered is HTTP once more: `h2c`, `HTTP/2.0` and the like.
fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    ["h2", "h2c", "http"]
        .iter()
        .any(|http| name.eq_ignore_ascii_case(http))
}

fn protocols(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let protocols = line.as_bytes().split(|byte| *byte == b',');
    protocols.map(<[u8]>::trim_ascii)
}

/// Takes out what is meant for this hop alone (RFC 9110 section 7.6.1).
///
/// One look at the names, since most messages have none of these and looking each of them up would cost more.
fn strip(headers: &mut HeaderMap) {
    let mut found = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        for (hop, found) in HOP_BY_HOP.iter().zip(&mut found) {
            *found |= name == hop;
        }
    }
    if !found.contains(&true) {
        return;
    }
    let named: Vec<HeaderName> = options(headers).filter_map(droppable).collect();
    for name in named {
        headers.remove(name);
    }
    for (hop, found) in HOP_BY_HOP.iter().zip(found) {
        if found && headers.remove(hop).is_some() && *hop == TRANSFER_ENCODING {
            // RFC 9112 section 6.3: with both, the length is not to be believed, nor sent on.
            headers.remove(CONTENT_LENGTH);
        }
    }
}

/// The options that `Connection` lists.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|option| !option.is_empty())
}

/// A header that `Connection` may have taken out. What says where a message goes, where it ends and from whom it came
/// is not for a sender to hide.
fn droppable(option: &str) -> Option<HeaderName> {
    if option.eq_ignore_ascii_case("close") || option.eq_ignore_ascii_case("keep-alive") {
        return None;
    }
    let name = HeaderName::from_bytes(option.as_bytes()).ok()?;
    let framing = name == HOST || name == CONTENT_LENGTH || name == TRANSFER_ENCODING;
    (!framing && !forwarded::NAMES.contains(&name.as_str())).then_some(name)
}

/// Says once, and in one way, how long the body is.
fn frame(headers: &mut HeaderMap, body: &SizeHint) {
    match body.exact() {
        // A request without a body needs no length; one that a client gave stays, as a POST of nothing should.
        Some(0) if !headers.contains_key(CONTENT_LENGTH) => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// Members that are told of the client ahead of the connection are not told again (reference 19.5).
fn insert_forwarded(
    map: &mut HeaderMap,
    (client, tls): (IpAddr, Option<&Peer>),
    state: &ListenerState,
    pool: &Pool,
) {
    let scheme = match tls {
        None => Scheme::Http,
        Some(_) => Scheme::Https,
    };
    let mut insert = state.listener.insert_headers;
    if pool.proxy_header().is_some() {
        insert.x_forwarded_for = false;
        insert.x_forwarded_port = false;
    }
    let strange = with_underscores(map);
    for header in headers(insert, client, state.listener.port, scheme) {
        remove_alike(map, &strange, header.name);
        let name = HeaderName::from_static(header.name);
        // Digits, letters, dots and colons: always a valid value.
        let Ok(value) = HeaderValue::from_bytes(header.value.as_bytes()) else {
            continue;
        };
        match header.existing {
            Existing::Keep => {
                map.append(name, value);
            }
            Existing::Replace => {
                map.insert(name, value);
            }
        }
    }
}

/// The names of fields that could be taken for others.
fn with_underscores(map: &HeaderMap) -> Vec<HeaderName> {
    let names = map.keys();
    names
        .filter(|name| name.as_str().contains('_'))
        .cloned()
        .collect()
}

/// Takes out what could be taken for `name`.
fn remove_alike(map: &mut HeaderMap, strange: &[HeaderName], name: &str) {
    for alike in strange {
        if forwarded::resembles(alike.as_str(), &[name]) {
            map.remove(alike);
        }
    }
}

/// Tells of the client's certificate what the listener is asked to tell, whoever the pool is (reference 19.5).
fn insert_certificate(map: &mut HeaderMap, tls: Option<&Peer>, state: &ListenerState) {
    let insert = state.listener.insert_certificate;
    if insert == InsertCertificate::default() {
        return;
    }
    let strange = with_underscores(map);
    for fact in insert.facts() {
        remove_alike(map, &strange, fact.header());
        let name = HeaderName::from_static(fact.header());
        match tls {
            Some(peer) => drop(map.insert(name, peer.header_value(fact))),
            // The listener has begun to end TLS after this client came: nothing is known, and nothing may be claimed.
            None => drop(map.remove(name)),
        }
    }
}

/// Transfer codings among them, since each hop frames bodies anew.
static HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    TE,
    UPGRADE,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
