//! Addresses that amphorae have for themselves on networks of tenants. They stand among those of load balancers, so that
//! nobody else can be given them, and go with the amphora or with the load balancer that it has them for.

use std::{collections::BTreeMap, net::IpAddr};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::network::Located;

use crate::{
    Store, StoreError,
    engine::retried,
    row::{self, column},
};

/// What became of an address that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum OwnAddress {
    /// The amphora has this one: the one asked for, or another one that it had before.
    Has(IpAddr),
    /// Somebody else has it: ask for another one.
    Taken,
    /// The amphora or the load balancer is gone.
    Gone,
}

impl Store {
    /// The addresses that amphorae have for a load balancer.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn own_addresses(
        &self,
        load_balancer: LoadBalancerId,
    ) -> Result<BTreeMap<AmphoraId, IpAddr>, StoreError> {
        let statement = sqlx::query(OWN).bind(row::id_text(load_balancer.uuid()));
        let rows = self.all("look up addresses of amphorae", statement).await?;
        let read = |found: &sqlx::any::AnyRow| {
            let amphora = AmphoraId::new(row::read_id(found, 0, "an amphora")?);
            Ok((amphora, read_address(found, 1)?))
        };
        rows.iter().map(read).collect()
    }

    /// Gives an amphora an address for itself, for the sake of a load balancer, of which it has one at most.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn claim_own_address(
        &self,
        load_balancer: LoadBalancerId,
        amphora: AmphoraId,
        wanted: Located,
    ) -> Result<OwnAddress, StoreError> {
        retried!(self.try_claim_own_address(load_balancer, amphora, wanted))
    }

    async fn try_claim_own_address(
        &self,
        load_balancer: LoadBalancerId,
        amphora: AmphoraId,
        wanted: Located,
    ) -> Result<OwnAddress, StoreError> {
        let doing = "give an amphora an address";
        let (load_balancer, amphora) = (
            row::id_text(load_balancer.uuid()),
            row::id_text(amphora.uuid()),
        );
        let (address, network) = wanted;
        let mut transaction = self.begin(doing).await?;
        let statement = sqlx::query(CLAIM)
            .bind(row::id_text(network))
            .bind(address.to_string())
            .bind(load_balancer.clone())
            .bind(amphora.clone());
        if transaction.run(doing, statement).await? > 0 {
            transaction
                .commit_addresses(doing, vec![wanted], Vec::new())
                .await?;
            return Ok(OwnAddress::Has(address));
        }
        let bound = |sql: &'static str| {
            sqlx::query(sql)
                .bind(load_balancer.clone())
                .bind(amphora.clone())
        };
        let before = transaction.all(doing, bound(OWN_OF)).await?;
        let there = transaction.all(doing, bound(BOTH)).await?;
        transaction.rollback().await?;
        Ok(match (before.first(), there.is_empty()) {
            (Some(found), _) => OwnAddress::Has(read_address(found, 0)?),
            (None, false) => OwnAddress::Taken,
            (None, true) => OwnAddress::Gone,
        })
    }
}

fn read_address(found: &sqlx::any::AnyRow, at: usize) -> Result<IpAddr, StoreError> {
    let what = "an address";
    let text: &str = column(found, at, what)?;
    text.parse()
        .map_err(|error| StoreError::unreadable(what, &error))
}

const OWN: &str =
    "SELECT amphora_id, address FROM vip WHERE load_balancer_id = $1 AND amphora_id IS NOT NULL";

const OWN_OF: &str = "SELECT address FROM vip WHERE load_balancer_id = $1 AND amphora_id = $2";

const BOTH: &str = "SELECT a.id FROM amphora a, resource r WHERE r.id = $1 AND a.id = $2";

const CLAIM: &str = "INSERT INTO vip (network_id, address, load_balancer_id, amphora_id)
    SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), r.id, a.id FROM resource r, amphora a
    WHERE r.id = $3 AND r.kind = 'load_balancer' AND a.id = $4
    ON CONFLICT DO NOTHING";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "addresses/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
