//! Amphorae of one host, run by its agent.

use std::sync::Arc;

use async_trait::async_trait;
use krater_amphora_api::AmphoraId;
use krater_driver::{AmphoraOrder, ComputeDriver, DriverError, Endpoint};

use super::{Host, Hosts, networks::obstacle};

/// Has amphorae run on one host. Their keys are made there and stay there.
pub(super) struct HostCompute {
    hosts: Arc<Hosts>,
    host: Arc<Host>,
}

impl HostCompute {
    pub(super) const fn new(hosts: Arc<Hosts>, host: Arc<Host>) -> Self {
        Self { hosts, host }
    }
}

#[async_trait]
impl ComputeDriver for HostCompute {
    async fn ensure(&self, order: AmphoraOrder) -> Result<Endpoint, DriverError> {
        let facts = self.host.record().facts;
        if let (Some(segment), Some(obstacle)) = (&order.segment, obstacle(&facts, None)) {
            return Err(DriverError::Transient(format!(
                "the amphora is on network {:?} of tenants: {obstacle}",
                segment.name
            )));
        }
        let agent = facts.agent;
        let wanted = self.hosts.order(&order);
        let hosted = self.host.client.ensure(&agent, order.id, &wanted).await?;
        // It may run and not be held to what it may take: that is not what was asked for.
        if let Some(trouble) = hosted.trouble.as_ref()
            && !wanted.allotment.is_unbounded()
        {
            return Err(DriverError::Transient(trouble.clone()));
        }
        let address = hosted.agent.as_deref().and_then(|text| text.parse().ok());
        let Some(address) = address else {
            return Err(DriverError::Transient(hosted.trouble.unwrap_or_else(
                || "the host does not say where the amphora is".to_owned(),
            )));
        };
        Ok(Endpoint {
            agent: address,
            metrics: hosted.metrics.and_then(|text| text.parse().ok()),
        })
    }

    async fn release(&self, id: AmphoraId) -> Result<(), DriverError> {
        let record = self.host.record();
        if self.hosts.is_over(&record.id.to_string()) {
            return Ok(());
        }
        self.host.client.release(&record.facts.agent, id).await
    }

    /// They are not of this host, and go on.
    async fn stop_all(&self) -> Result<(), DriverError> {
        Ok(())
    }
}
