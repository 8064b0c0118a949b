//! Commands and trees for tests.

use alloc::{boxed::Box, string::String, vec, vec::Vec};
use core::net::IpAddr;

use jiff::Timestamp;
use krater_amphora_api::{
    ExpectedCodes, Generation, HealthMonitorId, ListenerId, LoadBalancerId, MemberId, PoolId,
};
use uuid::Uuid;

use crate::{
    admit::{admit, create},
    change::Change,
    command::{
        BatchMember, Command, NewHealthMonitor, NewL7Policy, NewL7Rule, NewListener,
        NewLoadBalancer, NewMember, NewPool, PoolParent, PoolRef,
    },
    model::{
        Chosen, CompareType, Description, Hsts, HttpMonitor, InsertHeaders, L7Action, L7PolicyId,
        L7RuleId, L7RuleType, LbAlgorithm, ListenerProtocol, ListenerTls, MonitorKind, Name,
        PoolProtocol, PoolTls, ProjectId, SecretRef, Tags, Timeouts, Vip, VipRequest,
    },
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    tree::{LoadBalancerTree, Observed, TreeView},
};

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text.into()).unwrap()
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(crate) fn project() -> ProjectId {
    ProjectId::parse("6b726174657200000000000000000001").unwrap()
}

pub(crate) fn vip(address: &str) -> Vip {
    Vip {
        address: address.parse().unwrap(),
        port_id: Uuid::from_u128(1),
        subnet_id: Uuid::from_u128(2),
        network_id: Uuid::from_u128(3),
    }
}

pub(crate) fn new_balancer() -> NewLoadBalancer {
    NewLoadBalancer {
        project: None,
        name: name("edge"),
        description: Description::default(),
        admin_state_up: true,
        vip: VipRequest {
            subnet_id: Some(Uuid::from_u128(2)),
            ..VipRequest::default()
        },
        provider: None,
        flavor_id: None,
        availability_zone: None,
        chosen: Chosen::default(),
        tags: Tags::default(),
        listeners: Vec::new(),
        pools: Vec::new(),
    }
}

/// A listener; one that ends TLS has a certificate.
pub(crate) fn new_listener(protocol: ListenerProtocol, port: u16) -> NewListener {
    let certificate = (protocol == ListenerProtocol::TerminatedHttps)
        .then(|| SecretRef::parse("certificate".into()).unwrap());
    NewListener {
        name: name("web"),
        description: Description::default(),
        admin_state_up: true,
        protocol,
        protocol_port: port,
        connection_limit: None,
        default_pool: None,
        allowed_cidrs: Vec::new(),
        timeouts: Timeouts::default(),
        insert_headers: InsertHeaders::default(),
        tls: ListenerTls {
            certificate,
            ..ListenerTls::default()
        },
        hsts: Hsts::default(),
        l7_policies: Vec::new(),
        tags: Tags::default(),
    }
}

pub(crate) fn new_pool(protocol: PoolProtocol) -> NewPool {
    NewPool {
        name: name("app"),
        description: Description::default(),
        admin_state_up: true,
        protocol,
        lb_algorithm: LbAlgorithm::RoundRobin,
        session_persistence: None,
        tls: PoolTls::default(),
        tags: Tags::default(),
        members: Vec::new(),
        health_monitor: None,
    }
}

pub(crate) fn new_member(address: &str, port: u16) -> NewMember {
    NewMember {
        name: name("a1"),
        admin_state_up: true,
        address: address.parse::<IpAddr>().unwrap(),
        protocol_port: port,
        weight: 1,
        backup: false,
        subnet_id: None,
        monitor_address: None,
        monitor_port: None,
        request_sriov: false,
        tags: Tags::default(),
    }
}

pub(crate) fn entry(address: &str, port: u16) -> BatchMember {
    BatchMember {
        member: new_member(address, port),
        names: false,
        tags: false,
        subnet: false,
    }
}

pub(crate) fn http_kind() -> MonitorKind {
    MonitorKind::Http(HttpMonitor {
        http_method: "GET".into(),
        url_path: "/ready".into(),
        expected_codes: "200-204".into(),
        expected: vec![ExpectedCodes {
            first: 200,
            last: 204,
        }],
        http_version: None,
        domain_name: None,
    })
}

