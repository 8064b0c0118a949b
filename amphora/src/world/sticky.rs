//! What a pool knows of the clients it keeps with their members.

use std::net::IpAddr;

use hashbrown::HashMap;
use krater_amphora_api::MemberId;
use krater_amphora_core::{
    affinity::{Affinity, Handles, Key, Sessions},
    snapshot::{Persistence, Pool},
};

use super::PoolState;
use crate::clock::Clock;

mod learned;

pub(crate) use learned::Learned;

/// The clients of one pool; shared by all workers, and by all snapshots of the pool for as long as it keeps clients.
#[derive(Clone, Debug)]
pub(super) enum Sticky {
    /// They are known by their address.
    Source {
        affinity: Affinity,
        handles: Handles,
        clock: Clock,
    },
    /// They say themselves where they belong: the position of each member.
    OwnCookie(HashMap<MemberId, usize>),
    /// They are known by a cookie of their members.
    AppCookie(AppCookie),
}

/// The sessions that members gave their clients cookies for.
#[derive(Clone, Debug)]
pub struct AppCookie {
    name: String,
    sessions: Sessions,
    handles: Handles,
    clock: Clock,
}

impl Sticky {
    /// What `pool` needs, with what `old` remembers; `None` if it keeps nobody.
    pub(super) fn follow(old: Option<&Self>, pool: &Pool) -> Option<Self> {
        Some(match pool.persistence.as_ref()? {
            Persistence::Source(settings) => {
                let (affinity, handles, clock) = match old {
                    Some(Self::Source {
                        affinity,
                        handles,
                        clock,
                    }) => (affinity.under(*settings), handles.clone(), *clock),
                    _ => (None, Handles::default(), Clock::start()),
                };
                let affinity =
                    affinity.unwrap_or_else(|| Affinity::new(*settings, key(), clock.now()));
                Self::Source {
                    handles: handles.follow(&pool.members, |handle| affinity.forget(handle)),
                    affinity,
                    clock,
                }
            }
            Persistence::OwnCookie => {
                let members = pool.members.iter().enumerate();
                Self::OwnCookie(members.map(|(at, member)| (member.id, at)).collect())
            }
            Persistence::AppCookie(name) => Self::AppCookie(match old {
                Some(Self::AppCookie(old)) if old.name == *name => old.follow(pool),
                _ => AppCookie::new(name).follow(pool),
            }),
            _ => return None,
        })
    }

    /// The position to which `client` goes if it is known by its address: where it came before as long as it `may` go
    /// there, else what is `chosen`.
    pub(super) fn choose(
        &self,
        client: IpAddr,
        may: impl Fn(usize) -> bool,
        chosen: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let Self::Source {
            affinity,
            handles,
            clock,
        } = self
        else {
            return chosen();
        };
        let handle = affinity.choose(
            client,
            clock.now(),
            |handle| handles.position(handle).is_some_and(&may),
            || handles.of(chosen()?),
        )?;
        handles.position(handle)
    }
}

impl AppCookie {
    fn new(name: &str) -> Self {
        let clock = Clock::start();
        Self {
            name: name.to_owned(),
            sessions: Sessions::new(key(), clock.now()),
            handles: Handles::default(),
            clock,
        }
    }

    fn follow(&self, pool: &Pool) -> Self {
        let forget = |handle| self.sessions.forget(handle);
        Self {
            handles: self.handles.follow(&pool.members, forget),
            ..self.clone()
        }
    }

    /// The name of the cookie.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The position of the member that the session of this value is with, if it is known and the member has not left.
    pub(crate) fn find(&self, value: &[u8]) -> Option<usize> {
        let handle = self.sessions.find(value, self.clock.now())?;
        self.handles.position(handle)
    }

    /// Notes that the session of this value is with that member.
    pub(crate) fn learn(&self, value: &[u8], member: MemberId) {
        if let Some(handle) = self.handles.of_member(member) {
            self.sessions.learn(value, handle, self.clock.now());
        }
    }
}

/// A key of its own.
fn key() -> Key {
    Key(rand::random())
}

impl PoolState {
    /// The cookie by which members know their clients, if the pool goes by it.
    pub(crate) const fn app_cookie(&self) -> Option<&AppCookie> {
        match &self.sticky {
            Some(Sticky::AppCookie(sessions)) => Some(sessions),
            _ => None,
        }
    }

    /// The position of each member, if the pool keeps its clients by a cookie of ours that names it.
    pub(crate) const fn named_members(&self) -> Option<&HashMap<MemberId, usize>> {
        match &self.sticky {
            Some(Sticky::OwnCookie(positions)) => Some(positions),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
