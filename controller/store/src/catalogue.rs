//! The catalogue of flavors and availability zones. [`Store::apply_catalogue`] is its only writer.

use krater_controller_core::{
    catalogue::{Catalogue, CatalogueChange, Edit},
    model::{Description, Family, Name, Offer, OfferId, Profile, ProfileId, Terms},
};
use sqlx::any::AnyRow;

use crate::{
    Store, StoreError,
    engine::{Statement, retried},
    row::{self, column},
};

/// What became of a change of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Arranged {
    /// It is stored.
    Done,
    /// Somebody else changed the catalogue, or began to use what was to go: load and admit again.
    LostRace,
}

impl Store {
    /// The whole catalogue, all of the same moment.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn catalogue(&self) -> Result<Catalogue, StoreError> {
        let mut transaction = self.reading(READING).await?;
        let version = transaction.one(READING, sqlx::query(VERSION)).await?;
        let profiles = transaction.all(READING, sqlx::query(PROFILES)).await?;
        let offers = transaction.all(READING, sqlx::query(OFFERS)).await?;
        transaction.end(READING).await?;
        let version: i64 = column(&version, 0, "the catalogue's version")?;
        let mut catalogue = Catalogue {
            version: u64::try_from(version)
                .map_err(|error| StoreError::unreadable("the catalogue's version", &error))?,
            ..Catalogue::default()
        };
        for found in &profiles {
            catalogue.profiles.push(read_profile(found)?);
        }
        for found in &offers {
            let offer = read_offer(found)?;
            if column::<i64>(found, 7, "whether an offer is in use")? != 0 {
                catalogue.in_use.insert(offer.id);
            }
            catalogue.offers.push(offer);
        }
        Ok(catalogue)
    }

    /// Stores an admitted change if the catalogue is still at the version it was admitted against, and nothing that
    /// leaves came into use meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the change is stored then.
    pub async fn apply_catalogue(&self, change: &CatalogueChange) -> Result<Arranged, StoreError> {
        retried!(self.try_apply_catalogue(change))
    }

    async fn try_apply_catalogue(&self, change: &CatalogueChange) -> Result<Arranged, StoreError> {
        let basis = i64::try_from(change.basis).unwrap_or(i64::MAX);
        let statement = match &change.edit {
            Edit::PutProfile(profile) => put_profile(profile)?,
            Edit::DropProfile(id) => sqlx::query(DROP_PROFILE).bind(row::id_text(id.uuid())),
            Edit::PutOffer(offer) => put_offer(offer),
            Edit::DropOffer(id) => sqlx::query(DROP_OFFER).bind(row::id_text(id.uuid())),
        };
        let mut transaction = self.begin(APPLYING).await?;
        let counted = sqlx::query(COUNT_ON).bind(basis);
        if transaction.run(APPLYING, counted).await? == 0
            || transaction.run(APPLYING, statement).await? == 0
        {
            transaction.rollback().await?;
            return Ok(Arranged::LostRace);
        }
        transaction.commit(APPLYING).await?;
        Ok(Arranged::Done)
    }
}

fn put_profile(profile: &Profile) -> Result<Statement, StoreError> {
    Ok(sqlx::query(PUT_PROFILE)
        .bind(row::id_text(profile.id.uuid()))
        .bind(family_name(profile.family()))
        .bind(profile.name.as_str().to_owned())
        .bind(profile.provider.clone())
        .bind(profile.data.clone())
        .bind(row::document(&profile.terms)?)
        .bind(row::time_us(profile.created_at)))
}

fn put_offer(offer: &Offer) -> Statement {
    sqlx::query(PUT_OFFER)
        .bind(row::id_text(offer.id.uuid()))
        .bind(family_name(offer.family))
        .bind(offer.name.as_str().to_owned())
        .bind(offer.description.as_str().to_owned())
        .bind(i64::from(offer.enabled))
        .bind(row::id_text(offer.profile.uuid()))
        .bind(row::time_us(offer.created_at))
}

fn read_profile(found: &AnyRow) -> Result<Profile, StoreError> {
    let profile = Profile {
        id: ProfileId::new(row::read_id(found, 0, "a profile's id")?),
        name: read_name(found, 2)?,
        provider: column::<&str>(found, 3, "a provider")?.to_owned(),
        data: column::<&str>(found, 4, "a profile's data")?.to_owned(),
        terms: row::read_document::<Terms>(column(found, 5, "a profile's terms")?, "terms")?,
        created_at: row::read_time(column(found, 6, "a time")?, "a time")?,
    };
    if profile.family() != read_family(found)? {
        return Err(StoreError::unreadable(
            "a profile",
            &"its terms are of another family",
        ));
    }
    Ok(profile)
}

fn read_offer(found: &AnyRow) -> Result<Offer, StoreError> {
    let description: &str = column(found, 3, "a description")?;
    Ok(Offer {
        id: OfferId::new(row::read_id(found, 0, "an offer's id")?),
        family: read_family(found)?,
        name: read_name(found, 2)?,
        description: Description::parse(description.to_owned())
            .map_err(|_| StoreError::unreadable("a description", &"it is too long"))?,
        enabled: column::<i64>(found, 4, "whether an offer is enabled")? != 0,
        profile: ProfileId::new(row::read_id(found, 5, "a profile's id")?),
        created_at: row::read_time(column(found, 6, "a time")?, "a time")?,
    })
}

fn read_name(found: &AnyRow, index: usize) -> Result<Name, StoreError> {
    let text: &str = column(found, index, "a name")?;
    Name::parse(text.to_owned()).map_err(|_| StoreError::unreadable("a name", &"it is too long"))
}

fn read_family(found: &AnyRow) -> Result<Family, StoreError> {
    let text: &str = column(found, 1, "a family")?;
    Family::ALL
        .into_iter()
        .find(|family| family_name(*family) == text)
        .ok_or_else(|| StoreError::unreadable("a family", &format_args!("{text} is none")))
}

/// What a family is called in its column.
const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Flavor => "flavor",
        Family::Zone => "zone",
    }
}

const READING: &str = "read the catalogue";
const APPLYING: &str = "store a change of the catalogue";

const VERSION: &str = "SELECT version FROM catalogue";
const PROFILES: &str = "SELECT id, family, name, provider, data, terms, created_us FROM profile
    ORDER BY created_us, id";
const OFFERS: &str = "SELECT id, family, name, description, enabled, profile_id, created_us,
    CASE WHEN EXISTS (SELECT 1 FROM chosen WHERE offer_id = offer.id) THEN 1 ELSE 0 END
    FROM offer ORDER BY created_us, id";

const COUNT_ON: &str = "UPDATE catalogue SET version = version + 1 WHERE version = $1";

const PUT_PROFILE: &str = "INSERT INTO profile (id, family, name, provider, data, terms, created_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, provider = excluded.provider, data = excluded.data,
        terms = excluded.terms";
const DROP_PROFILE: &str = "DELETE FROM profile
    WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM offer WHERE profile_id = $1)";
const PUT_OFFER: &str =
    "INSERT INTO offer (id, family, name, description, enabled, profile_id, created_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
        enabled = excluded.enabled";
const DROP_OFFER: &str = "DELETE FROM offer
    WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM chosen WHERE offer_id = $1)";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "catalogue/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
