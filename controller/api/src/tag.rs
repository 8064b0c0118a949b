//! Filters by tags (reference 4.2).

use serde_json::{Map, Value};

use crate::parameters::Parameters;

/// Which tags objects must and must not have; kinds combine with AND.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagFilter {
    all: Vec<String>,
    any: Vec<String>,
    not_all: Vec<String>,
    not_any: Vec<String>,
}

impl TagFilter {
    /// Reads the parameters; values are comma lists, repeated or both.
    pub(crate) fn parse(parameters: &Parameters) -> Self {
        let tags = |name| -> Vec<String> {
            let values = parameters.all(name).flat_map(|value| value.split(','));
            values
                .filter(|tag| !tag.is_empty())
                .map(String::from)
                .collect()
        };
        Self {
            all: tags("tags"),
            any: tags("tags-any"),
            not_all: tags("not-tags"),
            not_any: tags("not-tags-any"),
        }
    }

    /// Whether the object is selected.
    pub(crate) fn selects(&self, object: &Map<String, Value>) -> bool {
        let tags = object.get("tags").and_then(Value::as_array);
        let has = |tag: &String| {
            tags.is_some_and(|tags| tags.iter().any(|own| own.as_str() == Some(tag)))
        };
        self.all.iter().all(has)
            && (self.any.is_empty() || self.any.iter().any(has))
            && (self.not_all.is_empty() || !self.not_all.iter().all(has))
            && !self.not_any.iter().any(has)
    }
}

/// The parameters.
pub(crate) const PARAMETERS: &[&str] = &["tags", "tags-any", "not-tags", "not-tags-any"];
