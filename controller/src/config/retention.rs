//! How long what is written down beside the resources is kept.

use std::{fmt::Write as _, time::Duration};

use serde::Deserialize;

use super::{
    Flaws, lasting,
    quantity::{parse_duration, print_duration},
    within,
};

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Entries of the audit trail.
    pub(crate) audit: Duration,
    /// How many of them at most.
    pub(crate) audit_rows: u32,
    /// What was created under an idempotency key.
    pub(crate) idempotency: Duration,
}

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetentionFile {
    audit: Option<String>,
    audit_rows: Option<usize>,
    idempotency: Option<String>,
}

/// The settings, or notes of what is wrong with them.
pub(super) fn parse(file: RetentionFile, flaws: &mut Flaws) -> Option<Retention> {
    let mut age = |setting, text: Option<String>, usual: Duration| {
        let parsed = text.map_or(Ok(usual), |text| parse_duration(&text));
        let kept = parsed.and_then(|age| lasting(age, AGE_LEAST, AGE_MOST));
        flaws.keep(setting, kept)
    };
    let audit = age("retention.audit", file.audit, AUDIT_USUAL);
    let idempotency = age("retention.idempotency", file.idempotency, IDEMPOTENCY_USUAL);
    let rows = within(
        file.audit_rows.unwrap_or(AUDIT_ROWS_USUAL),
        1,
        AUDIT_ROWS_MOST,
    );
    let rows = rows.and_then(|rows| u32::try_from(rows).map_err(|error| error.to_string()));
    let audit_rows = flaws.keep("retention.audit_rows", rows);
    Some(Retention {
        audit: audit?,
        audit_rows: audit_rows?,
        idempotency: idempotency?,
    })
}

/// Writes the section as it is read.
pub(super) fn print(retention: &Retention, out: &mut String) {
    let (audit, idempotency) = (
        print_duration(retention.audit),
        print_duration(retention.idempotency),
    );
    let rows = retention.audit_rows;
    let _ = write!(
        out,
        "\n[retention]\naudit = \"{audit}\"\naudit_rows = {rows}\nidempotency = \"{idempotency}\"\n"
    );
}

const HOUR: Duration = Duration::from_secs(3_600);
const AGE_LEAST: Duration = Duration::from_secs(60);
/// Ten years.
const AGE_MOST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Ninety days.
const AUDIT_USUAL: Duration = Duration::from_secs(90 * 24 * 3_600);
const AUDIT_ROWS_USUAL: usize = 100_000;
/// Beyond this a search without an index would hold up requests.
const AUDIT_ROWS_MOST: usize = 10_000_000;
const IDEMPOTENCY_USUAL: Duration = HOUR.saturating_mul(24);
