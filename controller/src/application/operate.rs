//! What operators do to amphorae, and what these see of members.

use std::{cmp::Reverse, collections::BTreeMap};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    command::{Command, Operation},
    envelope::{Envelope, Precondition},
    model::ProjectId,
    policy::{self, Action},
    query::{
        AmphoraStatus, AmphoraView, Answer, Caller, CarrierView, FailureView, MemberView,
        ResourceId,
    },
    refusal::Refusal,
    tree::LoadBalancerTree,
    turns,
};

use super::{Application, record};
use crate::{clock, reconcile::Urgency};

impl Application {
    /// The fleet, with whose load balancers are where and how two take turns.
    pub(super) async fn amphorae_with_projects(&self) -> Result<Vec<AmphoraView>, Refusal> {
        let mut views = self.amphorae();
        for (amphora, project) in
            self.stored(self.parts.known.store.projects_of_amphorae().await)?
        {
            let view = views.iter_mut().find(|view| view.id == amphora);
            if let (Some(view), Some(project)) = (view, ProjectId::parse(&project)) {
                view.projects.push(project);
            }
        }
        for view in &mut views {
            if let [only] = view.load_balancers.as_slice()
                && self.parts.known.placements.places(*only).len() > 1
                && let Some(found) = self.stored(
                    self.parts
                        .known
                        .store
                        .view(ResourceId::LoadBalancer(*only))
                        .await,
                )?
            {
                view.turn = turns::view(&found.tree.load_balancer.value, view.id);
            }
        }
        Ok(views)
    }

    /// The members of a load balancer as those see them that carry it: its own amphora, and what it is moving from.
    pub(super) async fn members_seen(
        &self,
        caller: &Caller,
        id: LoadBalancerId,
    ) -> Result<Answer, Refusal> {
        let target = ResourceId::LoadBalancer(id);
        let tree = self.find(caller, target, Action::Administer).await?.tree;
        let mut seen = Vec::new();
        for CarrierView {
            amphora,
            seen: report,
            ..
        } in self.carriers(id)
        {
            let Some(report) = report else {
                continue;
            };
            let members = report.pools.into_iter().flat_map(|pool| pool.members);
            let mut members: BTreeMap<_, _> = members.map(|member| (member.id, member)).collect();
            seen.extend(tree.members.iter().filter_map(|row| {
                Some(MemberView {
                    member: row.value.clone(),
                    amphora,
                    seen: members.remove(&row.value.id)?,
                })
            }));
        }
        Ok(Answer::MembersSeen(seen))
    }

    /// Who carries a load balancer.
    pub(super) async fn carriers_seen(
        &self,
        caller: &Caller,
        id: LoadBalancerId,
    ) -> Result<Answer, Refusal> {
        let target = ResourceId::LoadBalancer(id);
        self.find(caller, target, Action::Administer).await?;
        Ok(Answer::CarriersSeen(self.carriers(id)))
    }

    fn carriers(&self, id: LoadBalancerId) -> Vec<CarrierView> {
        let known = &self.parts.known;
        let places = known.placements.places(id).into_iter();
        let placed: Vec<_> = places.map(|(_, amphora)| amphora).collect();
        let mut left = known.placements.departures(id);
        left.retain(|amphora| !placed.contains(amphora));
        let all = placed.into_iter().map(|amphora| (amphora, false));
        all.chain(left.into_iter().map(|amphora| (amphora, true)))
            .map(|(amphora, leaving)| CarrierView {
                amphora,
                leaving,
                seen: known.sightings.report(amphora, id),
            })
            .collect()
    }

    /// What failed at the listeners of a load balancer lately, whoever carried it.
    pub(super) async fn failures_seen(
        &self,
        caller: &Caller,
        id: LoadBalancerId,
    ) -> Result<Answer, Refusal> {
        let target = ResourceId::LoadBalancer(id);
        let tree = self.find(caller, target, Action::Administer).await?.tree;
        let sightings = &self.parts.known.sightings;
        let now = clock::now();
        let listeners = tree.listeners.iter().map(|row| FailureView {
            listener: row.value.clone(),
            recent: sightings.failures(row.value.id, now),
        });
        Ok(Answer::FailuresSeen {
            since: sightings.failures_since(),
            listeners: listeners.collect(),
        })
    }

