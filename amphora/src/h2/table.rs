//! Fields as the tables of HPACK keep them, read once however often they are named (RFC 7541 section 2.3).

use std::{collections::VecDeque, sync::LazyLock};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};

/// The name of a field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Field(HeaderName),
    /// None that a request may have (RFC 9113 sections 8.2 and 8.3).
    Wrong,
}

/// What a field of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Method(Method),
    /// The scheme is one of HTTP.
    Scheme,
    Authority(HeaderValue),
    Path(PathAndQuery),
    Field(HeaderName, HeaderValue),
    /// What none may say.
    Wrong,
}

/// A field.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    name: Name,
    pub(super) said: Said,
    /// How long its name is.
    name_bytes: usize,
    /// What it counts in a table, and in the size of a head.
    pub(super) size: usize,
}

impl Name {
    fn parse(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            // Nothing else begins like that, and names are tokens. The quote is none, whatever the parser says.
            [b':', ..] | b"keep-alive" | b"proxy-connection" => Self::Wrong,
            name if name.contains(&b'"') => Self::Wrong,
            name => match HeaderName::from_lowercase(name) {
                // Of a connection of HTTP/1 (RFC 9113 section 8.2.2).
                Ok(CONNECTION | TRANSFER_ENCODING | UPGRADE) | Err(_) => Self::Wrong,
                Ok(name) => Self::Field(name),
            },
        }
    }

    fn say(&self, value: Bytes) -> Said {
        let field = |value: Bytes| {
            let is_trimmed = value.trim_ascii().len() == value.len();
            let value = HeaderValue::from_maybe_shared(value).ok();
            value.filter(|_| is_trimmed)
        };
        let said = match self {
            Self::Method => Method::from_bytes(&value).ok().map(Said::Method),
            // TLS may end somewhere ahead of us, so either is as good.
            Self::Scheme => matches!(&value[..], b"http" | b"https").then_some(Said::Scheme),
            // No user belongs in there, and nobody is no authority (RFC 9113 section 8.3.1).
            Self::Authority if value.is_empty() || value.contains(&b'@') => None,
            Self::Authority => field(value).map(Said::Authority),
            // Empty is none, and what begins otherwise belongs to no origin (RFC 9113 section 8.3.1).
            Self::Path if value.first() == Some(&b'/') || &value[..] == b"*" => {
                PathAndQuery::from_maybe_shared(value).ok().map(Said::Path)
            }
            Self::Field(name) if *name == TE && &value[..] != b"trailers" => None,
            Self::Field(name) => field(value).map(|value| Said::Field(name.clone(), value)),
            Self::Path | Self::Wrong => None,
        };
        said.unwrap_or(Said::Wrong)
    }
}

impl Entry {
    /// A field with a name that was not heard before.
    pub(super) fn new(name: &[u8], value: Bytes) -> Self {
        Self::with(Name::parse(name), name.len(), value)
    }

    /// A field with the name of this one.
    pub(super) fn alike(&self, value: Bytes) -> Self {
        Self::with(self.name.clone(), self.name_bytes, value)
    }

    fn with(name: Name, name_bytes: usize, value: Bytes) -> Self {
        let size = name_bytes + value.len() + ENTRY_BYTES;
        let said = name.say(value);
        Self {
            name,
            said,
            name_bytes,
            size,
        }
    }
}

/// Fields that a client has named, the latest first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            size_max: TABLE_BYTES_MAX,
        }
    }

    /// The field of that number, of which the standard has named the first.
    pub(super) fn at(&self, index: usize) -> Option<&Entry> {
        let at = index.checked_sub(1)?;
        let known = STATIC.get(at);
        known.or_else(|| self.entries.get(at - STATIC.len()))
    }

    /// Adds a field. If it is larger than all there is room for, nothing is left (RFC 7541 section 4.4).
    pub(super) fn add(&mut self, entry: Entry) {
        if entry.size > self.size_max {
            self.entries.clear();
            self.size = 0;
            return;
        }
        self.make_room(self.size_max - entry.size);
        self.size += entry.size;
        self.entries.push_front(entry);
    }

    /// Changes how much there is room for. `None` if that is more than we allow.
    pub(super) fn resize(&mut self, size_max: usize) -> Option<()> {
        if size_max > TABLE_BYTES_MAX {
            return None;
        }
        self.size_max = size_max;
        self.make_room(size_max);
        Some(())
    }

    fn make_room(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size;
        }
    }
}

/// What each entry counts beyond its name and value (RFC 7541 section 4.1).
const ENTRY_BYTES: usize = 32;
/// What clients assume before they are told otherwise (RFC 9113 section 6.5.2); we never tell.
const TABLE_BYTES_MAX: usize = 4_096;

static STATIC: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let known = KNOWN.iter();
    known
        .map(|(name, value)| Entry::new(name.as_bytes(), Bytes::from_static(value.as_bytes())))
        .collect()
});

/// RFC 7541 appendix A.
#[rustfmt::skip]
pub(super) const KNOWN: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];
