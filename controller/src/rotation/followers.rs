//! Controllers that share a database, and which authorities each of them goes by: whoever takes the next step waits for all
//! that are there. One that does not reach the database for a while is not waited for; it follows before anything else when
//! it does.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use krater_controller_store::{Store, StoreError};
use sha2::{Digest as _, Sha256};

use crate::{chance, limits::FOLLOWER_TIME, pki::request::hexadecimal};

/// This controller among them.
pub(crate) struct Followers {
    /// This run of it, with the name of its host for people.
    own: String,
    /// What was told last.
    told: Mutex<Option<String>>,
}

impl Followers {
    pub(crate) fn new(host: &str) -> Self {
        Self {
            own: format!("{} {host}", chance::random_uuid().simple()),
            told: Mutex::default(),
        }
    }

    /// Tells that this controller is there and goes by these authorities, for a while.
    pub(super) async fn tell(&self, store: &Store, trusted: &str) -> Result<(), StoreError> {
        let name = format!("{PREFIX}{} {}", digest(trusted), self.own);
        let before = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.replace(name.clone())
        };
        match before {
            None => store.forget_ended_leases(PREFIX).await?,
            Some(before) if before != name => store.release_lease(&before, &self.own).await?,
            Some(_) => {}
        }
        let taken = store.take_lease(&name, &self.own, FOLLOWER_TIME).await;
        taken.map(drop)
    }

    /// The hosts of controllers that are there and do not go by these authorities yet.
    pub(super) async fn behind(
        store: &Store,
        trusted: &str,
    ) -> Result<BTreeSet<String>, StoreError> {
        let wanted = digest(trusted);
        let names = store.leases(PREFIX, FOLLOWER_TIME).await?;
        let told = names.iter().filter_map(|name| {
            let (follows, own) = name.strip_prefix(PREFIX)?.split_once(' ')?;
            let (_, host) = own.split_once(' ')?;
            (follows != wanted).then(|| host.to_owned())
        });
        Ok(told.collect())
    }
}

fn digest(trusted: &str) -> String {
    let mut digest = hexadecimal(&Sha256::digest(trusted));
    digest.truncate(16);
    digest
}

const PREFIX: &str = "follower ";
