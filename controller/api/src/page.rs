//! Sorting and paging of lists (reference 4.4, 4.5).

use core::{
    cmp::Ordering,
    num::{IntErrorKind, NonZeroUsize},
};

use http::StatusCode;
use krater_controller_core::scan::{Direction, Key, Order};
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

/// The objects of one page, picked out of all that are offered. Holds no more than two pages of them.
pub(crate) struct Pick<'a> {
    paging: &'a Paging,
    marker: Option<Item>,
    picked: Vec<Item>,
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
        self.check(|key| filterable.has_attribute(key))
    }

    /// The same for objects that have these attributes only.
    pub(crate) fn check_plain_keys(&self, attributes: &[&str]) -> Result<(), Fault> {
        self.check(|key| attributes.contains(&key))
    }

    fn check(&self, is_known: impl Fn(&str) -> bool) -> Result<(), Fault> {
        match self.keys.iter().find(|(key, _)| !is_known(key)) {
            None => Ok(()),
            Some((key, _)) => Err(Fault::bad_request(format!(
                "Supplied sort key '{key}' is not valid."
            ))),
        }
    }

    /// The most objects of a page.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// The id of the object the page begins after, or ends before.
    pub(crate) fn marker(&self) -> Option<&str> {
        self.marker.as_deref()
    }

    /// Whether the page is the one before its marker. Without a marker there is nothing to be before.
    pub(crate) fn leads_back(&self) -> bool {
        self.turn == Turn::Back && self.marker.is_some()
    }

    /// The way along an index that passes the objects in the order asked for, away from the marker; `None` where they
    /// have to be sorted.
    pub(crate) fn way(&self) -> Option<Order> {
        let ascending =
            |pair: &(String, Direction), key| pair.0 == key && pair.1 == Direction::Ascending;
        let mut keys = self.keys.as_slice();
        // Creation and id are the last keys of every order: naming them says nothing.
        if let [rest @ .., creation, id] = keys
            && ascending(creation, CREATED_AT)
            && ascending(id, "id")
        {
            keys = rest;
        } else if let [rest @ .., creation] = keys
            && ascending(creation, CREATED_AT)
        {
            keys = rest;
        }
        let order = |key, direction| Order {
            key,
            direction,
            ties: Direction::Ascending,
        };
        let order = match keys {
            [] => Order::CREATION,
            [(key, direction)] if key == CREATED_AT => order(Key::Creation, *direction),
            [(key, direction)] if key == "name" => order(Key::Name, *direction),
            _ => return None,
        };
        Some(if self.leads_back() {
            order.reversed()
        } else {
            order
        })
    }

    /// Picks the page out of what will be offered; `marker` is the object of [`Paging::marker`].
    pub(crate) const fn pick(&self, marker: Option<Item>) -> Pick<'_> {
        Pick {
            paging: self,
            marker,
            picked: Vec::new(),
        }
    }

    /// Takes the page out of a list that is there as a whole.
    pub(crate) fn take(
        &self,
        items: Vec<Item>,
        url: &str,
        parameters: &Parameters,
    ) -> Result<Page, Fault> {
        let marker = match self.marker() {
            None => None,
            Some(marker) => {
                let found = items.iter().find(|item| id_of(item) == Some(marker));
                Some(found.ok_or_else(|| self.no_such_marker())?.clone())
            }
        };
        let mut pick = self.pick(marker);
        for item in items {
            pick.offer(item);
        }
        Ok(self.page(pick.finish(), url, parameters))
    }

    /// The page of these objects. `url` is the address of the list without its query, for links, which keep all other
    /// parameters.
    pub(crate) fn page(&self, items: Vec<Item>, url: &str, parameters: &Parameters) -> Page {
        let links = self.links(&items, url, parameters);
        Page { items, links }
    }

    /// The marker names nothing that is in the list.
    pub(crate) fn no_such_marker(&self) -> Fault {
        let marker = self.marker().unwrap_or_default();
        Fault::bad_request(format!(
            "Supplied pagination marker '{marker}' is not valid."
        ))
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
            // Finer than it is shown.
            let order = if key == CREATED_AT {
                left.created_at.cmp(&right.created_at)
            } else {
                compare_values(left.object.get(key), right.object.get(key))
            };
            let order = direction.apply(order);
            if order != Ordering::Equal {
                return order;
            }
        }
        left.created_at
            .cmp(&right.created_at)
            .then_with(|| id_of(left).cmp(&id_of(right)))
    }
}

