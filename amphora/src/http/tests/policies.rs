//! What policies make of requests, from the client's side (reference 19.6).

use krater_amphora_api::{Comparison, L7PolicyId, PolicyAction, PolicySpec, RuleSpec, RuleSubject};

use super::*;
use crate::testbed::{fresh_uuid, pool_spec};

pub(super) fn rule(subject: RuleSubject, comparison: Comparison, value: &str) -> RuleSpec {
    RuleSpec {
        subject,
        comparison,
        value: value.into(),
        invert: false,
    }
}

fn below(path: &str) -> Vec<RuleSpec> {
    vec![rule(RuleSubject::Path, Comparison::StartsWith, path)]
}

pub(super) fn policy(action: PolicyAction, rules: Vec<RuleSpec>) -> PolicySpec {
    PolicySpec {
        id: L7PolicyId::new(fresh_uuid()),
        action,
        rules,
    }
}

/// A member that says its name to every request.
fn saying(name: &'static str) -> SocketAddr {
    http_member(move |request| ok(&format!("{name} {}", request.start)))
}

/// A pool beside the default one.
pub(super) fn other_pool(bed: &mut Bed, members: &[SocketAddr]) -> PolicyAction {
    let pool = pool_spec(PoolProtocol::Http, members);
    let action = PolicyAction::RedirectToPool(pool.id);
    bed.spec.pools.push(pool);
    action
}

