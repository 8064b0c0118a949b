//! Rules about addresses that several resources share.

use alloc::{format, string::ToString};
use core::net::IpAddr;

use crate::{refusal::Refusal, rules::Rules};

/// Checks an address that must name one host; `field` is what the refusal calls it.
pub(super) fn check_host(address: IpAddr, field: &str, rules: &Rules) -> Result<(), Refusal> {
    let canonical = address.to_canonical();
    let broadcast = matches!(canonical, IpAddr::V4(v4) if v4.is_broadcast());
    if rules.reserved_addresses.contains(&canonical)
        || canonical.is_unspecified()
        || canonical.is_multicast()
        || broadcast
    {
        return Err(Refusal::InvalidOption {
            value: address.to_string(),
            field: field.into(),
        });
    }
    Ok(())
}

/// The version of the addresses in a network of CIDR notation.
pub(super) fn network_family(cidr: &str) -> Result<Family, Refusal> {
    let invalid = || Refusal::Invalid(format!("'{cidr}' is not a network in CIDR notation."));
    let (address, prefix) = cidr.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
    let (family, longest) = match address {
        IpAddr::V4(_) => (Family::V4, 32),
        IpAddr::V6(_) => (Family::V6, 128),
    };
    if prefix > longest {
        Err(invalid())
    } else {
        Ok(family)
    }
}

/// The version of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}
