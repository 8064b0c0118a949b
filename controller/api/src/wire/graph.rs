//! The children in the body of a load balancer's creation (reference 17): pools given inline move up to those of the
//! load balancer, and names become positions.

use std::collections::BTreeMap;

use krater_controller_core::{
    command::{NewL7Policy, NewL7Rule, NewListener, NewPool, PoolRef},
    model::PoolId,
    query::ResourceId,
    refusal::Refusal,
};
use serde_json::Value;

use super::{
    health_monitor::{self, MonitorBody},
    l7_policy::{self, PolicyBody},
    l7_rule,
    listener::{self, ListenerBody},
    member::{self, MemberBody},
    pool::{self, PoolBody},
};
use crate::{
    body::{self, Fields},
    fault::Fault,
};

/// The children as read, names not resolved.
#[derive(Default)]
pub(crate) struct Children {
    listeners: Vec<ListenerChild>,
    pools: Vec<PoolChild>,
}

struct ListenerChild {
    listener: ListenerBody,
    default_pool: Option<String>,
    policies: Vec<PolicyChild>,
}

struct PolicyChild {
    policy: PolicyBody,
    redirect_pool: Option<String>,
    rules: Vec<NewL7Rule>,
}

struct PoolChild {
    pool: PoolBody,
    members: Vec<MemberBody>,
    health_monitor: Option<MonitorBody>,
}

/// A pool where one may be defined or referred to.
enum PoolPlace {
    Reference(String),
    Definition(Box<PoolChild>),
}

/// Reads `listeners` and `pools`.
pub(crate) fn read(fields: &mut Fields) -> Result<Children, Fault> {
    let mut children = Children::default();
    let path = fields.path_of(pool::ROOT_LIST);
    let pools = fields
        .list(pool::ROOT_LIST, |value| read_pool(value, &path))?
        .or_default();
    for place in pools {
        match place {
            PoolPlace::Definition(pool) => children.pools.push(*pool),
            // Where pools are defined a reference can only be a definition that forgot the rest.
            PoolPlace::Reference(name) => return Err(missing_attribute(&name, "protocol")),
        }
    }
    let path = fields.path_of(listener::ROOT_LIST);
    let mut inline = Vec::new();
    let entry = |value| read_listener(value, &path, &mut inline);
    children.listeners = fields.list(listener::ROOT_LIST, entry)?.or_default();
    children.pools.extend(inline);
    Ok(children)
}

impl Children {
    /// Resolves names to positions, and refuses what cannot be had.
    pub(crate) fn resolve(self) -> Result<(Vec<NewListener>, Vec<NewPool>), Fault> {
        let mut positions = BTreeMap::new();
        for (position, child) in self.pools.iter().enumerate() {
            let name = child.pool.name();
            if !name.is_empty() && positions.insert(name.to_owned(), position).is_some() {
                return Err(Fault::validation(
                    "Pool names must be unique when creating a fully populated loadbalancer.",
                ));
            }
        }
        let find = |name: &str| {
            let position = positions.get(name).ok_or_else(|| {
                Fault::validation(format!(
                    "Pool '{name}' was referenced but no full definition was found."
                ))
            });
            position.map(|position| PoolRef::New(*position))
        };
        // Names come first: a reference that leads nowhere is told before what else is wrong.
        let mut named = Vec::with_capacity(self.listeners.len());
        for child in self.listeners {
            let target = child.default_pool.as_deref().map(find).transpose()?;
            let mut policies = Vec::with_capacity(child.policies.len());
            for policy in child.policies {
                let target = policy.redirect_pool.as_deref().map(find).transpose()?;
                policies.push((policy, target));
            }
            named.push((child.listener, target, policies));
        }
        let mut listeners = Vec::with_capacity(named.len());
        for (listener, target, policies) in named {
            let policies = policies
                .into_iter()
                .map(|(child, target)| child.into_new(target))
                .collect::<Result<Vec<_>, _>>()?;
            listeners.push(listener.into_new(target, policies));
        }
        let pools = self.pools.into_iter().map(PoolChild::into_new);
        Ok((listeners, pools.collect()))
    }
}

