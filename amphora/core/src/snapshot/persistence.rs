//! How clients are kept with their members: which of them count as one, and for how long.

use alloc::{format, string::String};
use core::{net::IpAddr, time::Duration};

use krater_amphora_api::{PERSISTENCE_SECONDS_MAX, PersistenceSpec, PoolProtocol, Subject};

use super::{listener::pool_kind, parse::Reasons};
use crate::limits::COOKIE_NAME_BYTES_MAX;

/// How clients are kept with the member they came to first (reference 19.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persistence {
    /// They are known by their address.
    Source(SourceAffinity),
    /// By a cookie of ours that names the member.
    OwnCookie,
    /// By a cookie that members set, of that name.
    AppCookie(String),
}

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

    /// Which bits of addresses tell clients apart.
    pub(crate) const fn masks(&self) -> (u32, u128) {
        (self.v4, self.v6)
    }

    /// Whether somebody is still remembered who came last so many seconds ago.
    #[must_use]
    pub fn remembers(&self, seconds: u32) -> bool {
        self.timeout
            .is_none_or(|timeout| u64::from(seconds) <= timeout.as_secs())
    }
}

/// Cookies are for pools whose members are sent requests: those of streams and datagrams have none.
pub(super) fn parse(
    spec: &PersistenceSpec,
    protocol: PoolProtocol,
    subject: Subject,
    reasons: &mut Reasons,
) -> Persistence {
    if !matches!(spec, PersistenceSpec::SourceIp { .. }) {
        let has_requests = matches!(
            protocol,
            PoolProtocol::Http | PoolProtocol::Proxy | PoolProtocol::ProxyV2
        );
        reasons.require(has_requests, subject, || {
            format!(
                "cookies cannot keep clients in {} pool",
                pool_kind(protocol)
            )
        });
    }
    match spec {
        PersistenceSpec::SourceIp {
            timeout_seconds,
            granularity,
        } => Persistence::Source(source(*timeout_seconds, *granularity, subject, reasons)),
        PersistenceSpec::HttpCookie => Persistence::OwnCookie,
        PersistenceSpec::AppCookie { name } => {
            reasons.require(is_token(name), subject, || {
                format!("a cookie's name is a token of 1 to {COOKIE_NAME_BYTES_MAX} bytes")
            });
            Persistence::AppCookie(name.clone())
        }
    }
}

/// RFC 6265 section 4.1.1: the name of a cookie is a token.
fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
    (1..=COOKIE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// A mask is for addresses of its own family; those of the other one are compared whole.
fn source(
    timeout_seconds: Option<u32>,
    granularity: Option<IpAddr>,
    subject: Subject,
    reasons: &mut Reasons,
) -> SourceAffinity {
    if let Some(seconds) = timeout_seconds {
        reasons.require(
            (1..=PERSISTENCE_SECONDS_MAX).contains(&seconds),
            subject,
            || {
                format!(
                    "a persistence timeout of {seconds} s, 1 to {} are allowed",
                    PERSISTENCE_SECONDS_MAX
                )
            },
        );
    }
    SourceAffinity {
        timeout: timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        v4: match granularity {
            Some(IpAddr::V4(mask)) => mask.to_bits(),
            _ => u32::MAX,
        },
        v6: match granularity {
            Some(IpAddr::V6(mask)) => mask.to_bits(),
            _ => u128::MAX,
        },
    }
}
