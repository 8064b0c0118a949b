//! What tells the kinds of resources apart: names, ids, attributes, how they are shown.

use krater_controller_core::{
    model::{HealthMonitorId, L7PolicyId, ListenerId, LoadBalancerId, PoolId},
    query::ResourceId,
    scan::{Among, Collection, Excerpt, Related},
    tree::TreeView,
};
use uuid::Uuid;

use crate::{
    attributes::Filterable,
    fault::Fault,
    parameters::Parameters,
    path::Kind,
    wire::{health_monitor, l7_policy, l7_rule, listener, load_balancer, member, pool, row::Item},
};

impl Kind {
    /// The key of one.
    pub(crate) const fn root(self) -> &'static str {
        match self {
            Self::LoadBalancer => load_balancer::ROOT,
            Self::Listener => listener::ROOT,
            Self::Pool => pool::ROOT,
            Self::HealthMonitor => health_monitor::ROOT,
            Self::L7Policy => l7_policy::ROOT,
        }
    }

    /// The key of many.
    pub(crate) const fn root_list(self) -> &'static str {
        match self {
            Self::LoadBalancer => load_balancer::ROOT_LIST,
            Self::Listener => listener::ROOT_LIST,
            Self::Pool => pool::ROOT_LIST,
            Self::HealthMonitor => health_monitor::ROOT_LIST,
            Self::L7Policy => l7_policy::ROOT_LIST,
        }
    }

    /// The name of its body in errors.
    pub(crate) const fn argument(self) -> &'static str {
        match self {
            Self::LoadBalancer => load_balancer::ARGUMENT,
            Self::Listener => listener::ARGUMENT,
            Self::Pool => pool::ARGUMENT,
            Self::HealthMonitor => health_monitor::ARGUMENT,
            Self::L7Policy => l7_policy::ARGUMENT,
        }
    }

    /// What lists of it can be filtered by. `load_balancer_id` is a spelling that the SDK sends.
    pub(crate) const fn filterable(self) -> Filterable {
        const OF_LOAD_BALANCER: &[(&str, &str)] = &[
            ("loadbalancer_id", "loadbalancers"),
            ("load_balancer_id", "loadbalancers"),
        ];
        match self {
            Self::LoadBalancer => Filterable {
                attributes: load_balancer::ATTRIBUTES,
                relations: &[],
            },
            Self::Listener => Filterable {
                attributes: listener::ATTRIBUTES,
                relations: OF_LOAD_BALANCER,
            },
            Self::Pool => Filterable {
                attributes: pool::ATTRIBUTES,
                relations: OF_LOAD_BALANCER,
            },
            Self::HealthMonitor => Filterable {
                attributes: health_monitor::ATTRIBUTES,
                relations: &[("pool_id", "pools")],
            },
            Self::L7Policy => Filterable {
                attributes: l7_policy::ATTRIBUTES,
                relations: &[],
            },
        }
    }

    /// The id in a path. It is not checked there: what cannot be one names nothing (reference 1.1).
    pub(crate) fn id(self, text: &str) -> Result<ResourceId, Fault> {
        let id = parse_id(text).ok_or_else(|| Fault::not_found(&self.to_string(), text))?;
        Ok(match self {
            Self::LoadBalancer => ResourceId::LoadBalancer(LoadBalancerId::new(id)),
            Self::Listener => ResourceId::Listener(ListenerId::new(id)),
            Self::Pool => ResourceId::Pool(PoolId::new(id)),
            Self::HealthMonitor => ResourceId::HealthMonitor(HealthMonitorId::new(id)),
            Self::L7Policy => ResourceId::L7Policy(L7PolicyId::new(id)),
        })
    }

    /// What a list of it is read from.
    pub(crate) const fn collection(self) -> Collection {
        match self {
            Self::LoadBalancer => Collection::LoadBalancers,
            Self::Listener => Collection::Listeners,
            Self::Pool => Collection::Pools,
            Self::HealthMonitor => Collection::HealthMonitors,
            Self::L7Policy => Collection::L7Policies,
        }
    }

    /// The fewest among which the parameters can select. What cannot be an id is nobody's.
    pub(crate) fn among(self, parameters: &Parameters) -> Among {
        let id = |name: &str| {
            let text = parameters.first(name)?;
            Some(parse_id(text).unwrap_or_default())
        };
        if let Some(id) = id("id") {
            return Among::One(id);
        }
        let parent = match self {
            Self::LoadBalancer => None,
            Self::Listener | Self::Pool => id("loadbalancer_id")
                .or_else(|| id("load_balancer_id"))
                .map(LoadBalancerId::new)
                .map(Among::Tree),
            Self::HealthMonitor => id("pool_id").map(Among::Holder),
            Self::L7Policy => id("listener_id")
                .or_else(|| id("redirect_pool_id"))
                .map(Among::Holder),
        };
        parent.unwrap_or_else(|| {
            let name = parameters.first("name").map(String::from);
            name.map_or(Among::All, Among::Named)
        })
    }
}

/// The resource `id` of `view`, as it is shown.
pub(crate) fn item(view: &TreeView, id: ResourceId) -> Option<Item> {
    render(view, id, &Related::of(&view.tree, id))
}

/// The resource of an excerpt, as it is shown.
pub(crate) fn excerpt(excerpt: &Excerpt) -> Option<Item> {
    render(&excerpt.view, excerpt.id, &excerpt.related)
}

fn render(view: &TreeView, id: ResourceId, related: &Related) -> Option<Item> {
    let tree = &view.tree;
    Some(match id {
        ResourceId::LoadBalancer(id) if tree.id() == id => load_balancer::render(view, related),
        ResourceId::LoadBalancer(_) => return None,
        ResourceId::Listener(id) => listener::render(view, tree.listener(id)?, related),
        ResourceId::Pool(id) => pool::render(view, tree.pool(id)?, related),
        ResourceId::Member(id) => member::render(view, tree.member(id)?),
        ResourceId::HealthMonitor(id) => health_monitor::render(view, tree.health_monitor(id)?),
        ResourceId::L7Policy(id) => l7_policy::render(view, tree.l7_policy(id)?, related),
        ResourceId::L7Rule(id) => l7_rule::render(view, tree.l7_rule(id)?),
    })
}

/// An id as the API writes them: 36 characters. Other spellings name nothing.
pub(crate) fn parse_id(text: &str) -> Option<Uuid> {
    if text.len() == UUID_CHARACTERS {
        Uuid::parse_str(text).ok()
    } else {
        None
    }
}

const UUID_CHARACTERS: usize = 36;
