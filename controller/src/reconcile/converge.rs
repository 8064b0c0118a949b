//! One attempt at one load balancer: facts → plan → steps → facts again, until nothing is left to do or something
//! fails.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use krater_amphora_api::{
    AmphoraId, ContractVersion, Generation, ListenerId, LoadBalancerId, SessionPeerSpec,
    SnapshotSpec,
};
use krater_controller_core::{
    blame::{self, Failure},
    change::Change,
    compile,
    model::{LoadBalancer, Seat, Steering, Topology},
    plan::{self, Actual, Carrier, Desired, Intent, Outcome, Settled, Step},
    query::ResourceId,
    quota::Growth,
    retry,
    tree::{Touch, TreeView},
    turns,
};
use krater_controller_store::{self as store, Settlement, StoreError};
use krater_driver::DriverError;
use tokio::time::Instant;

use super::{Placed, Reconciler, lead::Led, lock};
use crate::{
    amphora_client::{AgentError, Departure},
    clock,
    limits::{FOREIGN_PATIENCE, PLANS_MAX},
    neighbours::Lease,
    realm::Omission,
};

/// How an attempt ended.
pub(super) enum Verdict {
    /// Nothing is to be done until somebody pokes or it is due.
    Rest,
    /// Another controller attends to it, or is to.
    Elsewhere,
    /// It is to be tried again shortly, or when the amphora is connected.
    Soon {
        /// The amphora that did not answer.
        blocked_by: Option<AmphoraId>,
        /// When at the latest.
        after: Duration,
    },
}

/// How a step ended.
pub(super) enum Progress {
    Done,
    /// All is recorded that is known: the last step of a plan.
    Settled,
    /// The facts are not what they were.
    Replan,
    Gone,
    Failed(Failure),
}

impl Reconciler {
    pub(super) async fn converge(
        self: &Arc<Self>,
        id: LoadBalancerId,
        lease: &Lease,
    ) -> Result<Verdict, StoreError> {
        let began = Instant::now();
        for round in 0..PLANS_MAX {
            if round > 0 && !lease.extend().await? {
                return Ok(Verdict::Elsewhere);
            }
            self.parts.known.placements.be_sure_of(id).await?;
            // Before the tree is read: what is in force cannot be newer than what is stored, unless the store is old.
            let carriers = self.carriers(id);
            let Some(view) = self
                .parts
                .known
                .store
                .view(ResourceId::LoadBalancer(id))
                .await?
            else {
                self.let_go(id, &[]);
                return Ok(Verdict::Rest);
            };
            self.parts.known.census.note(&view);
            self.parts.vault.note(&view.tree);
            if self.is_left_to_others(&view, &carriers) {
                return Ok(Verdict::Elsewhere);
            }
            let desired = Desired::of(&view.tree);
            let steering = &view.tree.load_balancer.value.steering;
            let held = carriers.iter().filter_map(|carrier| carrier.applied).max();
            if let Some(held) = held.filter(|held| *held > desired.generation) {
                self.overtake(&view, held).await?;
                continue;
            }
            let actual = Actual {
                settled: Settled::of(&view.observed),
                carriers,
                strays: self.strays(id),
            };
            // Whoever has all it needs follows meanwhile.
            let wanting = match self.lead_on(&view, &desired, &actual).await? {
                Led::On => continue,
                Led::Nowhere => None,
                Led::Wanting(failure) => Some(failure),
            };
            match self.carry_out(&view, &self.plan(&desired, &actual)).await? {
                Progress::Done => {
                    lock(&self.behind).remove(&id);
                    self.look(&view).await?;
                    return Ok(Verdict::Rest);
                }
                // What waited for this to settle goes on.
                Progress::Settled if steering.avoid_then.is_some() || self.is_to_move(id) => {}
                Progress::Settled => {
                    // Not by a push alone: one that failed may have arrived, and a report tells.
                    lock(&self.behind).remove(&id);
                    return Ok(Verdict::Rest);
                }
                Progress::Gone => return Ok(Verdict::Rest),
                Progress::Replan => {}
                Progress::Failed(failure) => {
                    let failure = wanting.unwrap_or(failure);
                    return self.concede(&view, &actual, failure, began).await;
                }
            }
        }
        Ok(Verdict::Soon {
            blocked_by: None,
            after: retry::WAIT_MIN,
        })
    }

