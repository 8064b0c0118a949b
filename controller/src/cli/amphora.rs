//! `krater amphora …`.

use anyhow::Context as _;

use super::{From, Output, table};
use crate::operator::{AmphoraDocument, FleetDocument};

pub(super) async fn list(from: From) -> anyhow::Result<String> {
    let answer = from.client()?.get("/krater/v1/amphorae").await?;
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let fleet: FleetDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    let row = |amphora: &AmphoraDocument| {
        vec![
            amphora.id.clone(),
            amphora.status.clone(),
            amphora.zone.clone(),
            amphora.tenancy.clone(),
            amphora.load_balancers.to_string(),
            amphora.behind.to_string(),
            amphora.agent.clone(),
            amphora.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            amphora
                .last_seen
                .clone()
                .unwrap_or_else(|| "never".to_owned()),
        ]
    };
    let rows: Vec<Vec<String>> = fleet.amphorae.iter().map(row).collect();
    Ok(table::columns(
        &[
            "ID",
            "STATUS",
            "ZONE",
            "TENANCY",
            "LBS",
            "BEHIND",
            "AGENT",
            "PID",
            "LAST SEEN",
        ],
        &rows,
    ))
}

pub(super) async fn show(from: From, id: String) -> anyhow::Result<String> {
    let answer = from
        .client()?
        .get(&format!("/krater/v1/amphorae/{id}"))
        .await?;
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let amphora: AmphoraDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let pairs = [
        ("id", amphora.id),
        ("status", amphora.status),
        ("zone", amphora.zone),
        ("tenancy", amphora.tenancy),
        ("load_balancers", amphora.load_balancers.to_string()),
        ("behind", amphora.behind.to_string()),
        ("agent", amphora.agent),
        ("metrics", or_dash(amphora.metrics)),
        ("version", or_dash(amphora.version)),
        ("pid", or_dash(amphora.pid.map(|pid| pid.to_string()))),
        (
            "last_seen",
            amphora.last_seen.unwrap_or_else(|| "never".to_owned()),
        ),
    ];
    Ok(table::fields(
        &pairs.map(|(name, value)| (name.to_owned(), value)),
    ))
}
