//! Rules of L7 rules.

use alloc::{format, vec::Vec};

use uuid::Uuid;

use crate::{
    command::{Command, L7RuleUpdate, NewL7Rule},
    limits,
    model::{CompareType, L7Action, L7PolicyId, L7RuleId, L7RuleType},
    refusal::Refusal,
    resource::ResourceId,
    sample::{House, new_policy, new_rule, path_rule, pending},
};

use CompareType::{Contains, EndsWith, EqualTo, Regex, StartsWith};
use L7RuleType::{
    Cookie, FileType, Header, HostName, Path, SslConnHasCert, SslDnField, SslVerifyResult,
};

fn rule(
    rule_type: L7RuleType,
    compare_type: CompareType,
    key: Option<&str>,
    value: &str,
) -> NewL7Rule {
    NewL7Rule {
        key: key.map(Into::into),
        ..new_rule(rule_type, compare_type, value)
    }
}

fn invalid(detail: &str) -> Refusal {
    Refusal::InvalidL7Rule(format!("Invalid L7 Rule: {detail}"))
}

fn characters(of: &str) -> Refusal {
    Refusal::InvalidL7Rule(format!("Invalid characters in {of}"))
}

/// A value that every type takes.
fn value(rule_type: L7RuleType) -> &'static str {
    match rule_type {
        SslVerifyResult => "0",
        _ => "true",
    }
}

fn key(rule_type: L7RuleType) -> Option<&'static str> {
    match rule_type {
        Header | Cookie | SslDnField => Some("CN"),
        _ => None,
    }
}

#[test]
fn types_compare_as_the_table_says() {
    let mut house = House::with_policy();
    // Reference 11.3, the rows and columns of its table.
    let refused = [
        (FileType, StartsWith),
        (FileType, EndsWith),
        (FileType, Contains),
    ];
    let only_equal = [SslConnHasCert, SslVerifyResult];
    for rule_type in L7RuleType::ALL {
        for compare in CompareType::ALL {
            let new = rule(rule_type, compare, key(rule_type), value(rule_type));
            let answer = house.add_rule(new).map(|_| ());
            let expected = if refused.contains(&(rule_type, compare)) {
                Err(invalid("invalid comparison type for rule type"))
            } else if only_equal.contains(&rule_type) && compare != EqualTo {
                Err(invalid(&format!(
                    "L7rule type {} only supports the EQUAL_TO compare type.",
                    rule_type.name()
                )))
            } else {
                Ok(())
            };
            assert_eq!(answer, expected, "{rule_type:?} {compare:?}");
        }
    }
}

type Case = (NewL7Rule, Option<Refusal>);

fn check(cases: impl IntoIterator<Item = Case>) {
    let mut house = House::with_policy();
    for (new, expected) in cases {
        let text = format!("{new:?}");
        let answer = house.add_rule(new).map(|_| ());
        assert_eq!(answer, expected.map_or(Ok(()), Err), "{text}");
    }
}

#[test]
fn a_value_has_the_characters_of_what_it_is_compared_with() {
    let of = |compare, value| rule(Path, compare, None, value);
    let wrong = || Some(characters("comparison value"));
    check([
        (
            of(EqualTo, ""),
            Some(invalid("L7 rule type requires a value")),
        ),
        (of(EqualTo, "a.example.test:80"), None),
        (of(EqualTo, "a b"), wrong()),
        (of(EqualTo, "\"a b\""), None),
        (of(EqualTo, "\"a b"), wrong()),
        (of(EqualTo, "\u{e9}"), wrong()),
        (of(StartsWith, "/a;b=\\\"c"), None),
        (of(StartsWith, "/a\r"), wrong()),
        (of(StartsWith, "\"/a\nb\""), wrong()),
        (of(Regex, "^/a\r\n"), wrong()),
        (rule(HostName, EqualTo, Some("spare"), "a"), None),
        (rule(FileType, EqualTo, None, "jpg"), None),
        (rule(FileType, EqualTo, None, "j g"), wrong()),
    ]);
}

#[test]
fn headers_and_cookies_need_a_key_and_have_characters_of_their_own() {
    let header = |key, value| rule(Header, EqualTo, key, value);
    let cookie = |key, value| rule(Cookie, EqualTo, key, value);
    let no_key = || Some(invalid("L7 rule type requires a key"));
    let wrong = |of| Some(characters(of));
    let no_value = Some(invalid("L7 rule type requires a value"));
    check([
        (header(None, "v"), no_key()),
        (header(Some(""), "v"), no_key()),
        (header(Some("X-A"), ""), no_value),
        (header(Some("X A"), "v"), wrong("key")),
        (header(Some("X:A"), "v"), wrong("key")),
        (header(Some("X,A"), "v"), None),
        (header(Some("X-A"), "a b"), wrong("header value")),
        (header(Some("X-A"), "\"a b\""), None),
        (cookie(None, "v"), no_key()),
        (cookie(Some("id"), "a,b"), None),
        (cookie(Some("id"), "a;b"), wrong("cookie value")),
        (cookie(Some("id"), "\"a\""), wrong("cookie value")),
        (cookie(Some("id"), "a\\b"), wrong("cookie value")),
        (cookie(Some("i;d"), "v"), wrong("key")),
    ]);
}

