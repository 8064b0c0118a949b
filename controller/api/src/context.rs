//! All that handlers know of the request they handle.

use std::sync::OnceLock;

use krater_controller_core::{
    catalogue::{CatalogueCommand, Edit},
    command::{Command, Operation, QuotaCommand},
    envelope::{Envelope, Once},
    query::{Answer, Caller, Query},
    quota::Limits,
};
use uuid::Uuid;

use crate::{
    application::{Application, Executed},
    fault::Fault,
    parameters::Parameters,
    settings::Settings,
};

/// A request that was let in.
pub(crate) struct Context<'a> {
    /// The controller.
    pub(crate) application: &'a dyn Application,
    /// The deployment's choices.
    pub(crate) settings: &'a Settings,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The query string.
    pub(crate) parameters: Parameters,
    /// The address asked for, without its query.
    pub(crate) url: String,
    /// What the request says around its command; [`Context::once`] comes with the body.
    pub(crate) envelope: Envelope,
    /// Under which name it asks for something to be created once.
    pub(crate) once: OnceLock<Once>,
    /// What it is about of what is there already, once a command says so.
    pub(crate) about: &'a OnceLock<Uuid>,
}

impl Context<'_> {
    /// Makes a change.
    pub(crate) async fn execute(&self, command: Command) -> Result<Executed, Fault> {
        if let Some(target) = command.target() {
            self.about.get_or_init(|| target.uuid());
        }
        let envelope = self.envelope();
        let executed = self.application.execute(&self.caller, command, &envelope);
        Ok(executed.await?)
    }

    /// Changes what a project may have.
    pub(crate) async fn change_quota(&self, command: QuotaCommand) -> Result<Limits, Fault> {
        let envelope = self.envelope();
        let changed = self
            .application
            .change_quota(&self.caller, command, &envelope);
        Ok(changed.await?)
    }

    /// Changes the fleet.
    pub(crate) async fn operate(&self, operation: Operation) -> Result<(), Fault> {
        let envelope = self.envelope();
        let operated = self.application.operate(&self.caller, operation, &envelope);
        Ok(operated.await?)
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            once: self.once.get().cloned(),
            ..self.envelope.clone()
        }
    }

    /// Changes the catalogue.
    pub(crate) async fn arrange(&self, command: CatalogueCommand) -> Result<Edit, Fault> {
        if self.once.get().is_some() {
            return Err(Fault::validation(
                "An Idempotency-Key is for load balancers and what belongs to them; it cannot be used here.",
            ));
        }
        let envelope = self.envelope();
        let arranged = self.application.arrange(&self.caller, command, &envelope);
        Ok(arranged.await?)
    }

    /// Asks a question.
    pub(crate) async fn answer(&self, query: Query) -> Result<Answer, Fault> {
        Ok(self.application.answer(&self.caller, query).await?)
    }
}
