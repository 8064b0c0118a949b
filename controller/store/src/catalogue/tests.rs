//! Tests of the catalogue: its rows, and the races about them.

use krater_controller_core::{
    catalogue::{CatalogueChange, Edit},
    model::{
        Description, Family, FlavorTerms, Name, Offer, OfferId, Profile, ProfileId, Tenancy, Terms,
        ZoneTerms,
    },
};
use uuid::Uuid;

use super::Arranged;
use crate::{Committed, Store, fixture::*};

fn name(text: &str) -> Name {
    Name::parse(text.to_owned()).unwrap()
}

fn profile(number: u128, terms: Terms) -> Profile {
    Profile {
        id: ProfileId::new(Uuid::from_u128(number)),
        name: name("profile"),
        provider: "amphora".to_owned(),
        data: "{ }".to_owned(),
        terms,
        created_at: at(i64::try_from(number).unwrap()),
    }
}

fn flavor_profile(number: u128) -> Profile {
    let terms = FlavorTerms {
        tenancy: Tenancy::Dedicated,
        connections_max: Some(7),
        ..FlavorTerms::default()
    };
    profile(number, Terms::Flavor(terms))
}

fn zone_profile(number: u128) -> Profile {
    let terms = ZoneTerms {
        compute_zone: Some("local".to_owned()),
        vip_networks: Some([NETWORK].into()),
    };
    profile(number, Terms::Zone(terms))
}

fn offer(number: u128, family: Family, text: &str, profile: u128) -> Offer {
    Offer {
        id: OfferId::new(Uuid::from_u128(number)),
        family,
        name: name(text),
        description: Description::parse("für alle".to_owned()).unwrap(),
        enabled: true,
        profile: ProfileId::new(Uuid::from_u128(profile)),
        created_at: at(i64::try_from(number).unwrap()),
    }
}

async fn make(store: &Store, edit: Edit) -> Arranged {
    let basis = store.catalogue().await.unwrap().version;
    let change = CatalogueChange { basis, edit };
    store.apply_catalogue(&change).await.unwrap()
}

/// A profile and an offer of each family.
async fn stocked() -> Store {
    let store = new_store(module_path!()).await;
    for edit in [
        Edit::PutProfile(flavor_profile(1)),
        Edit::PutProfile(zone_profile(2)),
        Edit::PutOffer(offer(3, Family::Flavor, "small", 1)),
        Edit::PutOffer(offer(4, Family::Zone, "small", 2)),
    ] {
        assert_eq!(make(&store, edit).await, Arranged::Done);
    }
    store
}

#[tokio::test]
async fn the_catalogue_comes_back_as_it_was_stored_in_creation_order() {
    let store = stocked().await;
    let found = store.catalogue().await.unwrap();
    assert_eq!(found.version, 4);
    assert_eq!(found.profiles, [flavor_profile(1), zone_profile(2)]);
    let offers = [
        offer(3, Family::Flavor, "small", 1),
        offer(4, Family::Zone, "small", 2),
    ];
    assert_eq!(found.offers, offers);
    assert!(found.in_use.is_empty());
    let [mut renamed, _] = found.profiles.try_into().unwrap();
    renamed.name = name("renamed");
    let disabled = Offer {
        enabled: false,
        ..offer(3, Family::Flavor, "tiny", 1)
    };
    let done = [
        make(&store, Edit::PutProfile(renamed.clone())).await,
        make(&store, Edit::PutOffer(disabled.clone())).await,
        make(&store, Edit::DropOffer(offers[1].id)).await,
        make(&store, Edit::DropProfile(zone_profile(2).id)).await,
    ];
    assert_eq!(done, [Arranged::Done; 4]);
    let found = store.catalogue().await.unwrap();
    assert_eq!(found.version, 8);
    assert_eq!(
        (found.profiles, found.offers),
        (vec![renamed], vec![disabled])
    );
}

#[tokio::test]
async fn a_change_against_an_older_version_loses_the_race_and_stores_nothing() {
    let store = stocked().await;
    let before = store.catalogue().await.unwrap();
    let stale = CatalogueChange {
        basis: before.version - 1,
        edit: Edit::PutOffer(offer(9, Family::Flavor, "large", 1)),
    };
    assert_eq!(
        store.apply_catalogue(&stale).await.unwrap(),
        Arranged::LostRace
    );
    assert_eq!(store.catalogue().await.unwrap(), before);
}

