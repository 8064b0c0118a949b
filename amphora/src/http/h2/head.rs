//! Heads of HTTP/2 as the rest of HTTP takes and makes them.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::PathAndQuery,
};

use crate::h1::fault_of;

/// A request that says what none may say (RFC 9113 section 8.1.1), beyond what the engine sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Turns the head of an HTTP/2 request into what HTTP/1.1 would have: one `Host`, one line of cookies, a target without
/// its authority.
pub(super) fn as_http1(parts: &mut Parts) -> Result<(), Malformed> {
    if fault_of(&parts.headers).is_some() {
        return Err(Malformed);
    }
    if parts.method == Method::CONNECT {
        // It is refused with a word, by whoever refuses it of HTTP/1.
        return parts.uri.authority().map(drop).ok_or(Malformed);
    }
    parts.uri = target(parts)?;
    join_cookies(&mut parts.headers);
    Ok(())
}

/// Takes out of an answer what only HTTP/1 says (RFC 9113 section 8.2.2).
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, TE] {
        headers.remove(name);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// Moves the authority into `Host`, which must not say anything else (RFC 9113 section 8.3.1).
fn target(parts: &mut Parts) -> Result<Uri, Malformed> {
    // The engine takes a query, or nothing at all, for the target of an origin (RFC 9113 section 8.3.1).
    let path = parts.uri.path_and_query().map(PathAndQuery::as_str);
    let is_path = path.is_none_or(|path| path.starts_with(['/', '*']));
    if !is_path {
        return Err(Malformed);
    }
    let Some(authority) = parts.uri.authority() else {
        // The connection knows no other word for it; the target is checked with those of HTTP/1.
        let named = parts.headers.contains_key(HOST);
        return named.then(|| parts.uri.clone()).ok_or(Malformed);
    };
    let authority = authority.as_str();
    let scheme = parts.uri.scheme_str();
    if !matches!(scheme, Some("http" | "https")) {
        return Err(Malformed);
    }
    if authority.contains('@') {
        return Err(Malformed);
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let agree = hosts.all(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
    if !agree {
        return Err(Malformed);
    }
    let host = HeaderValue::from_str(authority).map_err(|_| Malformed)?;
    let target = parts.uri.path_and_query().cloned();
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if target == "*" && parts.method != Method::OPTIONS {
        return Err(Malformed);
    }
    parts.headers.insert(HOST, host);
    Ok(Uri::from(target))
}

/// Clients may send each cookie on its own (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    if lines.by_ref().nth(1).is_none() {
        return;
    }
    let lines: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // Of what were values, with "; " between: a value.
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judged(uri: &str, headers: &[(&str, &str)]) -> Result<Parts, Malformed> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        as_http1(&mut parts)?;
        Ok(parts)
    }

    #[test]
    fn authority_and_host_say_the_same_or_the_request_is_refused() {
        let parts = judged("http://a.example:80/x?y", &[("host", "A.example:80")]).unwrap();
        assert_eq!(parts.uri, "/x?y");
        assert_eq!(parts.headers[HOST], "a.example:80");
        let parts = judged("http://a", &[]).unwrap();
        assert_eq!(
            (parts.uri.to_string().as_str(), &parts.headers[HOST]),
            ("/", &"a".parse().unwrap())
        );
        assert_eq!(judged("/x", &[("host", "b")]).unwrap().headers[HOST], "b");
        for (uri, hosts) in [
            ("/x", &[][..]),
            ("http://a/", &[("host", "b")]),
            ("http://a/", &[("host", "a"), ("host", "b")]),
            ("http://a/", &[("host", "a:80")]),
            ("http://u@a/", &[]),
        ] {
            assert_eq!(judged(uri, hosts).unwrap_err(), Malformed, "{uri}");
        }
        assert_eq!(judged("ftp://a/", &[]).unwrap_err(), Malformed);
        assert_eq!(judged("http://a?x", &[]).unwrap_err(), Malformed);
    }

    #[test]
    fn crumbs_of_cookies_become_one_line() {
        let parts = judged("http://a/", &[("cookie", "a=1"), ("cookie", "b=2; c=3")]).unwrap();
        let lines: Vec<_> = parts.headers.get_all(COOKIE).iter().collect();
        assert_eq!(lines, ["a=1; b=2; c=3"]);
    }
}
