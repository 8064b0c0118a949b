//! What the headers of a request say around its command: its ids, `If-Match`, `Idempotency-Key`.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use krater_controller_core::envelope::Generation;
use krater_controller_core::{
    audit::Deed,
    envelope::{Once, Precondition},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    fault::Fault,
    path::{Act, Place},
};

/// What is done by a request of this method at a place.
pub(crate) fn deed(method: &Method, place: Place<'_>) -> Deed {
    match (method.as_str(), place) {
        ("POST", _) => Deed::Create,
        ("DELETE", _) => Deed::Delete,
        (_, Place::Failover(_) | Place::AmphoraAct(_, Act::FailOver)) => Deed::Failover,
        _ => Deed::Update,
    }
}

/// The kind of what a place is, and which one.
pub(crate) fn subject(place: Place<'_>) -> (&'static str, Option<&str>) {
    match place {
        Place::Collection(kind) => (kind.root(), None),
        Place::Item(kind, id) => (kind.root(), Some(id)),
        Place::Failover(id) => ("loadbalancer", Some(id)),
        Place::Members(pool) => ("pool", Some(pool)),
        Place::Member(_, id) => ("member", Some(id)),
        Place::Amphora(id) | Place::AmphoraAct(id, _) => ("amphora", Some(id)),
        Place::Shelved(_, id) => (place.label(), Some(id)),
        Place::Rules(_) => ("rule", None),
        Place::Rule(_, id) => ("rule", Some(id)),
        Place::Quota(project) => ("quota", Some(project)),
        other => (other.label(), None),
    }
}

/// What a new resource at a place is to belong to, where the path says so and is not about that itself.
pub(crate) const fn parent(place: Place<'_>) -> Option<&str> {
    match place {
        Place::Rules(policy) => Some(policy),
        _ => None,
    }
}

/// Whether what is there has an `ETag`: all that is a part of a load balancer. Of the members of a pool it is the pool's.
const fn has_version(place: Place<'_>) -> bool {
    matches!(
        place,
        Place::Item(..)
            | Place::Member(..)
            | Place::Members(_)
            | Place::Rule(..)
            | Place::Failover(_)
    )
}

/// The id that the client gave to all it does in one go; what is not of the form `req-<uuid>` is none.
#[must_use]
pub fn global_request_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("x-openstack-request-id")?.to_str().ok()?;
    let id = text.strip_prefix("req-")?;
    (id.len() == UUID_CHARACTERS && Uuid::parse_str(id).is_ok()).then_some(text)
}

/// Which version of the resource at a place is meant. Only changes have one, and only of what shows its own in `ETag`:
/// elsewhere none can be matched.
pub(crate) fn precondition(
    headers: &HeaderMap,
    method: &Method,
    place: Place<'_>,
) -> Result<Precondition, Fault> {
    if !matches!(method.as_str(), "POST" | "PUT" | "DELETE") {
        return Ok(Precondition::Any);
    }
    let lines = headers.get_all(header::IF_MATCH);
    let mut wanted = None;
    for line in lines {
        match parse_tags(line)? {
            None => return Ok(Precondition::Any),
            Some(tags) => wanted.get_or_insert_with(Vec::new).extend(tags),
        }
    }
    match wanted {
        None => Ok(Precondition::Any),
        Some(wanted) if method != Method::POST && has_version(place) => {
            Ok(Precondition::OneOf(wanted))
        }
        Some(_) => Err(Fault::new(
            StatusCode::PRECONDITION_FAILED,
            "What If-Match names cannot be matched: there is no ETag here.",
        )),
    }
}

/// The versions a line of `If-Match` names; `None` for `*`. Weak tags, and those we never gave, match nothing.
fn parse_tags(line: &HeaderValue) -> Result<Option<Vec<Generation>>, Fault> {
    let text = String::from_utf8_lossy(line.as_bytes());
    if text.trim() == "*" {
        return Ok(None);
    }
    let refused = || {
        let reason = "Value should be * or a list of entity tags like \"7\"";
        Fault::input("If-Match", &text, reason)
    };
    let mut versions = Vec::new();
    let mut rest = text.trim_matches([' ', '\t', ',']);
    if rest.is_empty() {
        return Err(refused());
    }
    while !rest.is_empty() {
        let (weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let tag = tag.strip_prefix('"').ok_or_else(refused)?;
        let (opaque, after) = tag.split_once('"').ok_or_else(refused)?;
        if !weak
            && let Some(generation) = opaque.parse().ok().and_then(Generation::from_number)
            && generation.to_string() == opaque
        {
            versions.push(generation);
        }
        let next = after.trim_start_matches([' ', '\t']);
        if !next.is_empty() && !next.starts_with(',') {
            return Err(refused());
        }
        rest = next.trim_start_matches([' ', '\t', ',']);
    }
    Ok(Some(versions))
}

/// Under which name `body` is to be created once; `place` is the request's path in its shortest spelling.
pub(crate) fn once(headers: &HeaderMap, place: &str, body: &Value) -> Result<Option<Once>, Fault> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let visible = |byte: &u8| (0x21..=0x7e).contains(byte);
    let bytes = value.as_bytes();
    let fits = (1..=KEY_CHARACTERS_MAX).contains(&bytes.len()) && bytes.iter().all(visible);
    if !fits || given.next().is_some() {
        let text: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
        let reason = "Value should be one text of 1 to 255 visible ASCII characters";
        return Err(Fault::input("Idempotency-Key", &text, reason));
    }
    let mut canonical = String::new();
    write_canonical(body, &mut canonical);
    let mut digest = String::new();
    for byte in Sha256::digest(canonical.as_bytes()) {
        digest.push_str(&format!("{byte:02x}"));
    }
    Ok(Some(Once {
        key: String::from_utf8_lossy(bytes).into_owned(),
        scope: format!("POST {place}"),
        digest,
    }))
}

