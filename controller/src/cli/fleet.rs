//! `krater fleet …`.

use std::{
    io::{self, Write as _},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde::Serialize;
use tokio::time::sleep;

use super::{From, Output, table};
use crate::{
    config::quantity::parse_duration,
    http_client::HttpClient,
    operator::{AmphoraDocument, FleetDocument},
};

#[derive(Subcommand)]
pub(super) enum FleetVerb {
    /// Have the program that is on the hosts' disks take over everywhere: a few amphorae first, then in waves. No
    /// connection is lost. Stops when one does not come back or more fails than before.
    Upgrade(Box<Wish>),
}

/// What to upgrade, and how carefully.
#[derive(Args)]
pub(super) struct Wish {
    /// Only this amphora; may be repeated [default: all].
    #[arg(long = "amphora", value_name = "ID")]
    amphorae: Vec<String>,
    /// How many go first.
    #[arg(long, value_name = "N", default_value_t = 1)]
    canary: usize,
    /// How many go at once after those [default: a quarter].
    #[arg(long, value_name = "N")]
    wave: Option<usize>,
    /// How long to look on after each wave.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    watch: Duration,
    /// How long an amphora may take to be back.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    patience: Duration,
    /// Failures beyond twice those before that are borne, over all that were upgraded.
    #[arg(long, value_name = "N", default_value_t = 20)]
    failures_max: u64,
    #[command(flatten)]
    from: From,
}

/// What became of one amphora.
#[derive(Serialize)]
struct Upgraded {
    id: String,
    version_before: Option<String>,
    version: Option<String>,
    pid: Option<u32>,
    seconds: f64,
}

pub(super) async fn upgrade(wish: Wish) -> anyhow::Result<String> {
    let client = wish.from.client()?;
    let chosen = choose(fleet(&client).await?, &wish.amphorae)?;
    let wave = wish.wave.unwrap_or_else(|| chosen.len().div_ceil(4));
    let mut done: Vec<Upgraded> = Vec::new();
    for wave in waves(chosen.len(), wish.canary, wave) {
        let members = chosen.get(wave).unwrap_or_default();
        let before = failures(&fleet(&client).await?, &ids(members));
        for amphora in members {
            ask(&client, amphora).await?;
        }
        for amphora in members {
            let upgraded = back(&client, amphora, wish.patience)
                .await
                .with_context(|| stopped(done.len(), chosen.len()))?;
            say(&format!(
                "{}  {} -> {}  {:.1} s  ({} of {})",
                upgraded.id,
                upgraded.version_before.as_deref().unwrap_or("?"),
                upgraded.version.as_deref().unwrap_or("?"),
                upgraded.seconds,
                done.len() + 1,
                chosen.len()
            ));
            done.push(upgraded);
        }
        watch(&client, &wish, &ids(members), before)
            .await
            .with_context(|| stopped(done.len(), chosen.len()))?;
    }
    if wish.from.output == Output::Json {
        return Ok(format!("{}\n", serde_json::to_string(&done)?));
    }
    Ok(shown(&done))
}

fn shown(done: &[Upgraded]) -> String {
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = done
        .iter()
        .map(|one| {
            vec![
                one.id.clone(),
                or_dash(&one.version_before),
                or_dash(&one.version),
                or_dash(&one.pid.map(|pid| pid.to_string())),
                format!("{:.1} s", one.seconds),
            ]
        })
        .collect();
    table::columns(&["ID", "BEFORE", "NOW", "PID", "TOOK"], &rows)
}

async fn fleet(client: &HttpClient) -> anyhow::Result<Vec<AmphoraDocument>> {
    let answer = client.get("/krater/v1/amphorae").await?;
    let fleet: FleetDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    Ok(fleet.amphorae)
}

/// Those that were asked for, or all that serve.
fn choose(fleet: Vec<AmphoraDocument>, wanted: &[String]) -> anyhow::Result<Vec<AmphoraDocument>> {
    for id in wanted {
        if !fleet.iter().any(|amphora| amphora.id == *id) {
            bail!("there is no amphora {id}; see: krater amphora list");
        }
    }
    let (ready, others): (Vec<_>, Vec<_>) = fleet
        .into_iter()
        .filter(|amphora| wanted.is_empty() || wanted.contains(&amphora.id))
        .partition(|amphora| amphora.status == SERVES);
    for amphora in &others {
        say(&format!(
            "{}  is {} and left out",
            amphora.id, amphora.status
        ));
    }
    if ready.is_empty() {
        bail!("no amphora serves that could be upgraded; see: krater amphora list");
    }
    Ok(ready)
}

/// Which go together: the canaries, then waves of that size.
fn waves(count: usize, canary: usize, wave: usize) -> Vec<Range<usize>> {
    let first = canary.min(count);
    let mut waves = Vec::new();
    if first > 0 {
        waves.push(0..first);
    }
    let mut begin = first;
    while begin < count {
        let end = count.min(begin + wave.max(1));
        waves.push(begin..end);
        begin = end;
    }
    waves
}

async fn ask(client: &HttpClient, amphora: &AmphoraDocument) -> anyhow::Result<()> {
    let path = format!("/krater/v1/amphorae/{}/upgrade", amphora.id);
    let asked = client.ask(Method::POST, &path, None).await;
    asked.with_context(|| format!("amphora {} cannot be upgraded", amphora.id))?;
    Ok(())
}

/// Waits until another process serves, with all that the one before it did.
async fn back(
    client: &HttpClient,
    before: &AmphoraDocument,
    patience: Duration,
) -> anyhow::Result<Upgraded> {
    let began = Instant::now();
    loop {
        let path = format!("/krater/v1/amphorae/{}", before.id);
        let now: AmphoraDocument = serde_json::from_value(client.get(&path).await?)
            .context("the answer cannot be understood")?;
        if now.pid != before.pid && now.status == SERVES && now.behind == 0 {
            return Ok(Upgraded {
                id: now.id,
                version_before: before.version.clone(),
                version: now.version,
                pid: now.pid,
                seconds: began.elapsed().as_secs_f64(),
            });
        }
        if began.elapsed() >= patience {
            bail!(
                "amphora {} is {} with {} load balancers behind and process {}: no other process took over in time; its \
                 log says why, and what served before goes on",
                now.id,
                now.status,
                now.behind,
                now.pid
                    .map_or_else(|| "?".to_owned(), |pid| pid.to_string())
            );
        }
        sleep(LOOK).await;
    }
}

/// Looks on for a while whether those that were upgraded fail more than before.
async fn watch(
    client: &HttpClient,
    wish: &Wish,
    upgraded: &[String],
    before: u64,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let fleet = fleet(client).await?;
        let now = failures(&fleet, upgraded);
        if is_rising(before, now, wish.failures_max) {
            bail!(
                "{now} requests or connections failed in the last two minutes on those just upgraded, {before} before; \
                 krater lb causes ID tells why"
            );
        }
        if let Some(gone) = fleet
            .iter()
            .find(|amphora| upgraded.contains(&amphora.id) && amphora.status != SERVES)
        {
            bail!(
                "amphora {} is {} after it was upgraded",
                gone.id,
                gone.status
            );
        }
        if began.elapsed() >= wish.watch {
            return Ok(());
        }
        sleep(LOOK.min(wish.watch)).await;
    }
}

