//! How fast the API answers: show, list, update and create, asked by few clients and by many; pages of a long list.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use krater_tests::{Connection, percentile, until};
use serde_json::{Value, json};

use crate::{Stage, Table, text};

/// What to measure.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Load balancers that are there.
    pub(crate) balancers: usize,
    /// Numbers of clients, one after the other.
    pub(crate) clients: Vec<usize>,
    /// Requests of one step, at most.
    pub(crate) requests: usize,
    /// How long one step takes, at most.
    pub(crate) time: Duration,
    /// Load balancers paged through at the end; none if there are as many anyway.
    pub(crate) pages_of: usize,
}

/// A request by its number.
type Ask<'a> = dyn Fn(usize) -> Request + Sync + 'a;

struct Request {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

/// What a step gave.
#[derive(Default)]
struct Step {
    /// Of each answer, in microseconds.
    times: Vec<u32>,
    seconds: f64,
}

pub(crate) fn measure(settings: &Settings) -> Table {
    let mut stage = Stage::set();
    let subnet = stage.api.subnet("local-v4");
    let mut table = Table::new(format!(
        "the API with {} load balancers, each 1 listener, 1 pool, 2 members",
        settings.balancers
    ));
    let created = {
        let stage = &stage;
        let tree = |number: usize| {
            let members = [stage.member(0, 2 * number), stage.member(1, 2 * number + 1)];
            post(Stage::tree(&subnet, &format!("lb{number}"), &members))
        };
        run(MAKERS, settings.balancers, Duration::MAX, &tree);
        requests(settings, &tree, &ids(settings.balancers), &mut table)
    };
    wait_settled(&mut stage);
    let there = settings.balancers + created;
    if settings.pages_of > there {
        let bare = |number: usize| {
            post(
                json!({"loadbalancer": {"name": format!("bare{number}"), "vip_subnet_id": subnet}}),
            )
        };
        run(MAKERS, settings.pages_of - there, Duration::MAX, &bare);
        wait_settled(&mut stage);
        for (names, query) in PAGES {
            page_through(names, query, settings.pages_of, &mut table);
        }
    }
    table
}

/// Each kind of request by each number of clients; gives how many load balancers were created.
fn requests(settings: &Settings, tree: &Ask<'_>, ids: &[String], table: &mut Table) -> usize {
    // Another one each time, in no order that anything could get used to.
    let some = |number: usize| {
        let id = &ids[number.wrapping_mul(7_919) % ids.len()];
        format!("{PATH}/{id}")
    };
    let show = |number: usize| get(some(number));
    let list = |_: usize| get(PATH.to_owned());
    let update = |number: usize| Request {
        method: "PUT",
        path: some(number),
        body: Some(json!({"loadbalancer": {"description": format!("change {number}")}})),
    };
    let created = AtomicUsize::new(0);
    let create = |_: usize| tree(settings.balancers + created.fetch_add(1, Ordering::Relaxed));
    for (what, ask, share) in [
        ("show", &show as &Ask<'_>, 1),
        ("list", &list, 10),
        ("update", &update, 2),
        ("create", &create, 4),
    ] {
        for &clients in &settings.clients {
            let count = settings.requests.div_ceil(share);
            let step = run(clients, count, settings.time, ask);
            step.add_to(table, &format!("{what}, {clients} clients"));
        }
    }
    created.into_inner()
}

/// Asks `count` times with `clients` connections at once, and stops early when `time` is over.
fn run(clients: usize, count: usize, time: Duration, ask: &Ask<'_>) -> Step {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::with_capacity(count));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut connection = Connection::open(api()).expect("the API accepts");
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || start.elapsed() >= time {
                        break;
                    }
                    times.push(send(&mut connection, &ask(number)));
                }
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(times);
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut times = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    times.sort_unstable();
    Step { times, seconds }
}

/// Sends one request, reads its answer whole, and gives how long that took. The body is not parsed: the client's work
/// is not what is measured.
fn send(connection: &mut Connection, request: &Request) -> u32 {
    let body = request
        .body
        .as_ref()
        .map(|body| body.to_string().into_bytes());
    let headers = [("content-type", "application/json")];
    let asked = Instant::now();
    let answer = connection
        .request(request.method, &request.path, &headers, body.as_deref())
        .expect("the API answers");
    let took = asked.elapsed();
    assert!(
        (200..300).contains(&answer.status),
        "{} {}: {}",
        request.method,
        request.path,
        answer.text()
    );
    micros(took)
}

/// Follows the links from the first page of a hundred to the last.
fn page_through(names: [&'static str; 3], query: &str, count: usize, table: &mut Table) {
    let mut connection = Connection::open(api()).expect("the API accepts");
    let mut times = Vec::new();
    let mut seen = 0;
    let mut next = Some(format!("{PATH}?limit=100&fields=id,name{query}"));
    while let Some(path) = next {
        let asked = Instant::now();
        let answer = connection.get(&path).expect("the API answers");
        times.push(micros(asked.elapsed()));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        seen += body["loadbalancers"].as_array().map_or(0, Vec::len);
        let links = body["loadbalancers_links"].as_array().into_iter().flatten();
        let mut links = links.filter(|link| link["rel"] == "next");
        next = links.next().map(|link| {
            let href = text(&link["href"]);
            let at = href.find("/v2").expect("a link into the API");
            href[at..].to_owned()
        });
    }
    assert!(seen >= count, "{seen} of {count} were seen");
    let part = times.len().min(10);
    // The very last page is empty.
    let last = times.len().saturating_sub(1);
    let mut first_pages = times[..part].to_vec();
    let mut last_pages = times[last.saturating_sub(part)..last].to_vec();
    times.sort_unstable();
    for (name, times) in names
        .into_iter()
        .zip([&mut first_pages, &mut last_pages, &mut times])
    {
        times.sort_unstable();
        table.add_us(name, percentile(times, 50.0));
    }
}

/// Waits until nothing is pending any more, so that what follows is not measured against it.
fn wait_settled(stage: &mut Stage) {
    until("all is in force", Duration::from_secs(120), || {
        ["PENDING_CREATE", "PENDING_UPDATE"].iter().all(|status| {
            let path = format!("loadbalancers?fields=id&limit=1&provisioning_status={status}");
            let body = stage.api.get(&path);
            body["loadbalancers"].as_array().is_some_and(Vec::is_empty)
        })
    });
}

/// The ids of the load balancers, by pages.
fn ids(count: usize) -> Vec<String> {
    let mut api = krater_tests::Octavia::new(api());
    let mut ids = Vec::new();
    while ids.len() < count {
        let marker = ids
            .last()
            .map_or_else(String::new, |id| format!("&marker={id}"));
        let body = api.get(&format!("loadbalancers?fields=id{marker}"));
        let page = body["loadbalancers"].as_array().expect("a list");
        assert!(!page.is_empty(), "{} of {count} were seen", ids.len());
        ids.extend(page.iter().map(|object| text(&object["id"])));
    }
    ids
}

impl Step {
    fn add_to(&self, table: &mut Table, what: &str) {
        table.add_us(format!("{what} p50"), percentile(&self.times, 50.0));
        table.add_us(format!("{what} p99"), percentile(&self.times, 99.0));
        let rate = (self.times.len() as f64 / self.seconds * 10.0).round() / 10.0;
        table.add(format!("{what} rate"), rate, "requests/s");
    }
}

fn get(path: String) -> Request {
    Request {
        method: "GET",
        path,
        body: None,
    }
}

fn post(body: Value) -> Request {
    Request {
        method: "POST",
        path: PATH.to_owned(),
        body: Some(body),
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Where the API of a controller on embedded defaults listens.
fn api() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9876))
}

const PATH: &str = "/v2.0/lbaas/loadbalancers";
/// Clients that make what is measured against.
const MAKERS: usize = 8;
/// Orders paged through: along the index of creation, along that of names, and one without an index.
const PAGES: [([&str; 3], &str); 3] = [
    (["first pages p50", "last pages p50", "all pages p50"], ""),
    (
        [
            "first pages by name p50",
            "last pages by name p50",
            "all pages by name p50",
        ],
        "&sort=name:desc",
    ),
    (
        [
            "first pages by address p50",
            "last pages by address p50",
            "all pages by address p50",
        ],
        "&sort=vip_address",
    ),
];