/// Admission refuses these first; were it ever wrong, the schema still would not take them.
#[tokio::test]
async fn the_schema_has_no_two_names_and_no_offer_without_its_profile() {
    let store = stocked().await;
    let before = store.catalogue().await.unwrap();
    for edit in [
        Edit::PutOffer(offer(9, Family::Flavor, "small", 1)),
        Edit::PutOffer(offer(9, Family::Flavor, "large", 8)),
        Edit::PutOffer(offer(9, Family::Flavor, "large", 2)),
    ] {
        let change = CatalogueChange {
            basis: before.version,
            edit,
        };
        assert!(store.apply_catalogue(&change).await.is_err(), "{change:?}");
        assert_eq!(store.catalogue().await.unwrap(), before);
    }
    assert_eq!(
        make(&store, Edit::DropProfile(flavor_profile(1).id)).await,
        Arranged::LostRace
    );
    assert_eq!(store.catalogue().await.unwrap(), before);
}

#[tokio::test]
async fn what_a_load_balancer_is_made_of_cannot_go_before_it() {
    let store = stocked().await;
    let offers = [
        offer(3, Family::Flavor, "small", 1).id,
        offer(4, Family::Zone, "small", 2).id,
    ];
    let mut change = creation(tree(0, 1));
    change.offers = offers.to_vec();
    assert_eq!(store.apply(&change).await.unwrap(), Committed::Done);
    assert_eq!(store.catalogue().await.unwrap().in_use, offers.into());
    for id in offers {
        assert_eq!(make(&store, Edit::DropOffer(id)).await, Arranged::LostRace);
    }
    // Its row goes when the data plane has let go of it.
    let statement = sqlx::query("DELETE FROM resource WHERE kind = 'load_balancer'");
    store
        .run("delete a load balancer", statement)
        .await
        .unwrap();
    assert!(store.catalogue().await.unwrap().in_use.is_empty());
    for id in offers {
        assert_eq!(make(&store, Edit::DropOffer(id)).await, Arranged::Done);
    }
}

#[tokio::test]
async fn a_load_balancer_of_what_is_gone_is_not_stored() {
    let store = stocked().await;
    let flavor = offer(3, Family::Flavor, "small", 1);
    assert_eq!(
        make(&store, Edit::DropOffer(flavor.id)).await,
        Arranged::Done
    );
    // Another of the same name does not stand in for it.
    let another = offer(9, Family::Flavor, "small", 1);
    assert_eq!(make(&store, Edit::PutOffer(another)).await, Arranged::Done);
    let mut change = creation(tree(0, 1));
    change.offers = vec![flavor.id];
    assert_eq!(store.apply(&change).await.unwrap(), Committed::OfferGone);
    let all = krater_controller_core::query::TreeFilter::default();
    assert_eq!(store.views(&all).await.unwrap(), []);
    assert!(store.taken_addresses().await.unwrap().is_empty());
}

/// Whoever comes first wins, and the other is told: never both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flavor_goes_or_a_load_balancer_is_made_of_it_never_both() {
    for round in 0..50 {
        let store = stocked().await;
        let flavor = offer(3, Family::Flavor, "small", 1).id;
        let basis = store.catalogue().await.unwrap().version;
        let mut change = creation(tree(round, 1));
        change.offers = vec![flavor];
        let dropping = CatalogueChange {
            basis,
            edit: Edit::DropOffer(flavor),
        };
        let (creator, dropper) = (store.clone(), store.clone());
        let create = tokio::spawn(async move { creator.apply(&change).await.unwrap() });
        let delete = tokio::spawn(async move { dropper.apply_catalogue(&dropping).await.unwrap() });
        match (create.await.unwrap(), delete.await.unwrap()) {
            (Committed::Done, Arranged::LostRace) | (Committed::OfferGone, Arranged::Done) => {}
            both => panic!("{both:?}"),
        }
    }
}
