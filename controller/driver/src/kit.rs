//! What every implementation of a trait must do, as checks to run against it in its tests. They see what a caller
//! sees and nothing else, so they hold for a driver that talks to a cloud as for one that starts processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    model::{ProjectId, VipRequest},
    network::{Audience, NetworkView, PortView, SubnetView, Viewer},
};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    AllocateError, AllocatedVip, AmphoraOrder, Authenticator, ComputeDriver, Credentials, Endpoint,
    NetworkDriver, PortHolder, Taken, Unauthenticated,
};

/// A rule that an implementation breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{rule}: {found}")]
pub struct Breach {
    /// What must hold.
    pub rule: &'static str,
    /// What was found instead.
    pub found: String,
}

/// Checks an authenticator with credentials it must accept and some it must refuse.
///
/// # Errors
/// The first [`Breach`].
pub async fn check_authenticator(
    authenticator: &dyn Authenticator,
    good: &Credentials,
    bad: &[Credentials],
) -> Result<(), Breach> {
    let rule = "good credentials give the same caller each time";
    let first = authenticator
        .authenticate(good)
        .await
        .map_err(|error| breach(rule, &error))?;
    let second = authenticator
        .authenticate(good)
        .await
        .map_err(|error| breach(rule, &error))?;
    hold(rule, first == second, || {
        format!("{first:?}, then {second:?}")
    })?;
    for credentials in bad {
        let answer = authenticator.authenticate(credentials).await;
        let refused = answer == Err(Unauthenticated::Required);
        // What was sent is not repeated: it may be a token.
        hold("bad credentials are refused", refused, || {
            answer.map_or_else(|error| error.to_string(), |_| "let in".into())
        })?;
    }
    Ok(())
}

/// Checks a compute driver by starting, stopping and releasing the amphorae of two orders. It leaves none behind.
///
/// # Errors
/// The first [`Breach`].
pub async fn check_compute(
    driver: &dyn ComputeDriver,
    orders: [AmphoraOrder; 2],
) -> Result<(), Breach> {
    let outcome = check_compute_inner(driver, &orders).await;
    for order in &orders {
        driver
            .release(order.id)
            .await
            .map_err(|error| breach("release never fails on a healthy host", &error))?;
    }
    outcome
}

async fn check_compute_inner(
    driver: &dyn ComputeDriver,
    [one, two]: &[AmphoraOrder; 2],
) -> Result<(), Breach> {
    let absent = AmphoraId::new(Uuid::from_u128(1));
    done(
        "releasing what is absent is done",
        driver.release(absent).await,
    )?;

    let rule = "ensure is idempotent: it answers the same endpoint for a running amphora";
    let endpoint = done(rule, driver.ensure(one.clone()).await)?;
    let again = done(rule, driver.ensure(one.clone()).await)?;
    hold(rule, endpoint == again, || {
        format!("{endpoint:?}, then {again:?}")
    })?;

    let rule = "amphorae have endpoints of their own";
    let other = done(rule, driver.ensure(two.clone()).await)?;
    let addresses = |of: &Endpoint| [Some(of.agent), of.metrics];
    let theirs = addresses(&other);
    let clash = addresses(&endpoint)
        .iter()
        .flatten()
        .any(|ours| theirs.contains(&Some(*ours)));
    hold(rule, !clash, || format!("{endpoint:?} and {other:?}"))?;

    let rule = "fresh key material is taken without a new endpoint";
    let renewed = AmphoraOrder {
        identity: two.identity.clone(),
        ..one.clone()
    };
    let same = done(rule, driver.ensure(renewed).await)?;
    hold(rule, endpoint == same, || {
        format!("{endpoint:?}, then {same:?}")
    })?;

    let rule = "what was stopped, twice even, resumes where it was";
    done(rule, driver.stop_all().await)?;
    done(rule, driver.stop_all().await)?;
    let resumed = done(rule, driver.ensure(one.clone()).await)?;
    hold(rule, endpoint == resumed, || {
        format!("{endpoint:?}, then {resumed:?}")
    })?;

    let rule = "release is idempotent, and a released amphora can be started anew";
    done(rule, driver.release(one.id).await)?;
    done(rule, driver.release(one.id).await)?;
    done(rule, driver.ensure(one.clone()).await).map(drop)
}

