//! What is taken of the network, as the store knows it, and what is about to be.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::VipRequest,
    network::{Located, NetworkView},
    query::Caller,
    refusal::Refusal,
};
use krater_driver::{AllocatedVip, PortHolder, Taken};
use uuid::Uuid;

use super::Application;
use crate::chance;

/// Addresses between having been chosen and having been stored. Two tenants seldom want the same, and when they do the
/// store decides.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// One chooses at a time.
    turn: tokio::sync::Mutex<()>,
    /// Each with how many want it: whoever names an address may want what another one has chosen.
    wanted: Mutex<BTreeMap<Located, usize>>,
}

/// Addresses that are wanted as long as this lives.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    choices: &'a Choices,
    addresses: Vec<Located>,
}

impl Choices {
    fn want(&self, addresses: Vec<Located>) -> Wanted<'_> {
        let mut wanted = self.lock();
        for address in &addresses {
            let count = wanted.entry(*address).or_default();
            *count = count.saturating_add(1);
        }
        Wanted {
            choices: self,
            addresses,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Located, usize>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut wanted = self.choices.lock();
        for address in &self.addresses {
            if let Entry::Occupied(mut entry) = wanted.entry(*address) {
                *entry.get_mut() = entry.get().saturating_sub(1);
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }
}

impl Application {
    /// Chooses what a load balancer gets; `contested` are addresses that the store says are taken. Whoever took one
    /// chooses as this controller does, so the next is not the next one free, but one of those after it; and when even
    /// that was taken, others have taken many since they were read here.
    pub(super) async fn choose(
        &self,
        caller: &Caller,
        (id, port_id): (LoadBalancerId, Uuid),
        request: &VipRequest,
        contested: &BTreeSet<Located>,
    ) -> Result<(AllocatedVip, Wanted<'_>), Refusal> {
        let _turn = self.choices.turn.lock().await;
        if contested.len() > 1 {
            self.parts.known.store.doubt_addresses();
        }
        let mut taken = self.taken(request).await?;
        if !contested.is_empty() {
            Arc::make_mut(&mut taken.addresses).extend(contested);
        }
        taken.passed_over = passed_over(contested.len());
        taken.wanted = self.choices.lock().keys().copied().collect();
        let networking = &self.parts.networking;
        let allocated = networking.allocate(caller, id, request, port_id, &taken);
        let allocated = match allocated.await {
            // What other controllers gave back a moment ago may not be known here.
            Err(_) if self.parts.known.neighbours.may_be() => {
                self.parts.known.store.doubt_addresses();
                taken.addresses = self.taken(request).await?.addresses;
                if !contested.is_empty() {
                    Arc::make_mut(&mut taken.addresses).extend(contested);
                }
                networking
                    .allocate(caller, id, request, port_id, &taken)
                    .await?
            }
            other => other?,
        };
        let additional = allocated.additional.iter().map(|vip| vip.address);
        let addresses = std::iter::once(allocated.vip.address).chain(additional);
        let addresses = addresses.map(|address| (address, allocated.vip.network_id));
        let wanted = self.choices.want(addresses.collect());
        Ok((allocated, wanted))
    }

    /// What is not free of what a request may get.
    pub(super) async fn taken(&self, request: &VipRequest) -> Result<Taken, Refusal> {
        let store = &self.parts.known.store;
        let port = match request.port_id {
            None => None,
            Some(port) => self.stored(store.port_holder(port).await)?,
        };
        Ok(Taken {
            addresses: self.stored(store.taken_addresses().await)?,
            wanted: BTreeSet::new(),
            passed_over: 0,
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

/// How many free addresses are passed over after so many conflicts: by chance, and of more each time.
fn passed_over(conflicts: usize) -> u64 {
    if conflicts == 0 {
        return 0;
    }
    let bits = u32::try_from(conflicts).map_or(SPREAD_BITS_MAX, |it| it.saturating_add(2));
    let (_, random) = chance::random_uuid().as_u64_pair();
    random % (1 << bits.min(SPREAD_BITS_MAX))
}

/// More addresses than controllers choose at once.
const SPREAD_BITS_MAX: u32 = 10;
