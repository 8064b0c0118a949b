//! What can be fuzzed: functions that take any bytes, and fail if what holds for all bytes does not hold for these.

mod api;
mod ciphers;
mod cookies;
mod http1;
mod http2;
mod l7;
mod proxy;
mod report;
mod secret;
mod snapshot;

/// One of them.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) take: fn(&[u8]),
}

/// All of them; each has a folder in `seeds`.
pub(crate) const ALL: &[Target] = &[
    target("proxy", proxy::take),
    target("snapshot", snapshot::take),
    target("l7", l7::take),
    target("api", api::take),
    target("request", http1::take_request),
    target("answer", http1::take_answer),
    target("http2", http2::take),
    target("cookies", cookies::take),
    target("secret", secret::take),
    target("report", report::take),
    target("ciphers", ciphers::take),
];

pub(crate) fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

const fn target(name: &'static str, take: fn(&[u8])) -> Target {
    Target { name, take }
}
