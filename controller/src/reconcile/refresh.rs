//! How things work, as reports tell: written down where it differs from what is known, and never over what is newer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use krater_amphora_api::{LoadBalancerId, LoadBalancerReport};
use krater_controller_core::{
    compile,
    plan::{Outcome, Settled},
    rollup,
    status::{OperatingStatus, Reason},
    tree::TreeView,
};
use krater_controller_store::{Kept, StoreError};
use uuid::Uuid;

use super::{Reconciler, lock};
use crate::{
    clock,
    limits::{CONTEST_HEARD_MAX, HEARSAY_AGE_MAX, SILENT_LOOK_INTERVAL},
};

impl Reconciler {
    /// Looks at a load balancer that needs no step: its statuses may have changed. If it was due it is no more, unless
    /// there is reason to look again.
    pub(super) async fn look(&self, view: &TreeView) -> Result<(), StoreError> {
        let id = view.tree.id();
        self.hear_both(view).await?;
        let contest = self.settle_contest(view).await;
        let again = self.refresh(view).await?;
        let again = again.into_iter().chain(contest).min();
        let was_due = lock(&self.due).remove(&id);
        let store = &self.parts.known.store;
        if was_due && self.knows_best(id) {
            store.note_looked_at(id, clock::now(), again).await
        } else if let Some(again) = again {
            store.make_due(&[id], again).await
        } else {
            Ok(())
        }
    }

    /// Of two that take turns each may report to another controller, and how the load balancer works neither of these would
    /// know. The one that speaks elsewhere is sent what it has: its answer says how that works.
    async fn hear_both(&self, view: &TreeView) -> Result<(), StoreError> {
        let id = view.tree.id();
        let places = self.parts.known.placements.places(id);
        if places.len() < 2 {
            return Ok(());
        }
        let is_contested = lock(&self.contests).contains_key(&id);
        for (_, amphora) in places {
            let (sightings, now) = (&self.parts.known.sightings, clock::now());
            let is_heard = sightings.is_freshest(amphora, now)
                && (!is_contested || sightings.spoke_within(CONTEST_HEARD_MAX, amphora, now));
            if !is_heard && !self.parts.agents.is_silent(amphora) {
                // If that fails what it said before has to do, as with any that does not answer.
                self.push(view, amphora).await?;
                lock(&self.behind).remove(&id);
            }
        }
        Ok(())
    }

    /// Records what is known of a load balancer; answers when to do so again.
    async fn refresh(&self, view: &TreeView) -> Result<Option<Timestamp>, StoreError> {
        let id = view.tree.id();
        let again = self.refresh_operating(view).await?;
        let Some(settled) = Settled::of(&view.observed).filter(|_| !view.is_pending()) else {
            return Ok(again);
        };
        let errors = match settled.outcome {
            Outcome::InForce => self.in_force_errors(view),
            Outcome::Failed => view.observed.errors.clone(),
        };
        let as_of = self.reports_with_time(id).1;
        let store = &self.parts.known.store;
        if errors != view.observed.errors
            && store
                .put_errors(id, settled.generation, &errors, as_of, clock::now())
                .await?
        {
            self.parts.known.census.note_settled(&view.tree, &errors);
            let is_disputable = self.is_disputable();
            return Ok(again.or_else(|| is_disputable.then(|| after(HEARSAY_AGE_MAX))));
        }
        Ok(again)
    }

    /// [`Reconciler::refresh_operating`], and once more when it says so.
    pub(super) async fn refresh_operating_and_again(
        &self,
        view: &TreeView,
    ) -> Result<(), StoreError> {
        if let Some(again) = self.refresh_operating(view).await? {
            let store = &self.parts.known.store;
            store.make_due(&[view.tree.id()], again).await?;
        }
        Ok(())
    }

