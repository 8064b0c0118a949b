//! What operators offer: a flavor of load balancers that two amphorae take turns at.

use jiff::Timestamp;
use krater_controller_core::{
    catalogue::{CatalogueChange, Edit},
    model::{
        Description, Family, FlavorTerms, Name, Offer, OfferId, Profile, ProfileId, Terms, Topology,
    },
};
use krater_controller_store::{Arranged, Store};
use uuid::Uuid;

/// Offers it before anybody asks.
pub(crate) async fn offer_pairs(store: &Store, flavor: OfferId, profile: Uuid) {
    let name = Name::parse("pair".to_owned()).unwrap();
    let profile = Profile {
        id: ProfileId::new(profile),
        name: name.clone(),
        provider: "amphora".to_owned(),
        data: "{\"loadbalancer_topology\": \"ACTIVE_STANDBY\"}".to_owned(),
        terms: Terms::Flavor(FlavorTerms {
            topology: Topology::ActiveStandby,
            ..FlavorTerms::default()
        }),
        created_at: Timestamp::UNIX_EPOCH,
    };
    let offer = Offer {
        id: flavor,
        family: Family::Flavor,
        name,
        description: Description::default(),
        enabled: true,
        profile: profile.id,
        created_at: Timestamp::UNIX_EPOCH,
    };
    for edit in [Edit::PutProfile(profile), Edit::PutOffer(offer)] {
        let basis = store.catalogue().await.unwrap().version;
        let arranged = store
            .apply_catalogue(&CatalogueChange { basis, edit })
            .await;
        assert_eq!(arranged.unwrap(), Arranged::Done);
    }
}
