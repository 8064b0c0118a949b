//! Quotas: what projects may have (reference 12).

use http::StatusCode;
use jiff::Timestamp;
use krater_controller_core::{
    command::QuotaCommand,
    model::ProjectId,
    query::{Answer, Query},
    quota::Limits,
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::{
    attributes::Filterable,
    context::Context,
    fault::Fault,
    filter::Filter,
    page::Paging,
    reply::Reply,
    wire::{quota, row::Item},
};

/// The projects for which something was set. `fields` has no effect on them (reference 12).
pub(crate) async fn list(context: &Context<'_>) -> Result<Reply, Fault> {
    let filterable = Filterable {
        attributes: quota::ATTRIBUTES,
        relations: &[],
    };
    let paging = Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    paging.check_keys(&filterable)?;
    let filter = Filter::parse(&context.parameters, &filterable)?;
    let wanted = context.parameters.first("project_id");
    let wanted = wanted.and_then(ProjectId::parse);
    let Answer::Quotas(quotas) = context.answer(Query::Quotas(wanted)).await? else {
        return Err(mismatch());
    };
    let items = quotas.iter().map(|(project, limits)| {
        let mut object = quota::render(project, limits);
        // Pages go by ids; a quota's is its project's.
        object.insert("id".into(), json!(project.as_str()));
        Item {
            created_at: Timestamp::UNIX_EPOCH,
            object,
        }
    });
    let items = items.filter(|item| filter.selects(&item.object)).collect();
    let page = paging.take(items, &context.url, &context.parameters)?;
    let objects = page.items.into_iter().map(|mut item| {
        item.object.remove("id");
        Value::Object(item.object)
    });
    Ok(Reply::ok(json!({
        quota::ROOT_LIST: objects.collect::<Vec<_>>(),
        format!("{}_links", quota::ROOT_LIST): page.links,
    })))
}

/// What a project may have, whether anything was set for it or not.
pub(crate) async fn show(context: &Context<'_>, project: &str) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let project = parse_project(project)?;
    let limits = limits(context, Query::Quota(project.clone())).await?;
    Ok(reply(StatusCode::OK, &project, &limits))
}

/// What projects may have for which nothing was set.
pub(crate) async fn show_defaults(
    context: &Context<'_>,
    project: Option<&str>,
) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let project = project.map(parse_project).transpose()?;
    let limits = limits(context, Query::QuotaDefaults(project.clone())).await?;
    Ok(match project {
        Some(project) => reply(StatusCode::OK, &project, &limits),
        None => Reply::ok(json!({quota::ROOT: quota::render_limits(&limits)})),
    })
}

/// PUT
pub(crate) async fn set(context: &Context<'_>, project: &str, body: Value) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let project = parse_project(project)?;
    let update = quota::parse_update(body)?;
    let command = QuotaCommand::Set(project.clone(), update);
    let limits = context.change_quota(command).await?;
    Ok(reply(StatusCode::ACCEPTED, &project, &limits))
}

/// DELETE
pub(crate) async fn reset(context: &Context<'_>, project: &str) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let project = parse_project(project)?;
    context.change_quota(QuotaCommand::Reset(project)).await?;
    Ok(Reply::Empty(StatusCode::ACCEPTED))
}

async fn limits(context: &Context<'_>, query: Query) -> Result<Limits, Fault> {
    match context.answer(query).await? {
        Answer::Quota(limits) => Ok(limits),
        _ => Err(mismatch()),
    }
}

fn reply(status: StatusCode, project: &ProjectId, limits: &Limits) -> Reply {
    Reply::Json(status, json!({quota::ROOT: quota::render(project, limits)}))
}

/// What cannot be a project has no quota.
fn parse_project(text: &str) -> Result<ProjectId, Fault> {
    ProjectId::parse(text).ok_or_else(|| Fault::not_found("Quotas", text))
}

fn mismatch() -> Fault {
    Refusal::Defect("the answer is not to the query".into()).into()
}