pub(crate) fn tcp_kind() -> MonitorKind {
    MonitorKind::Tcp {
        http_version: None,
        domain_name: None,
    }
}

pub(crate) fn new_monitor(kind: MonitorKind) -> NewHealthMonitor {
    NewHealthMonitor {
        name: name("ready"),
        admin_state_up: true,
        kind,
        delay_seconds: 5,
        timeout_seconds: 3,
        max_retries: 2,
        max_retries_down: 3,
        tags: Tags::default(),
    }
}

pub(crate) fn new_policy(action: L7Action<PoolRef>) -> NewL7Policy {
    NewL7Policy {
        name: name("to-shop"),
        description: Description::default(),
        admin_state_up: true,
        action,
        position: None,
        tags: Tags::default(),
        rules: Vec::new(),
    }
}

pub(crate) fn new_rule(rule_type: L7RuleType, compare_type: CompareType, value: &str) -> NewL7Rule {
    NewL7Rule {
        admin_state_up: true,
        rule_type,
        compare_type,
        key: None,
        value: value.into(),
        invert: false,
        tags: Tags::default(),
    }
}

pub(crate) fn path_rule() -> NewL7Rule {
    new_rule(L7RuleType::Path, CompareType::StartsWith, "/shop")
}

/// One load balancer and those who work on it: each command a second after the one before.
pub(crate) struct House {
    pub(crate) tree: LoadBalancerTree,
    pub(crate) settled: Option<Generation>,
    pub(crate) rules: Rules,
    ids: u128,
    seconds: i64,
}

impl House {
    /// A load balancer of `new`, with nothing settled.
    pub(crate) fn of(new: NewLoadBalancer) -> Result<Self, Refusal> {
        let mut ids = 1_000;
        let id = LoadBalancerId::new(Uuid::from_u128(999));
        let change = create(
            new,
            project(),
            (vip("10.0.0.2"), Vec::new()),
            id,
            &Rules::default(),
            &mut next(&mut ids),
            at(0),
        )?;
        Ok(Self {
            tree: change.tree,
            settled: None,
            rules: Rules::default(),
            ids,
            seconds: 0,
        })
    }

    /// A load balancer alone, settled.
    pub(crate) fn empty() -> Self {
        let mut house = Self::of(new_balancer()).unwrap();
        house.settle();
        house
    }

    /// An HTTP listener on port 80 with a pool of two members and a monitor, settled.
    pub(crate) fn furnished() -> Self {
        let mut new = new_balancer();
        new.listeners.push(NewListener {
            default_pool: Some(PoolRef::New(0)),
            ..new_listener(ListenerProtocol::Http, 80)
        });
        new.pools.push(NewPool {
            members: vec![new_member("10.1.0.1", 8080), new_member("10.1.0.2", 8080)],
            health_monitor: Some(new_monitor(http_kind())),
            ..new_pool(PoolProtocol::Http)
        });
        let mut house = Self::of(new).unwrap();
        house.settle();
        house
    }

    /// The same with a second pool, and a policy with one rule that sends to it, settled.
    pub(crate) fn with_policy() -> Self {
        let mut house = Self::furnished();
        house.add_pool(new_pool(PoolProtocol::Http)).unwrap();
        let pool = PoolRef::Existing(house.tree.pools[1].value.id);
        house
            .add_policy(new_policy(L7Action::RedirectToPool(pool)))
            .unwrap();
        house.add_rule(path_rule()).unwrap();
        house.settle();
        house
    }

