//! Two that take turns at the addresses of a load balancer and do not hear each other: both would have them, and each
//! client would come to whichever its neighbours believe. Who hears both has one of them stand aside.

use jiff::Timestamp;
use krater_amphora_api::ContractVersion;
use krater_controller_core::{
    model::{Seat, Topology, Turns},
    tree::TreeView,
    turns::{self, Contest},
};
use tokio::time::{Duration, Instant};

use super::{Reconciler, lock, refresh::after};
use crate::{
    clock,
    limits::{ASIDE_LEASE, ASIDE_RENEWAL, CONTEST_HEARD_MAX, CONTEST_PATIENCE},
};

impl Reconciler {
    /// Settles who has the addresses, by what both said last. Answers when to look again.
    ///
    /// Who stands aside does so for a while only, so that nothing depends on controllers for longer: without them both
    /// have the addresses again.
    pub(super) async fn settle_contest(&self, view: &TreeView) -> Option<Timestamp> {
        let id = view.tree.id();
        let Some((turns, contest)) = self.contest(view) else {
            lock(&self.contests).remove(&id);
            return None;
        };
        let since = *lock(&self.contests).entry(id).or_insert_with(Instant::now);
        let (seat, time) = match contest {
            Contest::Both(seat) => {
                // For a moment it is so with each change of turns, and for longer as far as is heard of one that hangs.
                let age = since.elapsed();
                let known = &self.parts.known.sightings;
                let mut both = [turns.first.0, turns.second.0].into_iter();
                let say_so = both.all(|amphora| known.spoke_within(age, amphora, clock::now()));
                if age < CONTEST_PATIENCE || !say_so {
                    return Some(after(CONTEST_PATIENCE));
                }
                tracing::warn!(
                    lb = %id, aside = %turns.amphora(seat),
                    "two amphorae have the addresses of a load balancer and do not hear each other: one is to stand aside"
                );
                (seat, ASIDE_LEASE)
            }
            Contest::Aside(seat) => (seat, ASIDE_LEASE),
            Contest::Over(seat) => (seat, Duration::ZERO),
        };
        let amphora = turns.amphora(seat);
        if let Err(error) = self.parts.agents.stand_aside(amphora, id, time).await {
            tracing::warn!(lb = %id, %amphora, %error, "an amphora cannot be told to stand aside");
        }
        Some(after(ASIDE_RENEWAL))
    }

    /// Whether who has the addresses is to be settled, by what was heard lately.
    pub(super) fn contest(&self, view: &TreeView) -> Option<(Turns, Contest)> {
        let steering = &view.tree.load_balancer.value.steering;
        let turns = steering
            .turns
            .filter(|_| steering.topology == Topology::ActiveStandby)?;
        let known = &self.parts.known.sightings;
        let knows_how = |amphora| {
            let info = known.portrait(amphora).info;
            info.is_none_or(|info| info.contract >= ContractVersion::STANDS_ASIDE)
        };
        // An earlier release does not know how, and says of itself neither since when nor whether.
        if !knows_how(turns.first.0) || !knows_how(turns.second.0) {
            return None;
        }
        let said = |seat: Seat| {
            let amphora = turns.amphora(seat);
            // Nobody stands aside for one that was not heard lately, long before that is given up.
            let is_heard = known.spoke_within(CONTEST_HEARD_MAX, amphora, clock::now());
            is_heard
                .then(|| known.report(amphora, view.tree.id()))
                .flatten()
        };
        let (first, second) = (said(Seat::First), said(Seat::Second));
        Some((turns, turns::contest(first.as_ref(), second.as_ref())?))
    }
}
