//! Checks of listeners.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::{num::NonZeroU32, time::Duration};

use krater_amphora_api::{
    AccessLogSpec, CongestionControl, InsertHeadersSpec, ListenerProtocol, ListenerSpec, PoolId,
    PoolProtocol, SnapshotSpec, Subject, TimeoutsSpec,
};

use super::{
    Listener, Mode, Timeouts,
    parse::{Reasons, at_most, name, timer},
    policy, tls,
};
use crate::{
    certificate::InsertCertificate,
    forwarded::InsertHeaders,
    gate::{Cidrs, SourceRate},
    hsts::Hsts,
    limits,
};

/// Every listener of `spec`, in order.
pub(super) fn parse_all(spec: &SnapshotSpec, reasons: &mut Reasons) -> Vec<Listener> {
    at_most(
        limits::LISTENERS_MAX,
        spec.listeners.len(),
        "listeners",
        Subject::LoadBalancer,
        reasons,
    );
    let cidrs = spec
        .listeners
        .iter()
        .map(|listener| listener.allowed_cidrs.len())
        .sum();
    at_most(
        limits::ALLOWED_CIDRS_TOTAL_MAX,
        cidrs,
        "allowed CIDRs in all",
        Subject::LoadBalancer,
        reasons,
    );
    policy::check_counts(&spec.listeners, reasons);
    tls::check_totals(spec, reasons);
    let pools: BTreeMap<_, _> = spec
        .pools
        .iter()
        .map(|pool| (pool.id, pool.protocol))
        .collect();
    check_streams(spec, reasons);
    let mut ids = BTreeSet::new();
    let mut ports = BTreeMap::new();
    let mut listeners = Vec::with_capacity(spec.listeners.len());
    for listener in &spec.listeners {
        let subject = Subject::Listener(listener.id);
        reasons.require(ids.insert(listener.id), subject, || {
            String::from("the listener is listed twice")
        });
        let parsed = parse(listener, &pools, reasons);
        // Disabled listeners count: enabling one must not be able to fail.
        let port = (parsed.mode.transport(), listener.port);
        if let Some(other) = ports.insert(port, listener.id) {
            reasons.add(
                subject,
                format!("port {} is also that of listener {other}", listener.port),
            );
        }
        listeners.push(parsed);
    }
    listeners
}

/// That no stream is to be sealed: TLS to members is for HTTP.
fn check_streams(spec: &SnapshotSpec, reasons: &mut Reasons) {
    let sealed: BTreeSet<_> = spec
        .pools
        .iter()
        .filter(|pool| pool.tls.is_some() && pool.protocol != PoolProtocol::Http)
        .map(|pool| pool.id)
        .collect();
    for listener in &spec.listeners {
        let pool = listener.default_pool.filter(|id| sealed.contains(id));
        reasons.require(
            listener.protocol != ListenerProtocol::Tcp || pool.is_none(),
            Subject::Listener(listener.id),
            || String::from("a tcp listener cannot send to a proxy pool by TLS"),
        );
    }
}

fn parse(
    spec: &ListenerSpec,
    pools: &BTreeMap<PoolId, PoolProtocol>,
    reasons: &mut Reasons,
) -> Listener {
    let subject = Subject::Listener(spec.id);
    name(&spec.name, subject, reasons);
    reasons.require(spec.port != 0, subject, || {
        String::from("port 0 is not a port, 1 to 65535 are")
    });
    tls::check_listener(spec, reasons);
    // Whoever listens in could take it away, and browsers pay no heed to it there (RFC 6797 section 8.1).
    reasons.require(spec.hsts.is_none() || spec.tls.is_some(), subject, || {
        String::from("without TLS browsers cannot be told to come by that alone")
    });
    reasons.require(spec.connection_limit != 0, subject, || {
        String::from("a connection limit of 0 serves nobody, at least 1 is needed")
    });
    Listener {
        id: spec.id,
        name: spec.name.clone(),
        enabled: spec.enabled,
        mode: mode(spec, pools, reasons),
        protocol: spec.protocol,
        port: spec.port,
        connection_limit: spec.connection_limit,
        default_pool: spec.default_pool,
        gate: gate(&spec.allowed_cidrs, subject, reasons),
        source_rate: source_rate(spec.source_rate, subject, reasons),
        timeouts: timeouts(&spec.timeouts, subject, reasons),
        insert_headers: insert_headers(spec, reasons),
        insert_certificate: insert_certificate(spec, reasons),
        hsts: spec.hsts.as_ref().map(Hsts::new),
        policies: policy::parse_all(spec, pools, reasons),
        access_log: access_log(spec.access_log, subject, reasons),
        congestion_control: congestion_control(spec, reasons),
    }
}

fn congestion_control(spec: &ListenerSpec, reasons: &mut Reasons) -> Option<CongestionControl> {
    let named = spec.congestion_control?;
    let is_stream = spec.protocol != ListenerProtocol::Udp;
    reasons.require(is_stream, Subject::Listener(spec.id), || {
        format!("a udp listener has no congestion control, {named} is one of tcp")
    });
    Some(named)
}

fn access_log(
    spec: Option<AccessLogSpec>,
    subject: Subject,
    reasons: &mut Reasons,
) -> Option<NonZeroU32> {
    let one_in = NonZeroU32::new(spec?.one_in);
    reasons.require(one_in.is_some(), subject, || {
        String::from("an access log tells one in at least 1, not one in 0")
    });
    one_in
}

