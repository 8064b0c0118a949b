//! Rules of L7 rules (reference 11).

use alloc::{
    format,
    string::{String, ToString},
};

use krater_amphora_api::{L7PolicyId, L7RuleId, PATTERN_BYTES_MAX};
use regex::bytes::RegexBuilder;

use super::draft::{Draft, Mark};
use crate::{
    change::Change,
    command::{L7RuleUpdate, NewL7Rule},
    limits,
    matrix::{self, KeyUse},
    model::{CompareType, L7Policy, L7Rule, L7RuleType},
    refusal::Refusal,
    resource::ResourceId,
    tree::{LoadBalancerTree, Row},
};

/// What can be checked without a tree.
pub(super) fn check_new(new: &NewL7Rule) -> Result<(), Refusal> {
    let key = new.key.as_deref();
    check(new.rule_type, new.compare_type, key, &new.value)
}

/// That as many rules, which compare in these ways, fit into a load balancer.
pub(super) fn check_counts(rules: impl Iterator<Item = CompareType>) -> Result<(), Refusal> {
    let (mut all, mut patterns) = (0_usize, 0_usize);
    for compare in rules {
        all = all.saturating_add(1);
        patterns = patterns.saturating_add(usize::from(compare == CompareType::Regex));
    }
    if all > limits::L7_RULES_MAX || patterns > limits::L7_PATTERNS_MAX {
        return Err(Refusal::QuotaMet("L7 Rule"));
    }
    Ok(())
}

/// How the rules that are not being deleted compare.
pub(super) fn staying(tree: &LoadBalancerTree) -> impl Iterator<Item = CompareType> {
    let rows = tree.l7_rules.iter().filter(|row| !row.is_leaving());
    rows.map(|row| row.value.compare_type)
}

pub(super) fn create(
    mut draft: Draft<'_>,
    policy: L7PolicyId,
    new: NewL7Rule,
) -> Result<Change, Refusal> {
    let row = find_policy(&draft.tree, policy)?;
    check_new(&new)?;
    check_counts(staying(&draft.tree).chain([new.compare_type]))?;
    draft.require_staying(row, ResourceId::L7Policy(policy))?;
    let rules = draft.tree.rules_of(policy);
    if rules.filter(|row| !row.is_leaving()).count() >= limits::L7_RULES_PER_POLICY_MAX {
        return Err(Refusal::TooManyRules(policy.to_string()));
    }
    let id = add(&mut draft, policy, new);
    touch_above(&mut draft, policy);
    Ok(draft.finish(ResourceId::L7Rule(id)))
}

/// Adds a checked rule.
pub(super) fn add(draft: &mut Draft<'_>, policy: L7PolicyId, new: NewL7Rule) -> L7RuleId {
    let id = L7RuleId::new(draft.next_id());
    draft.add_l7_rule(L7Rule {
        id,
        policy,
        admin_state_up: new.admin_state_up,
        rule_type: new.rule_type,
        compare_type: new.compare_type,
        key: new.key,
        value: new.value,
        invert: new.invert,
        tags: new.tags,
    });
    id
}

pub(super) fn update(
    mut draft: Draft<'_>,
    policy: L7PolicyId,
    id: L7RuleId,
    update: L7RuleUpdate,
) -> Result<Change, Refusal> {
    let parent = find_policy(&draft.tree, policy)?;
    let row = find(&draft.tree, policy, id)?;
    let mut changed = row.value.clone();
    apply(&mut changed, update);
    check(
        changed.rule_type,
        changed.compare_type,
        changed.key.as_deref(),
        &changed.value,
    )?;
    let more = (changed.compare_type == CompareType::Regex
        && row.value.compare_type != CompareType::Regex)
        .then_some(CompareType::Regex);
    // One that is changed was counted among those that stay: what it becomes may be one pattern too many.
    let patterns = staying(&draft.tree).filter(|compare| *compare == CompareType::Regex);
    check_counts(patterns.chain(more))?;
    draft.require_staying(parent, ResourceId::L7Policy(policy))?;
    draft.require_staying(row, ResourceId::L7Rule(id))?;
    let mut changed = Some(changed);
    draft.change_l7_rule(id, Mark::Named, |rule| super::set(rule, changed.take()));
    touch_above(&mut draft, policy);
    Ok(draft.finish(ResourceId::L7Rule(id)))
}

