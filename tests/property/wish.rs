//! Sequences of commands: each wish names its resources by number, and becomes a command about those that are there.

use std::{fmt::Debug, net::IpAddr};

use krater_controller_core::{
    command::{
        BatchMember, BatchMode, Cascade, Command, HealthMonitorUpdate, ListenerUpdate,
        LoadBalancerUpdate, MemberUpdate, NewHealthMonitor, NewL7Policy, NewListener,
        NewLoadBalancer, NewMember, NewPool, PoolParent, PoolRef, PoolTlsUpdate, PoolUpdate,
    },
    model::{
        AdditionalVip, Chosen, Description, L7Action, LbAlgorithm, ListenerId, ListenerProtocol,
        Name, PoolProtocol, Tags, Vip, VipRequest,
    },
    tree::{LoadBalancerTree, Row},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};

use crate::{house::uuid, tls, value};

pub(crate) mod member;

mod l7;
mod listener;

/// What somebody wants next: one kind for each command, with the numbers of the rows it is about.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Balancer(LoadBalancerUpdate),
    DeleteBalancer(Cascade),
    NewListener(NewListener, Option<Index>),
    Listener(Index, ListenerUpdate, Option<Option<Index>>),
    DeleteListener(Index),
    NewPool(NewPool, Option<Index>),
    Pool(Index, PoolUpdate),
    DeletePool(Index),
    NewMember(Index, NewMember),
    Member(Index, MemberUpdate),
    DeleteMember(Index),
    Batch(Index, Vec<BatchMember>, BatchMode),
    NewMonitor(Index, NewHealthMonitor),
    Monitor(Index, HealthMonitorUpdate),
    DeleteMonitor(Index),
    L7(l7::Wish),
    /// Something about what is not there.
    Nobody,
    /// No command: the data plane follows, up to now or to a while ago.
    Settle(u8),
}

impl Wish {
    /// The command it comes to; `None` when there is nothing of the kind it is about, or it is no command.
    pub(crate) fn command(self, tree: &LoadBalancerTree) -> Option<Command> {
        let pool = |number: Index| pick(&tree.pools, number).map(|pool| pool.id);
        let listener = |number: Index| pick(&tree.listeners, number).map(|listener| listener.id);
        let member =
            |number: Index| pick(&tree.members, number).map(|member| (member.pool, member.id));
        let monitor = |number: Index| pick(&tree.health_monitors, number).map(|row| row.id);
        Some(match self {
            Self::Balancer(update) => Command::UpdateLoadBalancer(tree.id(), update),
            Self::DeleteBalancer(cascade) => Command::DeleteLoadBalancer(tree.id(), cascade),
            Self::NewListener(new, at) => {
                let default_pool = at.and_then(pool).map(PoolRef::Existing);
                Command::CreateListener(
                    tree.id(),
                    Box::new(NewListener {
                        default_pool,
                        ..new
                    }),
                )
            }
            Self::Listener(at, update, to) => {
                let default_pool = to.map(|to| to.and_then(pool));
                let update = ListenerUpdate {
                    default_pool,
                    ..update
                };
                Command::UpdateListener(listener(at)?, Box::new(update))
            }
            Self::DeleteListener(at) => Command::DeleteListener(listener(at)?),
            Self::NewPool(new, at) => {
                let parent = PoolParent {
                    load_balancer: Some(tree.id()),
                    listener: at.and_then(listener),
                };
                Command::CreatePool(parent, Box::new(new))
            }
            Self::Pool(at, update) => Command::UpdatePool(pool(at)?, Box::new(update)),
            Self::DeletePool(at) => Command::DeletePool(pool(at)?),
            Self::NewMember(at, new) => Command::CreateMember(pool(at)?, Box::new(new)),
            Self::Member(at, update) => {
                let (pool, id) = member(at)?;
                Command::UpdateMember(pool, id, update)
            }
            Self::DeleteMember(at) => {
                let (pool, id) = member(at)?;
                Command::DeleteMember(pool, id)
            }
            Self::Batch(at, entries, mode) => Command::BatchMembers(pool(at)?, entries, mode),
            Self::NewMonitor(at, new) => Command::CreateHealthMonitor(pool(at)?, Box::new(new)),
            Self::Monitor(at, update) => {
                Command::UpdateHealthMonitor(monitor(at)?, Box::new(update))
            }
            Self::DeleteMonitor(at) => Command::DeleteHealthMonitor(monitor(at)?),
            Self::L7(wish) => return wish.command(tree),
            Self::Nobody => Command::DeleteListener(ListenerId::new(uuid(1))),
            Self::Settle(_) => return None,
        })
    }
}

