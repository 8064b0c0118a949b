//! Writers that change a load balancer at a steady rate: members and listeners come, change and go.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use krater_tests::Octavia;
use serde_json::json;

use crate::Stage;

/// What is changed, how often and how fast.
pub(crate) struct Changes<'a> {
    /// The load balancer whose listeners come and go.
    pub(crate) balancer: &'a str,
    /// The pool whose members come and go.
    pub(crate) pool: &'a str,
    /// How many changes.
    pub(crate) count: usize,
    /// Changes per second, at most.
    pub(crate) rate: usize,
}

impl Changes<'_> {
    /// Makes them all, by several writers at once, and gives how many were refused.
    pub(crate) fn make(&self, stage: &Stage) -> usize {
        let work = &Work {
            stage,
            changes: self,
            start: Instant::now(),
            taken: AtomicUsize::new(0),
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(move || write(work, writer)))
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer ends"))
                .sum()
        })
    }
}

/// What every writer needs to know.
struct Work<'a> {
    stage: &'a Stage,
    changes: &'a Changes<'a>,
    start: Instant,
    taken: AtomicUsize,
}

/// Makes its share of the changes at the wanted rate: a member and a listener come, change and go. Gives how many were
/// refused.
fn write(work: &Work<'_>, writer: usize) -> usize {
    let mut api = work.stage.krater.api();
    let mut refused = 0;
    let mut round = 0;
    while let Some(()) = work.turn() {
        refused += one_round(work, &mut api, writer, round);
        round += 1;
    }
    refused
}

fn one_round(work: &Work<'_>, api: &mut Octavia, writer: usize, round: usize) -> usize {
    let members = format!("pools/{}/members", work.changes.pool);
    let mut refused = 0;
    let mut call = |method: &str, path: &str, body: Option<serde_json::Value>, wanted: u16| {
        let reply = api.call(method, path, body.as_ref());
        if reply.status != wanted {
            refused += 1;
            eprintln!("{method} {path}: {} {}", reply.status, reply.body);
        }
        reply.body
    };
    let member = work.stage.member(round % 2, 10 + writer);
    let member = call("POST", &members, Some(json!({"member": member})), 201);
    let port = 1000 + writer;
    let listener = json!({"listener": {
        "loadbalancer_id": work.changes.balancer, "protocol": "HTTP", "protocol_port": port, "default_pool_id": work.changes.pool,
    }});
    work.pace();
    let listener = call("POST", "listeners", Some(listener), 201);
    if let Some(id) = member["member"]["id"].as_str() {
        work.pace();
        call(
            "PUT",
            &format!("{members}/{id}"),
            Some(json!({"member": {"weight": 2 + round % 5}})),
            200,
        );
        work.pace();
        call("DELETE", &format!("{members}/{id}"), None, 204);
    }
    if let Some(id) = listener["listener"]["id"].as_str() {
        work.pace();
        call(
            "PUT",
            &format!("listeners/{id}"),
            Some(json!({"listener": {"timeout_client_data": 40_000}})),
            200,
        );
        work.pace();
        call("DELETE", &format!("listeners/{id}"), None, 204);
    }
    refused
}

impl Work<'_> {
    /// Waits for the first change of a round, unless enough changes were begun.
    fn turn(&self) -> Option<()> {
        if self.taken.load(Ordering::Relaxed) >= self.changes.count {
            return None;
        }
        self.pace();
        Some(())
    }

    /// Waits until the next change is due.
    fn pace(&self) {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(number as f64 / self.changes.rate as f64);
        thread::sleep(due.saturating_sub(self.start.elapsed()));
    }
}

const WRITERS: usize = 8;
