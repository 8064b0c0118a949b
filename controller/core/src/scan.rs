//! Lists: which resources of a kind, in which order, from where on; and what showing one of them needs.

use alloc::{collections::BTreeSet, string::String, vec::Vec};
use core::cmp::Ordering;

use jiff::Timestamp;
use krater_amphora_api::{
    HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId, MemberId, PoolId,
};
use uuid::Uuid;

use crate::{
    model::{Name, ProjectId},
    resource::ResourceId,
    tree::{LoadBalancerTree, Row, TreeView},
};

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Of what.
    pub collection: Collection,
    /// Only those of this project.
    pub project: Option<ProjectId>,
    /// Only some of them.
    pub among: Among,
    /// In which order. Only [`Among::All`] is found in any other than [`Order::CREATION`].
    pub order: Order,
    /// Those after this place in that order; from the beginning if there is none.
    pub after: Option<Position>,
    /// At most so many.
    pub count: usize,
}

/// The kinds of resources that are listed across load balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// Load balancers.
    LoadBalancers,
    /// Listeners.
    Listeners,
    /// Pools.
    Pools,
    /// Health monitors.
    HealthMonitors,
    /// L7 policies.
    L7Policies,
}

/// Which resources of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Among {
    /// All there are.
    All,
    /// Those of this name.
    Named(String),
    /// Those of one load balancer.
    Tree(LoadBalancerId),
    /// Those of the load balancer that holds this resource, of whatever kind.
    Holder(Uuid),
    /// This one.
    One(Uuid),
}

/// An order that can be read along an index: by the key, then by creation and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What comes first.
    pub key: Key,
    /// Which way the key goes.
    pub direction: Direction,
    /// Which way creation and id go where keys are equal.
    pub ties: Direction,
}

/// What an [`Order`] orders by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The moment of creation.
    Creation,
    /// The name, byte by byte.
    Name,
}

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Small ones first.
    Ascending,
    /// Large ones first.
    Descending,
}

/// Where a resource stands in every [`Order`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its id.
    pub id: Uuid,
}

/// One resource of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Which one.
    pub id: ResourceId,
    /// Where it stands.
    pub position: Position,
    /// Its load balancer, what is known of it, and of its children at most this resource.
    pub view: TreeView,
    /// What it is shown with, which the excerpt of the tree does not have.
    pub related: Related,
}

/// What a resource is shown with: ids of each kind in creation order, and where it stands among others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Related {
    /// Of a load balancer, its listeners; of a pool, those that send to it.
    pub listeners: Vec<ListenerId>,
    /// Of a load balancer, its pools.
    pub pools: Vec<PoolId>,
    /// Of a pool, its members.
    pub members: Vec<MemberId>,
    /// Of a pool, its health monitor; one that is being deleted only when there is no other.
    pub health_monitor: Option<HealthMonitorId>,
    /// Of a listener, its L7 policies in the order of their positions.
    pub l7_policies: Vec<L7PolicyId>,
    /// Of an L7 policy, its rules.
    pub l7_rules: Vec<L7RuleId>,
    /// Of an L7 policy, its position.
    pub position: u32,
}

impl Order {
    /// From the oldest to the newest.
    pub const CREATION: Self = Self {
        key: Key::Creation,
        direction: Direction::Ascending,
        ties: Direction::Ascending,
    };

    /// The same from its end to its beginning.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            key: self.key,
            direction: self.direction.reversed(),
            ties: self.ties.reversed(),
        }
    }

    /// Which of two stands first. Total: only one and the same are equal.
    #[must_use]
    pub fn compare(&self, left: &Position, right: &Position) -> Ordering {
        let by_creation = left.created_at.cmp(&right.created_at);
        match self.key {
            Key::Creation => self
                .direction
                .apply(by_creation)
                .then_with(|| self.ties.apply(left.id.cmp(&right.id))),
            Key::Name => self
                .direction
                .apply(left.name.cmp(&right.name))
                .then_with(|| {
                    self.ties
                        .apply(by_creation.then_with(|| left.id.cmp(&right.id)))
                }),
        }
    }
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }

    /// `order`, as it is in this direction.
    #[must_use]
    pub const fn apply(self, order: Ordering) -> Ordering {
        match self {
            Self::Ascending => order,
            Self::Descending => order.reverse(),
        }
    }
}