/// Which ids a network driver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Those it lists.
    Listed,
    /// Any, as one without a network behind it.
    Any,
}

/// Checks a network driver that has at least one subnet with two free addresses.
///
/// # Errors
/// The first [`Breach`].
pub async fn check_network(driver: &dyn NetworkDriver, ids: Ids) -> Result<(), Breach> {
    let networks = driver
        .networks()
        .await
        .map_err(|error| breach("networks are listed", &error))?;
    check_ids(driver, &networks).await?;
    match ids {
        Ids::Listed => check_unknown(driver).await?,
        Ids::Any => check_any(driver).await?,
    }
    for network in &networks {
        for subnet in &network.subnets {
            check_subnet(driver, network, subnet).await?;
        }
        check_whole_network(driver, network).await?;
        check_audience(driver, network).await?;
        for port in &network.ports {
            check_port(driver, network, port).await?;
        }
    }
    Ok(())
}

async fn check_ids(driver: &dyn NetworkDriver, networks: &[NetworkView]) -> Result<(), Breach> {
    let rule = "each network, subnet and port has an id of its own, the same each time";
    let again = driver
        .networks()
        .await
        .map_err(|error| breach(rule, &error))?;
    hold(rule, again == networks, || {
        format!("{networks:?}, then {again:?}")
    })?;
    let mut seen: BTreeMap<Uuid, &str> = BTreeMap::new();
    for network in networks {
        let subnets = network
            .subnets
            .iter()
            .map(|subnet| (subnet.id, subnet.name.as_str()));
        let ports = network
            .ports
            .iter()
            .map(|port| (port.id, port.name.as_str()));
        let own = std::iter::once((network.id, network.name.as_str()));
        for (id, name) in own.chain(subnets).chain(ports) {
            let twice = seen.insert(id, name);
            hold(rule, twice.is_none(), || {
                format!("{name} and {} are both {id}", twice.unwrap_or_default())
            })?;
        }
    }
    let rule = "what is listed is known";
    for subnet in networks.iter().flat_map(|network| &network.subnets) {
        let known = driver
            .has_subnet(&Viewer::Operator, subnet.id)
            .await
            .map_err(|error| breach(rule, &error))?;
        hold(rule, known, || {
            format!("{} is listed and not known", subnet.id)
        })?;
    }
    Ok(())
}

async fn check_unknown(driver: &dyn NetworkDriver) -> Result<(), Breach> {
    let rule = "what is not listed is not known";
    let anybody = &Viewer::Operator;
    for known in [
        driver.has_subnet(anybody, NOWHERE).await,
        driver.has_qos_policy(anybody, NOWHERE).await,
        driver.has_security_group(anybody, NOWHERE).await,
    ] {
        let known = known.map_err(|error| breach(rule, &error))?;
        hold(rule, !known, || format!("{NOWHERE} is known"))?;
    }
    let requests = [
        (
            "Port",
            VipRequest {
                port_id: Some(NOWHERE),
                ..VipRequest::default()
            },
        ),
        (
            "Network",
            VipRequest {
                network_id: Some(NOWHERE),
                ..VipRequest::default()
            },
        ),
        (
            "Subnet",
            VipRequest {
                subnet_id: Some(NOWHERE),
                ..VipRequest::default()
            },
        ),
    ];
    for (kind, request) in requests {
        let rule = "what is asked for and not known is named";
        let unknown = AllocateError::Unknown {
            kind,
            id: NOWHERE.to_string(),
        };
        let answer = resolve(driver, &Viewer::Operator, &request).await;
        hold(rule, answer == Err(unknown.clone()), || {
            format!("{kind}: {answer:?}")
        })?;
        let answer = ask(driver, &request, &Taken::default()).await;
        hold(rule, answer == Err(unknown), || {
            format!("{kind}: {answer:?}")
        })?;
    }
    Ok(())
}

