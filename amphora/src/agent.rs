//! The control surface: what a controller may ask of this amphora, over mutual TLS.
//!
//! An apply is: read, keep on disk, swap, answer. Applies of one load balancer keep their order; those of different
//! ones overlap while they wait for the disk.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    io,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use krater_amphora_api::{
    AmphoraId, Applied, ApplyError, ContractVersion, Generation, Info, LoadBalancerId, Rejection,
    Report, SnapshotSpec,
};
use krater_amphora_core::{
    snapshot::Snapshot,
    succession::{self, Held, Tombstones},
};
use tokio::{sync::Mutex, time::sleep};
use tracing::{error, info, warn};

use crate::{
    announce::own_addresses,
    housekeeper::{Ending, Housekeeper, ProbesWait},
    keep::{Keep, KeepError, Tenure},
    limits::{HANDOVER_TIME, TOMBSTONES_MAX},
    listen::kernel_migrates,
    network::{Addresses, Inside},
    peers::Peers,
    tallies::Tallies,
    world::{Leave, Part, World},
};

pub(crate) mod route;
pub(crate) mod serve;

/// Answers for one amphora.
#[derive(Debug)]
pub(crate) struct Agent {
    housekeeper: Rc<Housekeeper>,
    keep: Keep,
    /// The right to use what is kept.
    tenure: Tenure,
    id: AmphoraId,
    metrics_port: Option<u16>,
    /// The inside of its namespace, if it has one.
    inside: Option<Inside>,
    /// Until the namespace has been brought to what is kept, whatever came of that.
    arriving: RefCell<Option<ProbesWait>>,
    sequence: Cell<u64>,
    /// Who is next, per load balancer. First come, first served.
    turns: RefCell<HashMap<LoadBalancerId, Rc<Mutex<()>>>>,
    tombstones: RefCell<Tombstones>,
    claims: Claims,
    /// Those of which what is kept will be made durable in a moment.
    unsettled: RefCell<HashSet<LoadBalancerId>>,
}

/// What belongs to snapshots on their way to the disk, and to which. One apply per load balancer at a time.
type Claims = RefCell<HashMap<Part, LoadBalancerId>>;

/// What one snapshot reserved; dropping it lets go.
#[derive(Debug)]
struct Claim<'a> {
    parts: Vec<Part>,
    claims: &'a Claims,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claims = self.claims.borrow_mut();
        for part in &self.parts {
            claims.remove(part);
        }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The body is not a spec.
    #[error("the body cannot be read: {0}")]
    Unreadable(String),
    /// A newer generation is in force, or was deleted (I8).
    #[error("generation {sent} is older than generation {held}, which is {}", if *deleted { "deleted" } else { "in force" })]
    Stale {
        /// What was sent.
        sent: Generation,
        /// What is held.
        held: Generation,
        /// The load balancer was deleted since.
        deleted: bool,
    },
    /// The spec is not valid; every reason.
    #[error("the spec was refused: {}", join(.0))]
    Invalid(Vec<Rejection>),
    /// The disk did not take it.
    #[error("the spec cannot be kept: {}", chain(.0))]
    NotKept(KeepError),
    /// An address or a way to it cannot be had. Traffic goes by the spec as far as that lets it.
    #[error("the network of the load balancer cannot be set up: {0}")]
    Network(io::Error),
    /// The process is ending.
    #[error(transparent)]
    Ending(#[from] Ending),
}

impl Agent {
    /// Serves what is kept, before any contact with a controller (D10).
    pub(crate) fn restore(
        housekeeper: Rc<Housekeeper>,
        (keep, tenure): (Keep, Tenure),
        id: AmphoraId,
        metrics_port: Option<u16>,
        inside: Option<Inside>,
    ) -> Result<Rc<Self>, KeepError> {
        let snapshots = keep.load()?;
        let arriving = inside.as_ref().map(|_| housekeeper.hold_probes());
        let agent = Rc::new(Self {
            housekeeper,
            keep,
            tenure,
            id,
            metrics_port,
            inside,
            arriving: RefCell::new(arriving),
            sequence: Cell::new(0),
            turns: RefCell::default(),
            tombstones: RefCell::default(),
            claims: RefCell::default(),
            unsettled: RefCell::default(),
        });
        let load_balancers = snapshots.len();
        let kept: Vec<_> = snapshots.iter().map(Snapshot::load_balancer).collect();
        let mut refused = Vec::new();
        let prepared = snapshots.into_iter().filter_map(|snapshot| {
            let id = snapshot.load_balancer();
            let prepared = World::default().prepare(snapshot);
            prepared.map_err(|reasons| refused.push((id, reasons))).ok()
        });
        let prepared = prepared.collect();
        // It cannot be ending: it is only just beginning.
        refused.extend(
            agent
                .housekeeper
                .apply_all(prepared, &[])
                .unwrap_or_default(),
        );
        for (id, rejections) in refused {
            // Two were kept while something passed from one to the other, or another release kept what this one does not
            // take: a controller knows better.
            error!(lb = %id, reasons = join(&rejections), "a kept load balancer is not served");
        }
        for id in kept {
            agent.settle_later(id);
        }
        info!(load_balancers, "serving what was kept");
        Ok(agent)
    }

