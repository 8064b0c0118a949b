//! Session persistence of pools as JSON (reference 7.4).

use core::net::IpAddr;

use krater_controller_core::{
    command::PersistenceUpdate,
    model::{PersistenceType, SessionPersistence},
};
use serde_json::{Value, json};

use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads `session_persistence` of a new pool, which names its type.
pub(crate) fn read_new(fields: &mut Fields) -> Result<Option<SessionPersistence>, Fault> {
    let given = read(fields, |given, update| {
        Ok(SessionPersistence {
            kind: given.mandatory("type")?,
            cookie_name: update.cookie_name,
            timeout_seconds: update.timeout_seconds,
            granularity: update.granularity,
        })
    })?;
    Ok(given.value())
}

/// Reads `session_persistence` of a pool's update, which may leave its type as it is.
pub(crate) fn read_update(fields: &mut Fields) -> Result<Given<PersistenceUpdate>, Fault> {
    read(fields, |given, update| {
        Ok(PersistenceUpdate {
            kind: given.value(),
            ..update
        })
    })
}

/// Reads the object; `finish` makes of its type and the rest what is wanted.
fn read<T>(
    fields: &mut Fields,
    finish: impl FnOnce(Given<PersistenceType>, PersistenceUpdate) -> Result<T, Fault>,
) -> Result<Given<T>, Fault> {
    let path = fields.path_of(ROOT);
    fields.take(ROOT).parse(|value| {
        body::read(value, &path, |fields| {
            let kind = fields.one_of("type", &PersistenceType::ALL, PersistenceType::name)?;
            let update = PersistenceUpdate {
                kind: None,
                cookie_name: fields
                    .text("cookie_name", body::TEXT_CHARACTERS_MAX)?
                    .value(),
                timeout_seconds: fields
                    .integer("persistence_timeout", 0, i64::from(i32::MAX))?
                    .value(),
                granularity: fields.address("persistence_granularity")?.value(),
            };
            finish(kind, update)
        })
    })
}

/// The object, or null.
pub(crate) fn render(persistence: Option<&SessionPersistence>) -> Value {
    let Some(persistence) = persistence else {
        return Value::Null;
    };
    json!({
        "type": persistence.kind.name(),
        "cookie_name": persistence.cookie_name,
        "persistence_timeout": persistence.timeout_seconds,
        "persistence_granularity": persistence.granularity.map(|mask: IpAddr| mask.to_string()),
    })
}

/// The key.
pub(crate) const ROOT: &str = "session_persistence";
