//! Providers, what they know, and the catalogue of flavors and availability zones (reference 13, 14, 15).

use http::StatusCode;
use krater_controller_core::{
    catalogue::{CatalogueCommand, Edit, OfferKey},
    model::{Family, OfferId, ProfileId},
    policy::{self, Action},
    query::{Answer, Query},
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::{
    context::Context,
    fault::Fault,
    fields::Selection,
    filter::Filter,
    kind::parse_id,
    page::Paging,
    path::{Shelf, percent_decoded},
    reply::Reply,
    wire::{offer, profile, row, row::Item},
};

impl Shelf {
    /// The name of a body in errors.
    pub(crate) const fn argument(self) -> &'static str {
        match self {
            Self::Profiles(family) => profile::argument(family),
            Self::Offers(family) => offer::argument(family),
        }
    }

    const fn root(self) -> &'static str {
        match self {
            Self::Profiles(family) => profile::root(family),
            Self::Offers(family) => offer::root(family),
        }
    }

    const fn root_list(self) -> &'static str {
        match self {
            Self::Profiles(family) => profile::root_list(family),
            Self::Offers(family) => offer::root_list(family),
        }
    }

    const fn links(self) -> &'static str {
        match self {
            Self::Profiles(family) => profile::links(family),
            Self::Offers(family) => offer::links(family),
        }
    }

    const fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::Profiles(family) => profile::attributes(family),
            Self::Offers(family) => offer::attributes(family),
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Profiles(family) => family.profile(),
            Self::Offers(family) => family.offer(),
        }
    }
}

/// All there is on a shelf that the parameters select.
pub(crate) async fn list(context: &Context<'_>, shelf: Shelf) -> Result<Reply, Fault> {
    let paging = Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    paging.check_plain_keys(shelf.attributes())?;
    let filter = Filter::parse_plain(&context.parameters, shelf.attributes())?;
    let mut items = items(context, shelf).await?;
    items.retain(|item| filter.selects(&item.object));
    let page = paging.take(items, &context.url, &context.parameters)?;
    let selection = Selection::parse(&context.parameters);
    let objects = page
        .items
        .into_iter()
        .map(|item| Value::Object(selection.apply(item.object)));
    let objects: Vec<Value> = objects.collect();
    Ok(Reply::ok(
        json!({shelf.root_list(): objects, shelf.links(): page.links}),
    ))
}

/// One thing on a shelf. Whether the caller may look at all comes before whether it is there.
pub(crate) async fn show(context: &Context<'_>, shelf: Shelf, key: &str) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let (name, wanted) = match shelf {
        Shelf::Offers(Family::Zone) => ("name", zone_name(key)?),
        Shelf::Offers(Family::Flavor) | Shelf::Profiles(_) => (
            "id",
            parse_id(key).map_or_else(|| key.to_owned(), |id| id.to_string()),
        ),
    };
    let item = items(context, shelf)
        .await?
        .into_iter()
        .find(|item| item.object.get(name).and_then(Value::as_str) == Some(&wanted))
        .ok_or_else(|| Fault::not_found(shelf.kind(), &wanted))?;
    let object = Selection::parse(&context.parameters).apply(item.object);
    Ok(Reply::ok(json!({shelf.root(): object})))
}

/// POST on a shelf.
pub(crate) async fn create(
    context: &Context<'_>,
    shelf: Shelf,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let command = match shelf {
        Shelf::Profiles(family) => {
            let new = profile::parse_new(body, family, &context.settings.providers)?;
            CatalogueCommand::CreateProfile(family, new)
        }
        Shelf::Offers(family) => {
            CatalogueCommand::CreateOffer(family, offer::parse_new(body, family)?)
        }
    };
    arrange(context, shelf, command, StatusCode::CREATED).await
}

/// PUT on one thing.
pub(crate) async fn update(
    context: &Context<'_>,
    shelf: Shelf,
    key: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let command = match shelf {
        Shelf::Profiles(family) => {
            let update = profile::parse_update(body, family, &context.settings.providers)?;
            CatalogueCommand::UpdateProfile(family, profile_id(family, key)?, update)
        }
        Shelf::Offers(family) => {
            let update = offer::parse_update(body, family)?;
            CatalogueCommand::UpdateOffer(offer_key(family, key)?, update)
        }
    };
    arrange(context, shelf, command, StatusCode::OK).await
}