    /// Returns when another process answers.
    pub(crate) async fn left(&self) {
        self.housekeeper.left().await;
    }

    /// The other amphorae that carry the same.
    pub(crate) fn peers(&self) -> &Rc<Peers> {
        &self.housekeeper.peers
    }

    /// Asks for a successor of this process; `false` if nobody could start one.
    pub(crate) fn ask_for_successor(&self) -> Result<bool, Ending> {
        let asked = self.housekeeper.ask_for_successor()?;
        if asked {
            info!("a controller wants this process to be succeeded");
        }
        Ok(asked)
    }

    /// Who answers.
    pub(crate) fn info(&self) -> Info {
        Info {
            amphora: self.id,
            boot: self.housekeeper.boot(),
            contract: ContractVersion::CURRENT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            workers: u32::try_from(self.housekeeper.workers()).unwrap_or(u32::MAX),
            addresses: own_addresses(),
        }
    }

    /// Everything there is to say; each one is numbered.
    pub(crate) fn report(&self) -> Result<Report, Ending> {
        self.sequence.set(self.sequence.get() + 1);
        let world = self.housekeeper.world()?;
        Ok(Report {
            info: self.info(),
            sequence: self.sequence.get(),
            load_balancers: world
                .balancers
                .values()
                .map(|balancer| balancer.report())
                .collect(),
            metrics_port: self.metrics_port,
        })
    }

    /// Every load balancer here, with its generation.
    pub(crate) fn list(&self) -> Result<Vec<(LoadBalancerId, Generation)>, Ending> {
        let world = self.housekeeper.world()?;
        let mut list: Vec<_> = world
            .balancers
            .iter()
            .map(|(id, state)| (*id, state.snapshot.generation()))
            .collect();
        list.sort();
        Ok(list)
    }

    /// Puts a spec in force, or changes nothing (I10).
    pub(crate) async fn apply(
        self: &Rc<Self>,
        id: LoadBalancerId,
        body: Bytes,
    ) -> Result<Applied, Refusal> {
        let turn = self.turn(id);
        let outcome = {
            let _turn = turn.lock().await;
            self.apply_in_turn(id, body).await
        };
        self.leave(id, &turn);
        if let Err(refusal) = &outcome {
            refusal.count(self.tallies());
            warn!(lb = %id, %refusal, "a spec was not applied");
        }
        outcome
    }

    async fn apply_in_turn(
        self: &Rc<Self>,
        id: LoadBalancerId,
        body: Bytes,
    ) -> Result<Applied, Refusal> {
        let spec: SnapshotSpec = serde_json::from_slice(&body)
            .map_err(|error| Refusal::Unreadable(error.to_string()))?;
        if spec.load_balancer != id {
            let reason = format!(
                "it is about load balancer {}, the path about {id}",
                spec.load_balancer
            );
            return Err(Refusal::Unreadable(reason));
        }
        let sent = spec.generation;
        let held = self.refuse_stale(id, sent)?;
        if held == Held::Same {
            self.settle_network().await?;
            return self.applied(id, sent);
        }
        let snapshot = Snapshot::parse(spec).map_err(Refusal::Invalid)?;
        if let Some(inside) = &self.inside {
            refuse_for(inside.reasons_against(&snapshot))?;
        }
        let world = self.housekeeper.world()?;
        let snapshot = world.prepare(snapshot).map_err(Refusal::Invalid)?;
        let claim = self.claim(&snapshot)?;
        self.on_disk(move |keep| keep.store(id, &body))
            .await?
            .map_err(Refusal::NotKept)?;
        let is_new_inside = held == Held::Nothing && self.inside.is_some();
        let _wait = is_new_inside.then(|| self.housekeeper.hold_probes());
        let applied = self.housekeeper.apply(snapshot)?;
        drop(claim);
        let generation = applied.map_err(Refusal::Invalid)?;
        self.tombstones.borrow_mut().forget(id);
        self.settle_later(id);
        self.settle_network().await?;
        info!(lb = %id, %generation, "applied");
        self.applied(id, generation)
    }