    /// What the command would come to.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Change, Refusal> {
        let now = at(self.seconds + 1);
        let change = admit(
            self.tree.clone(),
            self.settled,
            command,
            &self.rules,
            &mut next(&mut self.ids),
            now,
        )?;
        self.seconds += 1;
        Ok(change)
    }

    /// Has the command done.
    pub(crate) fn run(&mut self, command: Command) -> Result<Change, Refusal> {
        let change = self.ask(command)?;
        self.tree = change.tree.clone();
        Ok(change)
    }

    /// All that was asked for comes into force.
    pub(crate) fn settle(&mut self) {
        self.settled = Some(self.tree.generation());
        self.tree.listeners.retain(|row| !row.is_leaving());
        self.tree.pools.retain(|row| !row.is_leaving());
        self.tree.members.retain(|row| !row.is_leaving());
        self.tree.health_monitors.retain(|row| !row.is_leaving());
        self.tree.l7_policies.retain(|row| !row.is_leaving());
        self.tree.l7_rules.retain(|row| !row.is_leaving());
    }

    pub(crate) fn view(&self) -> TreeView {
        TreeView {
            tree: self.tree.clone(),
            observed: Observed {
                settled: self.settled,
                ..Observed::default()
            },
        }
    }

    pub(crate) fn id(&self) -> LoadBalancerId {
        self.tree.id()
    }

    pub(crate) fn listener(&self) -> ListenerId {
        self.tree.listeners[0].value.id
    }

    pub(crate) fn pool(&self) -> PoolId {
        self.tree.pools[0].value.id
    }

    pub(crate) fn member(&self, position: usize) -> MemberId {
        self.tree.members[position].value.id
    }

    pub(crate) fn monitor(&self) -> HealthMonitorId {
        self.tree.health_monitors[0].value.id
    }

    pub(crate) fn policy(&self, position: usize) -> L7PolicyId {
        self.tree.l7_policies[position].value.id
    }

    pub(crate) fn rule(&self, position: usize) -> L7RuleId {
        self.tree.l7_rules[position].value.id
    }

    pub(crate) fn add_policy(&mut self, new: NewL7Policy) -> Result<Change, Refusal> {
        self.run(Command::CreateL7Policy(self.listener(), Box::new(new)))
    }

    pub(crate) fn add_rule(&mut self, new: NewL7Rule) -> Result<Change, Refusal> {
        self.run(Command::CreateL7Rule(self.policy(0), Box::new(new)))
    }

    pub(crate) fn add_listener(&mut self, new: NewListener) -> Result<Change, Refusal> {
        self.run(Command::CreateListener(self.id(), Box::new(new)))
    }

    pub(crate) fn add_pool(&mut self, new: NewPool) -> Result<Change, Refusal> {
        let parent = PoolParent {
            load_balancer: Some(self.id()),
            listener: None,
        };
        self.run(Command::CreatePool(parent, Box::new(new)))
    }

    pub(crate) fn add_member(&mut self, new: NewMember) -> Result<Change, Refusal> {
        self.run(Command::CreateMember(self.pool(), Box::new(new)))
    }
}

/// The pending rows of a view, as `kind STATUS`, in the order of the tree.
pub(crate) fn pending(view: &TreeView) -> Vec<String> {
    let tree = &view.tree;
    tree.facts()
        .filter(|facts| {
            view.observed
                .settled
                .is_none_or(|settled| settled < facts.generation)
        })
        .map(|facts| {
            let status = match facts.id {
                ResourceId::LoadBalancer(id) => {
                    view.provisioning_status(id.uuid(), &tree.load_balancer)
                }
                ResourceId::Listener(id) => {
                    view.provisioning_status(id.uuid(), tree.listener(id).unwrap())
                }
                ResourceId::Pool(id) => view.provisioning_status(id.uuid(), tree.pool(id).unwrap()),
                ResourceId::Member(id) => {
                    view.provisioning_status(id.uuid(), tree.member(id).unwrap())
                }
                ResourceId::HealthMonitor(id) => {
                    view.provisioning_status(id.uuid(), tree.health_monitor(id).unwrap())
                }
                ResourceId::L7Policy(id) => {
                    view.provisioning_status(id.uuid(), tree.l7_policy(id).unwrap())
                }
                ResourceId::L7Rule(id) => {
                    view.provisioning_status(id.uuid(), tree.l7_rule(id).unwrap())
                }
            };
            alloc::format!("{} {}", facts.id.kind(), status.name())
        })
        .collect()
}

fn next(ids: &mut u128) -> impl FnMut() -> Uuid {
    move || {
        *ids += 1;
        Uuid::from_u128(*ids)
    }
}

pub(crate) fn generation(number: u64) -> Generation {
    Generation::from_number(number).unwrap()
}
