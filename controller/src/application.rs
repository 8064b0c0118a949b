//! The command pipeline (§4, journey A): permit, load, admit, store, poke. The only implementation of what the API
//! asks of the controller.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use krater_amphora_api::{AmphoraId, Generation, LoadBalancerId};
use krater_controller_api::{self as api, Executed, Novelty};
use krater_controller_core::{
    admit,
    carried::Carried,
    catalogue::{CatalogueCommand, Edit},
    change::Change,
    command::{Command, NewLoadBalancer, Operation, QuotaCommand},
    envelope::Envelope,
    model::{ListenerId, ProjectId, Topology},
    network::Located,
    policy::{self, Action},
    query::{AmphoraView, Answer, Caller, ListenerStatistics, Query, ResourceId, TreeFilter},
    quota::Limits,
    refusal::Refusal,
    rules::Rules,
    scan::{Excerpt, Scan},
    tree::{LoadBalancerTree, Observed, TreeView},
};
use krater_controller_store::{Committed, StoreError};
use krater_driver::{AllocatedVip, Authenticator};
use tokio::time::Instant;
use turns::Turns;

use crate::{
    cause::chain,
    chance, clock,
    knowledge::Knowledge,
    limits::{RACES_MAX, SETTLE_WAIT_MAX},
    networking::Networking,
    reconcile::{Agents, Reconciler, Urgency},
    vault::{Read, Vault},
};

mod catalogue;
mod operate;
mod quotas;
mod record;
mod secrets;
mod turns;
mod vips;

/// The controller as the API sees it.
pub(crate) struct Application {
    parts: Parts,
    turns: Turns,
    choices: vips::Choices,
}

/// What an application is made of.
pub(crate) struct Parts {
    pub(crate) known: Knowledge,
    pub(crate) networking: Networking,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) agents: Arc<dyn Agents>,
    pub(crate) vault: Arc<Vault>,
    /// What tenants may ask of the data plane.
    pub(crate) carried: Carried,
    /// What projects may have for which nothing was set.
    pub(crate) quota_defaults: Limits,
    /// What the deployment allows and fills in.
    pub(crate) rules: Rules,
    /// The zones that the fleet has.
    pub(crate) zones: BTreeSet<String>,
    /// Of load balancers without a flavor.
    pub(crate) topology: Topology,
}

