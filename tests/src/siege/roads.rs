//! Ways to the VIPs of single load balancers: they lead to the host that listens there, as routers learn it from hosts that
//! announce what they serve. Pairs announce their VIPs themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::wait::until;

/// Who listens where, and since when.
#[derive(Debug, Default)]
pub(super) struct Roads {
    served: Mutex<BTreeMap<String, BTreeMap<Ipv4Addr, Instant>>>,
    built: AtomicUsize,
}

impl Roads {
    /// Watches the host whose network the calling thread lives in, until told to stop.
    pub(super) fn watch(&self, host: &str, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = listening();
            let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            let known = served.entry(host.to_owned()).or_default();
            known.retain(|vip, _| now.contains(vip));
            for vip in now {
                known.entry(vip).or_insert_with(Instant::now);
            }
            drop(served);
            thread::sleep(LOOK);
        }
    }

    /// Leads clients, on the network that the calling thread lives in, to whoever began to listen last, until told to stop.
    pub(super) fn build(&self, ways: &BTreeMap<String, Ipv4Addr>, stop: &AtomicBool) {
        let mut built = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            for (vip, way) in self.wanted(ways) {
                if built.get(&vip) != Some(&way) {
                    let way_text = way.to_string();
                    let done = Command::new("ip")
                        .args(["route", "replace", &format!("{vip}/32"), "via", &way_text])
                        .status();
                    if done.is_ok_and(|status| status.success()) {
                        built.insert(vip, way);
                    }
                }
            }
            self.built.store(built.len(), Ordering::Relaxed);
            thread::sleep(LOOK);
        }
    }

    /// Waits until there are ways to so many VIPs.
    pub(super) fn wait_built(&self, count: usize) {
        until("there are ways to all VIPs", BUILD_MAX, || {
            self.built.load(Ordering::Relaxed) >= count
        });
    }

    fn wanted(&self, ways: &BTreeMap<String, Ipv4Addr>) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest: BTreeMap<Ipv4Addr, (Instant, Ipv4Addr)> = BTreeMap::new();
        for (host, vips) in served.iter() {
            let Some(way) = ways.get(host) else { continue };
            for (vip, since) in vips {
                let known = newest.entry(*vip).or_insert((*since, *way));
                *known = (*known).max((*since, *way));
            }
        }
        let ways = newest.into_iter().map(|(vip, (_, way))| (vip, way));
        ways.collect()
    }
}

/// Addresses of [`super::ground::ROUTED`] that somebody listens at here.
fn listening() -> BTreeSet<Ipv4Addr> {
    // Of the thread: the process lives elsewhere.
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
    let sockets = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let address = u32::from_str_radix(local.split(':').next()?, 16).ok()?;
        (state == LISTEN).then(|| Ipv4Addr::from(address.to_le_bytes()))
    });
    let is_routed = |vip: &Ipv4Addr| vip.octets()[..3] == super::ground::ROUTED.octets()[..3];
    sockets.filter(is_routed).collect()
}

/// The state of sockets that listen, as the kernel prints it.
const LISTEN: &str = "0A";
const BUILD_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
