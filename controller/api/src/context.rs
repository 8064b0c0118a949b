//! All that handlers know of the request they handle.

use krater_controller_core::{
    catalogue::{CatalogueCommand, Edit},
    command::{Command, Operation, QuotaCommand},
    query::{Answer, Caller, Query},
    quota::Limits,
};

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
}

impl Context<'_> {
    /// Makes a change.
    pub(crate) async fn execute(&self, command: Command) -> Result<Executed, Fault> {
        Ok(self.application.execute(&self.caller, command).await?)
    }

    /// Changes what a project may have.
    pub(crate) async fn change_quota(&self, command: QuotaCommand) -> Result<Limits, Fault> {
        let changed = self.application.change_quota(&self.caller, command);
        Ok(changed.await?)
    }

    /// Changes the fleet.
    pub(crate) async fn operate(&self, operation: Operation) -> Result<(), Fault> {
        Ok(self.application.operate(&self.caller, operation).await?)
    }

    /// Changes the catalogue.
    pub(crate) async fn arrange(&self, command: CatalogueCommand) -> Result<Edit, Fault> {
        Ok(self.application.arrange(&self.caller, command).await?)
    }

    /// Asks a question.
    pub(crate) async fn answer(&self, query: Query) -> Result<Answer, Fault> {
        Ok(self.application.answer(&self.caller, query).await?)
    }
}
