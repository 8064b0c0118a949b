//! What runs on this host and nobody has decided on: a database that is older than the host leaves it behind.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use krater_amphora_api::AmphoraId;
use krater_controller_store::StoreError;
use tokio::time::{MissedTickBehavior, interval};

use super::Fleet;
use crate::cause::chain;

impl Fleet {
    /// Looks for orphans as long as it lives. One is told of at once, and ended when it is one still at the next look:
    /// it is of the folder of this controller, and no record says what it is for.
    pub(crate) async fn watch_orphans(self: Arc<Self>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = BTreeSet::new();
        loop {
            ticks.tick().await;
            match self.orphans().await {
                Ok(orphans) => {
                    for id in &orphans {
                        if seen.contains(id) {
                            self.end_orphan(*id).await;
                        } else {
                            tracing::warn!(amphora = %id, "an amphora runs that is on no record; it will be ended if that stays so");
                        }
                    }
                    seen = orphans;
                }
                Err(reason) => {
                    tracing::warn!(%reason, "it cannot be told whether there are orphans")
                }
            }
        }
    }

    /// The amphorae that are there and on no record. Whoever is on record is so before it is there, so what is there is
    /// asked for first.
    async fn orphans(&self) -> Result<BTreeSet<AmphoraId>, String> {
        let found = self.parts.compute.found().await;
        let mut found: BTreeSet<_> = found.map_err(|error| chain(&error))?.into_iter().collect();
        if found.is_empty() {
            return Ok(found);
        }
        let records = self.parts.known.store.amphorae().await;
        for record in records.map_err(|error: StoreError| chain(&error))? {
            found.remove(&record.id);
        }
        Ok(found)
    }

    async fn end_orphan(&self, id: AmphoraId) {
        match self.parts.compute.release(id).await {
            Ok(()) => {
                self.parts.known.metrics.orphans.inc();
                tracing::warn!(amphora = %id, "an amphora that was on no record was ended");
            }
            Err(error) => {
                tracing::error!(amphora = %id, error = %chain(&error), "an amphora that is on no record cannot be ended; it is tried again");
            }
        }
    }
}

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);
