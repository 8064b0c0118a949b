//! Flavors and zones from end to end: what they say reaches the load balancer, and stays while it is there.

use std::sync::Arc;

use krater_controller_api::Application as _;
use krater_controller_core::{
    catalogue::{CatalogueCommand, Edit, NewOffer, NewProfile, OfferKey, OfferUpdate, ProfileData},
    command::{Cascade, Command, NewLoadBalancer},
    envelope::Envelope,
    model::{
        Description, Family, FlavorTerms, Name, OfferId, ProfileId, ProjectId, Steering, Tenancy,
        Terms, Topology, ZoneTerms,
    },
    query::{Answer, Caller, Persona, Query},
    refusal::Refusal,
    vips::VipRules,
};
use krater_driver_local::{LocalNetwork, NetworkConfig};
use uuid::Uuid;

use crate::testbed::{House, Setting};

fn name(text: &str) -> Name {
    Name::parse(text.to_owned()).unwrap()
}

fn new_profile(terms: Terms) -> NewProfile {
    NewProfile {
        name: name("profile"),
        provider: "octavia".to_owned(),
        data: ProfileData {
            text: "{}".to_owned(),
            terms: Ok(terms),
        },
    }
}

async fn arrange(house: &House, command: CatalogueCommand) -> Result<Edit, Refusal> {
    house
        .application
        .arrange(&house.caller, command, &Envelope::default())
        .await
}

/// An offer of that name with a profile of its own.
async fn offered(house: &House, text: &str, terms: Terms) -> (OfferId, ProfileId) {
    let family = terms.family();
    let command = CatalogueCommand::CreateProfile(family, new_profile(terms));
    let Edit::PutProfile(profile) = arrange(house, command).await.unwrap() else {
        panic!("no profile")
    };
    let new = NewOffer {
        name: name(text),
        description: Description::default(),
        enabled: true,
        profile: profile.id,
    };
    match arrange(house, CatalogueCommand::CreateOffer(family, new)).await {
        Ok(Edit::PutOffer(offer)) => (offer.id, profile.id),
        other => panic!("{other:?}"),
    }
}

fn dedicated() -> Terms {
    Terms::Flavor(FlavorTerms {
        tenancy: Tenancy::Dedicated,
        load_balancers_max: Some(3),
        connections_max: Some(100),
        ..FlavorTerms::default()
    })
}

async fn create(
    house: &House,
    new: NewLoadBalancer,
) -> Result<krater_controller_api::Executed, Refusal> {
    house
        .execute(Command::CreateLoadBalancer(Box::new(new)))
        .await
}

#[tokio::test]
async fn what_flavor_and_zone_say_reaches_the_row_of_the_load_balancer() {
    let house = House::build().await;
    let networks = house.known.store.taken_addresses().await.unwrap();
    assert!(networks.is_empty());
    let (flavor, _) = offered(&house, "gold", dedicated()).await;
    let zone = ZoneTerms {
        compute_zone: Some("local".to_owned()),
        vip_networks: None,
    };
    offered(&house, "rack-a", Terms::Zone(zone)).await;
    let mut new = house.new_load_balancer();
    new.flavor_id = Some(flavor.uuid());
    new.availability_zone = Some("rack-a".to_owned());
    let id = create(&house, new).await.unwrap().view.tree.id();
    let stored = house.view(id).await.unwrap().tree.load_balancer.value;
    assert_eq!(stored.flavor_id, Some(flavor.uuid()));
    assert_eq!(stored.availability_zone.as_deref(), Some("rack-a"));
    assert_eq!(stored.provider, "octavia", "the flavor's");
    assert_eq!(
        stored.steering,
        Steering {
            topology: Topology::Single,
            tenancy: Tenancy::Dedicated,
            zone: Some("local".to_owned()),
            load_balancers_max: Some(3),
            connections_max: Some(100),
            ..Steering::default()
        }
    );
}

#[tokio::test]
async fn a_load_balancer_of_neither_asks_for_nothing() {
    let house = House::build().await;
    let new = house.new_load_balancer();
    let row = create(&house, new)
        .await
        .unwrap()
        .view
        .tree
        .load_balancer
        .value;
    assert_eq!((row.flavor_id, row.availability_zone), (None, None));
    assert_eq!(row.steering, Steering::default());
    assert_eq!(row.provider, "amphora");
}

