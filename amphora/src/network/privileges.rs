//! What a process that lives in a namespace may still do.

use std::io;

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

/// Inside: addresses, routes and filters of the namespace, low ports, and raw sockets for ICMP and the like.
pub(super) const INSIDE: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BIND_SERVICE);
/// On the host's network: low ports.
pub(super) const OUTSIDE: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// What building networks takes: namespaces, and what is joined to the host's own network.
const BUILDING: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::SYS_ADMIN);

/// Whether this thread may build networks.
pub(super) fn may_build() -> io::Result<bool> {
    Ok(capabilities(None)?.effective.contains(BUILDING))
}

/// Keeps these of the calling thread's capabilities, as far as it has them, and those that it starts have no others. Nothing
/// it executes gets any back. Its user stays who it was.
pub(super) fn keep(wanted: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    for capability in CapabilitySet::all().iter() {
        // Some of the list this kernel may not know.
        if !wanted.contains(capability)
            && capability_is_in_bounding_set(capability).unwrap_or(false)
        {
            match remove_capability_from_bounding_set(capability) {
                // That takes CAP_SETPCAP. Without it what was set above has to do, and does.
                Err(Errno::PERM) => break,
                outcome => outcome?,
            }
        }
    }
    let kept = capabilities(None)?.permitted & wanted;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

/// For a thread that needs none.
pub(crate) fn give_up_all() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_has_no_more_than_it_takes_to_move_in_keeps_what_is_wanted_of_it() {
        let kept = thread::spawn(|| {
            let had = capabilities(None).unwrap().permitted & BUILDING;
            let only = CapabilitySets {
                effective: had,
                permitted: had,
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, only).unwrap();
            keep(INSIDE).unwrap();
            assert_eq!(capabilities(None).unwrap().permitted, had & INSIDE);
            give_up_all().unwrap();
            capabilities(None).unwrap()
        });
        let kept = kept.join().unwrap();
        assert!(kept.effective.is_empty() && kept.permitted.is_empty());
    }
}
