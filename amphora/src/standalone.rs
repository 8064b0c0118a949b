//! The data plane alone: what it serves is written in a file, which is read again on SIGHUP.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::{
    access,
    housekeeper::{self, Ending, Finish, Housekeeper, persist},
    limits::SNAPSHOT_FILE_BYTES_MAX,
    metrics::Endpoint,
    strict::Flaw,
    world::World,
};

pub(crate) mod file;
mod identify;
mod shape;
mod texts;

use file::Plan;
pub(crate) use texts::Texts;

/// How to run without a controller.
#[derive(Clone, Debug)]
pub(crate) struct Standalone {
    pub(crate) snapshot: PathBuf,
    pub(crate) workers: usize,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) drain: Duration,
    pub(crate) access_log: access::Settings,
}

impl Standalone {
    /// What the file asks for, compared with nothing; or every reason against it. Nothing is opened yet.
    pub(crate) fn prepare(&self) -> Result<Plan, Vec<Flaw>> {
        plan(&self.snapshot, &Texts::default(), &World::default())
    }

    /// Serves until told to end.
    pub(crate) fn run(self, first: Plan) -> io::Result<()> {
        let access = self.access_log.clone();
        housekeeper::run(
            self.workers,
            self.drain,
            access,
            move |housekeeper| async move {
                let mut hangups = signal(SignalKind::hangup())?;
                let mut texts = Texts::default();
                carry_out(&housekeeper, first, &mut texts);
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
                    reload(&housekeeper, &self.snapshot, &mut texts);
                }
                Ok(Finish::Stop)
            },
        )
    }
}

/// Reads the file again. A bad one is refused as a whole, and what was in force goes on.
fn reload(housekeeper: &Housekeeper, snapshot: &Path, texts: &mut Texts) {
    let Ok(world) = housekeeper.world() else {
        return;
    };
    match plan(snapshot, texts, &world) {
        Ok(plan) => {
            housekeeper.tallies().reloads.inc();
            carry_out(housekeeper, plan, texts);
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

/// Puts a plan in force; `texts` are then those of its file.
fn carry_out(housekeeper: &Housekeeper, plan: Plan, texts: &mut Texts) {
    let began = Instant::now();
    let (changed, unchanged, removed) = (plan.apply.len(), plan.unchanged, plan.remove.len());
    let outcome = (|| -> Result<(), Ending> {
        for (id, rejections) in housekeeper.apply_all(plan.apply, &plan.remove)? {
            // The file was found free of it.
            error!(lb = %id, ?rejections, "a load balancer has parts of another one: this is a bug");
        }
        // What another process has let go of meanwhile.
        housekeeper.retry_failed().map(drop)
    })();
    if outcome.is_ok() {
        *texts = plan.texts;
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

fn plan(snapshot: &Path, texts: &Texts, world: &World) -> Result<Plan, Vec<Flaw>> {
    let text =
        read(snapshot).map_err(|error| vec![Flaw::new("", format!("cannot be read: {error}"))])?;
    let mut plan = Plan::read(&text, texts, world)?;
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
