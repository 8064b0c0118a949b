//! What of HTTP is told in the access log.

use std::rc::Rc;

use http::{HeaderName, HeaderValue, Version, header::HOST, request::Parts};
use krater_amphora_api::Cause;
use krater_amphora_core::trace::trace_id;

use super::session::{Ends, Session};
use crate::{access::Draft, seat::Seat};

/// Begins the record of a request whose head is complete now, if it is told.
pub(super) fn of_request(session: &Session, seat: &Rc<Seat>, asked: &Parts) -> Option<Draft> {
    let mut draft = begin(seat, session.ends())?;
    draft.note(|record| {
        let Parts {
            method,
            uri,
            version,
            headers,
            ..
        } = asked;
        // That of an absolute target goes before the header, as for the member (RFC 9112 section 3.2.2).
        let authority = uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let host = headers.get(HOST).map(HeaderValue::as_bytes);
        let host = authority.or(host).unwrap_or_default();
        record.ask(method.as_str(), uri.path(), host);
        record.version = Some(match *version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        });
        let mut parents = headers.get_all(TRACE_PARENT).iter();
        if let (Some(parent), None) = (parents.next(), parents.next())
            && let Some(id) = trace_id(parent.as_bytes())
        {
            record.trace(id);
        }
        if let Some(id) = headers.get(REQUEST_ID) {
            record.name(id.as_bytes());
        }
    });
    Some(draft)
}

/// Tells of a connection that has failed with no request under way.
pub(super) fn failure(seat: &Seat, ends: Ends, cause: Option<Cause>, status: Option<u16>) {
    if let Some(mut draft) = begin(seat, ends) {
        draft.note(|record| (record.cause, record.status) = (cause, status));
    }
}

/// Tells of a client that was not let in.
pub(crate) fn turned_away(seat: &Seat, ends: Ends, cause: Cause) {
    failure(seat, ends, Some(cause), None);
}

fn begin(seat: &Seat, ends: Ends) -> Option<Draft> {
    let mut draft = seat.draft()?;
    draft.note(|record| {
        record.client = Some(ends.peer);
        record.vip = Some(ends.local);
    });
    Some(draft)
}

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
