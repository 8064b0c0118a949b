//! Amphorae as processes of the controller's own host.

use std::net::IpAddr;

use async_trait::async_trait;
use krater_amphora_api::AmphoraId;
use krater_amphora_process::{
    Allotment, Order, ProcessError, ProcessSettings, Processes, Segment, Subnet, Tunnel, Underlay,
};
use krater_driver::{AmphoraOrder, ComputeDriver, DriverError, Endpoint};
use tokio::sync::watch;

/// Starts amphorae as processes of this host and finds those that an earlier controller started.
#[derive(Debug)]
pub struct ProcessCompute {
    processes: Processes,
    underlay: Option<Underlay>,
}

impl ProcessCompute {
    /// Prepares to run amphorae under `settings.directory`; starts none.
    ///
    /// # Errors
    /// [`DriverError::Permanent`] when the folder cannot be made.
    pub fn new(settings: ProcessSettings) -> Result<Self, DriverError> {
        let processes = Processes::new(settings).map_err(failure)?;
        Ok(Self {
            processes,
            underlay: None,
        })
    }

    /// Has networks that span several hosts reach them there.
    #[must_use]
    pub fn over(self, underlay: Option<Underlay>) -> Self {
        Self { underlay, ..self }
    }

    fn segment(
        &self,
        segment: &krater_driver::Segment,
        peers: Vec<IpAddr>,
    ) -> Result<Segment, DriverError> {
        let subnets = segment.subnets.iter().cloned();
        let tunnel = match (segment.vni, &self.underlay) {
            (None, _) => None,
            (Some(vni), Some(underlay)) => Some(Tunnel {
                vni,
                underlay: *underlay,
                peers,
            }),
            (Some(_), None) => {
                return Err(DriverError::Permanent(format!(
                    "network {:?} spans several hosts, but this one does not know where it is reached by them",
                    segment.name
                )));
            }
        };
        Ok(Segment {
            name: segment.name.clone(),
            bridge: segment.bridge.clone(),
            mtu: segment.mtu,
            tunnel,
            subnets: subnets
                .map(|subnet| Subnet {
                    cidr: subnet.cidr,
                    gateway: subnet.gateway,
                    routes: subnet.routes,
                })
                .collect(),
        })
    }

    /// Counts supervisors that ended without having been asked to: a change is the time to call
    /// [`ComputeDriver::ensure`] again.
    #[must_use]
    pub fn deaths(&self) -> watch::Receiver<u64> {
        self.processes.deaths()
    }
}

#[async_trait]
impl ComputeDriver for ProcessCompute {
    async fn ensure(&self, order: AmphoraOrder) -> Result<Endpoint, DriverError> {
        let AmphoraOrder {
            id,
            authority_pem,
            identity,
            controllers,
            segment,
            peers,
            allotment,
        } = order;
        let identity = identity.ok_or_else(|| {
            DriverError::Permanent("an amphora of this host is given its identity".to_owned())
        })?;
        let segment = segment.map(|segment| self.segment(&segment, peers));
        let segment = segment.transpose()?;
        let order = Order {
            id,
            authority_pem,
            certificate_pem: identity.certificate_pem,
            key_pem: identity.key_pem,
            controllers,
            conduct: None,
            segment,
            allotment: Allotment {
                memory_bytes: allotment.memory_bytes,
                cpu_percent: allotment.cpu_percent,
            },
        };
        let found = self.processes.ensure(order).await.map_err(failure)?;
        Ok(Endpoint {
            agent: found.agent,
            metrics: found.metrics,
        })
    }

    async fn release(&self, id: AmphoraId) -> Result<(), DriverError> {
        self.processes.release(id).await.map_err(failure)
    }

    async fn found(&self) -> Result<Vec<AmphoraId>, DriverError> {
        self.processes.found().map_err(failure)
    }

    async fn stop_all(&self) -> Result<(), DriverError> {
        self.processes.stop_all().await.map_err(failure)
    }
}

fn failure(error: ProcessError) -> DriverError {
    match error {
        ProcessError::Permanent(text) => DriverError::Permanent(text),
        ProcessError::Transient(text) => DriverError::Transient(text),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

    use krater_driver::AmphoraIdentity;
    use uuid::Uuid;

    use super::*;

    fn order(n: u128) -> AmphoraOrder {
        AmphoraOrder {
            id: AmphoraId::new(Uuid::from_u128(n)),
            authority_pem: "authority".to_owned(),
            identity: Some(AmphoraIdentity {
                certificate_pem: "certificate".to_owned(),
                key_pem: "key".to_owned(),
            }),
            controllers: vec!["127.0.0.1:9877".to_owned()],
            segment: None,
            peers: Vec::new(),
            allotment: krater_driver::Allotment::default(),
        }
    }

    #[tokio::test]
    async fn it_passes_the_conformance_kit() {
        let dir = tempfile::tempdir().unwrap();
        // A shell script stands in for the supervisor.
        let binary = dir.path().join("amphora-stand-in");
        let script = "#!/bin/sh\ntrap 'exit 0' TERM; while :; do sleep 0.02; done\n";
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let driver = ProcessCompute::new(ProcessSettings {
            binary,
            directory: dir.path().join("amphorae"),
            workers: Some(1),
            heartbeat: Duration::from_secs(1),
            drain: Duration::from_millis(100),
            access_log: None,
            address: std::net::Ipv4Addr::LOCALHOST.into(),
        });
        krater_driver::kit::check_compute(&driver.unwrap(), [order(1), order(2)])
            .await
            .unwrap();
    }
}
