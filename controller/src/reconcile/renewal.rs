//! What a deployment fills in where tenants leave it open is part of every spec: when it has changed, all are sent anew.

use std::{fs, io, path::Path, sync::Arc};

use krater_controller_core::query::ResourceId;
use krater_controller_store::StoreError;

use super::{Reconciler, Urgency};

impl Reconciler {
    /// To be called at each start. `file` holds what specs were made with before; it is written when every load balancer
    /// has a newer generation, so that whoever dies meanwhile does it again.
    pub(crate) async fn heed_settings(self: Arc<Self>, file: &Path) {
        let now = format!("{:?}\n", self.parts.defaults);
        if fs::read_to_string(file).is_ok_and(|before| before == now) {
            return;
        }
        match self.renew_all().await {
            Ok(0) => {}
            Ok(load_balancers) => tracing::info!(
                load_balancers,
                "what the deployment fills in has changed: all load balancers are sent anew"
            ),
            Err(error) => return self.note_store_error(&error, "send all load balancers anew"),
        }
        if let Err(error) = write(file, &now) {
            tracing::warn!(file = %file.display(), %error, "it cannot be kept what specs were made with");
        }
    }

    async fn renew_all(self: &Arc<Self>) -> Result<usize, StoreError> {
        let known = &self.parts.known;
        let ids = known.placements.all();
        for id in &ids {
            if let Some(view) = known.store.view(ResourceId::LoadBalancer(*id)).await? {
                let next = view.tree.generation().next();
                self.advance(&view, next, |_| ()).await?;
                self.poke(*id, Urgency::Background);
            }
        }
        Ok(ids.len())
    }
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, file)
}
