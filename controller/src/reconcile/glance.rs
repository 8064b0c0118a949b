//! Many load balancers at once, of which nearly all are as they should be: those of an amphora that is heard of for the
//! first time. To attend to each would take a lease, a dozen statements and its turn, and whoever waits for a change would
//! wait among them all.

use std::{collections::BTreeSet, sync::Arc};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    plan::{self, Actual, Desired, Settled},
    rollup,
    tree::TreeView,
};
use krater_controller_store::StoreError;

use super::{Reconciler, Urgency, lock};
use crate::{limits::GLANCE_MIN, realm};

impl Reconciler {
    /// Has load balancers looked at that are on an amphora of which there is news.
    pub(crate) fn poke_all(self: &Arc<Self>, amphora: AmphoraId, ids: Vec<LoadBalancerId>) {
        if ids.len() < GLANCE_MIN {
            self.poke_each(ids);
            return;
        }
        let reconciler = Arc::clone(self);
        realm::spawn(async move {
            // Nobody closes it.
            let _turn = reconciler.glances.acquire().await;
            let rest = match reconciler.glance(amphora, &ids).await {
                Ok(rest) => rest,
                Err(error) => {
                    reconciler.note_store_error(&error, "look at the load balancers of an amphora");
                    ids
                }
            };
            reconciler.poke_each(rest);
        });
    }

    fn poke_each(self: &Arc<Self>, ids: Vec<LoadBalancerId>) {
        for id in ids {
            self.poke(id, Urgency::Background);
        }
    }

    /// Those that have to be attended to.
    pub(super) async fn glance(
        &self,
        amphora: AmphoraId,
        ids: &[LoadBalancerId],
    ) -> Result<Vec<LoadBalancerId>, StoreError> {
        let known = &self.parts.known;
        let placed: BTreeSet<_> = known
            .store
            .carried(amphora)
            .await?
            .placed
            .into_iter()
            .collect();
        // Another controller may have placed the others anew.
        let there: Vec<_> = ids
            .iter()
            .copied()
            .filter(|id| placed.contains(id))
            .collect();
        let mut rest: BTreeSet<_> = ids.iter().copied().collect();
        for view in known.store.views_among(&there).await? {
            if self.is_at_rest(&view) {
                known.census.note(&view);
                self.parts.vault.note(&view.tree);
                let id = view.tree.id();
                lock(&self.behind).remove(&id);
                rest.remove(&id);
            }
        }
        Ok(rest.into_iter().collect())
    }

    /// Whether who attended to it would find nothing to do, and nothing to write down. In doubt it is not.
    fn is_at_rest(&self, view: &TreeView) -> bool {
        let id = view.tree.id();
        if lock(&self.due).contains(&id) || lock(&self.flights).contains_key(&id) {
            return false;
        }
        let (desired, carriers) = (Desired::of(&view.tree), self.carriers(id));
        let steering = &view.tree.load_balancer.value.steering;
        let is_ahead = carriers
            .iter()
            .any(|carrier| carrier.applied > Some(desired.generation));
        let is_silent = carriers
            .iter()
            .any(|carrier| self.parts.agents.is_silent(carrier.amphora));
        let is_to_move = steering.avoid_then.is_some()
            || carriers
                .iter()
                .any(|carrier| self.must_leave(&desired, carrier));
        let takes_turns_anew = self.takes_turns_anew(view, &carriers);
        let is_contested = self.contest(view).is_some();
        if is_ahead || is_silent || is_to_move || takes_turns_anew || is_contested {
            return false;
        }
        let actual = Actual {
            settled: Settled::of(&view.observed),
            carriers,
            strays: self.strays(id),
        };
        plan::plan(&desired, &actual).is_empty()
            && self.in_force_errors(view) == view.observed.errors
            && Self::statuses(view, rollup::rollup(&view.tree, &self.reports(id)))
                == view.observed.operating
    }
}
