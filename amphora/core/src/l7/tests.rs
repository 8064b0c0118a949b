//! Reference 19.6, row by row.

use alloc::{borrow::ToOwned, format, string::String, vec, vec::Vec};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::sample::pool_id;

/// A request in tests.
#[derive(Clone, Debug, Default)]
struct Asked {
    host: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    /// The subject of the client's certificate, if it showed one.
    subject: Option<Vec<(&'static str, &'static str)>>,
}

impl Head for Asked {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .any(|(_, value)| test(value.as_bytes()))
    }

    fn shows_certificate(&self) -> bool {
        self.subject.is_some()
    }

    fn certificate_subject(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.subject.iter().flatten();
        let (_, value) = fields.find(|(field, _)| *field == name)?;
        Some(value.as_bytes())
    }
}

fn asked() -> Asked {
    Asked {
        host: "Shop.Example.test:8080",
        path: "/static/Logo.png",
        headers: vec![
            ("X-Group", "blue, green"),
            ("X-Group", "Red"),
            ("Accept", "text/html"),
            ("Cookie", "id=7; theme=\"dark\""),
            ("Cookie", " lang = de ;broken"),
        ],
        subject: None,
    }
}

fn rule(subject: RuleSubject, comparison: Comparison, value: &str) -> Rule {
    Rule::new(subject, comparison, value, false).unwrap()
}

fn policy(number: u128, action: PolicyAction, rules: Vec<Rule>) -> Policy {
    Policy {
        id: L7PolicyId::new(Uuid::from_u128(number)),
        action,
        rules,
    }
}

fn header(name: &str) -> RuleSubject {
    RuleSubject::Header(name.to_owned())
}

fn cookie(name: &str) -> RuleSubject {
    RuleSubject::Cookie(name.to_owned())
}

use Comparison::{Contains, EndsWith, EqualTo, Regex as Search, StartsWith};
use RuleSubject::{HostName, Path};

#[test]
fn rules_compare_what_they_look_at() {
    let cases = [
        // Hosts are compared whatever their case, with the port a client sent.
        (HostName, EqualTo, "shop.example.TEST:8080", true),
        (HostName, EqualTo, "shop.example.test", false),
        (HostName, StartsWith, "SHOP.", true),
        (HostName, StartsWith, "example", false),
        (HostName, EndsWith, "TEST:8080", true),
        (HostName, EndsWith, "shop", false),
        (HostName, Contains, "EXAMPLE", true),
        (HostName, Contains, "examples", false),
        (HostName, Search, "^shop\\..*:[0-9]+$", true),
        (HostName, Search, "^example", false),
        // Paths are not.
        (Path, EqualTo, "/static/Logo.png", true),
        (Path, EqualTo, "/static/logo.png", false),
        (Path, StartsWith, "/static/", true),
        (Path, StartsWith, "/Static/", false),
        (Path, EndsWith, ".png", true),
        (Path, EndsWith, "x/static/Logo.png", false),
        (Path, Contains, "Logo", true),
        (Path, Contains, "logo", false),
        (Path, Search, "L.go\\.(png|jpg)$", true),
        (Path, Search, "^L", false),
        (Path, Search, "(?i)^/STATIC", true),
        (Path, Search, "/static/[a-z]", false),
        // Any value of any line of a header, whole or as a list.
        (header("x-group"), EqualTo, "blue", true),
        (header("X-GROUP"), EqualTo, "green", true),
        (header("x-group"), EqualTo, "Red", true),
        (header("x-group"), EqualTo, "blue, green", true),
        (header("x-group"), EqualTo, "red", false),
        (header("x-group"), StartsWith, "gre", true),
        (header("x-group"), EndsWith, "ue", true),
        (header("x-group"), Contains, "e, g", true),
        (header("x-group"), Search, "^(Red|pink)$", true),
        (header("accept"), EqualTo, "text", false),
        (header("absent"), Contains, "", false),
        (header("absent"), Search, "", false),
        // One cookie of all there are.
        (cookie("id"), EqualTo, "7", true),
        (cookie("ID"), EqualTo, "7", false),
        (cookie("theme"), EqualTo, "dark", true),
        (cookie("lang"), EqualTo, "de", true),
        (cookie("broken"), Contains, "", false),
        (cookie("theme"), StartsWith, "da", true),
        (cookie("theme"), EndsWith, "rk", true),
        (cookie("theme"), Contains, "ar", true),
        (cookie("theme"), Search, "^[a-d]", true),
        (cookie("d"), EqualTo, "7", false),
        // What is empty is in everything.
        (Path, Contains, "", true),
        (Path, EqualTo, "", false),
    ];
    for (subject, comparison, value, expected) in cases {
        for invert in [false, true] {
            let rule = Rule::new(subject.clone(), comparison, value, invert).unwrap();
            assert_eq!(
                rule.matches(&asked()),
                expected != invert,
                "{subject:?} {comparison:?} {value:?}, inverted: {invert}"
            );
        }
    }
}

#[test]
fn a_request_without_a_host_has_an_empty_one() {
    let nobody = Asked::default();
    assert!(rule(HostName, EqualTo, "").matches(&nobody));
    assert!(!rule(HostName, Contains, "a").matches(&nobody));
}

