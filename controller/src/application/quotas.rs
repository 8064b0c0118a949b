//! Quotas: who may know and set them, and the questions asked of them before a change is stored.

use krater_controller_core::{
    command::{Command, QuotaCommand},
    envelope::Envelope,
    model::ProjectId,
    policy::{self, Action},
    query::{Answer, Caller},
    quota::{Growth, Limits, QuotaRecord},
    refusal::Refusal,
};

use super::{Application, permit, record};

impl Application {
    /// What projects may have for which nothing was set; `None` when quotas do not bind the caller.
    pub(super) const fn binding(&self, caller: &Caller) -> Option<&Limits> {
        if caller.exempt_from_quota {
            None
        } else {
            Some(&self.parts.quota_defaults)
        }
    }

    /// Refuses what the project would have too many of. The store decides that for good when it stores the change;
    /// this is for what must not begin in vain, and for refusals that a quota goes before (reference 1.6).
    pub(super) async fn check_quota(
        &self,
        caller: &Caller,
        project: &ProjectId,
        growth: &Growth,
    ) -> Result<(), Refusal> {
        let Some(defaults) = self.binding(caller) else {
            return Ok(());
        };
        let store = &self.parts.known.store;
        match self.stored(store.quota_met(project, growth, defaults).await)? {
            None => Ok(()),
            Some(kind) => Err(Refusal::QuotaMet(kind.name())),
        }
    }

    /// The refusal to tell: the quota's, if `refusal` is one that comes after it.
    pub(super) async fn first_told(
        &self,
        caller: &Caller,
        project: &ProjectId,
        command: &Command,
        refusal: Refusal,
    ) -> Refusal {
        if !refusal.comes_after_quota() {
            return refusal;
        }
        match self.check_quota(caller, project, &command.creates()).await {
            Ok(()) => refusal,
            Err(quota) => quota,
        }
    }

    pub(super) async fn quota(
        &self,
        caller: &Caller,
        project: &ProjectId,
    ) -> Result<Answer, Refusal> {
        permit(caller, project, Action::ReadQuota)?;
        let record = self.stored(self.parts.known.store.quota(project).await)?;
        let limits = record.unwrap_or_default().over(&self.parts.quota_defaults);
        Ok(Answer::Quota(limits))
    }

    pub(super) async fn quotas(
        &self,
        caller: &Caller,
        mut wanted: Option<ProjectId>,
    ) -> Result<Answer, Refusal> {
        if !policy::permits_everywhere(caller, Action::ReadQuota) {
            let own = caller.project.clone().ok_or(Refusal::NotPermitted)?;
            let project = wanted.unwrap_or(own);
            permit(caller, &project, Action::ReadQuota)?;
            wanted = Some(project);
        }
        let mut quotas = self.stored(self.parts.known.store.quotas().await)?;
        quotas.retain(|(project, _)| wanted.as_ref().is_none_or(|wanted| wanted == project));
        let defaults = &self.parts.quota_defaults;
        let over = quotas
            .into_iter()
            .map(|(project, record)| (project, record.over(defaults)));
        Ok(Answer::Quotas(over.collect()))
    }

    /// The defaults are no secret of any project: whoever may read a quota at all may read them.
    pub(super) fn quota_defaults(
        &self,
        caller: &Caller,
        project: Option<&ProjectId>,
    ) -> Result<Answer, Refusal> {
        match project.or(caller.project.as_ref()) {
            Some(project) => permit(caller, project, Action::ReadQuota)?,
            None if policy::permits_everywhere(caller, Action::ReadQuota) => {}
            None => return Err(Refusal::NotPermitted),
        }
        Ok(Answer::Quota(self.parts.quota_defaults))
    }

    pub(super) async fn set_quota(
        &self,
        caller: &Caller,
        command: QuotaCommand,
        envelope: &Envelope,
    ) -> Result<Limits, Refusal> {
        let store = &self.parts.known.store;
        let record = match command {
            QuotaCommand::Set(project, update) => {
                permit(caller, &project, Action::WriteQuota)?;
                let record = record::of_quota(caller, &project, envelope);
                self.stored(store.set_quota(&project, &update, Some(&record)).await)?
            }
            QuotaCommand::Reset(project) => {
                permit(caller, &project, Action::WriteQuota)?;
                let record = record::of_quota(caller, &project, envelope);
                if !self.stored(store.reset_quota(&project, Some(&record)).await)? {
                    return Err(Refusal::NoQuotaRecord(project));
                }
                QuotaRecord::default()
            }
        };
        Ok(record.over(&self.parts.quota_defaults))
    }
}

#[cfg(test)]
mod tests;