/// JSON without blanks, keys in order: one spelling for one meaning.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<_> = object.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in keys {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(entries) => {
            out.push('[');
            for entry in entries {
                write_canonical(entry, out);
                out.push(',');
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

const UUID_CHARACTERS: usize = 36;
const KEY_CHARACTERS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tags(text: &str) -> Result<Option<Vec<String>>, Fault> {
        let parsed = parse_tags(&HeaderValue::from_str(text).unwrap());
        parsed.map(|tags| tags.map(|tags| tags.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn tags_are_read_as_rfc_9110_writes_them() {
        assert_eq!(tags("*"), Ok(None));
        for (text, versions) in [
            ("\"7\"", vec!["7"]),
            ("\"7\", \"8\"", vec!["7", "8"]),
            (" \"7\" ,, \"8\",", vec!["7", "8"]),
            ("W/\"7\"", vec![]),
            ("W/\"7\",\"9\"", vec!["9"]),
            ("\"\"", vec![]),
            ("\"abc\"", vec![]),
            ("\"07\"", vec![]),
            ("\"0\"", vec![]),
            ("\"-1\"", vec![]),
            ("\"18446744073709551616\"", vec![]),
            ("\"a,b\", \"3\"", vec!["3"]),
        ] {
            let versions = versions.into_iter().map(String::from).collect();
            assert_eq!(tags(text), Ok(Some(versions)), "{text}");
        }
        for text in ["", "7", "\"7", "\"7\" \"8\"", "*, \"7\"", "w/\"7\"", ","] {
            assert!(tags(text).is_err(), "{text}");
        }
    }

    fn named(key: &str) -> Result<Option<Once>, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_str(key).unwrap());
        once(&headers, "pools", &json!({}))
    }

    #[test]
    fn a_key_is_one_visible_text() {
        for key in ["a", "~!", &"x".repeat(255)] {
            assert_eq!(named(key).unwrap().unwrap().key, key);
        }
        for key in ["", "a b", "a\tb", &"x".repeat(256)] {
            assert!(named(key).is_err(), "{key:?}");
        }
        let nothing = once(&HeaderMap::new(), "pools", &json!({}));
        assert_eq!(nothing, Ok(None));
        let mut twice = HeaderMap::new();
        for key in ["a", "b"] {
            twice.append("idempotency-key", HeaderValue::from_static(key));
        }
        assert!(once(&twice, "pools", &json!({})).is_err());
    }

    #[test]
    fn bodies_of_one_meaning_have_one_digest_and_others_have_others() {
        let digest = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_static("a"));
            let body = serde_json::from_str(text).unwrap();
            once(&headers, "pools", &body).unwrap().unwrap().digest
        };
        let first = digest("{\"a\": 1, \"b\": [true, \"x\"]}");
        assert_eq!(first, digest("{ \"b\":[true,\"x\"],\"a\":1}"));
        assert_eq!(first.len(), 64);
        for other in [
            "{\"a\": 1, \"b\": [true]}",
            "{\"a\": 1, \"b\": [\"x\", true]}",
            "{\"a\": 2, \"b\": [true, \"x\"]}",
            "{\"a\": \"1\", \"b\": [true, \"x\"]}",
            "{\"a\": 1, \"b\": [true, \"x\"], \"c\": null}",
        ] {
            assert_ne!(first, digest(other), "{other}");
        }
    }

    #[test]
    fn a_global_request_id_is_req_and_a_uuid() {
        let id = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-openstack-request-id", HeaderValue::from_static(text));
            global_request_id(&headers).map(String::from)
        };
        let good = "req-3ab57a4f-6b21-4a0b-a4b4-5a1f0d4c6f62";
        assert_eq!(id(good).as_deref(), Some(good));
        for bad in [
            "",
            "req-",
            "3ab57a4f-6b21-4a0b-a4b4-5a1f0d4c6f62",
            "req-3ab57a4f6b214a0ba4b45a1f0d4c6f62",
            "req-3ab57a4f-6b21-4a0b-a4b4-5a1f0d4c6f62 x",
        ] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