fn pick<T>(rows: &[Row<T>], number: Index) -> Option<&T> {
    (!rows.is_empty()).then(|| &number.get(rows).value)
}

/// At most `most` wishes.
pub(crate) fn wishes(most: usize) -> BoxedStrategy<Vec<Wish>> {
    vec(wish(), 1..most).boxed()
}

fn wish() -> BoxedStrategy<Wish> {
    let at = any::<Index>;
    // A load balancer that goes takes nothing more: few do before the end.
    let cascade = prop_oneof![1 => Just(Cascade::WithChildren), 5 => Just(Cascade::OnlyIfEmpty)];
    let mode = select(vec![BatchMode::Replace, BatchMode::Additive]);
    let of_listener = prop_oneof![
        5 => (listener::new_listener(), option::of(at())).prop_map(|(new, to)| Wish::NewListener(new, to)),
        4 => (at(), listener::listener_update(), option::of(option::of(at()))).prop_map(|(at, update, to)| Wish::Listener(at, update, to)),
        2 => at().prop_map(Wish::DeleteListener),
    ];
    let of_pool = prop_oneof![
        5 => (new_pool(), option::of(at())).prop_map(|(new, to)| Wish::NewPool(new, to)),
        3 => (at(), pool_update()).prop_map(|(at, update)| Wish::Pool(at, update)),
        1 => at().prop_map(Wish::DeletePool),
    ];
    let of_member = prop_oneof![
        5 => (at(), member::new_member()).prop_map(|(at, new)| Wish::NewMember(at, new)),
        4 => (at(), member::member_update()).prop_map(|(at, update)| Wish::Member(at, update)),
        2 => at().prop_map(Wish::DeleteMember),
        2 => (at(), vec(member::batch_member(), 0..6), mode).prop_map(|(at, entries, mode)| Wish::Batch(at, entries, mode)),
    ];
    let of_monitor = prop_oneof![
        4 => (at(), member::new_monitor()).prop_map(|(at, new)| Wish::NewMonitor(at, new)),
        5 => (at(), member::monitor_update()).prop_map(|(at, update)| Wish::Monitor(at, update)),
        2 => at().prop_map(Wish::DeleteMonitor),
    ];
    prop_oneof![
        6 => of_listener,
        8 => l7::wish().prop_map(Wish::L7),
        6 => of_pool,
        10 => of_member,
        6 => of_monitor,
        2 => balancer_update().prop_map(Wish::Balancer),
        1 => cascade.prop_map(Wish::DeleteBalancer),
        1 => Just(Wish::Nobody),
        6 => (0_u8..4).prop_map(Wish::Settle),
    ]
    .boxed()
}

/// A new load balancer, with children of all kinds.
pub(crate) fn new_balancer() -> BoxedStrategy<NewLoadBalancer> {
    let children = (
        vec((listener::new_listener(), option::of(any::<Index>())), 0..3),
        vec(new_pool(), 0..3),
        vec(vec(member::new_member(), 0..4), 3),
        vec(option::of(member::new_monitor()), 3),
        vec(
            vec((l7::whole_policy(), option::of(any::<Index>())), 0..3),
            3,
        ),
    );
    let own = (
        value::name(),
        value::description(),
        value::mostly_true(),
        value::tags(),
    );
    (own, children)
        .prop_map(
            |(
                (name, description, admin_state_up, tags),
                (listeners, pools, members, monitors, policies),
            )| {
                let below = members.into_iter().zip(monitors);
                let pools: Vec<_> = pools
                    .into_iter()
                    .zip(below)
                    .map(|(pool, (members, health_monitor))| NewPool {
                        members,
                        health_monitor,
                        ..pool
                    })
                    .collect();
                let position = |to: Option<Index>| {
                    to.filter(|_| !pools.is_empty())
                        .map(|to| PoolRef::New(to.index(pools.len())))
                };
                let policies = policies.into_iter().map(|policies| {
                    let policies = policies.into_iter().map(|(new, to)| NewL7Policy {
                        action: position(to).map_or(new.action, L7Action::RedirectToPool),
                        ..new
                    });
                    policies.collect::<Vec<_>>()
                });
                let listeners = listeners
                    .into_iter()
                    .zip(policies)
                    .map(|((new, to), policies)| NewListener {
                        default_pool: position(to),
                        // Other listeners have none; that is refused often enough by single commands.
                        l7_policies: if new.protocol == ListenerProtocol::Http {
                            policies
                        } else {
                            Vec::new()
                        },
                        ..new
                    })
                    .collect();
                NewLoadBalancer {
                    name,
                    description,
                    admin_state_up,
                    tags,
                    listeners,
                    pools,
                    ..bare_balancer()
                }
            },
        )
        .boxed()
}

