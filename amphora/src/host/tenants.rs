//! The amphorae of a host: what was ordered, kept on disk beside each, kept running, certified in time.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use krater_amphora_api::{AmphoraId, HostAccessLog, HostOrder, HostedAmphora, ShownPapers};
use krater_amphora_process::{
    AccessLogSettings, Allotment, Conduct, Endpoint, Order, Papers, ProcessError, Processes,
};
use tokio::{sync::Notify, time::sleep};
use tracing::{error, info, warn};

use super::{
    controllers::Controllers,
    folder::{AUTHORITY, FolderError, identity_in, read, write},
    keys::{self, Key},
    segment,
};
use crate::{agent::chain, clock, limits::HOST_AMPHORAE_AT_ONCE};

/// All amphorae of a host.
pub(crate) struct Tenants {
    directory: PathBuf,
    processes: Processes,
    controllers: Rc<Controllers>,
    /// Where tunnels of other hosts reach this one.
    underlay: IpAddr,
    slots: RefCell<BTreeMap<AmphoraId, Rc<Slot>>>,
    /// Those that are being ended because nobody wants them.
    leaving: RefCell<BTreeSet<AmphoraId>>,
    news: Notify,
}

/// One amphora.
struct Slot {
    order: RefCell<HostOrder>,
    endpoint: RefCell<Option<Endpoint>>,
    trouble: RefCell<Option<String>>,
    certified_until: RefCell<Option<i64>>,
    /// One at a time starts, ends or certifies it.
    busy: tokio::sync::Mutex<()>,
}

/// What an amphora shows and trusts, as it rests in its folder.
struct Identity {
    papers: Papers,
    authority_pem: String,
    validity: (i64, i64),
}

