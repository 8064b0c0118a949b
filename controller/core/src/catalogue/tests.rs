//! Rules of the catalogue, and what it makes of new load balancers.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use uuid::Uuid;

use super::*;
use crate::{
    admit,
    command::NewLoadBalancer,
    limits,
    model::{
        Allotment, FlavorTerms, LoadBalancerId, Steering, Tenancy, Topology, Treatment, ZoneTerms,
    },
    rules::Rules,
    sample::{at, name, new_balancer, project, vip},
};

fn zones() -> BTreeSet<String> {
    ["local".into(), "rack-a".into()].into()
}

/// A catalogue, and the number of the next id in it.
#[derive(Default)]
struct Shop {
    catalogue: Catalogue,
    next: u128,
}

impl Shop {
    fn ask(&mut self, command: CatalogueCommand) -> Result<Edit, Refusal> {
        self.next += 1;
        let id = Uuid::from_u128(self.next);
        let change = super::admit(&self.catalogue, command, &zones(), id, at(0))?;
        self.catalogue.apply(change.clone());
        Ok(change.edit)
    }

    fn profile(&mut self, terms: Terms) -> ProfileId {
        let family = terms.family();
        match self.ask(CatalogueCommand::CreateProfile(family, new_profile(terms))) {
            Ok(Edit::PutProfile(profile)) => profile.id,
            other => panic!("{other:?}"),
        }
    }

    fn offer(&mut self, text: &str, terms: Terms) -> OfferId {
        let family = terms.family();
        let profile = self.profile(terms);
        let new = new_offer(text, profile);
        match self.ask(CatalogueCommand::CreateOffer(family, new)) {
            Ok(Edit::PutOffer(offer)) => offer.id,
            other => panic!("{other:?}"),
        }
    }
}

fn data(terms: Result<Terms, String>) -> ProfileData {
    ProfileData {
        text: format!("{terms:?}"),
        terms,
    }
}

fn new_profile(terms: Terms) -> NewProfile {
    NewProfile {
        name: name("profile"),
        provider: "amphora".into(),
        data: data(Ok(terms)),
    }
}

fn new_offer(text: &str, profile: ProfileId) -> NewOffer {
    NewOffer {
        name: name(text),
        description: Description::default(),
        enabled: true,
        profile,
    }
}

const SLOWLY: Treatment = Treatment {
    passive_failures: None,
    passive_seconds: None,
    passive_share: None,
    slow_start_seconds: Some(4),
    source_rate: None,
    member_drain: None,
    member_requests: None,
    access_log_one_in: None,
    congestion_control: None,
};

const BOUNDED: Allotment = Allotment {
    memory_mib: Some(256),
    cpu_percent: None,
};

fn flavor() -> Terms {
    Terms::Flavor(FlavorTerms {
        topology: Topology::ActiveStandby,
        tenancy: Tenancy::Dedicated,
        load_balancers_max: Some(2),
        connections_max: Some(3),
        treatment: SLOWLY,
        allotment: BOUNDED,
    })
}

fn zone(text: &str) -> Terms {
    Terms::Zone(ZoneTerms {
        compute_zone: Some(text.into()),
        vip_networks: Some([Uuid::from_u128(3)].into()),
    })
}

#[test]
fn a_change_is_admitted_against_the_version_it_saw() {
    let mut shop = Shop::default();
    let profile = shop.profile(flavor());
    assert_eq!(shop.catalogue.version, 1);
    let change = super::admit(
        &shop.catalogue,
        CatalogueCommand::DeleteProfile(Family::Flavor, profile),
        &zones(),
        Uuid::nil(),
        at(0),
    );
    assert_eq!(
        change,
        Ok(CatalogueChange {
            basis: 1,
            edit: Edit::DropProfile(profile)
        })
    );
}

