//! `krater ca …`.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use clap::Subcommand;
use http::Method;
use tokio::time::sleep;

use super::{From, Output, table};
use crate::operator::authority::AuthorityDocument;

#[derive(Subcommand)]
pub(super) enum CaVerb {
    /// Show the authorities that the fleet trusts.
    Show {
        #[command(flatten)]
        from: From,
    },
    /// Have another authority take over: trusted everywhere first, then signing, and the former one forgotten last. No
    /// connection is lost by it. What was broken off goes on when it is asked for again.
    Rotate {
        #[command(flatten)]
        from: From,
    },
}

pub(super) async fn run(verb: CaVerb) -> anyhow::Result<String> {
    match verb {
        CaVerb::Show { from } => {
            let answer = from.client()?.get("/krater/v1/authority").await?;
            told(&from, answer)
        }
        CaVerb::Rotate { from } => rotate(from).await,
    }
}

async fn rotate(from: From) -> anyhow::Result<String> {
    let mut said = String::new();
    loop {
        let client = from.client()?;
        let answer = client
            .ask(Method::POST, "/krater/v1/authority/rotate", None)
            .await?;
        let found: AuthorityDocument = understood(answer.clone())?;
        if found.phase == "settled" {
            return told(&from, answer);
        }
        let line = match found.waiting.as_slice() {
            [] => found.phase,
            waiting => format!("{}, waiting for {}", found.phase, waiting.join("; ")),
        };
        if line != said {
            let _ = writeln!(io::stderr(), "{line}");
            said = line;
        }
        sleep(ASK_AGAIN).await;
    }
}

fn told(from: &From, answer: serde_json::Value) -> anyhow::Result<String> {
    if from.output == Output::Json {
        return Ok(format!("{answer}\n"));
    }
    let found = understood(answer)?;
    let row = |one: &crate::operator::authority::TrustedDocument| {
        let role = if one.signs { "signs" } else { "is trusted" };
        vec![one.fingerprint.clone(), role.to_owned()]
    };
    let rows: Vec<Vec<String>> = found.authorities.iter().map(row).collect();
    Ok(table::columns(&["FINGERPRINT", "ROLE"], &rows))
}

fn understood(answer: serde_json::Value) -> anyhow::Result<AuthorityDocument> {
    serde_json::from_value(answer).context("the answer cannot be understood")
}

/// Between two steps, or two looks at who has followed.
const ASK_AGAIN: Duration = Duration::from_secs(1);
