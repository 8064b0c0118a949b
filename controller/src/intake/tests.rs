//! Reports over the wire: who is believed, about what, and what follows from it.

use std::{collections::BTreeSet, net::SocketAddr};

use http_body_util::BodyExt as _;
use krater_amphora_api::{BootId, ContractVersion, Info};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::*;
use crate::{fleet, testbed::House};

/// An intake beside the house's pretended amphora.
struct Desk {
    house: House,
    intake: Arc<Intake>,
    folder: tempfile::TempDir,
}

/// Gathers a fleet that runs nowhere.
async fn gather(house: &House, folder: &tempfile::TempDir, amphorae: usize) -> Arc<Fleet> {
    let parts = fleet::tests::parts(house, folder, amphorae);
    Arc::new(Fleet::gather(parts).await.unwrap())
}

impl Desk {
    async fn open(amphorae: usize) -> Self {
        let house = House::build().await;
        let folder = tempfile::tempdir().unwrap();
        let fleet = gather(&house, &folder, amphorae).await;
        let intake = Arc::new(Intake::new(
            house.known.clone(),
            fleet.hosts(),
            fleet,
            Arc::clone(&house.reconciler),
        ));
        Self {
            house,
            intake,
            folder,
        }
    }

    async fn post(&self, from: Option<AmphoraId>, body: Vec<u8>) -> (StatusCode, String) {
        self.post_to("/v1/reports", from, body).await
    }

    async fn post_to(
        &self,
        path: &str,
        from: Option<AmphoraId>,
        body: Vec<u8>,
    ) -> (StatusCode, String) {
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            amphora: from,
            host: None,
        };
        let mut request = Request::post(path).body(Body::from(body)).unwrap();
        request.extensions_mut().insert(peer);
        let response = self.intake.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

fn report(amphora: AmphoraId) -> Report {
    let info = Info {
        amphora,
        boot: BootId::new(Uuid::from_u128(1)),
        contract: ContractVersion::CURRENT,
        version: "9.9.9".to_owned(),
        pid: 77,
        workers: 1,
        addresses: Vec::new(),
    };
    Report {
        info,
        sequence: 1,
        load_balancers: Vec::new(),
        metrics_port: None,
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[tokio::test]
async fn an_amphora_is_believed_about_itself_alone() {
    let desk = Desk::open(1).await;
    let own = desk.intake.fleet.ids()[0];
    let other = AmphoraId::new(Uuid::from_u128(99));
    assert_eq!(
        desk.post(Some(own), json(&report(own))).await.0,
        StatusCode::OK
    );
    assert_eq!(
        desk.post(Some(own), json(&report(other))).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        desk.post(Some(other), json(&report(other))).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        desk.post(None, json(&report(own))).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        desk.post(Some(own), b"{}".to_vec()).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_newer_report_with_fields_nobody_knows_is_taken() {
    let desk = Desk::open(1).await;
    let own = desk.intake.fleet.ids()[0];
    let mut value = serde_json::to_value(report(own)).unwrap();
    value["from_the_future"] = serde_json::json!({ "a": 1 });
    let (status, answer) = desk
        .post(Some(own), serde_json::to_vec(&value).unwrap())
        .await;
    assert_eq!(
        (status, answer.as_str()),
        (StatusCode::OK, "{\"again\":false,\"remembers\":true}")
    );
}

#[tokio::test]
async fn changes_are_taken_when_it_is_remembered_what_they_follow() {
    let desk = Desk::open(1).await;
    let own = desk.intake.fleet.ids()[0];
    let changes = |sequence| ReportChanges {
        amphora: own,
        boot: report(own).info.boot,
        since: sequence - 1,
        sequence,
        load_balancers: Vec::new(),
        gone: Vec::new(),
    };
    let post = async |from, changes| {
        let posted = desk.post_to("/v1/reports/changes", from, json(&changes));
        posted.await.0
    };
    let other = AmphoraId::new(Uuid::from_u128(99));
    assert_eq!(post(Some(own), changes(2)).await, StatusCode::CONFLICT);
    desk.post(Some(own), json(&report(own))).await;
    assert_eq!(post(Some(other), changes(2)).await, StatusCode::FORBIDDEN);
    assert_eq!(post(None, changes(2)).await, StatusCode::FORBIDDEN);
    assert_eq!(post(Some(own), changes(2)).await, StatusCode::OK);
    assert_eq!(post(Some(own), changes(4)).await, StatusCode::CONFLICT);
    assert_eq!(post(Some(own), changes(3)).await, StatusCode::OK);
}

#[tokio::test]
async fn what_an_amphora_says_of_itself_is_shown_and_kept() {
    let desk = Desk::open(1).await;
    let own = desk.intake.fleet.ids()[0];
    assert_eq!(desk.intake.fleet.status(own), AmphoraStatus::Booting);
    desk.post(Some(own), json(&report(own))).await;
    let view = desk.intake.fleet.views(&|_| 0).remove(0);
    assert_eq!(
        (view.status, view.pid),
        (AmphoraStatus::Allocated, Some(77))
    );
    desk.intake.write_down().await;
    let record = desk.house.known.store.amphorae().await.unwrap().remove(0);
    assert_eq!(record.version.as_deref(), Some("9.9.9"));
    assert!(record.boot.is_some() && record.last_seen.is_some());
}

#[tokio::test]
async fn a_fleet_grows_to_what_is_wanted_and_lets_spare_amphorae_go() {
    let desk = Desk::open(3).await;
    let ids: BTreeSet<AmphoraId> = desk.intake.fleet.ids().into_iter().collect();
    assert_eq!(ids.len(), 3);
    // The one that carries something stays, whichever it is.
    let view = desk.house.serving().await;
    let carrier = desk.house.known.placements.of(view.tree.id()).unwrap();
    let fleet = gather(&desk.house, &desk.folder, 1).await;
    assert_eq!(fleet.staying(), [carrier]);
    let keeping = tokio::spawn(Arc::clone(&fleet).keep());
    let ended = async {
        while desk.house.known.store.amphorae().await.unwrap().len() > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::testbed::BOUND, ended)
        .await
        .unwrap();
    keeping.abort();
}

#[tokio::test]
async fn what_a_host_that_was_given_up_had_does_not_begin_again() {
    let desk = Desk::open(2).await;
    let view = desk.house.serving().await;
    let carrier = desk.house.known.placements.of(view.tree.id()).unwrap();
    let fleet = &desk.intake.fleet;
    let other = fleet.ids().into_iter().find(|id| *id != carrier).unwrap();
    let both = [carrier, other];
    assert_eq!(desk.intake.given_up(&both).await.unwrap(), []);
    for amphora in both {
        fleet.retire(amphora).await.unwrap();
    }
    // The first one carries something.
    assert_eq!(desk.intake.given_up(&both).await.unwrap(), [other]);
    assert_eq!(desk.intake.given_up(&[]).await.unwrap(), []);
}
