//! Requests that are well-formed and yet not served, since a member could take them for something else.

use std::net::Ipv6Addr;

use http::{
    HeaderMap, Method, Uri, Version,
    header::{EXPECT, HOST},
    request::Parts,
};
use krater_amphora_core::forwarded;

use super::refusal::Refusal;
use crate::{h1::Fault, limits::HTTP_FIELDS_MAX};

/// Why a request is not served, if so.
pub(super) fn check(parts: &Parts) -> Result<(), Refusal> {
    // HTTP/1 has counted them before it has read them.
    if parts.headers.len() > HTTP_FIELDS_MAX {
        return Err(Refusal::Malformed(Fault::TooManyFields));
    }
    check_names(&parts.headers)?;
    check_expectation(&parts.headers)?;
    check_host(&parts.headers, parts.version)?;
    check_target(&parts.uri, &parts.method)
}

/// What tells where a message ends must not come under a name that some take for it.
fn check_names(headers: &HeaderMap) -> Result<(), Refusal> {
    let alike = |name: &str| forwarded::resembles(name, &FRAMING);
    if headers.keys().any(|name| alike(name.as_str())) {
        return Err(Refusal::BadName);
    }
    Ok(())
}

/// There is one expectation (RFC 9110 section 10.1.1), and it is met here.
fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lines = headers.get_all(EXPECT).iter();
    if lines.all(|line| line.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        Ok(())
    } else {
        Err(Refusal::BadExpectation)
    }
}

/// RFC 9112 section 3.2: a request of HTTP/1.1 has one `Host`, no request has two.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut lines = headers.get_all(HOST).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(Refusal::BadHost),
        (None, None) if version == Version::HTTP_11 => Err(Refusal::BadHost),
        // Empty says that there is no authority.
        (Some(host), None) if !host.is_empty() && !is_authority(host.as_bytes()) => {
            Err(Refusal::BadHost)
        }
        _ => Ok(()),
    }
}

/// RFC 9112 section 3.2: a path, an absolute URL without a user, or `*` for `OPTIONS`.
fn check_target(uri: &Uri, method: &Method) -> Result<(), Refusal> {
    let query = uri.query().unwrap_or_default();
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible(uri.path()) || !visible(query) {
        return Err(Refusal::BadTarget);
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if uri.path() == "*" && *method == Method::OPTIONS => Ok(()),
        (None, None) if uri.path().starts_with('/') => Ok(()),
        (Some("http" | "https"), Some(authority))
            if is_authority(authority.as_str().as_bytes()) =>
        {
            Ok(())
        }
        _ => Err(Refusal::BadTarget),
    }
}

/// Whether `text` is a host with or without a port (RFC 3986 section 3.2): nothing that two readers could cut in two
/// places.
fn is_authority(text: &[u8]) -> bool {
    if let [b'[', rest @ ..] = text {
        let mut parts = rest.splitn(2, |byte| *byte == b']');
        let literal = parts.next().unwrap_or_default();
        return parts.next().is_some_and(is_port) && is_literal(literal);
    }
    let end = text.iter().position(|byte| *byte == b':');
    let (name, port) = text
        .split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or_default();
    is_name(name) && is_port(port)
}

/// What may stand in brackets.
fn is_literal(literal: &[u8]) -> bool {
    let text = str::from_utf8(literal).unwrap_or_default();
    let is_future = || {
        let (version, address) = text.strip_prefix(['v', 'V'])?.split_once('.')?;
        let is_version =
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
        let fits = |byte: u8| is_name_byte(byte) || byte == b':';
        Some(is_version && !address.is_empty() && address.bytes().all(fits))
    };
    text.parse::<Ipv6Addr>().is_ok() || is_future() == Some(true)
}

fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [byte, behind @ ..] = rest {
        rest = match (byte, behind) {
            (b'%', [high, low, behind @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                behind
            }
            (byte, behind) if is_name_byte(*byte) => behind,
            _ => return false,
        };
    }
    !name.is_empty()
}

/// Of the bytes that names may hold, all but those that set values apart in lists.
const fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\''
        | b'(' | b')' | b'*' | b'+' | b'=')
}

/// Nothing, or a colon with a port or nothing behind it.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let number = str::from_utf8(digits).map(str::parse::<u16>);
            digits.iter().all(u8::is_ascii_digit) && matches!(number, Ok(Ok(_)))
        }
        _ => false,
    }
}

const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_with_or_without_a_port() {
        for text in [
            "a", "a.b", "A-1_b", "a:80", "a:", "a:0", "a:65535", "1.2.3.4", "[::1]", "[::1]:80",
            "[::1]:", "[v1.a:b]", "a%20b", "*", "a!b",
        ] {
            assert!(is_authority(text.as_bytes()), "{text}");
        }
        for text in [
            "", ":", ":80", "a:b", "a:65536", "a:+1", "a:1:2", "::1", "[::1", "[::1]x", "[]",
            "[1]", "[v.a]", "[v1.]", "a b", "a,b", "a;b", "a@b", "a/b", "a?b", "a#b", "a\\b", "a%",
            "a%2", "a%2g", "\u{e9}", "a\"b", "a\0b", "<a>", "a|b",
        ] {
            assert!(!is_authority(text.as_bytes()), "{text}");
        }
    }
}
