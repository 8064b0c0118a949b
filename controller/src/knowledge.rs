//! What all parts of the controller know together.

use std::sync::Arc;

use krater_controller_store::{Store, StoreError};

use crate::{
    census::Census, metrics::Metrics, neighbours::Neighbours, placements::Placements,
    settled::Bells, sightings::Sightings,
};

/// The store, and what is kept in memory beside it. Cheap to clone; clones are the same knowledge.
#[derive(Clone)]
pub(crate) struct Knowledge {
    pub(crate) store: Store,
    pub(crate) neighbours: Neighbours,
    pub(crate) placements: Arc<Placements>,
    pub(crate) sightings: Arc<Sightings>,
    pub(crate) bells: Arc<Bells>,
    pub(crate) census: Arc<Census>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Knowledge {
    /// Reads what the store remembers; the rest begins empty.
    pub(crate) async fn gather(store: Store, metrics: Metrics) -> Result<Self, StoreError> {
        let neighbours = Neighbours::new(store.clone());
        Ok(Self {
            placements: Arc::new(Placements::load(store.clone(), neighbours.clone()).await?),
            neighbours,
            store,
            sightings: Arc::default(),
            bells: Arc::default(),
            census: Arc::default(),
            metrics: Arc::new(metrics),
        })
    }
}