impl Application {
    /// An application over what the composition root made.
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            turns: Turns::default(),
            choices: vips::Choices::default(),
        }
    }

    /// For how many load balancers somebody has or awaits a turn.
    #[cfg(test)]
    pub(crate) fn turns_waited_for(&self) -> usize {
        self.turns.0.lock().unwrap().len()
    }

    async fn create(
        &self,
        caller: &Caller,
        new: NewLoadBalancer,
        envelope: &Envelope,
    ) -> Result<Executed, Refusal> {
        let project = new
            .project
            .clone()
            .or_else(|| caller.project.clone())
            .ok_or(Refusal::MissingProject)?;
        permit(caller, &project, Action::Write)?;
        if let Some(executed) = self.repeated(&project, envelope).await? {
            return Ok(executed);
        }
        let asked = new;
        let mut new = self.resolve(asked.clone()).await?;
        let networking = &self.parts.networking;
        let taken = self.taken(&new.vip).await?;
        networking
            .check_request(caller, &new.vip, new.chosen.vip_networks.as_ref(), &taken)
            .await?;
        let rules = &self.parts.rules;
        admit::check_new(&new, rules)?;
        networking
            .check_subnets(caller, new.member_subnets())
            .await?;
        let command = Command::CreateLoadBalancer(Box::new(new.clone()));
        self.check_quota(caller, &project, &command.creates())
            .await?;
        let id = LoadBalancerId::new(chance::random_uuid());
        let port_id = chance::random_uuid();
        let mut contested = BTreeSet::new();
        let mut secrets = Read::default();
        for _ in 0..RACES_MAX {
            if let Some(executed) = self.repeated(&project, envelope).await? {
                return Ok(executed);
            }
            // Wanted until it is stored, so that others who ask meanwhile choose another one.
            let (allocated, _wanted) = self
                .choose(caller, (id, port_id), &new.vip, &contested)
                .await?;
            let AllocatedVip { vip, additional } = allocated;
            let ids = &mut chance::random_uuid;
            let mut change = admit::create(
                new.clone(),
                project.clone(),
                (vip, additional),
                id,
                rules,
                ids,
                clock::now(),
            )?;
            self.parts.carried.check(&change)?;
            networking.check_topology(&change)?;
            let named = secrets::named(&change.tree, &BTreeSet::new());
            self.read_secrets(envelope.token.as_ref(), &change.tree, &named, &mut secrets)
                .await?;
            self.note_secrets(&mut change, &secrets);
            match self.store(caller, &change, envelope).await? {
                Committed::Done => return Ok(self.committed(change, Observed::default())),
                Committed::AddressTaken(address) => claim(&mut contested, address, &change)?,
                // Who has it is told at the next look.
                Committed::PortTaken => {}
                Committed::QuotaMet(kind) => return Err(Refusal::QuotaMet(kind.name())),
                Committed::OfferGone => new = self.resolve(asked.clone()).await?,
                Committed::Repeated => {}
                Committed::LostRace => {
                    return Err(Refusal::Defect(
                        "a new load balancer exists already".to_owned(),
                    ));
                }
            }
        }
        Err(contended())
    }

    async fn change(
        &self,
        caller: &Caller,
        target: ResourceId,
        command: Command,
        envelope: &Envelope,
    ) -> Result<Executed, Refusal> {
        let mut view = self.load(&command, target).await?;
        permit(caller, view.tree.project(), Action::Write)?;
        self.parts.networking.check_named(caller, &command).await?;
        let mut turn = self.turns.take_free(view.tree.id());
        let mut secrets = Read::default();
        for _ in 0..RACES_MAX {
            if turn.is_none() {
                // Somebody else changes it, or may have: it has to be read again.
                turn = Some(self.turns.take(view.tree.id()).await);
                view = self.load(&command, target).await?;
            }
            permit(caller, view.tree.project(), action_of(&command))?;
            if let Some(executed) = self.repeated(view.tree.project(), envelope).await? {
                return Ok(executed);
            }
            let TreeView { tree, observed } = view;
            // Against the very tree that the change is admitted against, and that the store compares with.
            if let Some(subject) = command.names() {
                envelope.precondition.check(&tree, subject)?;
            }
            let is_failover = self.be_sure_of_place(&tree, &command).await?;
            let project = tree.project().clone();
            let known = secrets::references(&tree);
            let admitted = self.decide(tree, observed.settled, &command);
            let mut change = match admitted {
                Ok(change) => change,
                Err(refusal) => {
                    return Err(self.first_told(caller, &project, &command, refusal).await);
                }
            };
            if change.is_empty() {
                let Change { tree, subject, .. } = change;
                let view = TreeView { tree, observed };
                if is_failover {
                    // It may wait for its next try to find a place.
                    self.parts
                        .reconciler
                        .poke(view.tree.id(), Urgency::Background);
                }
                return Ok(new(view, subject));
            }
            let named = secrets::named(&change.tree, &known);
            if !secrets.covers(&named) {
                // Nobody else who changes it waits for the secret store.
                drop(turn);
                let tree = &change.tree;
                let read = self.read_secrets(envelope.token.as_ref(), tree, &named, &mut secrets);
                read.await?;
                turn = Some(self.turns.take(change.tree.id()).await);
                view = self.load(&command, target).await?;
                continue;
            }
            self.note_secrets(&mut change, &secrets);
            match self.store(caller, &change, envelope).await? {
                Committed::Done => return Ok(self.committed(change, observed)),
                Committed::QuotaMet(kind) => return Err(Refusal::QuotaMet(kind.name())),
                Committed::LostRace | Committed::Repeated => {
                    view = self.load(&command, target).await?;
                }
                claimed @ (Committed::AddressTaken(_) | Committed::PortTaken) => {
                    return Err(Refusal::Defect(format!(
                        "a change of a load balancer claimed something: {claimed:?}"
                    )));
                }
                Committed::OfferGone => {
                    return Err(Refusal::Defect(
                        "a change of a load balancer chose a flavor or zone".to_owned(),
                    ));
                }
            }
        }
        Err(contended())
    }

    /// Admits a command against its tree, as far as the data plane carries what it asks for.
    fn decide(
        &self,
        tree: LoadBalancerTree,
        settled: Option<Generation>,
        command: &Command,
    ) -> Result<Change, Refusal> {
        let change = admit::admit(
            tree,
            settled,
            self.resolved(command.clone()),
            &self.parts.rules,
            &mut chance::random_uuid,
            clock::now(),
        )?;
        self.parts.carried.check(&change)?;
        Ok(change)
    }

    pub(super) fn amphorae(&self) -> Vec<AmphoraView> {
        let behind = |id| self.parts.reconciler.behind(id);
        self.parts.agents.views(&behind)
    }

    fn amphora(&self, id: AmphoraId) -> Result<AmphoraView, Refusal> {
        let found = self.amphorae().into_iter().find(|view| view.id == id);
        found.ok_or(Refusal::AmphoraNotFound {
            kind: "Amphora",
            id,
        })
    }

    fn amphora_statistics(&self, id: AmphoraId) -> Result<Answer, Refusal> {
        self.amphora(id)?;
        let counted = self.parts.known.sightings.counted_by(id);
        if counted.is_empty() {
            return Err(Refusal::AmphoraNotFound {
                kind: "Amphora stats for",
                id,
            });
        }
        let statistics = counted
            .into_iter()
            .map(|(load_balancer, listener, counters)| ListenerStatistics {
                load_balancer,
                listener,
                counters,
            });
        Ok(Answer::AmphoraStatistics(statistics.collect()))
    }

    async fn load(&self, command: &Command, target: ResourceId) -> Result<TreeView, Refusal> {
        let view = self.stored(self.parts.known.store.view(target).await)?;
        view.ok_or_else(|| command.target_missing(target))
    }

    fn committed(&self, change: Change, observed: Observed) -> Executed {
        let Change { tree, subject, .. } = change;
        let view = TreeView { tree, observed };
        self.parts.known.census.note(&view);
        self.parts.reconciler.poke(view.tree.id(), Urgency::Tenant);
        new(view, subject)
    }

    /// The tree that holds the resource, settled if it settles soon.
    async fn tree(
        &self,
        caller: &Caller,
        id: ResourceId,
        action: Action,
    ) -> Result<TreeView, Refusal> {
        let mut view = self.find(caller, id, action).await?;
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        while view.is_pending() {
            let waiting = self.parts.known.bells.listen(view.tree.id());
            let mut ring = std::pin::pin!(waiting.bell.notified());
            ring.as_mut().enable();
            // It may have settled between the look before and the listening.
            view = self.find(caller, id, action).await?;
            if !view.is_pending() || tokio::time::timeout_at(deadline, ring).await.is_err() {
                break;
            }
            view = self.find(caller, id, action).await?;
        }
        Ok(view)
    }

    async fn find(
        &self,
        caller: &Caller,
        id: ResourceId,
        action: Action,
    ) -> Result<TreeView, Refusal> {
        let view = self
            .stored(self.parts.known.store.view(id).await)?
            .ok_or(Refusal::NotFound(id))?;
        permit(caller, view.tree.project(), action)?;
        Ok(view)
    }

    async fn trees(
        &self,
        caller: &Caller,
        mut filter: TreeFilter,
    ) -> Result<Vec<TreeView>, Refusal> {
        filter.project = visible(caller, filter.project)?;
        self.stored(self.parts.known.store.views(&filter).await)
    }

    async fn scan(&self, caller: &Caller, mut scan: Scan) -> Result<Vec<Excerpt>, Refusal> {
        scan.project = visible(caller, scan.project)?;
        self.stored(self.parts.known.store.scan(&scan).await)
    }

    async fn statistics(&self, caller: &Caller, id: ResourceId) -> Result<Answer, Refusal> {
        let view = self.find(caller, id, Action::Read).await?;
        let all = view.tree.listeners.iter().map(|row| row.value.id);
        let listeners: Vec<ListenerId> = match id {
            ResourceId::Listener(one) => all.filter(|listener| *listener == one).collect(),
            _ => all.collect(),
        };
        let is_silent = |amphora| self.parts.agents.is_silent(amphora);
        if self.parts.known.neighbours.may_be() {
            // What was counted elsewhere.
            let (store, sightings) = (&self.parts.known.store, &self.parts.known.sightings);
            let tallies = store.tallies(view.tree.id()).await;
            sightings.restore(self.stored(tallies)?);
            // What is shown here must not be more than what others show afterwards (I11).
            let fresh = sightings.unwritten_of(&listeners);
            if let Err(error) = store.put_tallies(&fresh).await {
                sightings.mark_unwritten(&fresh);
                return self.stored(Err(error));
            }
        }
        Ok(Answer::Statistics(
            self.parts.known.sightings.totals(listeners, is_silent),
        ))
    }

    /// Storage trouble as a refusal; logged and counted here, once.
    fn stored<T>(&self, result: Result<T, StoreError>) -> Result<T, Refusal> {
        result.map_err(|error| {
            self.parts.known.metrics.store_errors.inc();
            tracing::error!(error = %chain(&error), "the store could not do what a request asked");
            match error {
                StoreError::Defect(_) | StoreError::Unreadable { .. } => {
                    Refusal::Defect(error.to_string())
                }
                _ => Refusal::Unavailable(error.to_string()),
            }
        })
    }
}

