//! Rules of session persistence (reference 7.4).

use alloc::{format, string::String};

use crate::{
    command::PersistenceUpdate,
    limits,
    model::{PersistenceType, PoolProtocol, SessionPersistence},
    refusal::Refusal,
};

/// What a pool of `protocol` has after `update`, when it had `old`. Only the type is carried over.
pub(super) fn changed(
    old: Option<&SessionPersistence>,
    update: PersistenceUpdate,
    protocol: PoolProtocol,
) -> Result<SessionPersistence, Refusal> {
    let PersistenceUpdate {
        kind,
        cookie_name,
        timeout_seconds,
        granularity,
    } = update;
    let kind = kind
        .or_else(|| old.map(|old| old.kind))
        .ok_or_else(|| Refusal::Invalid("Invalid session_persistence provided.".into()))?;
    let new = SessionPersistence {
        kind,
        cookie_name,
        timeout_seconds,
        granularity,
    };
    check(&new, protocol)?;
    Ok(new)
}

/// What a pool of `protocol` may have.
pub(super) fn check(new: &SessionPersistence, protocol: PoolProtocol) -> Result<(), Refusal> {
    if protocol.is_streamless() {
        return check_streamless(new);
    }
    let app = new.kind == PersistenceType::AppCookie;
    let has_requests = !matches!(protocol, PoolProtocol::Tcp | PoolProtocol::Https);
    if new.kind != PersistenceType::SourceIp && !has_requests {
        return Err(Refusal::Invalid(format!(
            "Session persistence of type {} is not supported for TCP/HTTPS protocol pools.",
            new.kind.name()
        )));
    }
    match new.cookie_name.as_deref() {
        None if app => Err(invalid(
            "Field \"cookie_name\" must be specified when using the \"APP_COOKIE\" session persistence type.",
        )),
        Some(_) if !app => Err(invalid(
            "Field \"cookie_name\" can only be specified with session persistence of type \"APP_COOKIE\".",
        )),
        Some(name) if !is_cookie_name(name) => Err(invalid("Supplied \"cookie_name\" is invalid.")),
        _ if new.timeout_seconds.is_some() || new.granularity.is_some() => Err(invalid(
            "persistence_timeout and persistence_granularity is only for UDP and SCTP protocol pools.",
        )),
        _ => Ok(()),
    }
}

fn check_streamless(new: &SessionPersistence) -> Result<(), Refusal> {
    if new.kind != PersistenceType::SourceIp {
        return Err(Refusal::Invalid(format!(
            "Session persistence of type {} is not supported for UDP/SCTP protocol pools.",
            new.kind.name()
        )));
    }
    if new.cookie_name.is_some() {
        return Err(invalid(
            "Cookie names are not supported for UDP/SCTP pools.",
        ));
    }
    Ok(())
}

/// A token of RFC 2616, which is what a cookie's name is.
fn is_cookie_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    (1..=limits::TEXT_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(fits)
}

fn invalid(sentence: &str) -> Refusal {
    Refusal::Invalid(String::from(sentence))
}
