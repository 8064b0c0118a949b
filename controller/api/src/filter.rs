//! Filters of lists by attribute (reference 4.1), run over objects as they are shown.

use core::net::IpAddr;

use serde_json::{Map, Value};

use crate::{
    attributes::Filterable,
    body,
    fault::Fault,
    fields, page,
    parameters::Parameters,
    tag::{self, TagFilter},
};

/// The conditions a list was asked to hold to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    attributes: Vec<(String, String)>,
    relations: Vec<(&'static str, String)>,
    tags: TagFilter,
}

impl Filter {
    /// Reads all parameters that are no business of paging or field selection.
    pub(crate) fn parse(parameters: &Parameters, filterable: &Filterable) -> Result<Self, Fault> {
        Self::parse_below(parameters, filterable, None)
    }

    /// The same for a list below a parent, whose id clients may repeat under the name `parent`.
    pub(crate) fn parse_below(
        parameters: &Parameters,
        filterable: &Filterable,
        parent: Option<&str>,
    ) -> Result<Self, Fault> {
        let mut filter = Self {
            tags: TagFilter::parse(parameters),
            ..Self::default()
        };
        for (name, value) in parameters.iter() {
            if name == fields::PARAMETER
                || page::PARAMETERS.contains(&name)
                || tag::PARAMETERS.contains(&name)
            {
                continue;
            }
            if parameters.all(name).nth(1).is_some() {
                return Err(refused());
            }
            if parent == Some(name) {
                continue;
            }
            if let Some(key) = filterable.relation(name) {
                filter.relations.push((key, value.to_owned()));
            } else if filterable.has_attribute(name) {
                filter.attributes.push((name.to_owned(), value.to_owned()));
            } else {
                return Err(refused());
            }
        }
        Ok(filter)
    }

    /// The same for objects that have these attributes only: neither relations nor tags nor what all resources have.
    pub(crate) fn parse_plain(parameters: &Parameters, attributes: &[&str]) -> Result<Self, Fault> {
        let mut filter = Self::default();
        for (name, value) in parameters.iter() {
            if name == fields::PARAMETER || page::PARAMETERS.contains(&name) {
                continue;
            }
            if parameters.all(name).nth(1).is_some() || !attributes.contains(&name) {
                return Err(refused());
            }
            filter.attributes.push((name.to_owned(), value.to_owned()));
        }
        Ok(filter)
    }

    /// Whether the object is selected.
    pub(crate) fn selects(&self, object: &Map<String, Value>) -> bool {
        self.attributes.iter().all(|(name, wanted)| {
            object
                .get(name)
                .is_some_and(|value| equals(name, value, wanted))
        }) && self
            .relations
            .iter()
            .all(|(key, wanted)| refers(object.get(*key), wanted))
            && self.tags.selects(object)
    }
}

/// Whether the attribute's value is the one wanted; null is equal to nothing.
fn equals(name: &str, value: &Value, wanted: &str) -> bool {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => false,
        Value::Bool(truth) => *truth == body::truth(&Value::from(wanted)).unwrap_or(false),
        Value::Number(number) => match wanted.trim().parse::<f64>() {
            Ok(wanted) => number.as_f64() == Some(wanted),
            Err(_) => false,
        },
        Value::String(text) => text == wanted || (name != "name" && is_same_address(text, wanted)),
    }
}

/// Whether both are spellings of one address (reference 23.2: normalise for comparison).
fn is_same_address(left: &str, right: &str) -> bool {
    match (left.parse::<IpAddr>(), right.parse::<IpAddr>()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

/// Whether the list of references holds the id wanted.
fn refers(references: Option<&Value>, wanted: &str) -> bool {
    let ids = references.and_then(Value::as_array).into_iter().flatten();
    ids.filter_map(|reference| reference.get("id"))
        .any(|id| id.as_str() == Some(wanted))
}

fn refused() -> Fault {
    Fault::bad_request("One or more arguments are either duplicate or invalid")
}
