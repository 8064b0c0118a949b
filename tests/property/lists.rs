//! Lists, read page by page from the store through the API, against the obvious way: everything rendered, filtered,
//! sorted, cut.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::Request;
use http_body_util::BodyExt;
use jiff::Timestamp;
use krater_controller_api::{
    Application, Credentials, Executed, Settings, Unauthenticated, router,
};
use krater_controller_core::{
    admit,
    catalogue::{CatalogueCommand, Edit},
    change::Change,
    command::{Command, NewLoadBalancer, Operation, QuotaCommand},
    envelope::Envelope,
    model::{LoadBalancerId, Name, ProjectId, Tags, Vip},
    query::{Answer, Caller, Persona, Query},
    quota::Limits,
    refusal::Refusal,
    rules::Rules,
    tree::LoadBalancerTree,
};
use krater_controller_store::{Committed, Store};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    cases,
    wish::{new_balancer, vip},
};

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn pages_are_what_is_left_of_everything_when_it_is_filtered_sorted_and_cut(
        plots in vec(plot(), 1..14),
        asked in vec(question(), 6),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(compare(plots, asked));
    }
}

/// A load balancer, before it has ids.
#[derive(Clone, Debug)]
struct Plot {
    new: NewLoadBalancer,
    names: [&'static str; 3],
    project: &'static str,
    moments: [i64; 3],
    tags: Vec<String>,
    admin_state_up: bool,
}

/// What is asked of a list.
#[derive(Clone, Debug)]
struct Question {
    collection: &'static str,
    filters: Vec<(&'static str, &'static str)>,
    keys: Vec<(&'static str, bool)>,
    spelling: bool,
    limit: usize,
    role: Persona,
    marker: Index,
}

fn plot() -> impl Strategy<Value = Plot> {
    let name = || select(vec!["", "a", "A", "ab", "b", "ä", "10.0.0.1", "x' --"]);
    let moment = || 0_i64..4;
    (
        new_balancer(),
        [name(), name(), name()],
        select(PROJECTS.to_vec()),
        [moment(), moment(), moment()],
        prop::sample::subsequence(vec!["x".to_owned(), "y".to_owned()], 0..=2),
        any::<bool>(),
    )
        .prop_map(
            |(new, names, project, moments, tags, admin_state_up)| Plot {
                new,
                names,
                project,
                moments,
                tags,
                admin_state_up,
            },
        )
}

fn question() -> impl Strategy<Value = Question> {
    let filter = select(vec![
        ("name", "a"),
        ("name", ""),
        ("admin_state_up", "False"),
        ("project_id", "p1"),
        ("provisioning_status", "PENDING_CREATE"),
        ("provisioning_status", "ACTIVE"),
        ("tags", "x,y"),
        ("tags-any", "x,y"),
        ("not-tags", "x,y"),
        ("not-tags-any", "x,y"),
    ]);
    let key = select(vec![
        "name",
        "name",
        "created_at",
        "created_at",
        "id",
        "project_id",
        "admin_state_up",
    ]);
    (
        select(COLLECTIONS.to_vec()),
        vec(filter, 0..3),
        vec((key, any::<bool>()), 0..3),
        any::<bool>(),
        1_usize..5,
        select(vec![Persona::Admin, Persona::Member, Persona::Observer]),
        any::<Index>(),
    )
        .prop_map(
            |(collection, mut filters, keys, spelling, limit, role, marker)| {
                filters.sort_unstable();
                filters.dedup_by_key(|(name, _)| *name);
                Question {
                    collection,
                    filters,
                    keys,
                    spelling,
                    limit,
                    role,
                    marker,
                }
            },
        )
}

/// A controller that shows what is in a store.
struct Shelf {
    store: Store,
    role: Persona,
}

#[async_trait]
impl Application for Shelf {
    async fn authenticate(&self, _: &Credentials) -> Result<Caller, Unauthenticated> {
        Ok(Caller::new("somebody", ProjectId::parse("p1"), self.role))
    }

    async fn execute(&self, _: &Caller, _: Command, _: &Envelope) -> Result<Executed, Refusal> {
        Err(Refusal::NotPermitted)
    }

    async fn change_quota(
        &self,
        _: &Caller,
        _: QuotaCommand,
        _: &Envelope,
    ) -> Result<Limits, Refusal> {
        Err(Refusal::NotPermitted)
    }

    async fn operate(&self, _: &Caller, _: Operation, _: &Envelope) -> Result<(), Refusal> {
        Err(Refusal::NotPermitted)
    }

    async fn arrange(
        &self,
        _: &Caller,
        _: CatalogueCommand,
        _: &Envelope,
    ) -> Result<Edit, Refusal> {
        Err(Refusal::NotPermitted)
    }