    fn plan(&self, desired: &Desired, actual: &Actual) -> Vec<Step> {
        let mut steps = plan::plan(desired, actual);
        if self.parts.omission == Omission::Turns
            && let Some(place @ Step::Place(_)) = steps.last().copied()
        {
            steps = vec![place];
        }
        steps
    }

    /// Whether its amphora is of another host and not connected: who reaches it is to attend to it, for a while.
    fn is_left_to_others(&self, view: &TreeView, carriers: &[Carrier]) -> bool {
        let id = view.tree.id();
        let agents = &self.parts.agents;
        let is_foreign = carriers.iter().any(|&Carrier { amphora, .. }| {
            !agents.is_ours(amphora) && agents.boot(amphora).is_none() && !agents.is_silent(amphora)
        });
        let mut left = lock(&self.left);
        if !is_foreign {
            left.remove(&id);
            return false;
        }
        left.entry(id).or_insert_with(Instant::now).elapsed() < FOREIGN_PATIENCE
    }

    pub(super) fn carriers(&self, id: LoadBalancerId) -> Vec<Carrier> {
        let places = self.parts.known.placements.places(id).into_iter();
        places
            .map(|(seat, amphora)| Carrier {
                amphora,
                seat,
                agent: self.parts.agents.agent(amphora),
                applied: self.parts.known.sightings.applied(amphora, id),
            })
            .collect()
    }

    /// Amphorae that hold it though it is placed elsewhere, or may.
    pub(super) fn strays(&self, id: LoadBalancerId) -> Vec<AmphoraId> {
        let mut strays = self.parts.known.placements.departures(id);
        strays.extend(self.parts.known.sightings.strays(id));
        for (_, carrier) in self.parts.known.placements.places(id) {
            strays.remove(&carrier);
        }
        strays.into_iter().collect()
    }

    async fn carry_out(
        self: &Arc<Self>,
        view: &TreeView,
        steps: &[Step],
    ) -> Result<Progress, StoreError> {
        let mut failed = None;
        for step in steps {
            let is_push = |step: &Step| matches!(step, Step::Push { .. } | Step::EnsureAmphora(_));
            if failed.is_some() && !is_push(step) {
                break;
            }
            match self.take(view, *step).await? {
                Progress::Done => {}
                // What one of two cannot have the other one can.
                Progress::Failed(failure) if is_push(step) => {
                    failed.get_or_insert(failure);
                }
                other => return Ok(other),
            }
        }
        Ok(failed.map_or(Progress::Done, Progress::Failed))
    }

    async fn take(self: &Arc<Self>, view: &TreeView, step: Step) -> Result<Progress, StoreError> {
        let id = view.tree.id();
        match step {
            Step::Place(seat) => self.place(view, seat).await,
            Step::EnsureAmphora(amphora) => match self.parts.agents.ensure(amphora).await {
                Ok(()) => Ok(Progress::Done),
                Err(detail) => Ok(Progress::Failed(Failure::NotStarted { amphora, detail })),
            },
            Step::Push { amphora } => self.push(view, amphora).await,
            Step::Remove { amphora } => self.remove(view, amphora).await,
            Step::ReleaseVip => match self
                .parts
                .network
                .release_vip(id, &view.tree.load_balancer.value.vip)
                .await
            {
                Ok(()) | Err(DriverError::NotFound(_)) => Ok(Progress::Done),
                Err(error) => Ok(Progress::Failed(Failure::NotReleased {
                    detail: error.to_string(),
                })),
            },
            Step::Settle {
                generation,
                outcome: Outcome::InForce,
            } => self.settle(view, generation).await,
            // Planned by `concede` alone, which knows the failure.
            Step::Settle {
                outcome: Outcome::Failed,
                ..
            } => Ok(Progress::Done),
            Step::Forget => {
                self.parts.known.store.forget(id).await?;
                let listeners: Vec<ListenerId> =
                    view.tree.listeners.iter().map(|row| row.value.id).collect();
                self.let_go(id, &listeners);
                tracing::info!(lb = %id, "load balancer deleted");
                Ok(Progress::Gone)
            }
        }
    }

