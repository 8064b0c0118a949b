//! A whole fleet under siege: several controllers on one database, hosts in network namespaces, load balancers of every
//! kind, clients that check each answer and writers that note each acknowledgement, while one process after the other is
//! killed without a warning.

mod blows;
mod clients;
mod ground;
mod members;
mod roads;
mod scores;
mod writers;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

pub use blows::Blow;
pub use scores::Score;

use blows::strike;
use clients::Client;
use ground::Ground;
use roads::Roads;
use scores::Scores;
use writers::Writer;

/// How large it is, and how long it goes on.
#[derive(Debug, Clone)]
pub struct Siege {
    /// Controllers on the database.
    pub controllers: usize,
    /// Hosts that amphorae run on.
    pub hosts: usize,
    /// Load balancers: TCP and HTTP in turn, every third one a pair that takes turns.
    pub balancers: usize,
    /// What is killed, in this order.
    pub kinds: Vec<Blow>,
    /// How often each kind of kill is gone through; each round takes other ones of each kind.
    pub rounds: usize,
    /// No kill begins after this, and what is left out is told.
    pub time: Duration,
    /// Time between two requests of a client.
    pub pause: Duration,
    /// Time between two edits of a writer.
    pub edit_pause: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What clients saw without a kill, and in the time from each kill until all was as it should be, by kind.
    pub scores: Vec<(Option<Blow>, Score)>,
    /// Tokens that reached a member more than once.
    pub doubled: u64,
    /// Edits that were acknowledged.
    pub acknowledged: u64,
    /// Edits that were refused, or that got no answer.
    pub unanswered: u64,
    /// One line for each acknowledged write that is not there.
    pub lost_writes: Vec<String>,
    /// One line for each object that is not ACTIVE 60 seconds after the last kill.
    pub stuck: Vec<String>,
    /// Until nothing was pending any more after the last kill.
    pub settled_after: Duration,
    /// Kills for which there was no time.
    pub left_out: usize,
}

impl Siege {
    /// Builds everything, goes through all kills, and takes everything away. The calling thread comes to live in a network
    /// namespace of its own. `tell` hears how it goes.
    pub fn run(&self, tell: &(dyn Fn(&str) + Sync)) -> Outcome {
        let mut ground = Ground::lay(self, tell);
        let scores = Scores::new(&ground.balancers);
        let (stop, rest) = (AtomicBool::new(false), AtomicBool::new(false));
        let roads = Roads::default();
        let (apis, places) = (ground.apis(), ground.places());
        let places = &*places;
        let mut outcome = Outcome::default();
        let stopper = Stopper([&stop, &rest]);
        thread::scope(|scope| {
            // Whatever happens in here, all others end.
            let _stopper = stopper;
            let (scores, stop, rest, roads) = (&scores, &stop, &rest, &roads);
            let (network, ways) = (&places.network, &places.ways);
            for host in &places.hosts {
                scope.spawn(move || host.run(|| roads.watch(host.name(), stop)));
            }
            scope.spawn(move || network.run(|| roads.build(ways, stop)));
            let singles = ground.balancers.iter().filter(|one| !one.is_pair);
            roads.wait_built(singles.count());
            let clients = Client::all(&ground.balancers, self.pause);
            for (number, client) in clients.into_iter().enumerate() {
                scope.spawn(move || network.run(|| client.work(number, scores, stop)));
            }
            let writers = Writer::all(&ground.balancers, apis.len(), self.edit_pause);
            let writers: Vec<_> = writers
                .into_iter()
                .map(|writer| {
                    let (apis, subnet) = (apis.clone(), ground.subnet.clone());
                    scope.spawn(move || network.run(|| writer.work(&apis, &subnet, rest)))
                })
                .collect();
            let last = self.kill_all(&mut ground, scores, &mut outcome, tell);
            rest.store(true, Ordering::Relaxed);
            let ledgers = writers.into_iter().map(|writer| {
                let ledger = writer.join();
                ledger.expect("a writer does not panic")
            });
            let ledgers: Vec<_> = ledgers.collect();
            outcome.stuck = ground.wait_settled(last);
            outcome.settled_after = last.elapsed();
            for ledger in ledgers {
                outcome.acknowledged += ledger.acknowledged;
                outcome.unanswered += ledger.unanswered;
                outcome.lost_writes.extend(ground.lost_of(&ledger));
            }
        });
        outcome.doubled = ground.doubled();
        outcome.scores = scores.into_all();
        outcome
    }

    /// Goes through all kills, as far as there is time. Gives when the last one was.
    fn kill_all(
        &self,
        ground: &mut Ground,
        scores: &Scores,
        outcome: &mut Outcome,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Instant {
        let began = Instant::now();
        ground
            .wait_whole(began, scores)
            .unwrap_or_else(|why| panic!("nothing was killed yet: {why}"));
        scores.begin();
        thread::sleep(QUIET);
        let (plan, mut last) = (self.plan(), began);
        for (number, (round, blow)) in plan.iter().copied().enumerate() {
            if began.elapsed() > self.time {
                outcome.left_out = plan.len() - number;
                break;
            }
            scores.turn_to(Some(blow));
            last = Instant::now();
            let whom = strike(ground, blow, round);
            let whole = ground.wait_whole(last, scores);
            let took = last.elapsed();
            let (not, why) = match &whole {
                Ok(()) => ("all", String::new()),
                Err(why) => ("not", format!(": {why}")),
            };
            tell(&format!(
                "{:5.1} s  {} {whom} killed: {not} as it should be after {:.1} s{why}",
                began.elapsed().as_secs_f64(),
                blow.name(),
                took.as_secs_f64()
            ));
            scores.settle(blow, took, whole.err());
            scores.turn_to(None);
            thread::sleep(QUIET);
        }
        last
    }

    /// Every kill, by the round it is done in: round after round, so that each kind was there early.
    fn plan(&self) -> Vec<(usize, Blow)> {
        let mut plan = Vec::new();
        for round in 0..self.rounds {
            for blow in self.kinds.iter().copied() {
                let there = match blow {
                    Blow::Controller => self.controllers,
                    Blow::Database => 1,
                    _ => self.hosts,
                };
                if round < there {
                    plan.push((round, blow));
                }
            }
        }
        plan
    }
}

/// Tells all threads to end when it goes.
struct Stopper<'a>([&'a AtomicBool; 2]);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        for flag in self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// Traffic without a kill between two kills.
const QUIET: Duration = Duration::from_millis(1_500);
