//! Values of fields as the wire lets them through: mostly plausible, at their bounds now and then, odd sometimes.

use std::{collections::BTreeMap, net::IpAddr};

use krater_amphora_api::{ExpectedCodes, HttpVersion};
use krater_controller_core::model::{
    Description, HttpMonitor, InsertHeaders, LbAlgorithm, ListenerProtocol, MonitorKind,
    MonitorType, Name, PoolProtocol, Tags, Timeouts,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

/// A text of at most 255 characters, whatever they are.
pub(crate) fn text() -> BoxedStrategy<String> {
    prop_oneof![
        8 => "[a-z0-9-]{0,8}",
        1 => any::<String>().prop_map(|text| text.chars().take(255).collect()),
        1 => select(vec!["\u{1f980}", "\u{7f}", "\"", "\\", "\0", "\u{2028}"]).prop_map(|character| character.repeat(255)),
    ]
    .boxed()
}

pub(crate) fn name() -> BoxedStrategy<Name> {
    text()
        .prop_map(|text| Name::parse(text).expect("a name"))
        .boxed()
}

pub(crate) fn description() -> BoxedStrategy<Description> {
    text()
        .prop_map(|text| Description::parse(text).expect("a description"))
        .boxed()
}

pub(crate) fn tags() -> BoxedStrategy<Tags> {
    vec(
        text().prop_filter("not empty", |text| !text.is_empty()),
        0..3,
    )
    .prop_map(|tags| Tags::parse(tags).expect("tags"))
    .boxed()
}

/// True three times out of four.
pub(crate) fn mostly_true() -> BoxedStrategy<bool> {
    prop::bool::weighted(0.75).boxed()
}

/// An address that may be a member's, or is refused; few enough that they meet.
pub(crate) fn address() -> BoxedStrategy<IpAddr> {
    prop_oneof![
        12 => (1_u8..6).prop_map(|host| IpAddr::from([10, 1, 0, host])),
        3 => (1_u16..6).prop_map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])),
        2 => (1_u16..6).prop_map(|host| IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a01, host])),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => any::<[u16; 8]>().prop_map(IpAddr::from),
        3 => select(ODD_ADDRESSES).prop_map(|text| text.parse().expect("an address")),
    ]
    .boxed()
}

pub(crate) fn port() -> BoxedStrategy<u16> {
    prop_oneof![6 => 80_u16..86, 1 => 1_u16.., 1 => select(vec![1, u16::MAX])].boxed()
}

pub(crate) fn weight() -> BoxedStrategy<u16> {
    prop_oneof![3 => Just(1_u16), 3 => 0_u16..=256, 1 => Just(0), 1 => Just(256)].boxed()
}

pub(crate) fn some_uuid() -> BoxedStrategy<Uuid> {
    any::<u128>().prop_map(Uuid::from_u128).boxed()
}

/// Milliseconds as listeners take them (reference 6.2).
pub(crate) fn timeout_ms() -> BoxedStrategy<u32> {
    prop_oneof![2 => 1_u32..100_000, 1 => Just(0), 1 => Just(2_073_600_000), 1 => 0_u32..=2_073_600_000]
    .boxed()
}

pub(crate) fn timeouts() -> BoxedStrategy<Timeouts> {
    let all = (timeout_ms(), timeout_ms(), timeout_ms(), timeout_ms());
    all.prop_map(
        |(client_data_ms, member_connect_ms, member_data_ms, tcp_inspect_ms)| Timeouts {
            client_data_ms,
            member_connect_ms,
            member_data_ms,
            tcp_inspect_ms,
        },
    )
    .boxed()
}

pub(crate) fn connection_limit() -> BoxedStrategy<Option<u32>> {
    const MOST: u32 = i32::MAX.cast_unsigned();
    option::of(prop_oneof![3 => 1_u32..1_000, 1 => Just(0), 1 => Just(MOST), 1 => 0..=MOST]).boxed()
}