async fn check_any(driver: &dyn NetworkDriver) -> Result<(), Breach> {
    let rule = "any id names something, and the same each time";
    let viewer = &Viewer::Stranger;
    for known in [
        driver.has_subnet(viewer, NOWHERE).await,
        driver.has_qos_policy(viewer, NOWHERE).await,
        driver.has_security_group(viewer, NOWHERE).await,
    ] {
        let known = known.map_err(|error| breach(rule, &error))?;
        hold(rule, known, || format!("{NOWHERE} is not known"))?;
    }
    let requests = [
        VipRequest {
            port_id: Some(NOWHERE),
            ..VipRequest::default()
        },
        VipRequest {
            network_id: Some(NOWHERE),
            ..VipRequest::default()
        },
        VipRequest {
            subnet_id: Some(NOWHERE),
            ..VipRequest::default()
        },
    ];
    for request in requests {
        let network = resolve(driver, viewer, &request)
            .await
            .map_err(|error| breach(rule, &error))?;
        let given = ask(driver, &request, &Taken::default())
            .await
            .map_err(|error| breach(rule, &error))?;
        let vip = &given.vip;
        let right = vip.network_id == network
            && request.port_id.unwrap_or(PORT) == vip.port_id
            && request.network_id.is_none_or(|id| id == network)
            && request.subnet_id.is_none_or(|id| id == vip.subnet_id);
        hold(rule, right, || format!("{given:?} for {request:?}"))?;
    }
    Ok(())
}

/// `named` asks for an address, the `only` one of its subnet or not.
async fn check_wanted(
    driver: &dyn NetworkDriver,
    (named, network): (&VipRequest, Uuid),
    only: bool,
) -> Result<(), Breach> {
    let rule = "an address that somebody wants is not chosen, but given to whoever asks for it";
    let wanted = Taken {
        wanted: named.address.into_iter().map(|it| (it, network)).collect(),
        ..Taken::default()
    };
    let given = ask(driver, named, &wanted).await;
    let right = matches!(&given, Ok(given) if Some(given.vip.address) == named.address);
    hold(rule, right, || format!("{given:?}"))?;
    let mut unnamed = named.clone();
    unnamed.address = None;
    match ask(driver, &unnamed, &wanted).await {
        Ok(other) => hold(rule, Some(other.vip.address) != named.address, || {
            format!("{other:?}")
        }),
        Err(AllocateError::Invalid(_)) if only => Ok(()),
        Err(error) => Err(breach(rule, &error)),
    }
}

async fn check_subnet(
    driver: &dyn NetworkDriver,
    network: &NetworkView,
    subnet: &SubnetView,
) -> Result<(), Breach> {
    let request = VipRequest {
        subnet_id: Some(subnet.id),
        ..VipRequest::default()
    };
    let rule =
        "a subnet alone gives an address of its range, on its network, with the port id asked for";
    let first = ask(driver, &request, &Taken::default())
        .await
        .map_err(|error| breach(rule, &error))?;
    let vip = &first.vip;
    let (low, high) = subnet.allocation;
    let right = (low..=high).contains(&vip.address)
        && (vip.subnet_id, vip.network_id, vip.port_id) == (subnet.id, network.id, PORT)
        && first.additional.is_empty();
    hold(rule, right, || format!("{first:?} from {subnet:?}"))?;

    let rule = "an address that is taken is not given again, and refused when asked for";
    let taken = Taken {
        addresses: Arc::new(BTreeSet::from([(vip.address, network.id)])),
        ..Taken::default()
    };
    match ask(driver, &request, &taken).await {
        Ok(second) => hold(rule, second.vip.address != vip.address, || {
            format!("{second:?}")
        })?,
        // The only address of the subnet may have been the first.
        Err(AllocateError::Invalid(_)) if low == high => {}
        Err(error) => return Err(breach(rule, &error)),
    }
    let wanted = VipRequest {
        address: Some(vip.address),
        ..request.clone()
    };
    let answer = ask(driver, &wanted, &taken).await;
    let refused =
        matches!(&answer, Err(AllocateError::InUse { address, .. }) if *address == vip.address);
    hold(rule, refused, || format!("{answer:?}"))?;

    check_wanted(driver, (&wanted, network.id), low == high).await?;

    let rule = "an address asked for is given when it is free";
    let given = ask(driver, &wanted, &Taken::default())
        .await
        .map_err(|error| breach(rule, &error))?;
    hold(rule, given.vip.address == vip.address, || {
        format!("{given:?}")
    })?;

    let rule = "addresses are given back, twice if need be";
    driver
        .release_vip(LOAD_BALANCER, vip)
        .await
        .map_err(|error| breach(rule, &error))?;
    driver
        .release_vip(LOAD_BALANCER, vip)
        .await
        .map_err(|error| breach(rule, &error))
}

