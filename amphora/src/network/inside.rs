//! What a process looks after inside its namespace: the addresses of its load balancers, and the ways out.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Instant,
};

use krater_amphora_api::{Rejection, Subject};
use krater_amphora_core::snapshot::Snapshot;
use tokio::{sync::Mutex, time::timeout};

use super::{
    INTERFACE, Prefix, Route, Settings, Subnet,
    filter::{self, Filter},
    kernel::{Kernel, Rule},
};
use crate::limits::NETWORK_TIME_MAX;

/// The inside of a namespace.
#[derive(Debug)]
pub(crate) struct Inside {
    settings: Settings,
    kernel: Kernel,
    /// One at a time changes anything.
    turn: Mutex<Filter>,
    is_filtered: Cell<bool>,
}

/// The addresses of load balancers.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// They are to be there.
    own: BTreeSet<IpAddr>,
    /// Turns are taken at them: they come and go without us.
    apart: BTreeSet<IpAddr>,
    /// Who may come to them, as the kernel takes it.
    rules: String,
}

impl Addresses {
    /// Those of load balancers with these snapshots. Who takes turns at a load balancer's addresses has one of its own,
    /// from which it speaks to the others and reaches members.
    pub(crate) fn of<'a>(snapshots: impl Iterator<Item = &'a Snapshot>) -> Self {
        let snapshots: Vec<&Snapshot> = snapshots.collect();
        let mut addresses = Self::default();
        for snapshot in &snapshots {
            let vips = snapshot.vips().iter().copied();
            match snapshot.announcement() {
                Some(announcement) => {
                    addresses.own.insert(announcement.settings.address);
                    addresses.apart.extend(vips);
                }
                None => addresses.own.extend(vips),
            }
        }
        addresses.rules = filter::rules(snapshots.into_iter());
        addresses
    }
}

/// What is to be there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Each with the length of its subnet's prefix.
    addresses: BTreeSet<(IpAddr, u8)>,
    rules: BTreeSet<Rule>,
    /// Ways by table: those on the interface itself, and those beyond a router.
    near: BTreeMap<u8, Vec<Prefix>>,
    far: BTreeMap<u8, Vec<Route>>,
    /// Addresses that are somebody else's to give and take.
    apart: BTreeSet<IpAddr>,
}

impl Inside {
    /// Connects to the kernel. On a thread that is inside and runs local tasks.
    pub(crate) fn open(settings: Settings) -> io::Result<Self> {
        Ok(Self {
            settings,
            kernel: Kernel::connect()?,
            turn: Mutex::new(Filter::by("nft".into())),
            is_filtered: Cell::new(true),
        })
    }

    /// Whether the kernel refuses whom listeners refuse.
    pub(crate) const fn is_filtered(&self) -> bool {
        self.is_filtered.get()
    }

    /// Everything for which a load balancer cannot be had on this network.
    pub(crate) fn reasons_against(&self, snapshot: &Snapshot) -> Vec<Rejection> {
        reasons_against(&self.settings, snapshot)
    }

