//! What tenants may choose a load balancer to be made of: flavors and availability zones (reference 14.2, 15).

use alloc::{collections::BTreeSet, vec::Vec};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Description, Name, ProfileId, Steering};

/// The two families the catalogue has, of the same design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Flavors and their profiles.
    Flavor,
    /// Availability zones and theirs.
    Zone,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Flavor, Self::Zone];

    /// What an offer of the family is called in "… not found" (reference 1.6).
    #[must_use]
    pub const fn offer(self) -> &'static str {
        match self {
            Self::Flavor => "Flavor",
            Self::Zone => "Availability Zone",
        }
    }

    /// What a profile of the family is called there.
    #[must_use]
    pub const fn profile(self) -> &'static str {
        match self {
            Self::Flavor => "Flavor Profile",
            Self::Zone => "Availability Zone Profile",
        }
    }
}

/// The id of a flavor or zone. Zones are known to tenants by name; theirs never leaves the controller, and tells a
/// zone from another of the same name after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferId(Uuid);

impl OfferId {
    /// Names an offer.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The bare UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

/// A flavor or an availability zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// Its family.
    pub family: Family,
    /// Its name, of which its family has but one.
    pub name: Name,
    /// Its description, for tenants.
    pub description: Description,
    /// `false`: no new load balancer may be made of it; those there are stay.
    pub enabled: bool,
    /// What it is made of.
    pub profile: ProfileId,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a load balancer's flavor and zone make of it, looked up when it is created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// The offers themselves, which must still be there when the load balancer is stored.
    pub offers: Vec<OfferId>,
    /// What they ask of its placement.
    pub steering: Steering,
    /// The networks its VIP may be on, in place of those the deployment allows.
    pub vip_networks: Option<BTreeSet<Uuid>>,
}
