//! What tells the kinds of resources apart: names, ids, attributes, how they are shown.

use krater_controller_core::{
    model::{HealthMonitorId, ListenerId, LoadBalancerId, PoolId},
    query::{ResourceId, TreeFilter},
    tree::TreeView,
};
use uuid::Uuid;

use crate::{
    attributes::Filterable,
    fault::Fault,
    parameters::Parameters,
    path::Kind,
    wire::{health_monitor, listener, load_balancer, member, pool, row::Item},
};

impl Kind {
    /// The key of one.
    pub(crate) const fn root(self) -> &'static str {
        match self {
            Self::LoadBalancer => load_balancer::ROOT,
            Self::Listener => listener::ROOT,
            Self::Pool => pool::ROOT,
            Self::HealthMonitor => health_monitor::ROOT,
        }
    }

    /// The key of many.
    pub(crate) const fn root_list(self) -> &'static str {
        match self {
            Self::LoadBalancer => load_balancer::ROOT_LIST,
            Self::Listener => listener::ROOT_LIST,
            Self::Pool => pool::ROOT_LIST,
            Self::HealthMonitor => health_monitor::ROOT_LIST,
        }
    }

    /// The name of its body in errors.
    pub(crate) const fn argument(self) -> &'static str {
        match self {
            Self::LoadBalancer => load_balancer::ARGUMENT,
            Self::Listener => listener::ARGUMENT,
            Self::Pool => pool::ARGUMENT,
            Self::HealthMonitor => health_monitor::ARGUMENT,
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
        })
    }

    /// All of this kind in `view`, as they are shown.
    pub(crate) fn items(self, view: &TreeView) -> Vec<Item> {
        let tree = &view.tree;
        match self {
            Self::LoadBalancer => vec![load_balancer::render(view)],
            Self::Listener => tree
                .listeners
                .iter()
                .map(|row| listener::render(view, row))
                .collect(),
            Self::Pool => tree
                .pools
                .iter()
                .map(|row| pool::render(view, row))
                .collect(),
            Self::HealthMonitor => tree
                .health_monitors
                .iter()
                .map(|row| health_monitor::render(view, row))
                .collect(),
        }
    }

    /// Narrows the trees to those that the parameters can select from.
    pub(crate) fn narrow(self, parameters: &Parameters, filter: &mut TreeFilter) {
        let id = |name: &str| parameters.first(name).and_then(parse_id);
        match self {
            Self::LoadBalancer => {
                filter.load_balancer = id("id").map(LoadBalancerId::new);
                filter.name = parameters.first("name").map(String::from);
            }
            Self::Listener | Self::Pool => {
                let parent = id("loadbalancer_id").or_else(|| id("load_balancer_id"));
                filter.load_balancer = parent.map(LoadBalancerId::new);
                filter.holds = id("id");
            }
            Self::HealthMonitor => filter.holds = id("id").or_else(|| id("pool_id")),
        }
    }
}

/// The resource `id` of `view`, as it is shown.
pub(crate) fn item(view: &TreeView, id: ResourceId) -> Option<Item> {
    let tree = &view.tree;
    match id {
        ResourceId::LoadBalancer(id) => {
            (tree.load_balancer.value.id == id).then(|| load_balancer::render(view))
        }
        ResourceId::Listener(id) => tree
            .listeners
            .iter()
            .find(|row| row.value.id == id)
            .map(|row| listener::render(view, row)),
        ResourceId::Pool(id) => tree
            .pools
            .iter()
            .find(|row| row.value.id == id)
            .map(|row| pool::render(view, row)),
        ResourceId::Member(id) => tree
            .members
            .iter()
            .find(|row| row.value.id == id)
            .map(|row| member::render(view, row)),
        ResourceId::HealthMonitor(id) => tree
            .health_monitors
            .iter()
            .find(|row| row.value.id == id)
            .map(|row| health_monitor::render(view, row)),
    }
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