    /// Brings addresses, routes and rules to what is wanted; `addresses` is asked when it is this one's turn, and nothing
    /// is changed if it does not know any more.
    pub(crate) async fn settle<E>(
        &self,
        addresses: impl FnOnce() -> Result<Addresses, E>,
    ) -> Result<io::Result<()>, E> {
        let mut filter = self.turn.lock().await;
        let addresses = addresses()?;
        filter.settle(addresses.rules, Instant::now()).await;
        self.is_filtered.set(filter.is_in_force());
        let wanted = match Wanted::by(&self.settings, &addresses.own, addresses.apart) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Err(error)),
        };
        let settled = timeout(NETWORK_TIME_MAX, self.settle_wanted(&wanted)).await;
        Ok(settled.unwrap_or_else(|_| {
            let reason = "the kernel does not answer";
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }))
    }

    async fn settle_wanted(&self, wanted: &Wanted) -> io::Result<()> {
        let missing = || io::Error::other("its interface is gone");
        let index = self.kernel.index(INTERFACE).await?.ok_or_else(missing)?;
        self.settle_addresses(index, wanted).await?;
        if wanted.addresses.is_empty() {
            return Ok(());
        }
        for (table, near) in &wanted.near {
            for prefix in near {
                self.kernel.put_route(index, *prefix, None, *table).await?;
            }
        }
        for (table, far) in &wanted.far {
            for route in far {
                self.kernel
                    .put_route(index, route.destination, Some(route.via), *table)
                    .await?;
            }
        }
        // What the kernel keeps for addresses of its own accord is not among these.
        for table in self.tables() {
            let far = wanted.far.get(&table).into_iter().flatten().copied();
            let near = wanted.near.get(&table).into_iter().flatten();
            let near = near.map(|prefix| Route {
                destination: *prefix,
                via: prefix.address,
            });
            let keep: Vec<Route> = far.chain(near).collect();
            self.kernel.keep_routes(index, table, &keep).await?;
        }
        Ok(())
    }

    async fn settle_addresses(&self, index: u32, wanted: &Wanted) -> io::Result<()> {
        let kernel = &self.kernel;
        let rules = kernel.rules().await?;
        for rule in rules.difference(&wanted.rules) {
            kernel.remove_rule(*rule).await?;
        }
        let addresses = kernel.addresses(index).await?;
        let gone = addresses.difference(&wanted.addresses);
        for (address, length) in gone.filter(|(address, _)| !wanted.apart.contains(address)) {
            kernel.remove_address(index, *address, *length).await?;
        }
        for (address, length) in wanted.addresses.difference(&addresses) {
            kernel.add_address(index, *address, *length).await?;
        }
        for rule in wanted.rules.difference(&rules) {
            kernel.add_rule(*rule).await?;
        }
        if !wanted.addresses.is_empty() {
            kernel.up(index).await?;
        }
        Ok(())
    }

    fn tables(&self) -> impl Iterator<Item = u8> {
        let own = (1..).take(self.settings.subnets.len());
        [MAIN].into_iter().chain(own)
    }
}

impl Wanted {
    /// What load balancers with these addresses need.
    ///
    /// Whatever leaves from an address leaves by the routers of the subnet that the address is of, whatever other
    /// addresses there are: each subnet has a table of its own. What has no address yet, to members, goes by those of
    /// the first subnet.
    fn by(
        settings: &Settings,
        own: &BTreeSet<IpAddr>,
        apart: BTreeSet<IpAddr>,
    ) -> io::Result<Self> {
        let mut wanted = Self::default();
        for address in own.union(&apart) {
            let (table, subnet) = subnet_of(settings, *address)?;
            if own.contains(address) {
                wanted.addresses.insert((*address, subnet.prefix.length));
            }
            wanted.rules.insert(Rule {
                from: *address,
                table,
            });
        }
        wanted.apart = apart;
        let mut has_default = BTreeSet::new();
        for (table, subnet) in (1..).zip(&settings.subnets) {
            if !wanted.rules.iter().any(|rule| rule.table == table) {
                continue;
            }
            let ways = ways_out(subnet);
            wanted.near.insert(table, vec![subnet.prefix]);
            wanted.far.insert(table, ways.clone());
            let main = wanted.far.entry(MAIN).or_default();
            for way in ways {
                if has_default.insert(way.destination) {
                    main.push(way);
                }
            }
        }
        Ok(wanted)
    }
}

/// An address that is of no subnet of the network cannot be had there, nor others be reached from it.
fn reasons_against(settings: &Settings, snapshot: &Snapshot) -> Vec<Rejection> {
    let turns = snapshot.announcement().into_iter();
    let turns = turns.flat_map(|its| its.peers.iter().chain([&its.settings.address]));
    let all = snapshot.vips().iter().chain(turns);
    let strays = all.filter_map(|address| subnet_of(settings, *address).err());
    strays
        .map(|error| Rejection {
            subject: Subject::LoadBalancer,
            reason: error.to_string(),
        })
        .collect()
}

/// The subnet of an address, and the number of its table.
fn subnet_of(settings: &Settings, address: IpAddr) -> io::Result<(u8, &Subnet)> {
    let mut subnets = (1..).zip(&settings.subnets);
    let holds = |(_, subnet): &(u8, &Subnet)| subnet.prefix.contains(address);
    subnets.find(holds).ok_or_else(|| {
        let name = &settings.name;
        io::Error::other(format!(
            "no subnet of network {name:?} has the address {address}"
        ))
    })
}

/// The ways out of a subnet: by its routes, and all else by its gateway.
fn ways_out(subnet: &Subnet) -> Vec<Route> {
    let default = subnet.gateway.map(|via| Route {
        destination: Prefix::everything(via),
        via,
    });
    subnet.routes.iter().copied().chain(default).collect()
}

