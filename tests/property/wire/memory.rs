//! A controller that keeps load balancers in memory: admitted by the domain, taken by an amphora, nothing in between.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use jiff::Timestamp;
use krater_amphora_api::{Counters, ExpectedCodes, LoadBalancerId};
use krater_controller_api::{Application, Credentials, Executed, Novelty, Unauthenticated};
use krater_controller_core::{
    admit,
    carried::Carried,
    catalogue::{self, Catalogue, CatalogueCommand, Edit, NewOffer, NewProfile, ProfileData},
    command::{
        Command, NewHealthMonitor, NewL7Policy, NewL7Rule, NewListener, NewLoadBalancer, NewMember,
        NewPool, Operation, PoolRef, QuotaCommand,
    },
    envelope::Envelope,
    model::{
        AdditionalVip, CompareType, Description, Family, FlavorTerms, HttpMonitor, InsertHeaders,
        L7Action, L7RuleType, LbAlgorithm, ListenerProtocol, MonitorKind, Name, Offer,
        PoolProtocol, Tags, Terms, Timeouts, ZoneTerms,
    },
    query::{Answer, Caller, NetworkView, Query, ResourceId, SubnetView},
    quota::{Limits, QuotaRecord},
    refusal::Refusal,
    rules::Rules,
    scan,
    tree::{Observed, TreeView},
};
use uuid::Uuid;

use crate::{
    house::{parsed, project, uuid},
    wish::{self, pool_of},
};

/// All there is.
pub(super) struct Memory(Mutex<Inner>);

struct Inner {
    views: Vec<TreeView>,
    catalogue: Catalogue,
    ids: u128,
    seconds: i64,
}

impl Memory {
    /// With one load balancer that has one of everything, and a pool without a monitor.
    pub(super) fn furnished() -> Self {
        let mut inner = Inner {
            views: Vec::new(),
            catalogue: Catalogue::default(),
            ids: 1_000,
            seconds: 0,
        };
        inner.create(furniture()).expect("a load balancer");
        for family in Family::ALL {
            inner.stock(family);
        }
        Self(Mutex::new(inner))
    }

    /// What the names in paths and bodies stand for.
    pub(super) fn names(&self) -> Vec<(&'static str, String)> {
        let inner = self.lock();
        let tree = &inner.views[0].tree;
        let profile = |family| inner.offer(family).profile.uuid().to_string();
        vec![
            ("balancer", tree.id().to_string()),
            ("listener", tree.listeners[0].value.id.to_string()),
            ("pool", tree.pools[0].value.id.to_string()),
            ("unmonitored", tree.pools[1].value.id.to_string()),
            ("member", tree.members[0].value.id.to_string()),
            ("monitor", tree.health_monitors[0].value.id.to_string()),
            ("policy", tree.l7_policies[0].value.id.to_string()),
            ("rule", tree.l7_rules[0].value.id.to_string()),
            ("flavor", inner.offer(Family::Flavor).id.uuid().to_string()),
            ("zone", inner.offer(Family::Zone).name.to_string()),
            ("flavor_profile", profile(Family::Flavor)),
            ("zone_profile", profile(Family::Zone)),
            ("nobody", uuid(7).to_string()),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panicked")
    }
}

#[async_trait]
impl Application for Memory {
    async fn authenticate(&self, _: &Credentials) -> Result<Caller, Unauthenticated> {
        Ok(Caller::unrestricted("somebody", Some(project())))
    }

    async fn execute(
        &self,
        _: &Caller,
        command: Command,
        _: &Envelope,
    ) -> Result<Executed, Refusal> {
        self.lock().execute(command)
    }

    async fn change_quota(
        &self,
        _: &Caller,
        command: QuotaCommand,
        _: &Envelope,
    ) -> Result<Limits, Refusal> {
        Ok(match command {
            QuotaCommand::Set(_, update) => {
                let record = QuotaRecord::default().updated(&update);
                record.over(&Limits::default())
            }
            QuotaCommand::Reset(_) => Limits::default(),
        })
    }

    async fn operate(&self, _: &Caller, operation: Operation, _: &Envelope) -> Result<(), Refusal> {
        let (Operation::FailOver(id) | Operation::Configure(id) | Operation::Delete(id)) =
            operation
        else {
            return Ok(());
        };
        Err(Refusal::AmphoraNotFound {
            kind: "Amphora",
            id,
        })
    }

    async fn arrange(
        &self,
        _: &Caller,
        command: CatalogueCommand,
        _: &Envelope,
    ) -> Result<Edit, Refusal> {
        self.lock().arrange(command)
    }

