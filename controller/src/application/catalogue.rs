//! The catalogue behind the API: who may read and change it, and what a new load balancer is made of.

use krater_controller_core::{
    catalogue::{self, CatalogueCommand, Edit},
    command::NewLoadBalancer,
    envelope::Envelope,
    model::Family,
    policy::{self, Action},
    query::{Answer, Caller},
    refusal::Refusal,
};
use krater_controller_store::Arranged;

use super::{Application, record};
use crate::{chance, clock, limits::RACES_MAX};

impl Application {
    /// Makes a change of the catalogue. Others may make theirs meanwhile: then it is admitted again.
    pub(super) async fn arrange_catalogue(
        &self,
        caller: &Caller,
        command: CatalogueCommand,
        envelope: &Envelope,
    ) -> Result<Edit, Refusal> {
        permit_at_home(caller, Action::Administer)?;
        for _ in 0..RACES_MAX {
            let catalogue = self.stored(self.parts.known.store.catalogue().await)?;
            let change = catalogue::admit(
                &catalogue,
                command.clone(),
                &self.parts.zones,
                chance::random_uuid(),
                clock::now(),
            )?;
            match self.stored(self.parts.known.store.apply_catalogue(&change).await)? {
                Arranged::Done => {
                    let entry = record::of_catalogue(caller, &change.edit, envelope);
                    self.note(entry).await;
                    return Ok(change.edit);
                }
                Arranged::LostRace => {}
            }
        }
        Err(Refusal::Unavailable(
            "too many changes of flavors and availability zones at once: try again".to_owned(),
        ))
    }

    /// The profiles of a family, which are for operators alone.
    pub(super) async fn profiles(
        &self,
        caller: &Caller,
        family: Family,
    ) -> Result<Answer, Refusal> {
        permit_at_home(caller, Action::Administer)?;
        let mut profiles = self
            .stored(self.parts.known.store.catalogue().await)?
            .profiles;
        profiles.retain(|profile| profile.family() == family);
        Ok(Answer::Profiles(profiles))
    }

    /// The flavors or zones, which all may see who may see anything.
    pub(super) async fn offers(&self, caller: &Caller, family: Family) -> Result<Answer, Refusal> {
        permit_at_home(caller, Action::Read)?;
        let mut offers = self
            .stored(self.parts.known.store.catalogue().await)?
            .offers;
        offers.retain(|offer| offer.family == family);
        Ok(Answer::Offers(offers))
    }

    /// The new load balancer with what its flavor and zone make of it.
    pub(super) async fn resolve(
        &self,
        mut new: NewLoadBalancer,
    ) -> Result<NewLoadBalancer, Refusal> {
        if new.flavor_id.is_none() {
            new.chosen.steering.topology = self.parts.topology;
        }
        if new.flavor_id.is_none() && new.availability_zone.is_none() {
            return Ok(new);
        }
        let catalogue = self.stored(self.parts.known.store.catalogue().await)?;
        catalogue::resolve(new, &catalogue, &self.parts.zones)
    }
}

/// The catalogue belongs to no project.
fn permit_at_home(caller: &Caller, action: Action) -> Result<(), Refusal> {
    if policy::permits_at_home(caller, action) {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

#[cfg(test)]
mod tests;