impl PolicyChild {
    fn into_new(self, target: Option<PoolRef>) -> Result<NewL7Policy, Fault> {
        self.policy.into_new(target.map(Some), self.rules)
    }
}

impl PoolChild {
    fn into_new(self) -> NewPool {
        let members = self.members.into_iter().map(MemberBody::into_new);
        let health_monitor = self.health_monitor.map(MonitorBody::into_new);
        self.pool.into_new(members.collect(), health_monitor)
    }
}

fn read_listener(
    value: Value,
    path: &str,
    inline: &mut Vec<PoolChild>,
) -> Result<ListenerChild, Fault> {
    body::read(value, path, |fields| {
        // Nothing that exists can belong to a load balancer that does not.
        if let Some(id) = fields.uuid("default_pool_id")?.value() {
            return Err(Refusal::NotFound(ResourceId::Pool(PoolId::new(id))).into());
        }
        let default_pool = read_target(fields, "default_pool", inline)?;
        let path = fields.path_of(l7_policy::ROOT_LIST);
        let policies = fields
            .list(l7_policy::ROOT_LIST, |value| {
                read_policy(value, &path, inline)
            })?
            .or_default();
        Ok(ListenerChild {
            listener: ListenerBody::read(fields)?,
            default_pool,
            policies,
        })
    })
}

fn read_policy(
    value: Value,
    path: &str,
    inline: &mut Vec<PoolChild>,
) -> Result<PolicyChild, Fault> {
    body::read(value, path, |fields| {
        let redirect_pool = read_target(fields, "redirect_pool", inline)?;
        let path = fields.path_of(l7_rule::ROOT_LIST);
        let rules = fields
            .list(l7_rule::ROOT_LIST, |value| {
                l7_rule::read_nested(value, &path)
            })?
            .or_default();
        Ok(PolicyChild {
            policy: PolicyBody::read(fields)?,
            redirect_pool,
            rules,
        })
    })
}

/// The name of the pool in the field `name`; one that is defined there moves up to `inline`.
fn read_target(
    fields: &mut Fields,
    name: &str,
    inline: &mut Vec<PoolChild>,
) -> Result<Option<String>, Fault> {
    let path = fields.path_of(name);
    let Some(value) = fields.take(name).value() else {
        return Ok(None);
    };
    let name = match read_pool(value, &path)? {
        PoolPlace::Reference(name) => name,
        PoolPlace::Definition(pool) => {
            let name = pool.pool.name().to_owned();
            inline.push(*pool);
            name
        }
    };
    if name.is_empty() {
        return Err(Fault::validation(
            "Pools must be named when creating a fully populated loadbalancer.",
        ));
    }
    Ok(Some(name))
}

fn read_pool(value: Value, path: &str) -> Result<PoolPlace, Fault> {
    body::read(value, path, |fields| {
        if fields.holds_only("name") {
            let name = fields.name()?.or_default();
            return Ok(PoolPlace::Reference(name.as_str().to_owned()));
        }
        let name = fields.peek_text("name").unwrap_or_default().to_owned();
        for attribute in ["protocol", "lb_algorithm"] {
            if !fields.has(attribute) {
                return Err(missing_attribute(&name, attribute));
            }
        }
        let path = fields.path_of(member::ROOT_LIST);
        let members = fields
            .list(member::ROOT_LIST, |value| member::read_nested(value, &path))?
            .or_default();
        let path = fields.path_of(health_monitor::ROOT);
        let health_monitor = fields.take(health_monitor::ROOT);
        let health_monitor = health_monitor
            .parse(|value| health_monitor::read_nested(value, &path))?
            .value();
        Ok(PoolPlace::Definition(Box::new(PoolChild {
            pool: PoolBody::read(fields)?,
            members,
            health_monitor,
        })))
    })
}

fn missing_attribute(pool: &str, attribute: &str) -> Fault {
    Fault::validation(format!(
        "Pool definition for '{pool}' missing required attribute: {attribute}"
    ))
}
