//! The secrets that changes name: read before anything is stored, outside of any transaction.

use std::collections::BTreeSet;

use krater_controller_core::{
    change::Change,
    envelope::Token,
    refusal::Refusal,
    secret::{self, Need},
    tree::LoadBalancerTree,
};

use super::Application;
use crate::vault::Read;

/// All that a tree refers to.
pub(super) fn references(tree: &LoadBalancerTree) -> BTreeSet<Need> {
    let references = secret::references(tree).into_iter();
    references.map(|(need, _)| need).collect()
}

/// What a tree refers to that it did not before. What it did goes on, wherever its secret is by now.
pub(super) fn named(tree: &LoadBalancerTree, before: &BTreeSet<Need>) -> BTreeSet<Need> {
    references(tree).difference(before).cloned().collect()
}

impl Application {
    /// Reads what a change names and checks it (reference 6.4).
    pub(super) async fn read_secrets(
        &self,
        token: Option<&Token>,
        tree: &LoadBalancerTree,
        named: &BTreeSet<Need>,
        read: &mut Read,
    ) -> Result<(), Refusal> {
        let vault = &self.parts.vault;
        let token = token.map(Token::expose);
        vault.admit(tree.project(), token, named, read).await?;
        vault.check_pairs(tree, read).await
    }

    /// Writes into a change which contents it wants.
    pub(super) fn note_secrets(&self, change: &mut Change, read: &Read) {
        change.tree.load_balancer.value.secrets = self.parts.vault.digests(&change.tree, read);
    }
}