    /// Records how a load balancer works, if that has changed; answers when to do so again.
    pub(super) async fn refresh_operating(
        &self,
        view: &TreeView,
    ) -> Result<Option<Timestamp>, StoreError> {
        let id = view.tree.id();
        let places = self.parts.known.placements.places(id);
        let Some((_, amphora)) = places.first().copied() else {
            return Ok(None);
        };
        let mut is_silent = true;
        for (_, amphora) in &places {
            is_silent = is_silent && self.parts.agents.is_surely_silent(*amphora).await?;
        }
        let now = clock::now();
        let (news, as_of) = if is_silent {
            (rollup::unserved(&view.tree), now)
        } else {
            let (reports, as_of) = self.reports_with_time(id);
            (rollup::rollup(&view.tree, &reports), as_of)
        };
        let statuses = Self::statuses(view, news);
        if statuses == view.observed.operating {
            // Whoever hears of it now may have heard of it all the time, or believe a clock that was wrong.
            let is_in_doubt = is_silent && self.is_disputable();
            return Ok(is_in_doubt.then(|| after(SILENT_LOOK_INTERVAL)));
        }
        let known = &self.parts.known;
        let put = known.store.put_operating(id, &statuses, as_of, now).await?;
        if put != Kept::Stale {
            known.census.note_operating(id, &statuses);
        }
        let is_to_be_looked_at_again = match put {
            // It may be heard of again before anybody else has noticed that it was silent, and nobody would look again.
            Kept::Done => is_silent || self.is_disputable(),
            // Reports may go elsewhere since: whoever gets them sees nothing new in them.
            Kept::OverWrongClock => true,
            // Somebody whose clock is ahead wrote last: to be said again when it is later. Or what is known was heard by a
            // clock that was: to be said once it is heard again, since that will be no news.
            Kept::Stale => {
                let is_undated = known.sightings.is_undated(amphora, now);
                known.sightings.is_freshest(amphora, now)
                    || (is_undated && known.sightings.report(amphora, id).is_some())
            }
        };
        Ok(is_to_be_looked_at_again.then(|| after(HEARSAY_AGE_MAX)))
    }

    /// All operating statuses, given what is known of some: what is not news keeps its status, as long as its resource is
    /// there.
    pub(super) fn statuses(
        view: &TreeView,
        news: BTreeMap<Uuid, OperatingStatus>,
    ) -> BTreeMap<Uuid, OperatingStatus> {
        let ids: BTreeSet<Uuid> = view.tree.facts().map(|facts| facts.id.uuid()).collect();
        let mut statuses = view.observed.operating.clone();
        statuses.retain(|resource, _| ids.contains(resource));
        statuses.extend(news);
        statuses
    }

    /// Whether another controller may know better than what was just written down: reports overtake each other on their
    /// way to different controllers, and who gets the next one sees nothing new in it.
    fn is_disputable(&self) -> bool {
        self.parts.known.neighbours.may_be()
    }

    /// Whether no other controller can know more of how a load balancer works.
    pub(super) fn knows_best(&self, id: LoadBalancerId) -> bool {
        let (sightings, now) = (&self.parts.known.sightings, clock::now());
        let places = self.parts.known.placements.places(id);
        places.into_iter().all(|(_, amphora)| {
            let is_informed =
                sightings.is_freshest(amphora, now) && sightings.report(amphora, id).is_some();
            is_informed || self.parts.agents.is_silent(amphora)
        })
    }

    /// What does not work of a generation that is in force.
    pub(super) fn in_force_errors(&self, view: &TreeView) -> BTreeMap<Uuid, Reason> {
        let mut errors = rollup::listener_errors(&view.tree, &self.reports(view.tree.id()));
        errors.extend(compile::unservable(&view.tree, &self.parts.defaults));
        errors
    }

    pub(super) fn reports(&self, id: LoadBalancerId) -> Vec<LoadBalancerReport> {
        self.reports_with_time(id).0
    }

    /// What is known from its amphorae, and as of when. Where nothing is known anything else that is stored is newer;
    /// so it is where it was said when the clock was ahead, which may be long ago.
    /// What one said that is silent now nobody knows any more, as long as another one is there.
    fn reports_with_time(&self, id: LoadBalancerId) -> (Vec<LoadBalancerReport>, Timestamp) {
        let places = self.parts.known.placements.places(id);
        let is_alone = places.len() == 1;
        let heard = places
            .into_iter()
            .filter(|(_, amphora)| is_alone || !self.parts.agents.is_silent(*amphora));
        let known = heard
            .filter_map(|(_, amphora)| self.parts.known.sightings.report_with_time(amphora, id));
        let (reports, times): (Vec<_>, Vec<_>) = known.unzip();
        let now = clock::now();
        let as_of = times.iter().copied().min();
        let as_of = as_of.filter(|_| times.iter().all(|at| *at <= now));
        let as_of = as_of.unwrap_or(Timestamp::UNIX_EPOCH);
        (reports, as_of)
    }
}

pub(super) fn after(time: Duration) -> Timestamp {
    let now = clock::now();
    now.checked_add(time).unwrap_or(now)
}
