//! `GET /krater/v1/audit`: who changed what, and what was refused to whom.

use jiff::{SignedDuration, Timestamp};
use krater_controller_core::audit::{AuditFilter, Kept, Outcome};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock, config::quantity::parse_duration};

/// An entry as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct EntryDocument {
    pub(crate) mark: String,
    pub(crate) at: String,
    pub(crate) request_id: String,
    pub(crate) global_request_id: Option<String>,
    pub(crate) user: String,
    pub(crate) caller_project: Option<String>,
    pub(crate) roles: String,
    pub(crate) action: String,
    pub(crate) kind: String,
    pub(crate) resource: Option<String>,
    pub(crate) load_balancer: Option<String>,
    pub(crate) project: Option<String>,
    /// `done`, or `refused` with the two that follow.
    pub(crate) outcome: String,
    pub(crate) status: Option<u16>,
    pub(crate) sentence: Option<String>,
}

/// A page of the trail, newest first.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct AuditDocument {
    pub(crate) entries: Vec<EntryDocument>,
    /// The marker of the next page, if there may be one.
    pub(crate) next: Option<String>,
}

/// Reads what is asked for. Times are moments (`2026-01-31T12:00:00Z`) or how long ago (`1h`).
pub(crate) fn parse(query: &str) -> Result<AuditFilter, String> {
    let mut filter = AuditFilter {
        limit: ENTRIES_USUAL,
        ..AuditFilter::default()
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let text = value.into_owned();
        match &*name {
            "load_balancer" => {
                let wrong = |_| format!("load_balancer: {text:?} is not the id of one");
                filter.load_balancer = Some(Uuid::parse_str(&text).map_err(wrong)?);
            }
            "resource" => filter.resource = Some(text),
            "project" => filter.project = Some(text),
            "user" => filter.user = Some(text),
            "request_id" => filter.request_id = Some(text),
            "since" => filter.since = Some(moment("since", &text)?),
            "until" => filter.until = Some(moment("until", &text)?),
            "marker" => filter.marker = Some(text),
            "limit" => {
                let limit = text
                    .parse()
                    .ok()
                    .filter(|limit| (1..=ENTRIES_MAX).contains(limit));
                let wrong = || format!("limit: {text:?} is not a number from 1 to {ENTRIES_MAX}");
                filter.limit = limit.ok_or_else(wrong)?;
            }
            other => return Err(format!("{other}: there is no such parameter")),
        }
    }
    Ok(filter)
}

/// The page that `found` is, when `limit` were asked for.
pub(crate) fn page(found: Vec<Kept>, limit: u32) -> AuditDocument {
    let full = u32::try_from(found.len()).is_ok_and(|count| count >= limit);
    let entries: Vec<EntryDocument> = found.into_iter().map(document).collect();
    let next = entries
        .last()
        .filter(|_| full)
        .map(|last| last.mark.clone());
    AuditDocument { entries, next }
}

fn document(kept: Kept) -> EntryDocument {
    let Kept { mark, entry } = kept;
    let (outcome, status, sentence) = match entry.outcome {
        Outcome::Done => ("done", None, None),
        Outcome::Refused { status, sentence } => ("refused", Some(status), Some(sentence)),
    };
    EntryDocument {
        mark,
        at: entry.at.to_string(),
        request_id: entry.request_id,
        global_request_id: entry.global_request_id,
        user: entry.user,
        caller_project: entry.caller_project.map(|project| project.to_string()),
        roles: entry.roles,
        action: entry.deed.name().to_owned(),
        kind: entry.kind,
        resource: entry.resource,
        load_balancer: entry.load_balancer.map(|id| id.to_string()),
        project: entry.project.map(|project| project.to_string()),
        outcome: outcome.to_owned(),
        status,
        sentence,
    }
}

fn moment(name: &str, text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = parse_duration(text)
        .ok()
        .and_then(|ago| SignedDuration::try_from(ago).ok())
        .and_then(|ago| clock::now().checked_sub(ago).ok());
    ago.ok_or_else(|| {
        format!("{name}: {text:?} is neither a moment like 2026-01-31T12:00:00Z nor an age like 1h")
    })
}

const ENTRIES_USUAL: u32 = 100;
const ENTRIES_MAX: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_what_makes_no_sense_is_named() {
        let id = "3ab57a4f-6b21-4a0b-a4b4-5a1f0d4c6f62";
        let query = format!(
            "load_balancer={id}&resource=r&project=p&user=a%20b&request_id=q&marker=m&limit=7&until=2026-01-31T12:00:00Z"
        );
        let expected = AuditFilter {
            load_balancer: Uuid::parse_str(id).ok(),
            resource: Some("r".to_owned()),
            project: Some("p".to_owned()),
            user: Some("a b".to_owned()),
            request_id: Some("q".to_owned()),
            since: None,
            until: "2026-01-31T12:00:00Z".parse().ok(),
            marker: Some("m".to_owned()),
            limit: 7,
        };
        assert_eq!(parse(&query), Ok(expected));
        assert_eq!(parse("").unwrap().limit, 100);
        let hour = parse("since=1h").unwrap().since.unwrap();
        let ago = clock::now().duration_since(hour).as_secs();
        assert!((3_600..3_660).contains(&ago), "{ago}");
        for (query, flaw) in [
            ("load_balancer=x", "load_balancer: "),
            ("limit=0", "limit: "),
            ("limit=1001", "limit: "),
            ("limit=x", "limit: "),
            ("since=yesterday", "since: "),
            ("until=", "until: "),
            ("lb=1", "lb: "),
        ] {
            assert!(parse(query).unwrap_err().starts_with(flaw), "{query}");
        }
    }
}
