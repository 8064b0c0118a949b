//! `krater host …`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{From, Output, table};
use crate::{
    config::quantity::parse_duration,
    operator::hosts::{HostDocument, HostsDocument, TokenDocument},
};

#[derive(Subcommand)]
pub(super) enum HostVerb {
    /// Make a token that lets one host in (krater-amphora join).
    Token(Box<Token>),
    /// List all.
    List {
        #[command(flatten)]
        from: From,
    },
    /// Show one, with the amphorae on it.
    Show {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
    /// Have everything leave it; nothing new goes there.
    Drain {
        /// Its id or name.
        id: String,
        /// Wait until nothing is left on it.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        from: From,
    },
    /// Let it carry load balancers again.
    Undrain {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
    /// Have it make new keys, for itself and its amphorae, and have them certified. By itself it does so in time.
    Renew {
        /// Its id or name.
        id: String,
        #[command(flatten)]
        from: From,
    },
    /// Remove it: its certificates count for nothing from then on.
    Remove {
        /// Its id or name.
        id: String,
        /// Though it carries load balancers: it is gone for good, and they are served elsewhere.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        from: From,
    },
}

#[derive(Args)]
pub(super) struct Token {
    /// The zone of the host [default: the only one].
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// How long the token is good, from 60s to 168h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    lifetime: Duration,
    /// The most load balancers on the host [default: no limit].
    #[arg(long, value_name = "N")]
    load_balancers_max: Option<u32>,
    /// The most amphorae on the host [default: no limit].
    #[arg(long, value_name = "N")]
    amphorae_max: Option<u32>,
    #[command(flatten)]
    from: From,
}

pub(super) async fn run(verb: HostVerb) -> anyhow::Result<String> {
    match verb {
        HostVerb::Token(wish) => token(*wish).await,
        HostVerb::List { from } => list(from).await,
        HostVerb::Show { id, from } => show(&from, &id).await,
        HostVerb::Drain { id, wait, from } => drain(&from, &id, wait).await,
        HostVerb::Undrain { id, from } => {
            let answer = ask(&from, Method::POST, &format!("/{id}/undrain"), None).await?;
            told(&from, answer, |_| {
                format!("host {id} carries load balancers again\n")
            })
        }
        HostVerb::Renew { id, from } => {
            let answer = ask(&from, Method::POST, &format!("/{id}/renew"), None).await?;
            told(&from, answer, |_| {
                format!("host {id} and its amphorae have new keys and certificates\n")
            })
        }
        HostVerb::Remove { id, force, from } => {
            let path = format!("/{id}?force={force}");
            let answer = ask(&from, Method::DELETE, &path, None).await?;
            if from.output == Output::Json {
                return Ok(format!("{answer}\n"));
            }
            Ok(format!("host {id} is removed\n"))
        }
    }
}

async fn token(wish: Token) -> anyhow::Result<String> {
    let body = json!({
        "zone": wish.zone,
        "lifetime_seconds": wish.lifetime.as_secs(),
        "load_balancers_max": wish.load_balancers_max,
        "amphorae_max": wish.amphorae_max,
    });
    let answer = ask(&wish.from, Method::POST, "/tokens", Some(&body)).await?;
    if wish.from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let made: TokenDocument = understood(answer)?;
    Ok(format!(
        "token       {}\nzone        {}\nexpires_at  {}\n\nIt lets one host in. On that host:\n  krater-amphora join --controller CONTROLLER:9877 --token {}\n",
        made.token, made.zone, made.expires_at, made.token
    ))
}

async fn list(from: From) -> anyhow::Result<String> {
    let answer = ask(&from, Method::GET, "", None).await?;
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let hosts: HostsDocument = understood(answer)?;
    let row = |host: &HostDocument| {
        vec![
            host.id.clone(),
            host.name.clone(),
            host.zone.clone(),
            host.state.clone(),
            host.status.clone(),
            of_most(host.load_balancers, host.load_balancers_max),
            of_most(host.amphorae.len() as u64, host.amphorae_max),
            host.agent.clone(),
            or_never(host.last_seen.clone()),
        ]
    };
    let head = [
        "ID",
        "NAME",
        "ZONE",
        "STATE",
        "STATUS",
        "LBS",
        "AMPHORAE",
        "AGENT",
        "LAST SEEN",
    ];
    let rows: Vec<Vec<String>> = hosts.hosts.iter().map(row).collect();
    Ok(table::columns(&head, &rows))
}

async fn show(from: &From, id: &str) -> anyhow::Result<String> {
    let answer = ask(from, Method::GET, &format!("/{id}"), None).await?;
    told(from, answer, describe)
}

async fn drain(from: &From, id: &str, wait: bool) -> anyhow::Result<String> {
    let mut answer = ask(from, Method::POST, &format!("/{id}/drain"), None).await?;
    while wait
        && !understood::<HostDocument>(answer.clone())?
            .amphorae
            .is_empty()
    {
        sleep(LOOK_AGAIN).await;
        answer = ask(from, Method::GET, &format!("/{id}"), None).await?;
        if understood::<HostDocument>(answer.clone())?.state != "draining" {
            bail!("somebody else changed host {id} meanwhile: it is not draining any more");
        }
    }
    told(from, answer, |host| {
        if host.amphorae.is_empty() {
            return format!("host {id} is empty: it can be removed (krater host remove {id})\n");
        }
        format!(
            "host {id} is draining: {} load balancers on {} amphorae are left (krater host show {id})\n",
            host.load_balancers,
            host.amphorae.len()
        )
    })
}

async fn ask(
    from: &From,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let path = format!("/krater/v1/hosts{path}");
    Ok(from.client()?.ask(method, &path, body).await?)
}

/// An answer about one host, as it is asked for.
fn told(
    from: &From,
    answer: Value,
    words: impl FnOnce(HostDocument) -> String,
) -> anyhow::Result<String> {
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    understood(answer).map(words)
}

fn understood<T: serde::de::DeserializeOwned>(answer: Value) -> anyhow::Result<T> {
    serde_json::from_value(answer).context("the answer cannot be understood")
}

fn describe(host: HostDocument) -> String {
    let mut pairs = vec![
        ("id", host.id),
        ("name", host.name),
        ("zone", host.zone),
        ("state", host.state),
        ("status", host.status),
        ("agent", host.agent),
        ("version", host.version),
        ("cores", host.cores.to_string()),
        ("memory", format!("{} MiB", host.memory_bytes >> 20)),
        ("networks", host.networks),
        (
            "load_balancers",
            of_most(host.load_balancers, host.load_balancers_max),
        ),
        (
            "amphorae",
            of_most(host.amphorae.len() as u64, host.amphorae_max),
        ),
        ("enrolled_at", host.enrolled_at),
        ("last_seen", or_never(host.last_seen)),
    ];
    for amphora in host.amphorae {
        let mut text = format!(
            "{} {}, {} load balancers",
            amphora.id, amphora.status, amphora.load_balancers
        );
        if let Some(trouble) = amphora.trouble {
            text = format!("{text}: {trouble}");
        }
        pairs.push(("amphora", text));
    }
    for event in host.events {
        pairs.push(("event", format!("{} {}", event.at, event.what)));
    }
    let pairs: Vec<(String, String)> = pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    table::fields(&pairs)
}

fn of_most(count: u64, most: Option<u32>) -> String {
    most.map_or_else(|| count.to_string(), |most| format!("{count} of {most}"))
}

fn or_never(time: Option<String>) -> String {
    time.unwrap_or_else(|| "never".to_owned())
}

/// Between two looks at a host that drains.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
