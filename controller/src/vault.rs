//! The secrets of load balancers: read when they are needed, remembered in memory alone, renewed when they change.
//!
//! What was found good once counts until something better is found: a store that is down and a renewal that is no good
//! take nothing away. Neither the database nor the log sees more of a secret than its digest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{StreamExt as _, stream};
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    blame::Failure,
    model::ProjectId,
    refusal::Refusal,
    resource::ResourceId,
    secret::{self, Need, Secrets},
    tree::LoadBalancerTree,
};
use krater_driver::{DriverError, Secret, SecretStore, Unusable, check_issued};
use tokio::sync::{Notify, Semaphore};

use crate::limits::{
    SECRETS_KEPT_BYTES_MAX, SECRETS_KEPT_MAX, SECRETS_OPENED_AT_ONCE_MAX, SECRETS_READ_AT_ONCE_MAX,
};

mod expiry;
mod kept;
mod renew;

pub(crate) use expiry::Expiry;
use kept::Kept;
pub(crate) use renew::Renewal;

/// The secrets of all load balancers.
pub(crate) struct Vault {
    store: Arc<dyn SecretStore>,
    kept: Mutex<Kept>,
    /// Who uses what.
    used: Mutex<BTreeMap<LoadBalancerId, Usage>>,
    /// Those that wait for a secret.
    wanting: Mutex<BTreeSet<LoadBalancerId>>,
    /// What is there and no good, and why.
    refused: Mutex<BTreeMap<Key, String>>,
    reading: Semaphore,
    opening: Arc<Semaphore>,
    /// Somebody wants everything read again.
    asked: Notify,
}

/// A secret as one project sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) project: ProjectId,
    pub(crate) need: Need,
}

/// What a load balancer uses.
#[derive(Clone)]
struct Usage {
    project: ProjectId,
    needs: Vec<(Need, ResourceId)>,
    /// The digests of what is wanted of it.
    digests: BTreeMap<String, String>,
}

/// Why a secret cannot be had.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// It is not there, or can be no reference.
    Absent(String),
    /// The store cannot say right now.
    Unavailable(String),
    /// It is there and no good.
    Unusable(Unusable),
}

impl Trouble {
    fn sentence(&self) -> String {
        match self {
            Self::Absent(sentence) | Self::Unavailable(sentence) => sentence.clone(),
            Self::Unusable(unusable) => unusable.to_string(),
        }
    }
}

/// Secrets that were read for one request.
#[derive(Default)]
pub(crate) struct Read(BTreeMap<Need, Arc<Secret>>);

impl Read {
    /// Whether all of these were read.
    pub(crate) fn covers(&self, needs: &BTreeSet<Need>) -> bool {
        needs.iter().all(|need| self.0.contains_key(need))
    }
}

