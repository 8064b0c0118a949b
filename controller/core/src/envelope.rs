//! What a request says around its command: which request it is, and on which terms it wants the command done.

use alloc::{string::String, vec::Vec};
use core::fmt;

pub use krater_amphora_api::Generation;
use zeroize::Zeroize as _;

use crate::{audit::Deed, refusal::Refusal, resource::ResourceId, tree::LoadBalancerTree};

/// The outside of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The id that the answer bears.
    pub request_id: String,
    /// The id that the client gave to all it does in one go (`X-Openstack-Request-Id: req-<uuid>`).
    pub global_request_id: Option<String>,
    /// What is done, for the audit trail.
    pub deed: Deed,
    /// Which version of the resource the client means.
    pub precondition: Precondition,
    /// Under which name the client asks only once.
    pub once: Option<Once>,
    /// What the client says with who it is, for drivers that ask others on its behalf.
    pub token: Option<Token>,
}

/// What somebody says with who they are. Never printed, wiped when it is dropped (I13).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes over a token.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The token, for whoever passes it on.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Which version of a resource a change is meant for (`If-Match`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Whichever there is.
    #[default]
    Any,
    /// One of these. What cannot be a version of ours is not among them, so there may be none.
    OneOf(Vec<Generation>),
}

impl Precondition {
    /// Refuses when the resource in the tree, which a change is about to be admitted against, is of another version.
    /// One that is not there is for admission to refuse.
    ///
    /// # Errors
    /// [`Refusal::Changed`]
    pub fn check(&self, tree: &LoadBalancerTree, subject: ResourceId) -> Result<(), Refusal> {
        let Self::OneOf(wanted) = self else {
            return Ok(());
        };
        match tree.facts().find(|facts| facts.id == subject) {
            Some(facts) if !wanted.contains(&facts.generation) => {
                Err(Refusal::Changed(subject, facts.generation))
            }
            _ => Ok(()),
        }
    }
}

/// The name under which a client asks for something to be created once, however often it asks (`Idempotency-Key`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// What the client chose.
    pub key: String,
    /// Method and path: the same key elsewhere is another one.
    pub scope: String,
    /// SHA-256 of the body, whichever way it was written: another body under the same key is a mistake.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{House, generation};

    #[test]
    fn a_version_is_that_of_the_row() {
        let house = House::furnished();
        let listener = ResourceId::Listener(house.listener());
        let now = house.tree.listeners[0].generation;
        let check = |precondition: Precondition| precondition.check(&house.tree, listener);
        assert_eq!(check(Precondition::Any), Ok(()));
        assert_eq!(check(Precondition::OneOf([now].into())), Ok(()));
        let several = Precondition::OneOf([generation(99), now].into());
        assert_eq!(check(several), Ok(()));
        let changed = Err(Refusal::Changed(listener, now));
        assert_eq!(check(Precondition::OneOf(Vec::new())), changed);
        assert_eq!(check(Precondition::OneOf([now.next()].into())), changed);
        let nowhere = ResourceId::Pool(crate::model::PoolId::new(uuid::Uuid::nil()));
        let precondition = Precondition::OneOf([now].into());
        assert_eq!(precondition.check(&house.tree, nowhere), Ok(()));
    }
}
