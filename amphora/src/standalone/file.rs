//! The snapshot file: JSON → what to apply and what is already in force, or every reason why not.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use krater_amphora_api::{Generation, LoadBalancerId, Rejection, SnapshotSpec, Subject};
use krater_amphora_core::{
    snapshot::Snapshot,
    transition::{Place, sockets},
};
use serde_json::Value;

use super::{
    identify::{Basis, Seen, complete},
    shape::{self, Fitting, Path},
    texts::{Known, Texts, split},
};
use crate::{
    strict::{Flaw, Object},
    world::{Part, Prepared, World},
};

/// What it takes to bring what is in force to what the file says.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// New or changed.
    pub(crate) apply: Vec<Prepared>,
    /// How many are as they should be.
    pub(crate) unchanged: usize,
    /// All that the file names.
    pub(crate) wanted: HashSet<LoadBalancerId>,
    /// What is no longer wanted.
    pub(crate) remove: Vec<LoadBalancerId>,
    /// What to recognise in the next file, once this one is in force.
    pub(crate) texts: Texts,
}

impl Plan {
    /// Reads the text of a file. `world` is what is in force, `texts` knows how it was written. What differs from it
    /// gets the next generation.
    pub(crate) fn read(text: &str, texts: &Texts, world: &World) -> Result<Self, Vec<Flaw>> {
        let mut reading = Reading {
            world,
            plan: Self::default(),
            seen: Seen::new(),
            read: Vec::new(),
        };
        let mut flaws = Vec::new();
        match split(text) {
            Some(parts) => {
                for (index, part) in parts.into_iter().enumerate() {
                    reading.part(index, part, texts, &mut flaws);
                }
            }
            // Value by value, which takes longer and knows what to say.
            None => reading.whole(text, &mut flaws),
        }
        if reading.has_claims_in_common() {
            reading.tell_claims_in_common(&mut flaws);
        }
        if flaws.is_empty() {
            Ok(reading.plan)
        } else {
            Err(flaws)
        }
    }
}

struct Reading<'a> {
    world: &'a World,
    plan: Plan,
    seen: Seen,
    /// Those that are valid, by their index in the file.
    read: Vec<(usize, Read)>,
}

enum Read {
    /// As it is in force.
    Held(Arc<Snapshot>),
    /// To be applied: its position in [`Plan::apply`].
    News(usize),
}

