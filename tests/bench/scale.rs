//! Many load balancers on one amphora: what they weigh, how long a start takes, what one change costs.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use krater_tests::{fetch, percentile, until};
use serde_json::json;

use crate::{
    Stage, Table,
    memory::{memory_kib, of_process},
    text,
};

pub(crate) fn measure(count: usize) -> Table {
    let mut stage = Stage::set();
    let mut table = Table::new(format!(
        "{count} load balancers, each 1 listener, 1 pool, 2 members, on one amphora"
    ));
    let empty = memory_kib(&stage);
    let start = Instant::now();
    let vips = make(&mut stage, count);
    table.add("making them all", start.elapsed().as_secs_f64(), "s");
    for vip in &vips {
        until("every VIP answers", Duration::from_secs(20), || {
            serves(*vip)
        });
    }
    let full = memory_kib(&stage);
    table.add("controller, empty", empty.0 / 1024, "MiB");
    table.add("controller", full.0 / 1024, "MiB");
    table.add("amphora with its supervisor, empty", empty.1 / 1024, "MiB");
    table.add("amphora with its supervisor", full.1 / 1024, "MiB");
    let last = *vips.last().expect("at least one");
    change(&mut stage, last, &mut table);
    processor_time(&mut stage, last, &mut table);
    restart(&mut stage, &vips, &mut table);
    table
}

/// Makes the load balancers, four at a time, and gives their VIPs.
fn make(stage: &mut Stage, count: usize) -> Vec<SocketAddr> {
    let subnet = stage.api.subnet("local-v4");
    let stage = &*stage;
    thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|maker| {
                let subnet = &subnet;
                scope.spawn(move || {
                    let mut api = stage.krater.api();
                    let make_one = |number: usize| -> SocketAddr {
                        let members =
                            [stage.member(0, 2 * number), stage.member(1, 2 * number + 1)];
                        let tree = Stage::tree(subnet, &format!("lb{number}"), &members);
                        let created = api.post("loadbalancers", &tree);
                        format!("{}:80", text(&created["loadbalancer"]["vip_address"]))
                            .parse()
                            .expect("an address")
                    };
                    (maker..count)
                        .step_by(MAKERS)
                        .map(make_one)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        makers
            .into_iter()
            .flat_map(|maker| maker.join().expect("a maker ends"))
            .collect()
    })
}

/// Replaces all members of one pool by the other member, again and again; live when the other one answers.
fn change(stage: &mut Stage, vip: SocketAddr, table: &mut Table) {
    let balancers = stage
        .api
        .get(&format!("loadbalancers?vip_address={}", vip.ip()));
    let pool = text(&balancers["loadbalancers"][0]["pools"][0]["id"]);
    let path = format!("pools/{pool}/members");
    let (mut answered, mut live) = (Vec::new(), Vec::new());
    for round in 0..CHANGES {
        let which = round % 2;
        let wanted = format!("\"{}\"", ["a", "b"][which]);
        let member = stage.member(which, round);
        let start = Instant::now();
        stage
            .api
            .call("PUT", &path, Some(&json!({"members": [member]})))
            .expect(202);
        answered.push(micros(start.elapsed()));
        until("the change is live", Duration::from_secs(10), || {
            fetch(vip, "/")
                .is_ok_and(|answer| answer.status == 200 && answer.text().contains(&wanted))
        });
        live.push(micros(start.elapsed()));
    }
    answered.sort_unstable();
    live.sort_unstable();
    table.add_us(
        "one member change, answered p50",
        percentile(&answered, 50.0),
    );
    table.add_us("one member change, live p50", percentile(&live, 50.0));
    table.add_us("one member change, live p99", percentile(&live, 99.0));
}

/// Processor time of the amphora for each change of a member, beyond what it spends anyway: reports, and a look at each
/// second. Nobody asks for anything meanwhile.
fn processor_time(stage: &mut Stage, vip: SocketAddr, table: &mut Table) {
    let balancers = stage
        .api
        .get(&format!("loadbalancers?vip_address={}", vip.ip()));
    let pool = text(&balancers["loadbalancers"][0]["pools"][0]["id"]);
    let path = format!("pools/{pool}/members");
    let amphorae = stage.krater.amphorae();
    let spent = || -> Duration { amphorae.iter().map(|process| of_process(*process)).sum() };
    let before = spent();
    for _ in 0..COUNTED {
        thread::sleep(PAUSE);
    }
    let rested = spent();
    // The one from before has been idle for longer than the API keeps it.
    stage.api = stage.krater.api();
    for round in 0..COUNTED {
        let member = stage.member(round % 2, round);
        stage
            .api
            .call("PUT", &path, Some(&json!({"members": [member]})))
            .expect(202);
        thread::sleep(PAUSE);
    }
    let changes = spent()
        .saturating_sub(rested)
        .saturating_sub(rested.saturating_sub(before));
    let each = changes / u32::try_from(COUNTED).unwrap_or(1);
    table.add_us(
        "one member change, processor time of the amphora",
        micros(each),
    );
}

/// Kills the amphora, then ends and starts everything; measures until every VIP serves again.
fn restart(stage: &mut Stage, vips: &[SocketAddr], table: &mut Table) {
    let all_serve = || {
        for vip in vips {
            until("every VIP answers again", Duration::from_secs(60), || {
                serves(*vip)
            });
        }
    };
    stage.krater.kill_amphorae();
    let start = Instant::now();
    all_serve();
    table.add(
        "amphora killed, until all serve",
        start.elapsed().as_secs_f64(),
        "s",
    );
    assert!(
        stage.krater.interrupt().success(),
        "the controller ends cleanly"
    );
    let start = Instant::now();
    stage.krater.resume();
    table.add(
        "krater up again, until the API answers",
        start.elapsed().as_secs_f64(),
        "s",
    );
    all_serve();
    table.add(
        "krater up again, until all serve",
        start.elapsed().as_secs_f64(),
        "s",
    );
}

fn serves(vip: SocketAddr) -> bool {
    fetch(vip, "/").is_ok_and(|answer| answer.status == 200)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

const MAKERS: usize = 4;
const CHANGES: usize = 50;
/// Changes whose processor time is counted: the kernel tells it in hundredths of a second, a thirtieth of a millisecond of
/// each of so many.
const COUNTED: usize = 300;
/// Between two of them: longer than what follows from one.
const PAUSE: Duration = Duration::from_millis(100);
