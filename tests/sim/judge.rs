//! What must hold at every moment, as far as amphorae and the database show it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use krater_amphora_api::{AmphoraId, BootId, Generation, LoadBalancerId, SnapshotSpec};
use krater_controller_core::{
    model::Seat,
    plan::{Intent, Outcome, Settled},
    query::TreeFilter,
    quota::{Counted, Growth},
    tree::TreeView,
};
use krater_controller_store::Store;

use crate::{pairs::Pairs, trace::Trace};

/// Notes what happens, and what should not have.
pub(crate) struct Judge {
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    findings: Vec<String>,
    /// The newest generation that a run of an amphora had in force.
    in_force: BTreeMap<(BootId, LoadBalancerId), Generation>,
    /// The newest that any had.
    ever: BTreeMap<(AmphoraId, LoadBalancerId), Generation>,
    /// The newest on the disk of an amphora, and whether the disk may have lost it.
    kept: BTreeMap<(AmphoraId, LoadBalancerId), Generation>,
    doubted: BTreeMap<AmphoraId, bool>,
    /// What was sent of each generation; to one alone, if it says how that one takes turns.
    specs: BTreeMap<(LoadBalancerId, Generation, Option<AmphoraId>), String>,
    /// The newest generation in the database, and the newest that settled.
    stored: BTreeMap<LoadBalancerId, Generation>,
    settled: BTreeMap<LoadBalancerId, Generation>,
    pairs: Pairs,
}

impl Judge {
    pub(crate) fn new(trace: Arc<Trace>) -> Arc<Self> {
        Arc::new(Self {
            trace,
            inner: Mutex::default(),
        })
    }

    /// Something is not as it should be.
    pub(crate) fn find(&self, what: String) {
        self.trace.note(format_args!("FOUND {what}"));
        self.inner().findings.push(what);
    }

    pub(crate) fn findings(&self) -> Vec<String> {
        self.inner().findings.clone()
    }

    /// A process of an amphora begins with what it kept.
    pub(crate) fn note_start(
        &self,
        amphora: AmphoraId,
        found: &BTreeMap<LoadBalancerId, Generation>,
    ) {
        let mut lost = Vec::new();
        {
            let mut inner = self.inner();
            let doubted = inner.doubted.remove(&amphora).is_some();
            let all = (amphora, LoadBalancerId::new(uuid::Uuid::nil()))
                ..=(amphora, LoadBalancerId::new(uuid::Uuid::max()));
            let kept: Vec<_> = inner
                .kept
                .range(all)
                .map(|((_, id), generation)| (*id, *generation))
                .collect();
            if !doubted {
                for (id, generation) in &kept {
                    if found.get(id) != Some(generation) {
                        lost.push(format!(
                            "amphora {amphora} kept {id} at {generation} and starts with {:?}",
                            found.get(id)
                        ));
                    }
                }
            }
            for (id, _) in kept {
                inner.kept.remove(&(amphora, id));
                if !found.contains_key(&id) {
                    inner.pairs.note_lost(id);
                }
            }
            for (id, generation) in found {
                inner.kept.insert((amphora, *id), *generation);
                let ever = inner.ever.entry((amphora, *id)).or_insert(*generation);
                *ever = (*ever).max(*generation);
            }
        }
        lost.into_iter().for_each(|what| self.find(what));
    }

    /// The disk of an amphora may have lost something.
    pub(crate) fn note_doubt(&self, amphora: AmphoraId) {
        self.inner().doubted.insert(amphora, true);
    }

    pub(crate) fn note_gone(&self, amphora: AmphoraId) {
        let mut inner = self.inner();
        let kept = inner.kept.keys().filter(|(of, _)| *of == amphora);
        for (_, id) in kept.copied().collect::<Vec<_>>() {
            inner.discard(amphora, id);
        }
    }

    /// A spec arrives: of one generation there is one spec, whoever sends it, but for what depends on the moment: whether
    /// it comes from elsewhere, and where the other amphora can be told of sessions.
    pub(crate) fn note_push(&self, to: AmphoraId, id: LoadBalancerId, spec: &SnapshotSpec) {
        let spec = SnapshotSpec {
            takes_over: false,
            session_peers: Vec::new(),
            ..spec.clone()
        };
        let text = serde_json::to_string(&spec).unwrap();
        let key = (id, spec.generation, spec.announcement.as_ref().map(|_| to));
        let other = {
            let mut inner = self.inner();
            let before = inner.specs.entry(key).or_insert_with(|| text.clone());
            (*before != text).then(|| before.clone())
        };
        if let Some(other) = other {
            self.find(format!(
                "two specs of {id} are of generation {}: {other} and {text}",
                spec.generation
            ));
        }
    }

