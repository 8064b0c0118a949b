//! The addresses in use, kept in memory: whoever looks for a free one does not wait for the database, and does not read
//! all of them.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

/// What the table of addresses holds. This is changed with each commit of this process, and read again from time to time
/// where others write too, so that it cannot differ from the table for long; what it lags behind, the table's key refuses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Each with the number of networks it is in use on.
    counts: BTreeMap<IpAddr, usize>,
    /// What is handed out, copied only when somebody still looks at it while it changes.
    in_use: Arc<BTreeSet<IpAddr>>,
}

impl Addresses {
    /// All of them, as they are now.
    pub(super) fn in_use(&self) -> Arc<BTreeSet<IpAddr>> {
        Arc::clone(&self.in_use)
    }

    /// Notes that an address is in use on one more network.
    pub(super) fn claim(&mut self, address: IpAddr) {
        let count = self.counts.entry(address).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            Arc::make_mut(&mut self.in_use).insert(address);
        }
    }

    /// Notes that an address is in use on one network less.
    pub(super) fn release(&mut self, address: IpAddr) {
        if let Entry::Occupied(mut entry) = self.counts.entry(address) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
                Arc::make_mut(&mut self.in_use).remove(&address);
            }
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(all: T) -> Self {
        let mut addresses = Self::default();
        for address in all {
            addresses.claim(address);
        }
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_use_until_it_is_so_on_no_network() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let mut addresses: Addresses = [address, address].into_iter().collect();
        let before = addresses.in_use();
        addresses.release(address);
        assert!(addresses.in_use().contains(&address));
        addresses.release(address);
        assert!(addresses.in_use().is_empty());
        addresses.release(address);
        addresses.claim(address);
        assert!(addresses.in_use().contains(&address));
        assert!(before.contains(&address), "what was handed out stays");
    }
}
