//! How the data plane treats members and clients where a flavor says nothing.

use std::{fmt::Write as _, time::Duration};

use krater_controller_core::{
    limits::{
        MEMBER_DRAIN_SECONDS_MAX, MEMBER_REQUESTS_MAX, PASSIVE_FAILURES_MAX, PASSIVE_SECONDS_MAX,
        SLOW_START_SECONDS_MAX, SOURCE_RATE_MAX,
    },
    model::{Congestion, UsualTreatment},
};
use serde::Deserialize;

use super::{
    Flaws, lasting,
    quantity::{parse_duration, print_duration},
    within,
};

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TreatmentFile {
    passive_failures: Option<usize>,
    passive_out: Option<String>,
    passive_out_max: Option<String>,
    passive_share: Option<usize>,
    slow_start: Option<String>,
    source_rate: Option<usize>,
    member_drain: Option<String>,
    member_requests: Option<usize>,
    congestion_control: Option<String>,
}

/// The settings, or notes of what is wrong with them. What is told in the access log is said elsewhere.
pub(super) fn parse(
    file: TreatmentFile,
    access_log_one_in: Option<u32>,
    flaws: &mut Flaws,
) -> Option<UsualTreatment> {
    let usual = UsualTreatment::default();
    let failures = number(
        file.passive_failures,
        usual.passive_failures,
        0,
        PASSIVE_FAILURES_MAX,
    );
    let failures = flaws.keep("treatment.passive_failures", failures);
    let share = number(file.passive_share, usual.passive_share.into(), 1, 100);
    let share = share.and_then(|share| u8::try_from(share).map_err(|error| error.to_string()));
    let share = flaws.keep("treatment.passive_share", share);
    let rate = number(file.source_rate, usual.source_rate, 0, SOURCE_RATE_MAX);
    let rate = flaws.keep("treatment.source_rate", rate);
    let requests = number(
        file.member_requests,
        usual.member_requests,
        0,
        MEMBER_REQUESTS_MAX,
    );
    let requests = flaws.keep("treatment.member_requests", requests);
    let congestion = congestion(file.congestion_control.as_deref(), &usual);
    let congestion = flaws.keep("treatment.congestion_control", congestion);
    let mut time = |setting, text: Option<String>, usual, least, most| {
        let kept = text.map_or(Ok(usual), |text| milliseconds(&text, least, most));
        flaws.keep(setting, kept)
    };
    let out = time(
        "treatment.passive_out",
        file.passive_out,
        usual.passive_out_ms,
        1,
        PASSIVE_SECONDS_MAX,
    );
    let out_max = time(
        "treatment.passive_out_max",
        file.passive_out_max,
        usual.passive_out_max_ms,
        1,
        PASSIVE_SECONDS_MAX,
    );
    let slow_start = time(
        "treatment.slow_start",
        file.slow_start,
        usual.slow_start_ms,
        0,
        SLOW_START_SECONDS_MAX,
    );
    let drain = member_drain(file.member_drain.as_deref(), &usual);
    let drain = flaws.keep("treatment.member_drain", drain);
    if let (Some(out), Some(out_max)) = (out, out_max) {
        let kept = if out <= out_max {
            Ok(())
        } else {
            Err("must not be shorter than treatment.passive_out".to_owned())
        };
        flaws.keep("treatment.passive_out_max", kept)?;
    }
    Some(UsualTreatment {
        passive_failures: failures?,
        passive_out_ms: out?,
        passive_out_max_ms: out_max?,
        passive_share: share?,
        slow_start_ms: slow_start?,
        source_rate: rate?,
        member_drain_ms: drain?,
        member_requests: requests?,
        access_log_one_in,
        congestion_control: congestion?,
    })
}

/// Writes the section as it is read.
pub(super) fn print(usual: &UsualTreatment, out: &mut String) {
    let time = |ms: u32| print_duration(Duration::from_millis(u64::from(ms)));
    let _ = write!(
        out,
        "\n[treatment]\npassive_failures = {}\npassive_out = \"{}\"\npassive_out_max = \"{}\"\npassive_share = {}\n",
        usual.passive_failures,
        time(usual.passive_out_ms),
        time(usual.passive_out_max_ms),
        usual.passive_share,
    );
    let drain = usual.member_drain_ms.map_or_else(|| NEVER.to_owned(), time);
    let congestion = usual.congestion_control();
    let congestion = congestion
        .as_ref()
        .map_or(Congestion::SYSTEM, |name| name.as_str());
    let _ = write!(
        out,
        "slow_start = \"{}\"\nsource_rate = {}\nmember_drain = \"{drain}\"\nmember_requests = {}\ncongestion_control = \"{congestion}\"\n",
        time(usual.slow_start_ms),
        usual.source_rate,
        usual.member_requests,
    );
}

fn member_drain(given: Option<&str>, usual: &UsualTreatment) -> Result<Option<u32>, String> {
    match given {
        None => Ok(usual.member_drain_ms),
        Some(NEVER) => Ok(None),
        Some(text) => milliseconds(text, 0, MEMBER_DRAIN_SECONDS_MAX).map(Some),
    }
}

fn congestion(given: Option<&str>, usual: &UsualTreatment) -> Result<Congestion, String> {
    let text = match given {
        None => return Ok(usual.congestion_control),
        Some(Congestion::SYSTEM) => return Ok(Congestion::System),
        Some(text) => text,
    };
    let named = text.parse().map(Congestion::Named);
    named.map_err(|error| {
        format!(
            "{text:?} is none: {error}; \"{}\" is that of each host",
            Congestion::SYSTEM
        )
    })
}

fn number(given: Option<usize>, usual: u32, least: usize, most: u32) -> Result<u32, String> {
    let Some(given) = given else { return Ok(usual) };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    within(given, least, most).and_then(|it| u32::try_from(it).map_err(|error| error.to_string()))
}

/// Reads a time of at least `least_ms` and at most `most` seconds.
fn milliseconds(text: &str, least_ms: u64, most: u32) -> Result<u32, String> {
    let time = parse_duration(text)?;
    let most = Duration::from_secs(u64::from(most));
    let time = lasting(time, Duration::from_millis(least_ms), most)?;
    u32::try_from(time.as_millis()).map_err(|error| error.to_string())
}

const NEVER: &str = "never";