#[tokio::test]
async fn an_offer_is_in_use_until_the_last_load_balancer_of_it_is_gone() {
    let house = House::build().await;
    let (flavor, profile) = offered(&house, "gold", dedicated()).await;
    let mut new = house.new_load_balancer();
    new.flavor_id = Some(flavor.uuid());
    let id = create(&house, new).await.unwrap().view.tree.id();
    let drop_flavor = || CatalogueCommand::DeleteOffer(OfferKey::Flavor(flavor));
    let refused = arrange(&house, drop_flavor()).await.unwrap_err();
    assert_eq!(
        refused,
        Refusal::CatalogueInUse {
            kind: "Flavor",
            key: flavor.uuid().to_string()
        }
    );
    let drop_profile = || CatalogueCommand::DeleteProfile(Family::Flavor, profile);
    assert!(matches!(
        arrange(&house, drop_profile()).await,
        Err(Refusal::CatalogueInUse {
            kind: "Flavor profile",
            ..
        })
    ));
    house
        .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .await
        .unwrap();
    house.get(id).await.unwrap_err();
    arrange(&house, drop_flavor()).await.unwrap();
    arrange(&house, drop_profile()).await.unwrap();
    let mut new = house.new_load_balancer();
    new.flavor_id = Some(flavor.uuid());
    assert_eq!(
        create(&house, new).await.unwrap_err(),
        Refusal::Invalid("Invalid flavor_id.".to_owned())
    );
}

#[tokio::test]
async fn a_disabled_offer_makes_nothing_new() {
    let house = House::build().await;
    let (flavor, _) = offered(&house, "gold", dedicated()).await;
    let update = OfferUpdate {
        enabled: Some(false),
        ..OfferUpdate::default()
    };
    let command = CatalogueCommand::UpdateOffer(OfferKey::Flavor(flavor), update);
    arrange(&house, command).await.unwrap();
    let mut new = house.new_load_balancer();
    new.flavor_id = Some(flavor.uuid());
    assert_eq!(
        create(&house, new).await.unwrap_err(),
        Refusal::Disallowed {
            kind: "flavor",
            name: flavor.uuid().to_string()
        }
    );
}

#[tokio::test]
async fn a_zone_limits_the_networks_of_vips() {
    let house = House::build().await;
    let only = |network| {
        Terms::Zone(ZoneTerms {
            compute_zone: None,
            vip_networks: Some([network].into()),
        })
    };
    let own = house
        .serving()
        .await
        .tree
        .load_balancer
        .value
        .vip
        .network_id;
    offered(&house, "here", only(own)).await;
    offered(&house, "elsewhere", only(Uuid::from_u128(1))).await;
    let in_zone = |zone: &str| {
        let mut new = house.new_load_balancer();
        new.availability_zone = Some(zone.to_owned());
        create(&house, new)
    };
    assert!(in_zone("here").await.is_ok());
    let refusal = in_zone("elsewhere").await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Invalid(why) if why.starts_with("Supplied VIP network_id is not allowed")),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn what_this_deployment_does_not_have_is_refused_with_the_profile() {
    let house = House::build().await;
    let nowhere = Terms::Zone(ZoneTerms {
        compute_zone: Some("moon".to_owned()),
        vip_networks: None,
    });
    let command = CatalogueCommand::CreateProfile(nowhere.family(), new_profile(nowhere));
    let refusal = arrange(&house, command).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NotSupported(_)), "{refusal:?}");
}