#[async_trait]
impl api::Application for Application {
    async fn authenticate(
        &self,
        credentials: &api::Credentials,
    ) -> Result<Caller, api::Unauthenticated> {
        let credentials = krater_driver::Credentials {
            token: credentials.token.clone(),
            service_token: credentials.service_token.clone(),
            project: credentials.project.clone(),
        };
        let caller = self
            .parts
            .authenticator
            .authenticate(&credentials)
            .await
            .map_err(|error| match error {
                krater_driver::Unauthenticated::Required => api::Unauthenticated::Required,
                krater_driver::Unauthenticated::Unavailable(why) => {
                    api::Unauthenticated::Unavailable(why)
                }
            })?;
        crate::request_log::note_caller(&caller);
        Ok(caller)
    }

    async fn execute(
        &self,
        caller: &Caller,
        command: Command,
        envelope: &Envelope,
    ) -> Result<Executed, Refusal> {
        match command {
            Command::CreateLoadBalancer(new) => Box::pin(self.create(caller, *new, envelope)).await,
            command => match command.target() {
                Some(target) => Box::pin(self.change(caller, target, command, envelope)).await,
                None => Err(Refusal::Defect(
                    "a command names nothing it is about".to_owned(),
                )),
            },
        }
    }

    async fn change_quota(
        &self,
        caller: &Caller,
        command: QuotaCommand,
        envelope: &Envelope,
    ) -> Result<Limits, Refusal> {
        self.set_quota(caller, command, envelope).await
    }

