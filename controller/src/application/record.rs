//! What goes along with a change: its entry in the audit trail, and the name under which it is asked for only once.

use krater_amphora_api::AmphoraId;
use krater_controller_api::{Executed, Novelty};
use krater_controller_core::{
    audit::{Entry, Outcome},
    catalogue::Edit,
    change::Change,
    envelope::Envelope,
    model::ProjectId,
    query::Caller,
    quota::Counted,
    refusal::Refusal,
};
use krater_controller_store::{Committed, Terms};

use super::Application;
use crate::{clock, trail};

impl Application {
    /// Stores an admitted change on the terms of its request.
    pub(super) async fn store(
        &self,
        caller: &Caller,
        change: &Change,
        envelope: &Envelope,
    ) -> Result<Committed, Refusal> {
        let record = of_change(caller, change, envelope);
        let terms = Terms {
            limits: self.binding(caller),
            once: envelope.once.as_ref(),
            record: Some(&record),
        };
        self.stored(self.parts.known.store.apply_under(change, terms).await)
    }

    /// What was created before under the name that the request gave, if anything was.
    pub(super) async fn repeated(
        &self,
        project: &ProjectId,
        envelope: &Envelope,
    ) -> Result<Option<Executed>, Refusal> {
        let Some(once) = &envelope.once else {
            return Ok(None);
        };
        let store = &self.parts.known.store;
        let Some(created) = self.stored(store.created_once(project, once).await)? else {
            return Ok(None);
        };
        if created.digest != once.digest {
            return Err(Refusal::KeyReused(once.key.clone()));
        }
        let subject = created.resource;
        let view = self.stored(store.view(subject).await)?;
        let view = view.ok_or(Refusal::CreatedAndGone(subject))?;
        Ok(Some(Executed {
            view,
            subject,
            novelty: Novelty::Repeated,
        }))
    }

    /// Writes down what was done to something that is not stored in a transaction of ours. It is done all the same.
    pub(super) async fn note(&self, entry: Entry) {
        let noted = self.parts.known.store.note(&[entry]).await;
        // Logged and counted there.
        let _ = self.stored(noted);
    }
}

/// The entry of a change of a load balancer.
pub(super) fn of_change(caller: &Caller, change: &Change, envelope: &Envelope) -> Entry {
    Entry {
        kind: Counted::of(change.subject).root().to_owned(),
        resource: Some(change.subject.uuid().to_string()),
        load_balancer: Some(change.tree.id()),
        project: Some(change.tree.project().clone()),
        ..begun(caller, envelope)
    }
}

/// The entry of a change of what a project may have.
pub(super) fn of_quota(caller: &Caller, project: &ProjectId, envelope: &Envelope) -> Entry {
    Entry {
        kind: "quota".to_owned(),
        resource: Some(project.to_string()),
        project: Some(project.clone()),
        ..begun(caller, envelope)
    }
}

/// The entry of what is done to an amphora.
pub(super) fn of_amphora(caller: &Caller, id: AmphoraId, envelope: &Envelope) -> Entry {
    Entry {
        kind: "amphora".to_owned(),
        resource: Some(id.to_string()),
        ..begun(caller, envelope)
    }
}

/// The entry of a change of the catalogue of flavors and zones.
pub(super) fn of_catalogue(caller: &Caller, edit: &Edit, envelope: &Envelope) -> Entry {
    let (kind, id) = match edit {
        Edit::PutProfile(profile) => ("profile", profile.id.uuid()),
        Edit::DropProfile(id) => ("profile", id.uuid()),
        Edit::PutOffer(offer) => ("offer", offer.id.uuid()),
        Edit::DropOffer(id) => ("offer", id.uuid()),
    };
    Entry {
        kind: kind.to_owned(),
        resource: Some(id.to_string()),
        ..begun(caller, envelope)
    }
}

fn begun(caller: &Caller, envelope: &Envelope) -> Entry {
    Entry {
        at: clock::now(),
        request_id: envelope.request_id.clone(),
        global_request_id: envelope.global_request_id.clone(),
        user: caller.user.clone(),
        caller_project: caller.project.clone(),
        roles: trail::roles(caller),
        deed: envelope.deed,
        kind: String::new(),
        resource: None,
        load_balancer: None,
        project: None,
        outcome: Outcome::Done,
    }
}
