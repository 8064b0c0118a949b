//! What clients were told, and what the system has to show for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use krater_amphora_api::{Generation, LoadBalancerId, PoolId};
use krater_controller_core::{model::ProjectId, tree::TreeView};
use uuid::Uuid;

/// All that clients know.
#[derive(Default)]
pub(crate) struct Ledger {
    inner: Mutex<Book>,
}

/// See [`Ledger`].
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) entries: BTreeMap<Uuid, Entry>,
    /// Names of what may have been created, as far as clients know.
    pub(crate) ghosts: BTreeSet<String>,
    /// The newest generation that was shown.
    pub(crate) shown: BTreeMap<LoadBalancerId, Generation>,
    /// The largest count that was shown.
    pub(crate) counted: BTreeMap<LoadBalancerId, u64>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    next: u64,
}

/// A resource that was created. One client alone changes it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) owner: usize,
    pub(crate) project: ProjectId,
    pub(crate) load_balancer: LoadBalancerId,
    pub(crate) pool: Option<PoolId>,
    /// What it was last told to say.
    pub(crate) token: String,
    /// What it may say instead: told, and never answered.
    pub(crate) maybe: BTreeSet<String>,
    pub(crate) deletion: Deletion,
}

/// The kinds of resources that clients make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LoadBalancer,
    Listener,
    Pool,
    Member,
}

/// How far the deletion of a resource has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    No,
    /// Asked for, and never answered.
    Maybe,
    Done,
}

impl Ledger {
    pub(crate) fn open(&self) -> MutexGuard<'_, Book> {
        self.inner.lock().unwrap()
    }
}

impl Book {
    /// A number that nobody had before.
    pub(crate) const fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Resources that nobody has asked to be deleted.
    pub(crate) fn living(&self, is: impl Fn(&Entry) -> bool) -> Vec<(Uuid, Entry)> {
        let living = self.entries.iter().filter(|(_, entry)| {
            let parent = self.entries.get(&entry.load_balancer.uuid());
            let pool = entry.pool.and_then(|pool| self.entries.get(&pool.uuid()));
            let stays =
                |entry: Option<&Entry>| entry.is_none_or(|entry| entry.deletion == Deletion::No);
            entry.deletion == Deletion::No && stays(parent) && stays(pool) && is(entry)
        });
        living.map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// What a load balancer shows against what clients of `owner` were told, or of all of them.
    pub(crate) fn compare(&self, view: &TreeView, owner: Option<usize>) -> Vec<String> {
        let mut found = Vec::new();
        let said = words(view);
        let of = view.tree.id();
        let mine = |entry: &Entry| {
            entry.load_balancer == of && owner.is_none_or(|owner| owner == entry.owner)
        };
        for (id, entry) in self.living(mine) {
            match said.get(&id) {
                None => found.push(format!("lost: {:?} {id} of {of} is not there", entry.kind)),
                Some((word, _)) if *word != entry.token && !entry.maybe.contains(word) => {
                    found.push(format!(
                        "lost: {:?} {id} of {of} says {word:?} and was told {:?}",
                        entry.kind, entry.token
                    ));
                }
                Some(_) => {}
            }
        }
        for (id, entry) in &self.entries {
            let is_done = entry.deletion == Deletion::Done && mine(entry);
            if is_done && said.get(id).is_some_and(|(_, is_leaving)| !is_leaving) {
                found.push(format!(
                    "lost: {:?} {id} was deleted and is there",
                    entry.kind
                ));
            }
        }
        found
    }
}

/// What the resources of a tree say, and whether they are leaving.
pub(crate) fn words(view: &TreeView) -> BTreeMap<Uuid, (String, bool)> {
    let tree = &view.tree;
    let mut words = BTreeMap::new();
    let root = &tree.load_balancer;
    let text = root.value.description.to_string();
    words.insert(root.value.id.uuid(), (text, root.is_leaving()));
    for row in &tree.listeners {
        let text = row.value.description.to_string();
        words.insert(row.value.id.uuid(), (text, row.is_leaving()));
    }
    for row in &tree.pools {
        let text = row.value.description.to_string();
        words.insert(row.value.id.uuid(), (text, row.is_leaving()));
    }
    for row in &tree.members {
        let text = row.value.weight.to_string();
        words.insert(row.value.id.uuid(), (text, row.is_leaving()));
    }
    words
}

/// The names of the resources of a tree.
pub(crate) fn names(view: &TreeView) -> BTreeMap<Uuid, String> {
    let tree = &view.tree;
    let root = &tree.load_balancer.value;
    let mut names = BTreeMap::from([(root.id.uuid(), root.name.to_string())]);
    let listeners = tree.listeners.iter();
    names.extend(listeners.map(|row| (row.value.id.uuid(), row.value.name.to_string())));
    let pools = tree.pools.iter();
    names.extend(pools.map(|row| (row.value.id.uuid(), row.value.name.to_string())));
    let members = tree.members.iter();
    names.extend(members.map(|row| (row.value.id.uuid(), row.value.name.to_string())));
    names
}
