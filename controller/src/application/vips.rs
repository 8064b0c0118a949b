//! What is taken of the network, as the store knows it.

use krater_controller_core::{
    model::VipRequest, network::NetworkView, query::Caller, refusal::Refusal,
};
use krater_driver::{PortHolder, Taken};

use super::Application;

impl Application {
    /// What is not free of what a request may get.
    pub(super) async fn taken(&self, request: &VipRequest) -> Result<Taken, Refusal> {
        let store = &self.parts.known.store;
        let port = match request.port_id {
            None => None,
            Some(port) => self.stored(store.port_holder(port).await)?,
        };
        Ok(Taken {
            addresses: self.stored(store.taken_addresses().await)?,
            port: port.map(|(load_balancer, project)| PortHolder {
                load_balancer,
                project,
            }),
        })
    }

    /// The networks the caller may see, their ports with those who hold them.
    pub(super) async fn networks(&self, caller: &Caller) -> Result<Vec<NetworkView>, Refusal> {
        let mut networks = self.parts.networking.views(caller).await?;
        for port in networks.iter_mut().flat_map(|network| &mut network.ports) {
            let holder = self.parts.known.store.port_holder(port.id).await;
            if let Some((load_balancer, _)) = self.stored(holder)? {
                port.device_id = Some(format!("lb-{load_balancer}"));
            }
        }
        Ok(networks)
    }
}
