//! On which terms a load balancer is placed, where others may place at the same moment.

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::model::Seat;

use super::{AmphoraRecord, FLEET, FLEET_COUNT, PLACING, Placement, amphora_key};
use crate::{
    StoreError,
    engine::Transaction,
    row::{self, column, read_id},
};

/// On which terms a load balancer is placed, beside that it and the amphora are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutTerms {
    /// Where it is until then, as far as whoever decided knew.
    pub from: Option<AmphoraId>,
    /// The most load balancers on the amphora.
    pub load_balancers_max: u32,
    /// The most amphorae.
    pub amphorae_max: u64,
    /// What the host of the amphora takes.
    pub host: HostTerms,
}

/// What one host takes; nothing is bounded where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostTerms {
    /// The most load balancers.
    pub load_balancers_max: Option<u32>,
    /// The most amphorae.
    pub amphorae_max: Option<u32>,
}

/// Whether a placement may be stored though others place load balancers at the same moment.
pub(super) async fn is_as_decided(
    transaction: &mut Transaction,
    load_balancer: LoadBalancerId,
    placement: Placement,
    new: Option<&AmphoraRecord>,
    terms: PutTerms,
) -> Result<bool, StoreError> {
    let id = row::id_text(load_balancer.uuid());
    if new.is_some() {
        transaction.lock(PLACING, FLEET).await?;
        let statement = sqlx::query(FLEET_COUNT).bind(String::new());
        let found = transaction.one(PLACING, statement).await?;
        let all: i64 = column(&found, 0, "a count")?;
        if u64::try_from(all).is_ok_and(|all| all >= terms.amphorae_max) {
            return Ok(false);
        }
    }
    if !has_host_room(transaction, load_balancer, placement, new, terms.host).await? {
        return Ok(false);
    }
    transaction
        .lock(PLACING, &format!("placement {id}"))
        .await?;
    let statement = sqlx::query(match placement.seat {
        Seat::First => "SELECT amphora_id FROM placement WHERE load_balancer_id = $1",
        Seat::Second => "SELECT amphora_id FROM companion WHERE load_balancer_id = $1",
    });
    let rows = transaction.all(PLACING, statement.bind(id.clone())).await?;
    let from = rows.first().map(|found| read_id(found, 0, "an id"));
    if from.transpose()?.map(AmphoraId::new) != terms.from {
        return Ok(false);
    }
    let amphora = row::id_text(placement.amphora.uuid());
    transaction.lock(PLACING, &amphora_key(&amphora)).await?;
    let statement = sqlx::query(LOAD).bind(amphora).bind(id);
    let found = transaction.one(PLACING, statement).await?;
    let count: i64 = column(&found, 0, "a count")?;
    let least: Option<i64> = column(&found, 1, "a limit")?;
    let most = [placement.load_balancers_max.map(i64::from), least];
    let most = most
        .into_iter()
        .flatten()
        .fold(i64::from(terms.load_balancers_max), i64::min);
    Ok(count < most.max(1))
}

/// Whether the host takes one more load balancer, and the new amphora if there is one.
async fn has_host_room(
    transaction: &mut Transaction,
    load_balancer: LoadBalancerId,
    placement: Placement,
    new: Option<&AmphoraRecord>,
    terms: HostTerms,
) -> Result<bool, StoreError> {
    if terms == HostTerms::default() {
        return Ok(true);
    }
    let host = match new {
        Some(new) => new.host.clone(),
        None => {
            let statement = sqlx::query("SELECT host FROM amphora WHERE id = $1")
                .bind(row::id_text(placement.amphora.uuid()));
            match transaction.all(PLACING, statement).await?.first() {
                Some(found) => column(found, 0, "a host")?,
                // That it is gone is found when it is placed.
                None => return Ok(true),
            }
        }
    };
    transaction.lock(PLACING, &format!("host {host}")).await?;
    if new.is_some() && !takes_another(transaction, PLACING, &host, terms.amphorae_max).await? {
        return Ok(false);
    }
    let Some(most) = terms.load_balancers_max else {
        return Ok(true);
    };
    let statement = sqlx::query(HOST_LOAD)
        .bind(host)
        .bind(row::id_text(load_balancer.uuid()));
    let found = transaction.one(PLACING, statement).await?;
    Ok(column::<i64>(&found, 0, "a count")? < i64::from(most))
}

/// Whether a host takes another amphora. Whoever decides on one has locked the fleet.
pub(super) async fn takes_another(
    transaction: &mut Transaction,
    doing: &'static str,
    host: &str,
    most: Option<u32>,
) -> Result<bool, StoreError> {
    let Some(most) = most else {
        return Ok(true);
    };
    let statement = sqlx::query("SELECT COUNT(*) FROM amphora WHERE host = $1");
    let found = transaction
        .one(doing, statement.bind(host.to_owned()))
        .await?;
    Ok(column::<i64>(&found, 0, "a count")? < i64::from(most))
}

/// The second place of the same load balancer on the amphora is one too many.
const LOAD: &str = "SELECT COUNT(*), MIN(load_balancers_max) FROM
    (SELECT load_balancer_id, amphora_id, load_balancers_max FROM placement
        UNION ALL SELECT load_balancer_id, amphora_id, load_balancers_max FROM companion) AS place
    WHERE amphora_id = $1 AND load_balancer_id <> $2";

/// One that moves from one amphora of the host to another counts once.
const HOST_LOAD: &str = "SELECT COUNT(*) FROM
    (SELECT load_balancer_id, amphora_id FROM placement
        UNION ALL SELECT load_balancer_id, amphora_id FROM companion) AS place
    JOIN amphora ON amphora.id = place.amphora_id
    WHERE amphora.host = $1 AND place.load_balancer_id <> $2";