/// A load balancer without anything.
pub(crate) fn bare_balancer() -> NewLoadBalancer {
    NewLoadBalancer {
        project: None,
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        vip: vip_request(),
        provider: None,
        flavor_id: None,
        availability_zone: None,
        chosen: Chosen::default(),
        tags: Tags::default(),
        listeners: Vec::new(),
        pools: Vec::new(),
    }
}

fn vip_request() -> VipRequest {
    VipRequest {
        subnet_id: Some(uuid(2)),
        ..VipRequest::default()
    }
}

/// Addresses as a network may give them, one twice now and then.
pub(crate) fn addresses() -> BoxedStrategy<(Vip, Vec<AdditionalVip>)> {
    let address = || {
        prop_oneof![
            4 => (1_u8..250).prop_map(|host| IpAddr::from([10, 0, 0, host])),
            2 => (1_u16..5).prop_map(|host| IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, host])),
            1 => Just(IpAddr::from([10, 0, 0, 1])),
            1 => Just(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1])),
            1 => Just(IpAddr::from([127, 0, 0, 1])),
        ]
    };
    (address(), vec(address(), 0..4))
        .prop_map(|(first, others)| {
            let additional = others
                .into_iter()
                .map(|address| AdditionalVip {
                    address,
                    subnet_id: uuid(4),
                })
                .collect();
            (vip(first), additional)
        })
        .boxed()
}

/// The primary address of a load balancer.
pub(crate) fn vip(address: IpAddr) -> Vip {
    Vip {
        address,
        port_id: uuid(port_of(address)),
        subnet_id: uuid(2),
        network_id: uuid(3),
    }
}

/// The number of the port that holds an address: no other has it.
fn port_of(address: IpAddr) -> u128 {
    let number = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & 0xffff_ffff,
    };
    1 << 32 | number
}

/// A pool with nothing in it.
fn new_pool() -> BoxedStrategy<NewPool> {
    let all = (
        value::name(),
        value::description(),
        value::mostly_true(),
        value::pool_protocol(),
        value::algorithm(),
        option::weighted(0.05, tls::persistence()),
        tls::pool_tls(),
        value::tags(),
    );
    all.prop_map(
        |(
            name,
            description,
            admin_state_up,
            protocol,
            lb_algorithm,
            session_persistence,
            tls,
            tags,
        )| NewPool {
            name,
            description,
            admin_state_up,
            protocol,
            lb_algorithm,
            session_persistence,
            tls,
            tags,
            members: Vec::new(),
            health_monitor: None,
        },
    )
    .boxed()
}

fn pool_update() -> BoxedStrategy<PoolUpdate> {
    let all = (
        set(value::name()),
        set(value::description()),
        set(any::<bool>()),
        set(value::algorithm()),
        option::weighted(0.1, option::of(tls::persistence_update())),
        prop_oneof![4 => Just(PoolTlsUpdate::default()), 1 => tls::pool_tls_update()],
        set(value::tags()),
    );
    all.prop_map(
        |(name, description, admin_state_up, lb_algorithm, session_persistence, tls, tags)| {
            PoolUpdate {
                name,
                description,
                admin_state_up,
                lb_algorithm,
                session_persistence,
                tls,
                tags,
            }
        },
    )
    .boxed()
}

fn balancer_update() -> BoxedStrategy<LoadBalancerUpdate> {
    let all = (
        set(value::name()),
        set(value::description()),
        set(any::<bool>()),
        set(value::tags()),
    );
    all.prop_map(
        |(name, description, admin_state_up, tags)| LoadBalancerUpdate {
            name,
            description,
            admin_state_up,
            tags,
            ..LoadBalancerUpdate::default()
        },
    )
    .boxed()
}

/// A field of an update: most are left out.
pub(crate) fn set<T: Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    option::weighted(0.3, value).boxed()
}

/// What a pool of the sequence is created with by a single command: members come with whole trees only.
pub(crate) fn pool_of(members: Vec<NewMember>, lb_algorithm: LbAlgorithm) -> NewPool {
    NewPool {
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        protocol: PoolProtocol::Tcp,
        lb_algorithm,
        session_persistence: None,
        tls: Default::default(),
        tags: Tags::default(),
        members,
        health_monitor: None,
    }
}