#[test]
fn requests_go_where_policies_send_them_on_one_connection() {
    let mut bed = Bed::http(&[saying("default")]);
    let to_files = other_pool(&mut bed, &[saying("files")]);
    let to_url = PolicyAction::RedirectToUrl {
        url: "https://a.test/x".into(),
        code: 301,
    };
    let to_prefix = PolicyAction::RedirectPrefix {
        prefix: "https://b.test".into(),
        code: 307,
    };
    bed.edit(|spec| {
        spec.listeners[0].policies = vec![
            policy(to_files, below("/files")),
            policy(to_url, below("/old")),
            policy(to_prefix, below("/moved")),
            policy(PolicyAction::Reject, below("/admin")),
            policy(
                PolicyAction::Reject,
                vec![rule(RuleSubject::HostName, Comparison::EqualTo, "EVIL")],
            ),
        ];
    });
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/").text(), "default GET / HTTP/1.1");
    assert_eq!(
        client.get("/files/a?b").text(),
        "files GET /files/a?b HTTP/1.1"
    );
    let answer = client.get("/old/page");
    assert_eq!(
        (answer.status(), answer.header("location"), answer.text()),
        (301, Some("https://a.test/x"), "")
    );
    assert_eq!(answer.header("cache-control"), None);
    let answer = client.get("/moved/a%20b?c=d");
    assert_eq!(
        (answer.status(), answer.header("location")),
        (307, Some("https://b.test/moved/a%20b?c=d"))
    );
    assert_eq!(
        answer.header("x-krater-cause"),
        Some("lb_policy_redirected")
    );
    let answer = client.get("/admin");
    assert_eq!(
        (answer.status(), answer.header("x-krater-cause")),
        (403, Some("lb_policy_rejected"))
    );
    client.send("GET / HTTP/1.1\r\nHost: evil\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 403);
    // An absolute target says the host, whatever the header says.
    client.send("GET http://evil/x HTTP/1.1\r\nHost: good\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 403);
    client.send("HEAD /old HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.read(Expect::AnswerToHead).status(), 301);
    assert_eq!(client.get("/").status(), 200);
    let world = bed.plane.world();
    let meter = &world.listeners.values().next().unwrap().shared.meter;
    assert_eq!(meter.responses(), [0, 3, 3, 3, 0, 0]);
    let counters = meter.counters();
    assert_eq!(
        (counters.request_errors, counters.total_connections),
        (0, 1),
        "who is turned away has made no mistake"
    );
}

#[test]
fn a_rejected_body_is_not_taken_for_a_request() {
    let mut bed = Bed::http(&[saying("default")]);
    bed.edit(|spec| {
        spec.listeners[0].policies = vec![policy(PolicyAction::Reject, below("/admin"))];
    });
    let mut client = Talk::to(bed.vip);
    let body = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(&format!(
        "POST /admin HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.read(Expect::Answer).status(), 403);
    client.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    if let Some(answer) = client.try_read(Expect::Answer) {
        assert_eq!(answer.text(), "default GET /next HTTP/1.1");
    }
}

#[test]
fn headers_and_cookies_choose_among_what_the_client_sent() {
    let mut bed = Bed::http(&[saying("default")]);
    let to_beta = other_pool(&mut bed, &[saying("beta")]);
    bed.edit(|spec| {
        spec.listeners[0].insert_headers.x_forwarded_for = true;
        let inserted = RuleSpec {
            invert: true,
            ..rule(
                RuleSubject::Header("X-Forwarded-For".into()),
                Comparison::Regex,
                "",
            )
        };
        spec.listeners[0].policies = vec![
            policy(
                to_beta.clone(),
                vec![
                    rule(
                        RuleSubject::Header("X-Group".into()),
                        Comparison::EqualTo,
                        "beta",
                    ),
                    // What the listener adds is not there yet.
                    inserted,
                ],
            ),
            policy(
                to_beta,
                vec![rule(
                    RuleSubject::Cookie("track".into()),
                    Comparison::Regex,
                    "^b[0-9]+$",
                )],
            ),
        ];
    });
    let mut client = Talk::to(bed.vip);
    let mut ask = |lines: &str| {
        client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
        let answer = client.read(Expect::Answer);
        answer.text().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(ask(""), "default");
    assert_eq!(ask("x-group: alpha, beta\r\n"), "beta");
    assert_eq!(ask("X-Group: betas\r\n"), "default");
    assert_eq!(ask("Cookie: a=1; track=b12\r\n"), "beta");
    assert_eq!(ask("Cookie: track=12\r\n"), "default");
    assert_eq!(
        ask("X-Group: beta\r\nX-Forwarded-For: 1.2.3.4\r\n"),
        "default"
    );
}

#[test]
fn a_change_of_policies_is_in_force_at_the_next_request_of_a_connection() {
    let mut bed = Bed::http(&[saying("default")]);
    let to_files = other_pool(&mut bed, &[saying("files")]);
    bed.apply();
    let mut client = Talk::to(bed.vip);
    assert!(client.get("/x").text().starts_with("default"));
    bed.edit(|spec| spec.listeners[0].policies = vec![policy(to_files, below("/x"))]);
    assert!(client.get("/x").text().starts_with("files"));
    assert!(client.get("/y").text().starts_with("default"));
    // The pool it sends to changes without the listener.
    let third = saying("third");
    bed.edit(|spec| spec.pools[1].members = vec![crate::testbed::member_spec(third)]);
    assert!(client.get("/x").text().starts_with("third"));
    bed.edit(|spec| spec.listeners[0].policies.clear());
    assert!(client.get("/x").text().starts_with("default"));
}

#[test]
fn a_pool_without_members_is_not_passed_over() {
    let mut bed = Bed::http(&[saying("default")]);
    let nowhere = other_pool(&mut bed, &[]);
    bed.edit(|spec| spec.listeners[0].policies = vec![policy(nowhere, below("/x"))]);
    let mut client = Talk::to(bed.vip);
    let answer = client.get("/x");
    assert_eq!(
        (answer.status(), answer.header("x-krater-cause")),
        (503, Some("lb_no_member"))
    );
    assert_eq!(client.get("/").status(), 200);
    // Nor is one needed to be told to go elsewhere.
    bed.edit(|spec| {
        spec.listeners[0].default_pool = None;
        spec.listeners[0].policies = vec![policy(
            PolicyAction::RedirectToUrl {
                url: "http://a".into(),
                code: 302,
            },
            below("/x"),
        )];
    });
    assert_eq!(client.get("/x").status(), 302);
    assert_eq!(client.get("/").status(), 503);
}

#[test]
fn policies_are_read_strictly() {
    let read = |text: &str| serde_json::from_str::<PolicySpec>(text);
    let id = "00000000-0000-4000-8000-000000000001";
    let with_action = |action: &str| {
        read(&format!(
            r#"{{"id": "{id}", "action": {action}, "rules": [{{"subject": {{"header": "X"}}, "comparison": "equal_to", "value": "v"}}]}}"#
        ))
    };
    for action in [
        r#""reject""#,
        r#"{"redirect_to_url": {"url": "http://a", "code": 302}}"#,
        r#"{"redirect_prefix": {"prefix": "http://a", "code": 302}}"#,
        &format!(r#"{{"redirect_to_pool": "{id}"}}"#),
    ] {
        with_action(action).unwrap();
    }
    for action in [
        r#""allow""#,
        r#"{"redirect_to_url": {"url": "http://a"}}"#,
        r#"{"redirect_to_url": {"url": "http://a", "code": 302, "why": 1}}"#,
    ] {
        with_action(action).unwrap_err();
    }
    for rules in [
        r#"[{"subject": "query", "comparison": "equal_to", "value": "v"}]"#,
        r#"[{"subject": "path", "comparison": "like", "value": "v"}]"#,
        r#"[{"subject": "path", "comparison": "equal_to", "value": "v", "not": true}]"#,
        r#"[{"subject": "path", "comparison": "equal_to"}]"#,
    ] {
        read(&format!(
            r#"{{"id": "{id}", "action": "reject", "rules": {rules}}}"#
        ))
        .unwrap_err();
    }
}