    /// Changes the fleet.
    pub(super) async fn operate(
        &self,
        caller: &Caller,
        operation: Operation,
        envelope: &Envelope,
    ) -> Result<(), Refusal> {
        if !policy::permits_everywhere(caller, Action::Administer) {
            return Err(Refusal::NotPermitted);
        }
        let (Operation::FailOver(id)
        | Operation::Configure(id)
        | Operation::Upgrade(id)
        | Operation::Delete(id)) = operation
        else {
            self.parts.vault.ask();
            return Ok(());
        };
        let view = self.amphora(id)?;
        let is_empty = view.load_balancers.is_empty();
        let may = match operation {
            Operation::FailOver(_) => !is_empty,
            Operation::RefreshSecrets => true,
            Operation::Configure(_) | Operation::Upgrade(_) => {
                view.status != AmphoraStatus::PendingDelete
            }
            Operation::Delete(_) => {
                is_empty
                    || matches!(
                        view.status,
                        AmphoraStatus::Error | AmphoraStatus::PendingDelete
                    )
            }
        };
        if !may {
            return Err(Refusal::AmphoraImmutable(id));
        }
        match operation {
            Operation::FailOver(_) | Operation::Delete(_) => {
                self.stored(self.parts.agents.retire(id).await)?;
                self.note(record::of_amphora(caller, id, envelope)).await;
                for load_balancer in view.load_balancers {
                    self.send_away(caller, load_balancer, view.id, envelope)
                        .await?;
                }
            }
            Operation::RefreshSecrets => {}
            Operation::Upgrade(_) => {
                let asked = self.parts.agents.upgrade(id).await;
                asked.map_err(Refusal::Unavailable)?;
                self.note(record::of_amphora(caller, id, envelope)).await;
            }
            Operation::Configure(_) => {
                let renewed = self.parts.agents.renew(id).await;
                renewed.map_err(Refusal::Unavailable)?;
                self.note(record::of_amphora(caller, id, envelope)).await;
                self.parts.known.sightings.doubt(id);
                for load_balancer in view.load_balancers {
                    self.parts
                        .reconciler
                        .poke(load_balancer, Urgency::Background);
                }
            }
        }
        Ok(())
    }

    /// Fills in what only the controller knows: which amphora a failover leads away from. None while it is on its way,
    /// so that asking twice moves it once.
    pub(super) fn resolved(&self, command: Command) -> Command {
        match command {
            Command::FailOver(id, None, _) => {
                let placements = &self.parts.known.placements;
                let is_settled = placements.departures(id).is_empty();
                // Of two the one first that is the less likely to serve.
                let mut places = placements.places(id);
                places.sort_by_key(|(seat, amphora)| {
                    (!self.parts.agents.is_silent(*amphora), Reverse(*seat))
                });
                let mut places = places.into_iter();
                let from = places.next().filter(|_| is_settled).map(|(_, from)| from);
                let then = places.next().filter(|_| is_settled).map(|(_, then)| then);
                Command::FailOver(id, from, then)
            }
            other => other,
        }
    }

    /// Whoever moves a load balancer has to know where it is, whichever controller put it there. Answers whether
    /// the command does.
    pub(super) async fn be_sure_of_place(
        &self,
        tree: &LoadBalancerTree,
        command: &Command,
    ) -> Result<bool, Refusal> {
        if !matches!(command, Command::FailOver(..)) {
            return Ok(false);
        }
        self.stored(self.parts.known.placements.be_sure_of(tree.id()).await)?;
        Ok(true)
    }

    /// Has a load balancer leave its amphora. One that is gone or going leaves by itself.
    async fn send_away(
        &self,
        caller: &Caller,
        id: LoadBalancerId,
        from: AmphoraId,
        envelope: &Envelope,
    ) -> Result<(), Refusal> {
        let command = Command::FailOver(id, Some(from), None);
        let target = ResourceId::LoadBalancer(id);
        let envelope = Envelope {
            precondition: Precondition::Any,
            once: None,
            ..envelope.clone()
        };
        match self.change(caller, target, command, &envelope).await {
            Ok(_) | Err(Refusal::NotFound(_) | Refusal::BeingDeleted(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}
