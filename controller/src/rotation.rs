//! Has another authority take over, so that nobody is cut off: it is trusted everywhere before it signs, and the former
//! one is trusted until everybody has a certificate of its successor.
//!
//! Each step is taken when all controllers and hosts have followed the one before, and some time after, in which amphorae
//! read their files again. What was begun goes on with the next request, whichever controller takes it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use krater_controller_store::{Store, StoreError};
use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

use self::followers::Followers;
use crate::{
    cause::chain,
    clock,
    fleet::Fleet,
    hosts::Hosts,
    limits::{FOLLOW_TIME, FOLLOWERS_MAX, SWEEP_INTERVAL},
    pki::{Authority, PkiError, succession::Phase, tls::Credentials},
    seal::SealKey,
};

pub(crate) mod followers;

/// Looks after the authority.
pub(crate) struct Rotation {
    pub(crate) authority: Arc<Authority>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) home: Home,
    pub(crate) followers: Followers,
    /// Between two reports of an amphora.
    pub(crate) heartbeat: Duration,
    pub(crate) progress: Mutex<Progress>,
}

/// Where the authority rests.
pub(crate) enum Home {
    /// In the state folder.
    Folder,
    /// Sealed in a database that controllers share.
    Database {
        store: Store,
        key: SealKey,
        name: &'static str,
    },
}

/// Who has followed the present step.
#[derive(Default)]
pub(crate) struct Progress {
    /// Of which step: what is trusted then.
    trusted: String,
    hosts: BTreeSet<String>,
    /// Since when all have.
    complete: Option<Instant>,
}

/// How far it is, and who is waited for.
pub(crate) struct Stand {
    pub(crate) phase: Phase,
    /// Fingerprints of those that are trusted, and whether they sign.
    pub(crate) authorities: Vec<(String, bool)>,
    pub(crate) waiting: Vec<String>,
}

/// Why a step is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seal.
    #[error("{0}")]
    Seal(String),
    /// Somebody else was faster.
    #[error("another controller changed the authority at the same moment: ask again")]
    Raced,
}

impl Rotation {
    /// How far it is.
    pub(crate) fn stand(&self) -> Stand {
        let present = self.authority.present();
        Stand {
            phase: present.phase(),
            authorities: present.fingerprints(),
            waiting: Vec::new(),
        }
    }

    /// Takes the next step, if everybody has followed the one before.
    pub(crate) async fn advance(&self) -> Result<Stand, RotationError> {
        let mut progress = self.progress.lock().await;
        let before = self.learn().await?;
        if self.authority.present().phase() != Phase::Settled {
            let waiting = self.spread(&mut progress).await?;
            if !waiting.is_empty() {
                return Ok(Stand {
                    waiting,
                    ..self.stand()
                });
            }
        }
        let text = self.authority.present().advanced(clock::now())?;
        self.keep(before, &text).await?;
        self.authority.take(&text)?;
        self.follow().await?;
        let stand = self.stand();
        tracing::warn!(
            phase = stand.phase.name(),
            "the authority of the fleet: the next step was taken"
        );
        Ok(stand)
    }

    /// Follows what other controllers do with the authority, until dropped.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        if matches!(self.home, Home::Folder) {
            return;
        }
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let _alone = self.progress.lock().await;
            let followed = async {
                let before = self.authority.certificate_pem();
                self.learn().await?;
                if self.authority.certificate_pem() != before {
                    self.follow().await?;
                }
                self.tell().await?;
                Ok::<(), RotationError>(())
            };
            if let Err(error) = followed.await {
                tracing::error!(error = %chain(&error), "the authority of the fleet could not be looked up");
            }
        }
    }

    /// Takes over what rests in the database; answers what it is there.
    async fn learn(&self) -> Result<Option<String>, RotationError> {
        let Home::Database { store, key, name } = &self.home else {
            return Ok(None);
        };
        let Some(sealed) = store.sealed(name).await? else {
            return Ok(None);
        };
        let text = key.open(name, &sealed).map_err(RotationError::Seal)?;
        self.authority.take(&text)?;
        Ok(Some(sealed))
    }

    async fn keep(
        &self,
        before: Option<String>,
        text: &Zeroizing<String>,
    ) -> Result<(), RotationError> {
        match &self.home {
            Home::Folder => Ok(self.authority.keep(text)?),
            Home::Database { store, key, name } => {
                let sealed = key.seal(name, text).map_err(RotationError::Seal)?;
                let before = before.unwrap_or_default();
                if store.replace_sealed(name, &before, &sealed).await? {
                    Ok(())
                } else {
                    Err(RotationError::Raced)
                }
            }
        }
    }

    /// Has this controller and the amphorae of its own host go by the present step.
    async fn follow(&self) -> Result<(), RotationError> {
        self.credentials.renew(&self.authority, clock::now())?;
        self.fleet.refresh_identities().await;
        self.tell().await
    }

    /// Tells other controllers which step this one goes by.
    async fn tell(&self) -> Result<(), RotationError> {
        if let Home::Database { store, .. } = &self.home {
            let trusted = self.authority.certificate_pem();
            self.followers.tell(store, &trusted).await?;
        }
        Ok(())
    }

    /// The controllers that do not go by the present step yet.
    async fn controllers_behind(&self) -> Result<Vec<String>, RotationError> {
        let Home::Database { store, .. } = &self.home else {
            return Ok(Vec::new());
        };
        let behind = Followers::behind(store, &self.authority.certificate_pem()).await?;
        let told = behind.into_iter();
        Ok(told
            .map(|host| format!("controller {host}: it has not followed yet"))
            .collect())
    }

    /// Has all hosts follow the present step; answers what is waited for.
    async fn spread(&self, progress: &mut Progress) -> Result<Vec<String>, RotationError> {
        self.follow().await?;
        let trusted = self.authority.certificate_pem();
        if progress.trusted != trusted {
            *progress = Progress {
                trusted,
                ..Progress::default()
            };
        }
        let mut hosts = self.hosts.records();
        hosts.retain(|host| !progress.hosts.contains(&host.id.to_string()));
        let asked = hosts.into_iter().map(|host| async move {
            let id = host.id.to_string();
            let followed = self.have_follow(&id).await;
            (id, host.facts.name, followed)
        });
        let mut answers = stream::iter(asked).buffer_unordered(FOLLOWERS_MAX);
        let mut waiting = self.controllers_behind().await?;
        while let Some((id, name, followed)) = answers.next().await {
            match followed {
                Ok(()) => {
                    progress.hosts.insert(id);
                }
                Err(reason) => waiting.push(format!("host {name} ({id}): {reason}")),
            }
        }
        waiting.sort_unstable();
        if !waiting.is_empty() {
            return Ok(waiting);
        }
        let complete = *progress.complete.get_or_insert_with(Instant::now);
        if complete.elapsed() < FOLLOW_TIME + self.heartbeat * 3 {
            waiting.push("amphorae, which read their certificates again".to_owned());
        }
        Ok(waiting)
    }

    /// Has one host follow, unless it has. The error is a sentence.
    async fn have_follow(&self, id: &str) -> Result<(), String> {
        let present = self.authority.present();
        // One with many amphorae takes longer than it is waited for, and is found done when it is looked at again.
        if present.is_followed_by(&self.hosts.shown(id).await?) {
            return Ok(());
        }
        if present.is_followed_by(&self.hosts.renew(id, None).await?) {
            return Ok(());
        }
        Err("it was certified by a controller that has not followed yet".to_owned())
    }
}
