//! L7 policies as JSON (reference 10).

use krater_controller_core::{
    command::{L7PolicyUpdate, NewL7Policy, NewL7Rule, PoolRef, Redirect},
    limits,
    model::{
        Description, L7Action, L7ActionType, L7Policy, L7RuleId, ListenerId, Name, PoolId,
        RedirectCode, RedirectUrl, Tags, UrlError,
    },
    refusal::Refusal,
    scan::Related,
    status::OperatingStatus,
    tree::{Row, TreeView},
};
use serde_json::{Map, Value, json};

use super::{
    l7_rule,
    row::{self, Item},
};
use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads the body of POST `/l7policies`.
pub(crate) fn parse_new(body: Value) -> Result<(ListenerId, NewL7Policy), Fault> {
    let (listener, policy, pool) = body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            fields.project_of_child()?;
            let listener = fields.uuid("listener_id")?.mandatory("listener_id")?;
            let with_tree = |what: &str| {
                Fault::validation(format!(
                    "{what} can only be given when a whole load balancer is created."
                ))
            };
            if fields.take("redirect_pool").value().is_some() {
                return Err(with_tree("redirect_pool"));
            }
            let rules = fields.list(l7_rule::ROOT_LIST, Ok)?.or_default();
            if !rules.is_empty() {
                return Err(with_tree("rules"));
            }
            let pool = fields.uuid("redirect_pool_id")?.map(PoolId::new);
            Ok((listener, PolicyBody::read(fields)?, pool))
        })
    })?;
    let pool = pool.map(PoolRef::Existing).clear();
    Ok((
        ListenerId::new(listener),
        policy.into_new(pool, Vec::new())?,
    ))
}

/// Reads the body of PUT `/l7policies/{id}`.
pub(crate) fn parse_update(body: Value) -> Result<L7PolicyUpdate, Fault> {
    body::read_root(body, ARGUMENT, ROOT, |value, path| {
        body::read(value, path, |fields| {
            let pool = fields.uuid("redirect_pool_id")?.map(PoolId::new).clear();
            Ok(L7PolicyUpdate {
                name: fields.name()?.value(),
                description: fields.description()?.value(),
                admin_state_up: fields.admin_state_up()?.value(),
                redirect: Redirect {
                    pool,
                    ..redirect(fields)?
                },
                position: position(fields)?.clear(),
                tags: fields.tags()?,
            })
        })
    })
}

/// All that the body of a new policy says, but for its listener, its pool and its rules.
pub(crate) struct PolicyBody {
    name: Name,
    description: Description,
    admin_state_up: bool,
    redirect: Redirect<PoolRef>,
    position: Option<u32>,
    tags: Tags,
}

impl PolicyBody {
    /// Reads the fields that a policy has wherever it is created.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, Fault> {
        let redirect = redirect(fields)?;
        if redirect.action.is_none() {
            return Err(Fault::input(ACTION, "None", "Mandatory field missing."));
        }
        Ok(Self {
            name: fields.name()?.or_default(),
            description: fields.description()?.or_default(),
            admin_state_up: fields.admin_state_up()?.or(true),
            redirect,
            position: position(fields)?.value(),
            tags: fields.tags()?.unwrap_or_default(),
        })
    }

    /// The policy, unless its action and its targets do not fit each other.
    pub(crate) fn into_new(
        self,
        pool: Option<Option<PoolRef>>,
        rules: Vec<NewL7Rule>,
    ) -> Result<NewL7Policy, Fault> {
        let redirect = Redirect {
            pool,
            ..self.redirect
        };
        Ok(NewL7Policy {
            name: self.name,
            description: self.description,
            admin_state_up: self.admin_state_up,
            action: redirect.settle()?,
            position: self.position,
            tags: self.tags,
            rules,
        })
    }
}

/// The action and its targets, without a pool.
fn redirect<P>(fields: &mut Fields) -> Result<Redirect<P>, Fault> {
    let action = match fields.take(ACTION) {
        Given::Absent => None,
        Given::Null => return Err(Refusal::UnknownL7Action("None".into()).into()),
        Given::Value(value) => Some(action(&value)?),
    };
    Ok(Redirect {
        action,
        url: url(fields, "redirect_url")?.clear(),
        prefix: url(fields, "redirect_prefix")?.clear(),
        pool: None,
        http_code: http_code(fields)?.clear(),
    })
}

fn action(value: &Value) -> Result<L7ActionType, Fault> {
    let known = L7ActionType::ALL
        .into_iter()
        .find(|action| value.as_str() == Some(action.name()));
    known.ok_or_else(|| Refusal::UnknownL7Action(body::echo(value)).into())
}

