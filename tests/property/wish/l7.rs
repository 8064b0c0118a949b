//! Wishes about L7 policies and rules.

use krater_controller_core::{
    command::{Command, L7PolicyUpdate, L7RuleUpdate, NewL7Policy, NewL7Rule, PoolRef, Redirect},
    model::{CompareType, L7Action, L7ActionType, L7RuleType, PoolId, RedirectCode, RedirectUrl},
    tree::LoadBalancerTree,
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};

use super::{pick, set};
use crate::value;

/// What somebody wants next of L7 policies or rules.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    NewPolicy(Index, NewL7Policy, Option<Index>),
    Policy(Index, L7PolicyUpdate, Option<Index>),
    DeletePolicy(Index),
    NewRule(Index, NewL7Rule),
    Rule(Index, L7RuleUpdate),
    DeleteRule(Index),
}

impl Wish {
    /// The command it comes to; `None` when there is nothing of the kind it is about.
    pub(super) fn command(self, tree: &LoadBalancerTree) -> Option<Command> {
        let pool = |number: Index| pick(&tree.pools, number).map(|pool| pool.id);
        let policy = |number: Index| pick(&tree.l7_policies, number).map(|row| row.id);
        let rule = |number: Index| pick(&tree.l7_rules, number).map(|row| (row.policy, row.id));
        Some(match self {
            Self::NewPolicy(at, new, to) => {
                let listener = pick(&tree.listeners, at)?.id;
                let action = match to.and_then(pool) {
                    Some(pool) => L7Action::RedirectToPool(PoolRef::Existing(pool)),
                    None => new.action,
                };
                Command::CreateL7Policy(listener, Box::new(NewL7Policy { action, ..new }))
            }
            Self::Policy(at, update, to) => {
                let redirect = match to.and_then(pool) {
                    Some(pool) => Redirect {
                        pool: Some(Some(pool)),
                        ..Redirect::default()
                    },
                    None => update.redirect,
                };
                let update = L7PolicyUpdate { redirect, ..update };
                Command::UpdateL7Policy(policy(at)?, Box::new(update))
            }
            Self::DeletePolicy(at) => Command::DeleteL7Policy(policy(at)?),
            Self::NewRule(at, new) => Command::CreateL7Rule(policy(at)?, Box::new(new)),
            Self::Rule(at, update) => {
                let (policy, id) = rule(at)?;
                Command::UpdateL7Rule(policy, id, update)
            }
            Self::DeleteRule(at) => {
                let (policy, id) = rule(at)?;
                Command::DeleteL7Rule(policy, id)
            }
        })
    }
}

pub(super) fn wish() -> BoxedStrategy<Wish> {
    let at = any::<Index>;
    let to = || option::of(any::<Index>());
    prop_oneof![
        5 => (at(), new_policy(), to()).prop_map(|(at, new, to)| Wish::NewPolicy(at, new, to)),
        3 => (at(), policy_update(), to()).prop_map(|(at, update, to)| Wish::Policy(at, update, to)),
        1 => at().prop_map(Wish::DeletePolicy),
        5 => (at(), new_rule()).prop_map(|(at, new)| Wish::NewRule(at, new)),
        3 => (at(), rule_update()).prop_map(|(at, update)| Wish::Rule(at, update)),
        1 => at().prop_map(Wish::DeleteRule),
    ]
    .boxed()
}

/// A policy without rules and without a pool.
fn new_policy() -> BoxedStrategy<NewL7Policy> {
    let all = (
        value::name(),
        value::description(),
        value::mostly_true(),
        action(),
        position(),
        value::tags(),
    );
    all.prop_map(
        |(name, description, admin_state_up, action, position, tags)| NewL7Policy {
            name,
            description,
            admin_state_up,
            action,
            position,
            tags,
            rules: Vec::new(),
        },
    )
    .boxed()
}

/// A policy as it comes with a whole tree: its rules are ones that are taken.
pub(super) fn whole_policy() -> BoxedStrategy<NewL7Policy> {
    let rule = value_of_path().prop_map(|value| NewL7Rule {
        admin_state_up: true,
        rule_type: L7RuleType::Path,
        compare_type: CompareType::EqualTo,
        key: None,
        value,
        invert: false,
        tags: krater_controller_core::model::Tags::default(),
    });
    (new_policy(), vec(rule, 0..4))
        .prop_map(|(policy, rules)| NewL7Policy { rules, ..policy })
        .boxed()
}

