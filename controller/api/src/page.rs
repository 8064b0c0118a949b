//! Sorting and paging of lists (reference 4.4, 4.5).

use core::{
    cmp::Ordering,
    num::{IntErrorKind, NonZeroUsize},
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{attributes::Filterable, fault::Fault, parameters::Parameters, wire::row::Item};

/// Which page was asked for, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    limit: usize,
    marker: Option<String>,
    turn: Turn,
    keys: Vec<(String, Direction)>,
}

/// One page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    /// Its objects.
    pub(crate) items: Vec<Item>,
    /// `<collection>_links`
    pub(crate) links: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Onward,
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ascending,
    Descending,
}

impl Paging {
    /// Reads the parameters. Which keys can be sorted by is checked by [`Paging::check_keys`], for lists only; the
    /// rest is checked on every GET.
    pub(crate) fn parse(parameters: &Parameters, most: NonZeroUsize) -> Result<Self, Fault> {
        let most = most.get();
        let limit = match parameters.first("limit") {
            None => most,
            // Zero and less would lift the limit in the reference; here they mean the most there is.
            Some(text) => match text.parse::<i64>() {
                Ok(number) if number > 0 => usize::try_from(number).unwrap_or(most).min(most),
                Ok(_) => most,
                // A number all the same.
                Err(error)
                    if matches!(
                        error.kind(),
                        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow
                    ) =>
                {
                    most
                }
                Err(_) => {
                    return Err(list_fault(format!(
                        "Supplied pagination limit '{text}' is not valid."
                    )));
                }
            },
        };
        Ok(Self {
            limit,
            marker: parameters.first("marker").map(String::from),
            turn: if parameters.first("page_reverse") == Some("True") {
                Turn::Back
            } else {
                Turn::Onward
            },
            keys: parse_keys(parameters)?,
        })
    }

    /// Refuses keys that the objects do not have.
    pub(crate) fn check_keys(&self, filterable: &Filterable) -> Result<(), Fault> {
        match self
            .keys
            .iter()
            .find(|(key, _)| !filterable.has_attribute(key))
        {
            None => Ok(()),
            Some((key, _)) => Err(Fault::bad_request(format!(
                "Supplied sort key '{key}' is not valid."
            ))),
        }
    }

    /// Sorts the objects and takes the page out of them. `url` is the address of the list without its query, for
    /// links, which keep all other parameters.
    pub(crate) fn take(
        &self,
        mut items: Vec<Item>,
        url: &str,
        parameters: &Parameters,
    ) -> Result<Page, Fault> {
        items.sort_by(|left, right| self.compare(left, right));
        let range = match &self.marker {
            None => 0..items.len().min(self.limit),
            Some(marker) => {
                let position = items
                    .iter()
                    .position(|item| id_of(item) == Some(marker.as_str()));
                let position = position.ok_or_else(|| {
                    Fault::bad_request(format!(
                        "Supplied pagination marker '{marker}' is not valid."
                    ))
                })?;
                match self.turn {
                    Turn::Onward => {
                        let first = position.saturating_add(1);
                        first..items.len().min(first.saturating_add(self.limit))
                    }
                    Turn::Back => position.saturating_sub(self.limit)..position,
                }
            }
        };
        let items: Vec<Item> = items.drain(range).collect();
        let links = self.links(&items, url, parameters);
        Ok(Page { items, links })
    }

    fn links(&self, items: &[Item], url: &str, parameters: &Parameters) -> Value {
        let mut links = Vec::new();
        if items.len() == self.limit
            && let Some(last) = items.last().and_then(id_of)
        {
            links.push(
                json!({"rel": "next", "href": self.link(url, parameters, last, Turn::Onward)}),
            );
        }
        if self.marker.is_some()
            && let Some(first) = items.first().and_then(id_of)
        {
            links.push(
                json!({"rel": "previous", "href": self.link(url, parameters, first, Turn::Back)}),
            );
        }
        Value::Array(links)
    }

    fn link(&self, url: &str, parameters: &Parameters, marker: &str, turn: Turn) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.to_string());
        for (name, value) in parameters.iter() {
            if !matches!(name, "limit" | "marker" | "page_reverse") {
                query.append_pair(name, value);
            }
        }
        query.append_pair("marker", marker);
        if turn == Turn::Back {
            query.append_pair("page_reverse", "True");
        }
        format!("{url}?{}", query.finish())
    }

    /// By the keys asked for, then by creation, then by id: a total order, so that pages neither overlap nor gap.
    fn compare(&self, left: &Item, right: &Item) -> Ordering {
        for (key, direction) in &self.keys {
            let order = compare_values(left.object.get(key), right.object.get(key));
            let order = if *direction == Direction::Descending {
                order.reverse()
            } else {
                order
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        left.created_at
            .cmp(&right.created_at)
            .then_with(|| id_of(left).cmp(&id_of(right)))
    }
}

/// `sort=key[:dir],…`, or `sort_key=…` with `sort_dir=…`.
fn parse_keys(parameters: &Parameters) -> Result<Vec<(String, Direction)>, Fault> {
    if let Some(sort) = parameters.first("sort") {
        let keys =
            sort.split(',')
                .filter(|key| !key.is_empty())
                .map(|key| match key.split_once(':') {
                    None => Ok((key.to_owned(), Direction::Ascending)),
                    Some((key, direction)) => Ok((key.to_owned(), parse_direction(direction)?)),
                });
        return keys.collect();
    }
    if parameters.all("sort_key").nth(1).is_some() {
        return Err(list_fault(
            "Supplied sort key is given more than once.".into(),
        ));
    }
    let directions = parameters
        .first("sort_dir")
        .into_iter()
        .flat_map(|list| list.split(','));
    let mut directions = directions
        .map(parse_direction)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    let keys = parameters
        .first("sort_key")
        .into_iter()
        .flat_map(|list| list.split(','));
    let keys = keys.filter(|key| !key.is_empty());
    Ok(keys
        .map(|key| {
            (
                key.to_owned(),
                directions.next().unwrap_or(Direction::Ascending),
            )
        })
        .collect())
}

fn parse_direction(text: &str) -> Result<Direction, Fault> {
    match text {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(list_fault(format!(
            "Supplied sort direction '{text}' is not valid."
        ))),
    }
}

/// Null first, then by kind, then by value.
fn compare_values(left: Option<&Value>, right: Option<&Value>) -> Ordering {
    match (left, right) {
        (Some(Value::String(left)), Some(Value::String(right))) => left.cmp(right),
        (Some(Value::Bool(left)), Some(Value::Bool(right))) => left.cmp(right),
        (Some(Value::Number(left)), Some(Value::Number(right))) => left
            .as_f64()
            .partial_cmp(&right.as_f64())
            .unwrap_or(Ordering::Equal),
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn rank(value: Option<&Value>) -> u8 {
    match value {
        None | Some(Value::Null) => 0,
        Some(Value::Bool(_)) => 1,
        Some(Value::Number(_)) => 2,
        Some(Value::String(_)) => 3,
        Some(Value::Array(_) | Value::Object(_)) => 4,
    }
}

fn id_of(item: &Item) -> Option<&str> {
    item.object.get("id").and_then(Value::as_str)
}

/// Form B, as the list hooks of the reference answer.
fn list_fault(description: String) -> Fault {
    Fault::routing(StatusCode::BAD_REQUEST, "Bad Request", description)
}

/// The parameters.
pub(crate) const PARAMETERS: &[&str] = &[
    "limit",
    "marker",
    "page_reverse",
    "sort",
    "sort_key",
    "sort_dir",
];
