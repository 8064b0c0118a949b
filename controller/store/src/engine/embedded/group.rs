//! Transactions that share a commit, and so one wait for the disk.
//!
//! SQLite has one writer, and what takes long is the disk. Whoever completes while others wait for the connection leaves
//! the transaction open, hands the connection on and waits; those run as savepoints inside of it, and the last one, or
//! the first that gets the connection again, commits for all. Nobody is answered before. Whoever is alone commits as
//! ever. The line for the connection is first come, first served: a group is no larger than the line was when its first
//! one was done.

use std::sync::{Arc, atomic::Ordering};

use krater_controller_core::network::Located;
use tokio::sync::watch;

use super::{
    super::{addresses::Addresses, simulated::Framed},
    Link, Transaction,
};
use crate::StoreError;

/// Complete transactions inside one that is open.
pub(super) struct Group {
    /// Of all of them.
    share: Share,
    told: watch::Sender<Told>,
}

/// What is remembered beside the database from a commit on.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Addresses, one for each network on which they came into use.
    pub(super) claimed: Vec<Located>,
    /// The same of those that came out of use.
    pub(super) released: Vec<Located>,
}

/// What those who wait are told.
#[derive(Clone, Default)]
enum Told {
    #[default]
    Nothing,
    Done,
    Failed(Arc<StoreError>),
}

impl Transaction {
    /// Begins a transaction, inside of the group's if there is one.
    pub(super) async fn begin(&mut self, doing: &'static str) -> Result<(), StoreError> {
        let link = self.link()?;
        link.unfinished = true;
        // Taking the write lock at once: a reader that turns writer could find the database changed under it.
        let text = match link.group {
            None => "BEGIN IMMEDIATE",
            // Never released: undone or committed with all others, whatever the one before it left.
            Some(_) => "SAVEPOINT member",
        };
        let begun = self.batch(doing, text).await;
        self.framed = Framed::Yes;
        if begun.is_err() {
            self.link()?.unfinished = false;
        }
        begun
    }

    /// Undoes everything since [`Transaction::begin`]. Doing so twice harms nobody.
    pub(super) async fn undo(&mut self) -> Result<(), StoreError> {
        let doing = "undo a change";
        if self.has_group() && self.batch(doing, "ROLLBACK TO member").await.is_ok() {
            self.link()?.unfinished = false;
            return Ok(());
        }
        // An engine that ran out of space may have rolled back by itself, then this fails, harmlessly. It took along all
        // that was not committed.
        let _ = self.batch(doing, "ROLLBACK").await;
        let path = self.inner.path.clone();
        let link = self.link()?;
        link.unfinished = false;
        if let Some(group) = link.group.take() {
            group.tell(Told::Failed(Arc::new(StoreError::DiskFull { path })));
        }
        Ok(())
    }

    /// Whether transactions wait on this connection to be committed.
    pub(super) fn has_group(&self) -> bool {
        self.guard.as_ref().is_some_and(|link| link.group.is_some())
    }

    /// Whether others wait to write. A database in memory has one connection for all, and nobody may read on it what
    /// is not committed.
    pub(super) fn is_wanted(&self) -> bool {
        !self.inner.readers.is_empty() && self.inner.waiting.load(Ordering::Relaxed) > 0
    }

    /// Commits, alone or with others.
    pub(super) async fn commit_share(
        mut self,
        doing: &'static str,
        share: Share,
    ) -> Result<(), StoreError> {
        let passage = self.passage.clone();
        if let Some(passage) = &passage {
            passage.within(doing).await?;
        }
        let is_wanted = self.is_wanted();
        let mut told = self.link()?.add(share);
        if is_wanted {
            let link = self.link()?;
            link.unfinished = false;
            let Self { inner, guard, .. } = self;
            drop(guard);
            // Behind all who wait now. When they are done somebody has to commit, whoever else was dropped meanwhile.
            let own_turn = Arc::clone(&inner.link).lock_owned();
            tokio::select! {
                biased;
                _ = told.changed() => {}
                guard = own_turn => {
                    let passage = passage.clone();
                    let mut connection = Self {
                        inner,
                        guard,
                        passage,
                        framed: Framed::No,
                    };
                    if connection.link()?.unfinished {
                        connection.undo().await?;
                    }
                    if told.borrow().is_open() {
                        connection.conclude(doing).await?;
                    }
                }
            }
        } else {
            self.conclude(doing).await?;
        }
        if let Some(passage) = &passage {
            passage.answer(doing).await?;
        }
        let told = told.borrow().clone();
        told.answer()
    }

    /// Commits what is open on the connection and tells all whose it is. Goes on when this future is dropped: how a
    /// commit ends has to be known.
    pub(super) async fn conclude(self, doing: &'static str) -> Result<Self, StoreError> {
        let task = tokio::spawn(self.commit_all(doing));
        task.await.map_err(|error| StoreError::Statement {
            doing,
            source: Box::new(error),
        })
    }

    async fn commit_all(mut self, doing: &'static str) -> Self {
        let told = match self.batch(doing, "COMMIT").await {
            Ok(()) => Told::Done,
            Err(error) => {
                // There may be nothing left to undo.
                let _ = self.batch("undo a change", "ROLLBACK").await;
                Told::Failed(Arc::new(error))
            }
        };
        let Some(link) = self.guard.as_mut() else {
            return self;
        };
        link.unfinished = false;
        if let Some(group) = link.group.take() {
            if let (Told::Done, Some(addresses)) = (&told, &mut *self.inner.addresses()) {
                group.share.enter(addresses);
            }
            group.tell(told);
        }
        self
    }
}

impl Link {
    /// Adds a complete transaction to the group, or begins one with it.
    fn add(&mut self, share: Share) -> watch::Receiver<Told> {
        let group = self.group.get_or_insert_with(|| Group {
            share: Share::default(),
            told: watch::Sender::default(),
        });
        group.share.claimed.extend(share.claimed);
        group.share.released.extend(share.released);
        group.told.subscribe()
    }
}

impl Group {
    fn tell(self, told: Told) {
        self.told.send_replace(told);
    }
}

impl Share {
    fn enter(&self, addresses: &mut Addresses) {
        self.claimed.iter().for_each(|one| addresses.claim(*one));
        self.released.iter().for_each(|one| addresses.release(*one));
    }
}

impl Told {
    const fn is_open(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn answer(self) -> Result<(), StoreError> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(error) => Err(error.again()),
            // It went with the connection.
            Self::Nothing => Err(StoreError::Closed),
        }
    }
}

#[cfg(test)]
mod tests;