#[test]
fn zones_the_fleet_does_not_have_are_not_supported_and_404_and_409_come_first() {
    let mut shop = Shop::default();
    let create = CatalogueCommand::CreateProfile(Family::Zone, new_profile(zone("moon")));
    assert_eq!(
        shop.ask(create),
        Err(Refusal::NotSupported(
            "compute_zone 'moon' is none of the fleet's zones, which are: local, rack-a.".into()
        ))
    );
    let id = shop.profile(zone("rack-a"));
    let update = |id| {
        let update = ProfileUpdate {
            data: Some(data(Err("no.".into()))),
            ..ProfileUpdate::default()
        };
        CatalogueCommand::UpdateProfile(Family::Zone, id, update)
    };
    assert_eq!(
        shop.ask(update(id)),
        Err(Refusal::NotSupported("no.".into()))
    );
    let nobody = ProfileId::new(Uuid::from_u128(99));
    assert_eq!(
        shop.ask(update(nobody)),
        Err(Refusal::NotInCatalogue {
            kind: "Availability Zone Profile",
            key: nobody.uuid().to_string()
        })
    );
    let new = new_offer("here", id);
    shop.ask(CatalogueCommand::CreateOffer(Family::Zone, new))
        .unwrap();
    assert_eq!(
        shop.ask(update(id)),
        Err(Refusal::CatalogueInUse {
            kind: "Availability Zone Profile",
            key: id.uuid().to_string()
        })
    );
}

#[test]
fn there_are_at_most_so_many_of_a_family() {
    let mut shop = Shop::default();
    let profile = shop.profile(flavor());
    for number in 1..limits::CATALOGUE_MAX {
        shop.profile(flavor());
        let new = new_offer(&format!("{number}"), profile);
        shop.ask(CatalogueCommand::CreateOffer(Family::Flavor, new))
            .unwrap();
    }
    let one_more = |shop: &mut Shop, family, terms| {
        shop.ask(CatalogueCommand::CreateProfile(family, new_profile(terms)))
    };
    assert_eq!(
        one_more(&mut shop, Family::Flavor, flavor()),
        Err(Refusal::QuotaMet("Flavor Profile"))
    );
    assert!(one_more(&mut shop, Family::Zone, zone("local")).is_ok());
    let new = |text| CatalogueCommand::CreateOffer(Family::Flavor, new_offer(text, profile));
    assert!(shop.ask(new("last")).is_ok());
    assert_eq!(shop.ask(new("one more")), Err(Refusal::QuotaMet("Flavor")));
}

#[test]
fn an_offer_goes_unless_it_is_in_use() {
    let mut shop = Shop::default();
    let id = shop.offer("gold", flavor());
    let delete = || CatalogueCommand::DeleteOffer(OfferKey::Flavor(id));
    shop.catalogue.in_use.insert(id);
    assert_eq!(
        shop.ask(delete()),
        Err(Refusal::CatalogueInUse {
            kind: "Flavor",
            key: id.uuid().to_string()
        })
    );
    // What is in use can still be renamed and closed to others.
    let update = OfferUpdate {
        name: Some(name("silver")),
        enabled: Some(false),
        ..OfferUpdate::default()
    };
    let update = CatalogueCommand::UpdateOffer(OfferKey::Flavor(id), update);
    assert!(shop.ask(update).is_ok());
    shop.catalogue.in_use.clear();
    assert!(shop.ask(delete()).is_ok());
    assert!(matches!(
        shop.ask(delete()),
        Err(Refusal::NotInCatalogue { kind: "Flavor", .. })
    ));
    let zone = OfferKey::Zone("gold".into());
    assert!(matches!(
        shop.ask(CatalogueCommand::DeleteOffer(zone)),
        Err(Refusal::NotInCatalogue {
            kind: "Availability Zone",
            ..
        })
    ));
}

