//! What failed at the listeners of a load balancer lately, by cause.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::HeaderMap;
use krater_amphora_api::Cause;
use krater_controller_api::Application;
use krater_controller_core::query::{Answer, FailureView, Query};
use serde::{Deserialize, Serialize};

use super::tell;

/// All listeners, as they travel to operators.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct FailuresDocument {
    /// Since when this controller counts; windows that begin before hold less than they should.
    pub(crate) since: Option<String>,
    pub(crate) listeners: Vec<ListenerDocument>,
}

/// A listener, as it travels to operators.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ListenerDocument {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
    /// The most frequent first.
    pub(crate) causes: Vec<CauseDocument>,
}

/// A cause. A window is the present minute and so many whole ones before it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CauseDocument {
    pub(crate) cause: String,
    /// `client`, `load_balancer`, `network` or `member`; of a cause that this release does not know, nothing.
    pub(crate) side: Option<String>,
    pub(crate) meaning: Option<String>,
    pub(crate) last_1_minute: u64,
    pub(crate) last_15_minutes: u64,
    pub(crate) last_60_minutes: u64,
}

pub(super) async fn list(
    State(application): State<Arc<dyn Application>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let told = |answer| match answer {
        Answer::FailuresSeen { since, listeners } => Some(FailuresDocument {
            since: since.map(|at| at.to_string()),
            listeners: listeners.into_iter().map(document).collect(),
        }),
        _ => None,
    };
    let asker = (&*application, &headers);
    tell("operator_failures", asker, &id, Query::FailuresSeen, told).await
}

fn document(view: FailureView) -> ListenerDocument {
    let FailureView { listener, recent } = view;
    let mut causes: Vec<_> = recent
        .into_iter()
        .map(|(cause, [minute, quarter, hour])| {
            let known = Cause::named(&cause);
            CauseDocument {
                cause,
                side: known.map(|cause| cause.side().name().to_owned()),
                meaning: known.map(|cause| cause.meaning().to_owned()),
                last_1_minute: minute,
                last_15_minutes: quarter,
                last_60_minutes: hour,
            }
        })
        .collect();
    causes.sort_by_key(|cause| {
        std::cmp::Reverse((
            cause.last_1_minute,
            cause.last_15_minutes,
            cause.last_60_minutes,
        ))
    });
    ListenerDocument {
        id: listener.id.to_string(),
        name: listener.name.to_string(),
        protocol: listener.protocol.name().to_owned(),
        port: listener.protocol_port,
        causes,
    }
}