impl Vault {
    /// A vault over a store; nothing is read yet.
    pub(crate) fn new(store: Arc<dyn SecretStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            kept: Mutex::new(Kept::new(SECRETS_KEPT_MAX, SECRETS_KEPT_BYTES_MAX)),
            used: Mutex::default(),
            wanting: Mutex::default(),
            refused: Mutex::default(),
            reading: Semaphore::new(SECRETS_READ_AT_ONCE_MAX),
            opening: Arc::new(Semaphore::new(SECRETS_OPENED_AT_ONCE_MAX)),
            asked: Notify::new(),
        })
    }

    /// Has everything in use read again soon.
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// All that a tree needs to be compiled.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(crate) async fn gather(&self, tree: &LoadBalancerTree) -> Result<Secrets, Failure> {
        let needs = secret::needs(tree);
        let mut secrets = Secrets::default();
        let mut failure = None;
        let found = stream::iter(needs).map(|(need, of)| async move {
            let found = self.look(tree.project(), &need).await;
            (need, of, found)
        });
        let mut found = found.buffered(SECRETS_READ_AT_ONCE_MAX);
        while let Some((need, of, found)) = found.next().await {
            match found {
                Ok(secret) => secret.add_to(&mut secrets, need.reference),
                Err(trouble) => {
                    failure = Some(Failure::NoSecret {
                        of,
                        reference: need.reference,
                        detail: trouble.sentence(),
                        unusable: matches!(trouble, Trouble::Unusable(_)),
                    });
                    break;
                }
            }
        }
        match failure {
            None => {
                lock(&self.wanting).remove(&tree.id());
                Ok(secrets)
            }
            Some(failure) => {
                lock(&self.wanting).insert(tree.id());
                Err(failure)
            }
        }
    }

    /// Reads what a request names, and whether the caller may have krater use it.
    ///
    /// # Errors
    /// What the API says of it (reference 6.4).
    pub(crate) async fn admit(
        &self,
        project: &ProjectId,
        token: Option<&str>,
        needs: &BTreeSet<Need>,
        read: &mut Read,
    ) -> Result<(), Refusal> {
        let mut absent = Vec::new();
        for need in needs {
            if read.0.contains_key(need) {
                continue;
            }
            let key = Key {
                project: project.clone(),
                need: need.clone(),
            };
            let allowed = self.store.check_access(token, need).await;
            let found = match allowed {
                Ok(()) => self.fetch(&key).await,
                Err(error) => Err(trouble(error)),
            };
            let reference = need.reference.as_str();
            match found {
                Ok(secret) => {
                    if let Some(facts) = secret.facts()
                        && facts.not_after < crate::clock::now()
                    {
                        tracing::warn!(%reference, not_after = %facts.not_after, "a certificate that is no longer valid is taken into use");
                    }
                    read.0.insert(need.clone(), secret);
                }
                Err(Trouble::Absent(sentence)) => {
                    tracing::info!(%reference, %sentence, "a secret that a request names cannot be had");
                    absent.push(reference.to_owned());
                }
                Err(Trouble::Unavailable(sentence)) => {
                    tracing::warn!(%reference, %sentence, "the secret store could not answer for a request");
                    return Err(Refusal::Unavailable(
                        "The secret store cannot be asked right now. Please try again.".to_owned(),
                    ));
                }
                Err(Trouble::Unusable(Unusable::Bundle(sentence))) => {
                    return Err(Refusal::UnreadableBundle(sentence));
                }
                Err(Trouble::Unusable(Unusable::Content(sentence))) => {
                    return Err(Refusal::Invalid(format!("{reference}: {sentence}.")));
                }
            }
        }
        if absent.is_empty() {
            return Ok(());
        }
        Err(Refusal::CertificateNotRetrieved(absent))
    }

    /// That lists of revoked certificates were issued by the authorities beside them, as far as either was just read.
    ///
    /// # Errors
    /// [`Refusal::Invalid`]
    pub(crate) async fn check_pairs(
        &self,
        tree: &LoadBalancerTree,
        read: &Read,
    ) -> Result<(), Refusal> {
        for (authorities, list) in secret::pairs(tree) {
            let need = |purpose, reference| Need { purpose, reference };
            let authorities = need(secret::Purpose::Authorities, authorities);
            let list = need(secret::Purpose::Revocations, list);
            if !read.0.contains_key(&authorities) && !read.0.contains_key(&list) {
                continue;
            }
            let mut both = Vec::new();
            for one in [&list, &authorities] {
                let found = match read.0.get(one) {
                    Some(secret) => Ok(Arc::clone(secret)),
                    None => self.look(tree.project(), one).await,
                };
                let found = found.map_err(|trouble| {
                    Refusal::Invalid(format!(
                        "{}: {}.",
                        one.reference.as_str(),
                        trouble.sentence()
                    ))
                })?;
                both.push(found);
            }
            if let [lists, authorities] = both.as_slice() {
                check_issued(lists, authorities).map_err(|unusable| {
                    Refusal::Invalid(format!("{}: {unusable}.", list.reference.as_str()))
                })?;
            }
        }
        Ok(())
    }

    /// The digests of what a tree needs, as far as known: those just read, else those that were wanted before.
    pub(crate) fn digests(&self, tree: &LoadBalancerTree, read: &Read) -> BTreeMap<String, String> {
        let before = &tree.load_balancer.value.secrets;
        let needs = secret::needs(tree);
        let digests = needs.iter().filter_map(|(need, _)| {
            let name = name_of(need);
            let digest = match read.0.get(need) {
                Some(secret) => Some(short(&secret.digest())),
                None => before.get(&name).cloned().or_else(|| {
                    let key = Key {
                        project: tree.project().clone(),
                        need: need.clone(),
                    };
                    let kept = lock(&self.kept).get(&key);
                    kept.map(|secret| short(&secret.digest()))
                }),
            };
            digest.map(|digest| (name, digest))
        });
        digests.collect()
    }

    /// Notes what a load balancer uses.
    pub(crate) fn note(&self, tree: &LoadBalancerTree) {
        let needs = secret::needs(tree);
        let mut used = lock(&self.used);
        if needs.is_empty() || tree.load_balancer.is_leaving() {
            used.remove(&tree.id());
            return;
        }
        let usage = Usage {
            project: tree.project().clone(),
            needs,
            digests: tree.load_balancer.value.secrets.clone(),
        };
        used.insert(tree.id(), usage);
    }

    /// Forgets what a load balancer used that is gone.
    pub(crate) fn forget(&self, id: LoadBalancerId) {
        lock(&self.used).remove(&id);
        lock(&self.wanting).remove(&id);
    }

    /// How many load balancers use secrets or wait for some.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        lock(&self.used).len() + lock(&self.wanting).len()
    }

    /// A secret that is kept, else as the store has it.
    async fn look(&self, project: &ProjectId, need: &Need) -> Result<Arc<Secret>, Trouble> {
        let key = Key {
            project: project.clone(),
            need: need.clone(),
        };
        if let Some(kept) = lock(&self.kept).get(&key) {
            return Ok(kept);
        }
        self.fetch(&key).await
    }

    /// A secret as the store has it now. A good one is kept.
    async fn fetch(&self, key: &Key) -> Result<Arc<Secret>, Trouble> {
        let closed = |error: tokio::sync::AcquireError| Trouble::Unavailable(error.to_string());
        let raw = {
            let _seat = self.reading.acquire().await.map_err(closed)?;
            self.store
                .fetch(&key.project, &key.need)
                .await
                .map_err(trouble)?
        };
        let seat = Arc::clone(&self.opening)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let purpose = key.need.purpose;
        // Bundles may be encrypted in many rounds: no thread that others wait for does that.
        let read = tokio::task::spawn_blocking(move || {
            let _seat = seat;
            Secret::read(purpose, &raw)
        });
        let secret = read
            .await
            .map_err(|error| Trouble::Unavailable(error.to_string()))?
            .map_err(Trouble::Unusable)?;
        let secret = Arc::new(secret);
        lock(&self.kept).put(key.clone(), Arc::clone(&secret));
        Ok(secret)
    }
}

/// Under which name a digest is kept: long references would fill the row.
fn name_of(need: &Need) -> String {
    let text = format!("{} {}", need.purpose.name(), need.reference.as_str());
    short(&krater_driver::secret::digest(text.as_bytes()))
}

/// As much of a digest as tells contents apart.
fn short(digest: &[u8; 32]) -> String {
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn trouble(error: DriverError) -> Trouble {
    match error {
        DriverError::Permanent(sentence) | DriverError::NotFound(sentence) => {
            Trouble::Absent(sentence)
        }
        DriverError::Transient(sentence) => Trouble::Unavailable(sentence),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
