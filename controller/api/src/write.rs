//! POST, PUT, DELETE: from a body to a command to the resource as it is then.

use http::StatusCode;
use krater_controller_core::{
    command::{BatchMode, Cascade, Command},
    model::{HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId, MemberId, PoolId},
    policy::{self, Action},
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::{
    application::Executed,
    context::Context,
    fault::Fault,
    kind::{self, parse_id},
    path::Kind,
    read,
    reply::{Reply, Tags},
    wire::{health_monitor, l7_policy, l7_rule, listener, load_balancer, member, pool},
};

/// POST on a collection.
pub(crate) async fn create(context: &Context<'_>, kind: Kind, body: Value) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let command = match kind {
        Kind::LoadBalancer => {
            let new = load_balancer::parse_new(body, &context.settings.providers)?;
            let executed = context
                .execute(Command::CreateLoadBalancer(Box::new(new)))
                .await?;
            let object = load_balancer::render_tree(&executed.view).object;
            return Ok(Reply::Tagged(
                StatusCode::CREATED,
                json!({kind.root(): object}),
                tags(&executed),
            ));
        }
        Kind::Listener => {
            let (parent, new) = listener::parse_new(body)?;
            Command::CreateListener(parent, Box::new(new))
        }
        Kind::Pool => {
            let (parent, new) = pool::parse_new(body)?;
            Command::CreatePool(parent, Box::new(new))
        }
        Kind::HealthMonitor => {
            let (pool, new) = health_monitor::parse_new(body)?;
            Command::CreateHealthMonitor(pool, Box::new(new))
        }
        Kind::L7Policy => {
            let (listener, new) = l7_policy::parse_new(body)?;
            Command::CreateL7Policy(listener, Box::new(new))
        }
    };
    let executed = context.execute(command).await?;
    result(StatusCode::CREATED, &executed, kind.root())
}

/// PUT on an item.
pub(crate) async fn update(
    context: &Context<'_>,
    kind: Kind,
    id: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let id = kind.id(id)?.uuid();
    let command = match kind {
        Kind::LoadBalancer => {
            Command::UpdateLoadBalancer(LoadBalancerId::new(id), load_balancer::parse_update(body)?)
        }
        Kind::Listener => {
            Command::UpdateListener(ListenerId::new(id), Box::new(listener::parse_update(body)?))
        }
        Kind::Pool => Command::UpdatePool(PoolId::new(id), Box::new(pool::parse_update(body)?)),
        Kind::HealthMonitor => {
            let update = health_monitor::parse_update(body)?;
            Command::UpdateHealthMonitor(HealthMonitorId::new(id), Box::new(update))
        }
        Kind::L7Policy => {
            let update = l7_policy::parse_update(body)?;
            Command::UpdateL7Policy(L7PolicyId::new(id), Box::new(update))
        }
    };
    let executed = context.execute(command).await?;
    result(StatusCode::OK, &executed, kind.root())
}

/// DELETE on an item.
pub(crate) async fn delete(context: &Context<'_>, kind: Kind, id: &str) -> Result<Reply, Fault> {
    let cascade = match kind {
        Kind::LoadBalancer => {
            context.parameters.only(&["cascade"])?;
            if context.parameters.flag("cascade")? {
                Cascade::WithChildren
            } else {
                Cascade::OnlyIfEmpty
            }
        }
        Kind::Listener | Kind::Pool | Kind::HealthMonitor | Kind::L7Policy => {
            context.parameters.only(&[])?;
            Cascade::OnlyIfEmpty
        }
    };
    let id = kind.id(id)?.uuid();
    context
        .execute(match kind {
            Kind::LoadBalancer => Command::DeleteLoadBalancer(LoadBalancerId::new(id), cascade),
            Kind::Listener => Command::DeleteListener(ListenerId::new(id)),
            Kind::Pool => Command::DeletePool(PoolId::new(id)),
            Kind::HealthMonitor => Command::DeleteHealthMonitor(HealthMonitorId::new(id)),
            Kind::L7Policy => Command::DeleteL7Policy(L7PolicyId::new(id)),
        })
        .await?;
    Ok(Reply::Empty(StatusCode::NO_CONTENT))
}

