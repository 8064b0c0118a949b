//! What a load balancer is made of, looked up once, when it is created (reference 5.3 step 6).

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use super::{Catalogue, OfferKey};
use crate::{
    command::NewLoadBalancer,
    model::{Offer, OfferId, Profile, Steering, Terms},
    refusal::Refusal,
};

/// The new load balancer with what its flavor and zone make of it, and with the flavor's provider if it names none.
/// `zones` are those the fleet has.
///
/// # Errors
/// The first check of the reference that fails.
pub fn resolve(
    new: NewLoadBalancer,
    catalogue: &Catalogue,
    zones: &BTreeSet<String>,
) -> Result<NewLoadBalancer, Refusal> {
    let mut provider = new.provider.clone();
    let mut chosen = new.chosen.clone();
    if let Some(id) = new.flavor_id {
        let key = OfferKey::Flavor(OfferId::new(id));
        let profile = choose(catalogue, &key, &mut chosen.offers)?;
        match &provider {
            Some(named) if *named != profile.provider => {
                return Err(Refusal::FlavorOfAnotherProvider {
                    flavor: id,
                    provider: named.clone(),
                });
            }
            _ => provider = Some(profile.provider.clone()),
        }
        if let Terms::Flavor(terms) = &profile.terms {
            chosen.steering = Steering {
                topology: terms.topology,
                tenancy: terms.tenancy,
                load_balancers_max: terms.load_balancers_max,
                connections_max: terms.connections_max,
                treatment: terms.treatment,
                allotment: terms.allotment,
                ..chosen.steering
            };
        }
    }
    if let Some(name) = &new.availability_zone {
        let key = OfferKey::Zone(name.clone());
        let profile = choose(catalogue, &key, &mut chosen.offers)?;
        if let Terms::Zone(terms) = &profile.terms {
            if let Some(zone) = &terms.compute_zone {
                // The fleet may have lost it since the profile was written.
                require_zone(zone, zones)?;
            }
            chosen.steering.zone = terms.compute_zone.clone();
            chosen.vip_networks = terms.vip_networks.clone();
        }
    }
    Ok(NewLoadBalancer {
        provider,
        chosen,
        ..new
    })
}

/// The profile of an offer of which load balancers may be made.
fn choose<'a>(
    catalogue: &'a Catalogue,
    key: &OfferKey,
    offers: &mut Vec<OfferId>,
) -> Result<&'a Profile, Refusal> {
    let (invalid, field) = match key {
        OfferKey::Flavor(_) => ("Invalid flavor_id.", "flavor"),
        OfferKey::Zone(_) => ("Invalid availability zone.", "availability_zone"),
    };
    let offer: &Offer = catalogue
        .offer(key)
        .ok_or_else(|| Refusal::Invalid(invalid.into()))?;
    if !offer.enabled {
        return Err(Refusal::Disallowed {
            kind: field,
            name: key.text(),
        });
    }
    offers.push(offer.id);
    catalogue
        .profile(offer.family, offer.profile)
        .ok_or_else(|| Refusal::Defect(format!("{} has no profile", key.text())))
}

/// Refuses a zone that the fleet does not have.
pub(super) fn require_zone(zone: &str, zones: &BTreeSet<String>) -> Result<(), Refusal> {
    if zones.contains(zone) {
        return Ok(());
    }
    let known: Vec<&str> = zones.iter().map(String::as_str).collect();
    Err(Refusal::NotSupported(format!(
        "compute_zone '{zone}' is none of the fleet's zones, which are: {}.",
        known.join(", ")
    )))
}