fn url(fields: &mut Fields, name: &str) -> Result<Given<RedirectUrl>, Fault> {
    let text = fields.text(name, limits::TEXT_CHARACTERS_MAX)?;
    text.parse(|text| {
        RedirectUrl::parse(text.clone()).map_err(|error| match error {
            UrlError::Invalid => Fault::input(name, &text, "Value must be a valid URL string"),
            UrlError::TooLong => {
                let most = limits::TEXT_CHARACTERS_MAX;
                let reason = format!("Value should have a maximum character requirement of {most}");
                Fault::input(name, &text, reason)
            }
        })
    })
}

fn http_code(fields: &mut Fields) -> Result<Given<RedirectCode>, Fault> {
    let number = fields.integer::<i64>(HTTP_CODE, i64::MIN, i64::MAX)?;
    number.parse(|number| {
        let known = RedirectCode::ALL
            .into_iter()
            .find(|code| i64::from(code.number()) == number);
        known.ok_or_else(|| {
            let reason = "Value should be one of: 301, 302, 303, 307, 308";
            Fault::input(HTTP_CODE, &number.to_string(), reason)
        })
    })
}

fn position(fields: &mut Fields) -> Result<Given<u32>, Fault> {
    fields.integer("position", 1, POSITION_MAX)
}

/// An L7 policy of `view` as JSON.
pub(crate) fn render(view: &TreeView, row: &Row<L7Policy>, related: &Related) -> Item {
    let rules = related.l7_rules.iter().copied().map(L7RuleId::uuid);
    render_with(view, row, related.position, row::references(rules))
}

/// A policy as the status tree shows it, its rules below it.
pub(crate) fn render_status(view: &TreeView, row: &Row<L7Policy>) -> Value {
    let policy = &row.value;
    let id = policy.id.uuid();
    let mut object = Map::new();
    row::put_statuses(&mut object, view, id, row, OperatingStatus::Offline);
    let rules: Vec<Value> = view
        .tree
        .rules_of(policy.id)
        .map(|rule| l7_rule::render_status(view, rule))
        .collect();
    row::extend(
        &mut object,
        json!({"id": id, "name": policy.name.as_str(), "rules": rules}),
    );
    Value::Object(object)
}

/// The same inside a whole tree, with all below it.
pub(crate) fn render_nested(view: &TreeView, row: &Row<L7Policy>, position: u32) -> Item {
    let rules = view.tree.rules_of(row.value.id);
    let rules = rules.map(|rule| Value::Object(l7_rule::render(view, rule).object));
    render_with(view, row, position, rules.collect())
}

fn render_with(view: &TreeView, row: &Row<L7Policy>, position: u32, rules: Value) -> Item {
    let policy = &row.value;
    let id = policy.id.uuid();
    let mut object = row::shared_keys(view, id, row, &policy.tags, OperatingStatus::Offline);
    let (url, prefix) = match &policy.action {
        L7Action::RedirectToUrl { url, .. } => (Some(url.as_str()), None),
        L7Action::RedirectPrefix { prefix, .. } => (None, Some(prefix.as_str())),
        L7Action::Reject | L7Action::RedirectToPool(_) => (None, None),
    };
    row::extend(
        &mut object,
        json!({
            "name": policy.name.as_str(),
            "description": policy.description.as_str(),
            "admin_state_up": policy.admin_state_up,
            "listener_id": policy.listener,
            "action": policy.action.action_type().name(),
            "redirect_pool_id": policy.action.pool(),
            "redirect_url": url,
            "redirect_prefix": prefix,
            "redirect_http_code": policy.action.code().map(RedirectCode::number),
            "position": position,
            "rules": rules,
        }),
    );
    Item {
        created_at: row.created_at,
        object,
    }
}

/// What L7 policies can be filtered and sorted by, beside what all resources can (reference 4.1).
pub(crate) const ATTRIBUTES: &[&str] = &[
    "description",
    "listener_id",
    ACTION,
    "redirect_pool_id",
    "redirect_url",
    "redirect_prefix",
    HTTP_CODE,
    "position",
];

/// The argument's name in errors.
pub(crate) const ARGUMENT: &str = "l7policy_";
/// The key of one.
pub(crate) const ROOT: &str = "l7policy";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "l7policies";
const ACTION: &str = "action";
const HTTP_CODE: &str = "redirect_http_code";
const POSITION_MAX: i64 = i32::MAX as i64;
