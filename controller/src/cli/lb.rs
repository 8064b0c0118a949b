//! `krater lb …`.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{From, Look, Output, table};
use crate::{
    http_client::HttpClient,
    operator::{
        CarrierDocument, CarriersDocument, CauseDocument, FailuresDocument, MemberDocument,
        MembersDocument,
    },
};

#[derive(Subcommand)]
pub(super) enum LbVerb {
    #[command(flatten)]
    Look(Look),
    /// List the members of one as its amphora sees them: health, whether they are passed over, connections open.
    Members {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
    /// List the amphorae that carry one: which has its addresses and since when, who stands by or aside and why.
    Amphorae {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
    /// Show why requests and connections failed in the last hour: by listener, the most frequent causes first.
    Causes {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
}

pub(super) async fn list(from: From) -> anyhow::Result<String> {
    let client = from.client()?;
    let balancers = all(&client, "").await?;
    if from.output == Output::Json {
        return Ok(format!("{}\n", json!({ "loadbalancers": balancers })));
    }
    let fields = [
        "id",
        "name",
        "vip_address",
        "provisioning_status",
        "operating_status",
    ];
    let row = |balancer: &Value| {
        fields
            .iter()
            .map(|field| shown(balancer.get(field)))
            .collect()
    };
    let rows: Vec<Vec<String>> = balancers.iter().map(row).collect();
    Ok(table::columns(
        &["ID", "NAME", "VIP", "PROVISIONING", "OPERATING"],
        &rows,
    ))
}

pub(super) async fn show(from: From, name: String) -> anyhow::Result<String> {
    let balancer = find(&from.client()?, &name).await?;
    if from.output == Output::Json {
        return Ok(format!("{balancer}\n"));
    }
    let pairs = balancer
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), shown(Some(value))));
    Ok(table::fields(&pairs.collect::<Vec<_>>()))
}

pub(super) async fn members(from: From, name: String) -> anyhow::Result<String> {
    let answer = seen(&from, &name, "members").await?;
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let seen: MembersDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    let row = |member: &MemberDocument| {
        vec![
            member.id.clone(),
            member.name.clone(),
            member.pool.clone(),
            member.address.clone(),
            member.weight.to_string(),
            member.health.clone(),
            if member.out { "out" } else { "in" }.to_owned(),
            member.active_connections.to_string(),
            member.amphora.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = seen.members.iter().map(row).collect();
    let heads = [
        "ID",
        "NAME",
        "POOL",
        "ADDRESS",
        "WEIGHT",
        "HEALTH",
        "ROTATION",
        "CONNECTIONS",
        "AMPHORA",
    ];
    Ok(table::columns(&heads, &rows))
}

pub(super) async fn amphorae(from: From, name: String) -> anyhow::Result<String> {
    let answer = seen(&from, &name, "amphorae").await?;
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let seen: CarriersDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    Ok(carriers_table(&seen))
}

fn carriers_table(seen: &CarriersDocument) -> String {
    let unknown = || "-".to_owned();
    let row = |carrier: &CarrierDocument| {
        let turn = match carrier {
            CarrierDocument { leaving: true, .. } => Some("leaving".to_owned()),
            CarrierDocument { turn, .. } => turn.clone(),
        };
        let since = carrier.since.as_ref().map(|at| whole_seconds(at));
        let generation = carrier.generation.map(|number| number.to_string());
        vec![
            carrier.amphora.clone(),
            turn.unwrap_or_else(unknown),
            since.unwrap_or_else(unknown),
            generation.unwrap_or_else(unknown),
        ]
    };
    let rows: Vec<Vec<String>> = seen.amphorae.iter().map(row).collect();
    let mut text = table::columns(&["AMPHORA", "TURN", "SINCE", "GENERATION"], &rows);
    for carrier in &seen.amphorae {
        if let Some(reason) = &carrier.reason {
            text += &format!("\n{}:\n  {reason}\n", carrier.amphora);
        }
    }
    text
}

/// A time without what is after its seconds.
fn whole_seconds(at: &str) -> String {
    match at.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => at.to_owned(),
    }
}

pub(super) async fn causes(from: From, name: String) -> anyhow::Result<String> {
    let answer = seen(&from, &name, "failures").await?;
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let seen: FailuresDocument =
        serde_json::from_value(answer).context("the answer cannot be understood")?;
    Ok(causes_table(&seen))
}

fn causes_table(seen: &FailuresDocument) -> String {
    let row = |cause: &CauseDocument| {
        vec![
            cause.cause.clone(),
            cause.side.clone().unwrap_or_else(|| "-".to_owned()),
            cause.last_1_minute.to_string(),
            cause.last_15_minutes.to_string(),
            cause.last_60_minutes.to_string(),
        ]
    };
    let mut text = String::new();
    for listener in &seen.listeners {
        let name = if listener.name.is_empty() {
            &listener.id
        } else {
            &listener.name
        };
        text += &format!(
            "listener {name} ({}, port {})\n",
            listener.protocol, listener.port
        );
        if listener.causes.is_empty() {
            text += "nothing failed\n\n";
            continue;
        }
        let rows: Vec<Vec<String>> = listener.causes.iter().map(row).collect();
        let heads = ["CAUSE", "FAULT OF", "1 MIN", "15 MIN", "60 MIN"];
        text += &table::columns(&heads, &rows);
        text.push('\n');
    }
    let since = seen
        .since
        .as_deref()
        .unwrap_or("the first report of its amphora");
    text + &format!("counted since {since}\n")
}

/// What operators are told of a part of a load balancer.
async fn seen(from: &From, name: &str, part: &str) -> anyhow::Result<Value> {
    let client = from.client()?;
    let id = match Uuid::parse_str(name) {
        Ok(id) => id.to_string(),
        Err(_) => shown(find(&client, name).await?.get("id")),
    };
    let path = format!("/krater/v1/loadbalancers/{id}/{part}");
    Ok(client.get(&path).await?)
}

/// One load balancer, by id or name.
async fn find(client: &HttpClient, name: &str) -> anyhow::Result<Value> {
    if Uuid::parse_str(name).is_ok() {
        let answer = client.get(&format!("{PATH}/{name}")).await?;
        return Ok(answer.get("loadbalancer").cloned().unwrap_or_default());
    }
    let mut named = all(client, &format!("&name={}", encoded(name))).await?;
    match (named.pop(), named.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), more) => bail!(
            "{} load balancers are called {name:?}: name one by its id",
            more + 1
        ),
        (None, _) => bail!("no load balancer is called {name:?}"),
    }
}

