//! The controllers that share a database: what they tell each other, and who of them attends to what.
//!
//! All of it saves time only. News that are lost, and leases that two hold, cost a look at the database or work done
//! twice; what is right is decided by compare-and-swap there and by generations at the amphorae (I8).

use std::sync::Arc;

use krater_amphora_api::LoadBalancerId;
use krater_controller_store::{Store, StoreError};
use uuid::Uuid;

use crate::{cause::chain, chance, limits::LEASE_TIME};

/// What this controller tells the others. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Neighbours {
    store: Store,
    /// Tells this run of the controller from all others.
    own: Arc<str>,
}

/// What may be attended to by one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// A load balancer.
    Balancer(LoadBalancerId),
    /// Forgetting what is too old.
    Pruning,
    /// What hosts are to run.
    Hosts,
}

/// A duty that is this controller's for a while.
pub(crate) struct Lease {
    neighbours: Neighbours,
    name: String,
}

/// A piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It settled, or is gone.
    Settled(LoadBalancerId),
    /// It was placed, has left an amphora, or is on none any more.
    Placed(LoadBalancerId),
    /// Somebody changed it whose duty it is not.
    Look(LoadBalancerId),
    /// Amphorae came or are to go.
    Fleet,
}

impl Neighbours {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            own: chance::random_uuid().simple().to_string().into(),
        }
    }

    /// Whether there may be others.
    pub(crate) const fn may_be(&self) -> bool {
        self.store.is_shared()
    }

    pub(crate) fn tell_settled(&self, id: LoadBalancerId) {
        self.tell(News::Settled(id));
    }

    pub(crate) fn tell_placed(&self, id: LoadBalancerId) {
        self.tell(News::Placed(id));
    }

    pub(crate) fn tell_fleet(&self) {
        self.tell(News::Fleet);
    }

    /// Asks whose duty it is to look at a load balancer.
    pub(crate) fn ask_to_look(&self, id: LoadBalancerId) {
        self.tell(News::Look(id));
    }

    /// Takes a duty; `None` while it is somebody else's.
    pub(crate) async fn take(&self, duty: Duty) -> Result<Option<Lease>, StoreError> {
        let name = match duty {
            Duty::Balancer(id) => format!("lb {id}"),
            Duty::Pruning => "pruning".to_owned(),
            Duty::Hosts => "hosts".to_owned(),
        };
        let taken = self.store.take_lease(&name, &self.own, LEASE_TIME).await?;
        Ok(taken.then(|| Lease {
            neighbours: self.clone(),
            name,
        }))
    }

    /// What another controller tells; `None` for one's own words and those of another release.
    pub(crate) fn understand(&self, text: &str) -> Option<News> {
        let (from, text) = text.split_once(' ')?;
        if from == &*self.own {
            return None;
        }
        News::parse(text)
    }

    fn tell(&self, news: News) {
        if self.may_be() {
            self.store
                .announce(&format!("{} {}", self.own, news.print()));
        }
    }
}

impl Lease {
    /// Has it last for its whole time from now on. `false`: it ended, and somebody else has it.
    pub(crate) async fn extend(&self) -> Result<bool, StoreError> {
        let Neighbours { store, own } = &self.neighbours;
        store.take_lease(&self.name, own, LEASE_TIME).await
    }

    /// Gives it back. If that fails it ends by itself.
    pub(crate) async fn release(self) {
        let Neighbours { store, own } = &self.neighbours;
        if let Err(error) = store.release_lease(&self.name, own).await {
            tracing::debug!(error = %chain(&error), lease = self.name, "a lease could not be given back");
        }
    }
}

impl News {
    fn print(self) -> String {
        match self {
            Self::Settled(id) => format!("settled {id}"),
            Self::Placed(id) => format!("placed {id}"),
            Self::Look(id) => format!("look {id}"),
            Self::Fleet => "fleet".to_owned(),
        }
    }

    /// None for what another release says.
    fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(' ').unwrap_or((text, ""));
        let id = || Uuid::parse_str(id).ok().map(LoadBalancerId::new);
        Some(match kind {
            "settled" => Self::Settled(id()?),
            "placed" => Self::Placed(id()?),
            "look" => Self::Look(id()?),
            "fleet" => Self::Fleet,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_as_they_were_printed_and_what_is_unknown_is_passed_over() {
        let id = LoadBalancerId::new(Uuid::from_u128(7));
        for news in [
            News::Settled(id),
            News::Placed(id),
            News::Look(id),
            News::Fleet,
        ] {
            assert_eq!(News::parse(&news.print()), Some(news));
        }
        for text in ["", "settled", "settled x", "sung 7"] {
            assert_eq!(News::parse(text), None, "{text}");
        }
    }
}
