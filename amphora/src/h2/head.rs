//! Heads of requests, field by field, as HTTP/1.1 would have them (RFC 9113 section 8.3).

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version,
    header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST},
    request::Parts,
    uri::{Authority, PathAndQuery},
};

use super::{hpack::Wanted, table::Said};
use crate::limits::{HTTP_FIELDS_MAX, STREAM_HEAD_ABUSE_BYTES, STREAM_HEAD_BYTES_MAX};

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    /// How long its body is, if it says so.
    pub(super) length: Option<u64>,
    /// The client waits to be told that it may send.
    pub(crate) expects: bool,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It says what none may say (RFC 9113 section 8.1.1).
    Malformed,
    /// It is longer than is served.
    TooLarge,
}

/// A head, or trailers, of which more may come.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    method: Option<Method>,
    scheme: bool,
    authority: Option<HeaderValue>,
    path: Option<PathAndQuery>,
    fields: HeaderMap,
    length: Option<u64>,
    expects: bool,
    /// Fields have come that are no pseudo-fields.
    is_regular: bool,
    cookies: Cookies,
    is_wrong: bool,
    size: usize,
}

/// How many lines of cookies there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cookies {
    #[default]
    None,
    One,
    Many,
}

impl Assembly {
    /// A head of which nothing has come. `fields` is empty and gets the fields.
    pub(super) fn new(fields: HeaderMap) -> Self {
        Self {
            fields,
            ..Self::default()
        }
    }

    /// Takes a field that counts so much. Not wanted any more is what is far too much.
    pub(super) fn take(&mut self, said: Said, size: usize) -> Wanted {
        self.size += size;
        if self.size > STREAM_HEAD_ABUSE_BYTES {
            return Wanted::No;
        }
        // What is refused has to be read to its end all the same, for the tables' sake.
        if self.is_too_large() || self.is_wrong {
            return Wanted::Yes;
        }
        self.is_wrong = self.put(said).is_none();
        Wanted::Yes
    }

