//! Health monitors and the requests of HTTP probes.

use super::*;

fn with_probe(change: impl FnOnce(&mut HttpProbeSpec)) -> impl FnOnce(&mut SnapshotSpec) {
    |spec| {
        let mut probe = http_probe();
        change(&mut probe);
        first_monitor(spec).probe = ProbeSpec::Http(probe);
    }
}

#[test]
fn a_disabled_monitor_is_none_but_is_checked() {
    let snapshot = accepted(|spec| first_monitor(spec).enabled = false);
    assert_eq!(snapshot.pools()[0].monitor, None);
    refused(MONITOR, "rise is 0", |spec| {
        first_monitor(spec).enabled = false;
        first_monitor(spec).rise = 0;
    });
}

#[test]
fn only_members_of_a_udp_pool_are_probed_by_udp_connect() {
    refused(MONITOR, "only members of a udp pool", |spec| {
        first_monitor(spec).probe = ProbeSpec::UdpConnect
    });
    let snapshot = accepted(|spec| {
        spec.listeners[0].protocol = ListenerProtocol::Udp;
        spec.pools[0].protocol = PoolProtocol::Udp;
        first_monitor(spec).probe = ProbeSpec::UdpConnect;
    });
    let monitor = snapshot.pools()[0].monitor.as_ref().unwrap();
    assert_eq!(monitor.probe, Probe::UdpConnect);
}

#[test]
fn rise_and_fall_are_one_to_ten() {
    for (rise, fall) in [(1, 10), (10, 1)] {
        let snapshot =
            accepted(|spec| (first_monitor(spec).rise, first_monitor(spec).fall) = (rise, fall));
        let monitor = snapshot.pools()[0].monitor.as_ref().unwrap();
        assert_eq!((monitor.rise, monitor.fall), (rise, fall));
    }
    refused(MONITOR, "rise is 11", |spec| first_monitor(spec).rise = 11);
    refused(MONITOR, "fall is 0", |spec| first_monitor(spec).fall = 0);
}

#[test]
fn a_probe_delay_of_zero_is_a_second_and_a_timeout_of_zero_is_the_delay() {
    let timers = |delay_ms, timeout_ms| {
        let snapshot = accepted(|spec| {
            (first_monitor(spec).delay_ms, first_monitor(spec).timeout_ms) = (delay_ms, timeout_ms)
        });
        let monitor = snapshot.pools()[0].monitor.as_ref().unwrap();
        (monitor.delay, monitor.timeout)
    };
    assert_eq!(
        timers(0, 0),
        (limits::PROBE_DELAY_FOR_ZERO, limits::PROBE_DELAY_FOR_ZERO)
    );
    assert_eq!(
        timers(4_000, 0),
        (Duration::from_secs(4), Duration::from_secs(4))
    );
    assert_eq!(
        timers(limits::PROBE_DELAY_MS_MIN, 1),
        (Duration::from_millis(10), Duration::from_millis(1))
    );
    refused(MONITOR, "shorter", |spec| {
        first_monitor(spec).delay_ms = limits::PROBE_DELAY_MS_MIN - 1
    });
}

#[test]
fn a_probe_cannot_inject_anything_into_its_request() {
    for method in [
        "",
        "get",
        "GET ",
        "G\r\nT",
        "QUERY",
        "GET / HTTP/1.1\r\nX: y",
    ] {
        refused(
            MONITOR,
            "is not a method",
            with_probe(|probe| probe.method = method.into()),
        );
    }
    for path in [
        "/a b",
        "/a\r\nX: y",
        "/a\nb",
        "/a\tb",
        "/\u{e9}",
        "/\0",
        "/\u{7f}",
    ] {
        refused(
            MONITOR,
            "visible ASCII",
            with_probe(|probe| probe.path = path.into()),
        );
    }
    for path in ["", "a", "http://x/"] {
        refused(
            MONITOR,
            "does not start with a slash",
            with_probe(|probe| probe.path = path.into()),
        );
    }
    for domain in ["", "a b", "a\r\nX: y", "a/b", "\u{e9}.example", "a@b"] {
        refused(
            MONITOR,
            "is not a host name",
            with_probe(|probe| {
                (probe.version, probe.domain_name) =
                    (Some(HttpVersion::Http11), Some(domain.into()));
            }),
        );
    }
}

#[test]
fn every_method_of_the_api_can_be_probed_with() {
    for method in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH",
    ] {
        accepted(with_probe(|probe| probe.method = method.into()));
    }
}

#[test]
fn paths_and_domains_are_bounded() {
    let path = |length: usize| format!("/{}", "p".repeat(length - 1));
    accepted(with_probe(|probe| {
        probe.path = path(limits::PROBE_PATH_CHARACTERS_MAX)
    }));
    refused(
        MONITOR,
        "256 characters in the path",
        with_probe(|probe| probe.path = path(256)),
    );
    let domain = |length| {
        with_probe(move |probe| {
            (probe.version, probe.domain_name) =
                (Some(HttpVersion::Http11), Some("d".repeat(length)));
        })
    };
    accepted(domain(limits::PROBE_DOMAIN_CHARACTERS_MAX));
    refused(MONITOR, "256 characters in the domain", domain(256));
}

#[test]
fn a_domain_name_needs_http_1_1() {
    let named = |version| {
        with_probe(move |probe| {
            (probe.version, probe.domain_name) = (version, Some("app.test:80".into()))
        })
    };
    let snapshot = accepted(named(Some(HttpVersion::Http11)));
    let Probe::Http(http) = &snapshot.pools()[0].monitor.as_ref().unwrap().probe else {
        panic!("not http")
    };
    assert_eq!(
        (http.version, http.host.as_deref()),
        (HttpVersion::Http11, Some("app.test:80"))
    );
    refused(MONITOR, "needs HTTP version 1.1", named(None));
    refused(
        MONITOR,
        "needs HTTP version 1.1",
        named(Some(HttpVersion::Http10)),
    );
}

#[test]
fn expected_codes_are_ordered_ranges_of_status_codes() {
    let codes = |ranges: &[(u16, u16)]| {
        let codes = ranges
            .iter()
            .map(|(first, last)| ExpectedCodes {
                first: *first,
                last: *last,
            })
            .collect();
        with_probe(move |probe| probe.expected_codes = codes)
    };
    accepted(codes(&[(100, 599)]));
    accepted(codes(&[(200, 200), (202, 202)]));
    refused(MONITOR, "no status code", codes(&[]));
    for range in [(99, 200), (500, 600), (204, 200), (0, 0)] {
        refused(MONITOR, "is not a range of status codes", codes(&[range]));
    }
    accepted(codes(&[(200, 200); limits::EXPECTED_CODES_MAX]));
    refused(
        MONITOR,
        "ranges of expected codes",
        codes(&[(200, 200); limits::EXPECTED_CODES_MAX + 1]),
    );
}
