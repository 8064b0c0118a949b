//! What becomes of a session when its member or its pool changed.

use crate::snapshot::{Member, Pool};

/// How a session stands to its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Keeps,
    /// It goes on until it is silent or the drain timeout is over: its member takes no new ones.
    Drains,
    /// Its next datagram goes to another member if there is one: its own is down.
    Leaves,
}

impl Standing {
    /// Of a session in `pool`, whose member is listed there as `member` (`None`: no more), and counts as up or not.
    #[must_use]
    pub const fn of(pool: Option<&Pool>, member: Option<&Member>, is_up: bool) -> Self {
        match (pool, member) {
            _ if !is_up => Self::Leaves,
            (Some(pool), Some(member)) if pool.enabled && member.enabled && member.weight > 0 => {
                Self::Keeps
            }
            _ => Self::Drains,
        }
    }
}
