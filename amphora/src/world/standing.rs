//! How a load balancer stands at the addresses at which it takes turns.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use krater_amphora_api::AnnouncementReport;
use krater_amphora_core::snapshot::Snapshot;

use super::Balancer;

/// Written by the thread that takes turns for it.
pub(crate) type Standing = Arc<ArcSwapOption<AnnouncementReport>>;

/// That of `snapshot`, which goes on from `old`; `None` if it does not take turns.
pub(super) fn follow(old: Option<&Balancer>, snapshot: &Snapshot) -> Option<Standing> {
    snapshot.announcement()?;
    let before = old.and_then(|old| old.standing.clone());
    Some(before.unwrap_or_default())
}
