//! GET: lists and single objects.

use http::StatusCode;
use krater_controller_core::envelope::Generation;
use krater_controller_core::{
    model::{L7PolicyId, PoolId, ProjectId},
    policy::{self, Action},
    query::{Answer, NetworkView, Query, ResourceId, TreeFilter},
    refusal::Refusal,
    tree::TreeView,
};
use serde_json::{Map, Value, json};

use crate::{
    application::Novelty,
    attributes::Filterable,
    context::Context,
    fault::Fault,
    fields::Selection,
    filter::Filter,
    kind::{self, parse_id},
    networks::{self, Lookup},
    page::{Page, Paging},
    path::Kind,
    reply::{Reply, Tags},
    status_tree,
    walk::Walk,
    wire::{l7_rule, member, row::Item},
};

/// All resources of a kind that the caller may see and the parameters select.
pub(crate) async fn list(context: &Context<'_>, kind: Kind) -> Result<Reply, Fault> {
    let Listing { filter, paging } = Listing::parse(context, kind.filterable())?;
    let walk = Walk {
        context,
        kind,
        project: scope(context)?,
        among: kind.among(&context.parameters),
        filter: &filter,
        paging: &paging,
    };
    let page = paging.page(walk.items().await?, &context.url, &context.parameters);
    Ok(page_reply(context, page, kind.root_list()))
}

/// One resource.
pub(crate) async fn show(context: &Context<'_>, kind: Kind, id: &str) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let id = kind.id(id)?;
    let view = tree(context, id).await?;
    let item = kind::item(&view, id).ok_or(Refusal::NotFound(id))?;
    Ok(selected(context, item, kind.root(), version(&view, id)))
}

/// The members of a pool.
pub(crate) async fn list_members(context: &Context<'_>, pool: &str) -> Result<Reply, Fault> {
    let listing = Listing::parse(
        context,
        Filterable {
            attributes: member::ATTRIBUTES,
            relations: &[],
        },
    )?;
    let (pool, view) = parent_pool(context, pool, Query::MembersOf).await?;
    listing.reply(
        context,
        member::render_of_pool(&view, pool).collect(),
        member::ROOT_LIST,
    )
}

/// One member.
pub(crate) async fn show_member(
    context: &Context<'_>,
    pool: &str,
    id: &str,
) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let of_pool = |pool| Query::Tree(ResourceId::Pool(pool));
    let (pool, view) = parent_pool(context, pool, of_pool).await?;
    let wanted = parse_id(id);
    let mut rows = view
        .tree
        .members
        .iter()
        .filter(|row| row.value.pool == pool);
    let row = rows
        .find(|row| Some(row.value.id.uuid()) == wanted)
        .ok_or_else(|| Fault::not_found("Member", id))?;
    let version = Some(row.generation);
    Ok(selected(
        context,
        member::render(&view, row),
        member::ROOT,
        version,
    ))
}

/// The rules of an L7 policy.
pub(crate) async fn list_rules(context: &Context<'_>, policy: &str) -> Result<Reply, Fault> {
    let filterable = Filterable {
        attributes: l7_rule::ATTRIBUTES,
        relations: &[],
    };
    let listing = Listing::parse_below(context, filterable, Some(PARENT_POLICY))?;
    let named = context.parameters.first(PARENT_POLICY);
    let is_another = named.is_some_and(|named| named != policy);
    let (policy, view) = parent_policy(context, policy).await?;
    let mut rules: Vec<Item> = l7_rule::render_of_policy(&view, policy).collect();
    rules.retain(|_| !is_another);
    listing.reply(context, rules, l7_rule::ROOT_LIST)
}

/// One L7 rule.
pub(crate) async fn show_rule(
    context: &Context<'_>,
    policy: &str,
    id: &str,
) -> Result<Reply, Fault> {
    Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
    let (policy, view) = parent_policy(context, policy).await?;
    let wanted = parse_id(id);
    let row = view
        .tree
        .rules_of(policy)
        .find(|row| Some(row.value.id.uuid()) == wanted)
        .ok_or_else(|| Fault::not_found("L7 Rule", id))?;
    let version = Some(row.generation);
    Ok(selected(
        context,
        l7_rule::render(&view, row),
        l7_rule::ROOT,
        version,
    ))
}