    /// Reserves what a snapshot consists of while it waits for the disk, or says what of it others have. What is on
    /// disk can then be put in force.
    fn claim(&self, snapshot: &Snapshot) -> Result<Claim<'_>, Refusal> {
        let id = snapshot.load_balancer();
        let mut rejections = self.housekeeper.conflicts(snapshot)?;
        let mut claims = self.claims.borrow_mut();
        rejections.extend(Part::all_of(snapshot).filter_map(|part| {
            let owner = *claims.get(&part)?;
            Some(part.taken_by(owner))
        }));
        refuse_for(rejections)?;
        let parts: Vec<_> = Part::all_of(snapshot).collect();
        claims.extend(parts.iter().map(|part| (*part, id)));
        Ok(Claim {
            parts,
            claims: &self.claims,
        })
    }

    /// Takes a load balancer out of service and forgets it. That there is none is fine.
    pub(crate) async fn delete(
        self: &Rc<Self>,
        id: LoadBalancerId,
        generation: Generation,
        leave: Leave,
    ) -> Result<(), Refusal> {
        let turn = self.turn(id);
        let outcome = {
            let _turn = turn.lock().await;
            self.delete_in_turn(id, generation, leave).await
        };
        self.leave(id, &turn);
        outcome
    }

    /// Lets go of the addresses of a load balancer for that long, which another amphora has too. `false` if it takes no
    /// turns.
    pub(crate) fn stand_aside(&self, id: LoadBalancerId, time: Duration) -> bool {
        self.housekeeper.turns().stand_aside(id, time)
    }

    async fn delete_in_turn(
        self: &Rc<Self>,
        id: LoadBalancerId,
        generation: Generation,
        leave: Leave,
    ) -> Result<(), Refusal> {
        let held = self.refuse_stale(id, generation)?;
        if leave == Leave::Moved && held != Held::Nothing {
            self.housekeeper.leave_addresses(id).await?;
        }
        if leave == Leave::Moved && held != Held::Nothing && !kernel_migrates() {
            self.housekeeper.deafen(id)?;
            sleep(HANDOVER_TIME).await;
        }
        if let Err(error) = self.on_disk(move |keep| keep.discard(id)).await? {
            // It is still to be served here.
            self.housekeeper.keep_addresses(id);
            return Err(Refusal::NotKept(error));
        }
        let was_held = self.housekeeper.held(id)?.is_some();
        self.housekeeper.remove(id, leave)?;
        self.tombstones
            .borrow_mut()
            .remember(id, generation, TOMBSTONES_MAX);
        self.settle_later(id);
        self.settle_network().await?;
        if was_held {
            info!(lb = %id, %generation, "deleted");
        }
        Ok(())
    }

    /// Gives the namespace the addresses of the load balancers that are in force, and what belongs to them.
    async fn settle_network(&self) -> Result<(), Refusal> {
        let Some(inside) = &self.inside else {
            return Ok(());
        };
        let settled = inside.settle(|| self.addresses()).await;
        let filter_failed = !inside.is_filtered();
        self.tallies().filter_failed.set(filter_failed.into());
        settled?.map_err(Refusal::Network)
    }

    /// The addresses of what is in force. Whoever takes over an ending process needs them: that nothing is known any more
    /// does not mean that there is nothing.
    fn addresses(&self) -> Result<Addresses, Ending> {
        let world = self.housekeeper.world()?;
        let balancers = world.balancers.values();
        Ok(Addresses::of(balancers.map(|balancer| &*balancer.snapshot)))
    }

    /// Keeps the namespace as it is to be for as long as the process lives, whatever others do to it.
    pub(crate) async fn keep_network(self: Rc<Self>) {
        while let Some(inside) = &self.inside {
            let settled = self.settle_network().await;
            self.arriving.take();
            match settled {
                Ok(()) if inside.is_filtered() => sleep(NETWORK_CHECK).await,
                Ok(()) => sleep(NETWORK_RETRY).await,
                Err(Refusal::Ending(_)) => return,
                Err(refusal) => {
                    error!(error = %refusal, "addresses are not as they are to be; it is tried again");
                    sleep(NETWORK_RETRY).await;
                }
            }
        }
    }

    /// Makes what is kept durable in a moment. Changes of a load balancer that come until then cost the disk nothing more,
    /// and however fast they follow each other, none waits for longer.
    fn settle_later(self: &Rc<Self>, id: LoadBalancerId) {
        if !self.unsettled.borrow_mut().insert(id) {
            return;
        }
        let agent = Rc::clone(self);
        tokio::task::spawn_local(async move {
            sleep(SETTLE_DELAY).await;
            let turn = agent.turn(id);
            {
                let _turn = turn.lock().await;
                agent.unsettled.borrow_mut().remove(&id);
                if let Ok(Err(error)) = agent.on_disk(move |keep| keep.settle(id)).await {
                    agent.tallies().settle_failures.inc();
                    error!(lb = %id, error = chain(&error), "what is kept would not survive a loss of power");
                }
            }
            agent.leave(id, &turn);
        });
    }

    fn refuse_stale(&self, id: LoadBalancerId, sent: Generation) -> Result<Held, Refusal> {
        let held = self.housekeeper.held(id)?;
        let buried = self.tombstones.borrow().generation(id);
        succession::follow(held, buried, sent).map_err(|stale| Refusal::Stale {
            sent,
            held: stale.held,
            deleted: stale.deleted,
        })
    }

    fn applied(&self, id: LoadBalancerId, generation: Generation) -> Result<Applied, Refusal> {
        let report = self.housekeeper.report(id)?.ok_or(Ending)?;
        Ok(Applied { generation, report })
    }

    fn turn(&self, id: LoadBalancerId) -> Rc<Mutex<()>> {
        Rc::clone(self.turns.borrow_mut().entry(id).or_default())
    }

    /// Forgets the turns of a load balancer that nobody waits for: the map and the caller are the only owners.
    fn leave(&self, id: LoadBalancerId, turn: &Rc<Mutex<()>>) {
        if Rc::strong_count(turn) <= 2 {
            self.turns.borrow_mut().remove(&id);
        }
    }

    /// Uses the disk without holding up anything else of this thread.
    async fn on_disk(
        &self,
        act: impl FnOnce(&Keep) -> Result<(), KeepError> + Send + 'static,
    ) -> Result<Result<(), KeepError>, Ending> {
        let keep = self.keep.clone();
        let share = self.tenure.share().ok_or(Ending)?;
        // Only the end of the runtime cancels it.
        let act = move || {
            let _share = share;
            act(&keep)
        };
        tokio::task::spawn_blocking(act).await.map_err(|_| Ending)
    }

    fn tallies(&self) -> &Tallies {
        self.housekeeper.tallies()
    }
}

