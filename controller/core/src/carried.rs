//! What the data plane carries, and what of an admitted change it does not.
//!
//! The API knows every field of the reference; the data plane of a release may carry less. A change that asks for more
//! is refused with 501 after every other rule has been checked, so that a body that is wrong is told so first, and
//! nothing is accepted and then forgotten. The release that carries a feature takes it out of [`Carried::release`].

use alloc::{collections::BTreeSet, string::String};

use crate::{change::Change, refusal::Refusal};

/// Something tenants can ask for that a data plane may not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// L7 rules about certificates that clients show (reference 11.2).
    L7CertificateRules,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::L7CertificateRules];

    /// What it is, as the subject of a sentence that goes on with "cannot be had in this release".
    #[must_use]
    pub const fn subject(self) -> &'static str {
        match self {
            Self::L7CertificateRules => "L7 rules about client certificates",
        }
    }
}

/// The features a data plane lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    lacks: BTreeSet<Feature>,
}

impl Carried {
    /// A data plane that carries everything: for tests of what comes before.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// The data plane of this release.
    #[must_use]
    pub fn release() -> Self {
        Self {
            lacks: Feature::ALL.into_iter().collect(),
        }
    }

    /// Refuses a change whose touched rows need what is not carried. Rows that leave need nothing.
    ///
    /// # Errors
    /// [`Refusal::NotSupported`] with the first feature that is lacking.
    pub fn check(&self, change: &Change) -> Result<(), Refusal> {
        match needs(change).find(|feature| self.lacks.contains(feature)) {
            None => Ok(()),
            Some(feature) => {
                let mut sentence = String::from(feature.subject());
                sentence.push_str(" cannot be had in this release.");
                Err(Refusal::NotSupported(sentence))
            }
        }
    }
}

/// What the touched rows of a change need.
fn needs(change: &Change) -> impl Iterator<Item = Feature> {
    let generation = change.tree.generation();
    let rules = change.tree.l7_rules.iter();
    rules
        .filter(move |row| row.generation == generation && !row.is_leaving())
        .filter(|row| row.value.rule_type.looks_at_certificates())
        .map(|_| Feature::L7CertificateRules)
}