/// DELETE on one thing.
pub(crate) async fn delete(context: &Context<'_>, shelf: Shelf, key: &str) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let command = match shelf {
        Shelf::Profiles(family) => {
            CatalogueCommand::DeleteProfile(family, profile_id(family, key)?)
        }
        Shelf::Offers(family) => CatalogueCommand::DeleteOffer(offer_key(family, key)?),
    };
    context.arrange(command).await?;
    Ok(Reply::Empty(StatusCode::NO_CONTENT))
}

/// The providers; filters are of no effect on them (reference 4.1).
pub(crate) fn list_providers(context: &Context<'_>) -> Result<Reply, Fault> {
    permit_at_home(context, Action::Read)?;
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let mut providers: Vec<_> = context.settings.providers.iter().collect();
    providers.sort_by(|left, right| left.name.cmp(&right.name));
    let selection = Selection::parse(&context.parameters);
    let objects = providers.into_iter().map(|provider| {
        Value::Object(selection.apply(described(&provider.name, &provider.description)))
    });
    Ok(Reply::ok(json!({"providers": objects.collect::<Vec<_>>()})))
}

/// What profiles of a family can say to a provider.
pub(crate) fn list_capabilities(
    context: &Context<'_>,
    provider: &str,
    family: Family,
) -> Result<Reply, Fault> {
    permit_at_home(context, Action::Administer)?;
    let enabled = &context.settings.providers;
    if !enabled.iter().any(|known| known.name == provider) {
        return Err(Refusal::UnknownProvider(provider.to_owned()).into());
    }
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let filter = Filter::parse_plain(&context.parameters, &["name", "description"])?;
    let selection = Selection::parse(&context.parameters);
    let objects = family
        .capabilities()
        .iter()
        .map(|(name, description)| described(name, description))
        .filter(|object| filter.selects(object))
        .map(|object| Value::Object(selection.apply(object)));
    let root = match family {
        Family::Flavor => "flavor_capabilities",
        Family::Zone => "availability_zone_capabilities",
    };
    Ok(Reply::ok(json!({root: objects.collect::<Vec<_>>()})))
}

async fn items(context: &Context<'_>, shelf: Shelf) -> Result<Vec<Item>, Fault> {
    match shelf {
        Shelf::Profiles(family) => match context.answer(Query::Profiles(family)).await? {
            Answer::Profiles(profiles) => Ok(profiles.iter().map(profile::render).collect()),
            _ => Err(mismatch()),
        },
        Shelf::Offers(family) => match context.answer(Query::Offers(family)).await? {
            Answer::Offers(offers) => Ok(offers.iter().map(offer::render).collect()),
            _ => Err(mismatch()),
        },
    }
}

async fn arrange(
    context: &Context<'_>,
    shelf: Shelf,
    command: CatalogueCommand,
    status: StatusCode,
) -> Result<Reply, Fault> {
    let item = match context.arrange(command).await? {
        Edit::PutProfile(profile) => profile::render(&profile),
        Edit::PutOffer(offer) => offer::render(&offer),
        Edit::DropProfile(_) | Edit::DropOffer(_) => return Err(mismatch()),
    };
    Ok(Reply::Json(status, json!({shelf.root(): item.object})))
}

fn profile_id(family: Family, key: &str) -> Result<ProfileId, Fault> {
    parse_id(key)
        .map(ProfileId::new)
        .ok_or_else(|| Fault::not_found(family.profile(), key))
}

fn offer_key(family: Family, key: &str) -> Result<OfferKey, Fault> {
    Ok(match family {
        Family::Flavor => {
            let id = parse_id(key).ok_or_else(|| Fault::not_found(family.offer(), key))?;
            OfferKey::Flavor(OfferId::new(id))
        }
        Family::Zone => OfferKey::Zone(zone_name(key)?),
    })
}

/// The name of a zone in a path, where it is encoded.
fn zone_name(key: &str) -> Result<String, Fault> {
    percent_decoded(key).ok_or_else(|| Fault::not_found(Family::Zone.offer(), key))
}

fn described(name: &str, description: &str) -> serde_json::Map<String, Value> {
    let mut object = serde_json::Map::new();
    row::extend(
        &mut object,
        json!({"name": name, "description": description}),
    );
    object
}

/// Refuses callers who may not do this to what belongs to no project.
fn permit_at_home(context: &Context<'_>, action: Action) -> Result<(), Fault> {
    if policy::permits_at_home(&context.caller, action) {
        Ok(())
    } else {
        Err(Refusal::NotPermitted.into())
    }
}

/// An application that answers another question than was asked.
fn mismatch() -> Fault {
    Refusal::Defect("the answer is not to the query".into()).into()
}
