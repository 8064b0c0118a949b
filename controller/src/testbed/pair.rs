//! What amphorae say of themselves, and load balancers that two of them take turns at.

use std::net::SocketAddr;

use krater_amphora_api::{
    AmphoraId, AnnouncementReport, BootId, ContractVersion, Info, LinkAddress, LoadBalancerId,
    Report, SnapshotSpec,
};
use krater_controller_core::model::Topology;
use uuid::Uuid;

use super::{AMPHORA, House, Pretended, Setting};
use crate::{clock, reconcile::Urgency};

/// One more, which load balancers may be on once [`Pretended::set_room_for_three`] says so.
pub(crate) const THIRD: AmphoraId = AmphoraId::new(Uuid::from_u128(0xc));

/// What a run of the pretended amphora says of itself.
pub(crate) fn info(boot: u128) -> Info {
    Info {
        amphora: AMPHORA,
        boot: BootId::new(Uuid::from_u128(boot)),
        contract: ContractVersion::CURRENT,
        version: "0.0.0".to_owned(),
        pid: 1,
        workers: 1,
        addresses: Vec::new(),
    }
}

/// Where the agent of one is.
pub(super) fn agent_of(amphora: AmphoraId) -> Option<SocketAddr> {
    let last = *amphora.uuid().as_bytes().last()?;
    Some(([127, 0, 8, last], 9443).into())
}

impl Pretended {
    pub(crate) fn set_room_for_three(&self, room: bool) {
        self.state().room_for_three = room;
    }

    /// What an amphora says that has an address on the network of the VIPs.
    fn introduction(&self, amphora: AmphoraId, last: u8, sequence: u64) -> Report {
        let state = self.state();
        let held = state.held.iter().filter(|((by, _), _)| *by == amphora);
        Report {
            info: Info {
                amphora,
                addresses: vec![LinkAddress {
                    address: [127, 0, 9, last].into(),
                    prefix_bits: 8,
                }],
                ..info(1)
            },
            sequence,
            load_balancers: held.map(|(_, spec)| state.report_of(spec)).collect(),
            metrics_port: None,
        }
    }

    /// What each of these was sent last of a load balancer.
    pub(crate) fn specs<const N: usize>(
        &self,
        id: LoadBalancerId,
        amphorae: [AmphoraId; N],
    ) -> [Option<SnapshotSpec>; N] {
        amphorae.map(|amphora| self.held_by(amphora, id))
    }
}

impl House {
    /// With room on two amphorae, and two for each load balancer.
    pub(crate) async fn of_two() -> Self {
        let house = Self::build_with(Setting {
            topology: Topology::ActiveStandby,
            ..Setting::default()
        })
        .await;
        house.amphora.set_room_elsewhere(true);
        let mut known = house.known.store.amphorae().await.unwrap();
        let mut third = known.pop().unwrap();
        third.id = THIRD;
        house.known.store.put_amphora(&third).await.unwrap();
        house
    }

    /// Has the controller hear for the first time, or anew, what an amphora says of itself.
    pub(crate) fn introduce(&self, amphora: AmphoraId, last: u8, sequence: u64) {
        self.introduce_as(amphora, last, sequence, ContractVersion::CURRENT);
    }

    /// The same of one that speaks that version of the contract.
    pub(crate) fn introduce_as(
        &self,
        amphora: AmphoraId,
        last: u8,
        sequence: u64,
        contract: ContractVersion,
    ) {
        let mut report = self.amphora.introduction(amphora, last, sequence);
        report.info.contract = contract;
        self.take(amphora, report);
    }

    /// Has the controller hear how an amphora takes turns at what it has.
    pub(crate) fn say(&self, whose: (AmphoraId, u8), sequence: u64, turn: &AnnouncementReport) {
        self.say_as(whose, sequence, turn, ContractVersion::CURRENT);
    }

    /// The same of one that speaks that version of the contract.
    pub(crate) fn say_as(
        &self,
        (amphora, last): (AmphoraId, u8),
        sequence: u64,
        turn: &AnnouncementReport,
        contract: ContractVersion,
    ) {
        let mut report = self.amphora.introduction(amphora, last, sequence);
        report.info.contract = contract;
        for balancer in &mut report.load_balancers {
            balancer.announcement = Some(turn.clone());
        }
        self.take(amphora, report);
    }

    fn take(&self, amphora: AmphoraId, report: Report) {
        let take = |placed: &_| self.known.sightings.take(report, placed, clock::now());
        if let Some(news) = self.known.placements.with(amphora, take) {
            news.changed
                .into_iter()
                .for_each(|id| self.reconciler.poke(id, Urgency::Background));
        }
    }

    /// Has the controller hear a report of the amphora.
    pub(crate) fn hear(&self, report: Report) {
        self.take(AMPHORA, report);
    }
}
