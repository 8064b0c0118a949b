//! A large fleet on one machine: one controller, PostgreSQL, hundreds of real amphorae and thousands of load balancers.
//! What keeping them costs, how soon a change is live among them, and how long a controller that was killed is missed.

use std::{
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use krater_tests::{HttpMember, Krater, Namespace, Octavia, Postgres, Reply, fetch, percentile};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{Stage, Table, compare::pss_kib, ending, memory::of_process, progress, text};

pub(crate) struct Settings {
    pub(crate) amphorae: usize,
    pub(crate) balancers: usize,
    /// Without anything being asked, while what the fleet costs is measured.
    pub(crate) rest: Duration,
}

pub(crate) fn measure(settings: &Settings) -> Table {
    ending::watch_signals().expect("signals are heard");
    let mut field = Field::set(settings);
    let mut table = Table::new(format!(
        "{} amphorae with {} load balancers (1 listener, 1 pool, 2 members each), one controller, PostgreSQL",
        settings.amphorae, settings.balancers
    ));
    field.start(settings.amphorae, &mut table);
    let vips = field.make(settings.balancers, &mut table);
    for vip in &vips {
        until("every VIP answers", PATIENCE, || serves(*vip));
    }
    progress("all serve");
    field.rest(settings.rest, &mut table);
    field.change(&vips, &mut table);
    field.restart(&vips, settings.amphorae, &mut table);
    table
}

/// What takes part.
struct Field {
    postgres: Postgres,
    krater: Krater,
    _settings: NamedTempFile,
    member: [HttpMember; 2],
    _network: Namespace,
}

impl Field {
    fn set(settings: &Settings) -> Self {
        let network = Namespace::enter_new();
        let postgres = Postgres::start_durable();
        let (url, _) = postgres.database();
        // As many as share an amphora in a full fleet, so that they spread evenly.
        let shared = settings.balancers.div_ceil(settings.amphorae);
        let config = format!(
            "[store]\nurl = \"{url}\"\n[fleet]\namphorae_max = {0}\nload_balancers_max = {shared}\nworkers = 1\n\
            [[fleet.zones]]\nname = \"local\"\namphorae = {0}\n",
            settings.amphorae
        );
        let settings = NamedTempFile::new().expect("a temporary file");
        fs::write(settings.path(), config).expect("the settings are written");
        let path = settings.path().to_string_lossy();
        let key = "5e".repeat(32);
        let krater = Krater::prepare("controller", &["--config", &path]);
        let mut krater = krater.with_variable("KRATER_SEAL_KEY", &key);
        krater.resume();
        Self {
            postgres,
            krater,
            _settings: settings,
            member: ["a", "b"].map(|name| HttpMember::start(name, "0.0.0.0:0")),
            _network: network,
        }
    }

    /// Waits until all amphorae are there.
    fn start(&mut self, amphorae: usize, table: &mut Table) {
        let began = Instant::now();
        let mut api = self.krater.api();
        until("all amphorae are there", PATIENCE, || {
            allocated(&mut api) == amphorae
        });
        table.add("all amphorae there after", seconds(began), "s");
        progress("all amphorae are there");
        table.add(
            "controller, without load balancers",
            self.mebibytes(),
            "MiB",
        );
    }

    /// Makes the load balancers and gives their VIPs.
    fn make(&self, count: usize, table: &mut Table) -> Vec<SocketAddr> {
        let subnet = self.krater.api().subnet("local-v4");
        let began = Instant::now();
        let make_one = |api: &mut Octavia, number: usize| -> SocketAddr {
            ending::go_on();
            let members = [self.a_member(0, number), self.a_member(1, number)];
            let tree = Stage::tree(&subnet, &format!("lb{number}"), &members);
            let created = api.post("loadbalancers", &tree);
            if (number + 1).is_multiple_of(1_000) {
                progress(&format!("{} load balancers", number + 1));
            }
            let vip = text(&created["loadbalancer"]["vip_address"]);
            format!("{vip}:80").parse().expect("an address")
        };
        let vips = thread::scope(|scope| {
            let makers: Vec<_> = (0..MAKERS)
                .map(|maker| {
                    let make_one = &make_one;
                    let mut api = self.krater.api();
                    scope.spawn(move || -> Vec<SocketAddr> {
                        let own = (maker..count).step_by(MAKERS);
                        own.map(|number| make_one(&mut api, number)).collect()
                    })
                })
                .collect();
            let all = makers.into_iter();
            all.flat_map(|maker| maker.join().expect("a maker ends"))
                .collect()
        });
        table.add("making the load balancers", seconds(began), "s");
        vips
    }

    /// What the fleet costs while nobody asks for anything.
    fn rest(&self, time: Duration, table: &mut Table) {
        // What the last creations brought about is over.
        rest(SETTLE);
        let spent = || (self.of_controller(), self.of_database(), self.reports());
        let before = spent();
        rest(time);
        let after = spent();
        let share = |spent: Duration| 100.0 * spent.as_secs_f64() / time.as_secs_f64();
        let reports = (after.2 - before.2) / time.as_secs_f64();
        let controller = after.0.saturating_sub(before.0);
        table.add("at rest, reports", reports, "per second");
        table.add("at rest, controller", share(controller), "% of a core");
        let database = after.1.saturating_sub(before.1);
        table.add("at rest, PostgreSQL", share(database), "% of a core");
        table.add("controller", self.mebibytes(), "MiB");
        let processes = self.krater.amphorae().into_iter();
        let amphorae: u64 = processes
            .chain(self.krater.supervisors())
            .map(pss_kib)
            .sum();
        table.add("all amphorae", amphorae / 1024, "MiB");
    }

    /// Replaces the members of single pools, all over the fleet.
    fn change(&self, vips: &[SocketAddr], table: &mut Table) {
        let mut api = self.krater.api();
        let mut live: Vec<u32> = (0..CHANGES)
            .map(|round| {
                let number = round * vips.len() / CHANGES;
                let time = self.change_one(&mut api, vips[number], number);
                u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
            })
            .collect();
        live.sort_unstable();
        table.add_us("one change, live p50", percentile(&live, 50.0));
        table.add_us("one change, live p99", percentile(&live, 99.0));
    }

    /// Has a load balancer send everything to the first member; from the request on until it does.
    fn change_one(&self, api: &mut Octavia, vip: SocketAddr, number: usize) -> Duration {
        let found = api.get(&format!("loadbalancers?vip_address={}", vip.ip()));
        let pool = text(&found["loadbalancers"][0]["pools"][0]["id"]);
        let body = json!({"members": [self.a_member(0, number)]});
        let began = Instant::now();
        let path = format!("pools/{pool}/members");
        api.call("PUT", &path, Some(&body)).expect(202);
        until("the change is live", PATIENCE, || {
            (0..4).all(|_| fetch(vip, "/").is_ok_and(|answer| answer.text().contains("\"a\"")))
        });
        began.elapsed()
    }

    /// Kills the controller and starts it again.
    fn restart(&mut self, vips: &[SocketAddr], amphorae: usize, table: &mut Table) {
        self.krater.kill_controller();
        progress("the controller was killed");
        let began = Instant::now();
        self.krater.resume();
        table.add(
            "controller killed, until the API answers",
            seconds(began),
            "s",
        );
        let mut api = self.krater.api();
        let last = vips.len() - 1;
        let _ = self.change_one(&mut api, vips[last], last);
        table.add(
            "controller killed, until a change is live",
            seconds(began),
            "s",
        );
        until("all have reported", PATIENCE, || {
            self.reports() >= 2.0 * amphorae as f64
        });
        table.add(
            "controller killed, until all amphorae have reported twice",
            seconds(began),
            "s",
        );
        let controller = self.of_controller();
        table.add(
            "processor time of that, controller",
            controller.as_secs_f64(),
            "s",
        );
        let dead = vips.iter().filter(|vip| !serves(**vip)).count();
        table.add("load balancers that do not serve then", dead, "");
    }

    fn a_member(&self, which: usize, number: usize) -> Value {
        json!({
            "address": format!("127.{}.{}.{}", 10 + which, number / 250, 1 + number % 250),
            "protocol_port": self.member[which].address().port(),
        })
    }

    fn of_controller(&self) -> Duration {
        of_process(self.krater.pid())
    }

    fn of_database(&self) -> Duration {
        self.postgres.processes().into_iter().map(of_process).sum()
    }

    fn mebibytes(&self) -> u64 {
        pss_kib(self.krater.pid()) / 1024
    }

    /// Reports that the controller took.
    fn reports(&self) -> f64 {
        let Ok(answer) = fetch(METRICS.parse().expect("an address"), "/metrics") else {
            return 0.0;
        };
        let text = answer.text();
        let taken = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("krater_controller_reports_total{outcome=\"")?;
            let (outcome, value) = rest.split_once("\"} ")?;
            let is_taken = matches!(outcome, "taken" | "followed");
            value.parse::<f64>().ok().filter(|_| is_taken)
        });
        taken.sum()
    }
}

/// How many amphorae are there, as far as the controller says; one that is busy with starting them may have no time.
fn allocated(api: &mut Octavia) -> usize {
    let path = "/v2.0/octavia/amphorae?status=ALLOCATED&fields=id&limit=1000";
    let found = api.try_call("GET", path, None).ok();
    let found = found.filter(|reply| reply.status == 200);
    let count = |found: Reply| found.body["amphorae"].as_array().map_or(0, Vec::len);
    found.map_or(0, count)
}

/// Waits, but not for longer than the measurement is to go on.
fn until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    krater_tests::until(what, bound, || {
        ending::go_on();
        condition()
    });
}

fn rest(time: Duration) {
    let end = Instant::now() + time;
    until("it is over", time + PATIENCE, || Instant::now() >= end);
}

fn serves(vip: SocketAddr) -> bool {
    fetch(vip, "/").is_ok_and(|answer| answer.status == 200)
}

fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 100.0).round() / 100.0
}

const METRICS: &str = "127.0.0.1:9878";
const MAKERS: usize = 8;
const CHANGES: usize = 50;
const SETTLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