/// The status tree of a load balancer.
pub(crate) async fn show_status(context: &Context<'_>, id: &str) -> Result<Reply, Fault> {
    let view = tree(context, Kind::LoadBalancer.id(id)?).await?;
    Ok(Reply::ok(status_tree::document(&view)))
}

/// What a load balancer or a listener did since it was created (reference 5.7).
pub(crate) async fn show_statistics(
    context: &Context<'_>,
    kind: Kind,
    id: &str,
) -> Result<Reply, Fault> {
    match context.answer(Query::Statistics(kind.id(id)?)).await? {
        Answer::Statistics(counters) => Ok(Reply::ok(json!({"stats": {
            "active_connections": counters.active_connections,
            "bytes_in": counters.bytes_in,
            "bytes_out": counters.bytes_out,
            "request_errors": counters.request_errors,
            "total_connections": counters.total_connections,
        }}))),
        _ => Err(mismatch()),
    }
}

/// Networks, subnets or ports.
pub(crate) async fn list_lookups(context: &Context<'_>, lookup: Lookup) -> Result<Reply, Fault> {
    let mut objects = lookups(context, lookup).await?;
    objects.retain(|object| networks::selects(object, &context.parameters));
    Ok(Reply::ok(json!({lookup.root_list(): objects})))
}

/// One network, subnet or port.
pub(crate) async fn show_lookup(
    context: &Context<'_>,
    lookup: Lookup,
    id: &str,
) -> Result<Reply, Fault> {
    let objects = lookups(context, lookup).await?;
    let found = objects
        .into_iter()
        .find(|object| object.get("id").and_then(Value::as_str) == Some(id));
    let found = found.ok_or_else(|| Fault::not_found(lookup.kind(), id))?;
    Ok(Reply::ok(json!({lookup.root(): found})))
}

async fn lookups(context: &Context<'_>, lookup: Lookup) -> Result<Vec<Value>, Fault> {
    Ok(match lookup {
        Lookup::Networks => networks::networks(&network_views(context).await?),
        Lookup::Subnets => networks::subnets(&network_views(context).await?),
        Lookup::Ports => {
            let filter = TreeFilter {
                project: scope(context)?,
                ..TreeFilter::default()
            };
            let balancers = trees(context, filter).await?;
            networks::ports(&network_views(context).await?, &balancers)
        }
    })
}

/// The tree that holds `id`.
pub(crate) async fn tree(context: &Context<'_>, id: ResourceId) -> Result<TreeView, Fault> {
    match context.answer(Query::Tree(id)).await? {
        Answer::Tree(view) => Ok(*view),
        _ => Err(mismatch()),
    }
}