#[test]
fn a_new_load_balancer_is_what_its_flavor_and_zone_make_of_it() {
    let mut shop = Shop::default();
    let gold = shop.offer("gold", flavor());
    let rack = shop.offer("rack", zone("rack-a"));
    let plain = resolve(new_balancer(), &shop.catalogue, &zones()).unwrap();
    assert_eq!(plain, new_balancer());
    let new = NewLoadBalancer {
        flavor_id: Some(gold.uuid()),
        availability_zone: Some("rack".into()),
        ..new_balancer()
    };
    let resolved = resolve(new, &shop.catalogue, &zones()).unwrap();
    assert_eq!(resolved.provider.as_deref(), Some("amphora"));
    assert_eq!(resolved.chosen.offers, [gold, rack]);
    let steering = Steering {
        topology: Topology::ActiveStandby,
        tenancy: Tenancy::Dedicated,
        zone: Some("rack-a".into()),
        load_balancers_max: Some(2),
        connections_max: Some(3),
        treatment: SLOWLY,
        allotment: BOUNDED,
        ..Steering::default()
    };
    assert_eq!(resolved.chosen.steering, steering);
    let networks = resolved.chosen.vip_networks.clone();
    assert_eq!(networks, Some([Uuid::from_u128(3)].into()));
    let id = LoadBalancerId::new(Uuid::from_u128(9));
    let (vip, ids) = (vip("10.0.0.1"), &mut || Uuid::nil());
    let at_vip = (vip, Vec::new());
    let change = admit::create(
        resolved,
        project(),
        at_vip,
        id,
        &Rules::default(),
        ids,
        at(0),
    )
    .unwrap();
    assert_eq!(change.offers, [gold, rack]);
    let row = change.tree.load_balancer.value;
    assert_eq!((row.flavor_id, row.steering), (Some(gold.uuid()), steering));
    assert_eq!(row.availability_zone.as_deref(), Some("rack"));
}

#[test]
fn what_cannot_be_chosen_is_refused_in_the_words_of_the_reference() {
    let mut shop = Shop::default();
    let gold = shop.offer("gold", flavor());
    let rack = shop.offer("rack", zone("rack-a"));
    let closed = shop.offer("closed", flavor());
    let dark = shop.offer("dark", zone("local"));
    for key in [OfferKey::Flavor(closed), OfferKey::Zone("dark".into())] {
        let update = OfferUpdate {
            enabled: Some(false),
            ..OfferUpdate::default()
        };
        shop.ask(CatalogueCommand::UpdateOffer(key, update))
            .unwrap();
    }
    let invalid = |text: &str| Some(Refusal::Invalid(text.into()));
    let flavor = |id: Uuid| (Some(id), None);
    let in_zone = |text: &str| (None, Some(String::from(text)));
    for (provider, (flavor_id, availability_zone), refusal) in [
        (None, flavor(gold.uuid()), None),
        (Some("amphora"), flavor(gold.uuid()), None),
        (
            Some("octavia"),
            flavor(gold.uuid()),
            Some(Refusal::FlavorOfAnotherProvider {
                flavor: gold.uuid(),
                provider: "octavia".into(),
            }),
        ),
        (None, flavor(Uuid::nil()), invalid("Invalid flavor_id.")),
        (None, flavor(rack.uuid()), invalid("Invalid flavor_id.")),
        (
            None,
            flavor(closed.uuid()),
            Some(Refusal::Disallowed {
                kind: "flavor",
                name: closed.uuid().to_string(),
            }),
        ),
        (Some("octavia"), in_zone("rack"), None),
        (None, in_zone(""), invalid("Invalid availability zone.")),
        (None, in_zone("gold"), invalid("Invalid availability zone.")),
        (
            None,
            in_zone("dark"),
            Some(Refusal::Disallowed {
                kind: "availability_zone",
                name: "dark".into(),
            }),
        ),
    ] {
        let new = NewLoadBalancer {
            provider: provider.map(Into::into),
            flavor_id,
            availability_zone,
            ..new_balancer()
        };
        let told = format!("{provider:?} {flavor_id:?} {:?}", new.availability_zone);
        let resolved = resolve(new, &shop.catalogue, &zones());
        assert_eq!(resolved.err(), refusal, "{told}");
    }
    assert_ne!(dark, rack);
    // The fleet lost a zone since its profile was written.
    let new = NewLoadBalancer {
        availability_zone: Some("rack".into()),
        ..new_balancer()
    };
    assert!(matches!(
        resolve(new, &shop.catalogue, &["local".into()].into()),
        Err(Refusal::NotSupported(_))
    ));
}
