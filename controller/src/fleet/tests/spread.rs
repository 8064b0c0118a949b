//! Networks of tenants over the controller's own host and others.

use krater_amphora_api::{BootId, ContractVersion, HostFacts, HostId, HostNetworks};
use krater_controller_store::{Enrolment, HostToken, Newcomer};

use super::*;

const BLUE: Uuid = Uuid::from_u128(7);

fn blue(vni: Option<u32>) -> BTreeMap<Uuid, Arc<Segment>> {
    let segment = Segment {
        id: BLUE,
        name: "blue".to_owned(),
        bridge: "kb-7".to_owned(),
        vni,
        mtu: 1_450,
        subnets: Vec::new(),
    };
    BTreeMap::from([(BLUE, Arc::new(segment))])
}

fn at(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

impl Field {
    /// Lets in host number `number`, which tunnels reach at `192.0.2.NUMBER`.
    async fn let_in(&self, fleet: &Fleet, number: u8, contract: u32) {
        let now = clock::now();
        let hash = number.to_string();
        let token = HostToken {
            hash: hash.clone(),
            zone: "local".to_owned(),
            load_balancers_max: None,
            amphorae_max: None,
            created_at: now,
            expires_at: now.checked_add(Duration::from_secs(60)).unwrap(),
        };
        let newcomer = Newcomer {
            id: host(number),
            key_digest: hash.clone(),
            facts: HostFacts {
                name: format!("h{number}"),
                agent: format!("{}:9880", at(number)),
                boot: BootId::new(Uuid::nil()),
                contract: ContractVersion(contract),
                version: "1".to_owned(),
                cores: 2,
                memory_bytes: 1 << 30,
                networks: Some(HostNetworks {
                    underlay: at(number),
                    obstacle: None,
                }),
            },
        };
        let store = &self.house.known.store;
        store.put_host_token(&token).await.unwrap();
        let enrolled = store.enrol_host(&hash, &newcomer, now).await.unwrap();
        assert!(matches!(enrolled, Enrolment::Done(_)));
        fleet.hosts().learn().await.unwrap();
    }

    /// Which host the place of a load balancer is on.
    fn host_of(&self, fleet: &Fleet, id: LoadBalancerId, seat: Seat) -> String {
        fleet.amphora(self.at(id, seat)).unwrap().record().host
    }

    fn at(&self, id: LoadBalancerId, seat: Seat) -> AmphoraId {
        self.house.known.placements.at(id, seat).unwrap()
    }
}

fn host(number: u8) -> HostId {
    HostId::new(Uuid::from_u128(number.into()))
}

async fn place(fleet: &Fleet, id: LoadBalancerId, seat: Seat) -> Placed {
    let any = Steering::default();
    fleet.place(id, seat, &any, BLUE).await.unwrap()
}

fn reasons(placed: Placed) -> String {
    match placed {
        Placed::Nowhere(no_room @ NoRoom::NoBuilder { .. }) => no_room.sentence(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_network_of_tenants_without_a_number_is_on_the_controllers_own_host_alone() {
    let field = Field::open().await;
    let fleet = field.gather(|parts| parts.segments = blue(None)).await;
    let id = field.load_balancer().await;
    assert_eq!(place(&fleet, id, Seat::First).await, Placed::On);
    assert_eq!(field.host_of(&fleet, id, Seat::First), "");
    let nowhere = Placed::Nowhere(NoRoom::OneHost);
    assert_eq!(place(&fleet, id, Seat::Second).await, nowhere);
    field.let_in(&fleet, 1, 2).await;
    let told = reasons(place(&fleet, id, Seat::Second).await);
    assert!(
        told.contains("host h1: network \"blue\" has no vni"),
        "{told}"
    );
}

#[tokio::test]
async fn hosts_that_build_networks_of_tenants_get_them_and_older_ones_do_not() {
    let field = Field::open().await;
    let fleet = field
        .gather(|parts| {
            parts.segments = blue(Some(42));
            parts.here = Here::Unwanted;
        })
        .await;
    field.let_in(&fleet, 1, 1).await;
    let id = field.load_balancer().await;
    let told = reasons(place(&fleet, id, Seat::First).await);
    assert!(
        told.contains("host h1: its agent is of an earlier release"),
        "{told}"
    );
    field.let_in(&fleet, 2, 2).await;
    assert_eq!(place(&fleet, id, Seat::First).await, Placed::On);
    assert_eq!(field.host_of(&fleet, id, Seat::First), host(2).to_string());
    // On hosts' own networks it is as good as any.
    let any = Steering::default();
    let plain = field.placed(&fleet, &any).await;
    assert!(fleet.has(plain));
}

#[tokio::test]
async fn amphorae_are_told_where_else_their_network_is_when_it_comes_there_and_leaves() {
    let field = Field::open().await;
    let fleet = field
        .gather(|parts| {
            parts.segments = blue(Some(42));
            parts.underlay = Underlay {
                local: Some(at(9)),
                peers: vec![at(8)],
            };
        })
        .await;
    field.let_in(&fleet, 1, 2).await;
    let id = field.load_balancer().await;
    assert_eq!(place(&fleet, id, Seat::First).await, Placed::On);
    // The host that joined has fewer amphorae.
    assert_eq!(field.host_of(&fleet, id, Seat::First), host(1).to_string());
    let told = |amphora: AmphoraId| fleet.amphora(amphora).unwrap().peers();
    let first = field.at(id, Seat::First);
    assert_eq!(told(first), [at(8)]);
    assert_eq!(place(&fleet, id, Seat::Second).await, Placed::On);
    let second = field.at(id, Seat::Second);
    assert_eq!(
        (told(first), told(second)),
        (vec![at(8), at(9)], vec![at(1), at(8)])
    );
    // It is ordered so.
    fleet.ensure(second).await.unwrap();
    assert_eq!(field.ground.peers.lock().unwrap()[&second], [at(1), at(8)]);
    fleet.strike_out(first);
    fleet.tend(Spares::EndAfterAWhile).await.unwrap();
    assert_eq!(told(second), [at(8)]);
}
