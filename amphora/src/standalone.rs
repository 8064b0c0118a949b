//! The data plane alone: what it serves is written in a file, which is read again on SIGHUP.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use krater_amphora_core::snapshot::Snapshot;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{
    housekeeper::{self, Ending, Housekeeper, persist},
    limits::SNAPSHOT_FILE_BYTES_MAX,
    metrics::Endpoint,
    strict::Flaw,
    world::{Leave, World},
};

pub(crate) mod file;
mod identify;
mod shape;

use file::Plan;

/// How to run without a controller.
#[derive(Clone, Debug)]
pub(crate) struct Standalone {
    pub(crate) snapshot: PathBuf,
    pub(crate) workers: usize,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) drain: Duration,
}

impl Standalone {
    /// What the file asks for, compared with nothing; or every reason against it. Nothing is opened yet.
    pub(crate) fn prepare(&self) -> Result<Plan, Vec<Flaw>> {
        plan(&self.snapshot, &World::default())
    }

    /// Serves until told to end.
    pub(crate) fn run(self, first: Plan) -> io::Result<()> {
        housekeeper::run(self.workers, self.drain, move |housekeeper| async move {
            let mut hangups = signal(SignalKind::hangup())?;
            carry_out(&housekeeper, first);
            if let Some(address) = self.metrics {
                let endpoint = Endpoint {
                    housekeeper: Rc::clone(&housekeeper),
                    amphora: None,
                    address,
                };
                let endpoint = Rc::new(endpoint);
                persist("metrics", housekeeper.tallies(), move || {
                    Rc::clone(&endpoint).serve()
                });
            }
            while hangups.recv().await.is_some() {
                reload(&housekeeper, &self.snapshot);
            }
            Ok(())
        })
    }
}

/// Reads the file again. A bad one is refused as a whole, and what was in force goes on.
fn reload(housekeeper: &Housekeeper, snapshot: &Path) {
    let Ok(world) = housekeeper.world() else {
        return;
    };
    match plan(snapshot, &world) {
        Ok(plan) => {
            housekeeper.tallies().reloads.inc();
            carry_out(housekeeper, plan);
        }
        Err(flaws) => {
            housekeeper.tallies().reloads_refused.inc();
            housekeeper.tallies().file_flaws.set(flaws.len() as u64);
            for Flaw { path, reason } in &flaws {
                error!(path, reason, "the snapshot file is wrong");
            }
            let file = snapshot.display();
            error!(%file, flaws = flaws.len(), "the snapshot file is refused; what was in force goes on");
        }
    }
}

fn carry_out(housekeeper: &Housekeeper, plan: Plan) {
    let began = Instant::now();
    let (changed, unchanged, removed) = (plan.apply.len(), plan.unchanged, plan.remove.len());
    let outcome = (|| -> Result<(), Ending> {
        // First what goes, so that its ports are free for what comes.
        for id in plan.remove {
            housekeeper.remove(id, Leave::Gone)?;
        }
        apply_all(housekeeper, plan.apply)?;
        // A port may have moved from a load balancer further down to one further up.
        housekeeper.retry_failed().map(drop)
    })();
    if outcome.is_ok() {
        housekeeper.tallies().reload_last.set_to_now();
        housekeeper.tallies().file_flaws.set(0);
        let took = began.elapsed();
        info!(
            changed,
            unchanged,
            removed,
            ?took,
            "the snapshot file is in force"
        );
    }
}

/// Applies in rounds, since a load balancer may take up what another one lets go of. Those that are left in the end
/// exchange something with each other: they are taken out of service first.
fn apply_all(housekeeper: &Housekeeper, mut left: Vec<Snapshot>) -> Result<(), Ending> {
    let mut before = usize::MAX;
    while left.len() < before {
        before = left.len();
        let mut refused = Vec::new();
        for snapshot in left {
            if housekeeper.world()?.conflicts(&snapshot).is_empty() {
                let _nothing_in_its_way = housekeeper.apply(snapshot)?;
            } else {
                refused.push(snapshot);
            }
        }
        left = refused;
    }
    for snapshot in &left {
        housekeeper.remove(snapshot.load_balancer(), Leave::Gone)?;
    }
    for snapshot in left {
        let id = snapshot.load_balancer();
        if let Err(rejections) = housekeeper.apply(snapshot)? {
            // The file was found free of it.
            error!(lb = %id, ?rejections, "a load balancer has parts of another one: this is a bug");
        }
    }
    Ok(())
}

fn plan(snapshot: &Path, world: &World) -> Result<Plan, Vec<Flaw>> {
    let text =
        read(snapshot).map_err(|error| vec![Flaw::new("", format!("cannot be read: {error}"))])?;
    let held = |id| {
        world
            .balancers
            .get(&id)
            .map(|balancer| Arc::clone(&balancer.snapshot))
    };
    let mut plan = Plan::read(&text, held)?;
    plan.remove = world
        .balancers
        .keys()
        .filter(|id| !plan.wanted.contains(*id))
        .copied()
        .collect();
    Ok(plan)
}

fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > SNAPSHOT_FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it has {size} bytes, at most {SNAPSHOT_FILE_BYTES_MAX} are read"
        )));
    }
    let mut text = String::new();
    file.take(SNAPSHOT_FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}
