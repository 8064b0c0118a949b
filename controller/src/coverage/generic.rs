//! Requests that lead to the same answer whatever the operation.

use krater_controller_api::openapi::{Operation, Sends};
use serde_json::json;

use super::world::{Sent, World, body_for};

/// A request that should be answered with `status`.
pub(super) async fn request(world: &mut World, operation: &Operation, status: u16) -> Option<Sent> {
    let plain = Sent::with(body_for(world, operation));
    let has_body = !matches!(operation.sends, Sends::Nothing);
    Some(match status {
        _ if status == operation.success => plain,
        400 if has_body => Sent::with_text("{"),
        400 if operation.method == "GET" => plain.query("limit=abc"),
        400 => plain.query("nonsense=1"),
        401 => plain.header("x-auth-token", ""),
        403 => plain.header("x-auth-token", "nobody"),
        404 => plain.lost(),
        406 => plain.header("accept", "application/xml"),
        410 => {
            let keyed = plain.header("idempotency-key", "once");
            world.create_and_delete(operation, &keyed).await;
            keyed
        }
        412 => plain.header("if-match", "\"1000000\""),
        413 => Sent::with_text(&format!("{{\"x\": \"{}\"}}", " ".repeat(120_000))),
        415 => plain.header("content-type", "text/plain"),
        422 => {
            let first = plain.header("idempotency-key", "once");
            let before = world.send(operation, &first).await;
            assert_eq!(before.status, operation.success, "{}", before.text);
            let mut other = first;
            other.body = other.body.map(|mut body| {
                if let Some(object) = body
                    .as_object_mut()
                    .and_then(|root| root.values_mut().next())
                {
                    object["tags"] = json!(["another"]);
                }
                body
            });
            other
        }
        503 => plain.header("x-auth-token", "unknowable"),
        _ => return None,
    })
}