#[test]
fn rules_about_certificates_are_picky() {
    let no_use = |name| {
        let detail = format!("L7rule type {name} does not use the \"key\" field.");
        Some(invalid(&detail))
    };
    let both = || {
        Some(invalid(
            "L7rule type SSL_DN_FIELD needs to specify a key and a value.",
        ))
    };
    let field = || Some(invalid("Invalid L7rule distinguished name field."));
    let number = || {
        Some(invalid(
            "L7rule type SSL_VERIFY_RESULT needs a int value, which is >= 0",
        ))
    };
    let untrue = Some(invalid("L7rule value false is not a boolean True string."));
    let shown = |key, value| rule(SslConnHasCert, EqualTo, key, value);
    let verified = |key, value| rule(SslVerifyResult, EqualTo, key, value);
    let named = |key, value| rule(SslDnField, EqualTo, key, value);
    check([
        (shown(None, "TRUE"), None),
        (shown(None, "false"), untrue),
        (shown(Some("k"), "true"), no_use("SSL_CONN_HAS_CERT")),
        (shown(Some(""), "true"), None),
        (verified(None, "10"), None),
        (verified(None, "-1"), number()),
        (verified(None, "1.5"), number()),
        (verified(Some("k"), "1"), no_use("SSL_VERIFY_RESULT")),
        (named(Some("CN"), "any thing \u{e9}"), None),
        (named(None, "v"), both()),
        (named(Some("CN"), ""), both()),
        (named(Some("1N"), "v"), field()),
        (named(Some("C_N"), "v"), field()),
        (named(Some("subject-key"), "v"), None),
    ]);
}

#[test]
fn a_pattern_is_one_that_an_amphora_can_take() {
    let mut house = House::with_policy();
    for pattern in [
        "^/shop/[0-9]{1,9}$",
        "a b",
        "\u{e9}+",
        "(?i)x|y",
        r"\.(jpe?g|png)$",
        r"\w+\s*\d",
        "(?-u:\\xff)",
    ] {
        house
            .add_rule(rule(Path, Regex, None, pattern))
            .unwrap_or_else(|refusal| panic!("{pattern}: {refusal}"));
    }
    for (pattern, sentence) in [
        ("(", "unclosed group"),
        ("a{2,1}", "invalid repetition count range"),
        // What other engines have and this one does not, since it would not be done in bounded time.
        ("(?=a)", "look-around"),
        (r"(a)\1", "backreferences"),
        // Alphabets of the world are not compiled in.
        (r"\p{Greek}", "Unicode not allowed here"),
        ("(a{1000}){1000}", "exceeds size limit"),
    ] {
        let Err(Refusal::InvalidL7Rule(text)) =
            house.add_rule(rule(Header, Regex, Some("k"), pattern))
        else {
            panic!("{pattern} was taken");
        };
        assert!(text.starts_with("Unable to parse regular expression: "));
        assert!(text.contains(sentence), "{text}");
    }
}

#[test]
fn a_change_is_judged_by_what_comes_of_it() {
    let mut house = House::with_policy();
    house
        .add_rule(rule(Header, EqualTo, Some("X-A"), "v"))
        .unwrap();
    let (policy, id) = (house.policy(0), house.rule(1));
    let mut ask = |update| {
        let change = house.ask(Command::UpdateL7Rule(policy, id, update));
        change.map(|change| change.tree.l7_rules[1].value.clone())
    };
    let nothing = L7RuleUpdate::default;
    assert_eq!(ask(nothing()).unwrap().key.as_deref(), Some("X-A"));
    let changed = ask(L7RuleUpdate {
        rule_type: Some(Path),
        compare_type: Some(StartsWith),
        value: Some("/x".into()),
        invert: Some(true),
        admin_state_up: Some(false),
        ..nothing()
    })
    .unwrap();
    assert_eq!((changed.key.as_deref(), changed.invert), (None, true));
    let no_key = L7RuleUpdate {
        key: Some(None),
        ..nothing()
    };
    assert_eq!(ask(no_key), Err(invalid("L7 rule type requires a key")));
    let to_file = L7RuleUpdate {
        rule_type: Some(FileType),
        compare_type: Some(StartsWith),
        ..nothing()
    };
    assert_eq!(
        ask(to_file),
        Err(invalid("invalid comparison type for rule type"))
    );
    let to_ssl = |key| L7RuleUpdate {
        rule_type: Some(SslVerifyResult),
        value: Some("0".into()),
        key,
        ..nothing()
    };
    assert!(ask(to_ssl(None)).is_err(), "the old key is still there");
    assert!(ask(to_ssl(Some(None))).is_ok());
    let pattern = L7RuleUpdate {
        compare_type: Some(Regex),
        value: Some("(".into()),
        ..nothing()
    };
    assert!(matches!(ask(pattern), Err(Refusal::InvalidL7Rule(_))));
}

