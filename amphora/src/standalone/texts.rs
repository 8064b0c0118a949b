//! The texts of load balancers that are in force: what is written the same means the same, and need not be read.

use hashbrown::HashMap;
use krater_amphora_api::{Generation, LoadBalancerId};

use serde::de::IgnoredAny;

use super::identify::Seen;

/// What each text came to.
#[derive(Debug, Default)]
pub(crate) struct Texts(HashMap<Box<str>, Known>);

/// The load balancer that a text describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Which one.
    pub(super) id: LoadBalancerId,
    /// The generation it was given.
    pub(super) generation: Generation,
    /// What its id was made from; `None` if the id is in the text.
    pub(super) key: Option<u128>,
}

impl Texts {
    /// What the text came to before and would come to now. An id depends on those before it in the file that are known
    /// by the same: if there are any, nothing is recognised.
    pub(super) fn recognise(&self, text: &str, seen: &mut Seen) -> Option<Known> {
        let known = *self.0.get(text)?;
        if let Some(key) = known.key {
            let before = seen.entry(key).or_insert(0);
            if *before > 0 {
                return None;
            }
            *before = 1;
        }
        Some(known)
    }

    /// Notes what a text came to. Not for those whose id depends on others in the file.
    pub(super) fn remember(&mut self, text: &str, known: Known) {
        self.0.insert(text.into(), known);
    }
}

/// The texts of the load balancers of a file that holds nothing else; `None` if it is anything but that.
pub(super) fn split(file: &str) -> Option<Vec<&str>> {
    let mut rest = file;
    for token in ["{", "\"load_balancers\"", ":", "["] {
        rest = after(rest, token)?;
    }
    let mut texts = Vec::new();
    if let Some(end) = after(rest, "]") {
        rest = end;
    } else {
        loop {
            let start = rest.trim_start_matches(SPACE);
            let mut values = serde_json::Deserializer::from_str(start).into_iter::<IgnoredAny>();
            values.next()?.ok()?;
            let (text, behind) = start.split_at_checked(values.byte_offset())?;
            texts.push(text);
            match after(behind, ",") {
                Some(next) => rest = next,
                None => break rest = after(behind, "]")?,
            }
        }
    }
    after(rest, "}")?
        .trim_start_matches(SPACE)
        .is_empty()
        .then_some(texts)
}

/// What follows a token that comes next.
fn after<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    text.trim_start_matches(SPACE).strip_prefix(token)
}

/// What JSON may have between tokens.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_load_balancers_falls_into_their_texts() {
        let parts = |file| split(file);
        assert_eq!(parts(" { \"load_balancers\" : [ ] }\n"), Some(vec![]));
        assert_eq!(
            parts("{\"load_balancers\":[{\"a\":\"]},\"} ,\n {\"b\":[{}]}]}"),
            Some(vec!["{\"a\":\"]},\"}", "{\"b\":[{}]}"])
        );
        for other in [
            "",
            "[]",
            "{\"load_balancers\":[{},]}",
            "{\"load_balancers\":[{}]",
            "{\"load_balancers\":[{}]} x",
            "{\"load_balancers\":[{}],\"more\":1}",
            "{\"load_balancers\":[{\"a\":}]}",
            "{\"load_balancers\":{}}",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