fn failures(fleet: &[AmphoraDocument], of: &[String]) -> u64 {
    let its = fleet.iter().filter(|amphora| of.contains(&amphora.id));
    its.map(|amphora| amphora.recent_failures).sum()
}

const fn is_rising(before: u64, now: u64, borne: u64) -> bool {
    now > before.saturating_mul(2).saturating_add(borne)
}

fn ids(amphorae: &[AmphoraDocument]) -> Vec<String> {
    amphorae.iter().map(|amphora| amphora.id.clone()).collect()
}

fn stopped(done: usize, all: usize) -> String {
    format!(
        "stopped after {done} of {all} amphorae; the others run what they ran, and the same command goes on with all"
    )
}

/// Progress, beside what is answered.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What an amphora is called that serves.
const SERVES: &str = "ALLOCATED";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_first_and_everybody_once() {
        let ends = |count, canary, wave| -> Vec<usize> {
            let waves = waves(count, canary, wave);
            assert!(waves.windows(2).all(|two| two[0].end == two[1].start));
            waves.iter().map(|wave| wave.end).collect()
        };
        assert!(ends(0, 1, 4).is_empty());
        assert_eq!(ends(1, 1, 4), [1]);
        assert_eq!(ends(6, 1, 2), [1, 3, 5, 6]);
        assert_eq!(ends(3, 0, 0), [1, 2, 3]);
        assert_eq!(ends(3, 9, 1), [3]);
    }

    #[test]
    fn what_failed_before_is_borne_twice() {
        assert!(!is_rising(0, 20, 20));
        assert!(is_rising(0, 21, 20));
        assert!(!is_rising(100, 220, 20));
        assert!(is_rising(100, 221, 20));
    }
}