    async fn place(self: &Arc<Self>, view: &TreeView, seat: Seat) -> Result<Progress, StoreError> {
        let id = view.tree.id();
        let root = &view.tree.load_balancer.value;
        let (wish, on) = (&root.steering, root.vip.network_id);
        let Placed::Nowhere(no_room) = self.parts.agents.place(id, seat, wish, on).await? else {
            return Ok(Progress::Replan);
        };
        let carriers = self.carriers(id).into_iter();
        for carrier in carriers.filter(|carrier| carrier.applied < Some(view.tree.generation())) {
            // It cannot leave: until it can, what tenants change comes into force where it is. If not even that works,
            // that there is no room is still what is to be told.
            self.push(view, carrier.amphora).await?;
        }
        Ok(Progress::Failed(Failure::NoRoom(no_room)))
    }

    pub(super) async fn push(
        &self,
        view: &TreeView,
        amphora: AmphoraId,
    ) -> Result<Progress, StoreError> {
        let id = view.tree.id();
        let balancer = &view.tree.load_balancer.value;
        let interval = self.parts.defaults.advert_interval_ms;
        let announcement = turns::announcement(balancer, amphora, interval);
        if balancer.steering.topology == Topology::ActiveStandby && announcement.is_none() {
            lock(&self.behind).insert(id, amphora);
            let detail = format!(
                "it is not known yet where it and the other one reach each other: neither may be silent, and each has to have an address on the subnet of {}",
                balancer.vip.address
            );
            return Ok(Progress::Failed(Failure::Unreachable { amphora, detail }));
        }
        let secrets = match self.parts.vault.gather(&view.tree).await {
            Ok(secrets) => secrets,
            Err(failure) => {
                lock(&self.behind).insert(id, amphora);
                return Ok(Progress::Failed(failure));
            }
        };
        let spec = SnapshotSpec {
            session_peers: self.session_peers(balancer, amphora).into_iter().collect(),
            // Who takes turns hands over by that.
            takes_over: announcement.is_none() && !self.strays(id).is_empty(),
            announcement,
            ..compile::compile(&view.tree, &self.parts.defaults, &secrets)
        };
        let boot = self.parts.agents.boot(amphora);
        match self.parts.agents.push(amphora, &spec).await {
            Ok(applied) => {
                tracing::debug!(lb = %id, %amphora, generation = %applied.generation, "in force");
                self.parts.known.sightings.note_applied(
                    amphora,
                    boot,
                    applied.report,
                    clock::now(),
                );
                lock(&self.behind).remove(&id);
                Ok(Progress::Done)
            }
            Err(error) => {
                lock(&self.behind).insert(id, amphora);
                match error {
                    AgentError::Holds(held) => {
                        self.overtake(view, held).await?;
                        Ok(Progress::Replan)
                    }
                    AgentError::Refused {
                        rejections,
                        message,
                    } => Ok(Progress::Failed(Failure::Refused {
                        amphora,
                        rejections,
                        message,
                    })),
                    AgentError::Unreachable(detail) => {
                        Ok(Progress::Failed(Failure::Unreachable { amphora, detail }))
                    }
                }
            }
        }
    }

    /// Whom `amphora` exchanges sessions with, if both know how to.
    fn session_peers(
        &self,
        balancer: &LoadBalancer,
        amphora: AmphoraId,
    ) -> Option<SessionPeerSpec> {
        let other = turns::other(balancer, amphora)?;
        let knows_how = |id| {
            let info = self.parts.known.sightings.portrait(id).info;
            info.is_some_and(|info| info.contract >= ContractVersion::SESSION_PEERS)
        };
        if !knows_how(amphora) || !knows_how(other) {
            return None;
        }
        let address = |id| self.parts.agents.address(id);
        // What is heard on the loopback of one host is another one's on the next.
        let is_loopback = |at: SocketAddr| at.ip().is_loopback();
        let agent = address(other)
            .filter(|at| !is_loopback(*at) || address(amphora).is_some_and(is_loopback));
        Some(SessionPeerSpec {
            amphora: other,
            agent,
        })
    }

