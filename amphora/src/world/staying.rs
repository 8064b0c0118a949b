//! Which members of a pool are there before a change and after it.

use std::{cell::LazyCell, sync::Arc};

use hashbrown::HashMap;
use krater_amphora_api::MemberId;

use super::MemberState;
use crate::meter::MemberMeter;

/// Finds members by their ids; at once if they are where they are expected, as they nearly always are.
pub(super) fn by_id<'a>(
    members: &'a [Arc<MemberState>],
) -> impl Fn(usize, MemberId) -> Option<&'a Arc<MemberState>> {
    let elsewhere = LazyCell::new(|| -> HashMap<_, _> {
        members.iter().map(|state| (state.id, state)).collect()
    });
    move |at, id| {
        let expected = members.get(at).filter(|state| state.id == id);
        expected.or_else(|| elsewhere.get(&id).copied())
    }
}

/// The meters of members that are in `old` alone.
pub(super) fn leaving(
    old: &[Arc<MemberState>],
    new: &[Arc<MemberState>],
) -> impl Iterator<Item = Arc<MemberMeter>> {
    let stays = by_id(new);
    old.iter()
        .enumerate()
        .filter(move |(at, state)| stays(*at, state.id).is_none())
        .map(|(_, state)| Arc::clone(&state.meter))
}
