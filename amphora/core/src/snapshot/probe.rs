//! Checks of health monitors. What passes can be written into a request as it is: nobody injects a header by a path.

use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

use krater_amphora_api::{HttpProbeSpec, HttpVersion, MonitorSpec, ProbeSpec, Subject};

use super::parse::{Reasons, at_most, timer};
use crate::{
    limits,
    monitor::{ExpectedCodes, HttpProbe, MonitorConfig, Probe},
};

/// One monitor. A delay of zero is read as [`limits::PROBE_DELAY_FOR_ZERO`], a timeout of zero as the delay.
pub(super) fn parse(spec: &MonitorSpec, reasons: &mut Reasons) -> MonitorConfig {
    let subject = Subject::HealthMonitor(spec.id);
    let delay = timer(
        spec.delay_ms,
        limits::PROBE_DELAY_FOR_ZERO,
        "a delay",
        subject,
        reasons,
    );
    let shortest = Duration::from_millis(u64::from(limits::PROBE_DELAY_MS_MIN));
    reasons.require(delay >= shortest, subject, || {
        format!(
            "a delay of {} ms is shorter than the least allowed, {shortest:?}",
            spec.delay_ms
        )
    });
    let timeout = timer(spec.timeout_ms, delay, "a timeout", subject, reasons);
    for (what, count) in [("rise", spec.rise), ("fall", spec.fall)] {
        reasons.require(
            (1..=limits::RISE_FALL_MAX).contains(&count),
            subject,
            || {
                format!(
                    "{what} is {count}, 1 to {} are allowed",
                    limits::RISE_FALL_MAX
                )
            },
        );
    }
    let probe = match &spec.probe {
        ProbeSpec::Tcp => Probe::Tcp,
        ProbeSpec::Ping => Probe::Ping,
        ProbeSpec::Http(http) => Probe::Http(parse_http(http, subject, reasons)),
        ProbeSpec::Https(http) => Probe::Https(parse_http(http, subject, reasons)),
        ProbeSpec::TlsHello { server_name } => {
            if let Some(name) = server_name {
                check_domain(name, subject, reasons);
            }
            Probe::TlsHello {
                server_name: server_name.clone(),
            }
        }
        ProbeSpec::UdpConnect => Probe::UdpConnect,
    };
    MonitorConfig {
        id: spec.id,
        probe,
        delay,
        timeout,
        rise: spec.rise,
        fall: spec.fall,
    }
}

fn parse_http(spec: &HttpProbeSpec, subject: Subject, reasons: &mut Reasons) -> HttpProbe {
    reasons.require(METHODS.contains(&spec.method.as_str()), subject, || {
        format!(
            "{:?} is not a method a probe can use, {} are",
            spec.method,
            METHODS.join(", ")
        )
    });
    check_path(&spec.path, subject, reasons);
    let version = spec.version.unwrap_or(HttpVersion::Http10);
    if let Some(domain) = &spec.domain_name {
        check_domain(domain, subject, reasons);
        reasons.require(version == HttpVersion::Http11, subject, || {
            String::from("a domain name needs HTTP version 1.1")
        });
    }
    HttpProbe {
        method: spec.method.clone(),
        path: spec.path.clone(),
        version,
        host: spec.domain_name.clone(),
        expected: expected_codes(spec, subject, reasons),
    }
}

fn check_path(path: &str, subject: Subject, reasons: &mut Reasons) {
    reasons.require(path.starts_with('/'), subject, || {
        format!("path {path:?} does not start with a slash")
    });
    reasons.require(path.bytes().all(|byte| byte.is_ascii_graphic()), subject, || {
        format!("path {path:?} has characters other than visible ASCII; others must be percent-encoded")
    });
    at_most(
        limits::PROBE_PATH_CHARACTERS_MAX,
        path.chars().count(),
        "characters in the path",
        subject,
        reasons,
    );
}

/// What a Host header may hold: a name, or an address, with or without a port.
fn check_domain(domain: &str, subject: Subject, reasons: &mut Reasons) {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    reasons.require(
        !domain.is_empty() && domain.bytes().all(fits),
        subject,
        || format!("{domain:?} is not a host name"),
    );
    let characters = domain.chars().count();
    at_most(
        limits::PROBE_DOMAIN_CHARACTERS_MAX,
        characters,
        "characters in the domain name",
        subject,
        reasons,
    );
}

fn expected_codes(spec: &HttpProbeSpec, subject: Subject, reasons: &mut Reasons) -> ExpectedCodes {
    let codes = &spec.expected_codes;
    reasons.require(!codes.is_empty(), subject, || {
        String::from("no status code is expected, at least one is needed")
    });
    at_most(
        limits::EXPECTED_CODES_MAX,
        codes.len(),
        "ranges of expected codes",
        subject,
        reasons,
    );
    for range in codes {
        let ordered = range.first <= range.last;
        reasons.require(
            ordered && range.first >= 100 && range.last <= 599,
            subject,
            || {
                format!(
                    "{} to {} is not a range of status codes from 100 to 599",
                    range.first, range.last
                )
            },
        );
    }
    ExpectedCodes::new(
        codes
            .iter()
            .map(|range| (range.first, range.last))
            .collect::<Vec<_>>(),
    )
}

/// The methods of reference 9.2.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH",
];