#[test]
fn all_rules_of_a_policy_must_match() {
    let both = |second| {
        let rules = vec![
            rule(Path, StartsWith, "/static"),
            Rule::new(HostName, Contains, second, false).unwrap(),
        ];
        Policies::new(vec![policy(1, PolicyAction::Reject, rules)])
    };
    assert_eq!(both("shop").evaluate(&asked()), Verdict::Reject);
    assert_eq!(both("mail").evaluate(&asked()), Verdict::Default);
}

#[test]
fn kind_beats_position_and_position_orders_within_a_kind() {
    let all = || vec![rule(Path, StartsWith, "/")];
    let none = || vec![rule(Path, StartsWith, "x")];
    let to_url = |url: &str| PolicyAction::RedirectToUrl {
        url: url.to_owned(),
        code: 301,
    };
    let prefix = PolicyAction::RedirectPrefix {
        prefix: "http://p".to_owned(),
        code: 308,
    };
    let pool = |number| PolicyAction::RedirectToPool(pool_id(number));
    let given = |reject: Vec<Rule>, redirect: Vec<Rule>| {
        Policies::new(vec![
            policy(1, pool(1), all()),
            policy(2, pool(2), all()),
            policy(3, to_url("http://none"), none()),
            policy(4, prefix.clone(), redirect.clone()),
            policy(5, to_url("http://u"), redirect),
            policy(6, PolicyAction::Reject, reject),
        ])
    };
    let judge = |policies: Policies| format!("{:?}", policies.evaluate(&asked()));
    assert_eq!(judge(given(all(), all())), "Reject");
    let redirect = Verdict::Redirect {
        url: "http://p",
        with_target: true,
        code: 308,
    };
    assert_eq!(judge(given(none(), all())), format!("{redirect:?}"));
    let to_first = Verdict::Pool(pool_id(1));
    assert_eq!(judge(given(none(), none())), format!("{to_first:?}"));
    let only = Policies::new(vec![policy(5, to_url("http://u"), all())]);
    assert_eq!(
        only.evaluate(&asked()),
        Verdict::Redirect {
            url: "http://u",
            with_target: false,
            code: 301
        }
    );
    assert_eq!(Policies::default().evaluate(&asked()), Verdict::Default);
    let pools: Vec<_> = given(all(), all()).pools().collect();
    assert_eq!(pools, [pool_id(1), pool_id(2)]);
}

#[test]
fn patterns_are_bounded_and_compared_by_what_they_say() {
    for text in ["(", "(?=a)", "(a{1000}){1000}", r"\p{Greek}"] {
        assert!(Rule::new(Path, Search, text, false).is_err(), "{text}");
    }
    assert_eq!(rule(Path, Search, "a"), rule(Path, Search, "a"));
    assert_ne!(rule(Path, Search, "a"), rule(Path, Search, "b"));
    assert_ne!(rule(Path, Search, "a"), rule(HostName, Search, "a"));
}

proptest! {
    /// Comparing bytes is what the standard library calls it.
    #[test]
    fn comparisons_are_those_of_the_standard_library(
        subject in "[ab/]{0,6}",
        value in "[ab/]{0,4}",
    ) {
        let of = |comparison| compare(comparison, subject.as_bytes(), value.as_bytes(), false);
        prop_assert_eq!(of(EqualTo), subject == value);
        prop_assert_eq!(of(StartsWith), subject.starts_with(&value));
        prop_assert_eq!(of(EndsWith), subject.ends_with(&value));
        prop_assert_eq!(of(Contains), subject.contains(&value));
        let upper: String = subject.to_uppercase();
        prop_assert!(compare(EqualTo, subject.as_bytes(), upper.as_bytes(), true));
    }

    /// A request that nobody foresaw panics nowhere.
    #[test]
    fn any_line_can_be_looked_at(line in prop::collection::vec(any::<u8>(), 0..40), value in ".{0,8}") {
        for comparison in [EqualTo, StartsWith, EndsWith, Contains] {
            let rule = rule(Path, comparison, &value);
            rule.test.holds_in(&line);
        }
        let bytes: usize = crate::cookie::pairs(&line).map(|(name, value)| name.len() + value.len()).sum();
        prop_assert!(bytes <= line.len());
    }
}

#[test]
fn rules_look_at_the_certificate_that_a_client_showed() {
    use RuleSubject::{CertificateShown, CertificateSubject, CertificateVerified};

    let without = asked();
    let with = Asked {
        subject: Some(vec![("O", "Example"), ("CN", "somebody"), ("CN", "else")]),
        ..asked()
    };
    let cn = || CertificateSubject("CN".to_owned());
    for (subject, comparison, value, matches_with, matches_without) in [
        (CertificateShown, EqualTo, "1", true, false),
        (CertificateShown, EqualTo, "0", false, true),
        (CertificateVerified, EqualTo, "0", true, true),
        (CertificateVerified, EqualTo, "10", false, false),
        (cn(), EqualTo, "somebody", true, false),
        (cn(), EqualTo, "else", false, false),
        (cn(), StartsWith, "some", true, false),
        (cn(), Search, "^.{8}$", true, false),
        (
            CertificateSubject("OU".to_owned()),
            Contains,
            "",
            false,
            false,
        ),
    ] {
        let rule = rule(subject.clone(), comparison, value);
        let found = (rule.matches(&with), rule.matches(&without));
        assert_eq!(
            found,
            (matches_with, matches_without),
            "{subject:?} {comparison:?} {value}"
        );
    }
}
