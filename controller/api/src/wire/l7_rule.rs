//! L7 rules as JSON (reference 11).

use krater_controller_core::{
    command::{L7RuleUpdate, NewL7Rule},
    model::{CompareType, L7PolicyId, L7Rule, L7RuleType},
    status::OperatingStatus,
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};

use super::row::{self, Item};
use crate::{
    body::{self, Fields, Given, TEXT_CHARACTERS_MAX},
    fault::Fault,
};

/// Reads the body of POST `/l7policies/{id}/rules`.
pub(crate) fn parse_new(body: Value) -> Result<NewL7Rule, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            fields.project_of_child()?;
            read(fields)
        })
    })
}

/// Reads a rule inside a policy of a whole tree.
pub(crate) fn read_nested(value: Value, path: &str) -> Result<NewL7Rule, Fault> {
    body::read(value, path, read)
}

fn read(fields: &mut Fields) -> Result<NewL7Rule, Fault> {
    Ok(NewL7Rule {
        admin_state_up: fields.admin_state_up()?.or(true),
        rule_type: rule_type(fields)?.mandatory(TYPE)?,
        compare_type: compare_type(fields)?.mandatory(COMPARE_TYPE)?,
        key: fields.text(KEY, TEXT_CHARACTERS_MAX)?.value(),
        value: fields.text(VALUE, TEXT_CHARACTERS_MAX)?.mandatory(VALUE)?,
        invert: fields.boolean(INVERT)?.or(false),
        tags: fields.tags()?.unwrap_or_default(),
    })
}

/// Reads the body of PUT `/l7policies/{id}/rules/{id}`.
pub(crate) fn parse_update(body: Value) -> Result<L7RuleUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            Ok(L7RuleUpdate {
                admin_state_up: fields.admin_state_up()?.value(),
                rule_type: rule_type(fields)?.set_not_null(TYPE)?,
                compare_type: compare_type(fields)?.set_not_null(COMPARE_TYPE)?,
                key: fields.text(KEY, TEXT_CHARACTERS_MAX)?.clear(),
                value: fields
                    .text(VALUE, TEXT_CHARACTERS_MAX)?
                    .set_not_null(VALUE)?,
                invert: fields.boolean(INVERT)?.set(false),
                tags: fields.tags()?,
            })
        })
    })
}

fn rule_type(fields: &mut Fields) -> Result<Given<L7RuleType>, Fault> {
    fields.choice(TYPE, TYPES)?.parse(|name| {
        let found = L7RuleType::ALL
            .into_iter()
            .find(|known| known.name() == name);
        found.ok_or_else(|| Fault::option(name, TYPE))
    })
}

fn compare_type(fields: &mut Fields) -> Result<Given<CompareType>, Fault> {
    fields.choice(COMPARE_TYPE, COMPARE_TYPES)?.parse(|name| {
        let found = CompareType::ALL
            .into_iter()
            .find(|known| known.name() == name);
        found.ok_or_else(|| Fault::option(name, COMPARE_TYPE))
    })
}

/// An L7 rule of `view` as JSON.
pub(crate) fn render(view: &TreeView, row: &Row<L7Rule>) -> Item {
    let rule = &row.value;
    let id = rule.id.uuid();
    let mut object = row::shared_keys(view, id, row, &rule.tags, OperatingStatus::Offline);
    row::extend(
        &mut object,
        json!({
            "admin_state_up": rule.admin_state_up,
            TYPE: rule.rule_type.name(),
            COMPARE_TYPE: rule.compare_type.name(),
            KEY: rule.key,
            VALUE: rule.value,
            INVERT: rule.invert,
        }),
    );
    Item {
        created_at: row.created_at,
        object,
    }
}

/// A rule as the status tree shows it.
pub(crate) fn render_status(view: &TreeView, row: &Row<L7Rule>) -> Value {
    let id = row.value.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, OperatingStatus::Offline);
    row::extend(
        &mut object,
        json!({"id": id, "type": row.value.rule_type.name()}),
    );
    Value::Object(object)
}

/// The rules of the policy `policy`, each as JSON.
pub(crate) fn render_of_policy(view: &TreeView, policy: L7PolicyId) -> impl Iterator<Item = Item> {
    view.tree.rules_of(policy).map(move |row| render(view, row))
}

/// What L7 rules can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[TYPE, COMPARE_TYPE, KEY, VALUE, INVERT];

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "rule_";
/// The key of one.
pub(crate) const ROOT: &str = "rule";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "rules";
const TYPE: &str = "type";
const COMPARE_TYPE: &str = "compare_type";
const KEY: &str = "key";
const VALUE: &str = "value";
const INVERT: &str = "invert";
const TYPES: &[&str] = &[
    "HOST_NAME",
    "PATH",
    "FILE_TYPE",
    "HEADER",
    "COOKIE",
    "SSL_CONN_HAS_CERT",
    "SSL_VERIFY_RESULT",
    "SSL_DN_FIELD",
];
const COMPARE_TYPES: &[&str] = &["REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "EQUAL_TO"];
