//! What a process looks after inside its namespace: the addresses of its load balancers, and the ways out.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use tokio::sync::Mutex;
use tracing::warn;

use super::{
    INTERFACE, Prefix, Route, Settings, Subnet, filter,
    kernel::{Kernel, Rule},
};

/// The inside of a namespace.
#[derive(Debug)]
pub(crate) struct Inside {
    settings: Settings,
    kernel: Kernel,
    /// One at a time changes anything. The rules that are in force, if it is known which.
    turn: Mutex<Option<String>>,
}

/// The addresses of load balancers.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// They are to be there.
    pub(crate) own: BTreeSet<IpAddr>,
    /// Turns are taken at them: they come and go without us.
    pub(crate) apart: BTreeSet<IpAddr>,
    /// Who may come to them, as the kernel takes it.
    pub(crate) rules: String,
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
            turn: Mutex::default(),
        })
    }

    /// Brings addresses, routes and rules to what is wanted; `addresses` is asked when it is this one's turn.
    pub(crate) async fn settle(&self, addresses: impl FnOnce() -> Addresses) -> io::Result<()> {
        let mut in_force = self.turn.lock().await;
        let addresses = addresses();
        filter_by(addresses.rules, &mut in_force).await;
        let mut wanted = Wanted::by(&self.settings, &addresses.own)?;
        wanted.apart = addresses.apart;
        let missing = || io::Error::other("its interface is gone");
        let index = self.kernel.index(INTERFACE).await?.ok_or_else(missing)?;
        self.settle_addresses(index, &wanted).await?;
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
    fn by(settings: &Settings, addresses: &BTreeSet<IpAddr>) -> io::Result<Self> {
        let mut wanted = Self::default();
        for address in addresses {
            let (table, subnet) = subnet_of(settings, *address)?;
            wanted.addresses.insert((*address, subnet.prefix.length));
            wanted.rules.insert(Rule {
                from: *address,
                table,
            });
        }
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

/// Has the kernel refuse whom listeners refuse. Where it cannot be told, they do.
async fn filter_by(rules: String, in_force: &mut Option<String>) {
    if in_force.as_ref() == Some(&rules) {
        return;
    }
    match filter::load(&rules).await {
        Ok(()) => *in_force = Some(rules),
        Err(error) => {
            warn!(%error, "allowed CIDRs are not in the kernel (nft): clients are refused once they are connected");
            // Not tried again until there are other ones: what is there may let in whom these refuse, which is looked
            // at again, but must not refuse whom they let in.
            let _ = filter::load(&filter::rules(std::iter::empty())).await;
            *in_force = Some(rules);
        }
    }
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
        Wanted::by(&settings(), &addresses.collect())
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
