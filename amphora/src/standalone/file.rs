//! The snapshot file: JSON → what to apply and what is already in force, or every reason why not.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use krater_amphora_api::{
    ListenerId, LoadBalancerId, MemberId, PoolId, Rejection, SnapshotSpec, Subject,
};
use krater_amphora_core::snapshot::Snapshot;
use serde_json::Value;

use super::{
    identify::{Seen, complete},
    shape::{self, Fitting},
};
use crate::strict::{Flaw, Object};

/// What it takes to bring what is in force to what the file says.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// New or changed.
    pub(crate) apply: Vec<Snapshot>,
    /// How many are as they should be.
    pub(crate) unchanged: usize,
    /// All that the file names.
    pub(crate) wanted: HashSet<LoadBalancerId>,
    /// What is no longer wanted.
    pub(crate) remove: Vec<LoadBalancerId>,
}

impl Plan {
    /// Reads the text of a file. `held` lends what is in force. What differs from it gets the next generation.
    pub(crate) fn read(
        text: &str,
        held: impl Fn(LoadBalancerId) -> Option<Arc<Snapshot>>,
    ) -> Result<Self, Vec<Flaw>> {
        // Line and column are in the message.
        let root: Value =
            serde_json::from_str(text).map_err(|error| vec![Flaw::new("", error.to_string())])?;
        let mut flaws = Vec::new();
        let mut reading = Reading {
            held,
            plan: Self::default(),
            uniqueness: Uniqueness::default(),
            seen: Seen::new(),
        };
        if let Some(mut root) = Object::open(String::new(), root, &mut flaws) {
            match root.take_value("load_balancers") {
                Some(Value::Array(balancers)) => {
                    for (index, balancer) in balancers.into_iter().enumerate() {
                        reading.balancer(&format!("load_balancers[{index}]"), balancer, &mut flaws);
                    }
                }
                Some(_) => flaws.push(Flaw::new("load_balancers", "must be an array")),
                None => flaws.push(Flaw::new("load_balancers", "is required")),
            }
            root.close(&mut flaws);
        }
        if flaws.is_empty() {
            Ok(reading.plan)
        } else {
            Err(flaws)
        }
    }
}

struct Reading<H> {
    held: H,
    plan: Plan,
    uniqueness: Uniqueness,
    seen: Seen,
}

impl<H: Fn(LoadBalancerId) -> Option<Arc<Snapshot>>> Reading<H> {
    fn balancer(&mut self, path: &str, mut value: Value, flaws: &mut Vec<Flaw>) {
        let mut fitting = Fitting {
            flaws,
            mended: HashSet::new(),
        };
        fitting.resource(path, &mut value, shape::LOAD_BALANCER);
        let mended = fitting.mended;
        let mut meaning = Vec::new();
        if let Value::Object(balancer) = &mut value {
            complete(path, balancer, &mut self.seen, &mut meaning);
        }
        match serde_json::from_value(value) {
            Ok(spec) if mended.is_empty() => self.spec(path, spec, &mut meaning),
            // It can only be refused: what is left is to say all that is wrong with it.
            Ok(spec) => {
                let paths = Paths::of(path, &spec);
                let rejections = Snapshot::parse(spec).err().unwrap_or_default();
                meaning.extend(
                    rejections
                        .into_iter()
                        .map(|rejection| paths.flaw(rejection)),
                );
            }
            // The shape was checked; this is for what the tables should come to miss.
            Err(error) => flaws.push(Flaw::new(path, error.to_string())),
        }
        flaws.extend(
            meaning
                .into_iter()
                .filter(|flaw| !is_of_our_making(path, flaw, &mended)),
        );
    }

    /// Takes in a load balancer that has the right shape.
    fn spec(&mut self, path: &str, mut spec: SnapshotSpec, flaws: &mut Vec<Flaw>) {
        let held = (self.held)(spec.load_balancer);
        if let Some(held) = &held {
            let floor = spec.generation;
            spec.generation = held.generation();
            if *held.spec() == spec && floor <= held.generation() {
                self.plan.unchanged += 1;
                return self.admit(path, held, flaws);
            }
            spec.generation = floor.max(held.generation().next());
        }
        let paths = Paths::of(path, &spec);
        match Snapshot::parse(spec) {
            Ok(snapshot) => {
                self.admit(path, &snapshot, flaws);
                self.plan.apply.push(snapshot);
            }
            Err(rejections) => flaws.extend(
                rejections
                    .into_iter()
                    .map(|rejection| paths.flaw(rejection)),
            ),
        }
    }

