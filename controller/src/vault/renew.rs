//! What becomes of secrets that change: those that are good are wanted from then on, by a new generation of every load
//! balancer that uses them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    audit::{Deed, Entry, Outcome},
    change::Change,
    model::SecretRef,
    query::{Caller, ResourceId, TreeFilter},
    quota::Growth,
    secret::Need,
};
use krater_controller_store::{Committed, Store, StoreError, Terms};
use krater_driver::Secret;
use tokio::time::sleep;

use super::{Key, Trouble, Usage, Vault, lock, name_of, short};
use crate::{
    cause::chain,
    chance, clock,
    knowledge::Knowledge,
    limits::{RACES_MAX, SECRETS_READ_AT_ONCE_MAX},
};

/// Keeps the secrets in use up to date.
pub(crate) struct Renewal {
    pub(crate) vault: Arc<Vault>,
    pub(crate) known: Knowledge,
    /// Has a load balancer looked at.
    pub(crate) poke: Box<dyn Fn(LoadBalancerId) + Send + Sync>,
    /// How often everything in use is read again though nothing was told to have changed.
    pub(crate) interval: Duration,
}

/// A secret that is good, and another one than some load balancers have.
struct Renewed {
    need: Need,
    digest: String,
}

impl Renewal {
    /// Runs for ever.
    pub(crate) async fn keep(self) {
        while let Err(error) = self.begin().await {
            tracing::error!(error = %chain(&error), "it is not known yet which secrets are in use");
            sleep(RETRY_PAUSE).await;
        }
        loop {
            self.round().await;
            let vault = &self.vault;
            tokio::select! {
                biased;
                () = vault.store.changed() => {}
                () = vault.asked.notified() => {}
                () = sleep(self.interval) => {}
            }
        }
    }

    /// Learns who uses what.
    async fn begin(&self) -> Result<(), StoreError> {
        let views = self.known.store.views(&TreeFilter::default()).await?;
        views.iter().for_each(|view| self.vault.note(&view.tree));
        Ok(())
    }

    /// Reads all that is in use, and has it put in force where it is another one.
    pub(super) async fn round(&self) {
        let vault = &self.vault;
        let users = lock(&vault.used).clone();
        let keys: BTreeSet<Key> = users.values().flat_map(Usage::keys).collect();
        lock(&vault.kept).retain(|key| keys.contains(key));
        lock(&vault.refused).retain(|key, _| keys.contains(key));
        let read = stream::iter(keys).map(|key| async move {
            let found = vault.fetch(&key).await;
            (key, found)
        });
        let mut read = read.buffer_unordered(SECRETS_READ_AT_ONCE_MAX);
        let mut good = BTreeMap::new();
        while let Some((key, found)) = read.next().await {
            match found {
                Ok(secret) => {
                    if lock(&vault.refused).remove(&key).is_some() {
                        tracing::info!(
                            reference = key.need.reference.as_str(),
                            "a secret is good again"
                        );
                    }
                    good.insert(key, secret);
                }
                Err(trouble) => self.note_trouble(&key, &trouble, &users).await,
            }
        }
        for (id, usage) in &users {
            let renewed = usage.renewed(&good);
            if !renewed.is_empty()
                && let Err(error) = self.want(*id, &renewed).await
            {
                tracing::error!(lb = %id, error = %chain(&error), "renewed secrets cannot be put in force; it is tried again");
            }
        }
        let wanting: Vec<LoadBalancerId> = lock(&vault.wanting).iter().copied().collect();
        for id in wanting {
            (self.poke)(id);
        }
        self.known
            .metrics
            .secrets_refused
            .set(i64::try_from(lock(&vault.refused).len()).unwrap_or(i64::MAX));
        let expiry = super::Expiry {
            known: &self.known,
            vault,
        };
        expiry.announce(clock::now()).await;
    }