fn policy_update() -> BoxedStrategy<L7PolicyUpdate> {
    let all = (
        set(value::name()),
        set(value::description()),
        set(any::<bool>()),
        redirect(),
        set(position()),
        set(value::tags()),
    );
    all.prop_map(
        |(name, description, admin_state_up, redirect, position, tags)| L7PolicyUpdate {
            name,
            description,
            admin_state_up,
            redirect,
            position,
            tags,
        },
    )
    .boxed()
}

fn new_rule() -> BoxedStrategy<NewL7Rule> {
    let all = (
        value::mostly_true(),
        rule_type(),
        compare_type(),
        option::of(key()),
        rule_value(),
        any::<bool>(),
        value::tags(),
    );
    all.prop_map(
        |(admin_state_up, rule_type, compare_type, key, value, invert, tags)| NewL7Rule {
            admin_state_up,
            rule_type,
            compare_type,
            key,
            value,
            invert,
            tags,
        },
    )
    .boxed()
}

fn rule_update() -> BoxedStrategy<L7RuleUpdate> {
    let all = (
        set(any::<bool>()),
        set(rule_type()),
        set(compare_type()),
        set(option::of(key())),
        set(rule_value()),
        set(any::<bool>()),
        set(value::tags()),
    );
    all.prop_map(
        |(admin_state_up, rule_type, compare_type, key, value, invert, tags)| L7RuleUpdate {
            admin_state_up,
            rule_type,
            compare_type,
            key,
            value,
            invert,
            tags,
        },
    )
    .boxed()
}

fn action() -> BoxedStrategy<L7Action<PoolRef>> {
    prop_oneof![
        Just(L7Action::Reject),
        (url(), code()).prop_map(|(url, code)| L7Action::RedirectToUrl { url, code }),
        (url(), code()).prop_map(|(prefix, code)| L7Action::RedirectPrefix { prefix, code }),
    ]
    .boxed()
}

fn redirect() -> BoxedStrategy<Redirect<PoolId>> {
    let all = (
        set(select(L7ActionType::ALL.to_vec())),
        set(option::of(url())),
        set(option::of(url())),
        set(option::of(code())),
    );
    all.prop_map(|(action, url, prefix, http_code)| Redirect {
        action,
        url,
        prefix,
        pool: None,
        http_code,
    })
    .boxed()
}

fn url() -> BoxedStrategy<RedirectUrl> {
    let text = prop_oneof![
        4 => "https?://[a-z]{1,8}(:[1-9][0-9]{0,3})?(/[a-z0-9.~%?#&=-]{0,9})?",
        1 => Just(format!("http://a/{}", "%5C".repeat(82))),
    ];
    text.prop_filter_map("a URL", |text| RedirectUrl::parse(text).ok())
        .boxed()
}

fn code() -> BoxedStrategy<RedirectCode> {
    select(RedirectCode::ALL.to_vec()).boxed()
}

fn position() -> BoxedStrategy<Option<u32>> {
    option::of(prop_oneof![4 => 1_u32..5, 1 => Just(i32::MAX.cast_unsigned())]).boxed()
}

fn rule_type() -> BoxedStrategy<L7RuleType> {
    select(L7RuleType::ALL.to_vec()).boxed()
}

fn compare_type() -> BoxedStrategy<CompareType> {
    select(CompareType::ALL.to_vec()).boxed()
}

fn key() -> BoxedStrategy<String> {
    prop_oneof![
        6 => "[A-Za-z][A-Za-z0-9-]{0,8}",
        1 => "[!-~]{0,9}",
        1 => Just("x".repeat(255)),
    ]
    .boxed()
}

fn value_of_path() -> BoxedStrategy<String> {
    prop_oneof![6 => "/[a-z]{0,6}", 1 => Just("\"".repeat(255)), 1 => Just("\\".repeat(255))]
        .boxed()
}

fn rule_value() -> BoxedStrategy<String> {
    prop_oneof![
        6 => value_of_path(),
        2 => "[!-~]{1,12}",
        2 => "\"[ -~]{0,9}\"",
        2 => "[a-z.*+?|()\\[\\]{}^$\\\\0-9]{1,12}",
        1 => "[0-9]{1,4}",
        1 => Just("true".to_owned()),
        1 => any::<String>().prop_map(|text| text.chars().take(255).collect()),
        1 => Just("a{99}".repeat(51)),
    ]
    .boxed()
}