impl Related {
    /// What the resource `id` of a whole tree is shown with.
    #[must_use]
    pub fn of(tree: &LoadBalancerTree, id: ResourceId) -> Self {
        match id {
            ResourceId::LoadBalancer(_) => Self {
                listeners: tree.listeners.iter().map(|row| row.value.id).collect(),
                pools: tree.pools.iter().map(|row| row.value.id).collect(),
                ..Self::default()
            },
            ResourceId::Pool(id) => {
                let through = tree.listeners_through_policies(id);
                let users = tree.listeners.iter().filter(|row| {
                    let listener = &row.value;
                    listener.default_pool == Some(id) || through.contains(&listener.id)
                });
                Self {
                    listeners: users.map(|row| row.value.id).collect(),
                    members: tree.members_of(id).map(|row| row.value.id).collect(),
                    health_monitor: tree.monitor_of(id).map(|row| row.value.id),
                    ..Self::default()
                }
            }
            ResourceId::Listener(id) => {
                let row = tree.listener(id);
                let policies = row.map(|row| tree.policies_of(&row.value));
                let policies = policies.unwrap_or_default();
                Self {
                    l7_policies: policies.iter().map(|row| row.value.id).collect(),
                    ..Self::default()
                }
            }
            ResourceId::L7Policy(id) => Self {
                l7_rules: tree.rules_of(id).map(|row| row.value.id).collect(),
                position: tree.positions().remove(&id).unwrap_or_default(),
                ..Self::default()
            },
            ResourceId::Member(_) | ResourceId::HealthMonitor(_) | ResourceId::L7Rule(_) => {
                Self::default()
            }
        }
    }
}

/// What `scan` finds in `views`: what everything that keeps trees in memory answers, and what a store is measured by.
#[must_use]
pub fn excerpts(views: &[TreeView], scan: &Scan) -> Vec<Excerpt> {
    let mut found: Vec<Excerpt> = views
        .iter()
        .filter(|view| {
            let project = scan.project.as_ref();
            project.is_none_or(|project| view.tree.project() == project)
        })
        .flat_map(|view| {
            let ids = view.tree.facts().map(|facts| facts.id);
            ids.filter(|id| scan.collection.holds(*id))
                .filter_map(|id| excerpt(view, id))
                .filter(|excerpt| scan.among.selects(&view.tree, &excerpt.position))
                .collect::<Vec<_>>()
        })
        .filter(|excerpt| {
            scan.after.as_ref().is_none_or(|after| {
                scan.order.compare(&excerpt.position, after) == Ordering::Greater
            })
        })
        .collect();
    found.sort_by(|left, right| scan.order.compare(&left.position, &right.position));
    found.truncate(scan.count);
    found
}

impl Collection {
    const fn holds(self, id: ResourceId) -> bool {
        match id {
            ResourceId::LoadBalancer(_) => matches!(self, Self::LoadBalancers),
            ResourceId::Listener(_) => matches!(self, Self::Listeners),
            ResourceId::Pool(_) => matches!(self, Self::Pools),
            ResourceId::HealthMonitor(_) => matches!(self, Self::HealthMonitors),
            ResourceId::L7Policy(_) => matches!(self, Self::L7Policies),
            ResourceId::Member(_) | ResourceId::L7Rule(_) => false,
        }
    }
}

impl Among {
    fn selects(&self, tree: &LoadBalancerTree, position: &Position) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) => position.name == *name,
            Self::Tree(id) => tree.id() == *id,
            Self::Holder(id) => {
                let all: BTreeSet<Uuid> = tree.facts().map(|facts| facts.id.uuid()).collect();
                all.contains(id)
            }
            Self::One(id) => position.id == *id,
        }
    }
}

