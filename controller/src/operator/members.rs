//! The members of a load balancer as the amphorae that carry it see them.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::HeaderMap;
use krater_amphora_api::MemberHealth;
use krater_controller_api::Application;
use krater_controller_core::query::{Answer, MemberView, Query};
use serde::{Deserialize, Serialize};

use super::tell;

/// A member on an amphora, as it travels to operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct MemberDocument {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) pool: String,
    pub(crate) address: String,
    pub(crate) weight: u16,
    pub(crate) amphora: String,
    /// `no_monitor`, `unproven`, `up` or `down`.
    pub(crate) health: String,
    pub(crate) reason: Option<String>,
    /// Passed over for a while because connections to it failed.
    pub(crate) out: bool,
    /// Open at the amphora's last report.
    pub(crate) active_connections: u64,
}

/// All of them.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct MembersDocument {
    pub(crate) members: Vec<MemberDocument>,
}

pub(super) async fn list(
    State(application): State<Arc<dyn Application>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let told = |answer| match answer {
        Answer::MembersSeen(seen) => Some(MembersDocument {
            members: seen.into_iter().map(document).collect(),
        }),
        _ => None,
    };
    let asker = (&*application, &headers);
    tell("operator_members", asker, &id, Query::MembersSeen, told).await
}

fn document(view: MemberView) -> MemberDocument {
    let MemberView {
        member,
        amphora,
        seen,
    } = view;
    MemberDocument {
        id: member.id.to_string(),
        name: member.name.to_string(),
        pool: member.pool.to_string(),
        address: std::net::SocketAddr::new(member.address, member.protocol_port).to_string(),
        weight: member.weight,
        amphora: amphora.to_string(),
        health: match seen.health {
            MemberHealth::NoMonitor => "no_monitor",
            MemberHealth::Unproven => "unproven",
            MemberHealth::Up => "up",
            MemberHealth::Down => "down",
        }
        .to_owned(),
        reason: seen.reason,
        out: seen.out,
        active_connections: seen.active_connections,
    }
}