impl Tenants {
    /// Those that were here before.
    pub(crate) fn found(
        directory: PathBuf,
        processes: Processes,
        controllers: Rc<Controllers>,
        underlay: IpAddr,
    ) -> Self {
        let tenants = Self {
            directory,
            processes,
            controllers,
            underlay,
            slots: RefCell::default(),
            leaving: RefCell::default(),
            news: Notify::new(),
        };
        let entries = fs::read_dir(&tenants.directory).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match kept_order(&entry.path().join(ORDER)) {
                Ok(Some(order)) => {
                    let slot = Slot::of(order);
                    let identity = tenants.identity(id);
                    *slot.certified_until.borrow_mut() = identity.map(|its| its.validity.1);
                    tenants.slots.borrow_mut().insert(id, Rc::new(slot));
                }
                Ok(None) => {}
                Err(error) => {
                    error!(amphora = %id, error = %chain(&error), "what was ordered of an amphora is lost: it is not kept running until a controller orders it again")
                }
            }
        }
        tenants
    }

    /// Where tunnels of other hosts reach this one.
    pub(crate) const fn underlay(&self) -> IpAddr {
        self.underlay
    }

    /// As they are reported.
    pub(crate) fn list(&self) -> Vec<HostedAmphora> {
        let slots = self.slots.borrow();
        slots.iter().map(|(id, slot)| slot.hosted(*id)).collect()
    }

    /// Returns when something is to be reported.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Runs an amphora as ordered; what is ordered stays ordered when that fails.
    pub(crate) async fn ensure(
        &self,
        id: AmphoraId,
        order: HostOrder,
    ) -> Result<HostedAmphora, String> {
        let slot = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots
                .entry(id)
                .or_insert_with(|| Rc::new(Slot::of(order.clone())));
            Rc::clone(slot)
        };
        let _alone = slot.busy.lock().await;
        self.keep_order(id, &order).map_err(|error| chain(&error))?;
        *slot.order.borrow_mut() = order;
        self.start(id, &slot).await?;
        Ok(slot.hosted(id))
    }

    /// Ends an amphora and forgets it. Absent counts as done.
    pub(crate) async fn release(&self, id: AmphoraId) -> Result<(), ProcessError> {
        let slot = self.slots.borrow().get(&id).cloned();
        let _alone = match &slot {
            Some(slot) => Some(slot.busy.lock().await),
            None => None,
        };
        self.processes.release(id).await?;
        self.slots.borrow_mut().remove(&id);
        self.news.notify_one();
        Ok(())
    }

    /// Has an amphora end that nobody wants, beside everything else: its connections get their time. It starts no more.
    pub(crate) fn let_go(self: &Rc<Self>, id: AmphoraId) {
        if !self.leaving.borrow_mut().insert(id) {
            return;
        }
        info!(amphora = %id, "nobody wants the amphora any more: it is ended");
        let tenants = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Err(error) = tenants.release(id).await {
                // Whoever is told again that nobody wants it tries again.
                warn!(amphora = %id, %error, "an amphora that nobody wants could not be ended yet");
            }
            tenants.leaving.borrow_mut().remove(&id);
        });
    }

    /// Ends and forgets all.
    pub(crate) async fn release_all(&self) {
        let ids: Vec<AmphoraId> = self.slots.borrow().keys().copied().collect();
        let releases = ids.into_iter().map(|id| async move {
            while let Err(error) = self.release(id).await {
                error!(amphora = %id, %error, "an amphora could not be ended; it is tried again");
                sleep(PAUSE).await;
            }
        });
        join_all(releases).await;
    }

    /// Keeps all running, for ever.
    pub(crate) async fn keep(&self) {
        let mut deaths = self.processes.deaths();
        loop {
            deaths.mark_unchanged();
            let looks = self.all().into_iter().map(|(id, slot)| async move {
                // Whoever is at it does the same.
                if let Ok(_alone) = slot.busy.try_lock() {
                    // Told where it happens.
                    let _ = self.start(id, &slot).await;
                }
            });
            at_once(looks).await;
            tokio::select! {
                _ = deaths.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Has certificates that end soon replaced, with new keys.
    pub(crate) async fn renew_due(&self) {
        let now = clock::wall_seconds();
        let mut due = self.all();
        due.retain(|(id, _)| {
            let identity = self.identity(*id);
            identity.is_some_and(|its| keys::is_due(its.validity, now))
        });
        let renewals = due.into_iter().map(|(id, _)| async move {
            if let Err(reason) = self.renew(id).await {
                warn!(amphora = %id, reason, "the certificate of the amphora could not be renewed; it is tried again");
            }
        });
        at_once(renewals).await;
    }

    /// Gives all another certificate, with new keys. One that cannot be renewed holds up none of the others.
    pub(crate) async fn renew_all(&self) -> Result<(), String> {
        let failed = RefCell::new(Vec::new());
        let renewals = self.all().into_iter().map(|(id, _)| {
            let failed = &failed;
            async move {
                if let Err(reason) = self.renew(id).await {
                    failed.borrow_mut().push((id, reason));
                }
            }
        });
        at_once(renewals).await;
        let failed = failed.into_inner();
        let Some((id, reason)) = failed.first() else {
            return Ok(());
        };
        Err(format!(
            "{} amphorae could not be renewed; {id}: {reason}",
            failed.len()
        ))
    }

    /// What those show that have been certified.
    pub(crate) fn shown(&self) -> Vec<ShownPapers> {
        let ids = self.all().into_iter().map(|(id, _)| id);
        ids.filter_map(|id| {
            let found = self.identity(id)?;
            let certificate_pem = &found.papers.certificate_pem;
            Some(keys::shown(Some(id), certificate_pem, &found.authority_pem))
        })
        .collect()
    }

    /// Gives an amphora another certificate, with a new key.
    pub(crate) async fn renew(&self, id: AmphoraId) -> Result<(), String> {
        let slot = self.slots.borrow().get(&id).cloned();
        let slot = slot.ok_or_else(|| format!("there is no amphora {id} here"))?;
        let _alone = slot.busy.lock().await;
        let identity = self.certify(id).await?;
        self.run(id, &slot, identity).await?;
        info!(amphora = %id, "the certificate of the amphora was renewed");
        Ok(())
    }

    /// Has all trust these authorities.
    pub(crate) fn trust(&self, authority_pem: &str) {
        for (id, _) in self.all() {
            let path = self.directory.join(id.to_string()).join(AUTHORITY);
            if let Err(error) = write(&path, authority_pem) {
                warn!(amphora = %id, error = chain(&error), "the authorities could not be written for the amphora");
            }
        }
    }

    /// Starts an amphora, or finds it running, certified first if need be.
    async fn start(&self, id: AmphoraId, slot: &Slot) -> Result<(), String> {
        // What was released meanwhile stays so.
        if !self.slots.borrow().contains_key(&id) || self.leaving.borrow().contains(&id) {
            return Err("the amphora was ended meanwhile".to_owned());
        }
        let started = async {
            let identity = match self.identity(id) {
                Some(identity) => identity,
                None => self.certify(id).await?,
            };
            self.run(id, slot, identity).await
        };
        let outcome = started.await;
        let reason = outcome.as_ref().err().cloned();
        if *slot.trouble.borrow() != reason {
            if let Some(reason) = &reason {
                error!(amphora = %id, reason, "the amphora cannot be started; it is tried again");
            }
            *slot.trouble.borrow_mut() = reason;
            self.news.notify_one();
        }
        outcome
    }

    async fn run(&self, id: AmphoraId, slot: &Slot, identity: Identity) -> Result<(), String> {
        let order = slot.order.borrow().clone();
        let controllers = if order.controllers.is_empty() {
            self.controllers.names()
        } else {
            order.controllers
        };
        let until = identity.validity.1;
        let order = Order {
            segment: order.segment.map(|its| segment::of(its, self.underlay)),
            allotment: Allotment {
                memory_bytes: order.allotment.memory_bytes,
                cpu_percent: order.allotment.cpu_percent,
            },
            id,
            authority_pem: identity.authority_pem,
            certificate_pem: identity.papers.certificate_pem,
            key_pem: identity.papers.key_pem,
            controllers,
            conduct: Some(Conduct {
                heartbeat: Duration::from_millis(order.heartbeat_ms),
                drain: Duration::from_millis(order.drain_ms),
                access_log: order.access_log.map(access_log),
            }),
        };
        let endpoint = self.processes.ensure(order).await;
        let endpoint = endpoint.map_err(|error| error.to_string())?;
        let is_news = slot.endpoint.replace(Some(endpoint.clone())) != Some(endpoint);
        if slot.certified_until.replace(Some(until)) != Some(until) || is_news {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Makes a key and has it certified.
    async fn certify(&self, id: AmphoraId) -> Result<Identity, String> {
        let key = Key::make().map_err(|error| error.to_string())?;
        let certified = self.controllers.certify(Some(id), &key).await;
        let certified = certified.map_err(|error| chain(&error))?;
        let validity = keys::validity(&certified.certificate_pem)
            .ok_or_else(|| "the certificate cannot be read".to_owned())?;
        Ok(Identity {
            papers: Papers {
                key_pem: key.pem().to_owned(),
                certificate_pem: certified.certificate_pem,
            },
            authority_pem: certified.authority_pem,
            validity,
        })
    }

    /// What the amphora shows, if all of it is there and can be used.
    fn identity(&self, id: AmphoraId) -> Option<Identity> {
        let folder = self.directory.join(id.to_string());
        let (papers, authority_pem) = identity_in(&folder).ok().flatten()?;
        keys::fit(&papers).then_some(())?;
        Some(Identity {
            validity: keys::validity(&papers.certificate_pem)?,
            papers,
            authority_pem,
        })
    }

    fn keep_order(&self, id: AmphoraId, order: &HostOrder) -> Result<(), FolderError> {
        let folder = self.directory.join(id.to_string());
        let text = serde_json::to_string(order).unwrap_or_default();
        let path = folder.join(ORDER);
        if read(&path)?.as_deref() == Some(text.as_str()) {
            return Ok(());
        }
        crate::keep::create_private_folder(&folder).map_err(|error| FolderError::Malformed {
            path: folder,
            reason: chain(&error),
        })?;
        write(&path, &text)
    }

    fn all(&self) -> Vec<(AmphoraId, Rc<Slot>)> {
        let slots = self.slots.borrow();
        slots
            .iter()
            .map(|(id, slot)| (*id, Rc::clone(slot)))
            .collect()
    }
}

impl Slot {
    fn of(order: HostOrder) -> Self {
        Self {
            order: RefCell::new(order),
            endpoint: RefCell::default(),
            trouble: RefCell::default(),
            certified_until: RefCell::default(),
            busy: tokio::sync::Mutex::default(),
        }
    }

    fn hosted(&self, id: AmphoraId) -> HostedAmphora {
        let endpoint = self.endpoint.borrow();
        HostedAmphora {
            id,
            agent: endpoint.as_ref().map(|its| its.agent.to_string()),
            metrics: endpoint
                .as_ref()
                .and_then(|its| Some(its.metrics?.to_string())),
            trouble: self.trouble.borrow().clone(),
            certified_until: *self.certified_until.borrow(),
        }
    }
}

/// What was ordered before, if anything was.
fn kept_order(path: &Path) -> Result<Option<HostOrder>, FolderError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let order = serde_json::from_str(&text);
    order.map(Some).map_err(|error| FolderError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn access_log(log: HostAccessLog) -> AccessLogSettings {
    AccessLogSettings {
        to: log.to,
        file_bytes_max: usize::try_from(log.file_bytes_max).unwrap_or(usize::MAX),
        files_max: log.files_max,
        facility: log.facility,
    }
}

/// Does all of it, a bounded number at once.
async fn at_once<F: Future<Output = ()>>(work: impl Iterator<Item = F>) {
    let bounded = stream::iter(work).for_each_concurrent(HOST_AMPHORAE_AT_ONCE, |one| one);
    bounded.await;
}

const ORDER: &str = "order.json";
/// Between two tries to end what does not end.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether all run; a death is told at once.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_order_is_told_from_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ORDER);
        assert!(kept_order(&path).unwrap().is_none());
        fs::write(&path, "{\"id\": ").unwrap();
        let error = kept_order(&path).unwrap_err().to_string();
        assert!(
            error.contains(ORDER) && error.contains("cannot be understood"),
            "{error}"
        );
    }
}