/// Which pool protocols a listener may send to (reference 21.2), and what becomes of the pair (19.1).
fn mode(
    spec: &ListenerSpec,
    pools: &BTreeMap<PoolId, PoolProtocol>,
    reasons: &mut Reasons,
) -> Mode {
    let subject = Subject::Listener(spec.id);
    let pool = spec.default_pool.and_then(|id| {
        let protocol = pools.get(&id).copied();
        reasons.require(protocol.is_some(), subject, || {
            format!("default pool {id} is not in the spec")
        });
        protocol
    });
    match (spec.protocol, pool) {
        // A PROXY pool speaks what its listener does.
        (
            ListenerProtocol::Tcp,
            None | Some(PoolProtocol::Tcp | PoolProtocol::Proxy | PoolProtocol::ProxyV2),
        ) => Mode::Tcp,
        (ListenerProtocol::Tcp, Some(PoolProtocol::Http)) => Mode::Http,
        (
            ListenerProtocol::Http,
            None | Some(PoolProtocol::Http | PoolProtocol::Proxy | PoolProtocol::ProxyV2),
        ) => Mode::Http,
        (ListenerProtocol::Udp, None | Some(PoolProtocol::Udp)) => Mode::Udp,
        // It answers itself.
        (ListenerProtocol::Prometheus, None) => Mode::Http,
        (listener, Some(pool)) => {
            let (mode, kind) = match listener {
                ListenerProtocol::Tcp => (Mode::Tcp, "a tcp"),
                ListenerProtocol::Http => (Mode::Http, "an http"),
                ListenerProtocol::Prometheus => (Mode::Http, "a prometheus"),
                ListenerProtocol::Udp => (Mode::Udp, "a udp"),
            };
            let pool = pool_kind(pool);
            reasons.add(
                subject,
                format!("{kind} listener cannot send to {pool} pool"),
            );
            mode
        }
    }
}

/// A pool's protocol, as it is named in sentences.
pub(super) const fn pool_kind(protocol: PoolProtocol) -> &'static str {
    match protocol {
        PoolProtocol::Tcp => "a tcp",
        PoolProtocol::Http => "an http",
        PoolProtocol::Proxy => "a proxy",
        PoolProtocol::ProxyV2 => "a proxy_v2",
        PoolProtocol::Udp => "a udp",
    }
}

fn gate(texts: &[String], subject: Subject, reasons: &mut Reasons) -> Cidrs {
    at_most(
        limits::ALLOWED_CIDRS_MAX,
        texts.len(),
        "allowed CIDRs",
        subject,
        reasons,
    );
    Cidrs::parse(texts).unwrap_or_else(|faults| {
        for fault in faults {
            reasons.add(subject, format!("allowed CIDR {fault}"));
        }
        Cidrs::default()
    })
}

fn source_rate(
    per_second: Option<u32>,
    subject: Subject,
    reasons: &mut Reasons,
) -> Option<SourceRate> {
    let per_second = per_second?;
    let rate = SourceRate::new(per_second);
    reasons.require(rate.is_some(), subject, || {
        format!(
            "{per_second} is no rate of a source, 1 to {} connections a second are",
            limits::SOURCE_RATE_MAX
        )
    });
    rate
}

/// Zero means the default, except for the inspection wait, of which there is none by default (reference 19.2).
fn timeouts(spec: &TimeoutsSpec, subject: Subject, reasons: &mut Reasons) -> Timeouts {
    let defaults = TimeoutsSpec::default();
    let mut read = |ms, default: u32, what| {
        timer(
            ms,
            Duration::from_millis(u64::from(default)),
            what,
            subject,
            reasons,
        )
    };
    let client_data = read(
        spec.client_data_ms,
        defaults.client_data_ms,
        "a client data timeout",
    );
    let member_connect = read(
        spec.member_connect_ms,
        defaults.member_connect_ms,
        "a member connect timeout",
    );
    let member_data = read(
        spec.member_data_ms,
        defaults.member_data_ms,
        "a member data timeout",
    );
    let tcp_inspect = read(spec.tcp_inspect_ms, 0, "a TCP inspection timeout");
    Timeouts {
        client_data,
        member_connect,
        member_data,
        tcp_inspect: (!tcp_inspect.is_zero()).then_some(tcp_inspect),
    }
}

/// What is told of certificates.
fn insert_certificate(spec: &ListenerSpec, reasons: &mut Reasons) -> InsertCertificate {
    let InsertHeadersSpec {
        x_ssl_client_verify: verify,
        x_ssl_client_has_cert: has_cert,
        x_ssl_client_dn: dn,
        x_ssl_client_cn: cn,
        x_ssl_issuer: issuer,
        x_ssl_client_sha1: sha1,
        x_ssl_client_not_before: not_before,
        x_ssl_client_not_after: not_after,
        ..
    } = spec.insert_headers;
    let insert = InsertCertificate {
        verify,
        has_cert,
        dn,
        cn,
        issuer,
        sha1,
        not_before,
        not_after,
    };
    let any = insert != InsertCertificate::default();
    reasons.require(
        !any || spec.tls.is_some(),
        Subject::Listener(spec.id),
        || String::from("without TLS nothing about certificates of clients can be inserted"),
    );
    insert
}

fn insert_headers(spec: &ListenerSpec, reasons: &mut Reasons) -> InsertHeaders {
    let InsertHeadersSpec {
        x_forwarded_for,
        x_forwarded_port,
        x_forwarded_proto,
        x_forwarded_ip,
        x_client_ip,
        x_real_ip,
        ..
    } = spec.insert_headers;
    reasons.require(
        spec.insert_headers == InsertHeadersSpec::default()
            || spec.protocol == ListenerProtocol::Http,
        Subject::Listener(spec.id),
        || String::from("only an http listener can insert headers"),
    );
    InsertHeaders {
        x_forwarded_for,
        x_forwarded_port,
        x_forwarded_proto,
        x_forwarded_ip,
        x_client_ip,
        x_real_ip,
    }
}
