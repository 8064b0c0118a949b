//! Flavor profiles and availability zone profiles as JSON (reference 14.1, 15).

use krater_controller_core::{
    catalogue::{NewProfile, ProfileData, ProfileUpdate},
    model::{Family, Name, Profile},
};
use serde_json::{Value, json};

use super::{
    row::{self, Item},
    terms,
};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
    settings::Provider,
};

/// Reads the body of a POST.
pub(crate) fn parse_new(
    body: Value,
    family: Family,
    providers: &[Provider],
) -> Result<NewProfile, Fault> {
    read_root(body, family, |fields| {
        let data = data_key(family);
        Ok(NewProfile {
            name: read_name(fields)?.mandatory("name")?,
            provider: read_provider(fields, providers)?.mandatory(PROVIDER)?,
            data: read_data(fields, family)?.mandatory(data)?,
        })
    })
}

/// Reads the body of a PUT.
pub(crate) fn parse_update(
    body: Value,
    family: Family,
    providers: &[Provider],
) -> Result<ProfileUpdate, Fault> {
    read_root(body, family, |fields| {
        let data = data_key(family);
        Ok(ProfileUpdate {
            name: read_name(fields)?.set_not_null("name")?,
            provider: read_provider(fields, providers)?.set_not_null(PROVIDER)?,
            data: read_data(fields, family)?.set_not_null(data)?,
        })
    })
}

/// A profile as JSON.
pub(crate) fn render(profile: &Profile) -> Item {
    let mut object = serde_json::Map::new();
    row::extend(
        &mut object,
        json!({
            "id": profile.id.uuid(),
            "name": profile.name.as_str(),
            PROVIDER: profile.provider,
            data_key(profile.family()): profile.data,
        }),
    );
    Item {
        created_at: profile.created_at,
        object,
    }
}

/// What profiles can be filtered and sorted by.
pub(crate) const fn attributes(family: Family) -> &'static [&'static str] {
    match family {
        Family::Flavor => &["id", "name", PROVIDER, "flavor_data"],
        Family::Zone => &["id", "name", PROVIDER, "availability_zone_data"],
    }
}

/// The argument's name in errors.
pub(crate) const fn argument(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavor_profile_",
        Family::Zone => "availability_zone_profile_",
    }
}

/// The key of one.
pub(crate) const fn root(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavorprofile",
        Family::Zone => "availability_zone_profile",
    }
}

/// The key of many.
pub(crate) const fn root_list(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavorprofiles",
        Family::Zone => "availability_zone_profiles",
    }
}

/// The key of links, which is a singular (reference 1.2).
pub(crate) const fn links(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavorprofile_links",
        Family::Zone => "availability_zone_profile_links",
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

/// Here null is no name (reference 14.1: mandatory).
pub(super) fn read_name(fields: &mut Fields) -> Result<Given<Name>, Fault> {
    let given = fields.text("name", body::TEXT_CHARACTERS_MAX)?;
    given.parse(|text| {
        Name::parse(text).map_err(|_| Fault::validation("the name is longer than any name may be."))
    })
}

fn read_provider(fields: &mut Fields, providers: &[Provider]) -> Result<Given<String>, Fault> {
    let given = fields.text(PROVIDER, body::TEXT_CHARACTERS_MAX)?;
    given.parse(|name| {
        if providers.iter().any(|provider| provider.name == name) {
            return Ok(name);
        }
        Err(Fault::bad_request(format!(
            "Provider '{name}' is not enabled."
        )))
    })
}

fn read_data(fields: &mut Fields, family: Family) -> Result<Given<ProfileData>, Fault> {
    let name = data_key(family);
    let given = fields.text(name, DATA_CHARACTERS_MAX)?;
    given.parse(|text| {
        let terms = terms::parse(family, &text)
            .ok_or_else(|| Fault::option(&body::echo(&Value::from(text.as_str())), name))?;
        Ok(ProfileData { text, terms })
    })
}

const fn data_key(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavor_data",
        Family::Zone => "availability_zone_data",
    }
}

const PROVIDER: &str = "provider_name";
const DATA_CHARACTERS_MAX: usize = 4_096;