/// PUT on a load balancer's `failover`: 404 and 403 come first.
pub(crate) async fn fail_over(context: &Context<'_>, id: &str) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let view = read::tree(context, Kind::LoadBalancer.id(id)?).await?;
    if !policy::permits(&context.caller, view.tree.project(), Action::Administer) {
        return Err(Refusal::NotPermitted.into());
    }
    let id = view.tree.id();
    context.execute(Command::FailOver(id, None, None)).await?;
    Ok(Reply::Empty(StatusCode::ACCEPTED))
}

/// POST on the members of a pool.
pub(crate) async fn create_member(
    context: &Context<'_>,
    pool: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let new = member::parse_new(body)?;
    let executed = context
        .execute(Command::CreateMember(parent_pool(pool)?, Box::new(new)))
        .await?;
    result(StatusCode::CREATED, &executed, member::ROOT)
}

/// PUT on the members of a pool: all of them at once (reference 8.4).
pub(crate) async fn replace_members(
    context: &Context<'_>,
    pool: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&["additive_only"])?;
    let additive = context.parameters.lenient_flag("additive_only");
    let mode = if additive {
        BatchMode::Additive
    } else {
        BatchMode::Replace
    };
    let members = member::parse_batch(body)?;
    context
        .execute(Command::BatchMembers(parent_pool(pool)?, members, mode))
        .await?;
    Ok(Reply::Empty(StatusCode::ACCEPTED))
}

/// PUT on a member.
pub(crate) async fn update_member(
    context: &Context<'_>,
    pool: &str,
    id: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let update = member::parse_update(body)?;
    let executed = context
        .execute(Command::UpdateMember(
            parent_pool(pool)?,
            member_id(id)?,
            update,
        ))
        .await?;
    result(StatusCode::OK, &executed, member::ROOT)
}

/// DELETE on a member.
pub(crate) async fn delete_member(
    context: &Context<'_>,
    pool: &str,
    id: &str,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    context
        .execute(Command::DeleteMember(parent_pool(pool)?, member_id(id)?))
        .await?;
    Ok(Reply::Empty(StatusCode::NO_CONTENT))
}

/// POST on the rules of an L7 policy.
pub(crate) async fn create_rule(
    context: &Context<'_>,
    policy: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let new = l7_rule::parse_new(body)?;
    let executed = context
        .execute(Command::CreateL7Rule(parent_policy(policy)?, Box::new(new)))
        .await?;
    result(StatusCode::CREATED, &executed, l7_rule::ROOT)
}

/// PUT on an L7 rule.
pub(crate) async fn update_rule(
    context: &Context<'_>,
    policy: &str,
    id: &str,
    body: Value,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let update = l7_rule::parse_update(body)?;
    let executed = context
        .execute(Command::UpdateL7Rule(
            parent_policy(policy)?,
            rule_id(id)?,
            update,
        ))
        .await?;
    result(StatusCode::OK, &executed, l7_rule::ROOT)
}

/// DELETE on an L7 rule.
pub(crate) async fn delete_rule(
    context: &Context<'_>,
    policy: &str,
    id: &str,
) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    context
        .execute(Command::DeleteL7Rule(parent_policy(policy)?, rule_id(id)?))
        .await?;
    Ok(Reply::Empty(StatusCode::NO_CONTENT))
}

/// The resource a command was about, as it is now.
fn result(status: StatusCode, executed: &Executed, root: &str) -> Result<Reply, Fault> {
    let item = kind::item(&executed.view, executed.subject);
    let item =
        item.ok_or_else(|| Refusal::Defect("the changed tree lacks what was changed".into()))?;
    Ok(Reply::Tagged(
        status,
        json!({root: item.object}),
        tags(executed),
    ))
}

fn tags(executed: &Executed) -> Tags {
    Tags {
        version: read::version(&executed.view, executed.subject),
        novelty: executed.novelty,
    }
}

fn parent_pool(text: &str) -> Result<PoolId, Fault> {
    parse_id(text)
        .map(PoolId::new)
        .ok_or_else(|| Fault::parent_pool(text))
}

fn parent_policy(text: &str) -> Result<L7PolicyId, Fault> {
    parse_id(text)
        .map(L7PolicyId::new)
        .ok_or_else(|| Fault::parent_policy(text))
}

fn rule_id(text: &str) -> Result<L7RuleId, Fault> {
    parse_id(text)
        .map(L7RuleId::new)
        .ok_or_else(|| Fault::not_found("L7 Rule", text))
}

fn member_id(text: &str) -> Result<MemberId, Fault> {
    parse_id(text)
        .map(MemberId::new)
        .ok_or_else(|| Fault::not_found("Member", text))
}
