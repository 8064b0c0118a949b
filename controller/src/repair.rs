//! Gives up what is lost on hosts, so that what it carried is served elsewhere, and tells why, or why not.

use std::{collections::BTreeMap, sync::Arc};

use krater_amphora_api::AmphoraId;
use krater_controller_core::{
    audit::{Deed, Entry, Outcome},
    query::AmphoraStatus,
    repair::{self, Budget, Held, Spent},
};
use krater_controller_store::{HostRecord, StoreError};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cause::chain,
    chance, clock,
    fleet::Fleet,
    hosts::Hosts,
    knowledge::Knowledge,
    limits::{REPAIR_HOSTS_MAX, REPAIR_INTERVAL, REPAIR_ONE_IN, REPAIR_WINDOW},
    reconcile::{Agents as _, Reconciler, Urgency},
};

/// Whoever looks after hosts that are lost.
pub(crate) struct Repair {
    known: Knowledge,
    fleet: Arc<Fleet>,
    hosts: Arc<Hosts>,
    reconciler: Arc<Reconciler>,
    spent: Spent,
    /// What was told of each host last.
    statuses: BTreeMap<String, AmphoraStatus>,
    /// What was told last of why nobody is given up.
    held: Option<(Vec<(AmphoraId, String)>, Held)>,
}

impl Repair {
    pub(crate) fn new(
        known: Knowledge,
        fleet: Arc<Fleet>,
        hosts: Arc<Hosts>,
        reconciler: Arc<Reconciler>,
    ) -> Self {
        Self {
            known,
            fleet,
            hosts,
            reconciler,
            spent: Spent::default(),
            statuses: BTreeMap::new(),
            held: None,
        }
    }

    /// Looks again and again, for ever.
    pub(crate) async fn keep(mut self) {
        let mut ticks = interval(REPAIR_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.hosts.is_attending() {
                continue;
            }
            let looked = async {
                self.tell_statuses().await?;
                self.look().await
            };
            if let Err(error) = looked.await {
                self.known.metrics.store_errors.inc();
                tracing::error!(error = %chain(&error), "what is lost could not be given up; it is tried again");
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let sights = self.fleet.sights();
        if sights.iter().all(|sight| sight.heard || sight.reached) {
            self.held = None;
            return Ok(());
        }
        // Others may have heard of them.
        self.fleet.sync().await?;
        self.hosts.learn().await?;
        let sights = self.fleet.sights();
        let judgement = repair::judge(&sights, BUDGET, &mut self.spent, clock::now());
        self.tell_held(judgement.held);
        for (amphora, host) in judgement.lost {
            self.give_up(amphora, &host).await?;
        }
        Ok(())
    }

    async fn give_up(&self, amphora: AmphoraId, host: &str) -> Result<(), StoreError> {
        let carried = self.known.placements.on(amphora);
        self.hosts.give_up(host);
        if self.fleet.is_retiring(amphora) {
            return Ok(());
        }
        self.fleet.retire(amphora).await?;
        let text = format!(
            "amphora {amphora} is given up: neither it nor its host is heard of, and it cannot be reached; {} load balancers move to others",
            carried.len()
        );
        tracing::error!(%amphora, host, load_balancers = carried.len(), "an amphora is given up: not heard of and not reached");
        self.hosts.note(host, text);
        for id in carried {
            self.reconciler.poke(id, Urgency::Tenant);
        }
        self.known.store.note(&[entry(amphora)]).await
    }

    /// Tells, once, when hosts fall silent and are heard of again.
    async fn tell_statuses(&mut self) -> Result<(), StoreError> {
        let is_news = |record: &HostRecord| {
            self.hosts.presence(record) == AmphoraStatus::Error
                && self.statuses.get(&record.id.to_string()) != Some(&AmphoraStatus::Error)
        };
        if self.hosts.records().iter().any(is_news) {
            // Others may have heard of it.
            self.hosts.learn().await?;
        }
        for record in self.hosts.records() {
            let (name, status) = (record.id.to_string(), self.hosts.presence(&record));
            let before = self.statuses.insert(name.clone(), status);
            let is_silent = status == AmphoraStatus::Error;
            if is_silent == (before == Some(AmphoraStatus::Error)) {
                continue;
            }
            if is_silent {
                tracing::error!(host = name, name = record.facts.name, "a host fell silent");
                self.hosts.note(&name, "it fell silent".to_owned());
            } else {
                tracing::info!(
                    host = name,
                    name = record.facts.name,
                    "a host is heard of again"
                );
                self.hosts.note(&name, "it is heard of again".to_owned());
            }
        }
        Ok(())
    }

    /// Tells, once, why nobody is given up.
    fn tell_held(&mut self, held: Option<(Vec<(AmphoraId, String)>, Held)>) {
        if self.held == held {
            return;
        }
        if let Some((amphorae, why)) = &held {
            tracing::error!(
                amphorae = amphorae.len(),
                reason = why.sentence(),
                "lost amphorae are not given up"
            );
            let mut hosts: Vec<&String> = amphorae.iter().map(|(_, host)| host).collect();
            hosts.dedup();
            for host in hosts {
                self.hosts
                    .note(host, format!("it is not given up: {}", why.sentence()));
            }
        }
        self.held = held;
    }
}

fn entry(amphora: AmphoraId) -> Entry {
    Entry {
        at: clock::now(),
        request_id: format!("req-{}", chance::random_uuid()),
        global_request_id: None,
        user: "krater".to_owned(),
        caller_project: None,
        roles: String::new(),
        deed: Deed::Failover,
        kind: "amphora".to_owned(),
        resource: Some(amphora.to_string()),
        load_balancer: None,
        project: None,
        outcome: Outcome::Done,
    }
}

const BUDGET: Budget = Budget {
    hosts_max: REPAIR_HOSTS_MAX,
    one_in: REPAIR_ONE_IN,
    window: REPAIR_WINDOW,
};
