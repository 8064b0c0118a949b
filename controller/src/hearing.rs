//! Hears what controllers that share the database tell each other, and looks after what they may have changed.

use std::sync::Arc;

use krater_controller_store::StoreError;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cause::chain, fleet::Fleet, knowledge::Knowledge, limits::REFRESH_INTERVAL, neighbours::News,
    reconcile::Reconciler,
};

/// Hears what the others tell, and looks at everything from time to time, for ever.
pub(crate) async fn hear(known: Knowledge, fleet: Arc<Fleet>, reconciler: Arc<Reconciler>) {
    let Some(mut incoming) = known.store.listen() else {
        return;
    };
    let mut ticks = interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looked = tokio::select! {
            biased;
            _ = ticks.tick() => async {
                look_at_all(&known, &fleet).await?;
                known.sightings.replace_written(known.store.all_tallies().await?);
                known.census.take(known.store.standings().await?);
                Ok(())
            }.await,
            text = incoming.next() => match text {
                None => look_at_all(&known, &fleet).await,
                Some(text) => match known.neighbours.understand(&text) {
                    Some(news) => heard(&known, &fleet, &reconciler, news).await,
                    None => Ok(()),
                },
            },
        };
        if let Err(error) = looked {
            known.metrics.store_errors.inc();
            tracing::warn!(error = %chain(&error), "what other controllers did could not be looked at");
        }
    }
}

async fn heard(
    known: &Knowledge,
    fleet: &Fleet,
    reconciler: &Arc<Reconciler>,
    news: News,
) -> Result<(), StoreError> {
    match news {
        News::Settled(id) => known.bells.ring(id),
        News::Placed(id) => known.placements.refresh(id).await?,
        News::Look(id) => reconciler.poke_if_attended(id),
        News::Fleet => fleet.sync().await?,
    }
    Ok(())
}

async fn look_at_all(known: &Knowledge, fleet: &Fleet) -> Result<(), StoreError> {
    known.placements.reload().await?;
    fleet.sync().await
}
