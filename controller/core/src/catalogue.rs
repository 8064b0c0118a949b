//! The catalogue of flavors and availability zones: what operators may ask to be changed in it, and what of it a load
//! balancer is made of (reference 5.3 step 6, 14, 15).
//!
//! It is no part of any load balancer's tree and is admitted against itself: the whole of it at one version.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use uuid::Uuid;

use crate::{
    model::{Description, Family, Name, Offer, OfferId, Profile, ProfileId, Terms},
    refusal::Refusal,
};

mod admit;
mod resolve;
#[cfg(test)]
mod tests;

pub use admit::admit;
pub use resolve::resolve;

/// All there is, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Grows with every change.
    pub version: u64,
    /// In creation order.
    pub profiles: Vec<Profile>,
    /// In creation order.
    pub offers: Vec<Offer>,
    /// Those that load balancers are made of.
    pub in_use: BTreeSet<OfferId>,
}

/// A change somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueCommand {
    /// POST /flavorprofiles, /availabilityzoneprofiles
    CreateProfile(Family, NewProfile),
    /// PUT on one of them
    UpdateProfile(Family, ProfileId, ProfileUpdate),
    /// DELETE on one of them
    DeleteProfile(Family, ProfileId),
    /// POST /flavors, /availabilityzones
    CreateOffer(Family, NewOffer),
    /// PUT on one of them
    UpdateOffer(OfferKey, OfferUpdate),
    /// DELETE on one of them
    DeleteOffer(OfferKey),
}

/// How an offer is named in paths: flavors by id, zones by name (reference 15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferKey {
    /// A flavor.
    Flavor(OfferId),
    /// An availability zone.
    Zone(String),
}

/// What a profile is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileData {
    /// As written.
    pub text: String,
    /// What it means, or a sentence on what the provider does not know in it.
    pub terms: Result<Terms, String>,
}

/// A profile to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProfile {
    /// Its name.
    pub name: Name,
    /// The provider it is for, one of those enabled.
    pub provider: String,
    /// What it says.
    pub data: ProfileData,
}

/// Changes of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileUpdate {
    /// Name.
    pub name: Option<Name>,
    /// The provider it is for.
    pub provider: Option<String>,
    /// What it says.
    pub data: Option<ProfileData>,
}

/// A flavor or zone to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOffer {
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// Whether load balancers may be made of it.
    pub enabled: bool,
    /// What it is made of.
    pub profile: ProfileId,
}

/// Changes of a flavor or zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferUpdate {
    /// Name, of flavors only: zones are known by theirs.
    pub name: Option<Name>,
    /// Description.
    pub description: Option<Description>,
    /// Whether load balancers may be made of it.
    pub enabled: Option<bool>,
}

/// An admitted change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueChange {
    /// The version it was admitted against. Written only if it still is that one.
    pub basis: u64,
    /// What is written.
    pub edit: Edit,
}

/// What an admitted change writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A profile, new or in place of the one with its id.
    PutProfile(Profile),
    /// Takes a profile out.
    DropProfile(ProfileId),
    /// A flavor or zone, new or in place of the one with its id.
    PutOffer(Offer),
    /// Takes a flavor or zone out, unless a load balancer is made of it.
    DropOffer(OfferId),
}

impl Catalogue {
    /// The profile of that id and family.
    #[must_use]
    pub fn profile(&self, family: Family, id: ProfileId) -> Option<&Profile> {
        self.profiles
            .iter()
            .find(|profile| profile.id == id && profile.family() == family)
    }

    /// The flavor or zone of that name in its paths.
    #[must_use]
    pub fn offer(&self, key: &OfferKey) -> Option<&Offer> {
        match key {
            OfferKey::Flavor(id) => self
                .offers
                .iter()
                .find(|offer| offer.id == *id && offer.family == Family::Flavor),
            OfferKey::Zone(name) => self.named(Family::Zone, name),
        }
    }

    /// The flavor or zone of that name.
    fn named(&self, family: Family, name: &str) -> Option<&Offer> {
        self.offers
            .iter()
            .find(|offer| offer.family == family && offer.name.as_str() == name)
    }

    /// Makes an admitted change, as storing it does.
    pub fn apply(&mut self, change: CatalogueChange) {
        self.version = change.basis.saturating_add(1);
        match change.edit {
            Edit::PutProfile(profile) => {
                put(&mut self.profiles, profile, |one, other| one.id == other.id);
            }
            Edit::DropProfile(id) => self.profiles.retain(|profile| profile.id != id),
            Edit::PutOffer(offer) => {
                put(&mut self.offers, offer, |one, other| one.id == other.id);
            }
            Edit::DropOffer(id) => self.offers.retain(|offer| offer.id != id),
        }
    }
}

impl OfferKey {
    /// The family of what it names.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Flavor(_) => Family::Flavor,
            Self::Zone(_) => Family::Zone,
        }
    }

    fn missing(&self) -> Refusal {
        Refusal::NotInCatalogue {
            kind: self.family().offer(),
            key: self.text(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Flavor(id) => text(id.uuid()),
            Self::Zone(name) => name.clone(),
        }
    }
}

fn put<T>(all: &mut Vec<T>, value: T, same: impl Fn(&T, &T) -> bool) {
    match all.iter_mut().find(|other| same(other, &value)) {
        Some(place) => *place = value,
        None => all.push(value),
    }
}

fn text(id: Uuid) -> String {
    alloc::format!("{id}")
}
