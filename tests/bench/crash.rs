//! Kills controller and amphora at random moments during changes, and looks for what was acknowledged and is gone.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use krater_tests::{Octavia, fetch, percentile, until};
use serde_json::json;

use crate::{Stage, Table, text};

/// What writers were told.
#[derive(Debug, Default)]
struct Ledger {
    /// Created and not yet asked to go.
    present: BTreeSet<String>,
    /// Deleted, and the deletion acknowledged.
    absent: BTreeSet<String>,
    writes: usize,
    unanswered: usize,
}

pub(crate) fn measure(count: usize, seed: u64) -> Table {
    let mut stage = Stage::set();
    let subnet = stage.api.subnet("local-v4");
    let tree = Stage::tree(&subnet, "crash", &[stage.member(0, 0), stage.member(1, 1)]);
    let created = stage.api.post("loadbalancers", &tree)["loadbalancer"].clone();
    let (id, pool) = (text(&created["id"]), text(&created["pools"][0]["id"]));
    let vip: SocketAddr = format!("{}:80", text(&created["vip_address"]))
        .parse()
        .expect("an address");
    stage.api.wait_active(&id, SETTLE_MAX);

    let (ledger, stop) = (Mutex::new(Ledger::default()), AtomicBool::new(false));
    let rest = AtomicBool::new(false);
    let mut settles = Vec::new();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (api, ledger, stop, rest, pool) =
                (stage.krater.api(), &ledger, &stop, &rest, &pool);
            scope.spawn(move || write(api, pool, writer, ledger, (stop, rest)));
        }
        let mut state = seed.max(1);
        for number in 0..count {
            thread::sleep(Duration::from_millis(50 + random(&mut state) % 500));
            settles.push(kill_and_settle(&mut stage, number, &id, vip, &rest));
        }
        stop.store(true, Ordering::Relaxed);
    });
    stage.api = stage.krater.api();
    stage.api.wait_active(&id, SETTLE_MAX);
    let ledger = ledger.into_inner().expect("no writer panics");
    report(&mut stage, &pool, &ledger, settles)
}

/// Kills the controller, the amphora or both; gives how long until the API answers, everything is ACTIVE and the VIP
/// serves. Writers rest as soon as the processes are back, or something would be pending for ever.
fn kill_and_settle(
    stage: &mut Stage,
    number: usize,
    id: &str,
    vip: SocketAddr,
    rest: &AtomicBool,
) -> u32 {
    let turn = number % 3;
    let (controller, amphora) = (turn != 1, turn != 0);
    if controller {
        stage.krater.kill_controller();
    }
    if amphora {
        stage.krater.kill_amphorae();
    }
    let start = Instant::now();
    if controller {
        stage.krater.resume();
    }
    rest.store(true, Ordering::Relaxed);
    let mut api = stage.krater.api();
    until("the load balancer settles", Duration::from_secs(30), || {
        let read = api.try_call("GET", &format!("loadbalancers/{id}"), None);
        read.is_ok_and(|reply| reply.body["loadbalancer"]["provisioning_status"] == "ACTIVE")
    });
    until("the VIP serves", Duration::from_secs(30), || {
        fetch(vip, "/").is_ok_and(|answer| answer.status == 200)
    });
    let took = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
    rest.store(false, Ordering::Relaxed);
    took
}

/// Adds members, changes them and takes every second one away, until told to stop; notes only what was acknowledged.
fn write(
    mut api: Octavia,
    pool: &str,
    writer: usize,
    ledger: &Mutex<Ledger>,
    (stop, rest): (&AtomicBool, &AtomicBool),
) {
    let path = format!("pools/{pool}/members");
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if rest.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let address = format!("127.{}.{}.{}", 20 + writer, number / 250, 1 + number % 250);
        let body = json!({"member": {"address": address, "protocol_port": 9, "weight": 0}});
        let Some(created) = acknowledged(&mut api, ledger, "POST", &path, Some(&body), 201) else {
            continue;
        };
        let id = text(&created["member"]["id"]);
        ledger
            .lock()
            .expect("no writer panics")
            .present
            .insert(id.clone());
        if number % 2 == 0 || number > PRESENT_MAX {
            // From the moment it is asked to go it may be there or not.
            ledger.lock().expect("no writer panics").present.remove(&id);
            if acknowledged(
                &mut api,
                ledger,
                "DELETE",
                &format!("{path}/{id}"),
                None,
                204,
            )
            .is_some()
            {
                ledger.lock().expect("no writer panics").absent.insert(id);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn acknowledged(
    api: &mut Octavia,
    ledger: &Mutex<Ledger>,
    method: &str,
    path: &str,
    body: Option<&serde_json::Value>,
    wanted: u16,
) -> Option<serde_json::Value> {
    let answer = api.try_call(method, path, body);
    let mut ledger = ledger.lock().expect("no writer panics");
    ledger.writes += 1;
    match answer {
        Ok(reply) if reply.status == wanted => return Some(reply.body),
        Ok(reply) => eprintln!("{method} {path}: {} {}", reply.status, reply.body),
        Err(_) => {
            ledger.unanswered += 1;
            drop(ledger);
            // The controller is away; there is no use in knocking all the time.
            thread::sleep(Duration::from_millis(20));
        }
    }
    None
}

fn report(stage: &mut Stage, pool: &str, ledger: &Ledger, mut settles: Vec<u32>) -> Table {
    let listed = stage.api.get(&format!("pools/{pool}/members?limit=100000"));
    let found: BTreeSet<String> = listed["members"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| text(&member["id"]))
        .collect();
    settles.sort_unstable();
    let mut table = Table::new(format!(
        "{} kills of controller, amphora or both during changes",
        settles.len()
    ));
    table.add("writes", ledger.writes, "");
    table.add("writes without an answer", ledger.unanswered, "");
    table.add(
        "acknowledged, must be there",
        ledger.present.len(),
        "members",
    );
    table.add("lost", ledger.present.difference(&found).count(), "members");
    table.add("acknowledged, must be gone", ledger.absent.len(), "members");
    table.add(
        "come back",
        ledger.absent.intersection(&found).count(),
        "members",
    );
    table.add_us("kill to ACTIVE and serving p50", percentile(&settles, 50.0));
    table.add_us(
        "kill to ACTIVE and serving, longest",
        percentile(&settles, 100.0),
    );
    table
}

/// The next of a row of numbers that looks random (xorshift).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

const WRITERS: usize = 4;
const PRESENT_MAX: usize = 400;
const SETTLE_MAX: Duration = Duration::from_secs(10);