fn apply(rule: &mut L7Rule, update: L7RuleUpdate) {
    let L7RuleUpdate {
        admin_state_up,
        rule_type,
        compare_type,
        key,
        value,
        invert,
        tags,
    } = update;
    super::set(&mut rule.admin_state_up, admin_state_up);
    super::set(&mut rule.rule_type, rule_type);
    super::set(&mut rule.compare_type, compare_type);
    super::set(&mut rule.key, key);
    super::set(&mut rule.value, value);
    super::set(&mut rule.invert, invert);
    super::set(&mut rule.tags, tags);
    // Any change drops a key that has no use (reference 11.3).
    if matrix::key_use(rule.rule_type) == KeyUse::Unused {
        rule.key = None;
    }
}

pub(super) fn delete(
    mut draft: Draft<'_>,
    policy: L7PolicyId,
    id: L7RuleId,
) -> Result<Change, Refusal> {
    find_policy(&draft.tree, policy)?;
    if find(&draft.tree, policy, id)?.is_leaving() {
        return Ok(draft.unchanged(ResourceId::L7Rule(id)));
    }
    draft.change_l7_rule(id, Mark::Leaves, |_| ());
    touch_above(&mut draft, policy);
    Ok(draft.finish(ResourceId::L7Rule(id)))
}

/// Touches what a change of a rule goes along with: its policy and the listener of that (reference 18.3).
fn touch_above(draft: &mut Draft<'_>, policy: L7PolicyId) {
    let listener = draft.tree.l7_policy(policy).map(|row| row.value.listener);
    draft.change_l7_policy(policy, Mark::Along, |_| ());
    if let Some(listener) = listener {
        draft.change_listener(listener, Mark::Along, |_| ());
    }
}

/// The policy in a rule's path.
fn find_policy(tree: &LoadBalancerTree, id: L7PolicyId) -> Result<&Row<L7Policy>, Refusal> {
    tree.l7_policy(id).ok_or(Refusal::ParentPolicyNotFound(id))
}

/// A rule is found below its own policy only, where the reference finds it below any (reference 11.3).
fn find(
    tree: &LoadBalancerTree,
    policy: L7PolicyId,
    id: L7RuleId,
) -> Result<&Row<L7Rule>, Refusal> {
    tree.l7_rule(id)
        .filter(|row| row.value.policy == policy)
        .ok_or(Refusal::NotFound(ResourceId::L7Rule(id)))
}