async fn check_whole_network(
    driver: &dyn NetworkDriver,
    network: &NetworkView,
) -> Result<(), Breach> {
    let rule = "a network alone gives an address of one of its subnets";
    let request = VipRequest {
        network_id: Some(network.id),
        ..VipRequest::default()
    };
    let given = ask(driver, &request, &Taken::default())
        .await
        .map_err(|error| breach(rule, &error))?;
    let subnet = network
        .subnets
        .iter()
        .find(|subnet| subnet.id == given.vip.subnet_id);
    hold(
        rule,
        subnet.is_some() && given.vip.network_id == network.id,
        || format!("{given:?}"),
    )?;

    let rule = "no subnet gives two addresses to one load balancer";
    let doubled = VipRequest {
        additional: vec![(given.vip.subnet_id, None)],
        ..request.clone()
    };
    let answer = ask(driver, &doubled, &Taken::default()).await;
    hold(
        rule,
        matches!(answer, Err(AllocateError::Invalid(_))),
        || format!("{answer:?}"),
    )?;

    let rule = "additional addresses come from the subnets asked for";
    for other in network
        .subnets
        .iter()
        .filter(|other| other.id != given.vip.subnet_id)
    {
        let both = VipRequest {
            subnet_id: Some(given.vip.subnet_id),
            additional: vec![(other.id, None)],
            ..VipRequest::default()
        };
        let answer = ask(driver, &both, &Taken::default())
            .await
            .map_err(|error| breach(rule, &error))?;
        let right = answer
            .additional
            .iter()
            .map(|vip| vip.subnet_id)
            .eq([other.id]);
        hold(rule, right, || format!("{answer:?}"))?;
    }
    Ok(())
}

/// What is for some projects only does not exist for others.
async fn check_audience(driver: &dyn NetworkDriver, network: &NetworkView) -> Result<(), Breach> {
    let rule = "what somebody may not see does not exist for them";
    let hidden = network.audience != Audience::Everybody;
    let requests = network.subnets.iter().map(|subnet| VipRequest {
        subnet_id: Some(subnet.id),
        ..VipRequest::default()
    });
    let whole = VipRequest {
        network_id: Some(network.id),
        ..VipRequest::default()
    };
    for request in requests.chain([whole]) {
        let answer = resolve(driver, &Viewer::Stranger, &request).await;
        let right = match &answer {
            Err(AllocateError::Unknown { .. }) => hidden,
            Ok(id) => !hidden && *id == network.id,
            Err(_) => false,
        };
        hold(rule, right, || format!("{request:?}: {answer:?}"))?;
    }
    for port in network.ports.iter().filter(|port| port.project.is_some()) {
        let answer = resolve(driver, &Viewer::Stranger, &by_port(port)).await;
        let unknown = AllocateError::Unknown {
            kind: "Port",
            id: port.id.to_string(),
        };
        hold(rule, answer == Err(unknown), || {
            format!("{port:?}: {answer:?}")
        })?;
    }
    Ok(())
}