/// Networks as the wire writes them: masked, none twice.
pub(crate) fn allowed_cidrs() -> BoxedStrategy<Vec<String>> {
    let network = prop_oneof![
        6 => (any::<u32>(), 0_u32..=32).prop_map(|(bits, length)| {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("{}/{length}", IpAddr::V4((bits & mask).into()))
        }),
        2 => (any::<u128>(), 0_u32..=128).prop_map(|(bits, length)| {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            format!("{}/{length}", IpAddr::V6((bits & mask).into()))
        }),
        1 => select(vec!["0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "255.255.255.255/32", "::/96"])
            .prop_map(String::from),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => vec(network, 1..4)]
        .prop_map(|mut networks| {
            networks.sort();
            networks.dedup();
            networks
        })
        .boxed()
}

/// Headers a listener inserts, with values in any spelling.
pub(crate) fn insert_headers() -> BoxedStrategy<InsertHeaders> {
    let value = prop_oneof![3 => select(vec!["true", "True", "false", ""]).prop_map(String::from), 1 => text()];
    let name = select(vec![
        "X-Forwarded-For",
        "X-Forwarded-Port",
        "X-Forwarded-Proto",
        "X-SSL-Client-DN",
        "X-Real-IP",
        "x-forwarded-for",
    ]);
    vec((name.prop_map(String::from), value), 1..4)
        .prop_map(|headers| InsertHeaders(headers.into_iter().collect::<BTreeMap<_, _>>()))
        .boxed()
}

pub(crate) fn listener_protocol() -> BoxedStrategy<ListenerProtocol> {
    prop_oneof![
        8 => select(vec![ListenerProtocol::Tcp, ListenerProtocol::Http]),
        1 => select(ListenerProtocol::ALL.to_vec()),
    ]
    .boxed()
}

pub(crate) fn pool_protocol() -> BoxedStrategy<PoolProtocol> {
    prop_oneof![
        4 => Just(PoolProtocol::Tcp),
        8 => Just(PoolProtocol::Http),
        2 => select(PoolProtocol::ALL.to_vec()),
    ]
    .boxed()
}

pub(crate) fn algorithm() -> BoxedStrategy<LbAlgorithm> {
    select(LbAlgorithm::ALL.to_vec()).boxed()
}

/// Seconds as monitors take them; the wire's bound is below the domain's.
pub(crate) fn seconds() -> BoxedStrategy<u32> {
    prop_oneof![4 => 1_u32..60, 1 => Just(0), 1 => Just(2_073_600), 1 => 0_u32..=2_073_600].boxed()
}

pub(crate) fn retries() -> BoxedStrategy<u8> {
    (1_u8..=10).boxed()
}

pub(crate) fn http_method() -> BoxedStrategy<String> {
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH",
    ];
    select(methods.to_vec()).prop_map(String::from).boxed()
}

/// A path as the wire lets it through: visible ASCII without `#`.
pub(crate) fn url_path() -> BoxedStrategy<String> {
    prop_oneof![6 => "/[a-z0-9/?=&%.-]{0,12}", 1 => "/[!$-~]{0,254}", 1 => Just(format!("/{}", "p".repeat(254)))]
    .boxed()
}

/// Codes as written and as read (reference 9.2).
pub(crate) fn expected_codes() -> BoxedStrategy<(String, Vec<ExpectedCodes>)> {
    let range = (100_u16..=599, 100_u16..=599).prop_map(|(one, other)| {
        let (first, last) = (one.min(other), one.max(other));
        (
            format!("{first}-{last}"),
            vec![ExpectedCodes { first, last }],
        )
    });
    let list = vec(100_u16..=599, 1..=16).prop_map(|codes| {
        let text: Vec<_> = codes.iter().map(ToString::to_string).collect();
        let read = codes.into_iter().map(|code| ExpectedCodes {
            first: code,
            last: code,
        });
        (text.join(","), read.collect())
    });
    prop_oneof![range, list].boxed()
}

pub(crate) fn http_version() -> BoxedStrategy<HttpVersion> {
    prop_oneof![1 => Just(HttpVersion::Http10), 3 => Just(HttpVersion::Http11)].boxed()
}

pub(crate) fn domain_name() -> BoxedStrategy<String> {
    prop_oneof![
        6 => "[a-z]{1,8}(\\.[a-z]{1,4}){1,2}",
        1 => Just(format!("{}.example", "d".repeat(63))),
        1 => Just(["a"; 128].join(".")),
        1 => "[A-Za-z0-9._:-]{1,40}",
    ]
    .boxed()
}

pub(crate) fn monitor_kind() -> BoxedStrategy<MonitorKind> {
    let host = || {
        prop_oneof![
            3 => Just((None, None)),
            1 => http_version().prop_map(|version| (Some(version), None)),
            2 => domain_name().prop_map(|domain| (Some(HttpVersion::Http11), Some(domain))),
            1 => (option::of(http_version()), option::of(domain_name())),
        ]
    };
    let monitor = prop_oneof![
        4 => select(vec![MonitorType::Tcp, MonitorType::Ping]),
        5 => Just(MonitorType::Http),
        1 => select(MonitorType::ALL.to_vec()),
    ];
    let http = (http_method(), url_path(), expected_codes(), host());
    (monitor, http)
        .prop_map(|(monitor, (http_method, url_path, codes, host))| {
            let http = HttpMonitor {
                http_method,
                url_path,
                expected_codes: codes.0,
                expected: codes.1,
                http_version: host.0,
                domain_name: host.1,
            };
            MonitorKind::new(monitor, http)
        })
        .boxed()
}

const ODD_ADDRESSES: &[&str] = &[
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
    "127.0.0.1",
    "::1",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "::ffff:224.0.0.1",
    "255.255.255.255",
    "::ffff:255.255.255.255",
    "169.254.169.254",
    "::ffff:169.254.169.254",
];