/// The table that is looked at when no rule says otherwise.
const MAIN: u8 = 254;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let subnet = |prefix: &str, gateway: &str| Subnet {
            prefix: Prefix::parse(prefix).unwrap(),
            gateway: gateway.parse().ok(),
            routes: Vec::new(),
        };
        let mut first = subnet("10.0.0.0/24", "10.0.0.1");
        first.routes.push(Route {
            destination: Prefix::parse("10.9.0.0/16").unwrap(),
            via: "10.0.0.2".parse().unwrap(),
        });
        Settings {
            name: "blue".to_owned(),
            bridge: "br".to_owned(),
            mtu: 1500,
            vxlan: None,
            subnets: vec![
                first,
                subnet("10.1.0.0/24", "10.1.0.1"),
                subnet("fd00::/64", ""),
            ],
        }
    }

    fn wanted(addresses: &[&str]) -> io::Result<Wanted> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        Wanted::by(&settings(), &addresses.collect(), BTreeSet::new())
    }

    #[test]
    fn where_turns_are_taken_the_own_address_is_there_and_a_vip_has_its_ways_whoever_gives_it() {
        let snapshot = turns("10.0.0.11", "10.0.0.12");
        assert_eq!(reasons_against(&settings(), &snapshot), []);
        let addresses = Addresses::of([snapshot].iter());
        let wanted = Wanted::by(&settings(), &addresses.own, addresses.apart).unwrap();
        let own = ("10.0.0.11".parse().unwrap(), 24);
        assert_eq!(wanted.addresses, BTreeSet::from([own]));
        let from: Vec<String> = wanted.rules.iter().map(|it| it.from.to_string()).collect();
        assert_eq!(from, ["10.0.0.10", "10.0.0.11", "10.1.0.10"]);
        assert!(wanted.near.contains_key(&1) && wanted.near.contains_key(&2));
    }

    #[test]
    fn an_address_that_the_network_has_not_is_a_reason_against_a_load_balancer() {
        let reasons = reasons_against(&settings(), &turns("10.0.0.11", "10.3.0.12"));
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].reason.contains("10.3.0.12"), "{reasons:?}");
        assert_eq!(
            reasons_against(&settings(), &turns("10.4.0.1", "10.4.0.2")).len(),
            2
        );
    }

    fn turns(own: &str, peer: &str) -> Snapshot {
        let spec = serde_json::json!({
            "load_balancer": uuid::Uuid::from_u128(1), "generation": 1,
            "vips": [{"address": "10.0.0.10"}, {"address": "10.1.0.10"}], "listeners": [], "pools": [],
            "announcement": {"virtual_router": 1, "priority": 100, "address": own, "peers": [peer]},
        });
        Snapshot::parse(serde_json::from_value(spec).unwrap()).unwrap()
    }

    #[test]
    fn what_leaves_from_an_address_leaves_by_the_routers_of_its_subnet() {
        let both = wanted(&["10.0.0.10", "10.1.0.10"]).unwrap();
        let tables: Vec<u8> = both.rules.iter().map(|rule| rule.table).collect();
        assert_eq!(tables, [1, 2]);
        assert_eq!(both.far[&1].len(), 2);
        assert_eq!(both.far[&2][0].via.to_string(), "10.1.0.1");
        assert_eq!(both.near[&2][0].to_string(), "10.1.0.0/24");
        let main: Vec<String> = both.far[&MAIN]
            .iter()
            .map(|way| way.via.to_string())
            .collect();
        assert_eq!(main, ["10.0.0.2", "10.0.0.1"]);
        let second = wanted(&["10.1.0.10"]).unwrap();
        assert_eq!(second.far[&MAIN][0].via.to_string(), "10.1.0.1");
        assert!(!second.near.contains_key(&1));
    }

    #[test]
    fn addresses_have_the_prefix_of_their_subnet_and_without_a_gateway_there_is_no_way_out() {
        let six = wanted(&["fd00::10"]).unwrap();
        assert_eq!(
            six.addresses,
            BTreeSet::from([("fd00::10".parse().unwrap(), 64)])
        );
        assert!(six.far[&3].is_empty() && six.far[&MAIN].is_empty());
        assert_eq!(wanted(&[]).unwrap(), Wanted::default());
        let stray = wanted(&["192.0.2.1"]).unwrap_err().to_string();
        assert!(
            stray.contains("192.0.2.1") && stray.contains("blue"),
            "{stray}"
        );
    }
}
