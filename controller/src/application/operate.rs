//! What operators do to amphorae.

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    command::{Command, Operation},
    envelope::{Envelope, Precondition},
    policy::{self, Action},
    query::{AmphoraStatus, Caller, ResourceId},
    refusal::Refusal,
};

use super::{Application, record};
use crate::reconcile::Urgency;

impl Application {
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
        let (Operation::FailOver(id) | Operation::Configure(id) | Operation::Delete(id)) =
            operation;
        let view = self.amphora(id)?;
        let is_empty = view.load_balancers.is_empty();
        let may = match operation {
            Operation::FailOver(_) => !is_empty,
            Operation::Configure(_) => view.status != AmphoraStatus::PendingDelete,
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
                    self.send_away(caller, load_balancer, envelope).await?;
                }
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

    /// Has a load balancer leave its amphora. One that is gone or going leaves by itself.
    async fn send_away(
        &self,
        caller: &Caller,
        id: LoadBalancerId,
        envelope: &Envelope,
    ) -> Result<(), Refusal> {
        let command = Command::FailOver(id, None);
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
