//! Cookies as they stand in lines of `Cookie` and `Set-Cookie` (RFC 6265), and the one that names members.
//!
//! A line of `Cookie` is cut at each semicolon, as user agents write it: quotes in it have no meaning, and what is no
//! pair is passed over. Nothing is refused; what stays of a line stays byte for byte.

use alloc::{string::String, vec::Vec};
use core::fmt::Write;

use krater_amphora_api::MemberId;

use crate::limits::COOKIE_MEMBERS_MAX;

/// The cookie that tells which member a client came to (reference 19.4).
pub const OWN: &str = "SRV";

/// The pairs of a line of `Cookie`: name and value, without the blanks around them.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').filter_map(pair)
}

/// The pair that a line of `Set-Cookie` begins with.
#[must_use]
pub fn set_pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    line.split(|byte| *byte == b';').next().and_then(pair)
}

/// What stays of a line of `Cookie` without the cookies of that name; `None` if it has none of them.
#[must_use]
pub fn without(line: &[u8], name: &str) -> Option<Vec<u8>> {
    let named = |part: &[u8]| pair(part).is_some_and(|(key, _)| key == name.as_bytes());
    let parts = || line.split(|byte| *byte == b';');
    if !parts().any(named) {
        return None;
    }
    let mut rest = Vec::with_capacity(line.len());
    for part in parts().filter(|part| !named(part)) {
        if rest.is_empty() {
            rest.extend_from_slice(part.trim_ascii_start());
        } else {
            rest.push(b';');
            rest.extend_from_slice(part);
        }
    }
    if rest.trim_ascii().is_empty() {
        rest.clear();
    }
    Some(rest)
}

/// Members that a client came to, one for each of its pools: the value of the cookie [`OWN`].
///
/// A listener may send to several pools that keep their clients by this cookie. There is only one for all of them, so it
/// names a member of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(Vec<MemberId>);

impl Trail {
    /// Adds the members that a value names. What names none is passed over, and so is what is beyond
    /// [`COOKIE_MEMBERS_MAX`].
    pub fn read(&mut self, value: &[u8]) {
        for text in value.split(|byte| *byte == b'.') {
            let id = core::str::from_utf8(text).ok();
            if self.0.len() < COOKIE_MEMBERS_MAX
                && let Some(id) = id.and_then(|text| text.parse().ok())
                && !self.0.contains(&id)
            {
                self.0.push(id);
            }
        }
    }

    /// The members, in the order of the value.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.0.iter().copied()
    }

    /// The value after a client came to `member`: that one first, then those of other pools.
    #[must_use]
    pub fn followed_by(&self, member: MemberId, other: impl Fn(MemberId) -> bool) -> Self {
        let kept = self.members().filter(|id| *id != member && other(*id));
        Self(
            core::iter::once(member)
                .chain(kept)
                .take(COOKIE_MEMBERS_MAX)
                .collect(),
        )
    }

    /// The line of `Set-Cookie` that has a client keep it: for as long as its browser runs, and out of reach of scripts.
    /// Not bound to TLS, since a plain listener may send to the same pool, and it gives nothing away.
    #[must_use]
    pub fn set_cookie(&self) -> String {
        let mut line = String::with_capacity(64);
        line.push_str(OWN);
        for (position, id) in self.members().enumerate() {
            let before = if position == 0 { '=' } else { '.' };
            // Writing to a string cannot fail.
            let _ = write!(line, "{before}{id}");
        }
        line.push_str("; Path=/; HttpOnly");
        line
    }
}

fn pair(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = part.iter().position(|byte| *byte == b'=')?;
    let (name, rest) = part.split_at(equals);
    Some((
        name.trim_ascii(),
        rest.get(1..).unwrap_or_default().trim_ascii(),
    ))
}

#[cfg(test)]
mod tests;