/// The pool in a member's path, with its tree. Its absence has a form of its own (reference 1.5).
async fn parent_pool(
    context: &Context<'_>,
    text: &str,
    query: impl FnOnce(PoolId) -> Query,
) -> Result<(PoolId, TreeView), Fault> {
    let pool = parse_id(text)
        .map(PoolId::new)
        .ok_or_else(|| Fault::parent_pool(text))?;
    match context
        .application
        .answer(&context.caller, query(pool))
        .await
    {
        Ok(Answer::Tree(view)) => Ok((pool, *view)),
        Ok(_) => Err(mismatch()),
        Err(Refusal::NotFound(_)) => Err(Fault::parent_pool(text)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The L7 policy in a rule's path, with its tree. Its absence has a form of its own (reference 1.5).
async fn parent_policy(context: &Context<'_>, text: &str) -> Result<(L7PolicyId, TreeView), Fault> {
    let policy = parse_id(text)
        .map(L7PolicyId::new)
        .ok_or_else(|| Fault::parent_policy(text))?;
    match context
        .application
        .answer(&context.caller, Query::Tree(ResourceId::L7Policy(policy)))
        .await
    {
        Ok(Answer::Tree(view)) => Ok((policy, *view)),
        Ok(_) => Err(mismatch()),
        Err(Refusal::NotFound(_)) => Err(Fault::parent_policy(text)),
        Err(refusal) => Err(refusal.into()),
    }
}

async fn trees(context: &Context<'_>, filter: TreeFilter) -> Result<Vec<TreeView>, Fault> {
    match context.answer(Query::Trees(filter)).await? {
        Answer::Trees(views) => Ok(views),
        _ => Err(mismatch()),
    }
}

async fn network_views(context: &Context<'_>) -> Result<Vec<NetworkView>, Fault> {
    match context.answer(Query::Networks).await? {
        Answer::Networks(views) => Ok(views),
        _ => Err(mismatch()),
    }
}

/// Whose resources the caller sees in lists (reference 2.4): everybody's, or those of one project.
fn scope(context: &Context<'_>) -> Result<Option<ProjectId>, Fault> {
    let wanted = context.parameters.first("project_id");
    if policy::permits_everywhere(&context.caller, Action::Read) {
        return Ok(wanted.and_then(ProjectId::parse));
    }
    match &context.caller.project {
        Some(own)
            if policy::permits(&context.caller, own, Action::Read)
                && wanted.is_none_or(|wanted| wanted == own.as_str()) =>
        {
            Ok(Some(own.clone()))
        }
        _ => Err(Refusal::NotPermitted.into()),
    }
}

/// The policy in a rule's path, which the SDK repeats among the parameters.
const PARENT_POLICY: &str = "l7policy_id";

/// How a list was asked for.
struct Listing {
    filter: Filter,
    paging: Paging,
}

impl Listing {
    fn parse(context: &Context<'_>, filterable: Filterable) -> Result<Self, Fault> {
        Self::parse_below(context, filterable, None)
    }

    fn parse_below(
        context: &Context<'_>,
        filterable: Filterable,
        parent: Option<&str>,
    ) -> Result<Self, Fault> {
        let paging = Paging::parse(&context.parameters, context.settings.pagination_max_limit)?;
        paging.check_keys(&filterable)?;
        Ok(Self {
            filter: Filter::parse_below(&context.parameters, &filterable, parent)?,
            paging,
        })
    }

    fn reply(
        &self,
        context: &Context<'_>,
        mut items: Vec<Item>,
        root: &str,
    ) -> Result<Reply, Fault> {
        items.retain(|item| self.filter.selects(&item.object));
        let page = self.paging.take(items, &context.url, &context.parameters)?;
        Ok(page_reply(context, page, root))
    }
}

fn page_reply(context: &Context<'_>, page: Page, root: &str) -> Reply {
    let selection = Selection::parse(&context.parameters);
    let objects = page
        .items
        .into_iter()
        .map(|item| Value::Object(selection.apply(item.object)));
    // Not through `json!`, which would copy them all.
    let mut body = Map::new();
    body.insert(root.into(), objects.collect());
    body.insert(format!("{root}_links"), page.links);
    Reply::ok(Value::Object(body))
}

fn selected(context: &Context<'_>, item: Item, root: &str, version: Option<Generation>) -> Reply {
    let object = Selection::parse(&context.parameters).apply(item.object);
    let tags = Tags {
        version,
        novelty: Novelty::New,
    };
    Reply::Tagged(StatusCode::OK, json!({root: object}), tags)
}

/// The version of a resource, shown as its `ETag`: the generation that touched it last.
pub(crate) fn version(view: &TreeView, id: ResourceId) -> Option<Generation> {
    let mut rows = view.tree.facts();
    rows.find(|facts| facts.id == id)
        .map(|facts| facts.generation)
}

/// An application that answers another question than was asked.
fn mismatch() -> Fault {
    Refusal::Defect("the answer is not to the query".into()).into()
}