/// All pages of the list.
async fn all(client: &HttpClient, filter: &str) -> anyhow::Result<Vec<Value>> {
    let mut balancers: Vec<Value> = Vec::new();
    loop {
        let last = balancers.last().map(|last| shown(last.get("id")));
        let marker = last.map(|id| format!("&marker={id}")).unwrap_or_default();
        let mut answer = client
            .get(&format!("{PATH}?limit={PAGE}{filter}{marker}"))
            .await?;
        let more = answer
            .get("loadbalancers_links")
            .and_then(Value::as_array)
            .is_some_and(|links| {
                links
                    .iter()
                    .any(|link| link.get("rel").and_then(Value::as_str) == Some("next"))
            });
        let page = answer.get_mut("loadbalancers").map(Value::take);
        let Some(Value::Array(page)) = page else {
            bail!("the answer is not a list of load balancers")
        };
        let empty = page.is_empty();
        balancers.extend(page);
        if !more || empty {
            return Ok(balancers);
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let item = |item: &Value| {
                item.get("id")
                    .map_or_else(|| shown(Some(item)), |id| shown(Some(id)))
            };
            items.iter().map(item).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986, 2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

const PATH: &str = "/v2.0/lbaas/loadbalancers";
const PAGE: u32 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::ListenerDocument;

    #[test]
    fn a_name_travels_whatever_is_in_it() {
        assert_eq!(encoded("a b&c=ü/1"), "a%20b%26c%3D%C3%BC%2F1");
    }

    #[test]
    fn who_carries_a_load_balancer_fits_a_terminal() {
        let carrier = |turn: &str, leaving| CarrierDocument {
            amphora: Uuid::nil().to_string(),
            leaving,
            generation: Some(1_234_567_890),
            turn: Some(turn.to_owned()),
            since: (turn == "active").then(|| "2026-09-21T13:33:20.25Z".to_owned()),
            reason: (turn == "aside").then(|| "not heard".to_owned()),
        };
        let seen = CarriersDocument {
            amphorae: vec![
                carrier("active", false),
                carrier("aside", false),
                carrier("standby", true),
            ],
        };
        let text = carriers_table(&seen);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(
            text.contains("  active   2026-09-21T13:33:20Z  1234567890\n"),
            "{text}"
        );
        assert!(text.contains("  leaving  - "), "{text}");
        assert!(text.ends_with(":\n  not heard\n"), "{text}");
    }

    #[test]
    fn causes_fit_a_terminal() {
        let cause = |name: &str| CauseDocument {
            cause: name.to_owned(),
            side: Some("load_balancer".to_owned()),
            meaning: None,
            last_1_minute: 1,
            last_15_minutes: 20_000_000,
            last_60_minutes: 2_000_000_000,
        };
        let listener = ListenerDocument {
            id: Uuid::nil().to_string(),
            name: String::new(),
            protocol: "HTTP".to_owned(),
            port: 80,
            causes: krater_amphora_api::Cause::ALL
                .iter()
                .map(|known| cause(known.name()))
                .collect(),
        };
        let seen = FailuresDocument {
            since: None,
            listeners: vec![listener],
        };
        let text = causes_table(&seen);
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("\nmember_refused "), "{text}");
    }

    #[test]
    fn values_are_shown_for_people() {
        assert_eq!(shown(Some(&json!([{ "id": "1" }, { "id": "2" }]))), "1, 2");
        assert_eq!(shown(Some(&json!(null))), "-");
        assert_eq!(shown(Some(&json!(true))), "true");
        assert_eq!(shown(Some(&json!(["a", "b"]))), "a, b");
    }
}
