//! Decides changes of the catalogue: against it as it is → a [`CatalogueChange`], or a [`Refusal`].

use alloc::{collections::BTreeSet, format, string::String};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Catalogue, CatalogueChange, CatalogueCommand, Edit, NewOffer, NewProfile, OfferKey,
    OfferUpdate, ProfileUpdate, text,
};
use crate::{
    limits,
    model::{Family, Offer, OfferId, Profile, ProfileId, Terms, ZoneTerms},
    refusal::Refusal,
};

/// Admits a change. `zones` are those the fleet has; what is created is called `id`.
///
/// # Errors
/// The first rule it breaks: 404, 400, 403, 409, and last what the provider does not know.
pub fn admit(
    catalogue: &Catalogue,
    command: CatalogueCommand,
    zones: &BTreeSet<String>,
    id: Uuid,
    now: Timestamp,
) -> Result<CatalogueChange, Refusal> {
    let edit = match command {
        CatalogueCommand::CreateProfile(family, new) => {
            create_profile(catalogue, family, new, zones, id, now)?
        }
        CatalogueCommand::UpdateProfile(family, id, update) => {
            update_profile(catalogue, family, id, update, zones)?
        }
        CatalogueCommand::DeleteProfile(family, id) => delete_profile(catalogue, family, id)?,
        CatalogueCommand::CreateOffer(family, new) => {
            create_offer(catalogue, family, new, id, now)?
        }
        CatalogueCommand::UpdateOffer(key, update) => update_offer(catalogue, &key, update)?,
        CatalogueCommand::DeleteOffer(key) => delete_offer(catalogue, &key)?,
    };
    Ok(CatalogueChange {
        basis: catalogue.version,
        edit,
    })
}

fn create_profile(
    catalogue: &Catalogue,
    family: Family,
    new: NewProfile,
    zones: &BTreeSet<String>,
    id: Uuid,
    now: Timestamp,
) -> Result<Edit, Refusal> {
    let siblings = catalogue.profiles.iter();
    let count = siblings
        .filter(|profile| profile.family() == family)
        .count();
    check_count(count, family.profile())?;
    let terms = understood(family, new.data.terms, zones)?;
    Ok(Edit::PutProfile(Profile {
        id: ProfileId::new(id),
        name: new.name,
        provider: new.provider,
        data: new.data.text,
        terms,
        created_at: now,
    }))
}

fn update_profile(
    catalogue: &Catalogue,
    family: Family,
    id: ProfileId,
    update: ProfileUpdate,
    zones: &BTreeSet<String>,
) -> Result<Edit, Refusal> {
    let mut profile = find_profile(catalogue, family, id)?.clone();
    let other_provider = update
        .provider
        .as_ref()
        .is_some_and(|provider| *provider != profile.provider);
    let other_data = update
        .data
        .as_ref()
        .is_some_and(|data| data.text != profile.data);
    if other_provider || other_data {
        require_unused(catalogue, &profile)?;
    }
    if let Some(data) = update.data {
        profile.terms = understood(family, data.terms, zones)?;
        profile.data = data.text;
    }
    if let Some(name) = update.name {
        profile.name = name;
    }
    if let Some(provider) = update.provider {
        profile.provider = provider;
    }
    Ok(Edit::PutProfile(profile))
}

fn delete_profile(catalogue: &Catalogue, family: Family, id: ProfileId) -> Result<Edit, Refusal> {
    let profile = find_profile(catalogue, family, id)?;
    require_unused(catalogue, profile)?;
    Ok(Edit::DropProfile(id))
}

fn create_offer(
    catalogue: &Catalogue,
    family: Family,
    new: NewOffer,
    id: Uuid,
    now: Timestamp,
) -> Result<Edit, Refusal> {
    if catalogue.profile(family, new.profile).is_none() {
        return Err(Refusal::Invalid(format!(
            "Invalid {}.",
            match family {
                Family::Flavor => "flavor_profile_id",
                Family::Zone => "availability_zone_profile_id",
            }
        )));
    }
    let siblings = catalogue.offers.iter();
    let count = siblings.filter(|offer| offer.family == family).count();
    check_count(count, family.offer())?;
    let offer = Offer {
        id: OfferId::new(id),
        family,
        name: new.name,
        description: new.description,
        enabled: new.enabled,
        profile: new.profile,
        created_at: now,
    };
    check_name(catalogue, &offer)?;
    Ok(Edit::PutOffer(offer))
}

fn update_offer(
    catalogue: &Catalogue,
    key: &OfferKey,
    update: OfferUpdate,
) -> Result<Edit, Refusal> {
    let mut offer = catalogue.offer(key).ok_or_else(|| key.missing())?.clone();
    if let Some(name) = update.name {
        offer.name = name;
        check_name(catalogue, &offer)?;
    }
    if let Some(description) = update.description {
        offer.description = description;
    }
    if let Some(enabled) = update.enabled {
        offer.enabled = enabled;
    }
    Ok(Edit::PutOffer(offer))
}

fn delete_offer(catalogue: &Catalogue, key: &OfferKey) -> Result<Edit, Refusal> {
    let offer = catalogue.offer(key).ok_or_else(|| key.missing())?;
    if catalogue.in_use.contains(&offer.id) {
        return Err(Refusal::CatalogueInUse {
            kind: key.family().offer(),
            key: key.text(),
        });
    }
    Ok(Edit::DropOffer(offer.id))
}

fn find_profile(catalogue: &Catalogue, family: Family, id: ProfileId) -> Result<&Profile, Refusal> {
    catalogue
        .profile(family, id)
        .ok_or_else(|| Refusal::NotInCatalogue {
            kind: family.profile(),
            key: text(id.uuid()),
        })
}

fn require_unused(catalogue: &Catalogue, profile: &Profile) -> Result<(), Refusal> {
    if !catalogue
        .offers
        .iter()
        .any(|offer| offer.profile == profile.id)
    {
        return Ok(());
    }
    Err(Refusal::CatalogueInUse {
        // Spelt as the reference spells it here, and nowhere else.
        kind: match profile.family() {
            Family::Flavor => "Flavor profile",
            Family::Zone => "Availability Zone Profile",
        },
        key: text(profile.id.uuid()),
    })
}

fn check_name(catalogue: &Catalogue, offer: &Offer) -> Result<(), Refusal> {
    match catalogue.named(offer.family, offer.name.as_str()) {
        Some(other) if other.id != offer.id => Err(Refusal::OfferNameTaken {
            family: offer.family,
            name: offer.name.as_str().into(),
        }),
        _ => Ok(()),
    }
}

fn check_count(count: usize, kind: &'static str) -> Result<(), Refusal> {
    if count < limits::CATALOGUE_MAX {
        Ok(())
    } else {
        Err(Refusal::QuotaMet(kind))
    }
}

/// What a profile says, if this deployment can do it.
fn understood(
    family: Family,
    terms: Result<Terms, String>,
    zones: &BTreeSet<String>,
) -> Result<Terms, Refusal> {
    let terms = terms.map_err(Refusal::NotSupported)?;
    if terms.family() != family {
        return Err(Refusal::Defect(
            "a profile speaks of what another family is made of".into(),
        ));
    }
    if let Terms::Zone(ZoneTerms {
        compute_zone: Some(zone),
        ..
    }) = &terms
    {
        super::resolve::require_zone(zone, zones)?;
    }
    Ok(terms)
}
