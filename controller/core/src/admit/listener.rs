//! Rules of listeners (reference 6).

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};
use core::net::IpAddr;

use krater_amphora_api::{ListenerId, LoadBalancerId, PoolId};

use super::{
    address::{Family, network_family},
    draft::{Draft, Mark},
    l7_policy, listener_tls, load_balancer,
};
use crate::{
    change::Change,
    command::{ListenerUpdate, NewListener, PoolRef},
    limits, matrix,
    model::{
        HeaderKind, InsertHeaders, Listener, ListenerProtocol, Pool, PoolProtocol, header_kind,
    },
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked without a tree.
pub(super) fn check_new(new: &NewListener, rules: &Rules) -> Result<(), Refusal> {
    check_allowed(new.protocol, rules)?;
    listener_tls::check_new(new, rules)?;
    check_headers(new.protocol, &new.insert_headers)?;
    check_networks_count(&new.allowed_cidrs)
}

/// That the deployment has listeners of `protocol`.
fn check_allowed(protocol: ListenerProtocol, rules: &Rules) -> Result<(), Refusal> {
    let allowed = match protocol {
        ListenerProtocol::TerminatedHttps => rules.tls_terminated_listeners,
        ListenerProtocol::Prometheus => rules.prometheus_listeners,
        ListenerProtocol::Tcp
        | ListenerProtocol::Http
        | ListenerProtocol::Https
        | ListenerProtocol::Udp
        | ListenerProtocol::Sctp => true,
    };
    if allowed {
        return Ok(());
    }
    Err(Refusal::Disallowed {
        kind: "protocol",
        name: protocol.name().into(),
    })
}

pub(super) fn create(
    mut draft: Draft<'_>,
    balancer: LoadBalancerId,
    new: NewListener,
    rules: &Rules,
) -> Result<Change, Refusal> {
    load_balancer::require(&draft.tree, balancer)?;
    let default_pool = match new.default_pool {
        None => None,
        Some(PoolRef::Existing(id)) => Some(id),
        Some(PoolRef::New(_)) => {
            return Err(Refusal::Invalid(
                "default_pool can only be given with a new load balancer.".into(),
            ));
        }
    };
    let pool = default_pool
        .map(|id| find_pool(&draft.tree, id))
        .transpose()?;
    check_new(&new, rules)?;
    check_pool_protocol(new.protocol, pool.map(|row| row.value.protocol))?;
    check_networks_of(&draft.tree, None, &new.allowed_cidrs)?;
    if staying(&draft.tree).count() >= limits::LISTENERS_MAX {
        return Err(Refusal::QuotaMet("Listener"));
    }
    require_pool(&draft, pool)?;
    let key = |protocol: ListenerProtocol, port| (protocol.family(), port);
    let wanted = key(new.protocol, new.protocol_port);
    if staying(&draft.tree).any(|other| key(other.protocol, other.protocol_port) == wanted) {
        return Err(Refusal::DuplicatePort {
            protocol: new.protocol,
            port: new.protocol_port,
        });
    }
    let id = add(&mut draft, new, default_pool, &[], rules)?;
    Ok(draft.finish(ResourceId::Listener(id)))
}

/// Adds a checked listener, with its L7 policies. `pools` are those of the same request.
pub(super) fn add(
    draft: &mut Draft<'_>,
    new: NewListener,
    default_pool: Option<PoolId>,
    pools: &[PoolId],
    rules: &Rules,
) -> Result<ListenerId, Refusal> {
    let id = ListenerId::new(draft.next_id());
    let mut tls = new.tls;
    if new.protocol == ListenerProtocol::TerminatedHttps {
        tls.terms.complete(&rules.listener_terms);
    }
    draft.add_listener(Listener {
        id,
        name: new.name,
        description: new.description,
        admin_state_up: new.admin_state_up,
        protocol: new.protocol,
        protocol_port: new.protocol_port,
        connection_limit: new.connection_limit,
        default_pool,
        l7_policies: Vec::new(),
        allowed_cidrs: new.allowed_cidrs,
        timeouts: new.timeouts,
        insert_headers: new.insert_headers,
        tls,
        hsts: new.hsts,
        tags: new.tags,
    });
    for policy in new.l7_policies {
        l7_policy::add(draft, id, policy, pools)?;
    }
    Ok(id)
}

pub(super) fn update(
    mut draft: Draft<'_>,
    id: ListenerId,
    update: ListenerUpdate,
    rules: &Rules,
) -> Result<Change, Refusal> {
    let row = find(&draft.tree, id)?;
    let pool = update
        .default_pool
        .flatten()
        .map(|id| find_pool(&draft.tree, id))
        .transpose()?;
    listener_tls::check_update(&row.value, &update, rules)?;
    if let Some(headers) = &update.insert_headers {
        check_headers(row.value.protocol, headers)?;
    }
    check_pool_protocol(row.value.protocol, pool.map(|row| row.value.protocol))?;
    if let Some(networks) = &update.allowed_cidrs {
        check_networks_count(networks)?;
        check_networks_of(&draft.tree, Some(id), networks)?;
    }
    draft.require_staying(row, ResourceId::Listener(id))?;
    require_pool(&draft, pool)?;
    let mut update = Some(update);
    draft.change_listener(id, Mark::Named, |listener| {
        if let Some(update) = update.take() {
            apply(listener, update, rules);
        }
    });
    Ok(draft.finish(ResourceId::Listener(id)))
}

fn apply(listener: &mut Listener, update: ListenerUpdate, rules: &Rules) {
    let ListenerUpdate {
        name,
        description,
        admin_state_up,
        connection_limit,
        default_pool,
        allowed_cidrs,
        client_data_ms,
        member_connect_ms,
        member_data_ms,
        tcp_inspect_ms,
        insert_headers,
        tls,
        hsts,
        tags,
    } = update;
    super::set(&mut listener.name, name);
    super::set(&mut listener.description, description);
    super::set(&mut listener.admin_state_up, admin_state_up);
    super::set(&mut listener.connection_limit, connection_limit);
    super::set(&mut listener.default_pool, default_pool);
    super::set(&mut listener.allowed_cidrs, allowed_cidrs);
    super::set(&mut listener.timeouts.client_data_ms, client_data_ms);
    super::set(&mut listener.timeouts.member_connect_ms, member_connect_ms);
    super::set(&mut listener.timeouts.member_data_ms, member_data_ms);
    super::set(&mut listener.timeouts.tcp_inspect_ms, tcp_inspect_ms);
    super::set(&mut listener.insert_headers, insert_headers);
    listener_tls::apply(&mut listener.tls, tls, rules);
    listener_tls::apply_hsts(&mut listener.hsts, hsts);
    super::set(&mut listener.tags, tags);
}

/// Its pool stays (reference 6.5); its L7 policies go with it, and their rules.
pub(super) fn delete(mut draft: Draft<'_>, id: ListenerId) -> Result<Change, Refusal> {
    if find(&draft.tree, id)?.is_leaving() {
        return Ok(draft.unchanged(ResourceId::Listener(id)));
    }
    draft.change_listener(id, Mark::Leaves, |_| ());
    let policies = draft.tree.l7_policies.iter();
    let own: BTreeSet<_> = policies
        .filter(|row| row.value.listener == id)
        .map(|row| row.value.id)
        .collect();
    draft.change_l7_policies(Mark::Leaves, |policy| policy.listener == id, |_| ());
    draft.change_l7_rules(Mark::Leaves, |rule| own.contains(&rule.policy), |_| ());
    Ok(draft.finish(ResourceId::Listener(id)))
}

/// The row of listener `id`.
pub(super) fn find(tree: &LoadBalancerTree, id: ListenerId) -> Result<&Row<Listener>, Refusal> {
    tree.listener(id)
        .ok_or(Refusal::NotFound(ResourceId::Listener(id)))
}

/// That a listener of protocol `listener` may send to a pool of protocol `pool`, if there is one (reference 21.2).
pub(super) fn check_pool_protocol(
    listener: ListenerProtocol,
    pool: Option<PoolProtocol>,
) -> Result<(), Refusal> {
    match pool {
        Some(_) if listener == ListenerProtocol::Prometheus => Err(Refusal::ChildOfPrometheus),
        Some(pool) if !matrix::carries(listener, pool) => {
            Err(Refusal::ProtocolMismatch { listener, pool })
        }
        _ => Ok(()),
    }
}

/// The pool `id` as something else names it.
pub(super) fn find_pool(tree: &LoadBalancerTree, id: PoolId) -> Result<&Row<Pool>, Refusal> {
    tree.pool(id).ok_or(Refusal::NotFound(ResourceId::Pool(id)))
}

/// Refuses when `pool`, if there is one, or the load balancer is being deleted.
pub(super) fn require_pool(draft: &Draft<'_>, pool: Option<&Row<Pool>>) -> Result<(), Refusal> {
    match pool {
        Some(pool) => draft.require_staying(pool, ResourceId::Pool(pool.value.id)),
        None => draft.require_balancer(),
    }
}

/// The listeners that are not being deleted. One that is has given its port up: both happen in one apply.
pub(super) fn staying(tree: &LoadBalancerTree) -> impl Iterator<Item = &Listener> {
    tree.listeners
        .iter()
        .filter(|row| !row.is_leaving())
        .map(|row| &row.value)
}

/// Only HTTP has headers, and only those a listener knows (reference 6.4). No headers are fine everywhere.
fn check_headers(protocol: ListenerProtocol, headers: &InsertHeaders) -> Result<(), Refusal> {
    if headers.0.is_empty() {
        return Ok(());
    }
    let refused = |value: String, field: String| Err(Refusal::InvalidOption { value, field });
    let certificates = match protocol {
        ListenerProtocol::TerminatedHttps => true,
        ListenerProtocol::Http => false,
        ListenerProtocol::Tcp
        | ListenerProtocol::Https
        | ListenerProtocol::Udp
        | ListenerProtocol::Sctp
        | ListenerProtocol::Prometheus => {
            let field = format!("a {} protocol listener.", protocol.name());
            return refused("insert-headers".into(), field);
        }
    };
    if let Some(unknown) = quoted(headers, |kind| kind.is_none()) {
        return refused(unknown, "insert_headers".into());
    }
    match quoted(headers, |kind| kind == Some(HeaderKind::ClientCertificate)) {
        Some(names) if !certificates => {
            refused(names, format!("{} protocol listener.", protocol.name()))
        }
        _ => Ok(()),
    }
}

/// The names of the headers whose kind `which` picks, as the reference prints them; `None` when there are none.
fn quoted(headers: &InsertHeaders, which: impl Fn(Option<HeaderKind>) -> bool) -> Option<String> {
    let names: Vec<_> = headers
        .0
        .keys()
        .filter(|name| which(header_kind(name)))
        .map(|name| {
            format!(
                "'{}'",
                name.chars()
                    .take(HEADER_ECHO_CHARACTERS_MAX)
                    .collect::<String>()
            )
        })
        .collect();
    (!names.is_empty()).then(|| format!("[{}]", names.join(", ")))
}

/// More than any header's name has: what a refusal repeats is not for the caller to size.
const HEADER_ECHO_CHARACTERS_MAX: usize = 64;

fn check_networks_count(networks: &[String]) -> Result<(), Refusal> {
    if networks.len() > limits::ALLOWED_CIDRS_MAX {
        return Err(Refusal::Invalid(format!(
            "at most {} allowed_cidrs are allowed.",
            limits::ALLOWED_CIDRS_MAX
        )));
    }
    Ok(())
}

/// That all listeners of one load balancer together do not allow too many networks.
pub(super) fn check_networks_total(networks: usize) -> Result<(), Refusal> {
    if networks > limits::ALLOWED_CIDRS_TOTAL_MAX {
        return Err(Refusal::Invalid(format!(
            "the listeners of one load balancer may have at most {} allowed_cidrs together.",
            limits::ALLOWED_CIDRS_TOTAL_MAX
        )));
    }
    Ok(())
}

/// `networks`, of listener `of` if it exists, against the addresses of the tree and its other listeners.
fn check_networks_of(
    tree: &LoadBalancerTree,
    of: Option<ListenerId>,
    networks: &[String],
) -> Result<(), Refusal> {
    let balancer = &tree.load_balancer.value;
    load_balancer::check_groups(&balancer.vip_sg_ids, core::iter::once(networks))?;
    check_networks(
        networks,
        &load_balancer::addresses(&balancer.vip, &balancer.additional_vips),
    )?;
    let others = staying(tree).filter(|other| Some(other.id) != of);
    check_networks_total(
        networks
            .len()
            .saturating_add(others.map(|other| other.allowed_cidrs.len()).sum()),
    )
}

/// That each network can hold clients of at least one of `vips` (reference 6.4).
pub(super) fn check_networks(networks: &[String], vips: &[IpAddr]) -> Result<(), Refusal> {
    for network in networks {
        let family = network_family(network)?;
        if vips.iter().all(|vip| Family::of(*vip) != family) {
            let vips: Vec<_> = vips.iter().map(|vip| format!("{vip}")).collect();
            return Err(Refusal::Invalid(format!(
                "CIDR {network} IP version incompatible with all VIPs [{}] IP version.",
                vips.join(", ")
            )));
        }
    }
    Ok(())
}