async fn check_port(
    driver: &dyn NetworkDriver,
    network: &NetworkView,
    port: &PortView,
) -> Result<(), Breach> {
    let rule = "a port in use is refused, and says by whom";
    let holder = PortHolder {
        load_balancer: OTHER_LOAD_BALANCER,
        project: ProjectId::parse("kit").ok_or_else(|| breach(rule, &"no project"))?,
    };
    let held = Taken {
        port: Some(holder),
        ..Taken::default()
    };
    let in_use = |device: &str| {
        let id = port.id;
        Err(AllocateError::Invalid(format!(
            "Port {id} is already used by device {device}"
        )))
    };
    let answer = ask(driver, &by_port(port), &held).await;
    let lb = format!("lb-{OTHER_LOAD_BALANCER}");
    hold(rule, answer == in_use(&lb), || format!("{answer:?}"))?;
    if let Some(device) = &port.device_id {
        let answer = ask(driver, &by_port(port), &Taken::default()).await;
        return hold(rule, answer == in_use(device), || format!("{answer:?}"));
    }

    for fixed_ip in &port.fixed_ips {
        let rule = "a port gives its own address and itself";
        let wanted = VipRequest {
            address: Some(fixed_ip.address),
            ..by_port(port)
        };
        let given = ask(driver, &wanted, &Taken::default())
            .await
            .map_err(|error| breach(rule, &error))?;
        let vip = (given.vip.address, given.vip.port_id, given.vip.subnet_id);
        let right = vip == (fixed_ip.address, port.id, fixed_ip.subnet_id)
            && given.vip.network_id == network.id;
        hold(rule, right, || format!("{given:?} of {port:?}"))?;

        let rule = "an address of a port is given with the port only";
        let alone = VipRequest {
            subnet_id: Some(fixed_ip.subnet_id),
            address: Some(fixed_ip.address),
            ..VipRequest::default()
        };
        let answer = ask(driver, &alone, &Taken::default()).await;
        let refused = matches!(&answer, Err(AllocateError::InUse { address, .. }) if *address == fixed_ip.address);
        hold(rule, refused, || format!("{answer:?}"))?;
    }
    let rule = "a port of one address needs no more to be said";
    let answer = ask(driver, &by_port(port), &Taken::default()).await;
    let right = match (&answer, port.fixed_ips.as_slice()) {
        (Ok(given), [only]) => given.vip.address == only.address,
        (Err(AllocateError::Invalid(_)), [_, _, ..]) => true,
        _ => false,
    };
    hold(rule, right, || format!("{answer:?} of {port:?}"))
}

fn by_port(port: &PortView) -> VipRequest {
    VipRequest {
        port_id: Some(port.id),
        ..VipRequest::default()
    }
}

async fn ask(
    driver: &dyn NetworkDriver,
    request: &VipRequest,
    taken: &Taken,
) -> Result<AllocatedVip, AllocateError> {
    driver
        .allocate_vip(LOAD_BALANCER, &Viewer::Operator, request, PORT, taken)
        .await
}

async fn resolve(
    driver: &dyn NetworkDriver,
    viewer: &Viewer,
    request: &VipRequest,
) -> Result<Uuid, AllocateError> {
    driver.resolve_vip(viewer, request, &Taken::default()).await
}

fn hold(rule: &'static str, holds: bool, found: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds {
        Ok(())
    } else {
        Err(Breach {
            rule,
            found: found(),
        })
    }
}

fn done<T, E: std::fmt::Display>(rule: &'static str, outcome: Result<T, E>) -> Result<T, Breach> {
    outcome.map_err(|error| breach(rule, &error))
}

fn breach(rule: &'static str, error: &dyn std::fmt::Display) -> Breach {
    Breach {
        rule,
        found: error.to_string(),
    }
}

/// Names nothing.
const NOWHERE: Uuid = Uuid::from_u128(0xdead_0000_0000_4000_8000_0000_0000_dead);
const PORT: Uuid = Uuid::from_u128(0x0000_0001_0000_4000_8000_0000_0000_0001);
const OTHER_LOAD_BALANCER: LoadBalancerId =
    LoadBalancerId::new(Uuid::from_u128(0x0000_0003_0000_4000_8000_0000_0000_0003));
const LOAD_BALANCER: LoadBalancerId =
    LoadBalancerId::new(Uuid::from_u128(0x0000_0002_0000_4000_8000_0000_0000_0002));