    /// Checks a valid load balancer against those before it.
    fn admit(&mut self, path: &str, snapshot: &Snapshot, flaws: &mut Vec<Flaw>) {
        self.plan.wanted.insert(snapshot.load_balancer());
        self.uniqueness
            .claim(path, Claim::LoadBalancer(snapshot.load_balancer()), flaws);
        for (index, listener) in snapshot.listeners().iter().enumerate() {
            let path = format!("{path}.listeners[{index}]");
            self.uniqueness
                .claim(&path, Claim::Listener(listener.id), flaws);
            if snapshot.enabled() && listener.enabled {
                for vip in snapshot.vips() {
                    self.uniqueness
                        .claim(&path, Claim::Port((*vip, listener.port).into()), flaws);
                }
            }
        }
        for (index, pool) in snapshot.pools().iter().enumerate() {
            let path = format!("{path}.pools[{index}]");
            self.uniqueness.claim(&path, Claim::Pool(pool.id), flaws);
            for (index, member) in pool.members.iter().enumerate() {
                let path = format!("{path}.members[{index}]");
                self.uniqueness
                    .claim(&path, Claim::Member(member.id), flaws);
            }
        }
    }
}

/// Whether a flaw may come from what was put in the place of a misfit: one of a resource that was mended, or a pool
/// that cannot be found because its name was one.
fn is_of_our_making(path: &str, flaw: &Flaw, mended: &HashSet<String>) -> bool {
    let pools = format!("{path}.pools");
    let pools_mended = || {
        mended
            .iter()
            .any(|mended| mended == path || mended.starts_with(&pools))
    };
    mended.contains(&flaw.path) || (flaw.path.ends_with(".default_pool") && pools_mended())
}

/// What no two load balancers of a file may both have.
#[derive(Debug, Default)]
struct Uniqueness(HashMap<Claim, String>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    LoadBalancer(LoadBalancerId),
    Listener(ListenerId),
    Pool(PoolId),
    Member(MemberId),
    Port(std::net::SocketAddr),
}

impl Uniqueness {
    fn claim(&mut self, path: &str, claim: Claim, flaws: &mut Vec<Flaw>) {
        if let Some(other) = self.0.get(&claim) {
            let what = match claim {
                Claim::LoadBalancer(id) => format!("load balancer {id}"),
                Claim::Listener(id) => format!("listener {id}"),
                Claim::Pool(id) => format!("pool {id}"),
                Claim::Member(id) => format!("member {id}"),
                Claim::Port(address) => format!("address {address}"),
            };
            flaws.push(Flaw::new(
                path,
                format!("{what} is already that of {other}"),
            ));
        } else {
            self.0.insert(claim, path.to_owned());
        }
    }
}

/// Where each resource of a load balancer is written.
struct Paths {
    balancer: String,
    resources: Vec<(Subject, String)>,
}

impl Paths {
    fn of(path: &str, spec: &SnapshotSpec) -> Self {
        let mut resources = Vec::new();
        for (index, listener) in spec.listeners.iter().enumerate() {
            resources.push((
                Subject::Listener(listener.id),
                format!("{path}.listeners[{index}]"),
            ));
        }
        for (index, pool) in spec.pools.iter().enumerate() {
            let path = format!("{path}.pools[{index}]");
            for (index, member) in pool.members.iter().enumerate() {
                resources.push((
                    Subject::Member(member.id),
                    format!("{path}.members[{index}]"),
                ));
            }
            if let Some(monitor) = &pool.monitor {
                resources.push((
                    Subject::HealthMonitor(monitor.id),
                    format!("{path}.monitor"),
                ));
            }
            resources.push((Subject::Pool(pool.id), path));
        }
        Self {
            balancer: path.to_owned(),
            resources,
        }
    }

    fn flaw(&self, rejection: Rejection) -> Flaw {
        let found = self
            .resources
            .iter()
            .find(|(subject, _)| *subject == rejection.subject);
        Flaw::new(
            found.map_or_else(|| self.balancer.clone(), |(_, path)| path.clone()),
            rejection.reason,
        )
    }
}

#[cfg(test)]
mod tests;