#[test]
fn a_superfluous_key_is_shown_until_the_first_change() {
    let mut house = House::with_policy();
    house
        .add_rule(rule(Path, EqualTo, Some("spare"), "/"))
        .unwrap();
    let (policy, id) = (house.policy(0), house.rule(1));
    assert!(house.tree.l7_rules[1].value.key.is_some());
    let change = Command::UpdateL7Rule(policy, id, L7RuleUpdate::default());
    house.run(change).unwrap();
    assert_eq!(house.tree.l7_rules[1].value.key, None);
}

#[test]
fn a_rule_is_found_below_its_policy_alone() {
    let mut house = House::with_policy();
    house.add_policy(new_policy(L7Action::Reject)).unwrap();
    let (own, other) = (house.policy(0), house.policy(1));
    let (rule, nobody) = (house.rule(0), L7PolicyId::new(Uuid::nil()));
    let stranger = L7RuleId::new(Uuid::nil());
    let commands = |policy, rule| {
        [
            Command::UpdateL7Rule(policy, rule, L7RuleUpdate::default()),
            Command::DeleteL7Rule(policy, rule),
        ]
    };
    for command in commands(nobody, rule) {
        let target = command.target().unwrap();
        assert_eq!(target, ResourceId::L7Policy(nobody));
        let missing = Refusal::ParentPolicyNotFound(nobody);
        assert_eq!(command.target_missing(target), missing);
        assert_eq!(house.ask(command), Err(missing));
    }
    for (policy, rule) in [(other, rule), (own, stranger)] {
        for command in commands(policy, rule) {
            let missing = Refusal::NotFound(ResourceId::L7Rule(rule));
            assert_eq!(house.ask(command), Err(missing));
        }
    }
    for command in commands(own, rule) {
        assert!(house.ask(command).is_ok());
    }
    house.run(Command::DeleteL7Policy(own)).unwrap();
    assert_eq!(
        house.add_rule(path_rule()),
        Err(Refusal::BeingDeleted(ResourceId::L7Policy(own)))
    );
}

#[test]
fn what_becomes_pending_is_the_rule_and_all_above_it() {
    let after = |command: &dyn Fn(&House) -> Command| {
        let mut house = House::with_policy();
        house.run(command(&house)).unwrap();
        pending(&house.view())
    };
    let with = |rule| {
        Vec::from([
            "Load Balancer PENDING_UPDATE",
            "Listener PENDING_UPDATE",
            "L7 Policy PENDING_UPDATE",
            rule,
        ])
    };
    assert_eq!(
        after(&|house| Command::CreateL7Rule(house.policy(0), path_rule().into())),
        with("L7 Rule PENDING_CREATE")
    );
    assert_eq!(
        after(&|house| Command::UpdateL7Rule(
            house.policy(0),
            house.rule(0),
            L7RuleUpdate::default()
        )),
        with("L7 Rule PENDING_UPDATE")
    );
    assert_eq!(
        after(&|house| Command::DeleteL7Rule(house.policy(0), house.rule(0))),
        with("L7 Rule PENDING_DELETE")
    );
}

#[test]
fn a_policy_has_at_most_fifty_rules() {
    let mut house = House::with_policy();
    for _ in 1..limits::L7_RULES_PER_POLICY_MAX {
        house.add_rule(path_rule()).unwrap();
    }
    let policy = house.policy(0);
    assert_eq!(
        house.add_rule(path_rule()),
        Err(Refusal::TooManyRules(format!("{policy}")))
    );
    house
        .run(Command::DeleteL7Rule(policy, house.rule(0)))
        .unwrap();
    house.add_rule(path_rule()).unwrap();
}

#[test]
fn patterns_are_counted_whatever_policy_they_are_in() {
    let mut house = House::with_policy();
    let pattern = || rule(Path, Regex, None, "x");
    for number in 0..limits::L7_PATTERNS_MAX {
        if number % 40 == 0 {
            house.add_policy(new_policy(L7Action::Reject)).unwrap();
        }
        let policy = house.tree.l7_policies.last().unwrap().value.id;
        let create = Command::CreateL7Rule(policy, pattern().into());
        house.run(create).unwrap();
    }
    let full = Err(Refusal::QuotaMet("L7 Rule"));
    assert_eq!(house.add_rule(pattern()), full);
    let (policy, id) = (house.policy(0), house.rule(0));
    let turn = |compare| L7RuleUpdate {
        compare_type: Some(compare),
        ..L7RuleUpdate::default()
    };
    assert_eq!(
        house.ask(Command::UpdateL7Rule(policy, id, turn(Regex))),
        full
    );
    assert!(
        house
            .ask(Command::UpdateL7Rule(policy, id, turn(Contains)))
            .is_ok()
    );
    assert!(house.add_rule(path_rule()).is_ok());
}