    /// The head of a request, which may be all of it.
    pub(super) fn into_request(mut self, is_all: bool) -> Result<Asked, Refused> {
        if self.is_wrong || is_all && self.length.is_some_and(|length| length > 0) {
            return Err(Refused::Malformed);
        }
        if self.is_too_large() {
            return Err(Refused::TooLarge);
        }
        let uri = self.target().ok_or(Refused::Malformed)?;
        if self.cookies == Cookies::Many {
            join_cookies(&mut self.fields);
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.take().ok_or(Refused::Malformed)?;
        parts.uri = uri;
        parts.version = Version::HTTP_2;
        parts.headers = self.fields;
        Ok(Asked {
            parts,
            length: self.length,
            expects: self.expects && !is_all,
        })
    }

    /// Fields behind a body: pseudo-fields are none (RFC 9113 section 8.1).
    pub(super) fn into_trailers(self) -> Option<HeaderMap> {
        let is_pseudo =
            self.method.is_some() || self.scheme || self.authority.is_some() || self.path.is_some();
        let is_fine = !self.is_wrong && !self.is_too_large() && !is_pseudo;
        (is_fine && self.fields.len() <= HTTP_FIELDS_MAX).then_some(self.fields)
    }

    const fn is_too_large(&self) -> bool {
        self.size > STREAM_HEAD_BYTES_MAX as usize
    }

    /// Puts a field to its place. `None` if it has none.
    fn put(&mut self, said: Said) -> Option<()> {
        match said {
            Said::Field(name, value) => {
                self.is_regular = true;
                match name {
                    CONTENT_LENGTH => self.put_length(&value)?,
                    COOKIE if self.cookies == Cookies::None => self.cookies = Cookies::One,
                    COOKIE => self.cookies = Cookies::Many,
                    EXPECT => self.expects = true,
                    _ => {}
                }
                self.fields.try_append(name, value).ok().map(drop)
            }
            // They come first, and once (RFC 9113 section 8.3).
            _ if self.is_regular => None,
            Said::Method(method) => once(&mut self.method, method),
            Said::Authority(authority) => once(&mut self.authority, authority),
            Said::Path(path) => once(&mut self.path, path),
            Said::Scheme => {
                let is_first = !std::mem::replace(&mut self.scheme, true);
                is_first.then_some(())
            }
            Said::Wrong => None,
        }
    }

    /// As by HTTP/1: a plain number, and once.
    fn put_length(&mut self, value: &HeaderValue) -> Option<()> {
        let digits = value.as_bytes();
        let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let number = value.to_str().ok().filter(|_| is_plain)?;
        // What cannot be counted with signs somewhere else is not sent there.
        let number: i64 = number.parse().ok()?;
        once(&mut self.length, number.unsigned_abs())
    }

    /// Where the request goes; its authority becomes its `Host`, which must not say anything else.
    fn target(&mut self) -> Option<Uri> {
        if self.method == Some(Method::CONNECT) {
            // It is refused with a word, by whoever refuses it of HTTP/1.
            let authority = self.authority.as_ref()?.as_bytes();
            let authority = Authority::try_from(authority).ok();
            let is_right = self.path.is_none() && !self.scheme;
            return authority.filter(|_| is_right).map(Uri::from);
        }
        let path = self.path.take().filter(|_| self.scheme)?;
        if path == "*" && self.method != Some(Method::OPTIONS) {
            return None;
        }
        match self.authority.take() {
            // Those without one are checked with those of HTTP/1.
            None => self.fields.contains_key(HOST).then_some(())?,
            Some(authority) => {
                let mut hosts = self.fields.get_all(HOST).iter();
                let text = authority.as_bytes();
                if !hosts.all(|host| host.as_bytes().eq_ignore_ascii_case(text)) {
                    return None;
                }
                self.fields.insert(HOST, authority);
            }
        }
        Some(Uri::from(path))
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Clients may send each cookie on its own (RFC 9113 section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    let lines = fields.get_all(COOKIE).iter();
    let lines: Vec<_> = lines.map(HeaderValue::as_bytes).collect();
    // Of what were values, with "; " between: a value.
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        fields.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::table::Entry, *};

    fn assembled(fields: &[(&str, &str)]) -> Assembly {
        let mut assembly = Assembly::new(HeaderMap::new());
        for (name, value) in fields {
            let value = Bytes::copy_from_slice(value.as_bytes());
            let entry = Entry::new(name.as_bytes(), value);
            let wanted = assembly.take(entry.said, entry.size);
            assert_eq!(wanted, Wanted::Yes);
        }
        assembly
    }

    fn judged(authority: &str, path: &str, more: &[(&str, &str)]) -> Result<Parts, Refused> {
        let mut fields = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
        ];
        fields.extend(more);
        let asked = assembled(&fields).into_request(true)?;
        Ok(asked.parts)
    }

    #[test]
    fn authority_and_host_say_the_same_or_the_request_is_refused() {
        let parts = judged("a.example:80", "/x?y", &[("host", "A.example:80")]).unwrap();
        assert_eq!(parts.uri, "/x?y");
        assert_eq!(parts.headers[HOST], "a.example:80");
        for (authority, path, host) in [
            ("a", "/", "b"),
            ("u@a", "/", "u@a"),
            ("", "/", "a"),
            ("a", "*", "a"),
            ("a", "x", "a"),
            ("a", "?x", "a"),
            ("a", "", "a"),
        ] {
            let judged = judged(authority, path, &[("host", host)]);
            assert_eq!(
                judged.unwrap_err(),
                Refused::Malformed,
                "{authority} {path}"
            );
        }
    }

    #[test]
    fn crumbs_of_cookies_become_one_line() {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d")];
        let parts = judged("a", "/", &crumbs).unwrap();
        let lines: Vec<_> = parts.headers.get_all(COOKIE).iter().collect();
        assert_eq!(lines, ["a=1; b=2; c=3; d"]);
    }

    #[test]
    fn trailers_have_no_pseudo_fields_and_are_few() {
        assert!(assembled(&[("x-sum", "1")]).into_trailers().is_some());
        for name in [":path", ":method", ":authority", ":scheme", ":status", "te"] {
            assert!(
                assembled(&[(name, "/")]).into_trailers().is_none(),
                "{name}"
            );
        }
        let many = vec![("x-sum", "1"); HTTP_FIELDS_MAX + 1];
        assert!(assembled(&many).into_trailers().is_none());
    }

    #[test]
    fn what_is_too_much_is_counted_and_what_is_far_too_much_not_read() {
        let long = "l".repeat(20_000);
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
        fields.extend([("host", "h"), ("x-a", &long), ("x-b", &long)]);
        let refused = assembled(&fields).into_request(true).unwrap_err();
        assert_eq!(refused, Refused::TooLarge);
        let mut assembly = assembled(&fields);
        let entry = Entry::new(b"x", Bytes::from(long));
        let wanted = (0..9).map(|_| assembly.take(entry.said.clone(), entry.size));
        assert_eq!(wanted.last(), Some(Wanted::No));
    }
}
