//! What a deployment allows of listeners, pools and monitors: the settings under `rules`.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr, time::Duration};

use krater_controller_core::{
    model::{AlpnProtocol, Ciphers, TlsTerms, TlsVersion},
    rules::Rules,
};
use serde::Deserialize;

use super::{
    Flaws, lasting,
    quantity::{parse_duration, print_duration},
    quoted,
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RulesFile {
    tls_terminated_listeners: Option<bool>,
    prometheus_listeners: Option<bool>,
    ping_health_monitors: Option<bool>,
    udp_connect_delay_min: Option<String>,
    reserved_addresses: Option<Vec<String>>,
    tls_version_min: Option<String>,
    ciphers_prohibited: Option<Vec<String>>,
    listeners: TermsFile,
    pools: TermsFile,
}

/// What listeners or pools have that do not say.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TermsFile {
    tls_ciphers: Option<String>,
    tls_versions: Option<Vec<String>>,
    alpn_protocols: Option<Vec<String>>,
}

/// The rules of the file. Its own values have to keep them too (reference 19.9).
pub(super) fn parse(file: RulesFile, flaws: &mut Flaws) -> Option<Rules> {
    let defaults = Rules::default();
    let delay =
        file.udp_connect_delay_min
            .map_or(Ok(defaults.udp_connect_delay_min_seconds), |text| {
                let delay = lasting(parse_duration(&text)?, Duration::ZERO, DELAY_MAX)?;
                if delay.subsec_nanos() != 0 {
                    return Err(format!("{text:?} is not a number of whole seconds"));
                }
                u32::try_from(delay.as_secs()).map_err(|error| error.to_string())
            });
    let udp_connect_delay_min_seconds = flaws.keep("rules.udp_connect_delay_min", delay);
    let reserved = file.reserved_addresses.map(|addresses| {
        let parse = |text: &String| {
            let address: Result<IpAddr, _> = text.parse();
            address
                .map(|address| address.to_canonical())
                .map_err(|_| format!("{text:?} is not an address"))
        };
        addresses.iter().map(parse).collect()
    });
    let reserved_addresses = flaws.keep(
        "rules.reserved_addresses",
        reserved.unwrap_or(Ok(defaults.reserved_addresses)),
    );
    let tls_version_min = match file.tls_version_min {
        None => Some(None),
        Some(text) => flaws
            .keep("rules.tls_version_min", version(&text))
            .map(Some),
    };
    let prohibited = file.ciphers_prohibited.unwrap_or_default();
    let prohibited = prohibited.into_iter().map(cipher).collect();
    let ciphers_prohibited: Option<BTreeSet<_>> =
        flaws.keep("rules.ciphers_prohibited", prohibited);
    let listeners = parse_terms(file.listeners, "listeners", &defaults.listener_terms, flaws);
    let pools = parse_terms(file.pools, "pools", &defaults.pool_terms, flaws);
    let rules = Rules {
        tls_terminated_listeners: file
            .tls_terminated_listeners
            .unwrap_or(defaults.tls_terminated_listeners),
        prometheus_listeners: file
            .prometheus_listeners
            .unwrap_or(defaults.prometheus_listeners),
        ping_monitors: file.ping_health_monitors.unwrap_or(defaults.ping_monitors),
        udp_connect_delay_min_seconds: udp_connect_delay_min_seconds?,
        reserved_addresses: reserved_addresses?,
        tls_version_min: tls_version_min?,
        ciphers_prohibited: ciphers_prohibited?,
        listener_terms: listeners?,
        pool_terms: pools?,
    };
    for (setting, terms) in [
        ("rules.listeners", &rules.listener_terms),
        ("rules.pools", &rules.pool_terms),
    ] {
        let good = rules
            .check_terms(terms)
            .and_then(|()| rules.check_spoken(terms));
        flaws.keep(setting, good);
    }
    Some(rules)
}

fn parse_terms(
    file: TermsFile,
    table: &str,
    defaults: &TlsTerms,
    flaws: &mut Flaws,
) -> Option<TlsTerms> {
    let ciphers = file.tls_ciphers.map(|text| {
        Ciphers::parse(text)
            .ok_or_else(|| "must be 1 to 2048 characters of A-Za-z0-9-+!:@=_.".to_owned())
    });
    let ciphers = flaws.keep(&format!("rules.{table}.tls_ciphers"), ciphers.transpose());
    let versions = flaws.keep(
        &format!("rules.{table}.tls_versions"),
        each(file.tls_versions, version),
    );
    let alpn = flaws.keep(
        &format!("rules.{table}.alpn_protocols"),
        each(file.alpn_protocols, alpn),
    );
    let mut terms = TlsTerms {
        ciphers: ciphers?,
        versions: versions?,
        alpn: alpn?,
    };
    terms.complete(defaults);
    Some(terms)
}

/// Every word of a list parsed, or the reason against the first that is wrong.
fn each<T>(
    words: Option<Vec<String>>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, String> {
    words
        .map(|words| words.iter().map(|word| parse(word)).collect())
        .transpose()
}

fn version(text: &str) -> Result<TlsVersion, String> {
    named(&TlsVersion::ALL, TlsVersion::name, text)
}

fn alpn(text: &str) -> Result<AlpnProtocol, String> {
    named(&AlpnProtocol::ALL, AlpnProtocol::name, text)
}

/// One of `all`, by its name.
fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

fn cipher(text: String) -> Result<String, String> {
    let one = Ciphers::parse(text.clone()).filter(|list| list.entries().count() == 1);
    one.map(|list| list.as_str().to_owned())
        .ok_or_else(|| format!("{text:?} is not the name of a cipher"))
}

/// The rules as the file has them.
pub(super) fn print(rules: &Rules, out: &mut String) {
    let _ = writeln!(
        out,
        "\n[rules]\ntls_terminated_listeners = {}\nprometheus_listeners = {}\nping_health_monitors = {}",
        rules.tls_terminated_listeners, rules.prometheus_listeners, rules.ping_monitors
    );
    let delay = Duration::from_secs(rules.udp_connect_delay_min_seconds.into());
    let _ = writeln!(out, "udp_connect_delay_min = \"{}\"", print_duration(delay));
    let reserved: Vec<_> = rules
        .reserved_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let reserved = list(reserved.iter().map(String::as_str));
    let _ = writeln!(out, "reserved_addresses = {reserved}");
    if let Some(version) = rules.tls_version_min {
        let _ = writeln!(out, "tls_version_min = \"{}\"", version.name());
    }
    let prohibited = rules.ciphers_prohibited.iter().map(String::as_str);
    let _ = writeln!(out, "ciphers_prohibited = {}", list(prohibited));
    for (table, terms) in [
        ("listeners", &rules.listener_terms),
        ("pools", &rules.pool_terms),
    ] {
        let _ = writeln!(out, "[rules.{table}]");
        if let Some(ciphers) = &terms.ciphers {
            let _ = writeln!(out, "tls_ciphers = {}", quoted(ciphers.as_str()));
        }
        if let Some(versions) = &terms.versions {
            let names = versions.iter().map(|version| version.name());
            let _ = writeln!(out, "tls_versions = {}", list(names));
        }
        if let Some(alpn) = &terms.alpn {
            let names = alpn.iter().map(|protocol| protocol.name());
            let _ = writeln!(out, "alpn_protocols = {}", list(names));
        }
    }
}

/// A list of texts as TOML writes it.
fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<_> = texts.map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

/// As long as a monitor's delay may be, roughly: beyond it no monitor could be had.
const DELAY_MAX: Duration = Duration::from_secs(3_600);