/// The resource `id`, cut out of a whole tree.
fn excerpt(view: &TreeView, id: ResourceId) -> Option<Excerpt> {
    let tree = &view.tree;
    let mut cut = LoadBalancerTree::bare(tree.load_balancer.clone());
    let position = match id {
        ResourceId::LoadBalancer(id) => position(
            &tree.load_balancer,
            &tree.load_balancer.value.name,
            id.uuid(),
        ),
        ResourceId::Listener(id) => {
            let row = tree.listener(id)?;
            cut.listeners.push(row.clone());
            position(row, &row.value.name, id.uuid())
        }
        ResourceId::Pool(id) => {
            let row = tree.pool(id)?;
            cut.pools.push(row.clone());
            position(row, &row.value.name, id.uuid())
        }
        ResourceId::HealthMonitor(id) => {
            let row = tree.health_monitor(id)?;
            cut.health_monitors.push(row.clone());
            position(row, &row.value.name, id.uuid())
        }
        ResourceId::L7Policy(id) => {
            let row = tree.l7_policy(id)?;
            cut.l7_policies.push(row.clone());
            position(row, &row.value.name, id.uuid())
        }
        ResourceId::Member(_) | ResourceId::L7Rule(_) => return None,
    };
    Some(Excerpt {
        id,
        position,
        view: TreeView {
            tree: cut,
            observed: view.observed.clone(),
        },
        related: Related::of(tree, id),
    })
}

/// Where a row stands.
fn position<T>(row: &Row<T>, name: &Name, id: Uuid) -> Position {
    Position {
        name: name.as_str().into(),
        created_at: row.created_at,
        id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::House;

    fn at(name: &str, second: i64, id: u128) -> Position {
        Position {
            name: name.into(),
            created_at: Timestamp::from_second(second).unwrap(),
            id: Uuid::from_u128(id),
        }
    }

    fn sorted(order: Order) -> Vec<u128> {
        let mut all = [at("b", 1, 1), at("a", 2, 2), at("b", 0, 4), at("b", 1, 3)];
        all.sort_by(|left, right| order.compare(left, right));
        all.iter().map(|position| position.id.as_u128()).collect()
    }

    #[test]
    fn orders_are_total_and_ties_have_a_direction_of_their_own() {
        use Direction::{Ascending, Descending};
        for (key, direction, ties, expected) in [
            (Key::Creation, Ascending, Ascending, [4, 1, 3, 2]),
            (Key::Creation, Ascending, Descending, [4, 3, 1, 2]),
            (Key::Creation, Descending, Ascending, [2, 1, 3, 4]),
            (Key::Name, Ascending, Ascending, [2, 4, 1, 3]),
            (Key::Name, Ascending, Descending, [2, 3, 1, 4]),
            (Key::Name, Descending, Ascending, [4, 1, 3, 2]),
        ] {
            let order = Order {
                key,
                direction,
                ties,
            };
            assert_eq!(sorted(order), expected, "{order:?}");
            let mut backwards = sorted(order.reversed());
            backwards.reverse();
            assert_eq!(backwards, expected, "{order:?} reversed");
        }
    }

    #[test]
    fn an_excerpt_has_the_resource_alone_and_the_ids_it_is_shown_with() {
        let view = House::furnished().view();
        let scan = |collection| {
            let scan = Scan {
                collection,
                project: None,
                among: Among::All,
                order: Order::CREATION,
                after: None,
                count: 9,
            };
            excerpts(core::slice::from_ref(&view), &scan)
        };
        let tree = &view.tree;
        let balancer = scan(Collection::LoadBalancers).remove(0);
        assert_eq!(balancer.view.tree.facts().count(), 1);
        assert_eq!(balancer.related.listeners, [tree.listeners[0].value.id]);
        assert_eq!(balancer.related.pools, [tree.pools[0].value.id]);
        let pool = scan(Collection::Pools).remove(0);
        assert_eq!(pool.view.tree.facts().count(), 2);
        assert_eq!(pool.view.tree.pools, tree.pools);
        assert_eq!(pool.related.listeners, [tree.listeners[0].value.id]);
        assert_eq!(pool.related.members.len(), 2);
        assert_eq!(
            pool.related.health_monitor,
            Some(tree.health_monitors[0].value.id)
        );
        assert_eq!(scan(Collection::Listeners).len(), 1);
        assert_eq!(scan(Collection::HealthMonitors).len(), 1);
    }
}
