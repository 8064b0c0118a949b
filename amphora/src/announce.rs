//! Whose turn it is at the addresses of load balancers (D51): virtual routers of VRRPv3, on a thread of their own, so
//! that nothing slow delays an advert.
//!
//! The thread is there once a load balancer takes turns. What it decides is [`krater_amphora_core::vrrp`]; here are the
//! sockets, the addresses on links, and what is noted for who comes after this process.

use std::{
    collections::BTreeMap, io, net::IpAddr, path::PathBuf, sync::Arc, thread, time::Duration,
};

use krater_amphora_api::LoadBalancerId;
use krater_amphora_core::{snapshot::Announcement, vrrp::Health};
use tokio::{
    runtime,
    sync::{Notify, mpsc, oneshot},
    task::LocalSet,
    time::timeout,
};
use tracing::warn;

mod adverts;
mod desk;
mod links;
mod neighbours;
mod notes;
mod pulse;
mod turns;

use desk::Desk;

pub(crate) use links::own_addresses;
pub(crate) use notes::let_go_for;
pub(crate) use pulse::Pulse;
pub(crate) use turns::Turns;

use crate::{limits::LEAVE_GRACE, tallies::Tallies, world::Standing};

/// A load balancer that takes turns.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) announcement: Announcement,
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) health: Health,
    pub(crate) standing: Standing,
}

impl Wanted {
    fn is_like(&self, other: &Self) -> bool {
        (&self.announcement, &self.vips, self.health)
            == (&other.announcement, &other.vips, other.health)
            && Arc::ptr_eq(&self.standing, &other.standing)
    }
}

/// The thread, as the housekeeper speaks to it.
#[derive(Debug)]
pub(crate) struct Announcer {
    orders: mpsc::UnboundedSender<Order>,
    told: BTreeMap<LoadBalancerId, Wanted>,
    /// The longest that others have taken to take over.
    patience: Duration,
}

#[derive(Debug)]
enum Order {
    /// These take turns, and nobody else.
    Follow(BTreeMap<LoadBalancerId, Wanted>),
    /// Leaves the addresses of a load balancer to others, then says so.
    Leave(LoadBalancerId, oneshot::Sender<()>),
    /// Takes turns at a load balancer's addresses after all.
    Stay(LoadBalancerId),
    /// Lets go of the addresses of a load balancer for that long although nobody else is heard.
    StandAside(LoadBalancerId, Duration),
    /// Leaves all to others, then says so and ends.
    End(oneshot::Sender<()>),
}

impl Announcer {
    /// Starts the thread. `notes` is where the addresses it has are written down for who comes after this process;
    /// `news` is told when the standing of a load balancer changes.
    pub(crate) fn start(
        notes: Option<PathBuf>,
        news: Arc<Notify>,
        tallies: Arc<Tallies>,
    ) -> io::Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("announce".to_owned())
            .spawn(move || {
                let local = LocalSet::new();
                local.block_on(&runtime, Desk::open(notes, news, tallies).run(inbox));
            })?;
        Ok(Self::speaking_to(orders))
    }

    const fn speaking_to(orders: mpsc::UnboundedSender<Order>) -> Self {
        Self {
            orders,
            told: BTreeMap::new(),
            patience: Duration::ZERO,
        }
    }

    /// Has these load balancers take turns, and no others.
    pub(crate) fn follow(&mut self, wanted: BTreeMap<LoadBalancerId, Wanted>) {
        let same = wanted.len() == self.told.len()
            && wanted
                .iter()
                .zip(&self.told)
                .all(|((a, new), (b, old))| a == b && new.is_like(old));
        if !same {
            let intervals = wanted.values().map(|it| it.announcement.settings.interval);
            let slowest = intervals.map(|interval| interval.duration()).max();
            self.patience = self.patience.max(slowest.unwrap_or_default() * 5 / 4);
            self.told.clone_from(&wanted);
            let _ = self.orders.send(Order::Follow(wanted));
        }
    }

    /// Returns a future that is done when the addresses of a load balancer are left to others, or should have been.
    pub(crate) fn leave(&self, id: LoadBalancerId) -> impl Future<Output = ()> + use<> {
        let (done, left) = oneshot::channel();
        let _ = self.orders.send(Order::Leave(id, done));
        at_most(self.patience + LEAVE_GRACE, left)
    }

    /// Takes turns at the addresses of a load balancer that were to be left.
    pub(crate) fn stay(&self, id: LoadBalancerId) {
        let _ = self.orders.send(Order::Stay(id));
    }

    /// Lets go of the addresses of a load balancer for that long. `false` if it takes no turns.
    pub(crate) fn stand_aside(&self, id: LoadBalancerId, time: Duration) -> bool {
        let takes_turns = self.told.contains_key(&id);
        if takes_turns {
            let _ = self.orders.send(Order::StandAside(id, time));
        }
        takes_turns
    }

    /// Leaves all to others.
    pub(crate) async fn end(self) {
        let (done, ended) = oneshot::channel();
        let _ = self.orders.send(Order::End(done));
        at_most(self.patience + LEAVE_GRACE, ended).await;
    }
}

/// Waits for the thread, which has to be alive for that.
async fn at_most(patience: Duration, left: oneshot::Receiver<()>) {
    if timeout(patience, left).await.is_err() {
        warn!(
            ?patience,
            "addresses were not left to others in time: it is gone on without"
        );
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_hangs_holds_up_no_end() {
        let (orders, _inbox) = mpsc::unbounded_channel();
        let announcer = Announcer::speaking_to(orders);
        announcer
            .leave(LoadBalancerId::new(Uuid::from_u128(1)))
            .await;
        announcer.end().await;
    }
}
