//! What a spec may say of L7 policies.

use krater_amphora_api::{Comparison, L7PolicyId, PolicyAction, PolicySpec, RuleSpec, RuleSubject};
use uuid::Uuid;

use super::*;

pub(super) fn policy(number: u128, action: PolicyAction) -> PolicySpec {
    PolicySpec {
        id: L7PolicyId::new(Uuid::from_u128(0x5000_0000_0000 + number)),
        action,
        rules: vec![rule(RuleSubject::Path, Comparison::StartsWith, "/x")],
    }
}

fn rule(subject: RuleSubject, comparison: Comparison, value: &str) -> RuleSpec {
    RuleSpec {
        subject,
        comparison,
        value: value.to_owned(),
        invert: false,
    }
}

fn with(policies: Vec<PolicySpec>) -> impl FnOnce(&mut SnapshotSpec) {
    |spec| spec.listeners[0].policies = policies
}

fn redirect(url: &str, code: u16) -> PolicyAction {
    PolicyAction::RedirectToUrl {
        url: url.to_owned(),
        code,
    }
}

#[test]
fn policies_send_to_http_pools_of_the_snapshot() {
    let to = |number| vec![policy(1, PolicyAction::RedirectToPool(pool_id(number)))];
    let snapshot = accepted(with(to(1)));
    let pools: Vec<_> = snapshot.listeners()[0].policies.pools().collect();
    assert_eq!(pools, [pool_id(1)]);
    refused(LISTENER, "is not in the spec", with(to(9)));
    refused(LISTENER, "cannot send to a tcp pool", |spec| {
        with(to(2))(spec);
        spec.pools.push(pool(2, PoolProtocol::Tcp, vec![]));
    });
}

#[test]
fn only_an_http_listener_has_policies() {
    accepted(with(vec![policy(1, PolicyAction::Reject)]));
    refused(LISTENER, "only an http listener", |spec| {
        with(vec![policy(1, PolicyAction::Reject)])(spec);
        spec.listeners[0].protocol = ListenerProtocol::Tcp;
    });
}

#[test]
fn a_redirection_can_stand_in_a_header() {
    let prefix = PolicyAction::RedirectPrefix {
        prefix: "http://p".to_owned(),
        code: 308,
    };
    accepted(with(vec![
        policy(1, redirect("http://u", 301)),
        policy(2, prefix),
    ]));
    for url in ["", "http://a b", "http://a\r\nx: y", "http://\u{e9}"] {
        let policies = vec![policy(1, redirect(url, 302))];
        refused(LISTENER, "no URL", with(policies));
    }
    let long = format!("http://{}", "u".repeat(limits::RULE_CHARACTERS_MAX));
    refused(
        LISTENER,
        "no URL",
        with(vec![policy(1, redirect(&long, 302))]),
    );
    for code in [200, 300, 304, 306, 404] {
        let policies = vec![policy(1, redirect("http://u", code))];
        refused(LISTENER, "which is not 301", with(policies));
    }
}

#[test]
fn a_policy_has_rules_that_mean_something() {
    let ruled = |rules| PolicySpec {
        rules,
        ..policy(1, PolicyAction::Reject)
    };
    let one = |subject, comparison, value: &str| {
        with(vec![ruled(vec![rule(subject, comparison, value)])])
    };
    refused(LISTENER, "has no rule", with(vec![ruled(vec![])]));
    let header = |name: &str| RuleSubject::Header(name.to_owned());
    let cookie = |name: &str| RuleSubject::Cookie(name.to_owned());
    accepted(one(header("X-A"), Comparison::Regex, "^a+$"));
    accepted(one(cookie("id"), Comparison::Contains, ""));
    for name in ["", "a b", "\u{e9}", &"n".repeat(256)] {
        refused(
            LISTENER,
            "looks at a name",
            one(header(name), Comparison::EqualTo, "v"),
        );
        refused(
            LISTENER,
            "looks at a name",
            one(cookie(name), Comparison::EqualTo, "v"),
        );
    }
    let long = "v".repeat(limits::RULE_CHARACTERS_MAX + 1);
    refused(
        LISTENER,
        "has a value of 256 characters",
        one(RuleSubject::Path, Comparison::EqualTo, &long),
    );
    for pattern in ["(", "(?=a)", "(a{1000}){1000}"] {
        refused(
            LISTENER,
            "has a regular expression that cannot be taken",
            one(RuleSubject::Path, Comparison::Regex, pattern),
        );
    }
}

#[test]
fn policies_and_rules_are_counted_and_told_apart() {
    let many = |policies: usize, rules: usize, comparison| {
        let policies = 0..u128::try_from(policies).unwrap();
        let policies = policies.map(|number| PolicySpec {
            rules: vec![rule(RuleSubject::Path, comparison, "x"); rules],
            ..policy(number, PolicyAction::Reject)
        });
        with(policies.collect())
    };
    let text = Comparison::EqualTo;
    let most = limits::RULES_PER_POLICY_MAX;
    accepted(many(limits::RULES_MAX / most, most, text));
    accepted(many(limits::POLICIES_MAX, 1, text));
    accepted(many(limits::PATTERNS_MAX / most, most, Comparison::Regex));
    refused(LISTENER, "51 rules", many(1, most + 1, text));
    let balancer = Subject::LoadBalancer;
    refused(balancer, "5050 L7 rules", many(101, most, text));
    refused(balancer, "1001 L7 policies", many(1_001, 1, text));
    refused(
        balancer,
        "501 regular expressions",
        many(501, 1, Comparison::Regex),
    );
    refused(
        LISTENER,
        "is listed twice",
        with(vec![
            policy(1, PolicyAction::Reject),
            policy(1, PolicyAction::Reject),
        ]),
    );
}