    async fn answer(&self, _: &Caller, query: Query) -> Result<Answer, Refusal> {
        Ok(match query {
            Query::Scan(scan) => {
                let found = self.store.scan(&scan).await;
                Answer::Scan(found.expect("the store answers"))
            }
            Query::Tree(id) => {
                let found = self.store.view(id).await.expect("the store answers");
                Answer::Tree(Box::new(found.ok_or(Refusal::NotFound(id))?))
            }
            _ => return Err(Refusal::NotPermitted),
        })
    }
}

async fn compare(plots: Vec<Plot>, asked: Vec<Question>) {
    let store = Store::in_memory().await.expect("a store");
    let mut moments = BTreeMap::new();
    for (number, plot) in plots.into_iter().enumerate() {
        let change = built(plot, number);
        let committed = store.apply(&change).await.expect("it is stored");
        assert_eq!(committed, Committed::Done);
        let view = store.view(change.subject).await.expect("it is read");
        note_moments(&view.expect("it is there").tree, &mut moments);
    }
    for collection in COLLECTIONS {
        shown_as_listed(&store, collection).await;
    }
    for question in asked {
        let shelf = Shelf {
            store: store.clone(),
            role: question.role,
        };
        let api = router(Arc::new(shelf), Settings::default());
        check(&api, &question, &moments).await;
    }
}

/// Lists read parts of trees, single objects the whole: both show the same.
async fn shown_as_listed(store: &Store, collection: &str) {
    let shelf = Shelf {
        store: store.clone(),
        role: Persona::Admin,
    };
    let api = router(Arc::new(shelf), Settings::default());
    let listed = get(&api, &format!("/v2/lbaas/{collection}?limit=3"))
        .await
        .0;
    for listed in listed {
        let path = format!("/v2/lbaas/{collection}/{}", text(&listed["id"]));
        let shown = body(&api, &path).await;
        let shown = shown.as_object().expect("an object").values().next();
        assert_eq!(shown, Some(&listed), "{path}");
    }
}

fn built(plot: Plot, number: usize) -> Change {
    let host = u8::try_from(number + 1).expect("few load balancers");
    let mut next = 1_000 * number as u64;
    // Ids in no order.
    let mut id = move || {
        next += 1;
        let scattered = next.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Uuid::from_u64_pair(scattered & !0xf000 | 0x4000, next | 1 << 63)
    };
    let balancer = LoadBalancerId::new(id());
    let project = ProjectId::parse(plot.project).expect("a project id");
    let now = Timestamp::UNIX_EPOCH;
    let mut create = |new: NewLoadBalancer| {
        let rules = Rules::default();
        admit::check_new(&new, &rules)?;
        let vip = Vip {
            // A port belongs to one load balancer.
            port_id: Uuid::from_u128(u128::from(host)),
            ..vip([10, 0, 0, host].into())
        };
        admit::create(
            new,
            project.clone(),
            (vip, Vec::new()),
            balancer,
            &rules,
            &mut id,
            now,
        )
    };
    let alone = NewLoadBalancer {
        listeners: Vec::new(),
        pools: Vec::new(),
        ..plot.new.clone()
    };
    let mut change = create(plot.new)
        .or_else(|_| create(alone))
        .expect("nothing is wrong about the load balancer itself");
    let tree = &mut change.tree;
    tree.load_balancer.value.name = named(plot.names[0]);
    tree.load_balancer.value.tags = Tags::parse(plot.tags.clone()).expect("tags");
    tree.load_balancer.value.admin_state_up = plot.admin_state_up;
    tree.load_balancer.created_at = moment(plot.moments[0]);
    for (at, row) in tree.listeners.iter_mut().enumerate() {
        row.value.name = named(plot.names[at % 3]);
        row.value.tags = Tags::parse(plot.tags.clone()).expect("tags");
        row.created_at = moment(plot.moments[at % 3]);
    }
    for (at, row) in tree.pools.iter_mut().enumerate() {
        row.value.name = named(plot.names[(at + 1) % 3]);
        row.created_at = moment(plot.moments[(at + 1) % 3]);
    }
    for row in &mut tree.health_monitors {
        row.value.name = named(plot.names[2]);
        row.created_at = moment(plot.moments[2]);
    }
    for (at, row) in tree.l7_policies.iter_mut().enumerate() {
        row.value.name = named(plot.names[(at + 2) % 3]);
        row.created_at = moment(plot.moments[at % 3]);
    }
    change
}

fn note_moments(tree: &LoadBalancerTree, moments: &mut BTreeMap<String, Timestamp>) {
    let mut note = |id: String, at| moments.insert(id, at);
    let root = &tree.load_balancer;
    note(root.value.id.to_string(), root.created_at);
    for row in &tree.listeners {
        note(row.value.id.to_string(), row.created_at);
    }
    for row in &tree.pools {
        note(row.value.id.to_string(), row.created_at);
    }
    for row in &tree.health_monitors {
        note(row.value.id.to_string(), row.created_at);
    }
    for row in &tree.l7_policies {
        note(row.value.id.to_string(), row.created_at);
    }
}

async fn check(api: &Router, question: &Question, moments: &BTreeMap<String, Timestamp>) {
    let collection = question.collection;
    let everything = get(api, &format!("/v2/lbaas/{collection}")).await.0;
    let order = |left: &Value, right: &Value| {
        let created = |object: &Value| moments[text(&object["id"])];
        let by_key = |(key, descending): &(&str, bool)| {
            let order = match *key {
                "created_at" => created(left).cmp(&created(right)),
                "admin_state_up" => left[*key].as_bool().cmp(&right[*key].as_bool()),
                key => left[key].as_str().cmp(&right[key].as_str()),
            };
            if *descending { order.reverse() } else { order }
        };
        let order = question.keys.iter().map(by_key).find(|order| order.is_ne());
        order
            .unwrap_or(Ordering::Equal)
            .then_with(|| created(left).cmp(&created(right)))
            .then_with(|| text(&left["id"]).cmp(text(&right["id"])))
    };
    let mut expected: Vec<Value> = everything
        .into_iter()
        .filter(|object| {
            question
                .filters
                .iter()
                .all(|filter| selects(*filter, object))
        })
        .collect();
    expected.sort_by(order);
    let query = query(question);
    let limited = format!("/v2/lbaas/{collection}?limit={}{query}", question.limit);
    assert_eq!(walk(api, &limited).await, expected, "{limited}");
    // All at once, and the pages around any object.
    let whole = format!("/v2/lbaas/{collection}?limit=1000{query}");
    assert_eq!(get(api, &whole).await.0, expected, "{whole}");
    if expected.is_empty() {
        return;
    }
    let at = question.marker.index(expected.len());
    let marked = format!("{limited}&marker={}", text(&expected[at]["id"]));
    let after = expected.iter().skip(at + 1).take(question.limit);
    assert!(get(api, &marked).await.0.iter().eq(after), "{marked}");
    let back = format!("{marked}&page_reverse=True");
    let before = &expected[at.saturating_sub(question.limit)..at];
    assert_eq!(get(api, &back).await.0, before, "{back}");
}

/// The parameters of filters and sorting, in either spelling.
fn query(question: &Question) -> String {
    let mut query = String::new();
    for (name, value) in &question.filters {
        query.push_str(&format!("&{name}={value}"));
    }
    if question.keys.is_empty() {
        return query;
    }
    let word = |descending| if descending { "desc" } else { "asc" };
    let join = |parts: Vec<String>| parts.join(",");
    if question.spelling {
        let keys = question.keys.iter();
        let keys = join(
            keys.map(|(key, way)| format!("{key}:{}", word(*way)))
                .collect(),
        );
        query.push_str(&format!("&sort={keys}"));
    } else {
        let keys = join(question.keys.iter().map(|(key, _)| (*key).into()).collect());
        let ways = question.keys.iter().map(|(_, way)| word(*way).into());
        let ways = join(ways.collect());
        query.push_str(&format!("&sort_key={keys}&sort_dir={ways}"));
    }
    query
}

fn selects((name, wanted): (&str, &str), object: &Value) -> bool {
    let tags = object["tags"].as_array().expect("tags");
    let count = tags.iter().filter(|tag| *tag == "x" || *tag == "y").count();
    match name {
        "tags" => count == 2,
        "tags-any" => count > 0,
        "not-tags" => count < 2,
        "not-tags-any" => count == 0,
        "admin_state_up" => object[name] == false,
        _ => object[name] == wanted,
    }
}

/// All pages, by their links.
async fn walk(api: &Router, first: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = Some(first.to_owned());
    while let Some(asked) = path {
        let (objects, next) = get(api, &asked).await;
        all.extend(objects);
        path = next;
        assert!(all.len() < 1_000, "{first} leads around in circles");
    }
    all
}

async fn body(api: &Router, path: &str) -> Value {
    let request = Request::get(path).header("host", "lb.example.test");
    let request = request.body(Body::empty()).expect("a request");
    let response = api.clone().oneshot(request).await.expect("an answer");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a body");
    let body: Value = serde_json::from_slice(&bytes.to_bytes()).expect("JSON");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// The objects of a page, and the path of the one after it.
async fn get(api: &Router, path: &str) -> (Vec<Value>, Option<String>) {
    let body = body(api, path).await;
    let mut objects = Vec::new();
    let mut next = None;
    for (key, value) in body.as_object().expect("an object") {
        let entries = value.as_array().expect("a list").clone();
        if key.ends_with("_links") {
            let links = entries.iter().filter(|link| link["rel"] == "next");
            next = links.map(|link| text(&link["href"]).to_owned()).next();
        } else {
            objects = entries;
        }
    }
    let next = next.map(|next| next.replace("http://lb.example.test", ""));
    (objects, next)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn named(name: &str) -> Name {
    Name::parse(name.into()).expect("a name")
}

fn moment(us: i64) -> Timestamp {
    Timestamp::from_microsecond(1_700_000_000_000_000 + us * 600_000).expect("a moment")
}

const COLLECTIONS: [&str; 5] = [
    "loadbalancers",
    "listeners",
    "pools",
    "healthmonitors",
    "l7policies",
];
const PROJECTS: [&str; 2] = ["p1", "p2"];
