//! The amphora API (reference 16): for operators, under `octavia` only.

use http::StatusCode;
use krater_controller_core::{
    command::Operation,
    model::{AmphoraId, ProjectId},
    query::{AmphoraView, Answer, Query},
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::{
    context::Context,
    fault::Fault,
    fields::Selection,
    filter::Filter,
    kind::parse_id,
    page::Paging,
    path::Act,
    reply::Reply,
    wire::amphora::{ATTRIBUTES, ROOT, ROOT_LIST, render, render_statistics},
};

/// All amphorae that the parameters select.
pub(crate) async fn list(context: &Context<'_>) -> Result<Reply, Fault> {
    let paging = Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    paging.check_plain_keys(ATTRIBUTES)?;
    let filterable: Vec<&str> = ATTRIBUTES.iter().copied().chain(["project_id"]).collect();
    let filter = Filter::parse_plain(&context.parameters, &filterable)?;
    let mut items = Vec::new();
    for view in views(context).await? {
        let item = render(&view);
        // What the filters look at knows more than is shown: to which load balancers and projects it belongs.
        let mut looked_at = item.object.clone();
        for (name, belongs) in [
            ("loadbalancer_id", carries as fn(&AmphoraView, &str) -> bool),
            ("project_id", serves),
        ] {
            if let Some(wanted) = context.parameters.first(name) {
                let found = belongs(&view, wanted).then_some(wanted);
                looked_at.insert(name.into(), json!(found));
            }
        }
        if filter.selects(&looked_at) {
            items.push(item);
        }
    }
    let page = paging.take(items, &context.url, &context.parameters)?;
    let selection = Selection::parse(&context.parameters);
    let objects = page
        .items
        .into_iter()
        .map(|item| Value::Object(selection.apply(item.object)));
    let objects: Vec<Value> = objects.collect();
    Ok(Reply::ok(
        json!({ROOT_LIST: objects, format!("{ROOT_LIST}_links"): page.links}),
    ))
}

/// One amphora.
pub(crate) async fn show(context: &Context<'_>, id: &str) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let views = views(context).await?;
    let wanted = parse_id(id);
    let view = views.iter().find(|view| Some(view.id.uuid()) == wanted);
    let item = render(view.ok_or_else(|| not_found(id))?);
    let object = Selection::parse(&context.parameters).apply(item.object);
    Ok(Reply::ok(json!({ROOT: object})))
}

/// What an amphora counted, by listener.
pub(crate) async fn show_statistics(context: &Context<'_>, id: &str) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let amphora = amphora_id(context, id).await?;
    let Answer::AmphoraStatistics(statistics) =
        context.answer(Query::AmphoraStatistics(amphora)).await?
    else {
        return Err(mismatch());
    };
    let id = amphora.to_string();
    let objects = statistics
        .iter()
        .map(|statistics| render_statistics(&id, statistics));
    Ok(Reply::ok(
        json!({"amphora_stats": objects.collect::<Vec<_>>()}),
    ))
}

/// PUT on something of one amphora.
pub(crate) async fn act(context: &Context<'_>, id: &str, act: Act) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let amphora = amphora_id(context, id).await?;
    let operation = match act {
        Act::FailOver => Operation::FailOver(amphora),
        Act::Configure => Operation::Configure(amphora),
    };
    context.operate(operation).await?;
    Ok(Reply::Empty(StatusCode::ACCEPTED))
}

/// DELETE on one amphora.
pub(crate) async fn delete(context: &Context<'_>, id: &str) -> Result<Reply, Fault> {
    context.parameters.only(&[])?;
    let amphora = amphora_id(context, id).await?;
    context.operate(Operation::Delete(amphora)).await?;
    Ok(Reply::Empty(StatusCode::NO_CONTENT))
}

/// The id in a path. It is not checked there: what cannot be one names nothing, and whether the caller may look at all
/// comes before that.
async fn amphora_id(context: &Context<'_>, text: &str) -> Result<AmphoraId, Fault> {
    if let Some(id) = parse_id(text) {
        return Ok(AmphoraId::new(id));
    }
    views(context).await?;
    Err(not_found(text))
}

async fn views(context: &Context<'_>) -> Result<Vec<AmphoraView>, Fault> {
    match context.answer(Query::Amphorae).await? {
        Answer::Amphorae(views) => Ok(views),
        _ => Err(mismatch()),
    }
}

fn carries(view: &AmphoraView, load_balancer: &str) -> bool {
    let wanted = parse_id(load_balancer);
    let mut carried = view.load_balancers.iter();
    carried.any(|id| Some(id.uuid()) == wanted)
}

fn serves(view: &AmphoraView, project: &str) -> bool {
    view.projects
        .iter()
        .map(ProjectId::as_str)
        .any(|known| known == project)
}

fn not_found(id: &str) -> Fault {
    Fault::not_found("Amphora", id)
}

/// An application that answers another question than was asked.
fn mismatch() -> Fault {
    Refusal::Defect("the answer is not to the query".into()).into()
}
