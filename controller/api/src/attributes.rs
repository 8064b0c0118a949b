//! What lists of a kind can be filtered and sorted by.

use crate::wire::row::SHARED_ATTRIBUTES;

/// What a list can be filtered by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filterable {
    /// Attributes of the objects beside those all resources have.
    pub(crate) attributes: &'static [&'static str],
    /// A name for what is no attribute: the key of the object that holds the list of references it looks into.
    pub(crate) relations: &'static [(&'static str, &'static str)],
}

impl Filterable {
    /// Whether `name` is an attribute.
    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        SHARED_ATTRIBUTES.contains(&name) || self.attributes.contains(&name)
    }

    /// The key of the list of references that `name` looks into.
    pub(crate) fn relation(&self, name: &str) -> Option<&'static str> {
        self.relations
            .iter()
            .find(|(relation, _)| *relation == name)
            .map(|(_, key)| *key)
    }
}
