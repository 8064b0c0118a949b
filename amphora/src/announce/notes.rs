//! The addresses this process has, written down for who comes after it: a process that was killed takes nothing away.
//!
//! Its supervisor starts the next one at once, which goes on with the addresses. If that does not come up, the
//! supervisor says goodbye for it and takes the addresses away.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use krater_amphora_core::vrrp::{Advert, Interval};
use serde::{Deserialize, Serialize};
use tokio::task::LocalSet;
use tracing::{info, warn};

use super::{
    adverts::Sockets,
    links::{Table, look},
};
use crate::{limits::NOTES_BYTES_MAX, network::Lodging};

/// All that is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Whose notes they are.
    pub(super) process: u32,
    /// Addresses that it has, or is about to have.
    pub(super) held: Vec<Note>,
}

/// What a load balancer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) router: u8,
    pub(super) address: IpAddr,
    pub(super) peers: Vec<IpAddr>,
    pub(super) interval_ms: u32,
    pub(super) vips: Vec<IpAddr>,
}

impl Notes {
    /// What was noted last; nothing if that cannot be read.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let size = fs::metadata(path).ok()?.len();
        if size > NOTES_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Says goodbye for whoever noted them, and takes its addresses away.
    async fn let_go(self) -> io::Result<()> {
        let mut sockets = Sockets::default();
        let table = Table::open()?;
        for note in &self.held {
            note.leave(&mut sockets);
            note.take_away(&table).await?;
        }
        Ok(())
    }

    /// Writes them in place of those before. Only the death of the process is to be survived: addresses do not outlive
    /// the system.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(self).unwrap_or_default())?;
        fs::rename(&fresh, path)
    }
}

/// Where they are, in a state folder.
pub(super) fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("addresses.json")
}

/// Lets go for an agent that has died and whose next one has not come up within `patience`: tells the others that it
/// leaves, and takes its addresses away, in the namespace that it lived in. They stay if the process whose they are by then
/// is said to live.
pub(crate) async fn let_go_for(
    state_dir: &Path,
    patience: Duration,
    lodging: Option<&Lodging>,
    lives: impl FnOnce(u32) -> bool,
) {
    let path = path_in(state_dir);
    if !path.exists() {
        return;
    }
    tokio::time::sleep(patience).await;
    let Some(notes) = Notes::read(&path) else {
        return;
    };
    if notes.held.is_empty() || lives(notes.process) {
        return;
    }
    // The last word on it: whoever comes up now begins anew.
    let none = Notes::default();
    if let Err(error) = none.write(&path) {
        warn!(%error, "what addresses a dead agent had cannot be written down");
    }
    let outcome = match lodging {
        Some(lodging) => lodging.run(|| notes.let_go()),
        None => LocalSet::new().run_until(notes.let_go()).await,
    };
    match outcome {
        Ok(()) => info!("the addresses of a dead agent were taken away"),
        Err(error) => warn!(%error, "the addresses of a dead agent stay"),
    }
}

impl Note {
    /// Tells the others that it leaves.
    fn leave(&self, sockets: &mut Sockets) {
        let Some(interval) = Interval::from_ms(self.interval_ms) else {
            return;
        };
        let goodbye = Advert {
            router: self.router,
            priority: 0,
            interval,
            addresses: self.vips.clone(),
        };
        if sockets.ensure(self.address).is_ok() {
            for peer in &self.peers {
                let _ = sockets.send(self.address, *peer, &goodbye.print(self.address, *peer));
            }
        }
    }

    /// Takes its addresses away from the link that has its own.
    pub(super) async fn take_away(&self, table: &Table) -> io::Result<()> {
        let links = look()?.into_iter();
        for link in links.filter(|link| link.addresses.contains(&self.address)) {
            for vip in self.vips.iter().filter(|vip| link.addresses.contains(vip)) {
                table.remove(link.index, *vip).await?;
            }
        }
        Ok(())
    }
}