    async fn remove(&self, view: &TreeView, amphora: AmphoraId) -> Result<Progress, StoreError> {
        let id = view.tree.id();
        let departure = match Desired::of(&view.tree).intent {
            Intent::Present => Departure::Moves,
            Intent::Absent => Departure::Ends,
        };
        match self
            .parts
            .agents
            .remove(amphora, id, view.tree.generation(), departure)
            .await
        {
            Ok(()) => {
                self.parts.known.sightings.note_removed(amphora, id);
                self.parts
                    .known
                    .placements
                    .forget_departure(id, amphora)
                    .await?;
                Ok(Progress::Done)
            }
            Err(error) => Ok(Progress::Failed(Failure::NotLeft {
                amphora,
                detail: error.to_string(),
            })),
        }
    }

    async fn settle(
        &self,
        view: &TreeView,
        generation: Generation,
    ) -> Result<Progress, StoreError> {
        let id = view.tree.id();
        // First, so that whoever sees it settled sees how it works too.
        let due_at = self.refresh_operating(view).await?;
        let settlement = Settlement {
            load_balancer: id,
            generation,
            outcome: store::Outcome::Applied,
            errors: self.in_force_errors(view),
            due_at,
            attempts: 0,
        };
        if self.parts.known.store.settle(&settlement).await? == store::Settled::Stale {
            return Ok(Progress::Replan);
        }
        lock(&self.streaks).remove(&id);
        let deleted = view
            .tree
            .listeners
            .iter()
            .filter(|row| row.touch == Touch::Delete)
            .map(|row| row.value.id);
        self.parts
            .known
            .sightings
            .forget_listeners(&deleted.collect::<Vec<_>>());
        if let Some(since) = lock(&self.waits).remove(&id) {
            self.parts
                .known
                .metrics
                .settle_seconds
                .observe(since.elapsed().as_secs_f64());
        }
        self.parts
            .known
            .census
            .note_settled(&view.tree, &settlement.errors);
        self.ring(id);
        Ok(Progress::Settled)
    }

    /// Decides what a failure comes to: another quiet try, or an error that is shown and tried again later.
    async fn concede(
        self: &Arc<Self>,
        view: &TreeView,
        actual: &Actual,
        failure: Failure,
        began: Instant,
    ) -> Result<Verdict, StoreError> {
        let id = view.tree.id();
        let desired = Desired::of(&view.tree);
        let (attempts, trying) = {
            let mut streaks = lock(&self.streaks);
            let streak = streaks.entry(id).or_default();
            streak.attempts = streak.attempts.saturating_add(1);
            (streak.attempts, streak.since.get_or_insert(began).elapsed())
        };
        let settled_as = |outcome| {
            Some(Settled {
                generation: desired.generation,
                outcome,
            })
        };
        let due_at = clock::now().checked_add(retry::backoff(attempts)).ok();
        if actual.settled == settled_as(Outcome::InForce) && desired.intent == Intent::Present {
            // Nothing a tenant waits for: an amphora lost what it had, and cannot have it back yet.
            self.end_trial(id);
            self.parts
                .known
                .store
                .make_due(&[id], due_at.unwrap_or_else(clock::now))
                .await?;
            self.stand_by(id, &failure);
            return Ok(Verdict::Rest);
        }
        let shown_already = actual.settled == settled_as(Outcome::Failed);
        if !shown_already && plan::concede(&desired, actual, &failure, trying).is_none() {
            let after = retry::backoff(attempts).min(failure.patience().saturating_sub(trying));
            return Ok(Verdict::Soon {
                blocked_by: blocker(&failure),
                after: after.max(retry::WAIT_MIN),
            });
        }
        let settlement = Settlement {
            load_balancer: id,
            generation: desired.generation,
            outcome: store::Outcome::Failed,
            errors: blame::errors(view, &failure),
            due_at,
            attempts,
        };
        if self.parts.known.store.settle(&settlement).await? == store::Settled::Stale {
            return Ok(Verdict::Soon {
                blocked_by: None,
                after: retry::WAIT_MIN,
            });
        }
        self.end_trial(id);
        if !shown_already {
            tracing::warn!(lb = %id, generation = %desired.generation, failure = ?failure, "not in force; tried again for ever");
            self.parts.known.metrics.conceded.inc();
        }
        lock(&self.waits).remove(&id);
        self.refresh_operating_and_again(view).await?;
        self.parts
            .known
            .census
            .note_settled(&view.tree, &settlement.errors);
        self.ring(id);
        self.stand_by(id, &failure);
        Ok(Verdict::Rest)
    }

