//! Clients that are kept with their members by cookies (reference 19.4): what a request says of where it belongs, and
//! what the answer has the client say from then on.

use http::{
    HeaderMap, HeaderValue,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE},
};
use krater_amphora_api::MemberId;
use krater_amphora_core::cookie::{self, Trail};

use crate::world::{AppCookie, ListenerState, PoolState};

/// How the client of one request is kept, if at all.
pub(super) enum Kept<'a> {
    /// Not by a cookie.
    No,
    /// By a cookie of ours.
    Own {
        /// The member of this pool that it names, and its position.
        named: Option<(MemberId, usize)>,
        trail: Trail,
        state: &'a ListenerState,
    },
    /// By a cookie of the members.
    App {
        cookie: &'a AppCookie,
        /// A value that was learned, and the position of the member it was learned from.
        known: Option<(Vec<u8>, usize)>,
    },
}

impl<'a> Kept<'a> {
    /// What a request to `pool` says; a cookie of ours is taken out of it.
    pub(super) fn read(
        headers: &mut HeaderMap,
        pool: &'a PoolState,
        state: &'a ListenerState,
    ) -> Self {
        if let Some(positions) = pool.named_members() {
            let trail = take_own(headers);
            let find = |id: MemberId| Some((id, *positions.get(&id)?));
            let named = trail.members().find_map(find);
            return Self::Own {
                named,
                trail,
                state,
            };
        }
        let Some(cookie) = pool.app_cookie() else {
            return Self::No;
        };
        let name = cookie.name().as_bytes();
        let known = headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|line| cookie::pairs(line.as_bytes()))
            .filter(|(key, _)| *key == name)
            .find_map(|(_, value)| Some((value.to_vec(), cookie.find(value)?)));
        Self::App { cookie, known }
    }

    /// The position of the member that the client belongs to.
    pub(super) fn wanted(&self) -> Option<usize> {
        match self {
            Self::No => None,
            Self::Own { named, .. } => named.map(|(_, position)| position),
            Self::App { known, .. } => known.as_ref().map(|(_, position)| *position),
        }
    }

    /// Remembers, or has the client remember, that `member` of `pool` gave this answer.
    pub(super) fn answered_by(self, member: MemberId, pool: &PoolState, headers: &mut HeaderMap) {
        match self {
            Self::No => {}
            Self::Own {
                named,
                trail,
                state,
            } => {
                drop_own(headers);
                if named.is_some_and(|(named, _)| named == member) {
                    return;
                }
                let trail = trail.followed_by(member, |id| is_of_another(id, pool, state));
                if let Ok(line) = HeaderValue::try_from(trail.set_cookie()) {
                    headers.append(SET_COOKIE, line);
                    // What belongs to one client must not be given to another one by a cache.
                    headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
                }
            }
            Self::App { cookie, known } => {
                let name = cookie.name().as_bytes();
                let set = headers.get_all(SET_COOKIE);
                let set = set
                    .iter()
                    .filter_map(|line| cookie::set_pair(line.as_bytes()));
                for (_, value) in set.filter(|(key, value)| *key == name && !value.is_empty()) {
                    cookie.learn(value, member);
                }
                // Its member could not serve it: from now on it belongs to who did.
                if let Some((value, position)) = known
                    && pool.members.get(position).map(|known| known.id) != Some(member)
                {
                    cookie.learn(&value, member);
                }
            }
        }
    }
}

/// Whether a member is of another pool of the listener that keeps its clients by a cookie of ours.
fn is_of_another(id: MemberId, pool: &PoolState, state: &ListenerState) -> bool {
    let pools = state.policy_pools.values().chain(&state.pool);
    pools
        .filter(|other| other.pool.id != pool.pool.id)
        .filter_map(|other| other.named_members())
        .any(|members| members.contains_key(&id))
}

/// Takes our cookie out of a request. A line that holds nothing else goes with it.
fn take_own(headers: &mut HeaderMap) -> Trail {
    let mut trail = Trail::default();
    let has_own = |line: &HeaderValue| {
        cookie::pairs(line.as_bytes()).any(|(name, _)| name == cookie::OWN.as_bytes())
    };
    if !headers.get_all(COOKIE).iter().any(has_own) {
        return trail;
    }
    let mut kept = Vec::new();
    for line in headers.get_all(COOKIE) {
        let pairs = cookie::pairs(line.as_bytes());
        for (_, value) in pairs.filter(|(name, _)| *name == cookie::OWN.as_bytes()) {
            trail.read(value);
        }
        match cookie::without(line.as_bytes(), cookie::OWN) {
            None => kept.push(line.clone()),
            Some(rest) if rest.is_empty() => {}
            // Part of a value that was valid is valid.
            Some(rest) => kept.extend(HeaderValue::try_from(rest)),
        }
    }
    replace(headers, COOKIE, kept);
    trail
}

/// Takes a cookie of our name that the member sets out of its answer: the client could not tell whose it is.
fn drop_own(headers: &mut HeaderMap) {
    let is_own = |line: &&HeaderValue| {
        cookie::set_pair(line.as_bytes()).is_some_and(|(name, _)| name == cookie::OWN.as_bytes())
    };
    let set = headers.get_all(SET_COOKIE);
    if set.iter().any(|line| is_own(&line)) {
        let kept = set.iter().filter(|line| !is_own(line)).cloned().collect();
        replace(headers, SET_COOKIE, kept);
    }
}

fn replace(headers: &mut HeaderMap, name: http::HeaderName, lines: Vec<HeaderValue>) {
    headers.remove(&name);
    for line in lines {
        headers.append(&name, line);
    }
}
