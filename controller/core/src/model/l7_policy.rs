//! The L7 policy (reference 10).

use alloc::string::String;
use core::fmt;

use krater_amphora_api::{L7PolicyId, ListenerId, PoolId};
use serde::{Deserialize, Serialize};

use super::{Description, Name, Tags};
use crate::limits;

/// An L7 policy as the tenant wants it. Its rules are rows of their own in the tree; its position is its place in
/// [`super::Listener::l7_policies`], so that moving one changes no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct L7Policy {
    /// Its id.
    pub id: L7PolicyId,
    /// The listener whose requests it decides.
    pub listener: ListenerId,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// `false`: as if it were not there.
    pub admin_state_up: bool,
    /// What becomes of a request that all its rules match.
    pub action: L7Action,
    /// Its tags.
    pub tags: Tags,
}

/// What becomes of a request that a policy matches. `P` is how its pool is named: by id, once there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum L7Action<P = PoolId> {
    /// It is refused with 403.
    Reject,
    /// The client is sent to a URL.
    RedirectToUrl {
        /// Where to.
        url: RedirectUrl,
        /// How it is told.
        code: RedirectCode,
    },
    /// The client is sent to a URL with the path and query of its request behind it.
    RedirectPrefix {
        /// What comes before the path.
        prefix: RedirectUrl,
        /// How it is told.
        code: RedirectCode,
    },
    /// It goes to another pool than the listener's own.
    RedirectToPool(P),
}

impl<P> L7Action<P> {
    /// Its type.
    #[must_use]
    pub const fn action_type(&self) -> L7ActionType {
        match self {
            Self::Reject => L7ActionType::Reject,
            Self::RedirectToUrl { .. } => L7ActionType::RedirectToUrl,
            Self::RedirectPrefix { .. } => L7ActionType::RedirectPrefix,
            Self::RedirectToPool(_) => L7ActionType::RedirectToPool,
        }
    }

    /// The pool it sends to.
    #[must_use]
    pub const fn pool(&self) -> Option<&P> {
        match self {
            Self::RedirectToPool(pool) => Some(pool),
            Self::Reject | Self::RedirectToUrl { .. } | Self::RedirectPrefix { .. } => None,
        }
    }

    /// The code a client is redirected with.
    #[must_use]
    pub const fn code(&self) -> Option<RedirectCode> {
        match self {
            Self::RedirectToUrl { code, .. } | Self::RedirectPrefix { code, .. } => Some(*code),
            Self::Reject | Self::RedirectToPool(_) => None,
        }
    }

    /// The same with its pool named in another way.
    ///
    /// # Errors
    /// What `name` refuses.
    pub fn try_map<Q, E>(self, name: impl FnOnce(P) -> Result<Q, E>) -> Result<L7Action<Q>, E> {
        Ok(match self {
            Self::Reject => L7Action::Reject,
            Self::RedirectToUrl { url, code } => L7Action::RedirectToUrl { url, code },
            Self::RedirectPrefix { prefix, code } => L7Action::RedirectPrefix { prefix, code },
            Self::RedirectToPool(pool) => L7Action::RedirectToPool(name(pool)?),
        })
    }
}

/// The type of an action, without its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L7ActionType {
    /// Refuse with 403.
    Reject,
    /// Send the client to a URL.
    RedirectToUrl,
    /// Send the client to a URL with its path behind it.
    RedirectPrefix,
    /// Send the request to another pool.
    RedirectToPool,
}

impl L7ActionType {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Reject,
        Self::RedirectToUrl,
        Self::RedirectPrefix,
        Self::RedirectToPool,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reject => "REJECT",
            Self::RedirectToUrl => "REDIRECT_TO_URL",
            Self::RedirectPrefix => "REDIRECT_PREFIX",
            Self::RedirectToPool => "REDIRECT_TO_POOL",
        }
    }
}

/// The status code of a redirection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectCode {
    /// 301
    MovedPermanently,
    /// 302
    #[default]
    Found,
    /// 303
    SeeOther,
    /// 307
    Temporary,
    /// 308
    Permanent,
}

impl RedirectCode {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::MovedPermanently,
        Self::Found,
        Self::SeeOther,
        Self::Temporary,
        Self::Permanent,
    ];

    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::Temporary => 307,
            Self::Permanent => 308,
        }
    }
}

/// An absolute URL of http or https with a host, in the characters a URL may have, at most 255: it can stand in a
/// header as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedirectUrl(String);

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// It is longer than [`limits::TEXT_CHARACTERS_MAX`].
    TooLong,
    /// It is no URL of http or https with a host.
    Invalid,
}

impl RedirectUrl {
    /// Takes a URL.
    ///
    /// # Errors
    /// [`UrlError`]
    pub fn parse(text: String) -> Result<Self, UrlError> {
        if text.chars().count() > limits::TEXT_CHARACTERS_MAX {
            return Err(UrlError::TooLong);
        }
        if is_url(&text) {
            Ok(Self(text))
        } else {
            Err(UrlError::Invalid)
        }
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedirectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    web && is_encoded(rest) && rest.get(..end).is_some_and(is_authority)
}

/// Whether all characters may stand in a URL (RFC 3986, 2), and what is percent-encoded is so in full.
fn is_encoded(text: &str) -> bool {
    const FORBIDDEN: &[u8] = b"\"<>\\^`{|}";
    let plain = |byte: u8| byte.is_ascii_graphic() && !FORBIDDEN.contains(&byte);
    let encoded = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.bytes().all(plain) && text.split('%').skip(1).all(encoded)
}

/// Whether `text` is a host, with a port or not, with a user before it or not (RFC 3986, 3.2).
fn is_authority(text: &str) -> bool {
    let host_and_port = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    let (host, port) = match host_and_port.strip_prefix('[') {
        Some(rest) => {
            let Some((address, rest)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<core::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest.strip_prefix(':') {
                Some(port) => (address, port),
                None if rest.is_empty() => (address, ""),
                None => return false,
            }
        }
        None => host_and_port.split_once(':').unwrap_or((host_and_port, "")),
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    !host.is_empty() && digits && (port.is_empty() || port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_url_has_a_scheme_of_the_web_and_a_host() {
        for text in [
            "http://a",
            "https://shop.example.test/path?query#part",
            "HTTPS://10.0.0.1:8443",
            "http://user:word@host:80/",
            "http://[2001:db8::1]:80/x",
            "http://[::1]",
            "http://a/%20%aF",
        ] {
            assert_eq!(RedirectUrl::parse(text.into()).unwrap().as_str(), text);
        }
        for text in [
            "",
            "shop",
            "/path",
            "//host/path",
            "ftp://host",
            "http:host",
            "http://",
            "http:///path",
            "http://?query",
            "http://:80",
            "http://user@",
            "http://host:port",
            "http://host:65536",
            "http://[::1",
            "http://[host]",
            "http://[::1]x",
            "http://a b",
            "http://a/\r\nSet-Cookie: x",
            "http://a/\u{e9}",
            "http://a/%2",
            "http://a/%zz",
            "http://a/<b>",
        ] {
            assert_eq!(
                RedirectUrl::parse(text.into()),
                Err(UrlError::Invalid),
                "{text}"
            );
        }
    }

    #[test]
    fn a_url_has_at_most_255_characters() {
        let longest = format!("http://a/{}", "b".repeat(246));
        assert!(RedirectUrl::parse(longest.clone()).is_ok());
        assert_eq!(RedirectUrl::parse(longest + "b"), Err(UrlError::TooLong));
    }
}