/// The rules every L7 rule obeys, new or changed (reference 11.3).
fn check(
    rule: L7RuleType,
    compare: CompareType,
    key: Option<&str>,
    value: &str,
) -> Result<(), Refusal> {
    let key = key.filter(|key| !key.is_empty());
    if rule == L7RuleType::SslDnField && (key.is_none() || value.is_empty()) {
        return Err(invalid(format!(
            "L7rule type {} needs to specify a key and a value.",
            rule.name()
        )));
    }
    if value.is_empty() {
        return Err(invalid("L7 rule type requires a value"));
    }
    if value.contains(['\r', '\n']) {
        return Err(characters(value_name(rule)));
    }
    match (matrix::key_use(rule), key) {
        (KeyUse::Required, None) => return Err(invalid("L7 rule type requires a key")),
        (KeyUse::Required, Some(key)) => check_key(rule, key)?,
        (KeyUse::Absent, Some(_)) => {
            return Err(invalid(format!(
                "L7rule type {} does not use the \"key\" field.",
                rule.name()
            )));
        }
        (KeyUse::Absent, None) => check_verdict(rule, value)?,
        (KeyUse::Unused, _) => (),
    }
    if !matrix::compares(rule, compare) {
        return Err(invalid(match matrix::key_use(rule) {
            KeyUse::Absent => format!(
                "L7rule type {} only supports the EQUAL_TO compare type.",
                rule.name()
            ),
            KeyUse::Required | KeyUse::Unused => "invalid comparison type for rule type".into(),
        }));
    }
    if compare == CompareType::Regex {
        return check_pattern(rule, value);
    }
    let fits = match rule {
        L7RuleType::Cookie => value.bytes().all(is_of_cookie),
        L7RuleType::HostName | L7RuleType::Path | L7RuleType::FileType | L7RuleType::Header => {
            is_of_header(value)
        }
        L7RuleType::SslConnHasCert | L7RuleType::SslVerifyResult | L7RuleType::SslDnField => true,
    };
    if fits {
        Ok(())
    } else {
        Err(characters(value_name(rule)))
    }
}

fn check_key(rule: L7RuleType, key: &str) -> Result<(), Refusal> {
    if rule == L7RuleType::SslDnField {
        let mut bytes = key.bytes();
        let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
        return if begins && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            Ok(())
        } else {
            Err(invalid("Invalid L7rule distinguished name field."))
        };
    }
    if key.bytes().all(is_of_token) {
        Ok(())
    } else {
        Err(characters("key"))
    }
}

/// The values of what is either so or not.
fn check_verdict(rule: L7RuleType, value: &str) -> Result<(), Refusal> {
    if rule == L7RuleType::SslConnHasCert {
        return if value.eq_ignore_ascii_case("true") {
            Ok(())
        } else {
            Err(invalid(format!(
                "L7rule value {value} is not a boolean True string."
            )))
        };
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(invalid(format!(
            "L7rule type {} needs a int value, which is >= 0",
            rule.name()
        )))
    }
}

/// That an amphora can take the pattern: it is compiled in the same way there.
fn check_pattern(rule: L7RuleType, pattern: &str) -> Result<(), Refusal> {
    let built = RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(rule == L7RuleType::HostName)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    built.map(|_| ()).map_err(|error| {
        // The sentence is the last of several lines; those before show the place.
        let error = error.to_string();
        let sentence = error.lines().last().unwrap_or_default().trim();
        let sentence = sentence.strip_prefix("error: ").unwrap_or(sentence);
        Refusal::InvalidL7Rule(format!("Unable to parse regular expression: {sentence}"))
    })
}

fn invalid(detail: impl Into<String>) -> Refusal {
    let detail: String = detail.into();
    Refusal::InvalidL7Rule(format!("Invalid L7 Rule: {detail}"))
}

fn characters(of: &str) -> Refusal {
    Refusal::InvalidL7Rule(format!("Invalid characters in {of}"))
}

/// What the value is called where its characters are wrong.
const fn value_name(rule: L7RuleType) -> &'static str {
    match rule {
        L7RuleType::Header => "header value",
        L7RuleType::Cookie => "cookie value",
        L7RuleType::HostName
        | L7RuleType::Path
        | L7RuleType::FileType
        | L7RuleType::SslConnHasCert
        | L7RuleType::SslVerifyResult
        | L7RuleType::SslDnField => "comparison value",
    }
}

/// Characters of a token in HTTP; and the comma, which the API takes by an accident that clients may rely on.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_`|~".contains(&byte)
}

/// Characters of a cookie's value.
fn is_of_cookie(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\";\\".contains(&byte)
}

/// Visible characters; spaces in double quotes only.
fn is_of_header(value: &str) -> bool {
    let quoted = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let spaced = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() || b" \t".contains(&byte))
    };
    visible(value) || quoted.is_some_and(spaced)
}
