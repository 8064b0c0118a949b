//! How the data plane ends: for good, or because a successor serves.

use std::{sync::Arc, time::Duration};

use super::Plane;
use crate::{
    order::Order,
    world::{Leave, World},
};

impl Plane {
    /// Stops accepting, lets connections end for at most `grace`, then ends.
    pub async fn stop(mut self, grace: Duration) {
        // Or clients would wait there for nobody.
        self.custody.release(self.open.keys().copied());
        self.end(grace, Leave::Gone).await;
    }

    /// The same, but leaves the addresses open for a process that accepts there from now on: who comes meanwhile waits.
    pub(crate) async fn succeeded(self, grace: Duration) {
        // Who waits there is the successor's.
        for place in self.open.keys().copied() {
            self.order_all(|| Order::Release { place });
        }
        // What is open goes on as if its listeners were gone: each request is answered with the word that it is the last.
        let alarms = self.world().alarms.clone();
        self.common.world.store(Arc::new(World {
            alarms,
            ..World::default()
        }));
        self.end(grace, Leave::Moved).await;
    }

    /// Whether somebody holds what is open, so that it can be handed over.
    pub(crate) fn is_held(&mut self) -> bool {
        self.custody.is_held()
    }

    /// Asks for a process to hand over to; `false` if there is nobody to ask.
    pub(crate) fn ask_for_successor(&mut self) -> bool {
        self.custody.ask_for_successor()
    }

    async fn end(mut self, grace: Duration, leave: Leave) {
        // From now on they are open only as long as those who accept there have use for them.
        self.open.clear();
        self.order_all(|| Order::Stop { grace, leave });
        for core in &mut self.cores {
            core.worker.ended().await;
            core.streams.ended().await;
        }
        self.common.access.end();
    }
}
