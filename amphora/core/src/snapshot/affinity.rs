//! Which clients count as one for session persistence, and for how long.

use alloc::{format, string::String};
use core::{net::IpAddr, time::Duration};

use krater_amphora_api::{PERSISTENCE_SECONDS_MAX, PersistenceSpec, Subject};

use super::parse::Reasons;

/// Clients are known by their address (reference 19.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceAffinity {
    /// How long somebody is remembered who does not come; `None` for as long as there is room.
    pub timeout: Option<Duration>,
    v4: u32,
    v6: u128,
}

impl SourceAffinity {
    /// What is remembered of a client: its address as far as the mask reaches, IPv4 in its IPv6 form.
    #[must_use]
    pub(crate) fn masked(&self, client: IpAddr) -> u128 {
        match client.to_canonical() {
            IpAddr::V4(client) => {
                let masked = client.to_bits() & self.v4;
                core::net::Ipv4Addr::from_bits(masked)
                    .to_ipv6_mapped()
                    .to_bits()
            }
            IpAddr::V6(client) => client.to_bits() & self.v6,
        }
    }

    /// Whether the same clients count as one for both.
    #[must_use]
    pub(crate) const fn masks_like(&self, other: &Self) -> bool {
        self.v4 == other.v4 && self.v6 == other.v6
    }

    /// Whether somebody is still remembered who came last so many seconds ago.
    #[must_use]
    pub(crate) fn remembers(&self, seconds: u32) -> bool {
        self.timeout
            .is_none_or(|timeout| u64::from(seconds) <= timeout.as_secs())
    }
}

/// A mask is for addresses of its own family; those of the other one are compared whole.
pub(super) fn parse(
    spec: &PersistenceSpec,
    subject: Subject,
    reasons: &mut Reasons,
) -> Option<SourceAffinity> {
    let PersistenceSpec::SourceIp {
        timeout_seconds,
        granularity,
    } = spec
    else {
        reasons.add(subject, String::from("cookies cannot keep clients here"));
        return None;
    };
    if let Some(seconds) = timeout_seconds {
        reasons.require(
            (1..=PERSISTENCE_SECONDS_MAX).contains(seconds),
            subject,
            || {
                format!(
                    "a persistence timeout of {seconds} s, 1 to {} are allowed",
                    PERSISTENCE_SECONDS_MAX
                )
            },
        );
    }
    Some(SourceAffinity {
        timeout: timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        v4: match granularity {
            Some(IpAddr::V4(mask)) => mask.to_bits(),
            _ => u32::MAX,
        },
        v6: match granularity {
            Some(IpAddr::V6(mask)) => mask.to_bits(),
            _ => u128::MAX,
        },
    })
}
