//! How long the certificates in use are valid still: shown to scrapers, and announced before they end.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    audit::{AuditFilter, Deed},
    model::SecretRef,
    resource::ResourceId,
};

use super::{Key, Vault, lock, name_of, renew};
use crate::{cause::chain, knowledge::Knowledge, limits::EXPIRY_ENTRIES_MAX};

/// A certificate in use.
pub(crate) struct InUse {
    pub(crate) load_balancer: LoadBalancerId,
    /// The listener or pool.
    pub(crate) resource: ResourceId,
    /// What tells its reference from others; references themselves are words of tenants.
    pub(crate) secret: String,
    pub(crate) not_after: Timestamp,
    reference: SecretRef,
}

impl Vault {
    /// The certificates in use, as far as they were read.
    pub(crate) fn certificates(&self) -> Vec<InUse> {
        let users = lock(&self.used).clone();
        let mut kept = lock(&self.kept);
        let mut all = Vec::new();
        for (id, usage) in users {
            for (need, resource) in usage.needs {
                let secret = name_of(&need);
                let key = Key {
                    project: usage.project.clone(),
                    need,
                };
                let found = kept.get(&key);
                if let Some(facts) = found.as_ref().and_then(|secret| secret.facts()) {
                    all.push(InUse {
                        load_balancer: id,
                        resource,
                        secret,
                        not_after: facts.not_after,
                        reference: key.need.reference,
                    });
                }
            }
        }
        all
    }
}

/// Announces certificates that end soon.
pub(crate) struct Expiry<'a> {
    pub(crate) known: &'a Knowledge,
    pub(crate) vault: &'a Vault,
}

impl Expiry<'_> {
    /// Says in the log and in the audit trail which certificates end within 30, 14 or 3 days, or have ended: each once
    /// for each of these, whoever said it before and since whichever start.
    pub(crate) async fn announce(&self, now: Timestamp) {
        let mut said = BTreeSet::new();
        for one in self.vault.certificates() {
            let Some((days, since)) = stage(one.not_after, now) else {
                continue;
            };
            if !said.insert((one.load_balancer, one.reference.clone())) {
                continue;
            }
            let filter = AuditFilter {
                load_balancer: Some(one.load_balancer.uuid()),
                resource: Some(one.reference.as_str().to_owned()),
                since: Some(since),
                limit: EXPIRY_ENTRIES_MAX,
                ..AuditFilter::default()
            };
            match self.known.store.audit(&filter).await {
                Ok(kept) if kept.iter().any(|kept| kept.entry.deed == Deed::Expire) => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(error = %chain(&error), "it is not known whether the end of a certificate was announced");
                    continue;
                }
            }
            tracing::warn!(
                lb = %one.load_balancer, resource = %one.resource.uuid(), reference = one.reference.as_str(),
                not_after = %one.not_after, "a certificate in use ends within {days} days"
            );
            let usage = lock(&self.vault.used).get(&one.load_balancer).cloned();
            if let Some(usage) = usage {
                let entry = renew::entry(Deed::Expire, one.load_balancer, &usage, &one.reference);
                renew::note(&self.known.store, &[entry]).await;
            }
        }
    }
}

/// Within how many days it ends, of those that are announced, and since when.
fn stage(not_after: Timestamp, now: Timestamp) -> Option<(i64, Timestamp)> {
    let mut stages = ANNOUNCED_DAYS.into_iter().rev().filter_map(|days| {
        let since = not_after
            .checked_sub(SignedDuration::from_hours(days * 24))
            .ok()?;
        (since <= now).then_some((days, since))
    });
    stages.next()
}

/// The last one is for those that have ended.
const ANNOUNCED_DAYS: [i64; 4] = [30, 14, 3, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_end_counts() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let days = |hours| {
            let not_after = now + SignedDuration::from_hours(hours);
            stage(not_after, now).map(|(days, _)| days)
        };
        assert_eq!(days(31 * 24), None);
        assert_eq!(days(30 * 24), Some(30));
        assert_eq!(days(14 * 24 + 1), Some(30));
        assert_eq!(days(14 * 24), Some(14));
        assert_eq!(days(3 * 24), Some(3));
        assert_eq!(days(1), Some(3));
        assert_eq!(days(-1), Some(0));
    }
}