    /// The next failure begins a new time of quiet trying.
    fn end_trial(&self, id: LoadBalancerId) {
        if let Some(streak) = lock(&self.streaks).get_mut(&id) {
            streak.since = None;
        }
    }

    /// Comes back as soon as the amphora does, sooner than the backoff would.
    fn stand_by(self: &Arc<Self>, id: LoadBalancerId, failure: &Failure) {
        if let Some(amphora) =
            blocker(failure).filter(|amphora| self.parts.agents.boot(*amphora).is_none())
        {
            self.await_amphora(amphora, id);
        }
    }

    /// The store is older than what is in force, e.g. restored from a backup: what it holds becomes the newest
    /// generation, since the amphora must refuse anything older (I8).
    async fn overtake(&self, view: &TreeView, held: Generation) -> Result<(), StoreError> {
        tracing::warn!(
            lb = %view.tree.id(), stored = %view.tree.generation(), %held,
            "the amphora holds a newer generation than the database: the database wins"
        );
        self.advance(view, held.next(), |_| ()).await
    }

    /// Makes a generation that no tenant asked for.
    pub(super) async fn advance(
        &self,
        view: &TreeView,
        generation: Generation,
        edit: impl FnOnce(&mut Steering),
    ) -> Result<(), StoreError> {
        let mut tree = view.tree.clone();
        let basis = Some(tree.generation());
        tree.load_balancer.generation = generation;
        edit(&mut tree.load_balancer.value.steering);
        let subject = ResourceId::LoadBalancer(tree.id());
        // A lost race means that somebody made a newer generation: either way the facts are to be looked at again.
        let _ = self
            .parts
            .known
            .store
            .apply(&Change {
                basis,
                tree,
                touched: vec![subject],
                growth: Growth::default(),
                subject,
                offers: Vec::new(),
            })
            .await?;
        Ok(())
    }

    /// Drops all that is remembered of a load balancer that is no more.
    fn let_go(&self, id: LoadBalancerId, listeners: &[ListenerId]) {
        self.parts.vault.forget(id);
        self.parts.known.placements.forget(id);
        self.parts.known.sightings.forget_listeners(listeners);
        self.parts.known.census.forget(id);
        lock(&self.streaks).remove(&id);
        lock(&self.behind).remove(&id);
        lock(&self.contests).remove(&id);
        if let Some(since) = lock(&self.waits).remove(&id) {
            self.parts
                .known
                .metrics
                .settle_seconds
                .observe(since.elapsed().as_secs_f64());
        }
        lock(&self.left).remove(&id);
        lock(&self.due).remove(&id);
        self.ring(id);
    }

    /// Wakes those who wait for it, here and at other controllers.
    fn ring(&self, id: LoadBalancerId) {
        self.parts.known.bells.ring(id);
        self.parts.known.neighbours.tell_settled(id);
    }
}

fn blocker(failure: &Failure) -> Option<AmphoraId> {
    match failure {
        Failure::Unreachable { amphora, .. }
        | Failure::NotStarted { amphora, .. }
        | Failure::NotLeft { amphora, .. } => Some(*amphora),
        Failure::NoRoom(_)
        | Failure::Refused { .. }
        | Failure::NoSecret { .. }
        | Failure::NotReleased { .. } => None,
    }
}