    async fn operate(
        &self,
        caller: &Caller,
        operation: Operation,
        envelope: &Envelope,
    ) -> Result<(), Refusal> {
        Box::pin(self.operate(caller, operation, envelope)).await
    }

    async fn arrange(
        &self,
        caller: &Caller,
        command: CatalogueCommand,
        envelope: &Envelope,
    ) -> Result<Edit, Refusal> {
        self.arrange_catalogue(caller, command, envelope).await
    }

    async fn answer(&self, caller: &Caller, query: Query) -> Result<Answer, Refusal> {
        match query {
            Query::Tree(id) => {
                let view = self.tree(caller, id, Action::Read).await?;
                Ok(Answer::Tree(Box::new(view)))
            }
            Query::MembersOf(pool) => {
                let pool = ResourceId::Pool(pool);
                let view = self.tree(caller, pool, Action::ListMembers).await?;
                Ok(Answer::Tree(Box::new(view)))
            }
            Query::Profiles(family) => self.profiles(caller, family).await,
            Query::Offers(family) => self.offers(caller, family).await,
            Query::Trees(filter) => Ok(Answer::Trees(self.trees(caller, filter).await?)),
            Query::Scan(scan) => Ok(Answer::Scan(self.scan(caller, scan).await?)),
            Query::Statistics(id) => self.statistics(caller, id).await,
            Query::Networks => {
                if !policy::permits_at_home(caller, Action::Read) {
                    return Err(Refusal::NotPermitted);
                }
                Ok(Answer::Networks(self.networks(caller).await?))
            }
            Query::Quota(project) => self.quota(caller, &project).await,
            Query::Quotas(project) => self.quotas(caller, project).await,
            Query::Audit(filter) => {
                if !policy::permits_everywhere(caller, Action::Administer) {
                    return Err(Refusal::NotPermitted);
                }
                let kept = self.stored(self.parts.known.store.audit(&filter).await)?;
                Ok(Answer::Audit(kept))
            }
            Query::QuotaDefaults(project) => self.quota_defaults(caller, project.as_ref()),
            Query::Amphorae
            | Query::AmphoraStatistics(_)
            | Query::MembersSeen(_)
            | Query::CarriersSeen(_)
            | Query::FailuresSeen(_)
                if !policy::permits_everywhere(caller, Action::Administer) =>
            {
                Err(Refusal::NotPermitted)
            }
            Query::Amphorae => Ok(Answer::Amphorae(self.amphorae_with_projects().await?)),
            Query::AmphoraStatistics(id) => self.amphora_statistics(id),
            Query::MembersSeen(id) => self.members_seen(caller, id).await,
            Query::CarriersSeen(id) => self.carriers_seen(caller, id).await,
            Query::FailuresSeen(id) => self.failures_seen(caller, id).await,
        }
    }
}

