//! What `admit` decided: the only value the store writes desired rows from (I5).

use alloc::vec::Vec;

use krater_amphora_api::Generation;

use crate::{model::OfferId, quota::Growth, resource::ResourceId, tree::LoadBalancerTree};

/// An admitted change of one tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The generation the tree was admitted against; `None` when it is new. Written only if it still is that one.
    pub basis: Option<Generation>,
    /// The tree as it is afterwards; deleted rows are in it with [`crate::tree::Touch::Delete`].
    pub tree: LoadBalancerTree,
    /// The rows the change writes, the load balancer's own among them.
    pub touched: Vec<ResourceId>,
    /// How many more of each kind stay in the tree than before: what quotas have to bear.
    pub growth: Growth,
    /// The resource the command was about, for the answer.
    pub subject: ResourceId,
    /// What of the catalogue a new load balancer is made of. It is written only if all of it is still there.
    pub offers: Vec<OfferId>,
}

impl Change {
    /// Whether there is nothing to write: a second deletion of what is being deleted, an empty batch on an empty
    /// pool. Such a change is done as soon as it is admitted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }
}
