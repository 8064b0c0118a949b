//! How things work, as reports tell: written down where it differs from what is known, and never over what is newer.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use krater_amphora_api::{LoadBalancerId, LoadBalancerReport};
use krater_controller_core::{
    compile,
    plan::{Outcome, Settled},
    rollup,
    status::Reason,
    tree::TreeView,
};
use krater_controller_store::StoreError;
use uuid::Uuid;

use super::Reconciler;
use crate::{clock, limits::HEARSAY_AGE_MAX};

impl Reconciler {
    /// Records what is known of a load balancer that needs no step: its statuses may have changed.
    pub(super) async fn refresh(&self, view: &TreeView) -> Result<(), StoreError> {
        let id = view.tree.id();
        self.refresh_operating(view).await?;
        let Some(settled) = Settled::of(&view.observed).filter(|_| !view.is_pending()) else {
            return Ok(());
        };
        let errors = match settled.outcome {
            Outcome::InForce => self.in_force_errors(view),
            Outcome::Failed => view.observed.errors.clone(),
        };
        let as_of = self.reports_with_time(id).1;
        let store = &self.parts.known.store;
        if errors != view.observed.errors
            && store
                .put_errors(id, settled.generation, &errors, as_of)
                .await?
        {
            self.parts.known.census.note_settled(&view.tree, &errors);
        }
        Ok(())
    }

    pub(super) async fn refresh_operating(&self, view: &TreeView) -> Result<(), StoreError> {
        let id = view.tree.id();
        let places = self.parts.known.placements.places(id);
        let Some((_, amphora)) = places.first().copied() else {
            return Ok(());
        };
        let mut silent = true;
        for (_, amphora) in &places {
            silent = silent && self.parts.agents.is_surely_silent(*amphora).await?;
        }
        let (news, as_of) = if silent {
            (rollup::unserved(&view.tree), clock::now())
        } else {
            let (reports, as_of) = self.reports_with_time(id);
            (rollup::rollup(&view.tree, &reports), as_of)
        };
        // What is not news keeps its status, as long as its resource is there.
        let ids: BTreeSet<Uuid> = view.tree.facts().map(|facts| facts.id.uuid()).collect();
        let mut statuses = view.observed.operating.clone();
        statuses.retain(|resource, _| ids.contains(resource));
        statuses.extend(news);
        if statuses != view.observed.operating {
            let store = &self.parts.known.store;
            if store.put_operating(id, &statuses, as_of).await? {
                self.parts.known.census.note_operating(id, &statuses);
            } else if self.parts.known.sightings.is_freshest(amphora) {
                // Somebody whose clock is ahead wrote last: to be said again when it is later.
                let later = clock::now().checked_add(HEARSAY_AGE_MAX).ok();
                let later = later.unwrap_or_else(clock::now);
                store.make_due(&[id], later).await?;
            }
        }
        Ok(())
    }

    /// What does not work of a generation that is in force.
    pub(super) fn in_force_errors(&self, view: &TreeView) -> BTreeMap<Uuid, Reason> {
        let mut errors = rollup::listener_errors(&view.tree, &self.reports(view.tree.id()));
        errors.extend(compile::unservable(&view.tree, &self.parts.defaults));
        errors
    }

    fn reports(&self, id: LoadBalancerId) -> Vec<LoadBalancerReport> {
        self.reports_with_time(id).0
    }

    /// What is known from its amphorae, and as of when. Where nothing is known anything else that is stored is newer.
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
        let as_of = times.into_iter().min().unwrap_or(Timestamp::UNIX_EPOCH);
        (reports, as_of)
    }
}
