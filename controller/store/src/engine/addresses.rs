//! The addresses in use, kept in memory: whoever looks for a free one does not wait for the database, and does not read
//! all of them.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use krater_controller_core::network::Located;

/// What the table of addresses holds. This is changed with each commit of this process, and read again from time to time
/// where others write too, so that it cannot differ from the table for long; what it lags behind, the table's key refuses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Each with how often it is in use: more than once for the moment between one who gives it back and the next.
    counts: BTreeMap<Located, usize>,
    /// What is handed out, copied only when somebody still looks at it while it changes.
    in_use: Arc<BTreeSet<Located>>,
}

impl Addresses {
    /// All of them, as they are now.
    pub(super) fn in_use(&self) -> Arc<BTreeSet<Located>> {
        Arc::clone(&self.in_use)
    }

    /// Notes that an address is in use once more.
    pub(super) fn claim(&mut self, address: Located) {
        let count = self.counts.entry(address).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            Arc::make_mut(&mut self.in_use).insert(address);
        }
    }

    /// Notes that an address is in use once less.
    pub(super) fn release(&mut self, address: Located) {
        if let Entry::Occupied(mut entry) = self.counts.entry(address) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
                Arc::make_mut(&mut self.in_use).remove(&address);
            }
        }
    }
}

impl FromIterator<Located> for Addresses {
    fn from_iter<T: IntoIterator<Item = Located>>(all: T) -> Self {
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
    fn an_address_is_in_use_until_everybody_has_given_it_back() {
        let address = (std::net::IpAddr::from([10, 0, 0, 1]), uuid::Uuid::nil());
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
