//! What every secret store must do, as checks to run against it in its tests.

use krater_controller_core::{model::ProjectId, secret::Need};

use crate::{DriverError, RawSecret, Secret, SecretStore, kit::Breach};

/// What a secret store holds, for the checks.
pub struct Holdings<'a> {
    /// Secrets that `owner` may use, each good for its purpose.
    pub good: &'a [Need],
    /// Secrets of `owner` that are not what they are needed for.
    pub unusable: &'a [Need],
    /// What is not there, or can be no reference.
    pub absent: &'a [Need],
    /// Whose they are.
    pub owner: &'a ProjectId,
    /// Somebody who may use none of them; none where whoever may ask is judged by their tokens.
    pub stranger: Option<&'a ProjectId>,
}

/// Checks a secret store.
///
/// # Errors
/// The first [`Breach`].
pub async fn check_secrets(store: &dyn SecretStore, holds: &Holdings<'_>) -> Result<(), Breach> {
    for need in holds.good {
        let rule = "what is there is read, the same each time, and good for its purpose";
        let first = store.fetch(holds.owner, need).await;
        let second = store.fetch(holds.owner, need).await;
        let (first, second) = (digest(rule, need, first)?, digest(rule, need, second)?);
        if first != second {
            return Err(breach(rule, need, "it is another one the second time"));
        }
    }
    for need in holds.unusable {
        let rule = "what is not good for its purpose is read all the same";
        let raw = store.fetch(holds.owner, need).await;
        let raw = raw.map_err(|error| breach(rule, need, &error.to_string()))?;
        if Secret::read(need.purpose, &raw).is_ok() {
            return Err(breach(rule, need, "it is good"));
        }
    }
    for need in holds.absent {
        let rule = "what is not there is not found, and asking again would not help";
        match store.fetch(holds.owner, need).await {
            Err(DriverError::NotFound(_) | DriverError::Permanent(_)) => {}
            Err(error) => return Err(breach(rule, need, &error.to_string())),
            Ok(_) => return Err(breach(rule, need, "it is read")),
        }
    }
    let Some(stranger) = holds.stranger else {
        return Ok(());
    };
    for need in holds.good {
        let rule = "what a project may not use is not found for it";
        match store.fetch(stranger, need).await {
            Err(DriverError::NotFound(_)) => {}
            Err(error) => return Err(breach(rule, need, &error.to_string())),
            Ok(_) => return Err(breach(rule, need, "it is read")),
        }
    }
    Ok(())
}

fn digest(
    rule: &'static str,
    need: &Need,
    raw: Result<RawSecret, DriverError>,
) -> Result<[u8; 32], Breach> {
    let raw = raw.map_err(|error| breach(rule, need, &error.to_string()))?;
    Secret::read(need.purpose, &raw)
        .map(|secret| secret.digest())
        .map_err(|unusable| breach(rule, need, &unusable.to_string()))
}

fn breach(rule: &'static str, need: &Need, found: &str) -> Breach {
    Breach {
        rule,
        found: format!("{}: {found}", need.reference.as_str()),
    }
}