impl Reading<'_> {
    /// What is in force of that load balancer.
    fn held(&self, id: LoadBalancerId) -> Option<Arc<Snapshot>> {
        let balancer = self.world.balancers.get(&id)?;
        Some(Arc::clone(&balancer.snapshot))
    }

    /// Takes in a file that is not what it should be.
    fn whole(&mut self, text: &str, flaws: &mut Vec<Flaw>) {
        let root: Value = match serde_json::from_str(text) {
            Ok(root) => root,
            // Line and column are in the message.
            Err(error) => return flaws.push(Flaw::new("", error.to_string())),
        };
        let Some(mut root) = Object::open(String::new(), root, flaws) else {
            return;
        };
        match root.take_value("load_balancers") {
            Some(Value::Array(balancers)) => {
                for (index, balancer) in balancers.into_iter().enumerate() {
                    self.balancer(index, balancer, None, flaws);
                }
            }
            Some(_) => flaws.push(Flaw::new("load_balancers", "must be an array")),
            None => flaws.push(Flaw::new("load_balancers", "is required")),
        }
        root.close(flaws);
    }

    /// Takes in the text of one load balancer.
    fn part(&mut self, index: usize, text: &str, texts: &Texts, flaws: &mut Vec<Flaw>) {
        if let Some(known) = texts.recognise(text, &mut self.seen) {
            match self.held(known.id) {
                Some(held) if held.generation() == known.generation => {
                    self.plan.texts.remember(text, known);
                    return self.keep(index, held);
                }
                // Not in force after all: as if it had not been seen.
                _ => drop(known.key.map(|key| self.seen.remove(&key))),
            }
        }
        match serde_json::from_str(text) {
            Ok(value) => self.balancer(index, value, Some(text), flaws),
            Err(error) => flaws.push(Flaw::new(path_of(index), error.to_string())),
        }
    }

    fn balancer(
        &mut self,
        index: usize,
        mut value: Value,
        text: Option<&str>,
        flaws: &mut Vec<Flaw>,
    ) {
        let path = path_of(index);
        let mut fitting = Fitting {
            flaws,
            mended: HashSet::new(),
        };
        fitting.resource(&Path::Root(&path), &mut value, shape::LOAD_BALANCER);
        let mended = fitting.mended;
        let mut meaning = Vec::new();
        let mut basis = Basis::Written;
        if let Value::Object(balancer) = &mut value {
            basis = complete(&path, balancer, &mut self.seen, &mut meaning);
        }
        match serde_json::from_value(value) {
            Ok(spec) if mended.is_empty() => {
                let known = self.spec(index, spec, &mut meaning);
                self.remember(text, basis, known);
            }
            // It can only be refused: what is left is to say all that is wrong with it.
            Ok(spec) => {
                let paths = Paths::of(&path, &spec);
                let rejections = Snapshot::parse(spec).err().unwrap_or_default();
                meaning.extend(
                    rejections
                        .into_iter()
                        .map(|rejection| paths.flaw(rejection)),
                );
            }
            // The shape was checked; this is for what the tables should come to miss.
            Err(error) => flaws.push(Flaw::new(path.as_str(), error.to_string())),
        }
        flaws.extend(
            meaning
                .into_iter()
                .filter(|flaw| !is_of_our_making(&path, flaw, &mended)),
        );
    }

    /// Takes in a load balancer that has the right shape; what it came to, if it is valid.
    fn spec(
        &mut self,
        index: usize,
        mut spec: SnapshotSpec,
        flaws: &mut Vec<Flaw>,
    ) -> Option<(LoadBalancerId, Generation)> {
        let id = spec.load_balancer;
        if let Some(held) = self.held(id) {
            let floor = spec.generation;
            spec.generation = held.generation();
            if *held.spec() == spec && floor <= held.generation() {
                self.keep(index, held);
                return Some((id, spec.generation));
            }
            spec.generation = floor.max(held.generation().next());
        }
        let generation = spec.generation;
        let paths = Paths::of(&path_of(index), &spec);
        match Snapshot::parse(spec).and_then(|snapshot| self.world.prepare(snapshot)) {
            Ok(snapshot) => {
                self.plan.wanted.insert(id);
                self.read.push((index, Read::News(self.plan.apply.len())));
                self.plan.apply.push(snapshot);
                Some((id, generation))
            }
            Err(rejections) => {
                flaws.extend(
                    rejections
                        .into_iter()
                        .map(|rejection| paths.flaw(rejection)),
                );
                None
            }
        }
    }

    /// Leaves one as it is in force.
    fn keep(&mut self, index: usize, held: Arc<Snapshot>) {
        self.plan.unchanged += 1;
        self.plan.wanted.insert(held.load_balancer());
        self.read.push((index, Read::Held(held)));
    }

    fn remember(
        &mut self,
        text: Option<&str>,
        basis: Basis,
        known: Option<(LoadBalancerId, Generation)>,
    ) {
        let key = match basis {
            Basis::Written => None,
            Basis::Key(key) => Some(key),
            Basis::KeyAndPlace => return,
        };
        if let (Some(text), Some((id, generation))) = (text, known) {
            let known = Known {
                id,
                generation,
                key,
            };
            self.plan.texts.remember(text, known);
        }
    }

    /// Whether two of the file claim the same. Of what is in force no two do, so they are held against what is new.
    fn has_claims_in_common(&self) -> bool {
        if self.plan.wanted.len() < self.read.len() {
            return true;
        }
        let mut new = HashSet::new();
        let mut claims = self.plan.apply.iter().flat_map(|news| claims_of(news));
        if !claims.all(|claim| new.insert(claim)) {
            return true;
        }
        !new.is_empty()
            && self.read.iter().any(|(_, read)| match read {
                Read::Held(held) => claims_of(held).any(|claim| new.contains(&claim)),
                Read::News(_) => false,
            })
    }

    fn tell_claims_in_common(&self, flaws: &mut Vec<Flaw>) {
        let mut uniqueness = Uniqueness::default();
        for (index, read) in &self.read {
            let snapshot = match read {
                Read::Held(held) => Some(&**held),
                Read::News(position) => self.plan.apply.get(*position).map(|news| &*news.snapshot),
            };
            if let Some(snapshot) = snapshot {
                uniqueness.admit(&path_of(*index), snapshot, flaws);
            }
        }
    }
}