impl Pick<'_> {
    /// Looks at an object: each of the list once, in any order.
    pub(crate) fn offer(&mut self, item: Item) {
        let wanted = if self.paging.leads_back() {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        let marker = self.marker.as_ref();
        if marker.is_some_and(|marker| self.paging.compare(&item, marker) != wanted) {
            return;
        }
        self.picked.push(item);
        if self.picked.len() >= self.paging.limit.saturating_mul(2) {
            self.settle();
        }
    }

    /// The page, in its order.
    pub(crate) fn finish(mut self) -> Vec<Item> {
        self.settle();
        if self.paging.leads_back() {
            self.picked.reverse();
        }
        self.picked
    }

    /// Keeps those nearest to where the page begins.
    fn settle(&mut self) {
        let paging = self.paging;
        self.picked.sort_by(|left, right| {
            let order = paging.compare(left, right);
            if paging.leads_back() {
                order.reverse()
            } else {
                order
            }
        });
        self.picked.truncate(paging.limit);
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

/// What markers call an object: its id; its name where it has none, as availability zones do.
fn id_of(item: &Item) -> Option<&str> {
    let id = item.object.get("id").or_else(|| item.object.get("name"));
    id.and_then(Value::as_str)
}

/// Form B, as the list hooks of the reference answer.
fn list_fault(description: String) -> Fault {
    Fault::routing(StatusCode::BAD_REQUEST, "Bad Request", description)
}

const CREATED_AT: &str = "created_at";
/// The parameters.
pub(crate) const PARAMETERS: &[&str] = &[
    "limit",
    "marker",
    "page_reverse",
    "sort",
    "sort_key",
    "sort_dir",
];

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Map;

    use super::*;

    /// Objects as availability zones are: without ids, all made at one moment.
    fn zones(names: &[&str]) -> Vec<Item> {
        let item = |name: &&str| Item {
            created_at: Timestamp::UNIX_EPOCH,
            object: Map::from_iter([("name".to_owned(), json!(name))]),
        };
        names.iter().map(item).collect()
    }

    fn page(query: &str, items: Vec<Item>) -> Result<(Vec<String>, Vec<String>), Fault> {
        let parameters = Parameters::parse(query);
        let paging = Paging::parse(&parameters, NonZeroUsize::new(10).unwrap())?;
        let page = paging.take(items, "http://x/azs", &parameters)?;
        let names = page.items.iter().filter_map(id_of).map(String::from);
        let links = page.links.as_array().unwrap().iter();
        let links = links.map(|link| link["href"].as_str().unwrap().to_owned());
        Ok((names.collect(), links.collect()))
    }

    #[test]
    fn objects_without_an_id_are_marked_by_their_names() {
        let all = || zones(&["c", "a", "d", "b"]);
        for (query, expected) in [
            ("sort=name", vec!["a", "b", "c", "d"]),
            ("limit=2&sort=name", vec!["a", "b"]),
            ("limit=2&sort=name&marker=b", vec!["c", "d"]),
            (
                "limit=2&sort=name&marker=d&page_reverse=True",
                vec!["b", "c"],
            ),
            ("limit=9&marker=b", vec!["c", "d"]),
        ] {
            assert_eq!(page(query, all()).unwrap().0, expected, "{query}");
        }
        let (_, links) = page("limit=2&sort=name&marker=a", all()).unwrap();
        let next = "http://x/azs?limit=2&sort=name&marker=c";
        let previous = "http://x/azs?limit=2&sort=name&marker=b&page_reverse=True";
        assert_eq!(links, [next, previous]);
        for marker in ["", "None", "e"] {
            let refused = page(&format!("marker={marker}"), all()).unwrap_err();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{marker}");
        }
    }

    #[test]
    fn a_pick_holds_two_pages_at_most_and_is_the_page_all_the_same() {
        let names: Vec<String> = (0..100)
            .map(|number| format!("{:02}", number * 37 % 100))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for (query, first) in [
            ("limit=3&sort=name", 0),
            ("limit=3&sort=name&marker=49", 50),
            ("limit=3&sort=name&marker=53&page_reverse=True", 50),
        ] {
            let parameters = Parameters::parse(query);
            let paging = Paging::parse(&parameters, NonZeroUsize::new(10).unwrap()).unwrap();
            let all = zones(&names);
            let marker = all
                .iter()
                .find(|item| id_of(item) == paging.marker())
                .cloned();
            let mut pick = paging.pick(marker);
            for item in all {
                pick.offer(item);
                assert!(pick.picked.len() < 6, "{query}");
            }
            let picked = pick.finish();
            let expected: Vec<String> = (first..first + 3)
                .map(|number| format!("{number:02}"))
                .collect();
            assert!(picked.iter().filter_map(id_of).eq(&expected), "{query}");
        }
    }
}