    /// A spec is on the disk of an amphora.
    pub(crate) fn note_kept(&self, amphora: AmphoraId, id: LoadBalancerId, generation: Generation) {
        self.inner().kept.insert((amphora, id), generation);
    }

    /// It is not any more.
    pub(crate) fn note_discarded(&self, amphora: AmphoraId, id: LoadBalancerId) {
        self.inner().discard(amphora, id);
    }

    /// A spec is in force (I8).
    pub(crate) fn note_applied(
        &self,
        amphora: AmphoraId,
        boot: BootId,
        id: LoadBalancerId,
        generation: Generation,
    ) {
        let before = {
            let mut inner = self.inner();
            let ever = inner.ever.entry((amphora, id)).or_insert(generation);
            *ever = (*ever).max(generation);
            inner.in_force.insert((boot, id), generation)
        };
        if let Some(before) = before.filter(|before| *before > generation) {
            self.find(format!(
                "I8: amphora {amphora} went from generation {before} of {id} back to {generation}"
            ));
        }
    }

    /// Looks at all that is stored.
    pub(crate) async fn look(&self, store: &Store, limits: &Growth) {
        let Ok(views) = store.views(&TreeFilter::default()).await else {
            return self.find("the database cannot be read".to_owned());
        };
        let Ok(placements) = store.placements().await else {
            return self.find("the database cannot be read".to_owned());
        };
        let mut rows: BTreeMap<String, Growth> = BTreeMap::new();
        for view in &views {
            let id = view.tree.id();
            let carrier = placements.iter().find(|(placed, _)| *placed == id);
            let carrier = carrier.map(|(_, placement)| placement.amphora);
            let places = placements.iter().filter(|(placed, _)| *placed == id);
            let places = places
                .map(|(_, placement)| (placement.seat, placement.amphora))
                .collect();
            let found = self.inner().check(view, carrier, &places);
            found.into_iter().for_each(|what| self.find(what));
            let staying = Growth::staying(&view.tree);
            let counted = rows.entry(view.tree.project().to_string()).or_default();
            *counted = Growth::of(|kind| counted.get(kind) + staying.get(kind));
        }
        for (project, rows) in rows {
            for kind in Counted::ALL {
                if rows.get(kind) > limits.get(kind) {
                    self.find(format!(
                        "project {project} has {} of {kind:?}, and may have {}",
                        rows.get(kind),
                        limits.get(kind)
                    ));
                }
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    /// It is not on the disk of an amphora any more.
    fn discard(&mut self, amphora: AmphoraId, id: LoadBalancerId) {
        self.kept.remove(&(amphora, id));
        if !self.kept.keys().any(|(_, other)| *other == id) {
            self.pairs.note_bare(id, amphora);
        }
    }

    /// One load balancer as it is stored: what cannot be.
    fn check(
        &mut self,
        view: &TreeView,
        carrier: Option<AmphoraId>,
        places: &BTreeMap<Seat, AmphoraId>,
    ) -> Vec<String> {
        let (id, generation) = (view.tree.id(), view.tree.generation());
        let Self { pairs, kept, .. } = self;
        let holds = |amphora| kept.contains_key(&(amphora, id));
        let mut found = pairs.look(view, places, holds);
        let before = self.stored.insert(id, generation);
        if before.is_some_and(|before| before > generation) {
            found.push(format!(
                "the generation of {id} fell from {before:?} to {generation}"
            ));
        }
        let Some(settled) = Settled::of(&view.observed) else {
            return found;
        };
        let before = self.settled.insert(id, settled.generation);
        if before.is_some_and(|before| before > settled.generation) {
            found.push(format!(
                "the settled generation of {id} fell from {before:?} to {}",
                settled.generation
            ));
        }
        if settled.generation > generation {
            found.push(format!(
                "{id} settled at {}, which is not there",
                settled.generation
            ));
        }
        let is_wanted =
            krater_controller_core::plan::Desired::of(&view.tree).intent == Intent::Present;
        // Before it settles it was applied where it is, or where it was when it settled.
        if settled.outcome == Outcome::InForce && is_wanted {
            let applied = self
                .ever
                .iter()
                .filter(|((_, of), _)| *of == id)
                .map(|(_, generation)| *generation)
                .max();
            if applied < Some(settled.generation) {
                found.push(format!(
                    "I6: {id} settled at {} but is in force at {applied:?} at most, on {carrier:?}",
                    settled.generation
                ));
            }
        }
        found
    }
}
