//! The sources that have connected to a listener lately, as far as their rate is limited: a table of fixed size, shared
//! by all threads. A connection costs one comparison and exchange there.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use krater_amphora_core::{
    gate::{Judgement, Source, SourceRate, WAYS},
    limits::SOURCE_SETS,
    time,
};

use super::ListenerShared;

/// Who has connected, and until when that is paid for.
#[derive(Debug)]
pub(crate) struct Sources {
    rate: SourceRate,
    began: Instant,
    /// Nobody outside can choose addresses that share a slot.
    secret: u64,
    sets: Box<[[AtomicU64; WAYS]]>,
}

impl ListenerShared {
    /// Whether a client of that address may connect once more.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        match &*self.sources.load() {
            None => true,
            Some(sources) => sources.admits(address),
        }
    }

    /// Limits the rate of sources from now on, as it did if the rate is the same.
    pub(super) fn limit_sources(&self, rate: Option<SourceRate>) {
        if self.sources.load().as_ref().map(|sources| sources.rate()) != rate {
            self.sources
                .store(rate.map(|rate| Arc::new(Sources::new(rate))));
        }
    }
}

impl Sources {
    /// Nobody has connected yet.
    pub(super) fn new(rate: SourceRate) -> Self {
        Self {
            rate,
            began: Instant::now(),
            secret: rand::random(),
            sets: (0..SOURCE_SETS).map(|_| Default::default()).collect(),
        }
    }

    /// How often one source may connect.
    pub(super) const fn rate(&self) -> SourceRate {
        self.rate
    }

    /// Whether a connection from that address may come in; counts it if so.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let now = time::Instant::default().saturating_add(self.began.elapsed());
        self.admits_at(address, now)
    }

    fn admits_at(&self, address: IpAddr, now: time::Instant) -> bool {
        let source = Source::of(address, self.secret);
        let Some(set) = self.sets.get(source.set()) else {
            return true;
        };
        // Whoever takes the slot first has been judged and paid for, so all tries together are no more than those let in.
        loop {
            let slots = set.each_ref().map(|slot| slot.load(Relaxed));
            let (way, next) = match self.rate.judge(source, &slots, now) {
                Judgement::Refuse => return false,
                Judgement::Admit { way, next } => (way, next),
            };
            let (Some(slot), Some(before)) = (set.get(way), slots.get(way)) else {
                return true;
            };
            if slot
                .compare_exchange(*before, next, Relaxed, Relaxed)
                .is_ok()
            {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn threads_together_let_in_what_one_would() {
        let sources = Sources::new(SourceRate::new(1_000).unwrap());
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let now = time::Instant(1);
        let admitted = std::thread::scope(|scope| {
            let ask = || {
                (0..1_000)
                    .filter(|_| sources.admits_at(client, now))
                    .count()
            };
            let all: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            all.into_iter()
                .map(|one| one.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(admitted, 1_000);
        assert!(sources.admits_at(Ipv4Addr::new(127, 0, 0, 2).into(), now));
    }
}
