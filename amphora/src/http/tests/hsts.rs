//! What browsers are told of TLS (RFC 6797).

use std::net::SocketAddr;

use krater_amphora_api::{Comparison, HstsSpec, PolicyAction, RuleSubject, SnapshotSpec};
use krater_amphora_core::snapshot::Snapshot;

use super::{
    policies::{policy, rule},
    sealed::client::Client,
    *,
};
use crate::testbed::authority::{Authority, tls};

const HSTS: &str = "strict-transport-security";
const TOLD: &str = "max-age=600; includeSubDomains";

/// A listener that ends TLS and tells; what it is asked besides is `change`'s.
fn bed(
    members: &[SocketAddr],
    authority: &Authority,
    change: impl FnOnce(&mut SnapshotSpec),
) -> Bed {
    Bed::http(members).with(|spec| {
        let listener = &mut spec.listeners[0];
        listener.tls = Some(tls(authority.issue(&["a.example"])));
        listener.hsts = Some(HstsSpec {
            max_age_seconds: 600,
            include_subdomains: true,
            preload: false,
        });
        change(spec);
    })
}

/// A member that tells browsers something else, twice.
fn member_with_words() -> SocketAddr {
    http_member(|_| {
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=0\r\n\
         strict-transport-security: preload\r\nContent-Length: 0\r\n\r\n"
            .to_owned()
    })
}

#[test]
fn every_answer_tells_it_and_nothing_else_of_the_kind() {
    let authority = Authority::new("authority");
    let below = |path| vec![rule(RuleSubject::Path, Comparison::StartsWith, path)];
    let to_url = PolicyAction::RedirectToUrl {
        url: "https://b.example/".into(),
        code: 301,
    };
    let mut bed = bed(&[member_with_words()], &authority, |spec| {
        spec.listeners[0].policies = vec![
            policy(PolicyAction::Reject, below("/no")),
            policy(to_url, below("/there")),
        ];
    });
    let client = Client::of(&authority);
    let vip = bed.vip;
    let told = |request: &str, status: u16, words: &[&str]| {
        let mut talk = client.call(vip, "a.example").unwrap();
        talk.send(request);
        let answer = talk.read(Expect::Answer);
        assert_eq!(
            (answer.status(), answer.all(HSTS)),
            (status, words.to_vec()),
            "{request}"
        );
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    told(&get("/"), 200, &[TOLD]);
    told(&get("/no"), 403, &[TOLD]);
    told(&get("/there"), 301, &[TOLD]);
    told(
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        405,
        &[TOLD],
    );
    told("GET / HTTP/1.1\r\n\r\n", 400, &[TOLD]);
    told("nonsense\r\n\r\n", 400, &[TOLD]);
    bed.edit(|spec| spec.listeners[0].timeouts.client_data_ms = 2_000);
    told("GET / HT", 408, &[TOLD]);
    told(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
        408,
        &[TOLD],
    );
    bed.edit(|spec| {
        spec.listeners[0].timeouts.client_data_ms = 60_000;
        spec.pools[0].members.clear();
    });
    told(&get("/"), 503, &[TOLD]);
    bed.edit(|spec| spec.listeners[0].hsts = None);
    told(&get("/"), 503, &[]);
}

#[test]
fn a_change_is_told_with_the_next_answer_of_the_same_connection_and_members_have_the_word_without_it()
 {
    let authority = Authority::new("authority");
    let mut bed = bed(&[member_with_words()], &authority, |_| {});
    let mut talk = Client::of(&authority).call(bed.vip, "a.example").unwrap();
    assert_eq!(talk.get("/").all(HSTS), [TOLD]);
    bed.edit(|spec| {
        spec.listeners[0].hsts = Some(HstsSpec {
            max_age_seconds: 0,
            include_subdomains: false,
            preload: true,
        });
    });
    assert_eq!(talk.get("/").all(HSTS), ["max-age=0; preload"]);
    bed.edit(|spec| spec.listeners[0].hsts = None);
    assert_eq!(talk.get("/").all(HSTS), ["max-age=0", "preload"]);
}

#[test]
fn without_tls_it_cannot_be_told() {
    let authority = Authority::new("authority");
    let bed = bed(&[nobody()], &authority, |_| {});
    let mut spec = bed.spec.clone();
    spec.listeners[0].tls = None;
    let reasons = Snapshot::parse(spec).unwrap_err();
    let text = reasons[0].reason.as_str();
    assert_eq!(
        text,
        "without TLS browsers cannot be told to come by that alone"
    );
}