/// What permission a command takes.
const fn action_of(command: &Command) -> Action {
    match command {
        Command::FailOver(..) => Action::Administer,
        _ => Action::Write,
    }
}

/// What a request did itself.
const fn new(view: TreeView, subject: ResourceId) -> Executed {
    Executed {
        view,
        subject,
        novelty: Novelty::New,
    }
}

fn permit(caller: &Caller, project: &ProjectId, action: Action) -> Result<(), Refusal> {
    if policy::permits(caller, project, action) {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// Whose resources `caller` sees in lists of `asked`, or of whatever may be seen.
fn visible(caller: &Caller, asked: Option<ProjectId>) -> Result<Option<ProjectId>, Refusal> {
    if policy::permits_everywhere(caller, Action::Read) {
        return Ok(asked);
    }
    let own = caller.project.clone().ok_or(Refusal::NotPermitted)?;
    permit(caller, &own, Action::Read)?;
    if asked.is_some_and(|asked| asked != own) {
        return Err(Refusal::NotPermitted);
    }
    Ok(Some(own))
}

/// Notes an address that the store says is taken. Once more for the same one means that store and driver disagree.
fn claim(
    contested: &mut BTreeSet<Located>,
    address: IpAddr,
    change: &Change,
) -> Result<(), Refusal> {
    let network = change.tree.load_balancer.value.vip.network_id;
    if contested.insert((address, network)) {
        return Ok(());
    }
    Err(Refusal::AddressInUse {
        address,
        reason: "another load balancer has it".to_owned(),
    })
}

fn contended() -> Refusal {
    Refusal::Unavailable("too many changes of this load balancer at once: try again".to_owned())
}

#[cfg(test)]
mod tests;
