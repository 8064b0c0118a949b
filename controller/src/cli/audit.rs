//! `krater audit …`.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{From, Output, table};
use crate::operator::{AuditDocument, EntryDocument};

#[derive(Subcommand)]
pub(super) enum AuditVerb {
    /// List who changed what, and what was refused to whom; newest first.
    List(Box<Wanted>),
}

/// Which entries.
#[derive(Args, Clone)]
pub(super) struct Wanted {
    /// Only in this load balancer.
    #[arg(long, value_name = "ID")]
    lb: Option<String>,
    /// Only to this resource, of whatever kind.
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// Only to what is this project's.
    #[arg(long, short, value_name = "ID")]
    project: Option<String>,
    /// Only by this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only in this request.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only since: a moment (2026-01-31T12:00:00Z) or an age (1h).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before, written in the same way.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    pub(super) from: From,
}

pub(super) async fn list(wanted: Wanted) -> anyhow::Result<String> {
    let mut query = form_query(&wanted);
    query.push_str(&format!("&limit={}", wanted.limit));
    let answer = wanted
        .from
        .client()?
        .get(&format!(
            "/krater/v1/audit?{}",
            query.trim_start_matches('&')
        ))
        .await?;
    if wanted.from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let trail: AuditDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    let rows: Vec<Vec<String>> = trail.entries.iter().map(row).collect();
    Ok(table::columns(
        &["TIME", "WHO", "ACTION", "RESOURCE", "OUTCOME"],
        &rows,
    ))
}

fn form_query(wanted: &Wanted) -> String {
    let pairs = [
        ("load_balancer", &wanted.lb),
        ("resource", &wanted.resource),
        ("project", &wanted.project),
        ("user", &wanted.user),
        ("request_id", &wanted.request),
        ("since", &wanted.since),
        ("until", &wanted.until),
    ];
    let given = pairs.into_iter().filter_map(|(name, value)| {
        let value = value.as_deref()?;
        Some(format!("&{name}={}", super::lb::encoded(value)))
    });
    given.collect()
}

/// One line of a terminal per entry: what does not fit is cut, and whole with `--output json`.
fn row(entry: &EntryDocument) -> Vec<String> {
    // Whole seconds; the rest is for machines.
    let time = entry.at.get(..19).unwrap_or(&entry.at).replace('T', " ");
    let outcome = match (entry.status, &entry.sentence) {
        (Some(status), Some(sentence)) => format!("{status} {sentence}"),
        _ => entry.outcome.clone(),
    };
    let resource = entry.resource.as_deref().unwrap_or("-");
    vec![
        time,
        cut(&entry.user, WHO_CHARACTERS_MAX),
        format!("{} {}", entry.action, entry.kind),
        cut(resource, RESOURCE_CHARACTERS_MAX),
        cut(&outcome, OUTCOME_CHARACTERS_MAX),
    ]
}

fn cut(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let mut cut: String = text
        .chars()
        .take(characters_max.saturating_sub(1))
        .collect();
    cut.push('…');
    cut
}

const WHO_CHARACTERS_MAX: usize = 16;
/// An id.
const RESOURCE_CHARACTERS_MAX: usize = 36;
const OUTCOME_CHARACTERS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_that_fits() {
        let entry = EntryDocument {
            mark: "m".to_owned(),
            at: "2026-01-31T12:00:00.123456Z".to_owned(),
            request_id: "req-1".to_owned(),
            global_request_id: None,
            user: "5f1c0e3a9b7d4c2e8a6f0b1d3c5e7f9a".to_owned(),
            caller_project: None,
            roles: "Member".to_owned(),
            action: "create".to_owned(),
            kind: "loadbalancer".to_owned(),
            resource: None,
            load_balancer: None,
            project: None,
            outcome: "refused".to_owned(),
            status: Some(403),
            sentence: Some("Quota has been met for resources: Load Balancer".to_owned()),
        };
        let text = table::columns(&["T", "W", "A", "R", "O"], &[row(&entry)]);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line,
            "2026-01-31 12:00:00  5f1c0e3a9b7d4c2…  create loadbalancer  -  403 Quota has been met for resources: L…"
        );
    }
}