#[tokio::test]
async fn tenants_see_flavors_and_zones_and_operators_profiles_too() {
    let house = House::build().await;
    let (flavor, profile) = offered(&house, "gold", dedicated()).await;
    let caller = |persona, project| Caller::new("somebody", project, persona);
    let own = || ProjectId::parse("elsewhere");
    for (who, sees_offers, sees_profiles) in [
        (caller(Persona::Admin, None), true, true),
        (caller(Persona::Member, own()), true, false),
        (caller(Persona::Observer, own()), true, false),
        (caller(Persona::Member, None), false, false),
    ] {
        let offers = house
            .application
            .answer(&who, Query::Offers(Family::Flavor))
            .await;
        match offers {
            Ok(Answer::Offers(offers)) => assert!(sees_offers && offers[0].id == flavor),
            Err(refusal) => assert!(!sees_offers && refusal == Refusal::NotPermitted, "{who:?}"),
            Ok(other) => panic!("{other:?}"),
        }
        let profiles = house
            .application
            .answer(&who, Query::Profiles(Family::Flavor))
            .await;
        match profiles {
            Ok(Answer::Profiles(profiles)) => assert!(sees_profiles && profiles[0].id == profile),
            Err(refusal) => assert!(
                !sees_profiles && refusal == Refusal::NotPermitted,
                "{who:?}"
            ),
            Ok(other) => panic!("{other:?}"),
        }
        if !sees_profiles {
            let command = CatalogueCommand::DeleteOffer(OfferKey::Flavor(flavor));
            let refused = house
                .application
                .arrange(&who, command, &Envelope::default())
                .await;
            assert_eq!(refused, Err(Refusal::NotPermitted), "{who:?}");
        }
    }
}

/// Load balancers are created of a flavor while it is deleted: each is either refused or keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flavor_deleted_while_load_balancers_are_made_of_it_is_whole_or_gone() {
    let house = Arc::new(House::build().await);
    let (flavor, _) = offered(&house, "gold", dedicated()).await;
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let house = Arc::clone(&house);
        creates.spawn(async move {
            let mut new = house.new_load_balancer();
            new.flavor_id = Some(flavor.uuid());
            create(&house, new).await.map(drop)
        });
    }
    let command = CatalogueCommand::DeleteOffer(OfferKey::Flavor(flavor));
    let deleted = arrange(&house, command).await;
    let created = creates.join_all().await;
    let gone = Refusal::Invalid("Invalid flavor_id.".to_owned());
    match deleted {
        Ok(_) => assert!(
            created.iter().all(|done| *done == Err(gone.clone())),
            "{created:?}"
        ),
        Err(Refusal::CatalogueInUse { .. }) => {
            assert!(created.iter().all(Result::is_ok), "{created:?}")
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_flavors_of_one_name_created_at_once_there_is_one() {
    let house = Arc::new(House::build().await);
    let (_, profile) = offered(&house, "gold", dedicated()).await;
    let mut creates = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let house = Arc::clone(&house);
        creates.spawn(async move {
            let new = NewOffer {
                name: name("silver"),
                description: Description::default(),
                enabled: true,
                profile,
            };
            arrange(&house, CatalogueCommand::CreateOffer(Family::Flavor, new)).await
        });
    }
    let created = creates.join_all().await;
    let taken = Refusal::OfferNameTaken {
        family: Family::Flavor,
        name: "silver".to_owned(),
    };
    assert_eq!(created.iter().filter(|done| done.is_ok()).count(), 1);
    assert_eq!(
        created
            .iter()
            .filter(|done| **done == Err(taken.clone()))
            .count(),
        7,
        "{created:?}"
    );
}

#[tokio::test]
async fn two_amphorae_on_a_network_that_is_on_one_host_are_refused_and_take_no_address() {
    let plain = NetworkConfig::loopback();
    let ids = LocalNetwork::new(std::slice::from_ref(&plain)).unwrap();
    let network = ids.network_id(&plain.name).unwrap();
    let house = House::build_with(Setting {
        networks: vec![plain],
        rules: VipRules {
            one_host: [network].into(),
            ..VipRules::default()
        },
        topology: Topology::ActiveStandby,
        ..Setting::default()
    })
    .await;
    let refusal = create(&house, house.new_load_balancer()).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Invalid(why) if why.contains("ACTIVE_STANDBY")),
        "{refusal:?}"
    );
    // A flavor that asks for one amphora gets it.
    let (flavor, _) = offered(&house, "single", dedicated()).await;
    let mut new = house.new_load_balancer();
    new.flavor_id = Some(flavor.uuid());
    create(&house, new).await.unwrap();
}