    async fn answer(&self, _: &Caller, query: Query) -> Result<Answer, Refusal> {
        let inner = self.lock();
        let find = |id| {
            let mut views = inner.views.iter();
            views
                .find(|view| view.tree.contains(id))
                .ok_or(Refusal::NotFound(id))
        };
        Ok(match query {
            Query::Tree(id) => Answer::Tree(Box::new(find(id)?.clone())),
            Query::MembersOf(id) => Answer::Tree(Box::new(find(ResourceId::Pool(id))?.clone())),
            Query::Trees(_) => Answer::Trees(inner.views.clone()),
            Query::Scan(scan) => Answer::Scan(scan::excerpts(&inner.views, &scan)),
            Query::Statistics(id) => {
                find(id)?;
                Answer::Statistics(Counters::default())
            }
            Query::Profiles(family) => {
                let mut profiles = inner.catalogue.profiles.clone();
                profiles.retain(|profile| profile.family() == family);
                Answer::Profiles(profiles)
            }
            Query::Offers(family) => {
                let mut offers = inner.catalogue.offers.clone();
                offers.retain(|offer| offer.family == family);
                Answer::Offers(offers)
            }
            Query::Networks => Answer::Networks(vec![network()]),
            Query::Amphorae => Answer::Amphorae(Vec::new()),
            Query::MembersSeen(_) => Answer::MembersSeen(Vec::new()),
            Query::CarriersSeen(_) => Answer::CarriersSeen(Vec::new()),
            Query::FailuresSeen(_) => Answer::FailuresSeen {
                since: None,
                listeners: Vec::new(),
            },
            Query::Audit(_) => Answer::Audit(Vec::new()),
            Query::Quota(_) | Query::QuotaDefaults(_) => Answer::Quota(Limits::default()),
            Query::Quotas(_) => Answer::Quotas(vec![(project(), Limits::default())]),
            Query::AmphoraStatistics(id) => {
                return Err(Refusal::AmphoraNotFound {
                    kind: "Amphora",
                    id,
                });
            }
        })
    }
}

impl Inner {
    fn execute(&mut self, command: Command) -> Result<Executed, Refusal> {
        if let Some(unknown) = command
            .member_subnets()
            .into_iter()
            .find(|subnet| !SUBNETS.contains(&subnet.as_u128()))
        {
            return Err(unknown_subnet(unknown));
        }
        match command {
            Command::CreateLoadBalancer(new) => self.create(*new),
            command => {
                let nowhere = Refusal::Defect("a command names nothing".into());
                let target = command.target().ok_or(nowhere)?;
                self.change(target, command)
            }
        }
    }

    fn create(&mut self, new: NewLoadBalancer) -> Result<Executed, Refusal> {
        let new = catalogue::resolve(new, &self.catalogue, &zones())?;
        let rules = Rules::default();
        admit::check_new(&new, &rules)?;
        let vip = wish::vip(self.allocate(new.vip.address, &BTreeSet::new())?);
        let mut given = BTreeSet::from([vip.address]);
        let mut additional = Vec::new();
        for (subnet_id, address) in &new.vip.additional {
            let address = self.allocate(*address, &given)?;
            given.insert(address);
            additional.push(AdditionalVip {
                address,
                subnet_id: *subnet_id,
            });
        }
        let id = LoadBalancerId::new(self.next());
        let owner = new.project.clone().unwrap_or_else(project);
        let now = self.now();
        let change = admit::create(
            new,
            owner,
            (vip, additional),
            id,
            &rules,
            &mut || self.next(),
            now,
        )?;
        Carried::release().check(&change)?;
        parsed(&change.tree);
        self.catalogue.in_use.extend(change.offers);
        let view = TreeView {
            tree: change.tree,
            observed: Observed::default(),
        };
        self.views.push(view.clone());
        let subject = change.subject;
        Ok(Executed {
            view,
            subject,
            novelty: Novelty::New,
        })
    }

    fn change(&mut self, target: ResourceId, command: Command) -> Result<Executed, Refusal> {
        let at = self
            .views
            .iter()
            .position(|view| view.tree.contains(target))
            .ok_or_else(|| command.target_missing(target))?;
        let TreeView { tree, mut observed } = self.views[at].clone();
        let now = self.now();
        let ids = &mut || self.next();
        let change = admit::admit(tree, observed.settled, command, &Rules::default(), ids, now)?;
        Carried::release().check(&change)?;
        parsed(&change.tree);
        // What one command asked for is in force when the next but one comes.
        observed.settled = change.basis;
        let view = TreeView {
            tree: change.tree,
            observed,
        };
        self.views[at] = view.clone();
        let subject = change.subject;
        Ok(Executed {
            view,
            subject,
            novelty: Novelty::New,
        })
    }

    fn arrange(&mut self, command: CatalogueCommand) -> Result<Edit, Refusal> {
        let (id, now) = (self.next(), self.now());
        let change = catalogue::admit(&self.catalogue, command, &zones(), id, now)?;
        self.catalogue.apply(change.clone());
        Ok(change.edit)
    }

