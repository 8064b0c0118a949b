//! Flavors and availability zones as JSON (reference 14.2, 15).

use krater_controller_core::{
    catalogue::{NewOffer, OfferUpdate},
    model::{Family, Name, Offer, ProfileId},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    profile::read_name,
    row::{self, Item},
};
use crate::{
    body::{self, Fields},
    fault::Fault,
};

/// Reads the body of a POST.
pub(crate) fn parse_new(body: Value, family: Family) -> Result<NewOffer, Fault> {
    read_root(body, family, |fields| {
        let name = read_name(fields)?.mandatory("name")?;
        if family == Family::Zone {
            check_zone_name(&name)?;
        }
        let profile = profile_key(family);
        Ok(NewOffer {
            name,
            description: fields.description()?.or_default(),
            enabled: fields
                .boolean("enabled")?
                .set_not_null("enabled")?
                .unwrap_or(true),
            profile: ProfileId::new(fields.uuid(profile)?.mandatory(profile)?),
        })
    })
}

/// Reads the body of a PUT. The name of a zone is its key and stays.
pub(crate) fn parse_update(body: Value, family: Family) -> Result<OfferUpdate, Fault> {
    read_root(body, family, |fields| {
        Ok(OfferUpdate {
            name: match family {
                Family::Flavor => read_name(fields)?.set_not_null("name")?,
                Family::Zone => None,
            },
            description: fields.description()?.value(),
            enabled: fields.boolean("enabled")?.set_not_null("enabled")?,
        })
    })
}

/// A flavor or zone as JSON. Zones have no id (reference 15).
pub(crate) fn render(offer: &Offer) -> Item {
    let mut object = Map::new();
    if offer.family == Family::Flavor {
        object.insert("id".into(), json!(offer.id.uuid()));
    }
    row::extend(
        &mut object,
        json!({
            "name": offer.name.as_str(),
            "description": offer.description.as_str(),
            "enabled": offer.enabled,
            profile_key(offer.family): offer.profile.uuid(),
        }),
    );
    Item {
        created_at: offer.created_at,
        object,
    }
}

/// What flavors and zones can be filtered and sorted by.
pub(crate) const fn attributes(family: Family) -> &'static [&'static str] {
    match family {
        Family::Flavor => &["id", "name", "description", "enabled", "flavor_profile_id"],
        Family::Zone => &[
            "name",
            "description",
            "enabled",
            "availability_zone_profile_id",
        ],
    }
}

/// The argument's name in errors.
pub(crate) const fn argument(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavor_",
        Family::Zone => "availability_zone_",
    }
}

/// The key of one.
pub(crate) const fn root(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavor",
        Family::Zone => "availability_zone",
    }
}

/// The key of many.
pub(crate) const fn root_list(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavors",
        Family::Zone => "availability_zones",
    }
}

/// The key of links.
pub(crate) const fn links(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavors_links",
        Family::Zone => "availability_zones_links",
    }
}

fn read_root<T>(
    body: Value,
    family: Family,
    read: impl FnOnce(&mut Fields) -> Result<T, Fault>,
) -> Result<T, Fault> {
    body::read_root(body, argument(family), root(family), |value, path| {
        body::read(value, path, read)
    })
}

/// A zone is named in paths: one without a name could not be. The nil UUID is no name of any (reference 14.2).
fn check_zone_name(name: &Name) -> Result<(), Fault> {
    if name.as_str().is_empty() {
        let reason = "Value should have a minimum character requirement of 1";
        return Err(Fault::input("name", "", reason));
    }
    if name.as_str() == Uuid::nil().to_string() {
        return Err(Fault::option(name.as_str(), "name"));
    }
    Ok(())
}

const fn profile_key(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavor_profile_id",
        Family::Zone => "availability_zone_profile_id",
    }
}
