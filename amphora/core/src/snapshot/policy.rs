//! Checks of L7 policies.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use krater_amphora_api::{
    Comparison, ListenerProtocol, ListenerSpec, PolicyAction, PolicySpec, PoolId, PoolProtocol,
    RuleSpec, RuleSubject, Subject,
};

use super::{
    listener::pool_kind,
    parse::{Reasons, at_most},
};
use crate::{
    l7::{Policies, Policy, Rule},
    limits,
};

/// That all listeners together do not have too many policies, rules and patterns, and no policy twice.
pub(super) fn check_counts(listeners: &[ListenerSpec], reasons: &mut Reasons) {
    let policies = || listeners.iter().flat_map(|listener| &listener.policies);
    let rules = || policies().flat_map(|policy| &policy.rules);
    let patterns = rules().filter(|rule| rule.comparison == Comparison::Regex);
    let subject = Subject::LoadBalancer;
    let counts = [
        (limits::POLICIES_MAX, policies().count(), "L7 policies"),
        (limits::RULES_MAX, rules().count(), "L7 rules"),
        (
            limits::PATTERNS_MAX,
            patterns.count(),
            "regular expressions",
        ),
    ];
    for (most, count, what) in counts {
        at_most(most, count, what, subject, reasons);
    }
    let mut ids = BTreeSet::new();
    for listener in listeners {
        for policy in &listener.policies {
            reasons.require(
                ids.insert(policy.id),
                Subject::Listener(listener.id),
                || format!("L7 policy {} is listed twice", policy.id),
            );
        }
    }
}

/// The policies of one listener.
pub(super) fn parse_all(
    spec: &ListenerSpec,
    pools: &BTreeMap<PoolId, PoolProtocol>,
    reasons: &mut Reasons,
) -> Policies {
    let subject = Subject::Listener(spec.id);
    let sees_requests = spec.protocol == ListenerProtocol::Http;
    reasons.require(sees_requests || spec.policies.is_empty(), subject, || {
        String::from("only an http listener can have L7 policies")
    });
    let policies = spec.policies.iter();
    Policies::new(
        policies
            .map(|policy| parse(policy, (subject, spec.tls.is_some()), pools, reasons))
            .collect(),
    )
}

fn parse(
    spec: &PolicySpec,
    (subject, tls): (Subject, bool),
    pools: &BTreeMap<PoolId, PoolProtocol>,
    reasons: &mut Reasons,
) -> Policy {
    let id = spec.id;
    let fault = match &spec.action {
        PolicyAction::Reject => None,
        PolicyAction::RedirectToUrl { url, code }
        | PolicyAction::RedirectPrefix { prefix: url, code } => redirection_fault(url, *code),
        PolicyAction::RedirectToPool(pool) => match pools.get(pool) {
            Some(PoolProtocol::Http | PoolProtocol::Proxy | PoolProtocol::ProxyV2) => None,
            Some(other) => Some(format!("cannot send to {} pool", pool_kind(*other))),
            None => Some(format!("sends to pool {pool}, which is not in the spec")),
        },
    };
    if let Some(fault) = fault {
        reasons.add(subject, format!("L7 policy {id} {fault}"));
    }
    // One without rules would match everything: nobody means that.
    reasons.require(!spec.rules.is_empty(), subject, || {
        format!("L7 policy {id} has no rule, at least one is needed")
    });
    at_most(
        limits::RULES_PER_POLICY_MAX,
        spec.rules.len(),
        &format!("rules in L7 policy {id}"),
        subject,
        reasons,
    );
    let mut rules = Vec::with_capacity(spec.rules.len());
    for rule in &spec.rules {
        match parse_rule(rule, tls) {
            Ok(rule) => rules.push(rule),
            Err(fault) => reasons.add(subject, format!("a rule of L7 policy {id} {fault}")),
        }
    }
    Policy {
        id,
        action: spec.action.clone(),
        rules,
    }
}

/// What keeps a URL from standing in a header, or a code from being one of a redirection.
fn redirection_fault(url: &str, code: u16) -> Option<String> {
    let visible = !url.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || url.len() > limits::RULE_CHARACTERS_MAX {
        return Some(format!(
            "redirects to what is no URL of at most {} visible ASCII characters",
            limits::RULE_CHARACTERS_MAX
        ));
    }
    let known = matches!(code, 301 | 302 | 303 | 307 | 308);
    (!known).then(|| format!("redirects with {code}, which is not 301, 302, 303, 307 or 308"))
}

/// `tls`: whether the listener ends TLS.
fn parse_rule(spec: &RuleSpec, tls: bool) -> Result<Rule, String> {
    let most = limits::RULE_CHARACTERS_MAX;
    if let RuleSubject::Header(name)
    | RuleSubject::Cookie(name)
    | RuleSubject::CertificateSubject(name) = &spec.subject
    {
        let visible = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || name.len() > most {
            return Err(format!(
                "looks at a name that is not of 1 to {most} visible ASCII characters"
            ));
        }
    }
    if let RuleSubject::CertificateShown
    | RuleSubject::CertificateVerified
    | RuleSubject::CertificateSubject(_) = &spec.subject
        && !tls
    {
        return Err(String::from(
            "looks at certificates, which no client shows without TLS",
        ));
    }
    let characters = spec.value.chars().count();
    if characters > most {
        return Err(format!(
            "has a value of {characters} characters, at most {most} are allowed"
        ));
    }
    Rule::new(
        spec.subject.clone(),
        spec.comparison,
        &spec.value,
        spec.invert,
    )
    .map_err(|fault| format!("has a regular expression that cannot be taken: {fault}"))
}
