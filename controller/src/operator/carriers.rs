//! The amphorae that carry a load balancer, and which of them has its addresses.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::HeaderMap;
use jiff::Timestamp;
use krater_amphora_api::{AnnouncementReport, AnnouncementState};
use krater_controller_api::Application;
use krater_controller_core::query::{Answer, CarrierView, Query};
use serde::{Deserialize, Serialize};

use super::tell;

/// An amphora that carries a load balancer, as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CarrierDocument {
    pub(crate) amphora: String,
    /// Whether the load balancer was moved away from it and may be there still.
    pub(crate) leaving: bool,
    /// What is in force there; nothing if it has not said so.
    pub(crate) generation: Option<u64>,
    /// `active`, `standby`, `aside` or `down`, if it takes turns at the addresses with another one.
    pub(crate) turn: Option<String>,
    /// Since when it has them, by the clock of its host.
    pub(crate) since: Option<String>,
    /// Why it stands aside or takes no part.
    pub(crate) reason: Option<String>,
}

/// All of them, first places first.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CarriersDocument {
    pub(crate) amphorae: Vec<CarrierDocument>,
}

pub(super) async fn list(
    State(application): State<Arc<dyn Application>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let told = |answer| match answer {
        Answer::CarriersSeen(seen) => Some(CarriersDocument {
            amphorae: seen.into_iter().map(document).collect(),
        }),
        _ => None,
    };
    let asker = (&*application, &headers);
    tell("operator_carriers", asker, &id, Query::CarriersSeen, told).await
}

fn document(view: CarrierView) -> CarrierDocument {
    let announcement = view.seen.as_ref().and_then(|it| it.announcement.as_ref());
    let since = announcement.and_then(|it| i64::try_from(it.since_ms?).ok());
    let since = since.and_then(|at| Timestamp::from_millisecond(at).ok());
    CarrierDocument {
        amphora: view.amphora.to_string(),
        leaving: view.leaving,
        generation: view.seen.as_ref().map(|it| it.generation.number()),
        turn: announcement.map(|it| turn(it).to_owned()),
        since: since.map(|at| at.to_string()),
        reason: announcement.and_then(|it| it.reason.clone()),
    }
}

const fn turn(announcement: &AnnouncementReport) -> &'static str {
    match announcement.state {
        AnnouncementState::Active => "active",
        AnnouncementState::Standby if announcement.aside => "aside",
        AnnouncementState::Standby => "standby",
        AnnouncementState::Down => "down",
    }
}

#[cfg(test)]
mod tests {
    use krater_amphora_api::{AmphoraId, Generation, LoadBalancerId, LoadBalancerReport};
    use uuid::Uuid;

    use super::*;

    fn view(state: AnnouncementState, aside: bool) -> CarrierView {
        CarrierView {
            amphora: AmphoraId::new(Uuid::from_u128(1)),
            leaving: false,
            seen: Some(LoadBalancerReport {
                id: LoadBalancerId::new(Uuid::from_u128(2)),
                generation: Generation::FIRST,
                listeners: Vec::new(),
                pools: Vec::new(),
                announcement: Some(AnnouncementReport {
                    state,
                    since_ms: (state == AnnouncementState::Active).then_some(1_790_000_000_250),
                    aside,
                    reason: aside.then(|| "not heard".to_owned()),
                }),
            }),
        }
    }

    #[test]
    fn whose_turn_it_is_is_told_as_it_was_reported() {
        use AnnouncementState::{Active, Down, Standby};
        let turns = [
            (Active, false),
            (Standby, false),
            (Standby, true),
            (Down, false),
        ];
        let told = turns.map(|(state, aside)| document(view(state, aside)).turn.unwrap());
        assert_eq!(told, ["active", "standby", "aside", "down"]);
        let active = document(view(Active, false));
        assert_eq!(active.since.as_deref(), Some("2026-09-21T14:13:20.25Z"));
        let aside = document(view(Standby, true));
        assert_eq!(
            (aside.since, aside.reason.as_deref()),
            (None, Some("not heard"))
        );
    }

    #[test]
    fn of_one_that_has_said_nothing_nothing_is_told() {
        let mut silent = view(AnnouncementState::Active, false);
        silent.seen = None;
        let told = document(silent);
        assert_eq!((told.generation, told.turn, told.since), (None, None, None));
    }
}
