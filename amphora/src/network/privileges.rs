//! What a process that lives in a namespace may still do.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Inside: addresses, routes and filters of the namespace, low ports, and raw sockets for ICMP and the like.
pub(super) const INSIDE: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE);
/// On the host's network: low ports.
pub(super) const OUTSIDE: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Keeps these of the calling thread's capabilities, and those that it starts have no others. Nothing it executes gets
/// any back.
pub(super) fn keep(wanted: CapabilitySet) -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        // Some of the list this kernel may not know.
        if !wanted.contains(capability)
            && capability_is_in_bounding_set(capability).unwrap_or(false)
        {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    set_no_new_privs(true)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: wanted,
            permitted: wanted,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}