fn path_of(index: usize) -> String {
    format!("load_balancers[{index}]")
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    LoadBalancer(LoadBalancerId),
    Part(Part),
    Place(Place),
}

/// What a load balancer claims beside its id.
fn claims_of(snapshot: &Snapshot) -> impl Iterator<Item = Claim> {
    let places = sockets(snapshot).map(|key| Claim::Place(key.place));
    Part::all_of(snapshot).map(Claim::Part).chain(places)
}

/// Who claims what, by path: the first one has it.
#[derive(Debug, Default)]
struct Uniqueness(HashMap<Claim, String>);

impl Uniqueness {
    /// Checks a valid load balancer against those before it.
    fn admit(&mut self, path: &str, snapshot: &Snapshot, flaws: &mut Vec<Flaw>) {
        self.claim(path, Claim::LoadBalancer(snapshot.load_balancer()), flaws);
        for (index, listener) in snapshot.listeners().iter().enumerate() {
            let path = format!("{path}.listeners[{index}]");
            self.claim(&path, Claim::Part(Part::Listener(listener.id)), flaws);
            for key in sockets(snapshot).filter(|key| key.listener == listener.id) {
                self.claim(&path, Claim::Place(key.place), flaws);
            }
        }
        for (index, pool) in snapshot.pools().iter().enumerate() {
            let path = format!("{path}.pools[{index}]");
            self.claim(&path, Claim::Part(Part::Pool(pool.id)), flaws);
            for (index, member) in pool.members.iter().enumerate() {
                let path = format!("{path}.members[{index}]");
                self.claim(&path, Claim::Part(Part::Member(member.id)), flaws);
            }
        }
    }

    fn claim(&mut self, path: &str, claim: Claim, flaws: &mut Vec<Flaw>) {
        if let Some(other) = self.0.get(&claim) {
            let what = match claim {
                Claim::LoadBalancer(id) => format!("load balancer {id}"),
                Claim::Part(Part::Listener(id)) => format!("listener {id}"),
                Claim::Part(Part::Pool(id)) => format!("pool {id}"),
                Claim::Part(Part::Member(id)) => format!("member {id}"),
                Claim::Place(place) => format!("address {}", place.address),
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
    resources: Vec<(Subject, Spot)>,
}

/// Where one is, by index.
#[derive(Clone, Copy)]
enum Spot {
    Listener(usize),
    Pool(usize),
    Member(usize, usize),
    Monitor(usize),
}

impl Paths {
    fn of(path: &str, spec: &SnapshotSpec) -> Self {
        let mut resources = Vec::new();
        for (index, listener) in spec.listeners.iter().enumerate() {
            resources.push((Subject::Listener(listener.id), Spot::Listener(index)));
        }
        for (at, pool) in spec.pools.iter().enumerate() {
            for (index, member) in pool.members.iter().enumerate() {
                resources.push((Subject::Member(member.id), Spot::Member(at, index)));
            }
            if let Some(monitor) = &pool.monitor {
                resources.push((Subject::HealthMonitor(monitor.id), Spot::Monitor(at)));
            }
            resources.push((Subject::Pool(pool.id), Spot::Pool(at)));
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
        let path = &self.balancer;
        let path = match found.map(|(_, spot)| *spot) {
            None => path.clone(),
            Some(Spot::Listener(at)) => format!("{path}.listeners[{at}]"),
            Some(Spot::Pool(at)) => format!("{path}.pools[{at}]"),
            Some(Spot::Member(pool, at)) => format!("{path}.pools[{pool}].members[{at}]"),
            Some(Spot::Monitor(pool)) => format!("{path}.pools[{pool}].monitor"),
        };
        Flaw::new(path, rejection.reason)
    }
}

#[cfg(test)]
mod tests;
