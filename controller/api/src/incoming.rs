//! What every request is checked for before its route is: media types, size, where it was sent to.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use krater_controller_core::model::ProjectId;
use serde_json::Value;

use crate::{application::Credentials, fault::Fault, reply::Reply, settings::Settings};

/// Why a body could not be had.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NoBody {
    /// As any other refusal.
    Refused(Fault),
    /// 413, which is plain text (reference 1.2).
    TooLarge,
    /// The client went away in the middle; nobody reads the answer.
    Broken,
}

/// Who says to send the request. A project that cannot be one is refused: without it, the request would be about
/// another one's things.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<Credentials, Fault> {
    let token = |name: &str| {
        let value = headers.get(name)?;
        value.to_str().ok().map(String::from)
    };
    let project = headers
        .get("x-project-id")
        .filter(|value| !value.is_empty())
        .map(|value| {
            value
                .to_str()
                .ok()
                .filter(|text| ProjectId::parse(text).is_some())
                .map(String::from)
                .ok_or_else(|| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    let reason = "Value should be a project id of at most 36 characters";
                    Fault::input("X-Project-Id", &value, reason)
                })
        })
        .transpose()?;
    Ok(Credentials {
        token: token("x-auth-token"),
        service_token: token("x-service-token"),
        project,
    })
}

/// The address the API was reached at, without a trailing slash; `prefix` is the part of the path before it.
pub(crate) fn base(parts: &Parts, settings: &Settings, prefix: &str) -> String {
    if let Some(base) = &settings.api_base_uri {
        return base.trim_end_matches('/').to_owned();
    }
    let host = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    format!("http://{}{prefix}", host.unwrap_or("localhost"))
}

/// Refuses clients that will not read JSON; those that do not say will.
pub(crate) fn check_accept(headers: &HeaderMap) -> Result<(), Fault> {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| {
            range
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        })
        .filter(|range| !range.is_empty())
        .peekable();
    let json =
        |range: String| matches!(range.as_str(), "*/*" | "application/*" | "application/json");
    if ranges.peek().is_none() || ranges.any(json) {
        return Ok(());
    }
    Err(Fault::routing(
        StatusCode::NOT_ACCEPTABLE,
        "Not Acceptable",
        "",
    ))
}

/// The body as JSON; `argument` is the name of what is missing if there is none.
pub(crate) async fn json_body(
    headers: &HeaderMap,
    body: Body,
    body_bytes_max: usize,
    argument: &str,
) -> Result<Value, NoBody> {
    let bytes = body_bytes(body, body_bytes_max).await?;
    let missing = || {
        NoBody::Refused(Fault::bad_request(format!(
            "Missing argument: \"{argument}\""
        )))
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(missing());
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match media_type.as_str() {
        "" | "application/json" => {}
        // Read as if there were no body at all (reference 1.2).
        "application/x-www-form-urlencoded" => return Err(missing()),
        other => {
            let sentence = format!("Unknown mimetype: {other}");
            return Err(NoBody::Refused(Fault::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                sentence,
            )));
        }
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| NoBody::Refused(Fault::bad_request("Request is not in valid JSON format")))
}

/// Makes sure that a body asks for nothing: there is none, or an empty object.
pub(crate) async fn no_body(body: Body, body_bytes_max: usize) -> Result<(), NoBody> {
    let bytes = body_bytes(body, body_bytes_max).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let refuse = |sentence: String| Err(NoBody::Refused(Fault::bad_request(sentence)));
    match serde_json::from_slice(&bytes) {
        Ok(Value::Null) => Ok(()),
        Ok(Value::Object(fields)) => match fields.keys().next() {
            None => Ok(()),
            Some(name) => refuse(format!("Unknown argument: \"{name}\"")),
        },
        _ => refuse("Request is not in valid JSON format".to_owned()),
    }
}

/// The answer to a body that is too large.
pub(crate) fn too_large(body_bytes_max: usize) -> Reply {
    let text =
        format!("The request is too large: its body may have at most {body_bytes_max} bytes.\n");
    Reply::Text(
        StatusCode::PAYLOAD_TOO_LARGE,
        "text/plain; charset=UTF-8",
        text,
    )
}

async fn body_bytes(body: Body, body_bytes_max: usize) -> Result<Bytes, NoBody> {
    match Limited::new(body, body_bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(NoBody::TooLarge),
        Err(_) => Err(NoBody::Broken),
    }
}
