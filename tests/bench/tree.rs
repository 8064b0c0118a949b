//! From the POST of a whole tree to the first request answered through its VIP.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use krater_tests::{fetch, percentile, until};

use crate::{Stage, Table, text};

/// Makes `count` trees one after the other; each is asked for its status and for an answer at the same moment.
pub(crate) fn measure(count: usize) -> Table {
    let mut stage = Stage::set();
    let subnet = stage.api.subnet("local-v4");
    let mut reader = stage.krater.api();
    let (mut posts, mut serves, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    let mut active = 0_usize;
    for number in 0..count {
        let tree = Stage::tree(
            &subnet,
            &format!("lb{number}"),
            &[stage.member(0, 2 * number), stage.member(1, 2 * number + 1)],
        );
        let start = Instant::now();
        let created = stage.api.post("loadbalancers", &tree)["loadbalancer"].clone();
        posts.push(micros(start.elapsed()));
        let vip: SocketAddr = format!("{}:80", text(&created["vip_address"]))
            .parse()
            .expect("an address");
        let path = format!("loadbalancers/{}", text(&created["id"]));
        thread::scope(|scope| {
            let first_get = scope.spawn(|| {
                let asked = Instant::now();
                let status = text(&reader.get(&path)["loadbalancer"]["provisioning_status"]);
                (status, micros(asked.elapsed()))
            });
            until("the VIP answers", Duration::from_secs(10), || {
                fetch(vip, "/").is_ok_and(|answer| answer.status == 200)
            });
            serves.push(micros(start.elapsed()));
            let (status, took) = first_get.join().expect("the reader ends");
            active += usize::from(status == "ACTIVE");
            reads.push(took);
        });
    }
    let mut table = Table::new(format!(
        "POST of a tree to the first answered request, {count} load balancers"
    ));
    for (name50, name99, mut times) in [
        ("first answer p50", "first answer p99", serves),
        ("POST p50", "POST p99", posts),
        ("first GET p50", "first GET p99", reads),
    ] {
        times.sort_unstable();
        table.add_us(name50, percentile(&times, 50.0));
        table.add_us(name99, percentile(&times, 99.0));
    }
    table.add("ACTIVE at the first GET", active, "load balancers");
    table
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