impl Refusal {
    /// The refusal in the terms of the contract.
    pub(crate) fn into_error(self) -> ApplyError {
        let message = self.to_string();
        match self {
            Self::Invalid(rejections) => ApplyError {
                message,
                rejections,
                held: None,
            },
            Self::Stale { held, .. } => ApplyError {
                message,
                rejections: Vec::new(),
                held: Some(held),
            },
            _ => ApplyError {
                message,
                rejections: Vec::new(),
                held: None,
            },
        }
    }

    fn count(&self, tallies: &Tallies) {
        match self {
            Self::Unreadable(_) => tallies.refusals.unreadable.inc(),
            Self::Stale { .. } => tallies.refusals.stale.inc(),
            Self::Invalid(_) => tallies.refusals.invalid.inc(),
            Self::NotKept(_) => tallies.refusals.not_kept.inc(),
            Self::Network(_) => tallies.refusals.network.inc(),
            Self::Ending(_) => {}
        }
    }
}

/// Between two looks at the addresses of the namespace.
const NETWORK_CHECK: Duration = Duration::from_secs(30);
/// After one that went wrong.
const NETWORK_RETRY: Duration = Duration::from_secs(1);
/// How long what is kept may not survive a loss of power, after which the spec before is served until a controller says
/// otherwise. The disk is asked no more often than that, however often a load balancer changes.
const SETTLE_DELAY: Duration = Duration::from_secs(1);

fn refuse_for(reasons: Vec<Rejection>) -> Result<(), Refusal> {
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(reasons))
    }
}

fn join(rejections: &[Rejection]) -> String {
    rejections
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// An error with its sources, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