    /// Tells once of each thing that is wrong. What was in force before stays so.
    async fn note_trouble(
        &self,
        key: &Key,
        trouble: &Trouble,
        users: &std::collections::BTreeMap<LoadBalancerId, Usage>,
    ) {
        let sentence = trouble.sentence();
        let told = lock(&self.vault.refused).insert(key.clone(), sentence.clone());
        if told.as_ref() == Some(&sentence) {
            return;
        }
        let reference = &key.need.reference;
        tracing::warn!(
            reference = reference.as_str(), purpose = key.need.purpose.name(), %sentence,
            "a secret in use cannot be renewed; what was in force before stays so"
        );
        if !matches!(trouble, Trouble::Unusable(_)) {
            return;
        }
        let users = users
            .iter()
            .filter(|(_, usage)| usage.keys().any(|one| one == *key));
        let entries: Vec<Entry> = users
            .map(|(id, usage)| Entry {
                outcome: Outcome::Refused {
                    status: 400,
                    sentence: sentence.clone(),
                },
                ..entry(Deed::Renew, *id, usage, reference)
            })
            .collect();
        note(&self.known.store, &entries).await;
    }

    /// Makes a generation of a load balancer that wants these.
    async fn want(&self, id: LoadBalancerId, renewed: &[Renewed]) -> Result<(), StoreError> {
        let store = &self.known.store;
        let subject = ResourceId::LoadBalancer(id);
        for _ in 0..RACES_MAX {
            let Some(view) = store.view(subject).await? else {
                self.vault.forget(id);
                return Ok(());
            };
            self.vault.note(&view.tree);
            let Some(usage) = lock(&self.vault.used).get(&id).cloned() else {
                return Ok(());
            };
            let mut tree = view.tree;
            let basis = Some(tree.generation());
            let wanted = &mut tree.load_balancer.value.secrets;
            let changed: Vec<&Renewed> = renewed
                .iter()
                .filter(|one| usage.needs.iter().any(|(need, _)| *need == one.need))
                .filter(|one| wanted.get(&name_of(&one.need)) != Some(&one.digest))
                .collect();
            let Some(first) = changed.first() else {
                return Ok(());
            };
            for one in &changed {
                wanted.insert(name_of(&one.need), one.digest.clone());
            }
            tree.load_balancer.generation = tree.generation().next();
            let entry = entry(Deed::Renew, id, &usage, &first.need.reference);
            let change = Change {
                basis,
                tree,
                touched: vec![subject],
                growth: Growth::default(),
                subject,
                offers: Vec::new(),
            };
            let terms = Terms {
                limits: None,
                once: None,
                record: Some(&entry),
            };
            if store.apply_under(&change, terms).await? == Committed::Done {
                for one in &changed {
                    tracing::info!(lb = %id, reference = one.need.reference.as_str(), digest = %one.digest, "a renewed secret comes into force");
                }
                self.vault.note(&change.tree);
                (self.poke)(id);
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Usage {
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.needs.iter().map(|(need, _)| Key {
            project: self.project.clone(),
            need: need.clone(),
        })
    }

    /// What is another one than is wanted now.
    fn renewed(&self, good: &BTreeMap<Key, Arc<Secret>>) -> Vec<Renewed> {
        let found = self.keys().filter_map(|key| {
            let digest = short(&good.get(&key)?.digest());
            let need = key.need;
            let is_another = self.digests.get(&name_of(&need)) != Some(&digest);
            is_another.then_some(Renewed { need, digest })
        });
        found.collect()
    }
}

/// What krater itself does with a secret of a load balancer.
pub(super) fn entry(deed: Deed, id: LoadBalancerId, usage: &Usage, reference: &SecretRef) -> Entry {
    let caller = Caller::unrestricted("krater", None);
    Entry {
        at: clock::now(),
        request_id: format!("req-{}", chance::random_uuid()),
        global_request_id: None,
        roles: crate::trail::roles(&caller),
        user: caller.user,
        caller_project: None,
        deed,
        kind: "secret".to_owned(),
        resource: Some(reference.as_str().to_owned()),
        load_balancer: Some(id),
        project: Some(usage.project.clone()),
        outcome: Outcome::Done,
    }
}

pub(super) async fn note(store: &Store, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    if let Err(error) = store.note(entries).await {
        tracing::error!(error = %chain(&error), "what became of a secret is missing in the audit trail");
    }
}

const RETRY_PAUSE: Duration = Duration::from_secs(1);