    /// A profile of the family, and an offer made of it.
    fn stock(&mut self, family: Family) {
        let terms = match family {
            Family::Flavor => Terms::Flavor(FlavorTerms::default()),
            Family::Zone => Terms::Zone(ZoneTerms::default()),
        };
        let new = NewProfile {
            name: Name::default(),
            provider: "amphora".into(),
            data: ProfileData {
                text: "{}".into(),
                terms: Ok(terms),
            },
        };
        let made = self.arrange(CatalogueCommand::CreateProfile(family, new));
        let Ok(Edit::PutProfile(profile)) = made else {
            panic!("{made:?}")
        };
        let new = NewOffer {
            name: Name::parse("small".into()).expect("a name"),
            description: Description::default(),
            enabled: true,
            profile: profile.id,
        };
        self.arrange(CatalogueCommand::CreateOffer(family, new))
            .expect("an offer");
    }

    /// The first offer of the family.
    fn offer(&self, family: Family) -> &Offer {
        let mut offers = self.catalogue.offers.iter();
        offers
            .find(|offer| offer.family == family)
            .expect("an offer")
    }

    /// An address that nobody has: the one asked for, or the next.
    fn allocate(
        &self,
        wanted: Option<IpAddr>,
        given: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, Refusal> {
        let taken: BTreeSet<IpAddr> = self
            .views
            .iter()
            .map(|view| view.tree.load_balancer.value.vip.address)
            .chain(given.iter().copied())
            .collect();
        let mut pool = (2..250_u8).map(|host| IpAddr::from([10, 0, 0, host]));
        match wanted {
            None => pool
                .find(|address| !taken.contains(address))
                .ok_or_else(|| Refusal::Unavailable("no address is left".into())),
            Some(address) if taken.contains(&address) => Err(Refusal::AddressInUse {
                address,
                reason: "another load balancer has it".into(),
            }),
            Some(address) if pool.any(|one| one == address) => Ok(address),
            Some(address) => Err(Refusal::Invalid(format!("{address} is of another network"))),
        }
    }

    fn next(&mut self) -> Uuid {
        self.ids += 1;
        uuid(self.ids)
    }

    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::from_second(1_700_000_000 + self.seconds).expect("a moment")
    }
}

/// Those of the fleet.
fn zones() -> BTreeSet<String> {
    ["local".to_owned()].into()
}

fn unknown_subnet(id: Uuid) -> Refusal {
    Refusal::UnknownNetworkResource {
        kind: "Subnet",
        id: id.to_string(),
    }
}

fn network() -> NetworkView {
    let (first, last) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 249));
    NetworkView {
        id: uuid(3),
        name: "local".into(),
        audience: krater_controller_core::network::Audience::Everybody,
        ports: Vec::new(),
        subnets: vec![SubnetView {
            id: uuid(2),
            name: "local-v4".into(),
            cidr: "10.0.0.0/24".into(),
            gateway: None,
            allocation: (first.into(), last.into()),
        }],
    }
}

fn furniture() -> NewLoadBalancer {
    let member = |host| NewMember {
        name: Name::default(),
        admin_state_up: true,
        address: [10, 1, 0, host].into(),
        protocol_port: 80,
        weight: 1,
        backup: false,
        subnet_id: None,
        monitor_address: None,
        monitor_port: None,
        request_sriov: false,
        tags: Tags::default(),
    };
    let listener = NewListener {
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        protocol: ListenerProtocol::Http,
        protocol_port: 80,
        connection_limit: None,
        default_pool: Some(PoolRef::New(0)),
        allowed_cidrs: Vec::new(),
        timeouts: Timeouts::default(),
        insert_headers: InsertHeaders::default(),
        tls: Default::default(),
        hsts: Default::default(),
        l7_policies: vec![policy()],
        tags: Tags::default(),
    };
    let monitor = NewHealthMonitor {
        name: Name::default(),
        admin_state_up: true,
        kind: MonitorKind::Http(http_monitor()),
        delay_seconds: 5,
        timeout_seconds: 3,
        max_retries: 2,
        max_retries_down: 3,
        tags: Tags::default(),
    };
    let http = |members| NewPool {
        protocol: PoolProtocol::Http,
        ..pool_of(members, LbAlgorithm::RoundRobin)
    };
    let mut new = wish::bare_balancer();
    new.listeners = vec![listener];
    new.pools = vec![
        NewPool {
            health_monitor: Some(monitor),
            ..http(vec![member(1), member(2)])
        },
        http(vec![member(3)]),
    ];
    new
}

fn policy() -> NewL7Policy {
    let rule = NewL7Rule {
        admin_state_up: true,
        rule_type: L7RuleType::Path,
        compare_type: CompareType::StartsWith,
        key: None,
        value: "/files".into(),
        invert: false,
        tags: Tags::default(),
    };
    NewL7Policy {
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        action: L7Action::RedirectToPool(PoolRef::New(1)),
        position: None,
        tags: Tags::default(),
        rules: vec![rule],
    }
}

fn http_monitor() -> HttpMonitor {
    HttpMonitor {
        http_method: "GET".into(),
        url_path: "/".into(),
        expected_codes: "200".into(),
        expected: vec![ExpectedCodes {
            first: 200,
            last: 200,
        }],
        http_version: None,
        domain_name: None,
    }
}

/// Those that members may be reached through.
const SUBNETS: [u128; 1] = [0x4000_8000_0000_0000_0002];
