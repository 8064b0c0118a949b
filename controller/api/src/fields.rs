//! Field selection (reference 4.3).

use serde_json::{Map, Value};

use crate::parameters::Parameters;

/// The fields wanted; all, if none is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<String>);

impl Selection {
    /// Reads `fields`, repeated or as a comma list.
    pub(crate) fn parse(parameters: &Parameters) -> Self {
        let names = parameters.all(PARAMETER).flat_map(|value| value.split(','));
        Self(
            names
                .filter(|name| !name.is_empty())
                .map(String::from)
                .collect(),
        )
    }

    /// The object with only the fields wanted; names it does not have are ignored.
    pub(crate) fn apply(&self, mut object: Map<String, Value>) -> Map<String, Value> {
        if !self.0.is_empty() {
            object.retain(|name, _| self.0.iter().any(|wanted| wanted == name));
        }
        object
    }
}

/// The parameter.
pub(crate) const PARAMETER: &str = "fields";
