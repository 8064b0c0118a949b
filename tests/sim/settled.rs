//! What must be so when nothing has gone wrong for a while: everything is as it was asked for, and nobody is stuck.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use krater_amphora_api::{AmphoraId, LoadBalancerId, SnapshotSpec};
use krater_controller_core::{
    query::TreeFilter,
    rollup,
    status::ProvisioningStatus,
    tree::{Touch, TreeView},
};
use krater_controller_store::{Fate, StoreError};
use tokio::time::{Instant, sleep};

use crate::{
    ledger::{Book, Kind, Ledger, names},
    system::System,
};

/// Waits until everything is as it should be; whatever is not after a minute is found.
pub(crate) async fn converge(system: &Arc<System>, ledger: &Arc<Ledger>) {
    let began = Instant::now();
    loop {
        sleep(Duration::from_millis(1_500)).await;
        let wrong = wrong(system, ledger).await;
        if wrong.is_empty() {
            break;
        }
        if began.elapsed() >= PATIENCE {
            wrong.into_iter().for_each(|what| system.judge.find(what));
            break;
        }
    }
    system
        .trace
        .note(format_args!("settled after {:?}", began.elapsed()));
}

async fn wrong(system: &Arc<System>, ledger: &Arc<Ledger>) -> Vec<String> {
    match look(system, ledger).await {
        Ok(wrong) => wrong,
        Err(error) => vec![format!("the database cannot be read: {error}")],
    }
}

async fn look(system: &Arc<System>, ledger: &Arc<Ledger>) -> Result<Vec<String>, StoreError> {
    let store = &system.store;
    let mut wrong = Vec::new();
    let views = store.views(&TreeFilter::default()).await?;
    let placements = store.placements().await?;
    let departures = store.departures().await?;
    let records = store.amphorae().await?;
    let mut holding: BTreeMap<(AmphoraId, LoadBalancerId), SnapshotSpec> = BTreeMap::new();
    for amphora in system.ground.amphorae() {
        match amphora.run() {
            Some(run) => {
                let held = run.held().into_iter();
                holding.extend(held.map(|(id, spec)| ((amphora.id, id), spec)));
            }
            None => wrong.push(format!("amphora {} does not run", amphora.id)),
        }
        if !records.iter().any(|record| record.id == amphora.id) {
            wrong.push(format!("amphora {} runs and is not on record", amphora.id));
        }
    }
    for record in records {
        if record.fate == Fate::Retires {
            wrong.push(format!("amphora {} is to go and is still there", record.id));
        }
        if system
            .ground
            .amphora(record.id)
            .is_none_or(|it| it.is_released())
        {
            wrong.push(format!(
                "amphora {} is on record and is not there",
                record.id
            ));
        }
    }
    for view in &views {
        let id = view.tree.id();
        wrong.extend(statuses(view));
        let carrier = placements.iter().find(|(placed, _)| *placed == id);
        let carrier = carrier.map(|(_, placement)| placement.amphora);
        let held = carrier.and_then(|carrier| holding.remove(&(carrier, id)));
        wrong.extend(in_force(system, view, held));
        wrong.extend(working(system, view, carrier));
    }
    for (amphora, id) in holding.into_keys() {
        wrong.push(format!("amphora {amphora} holds {id}, which is not for it"));
    }
    for (id, amphora) in departures {
        wrong.push(format!("{id} has not left {amphora}"));
    }
    wrong.extend(kept(&ledger.open(), &views));
    let checked = store.check(&mut |_| ()).await?;
    wrong.extend(checked.findings.into_iter().map(|finding| finding.what));
    Ok(wrong)
}

/// Nothing is pending, in error, or on its way out (I7).
fn statuses(view: &TreeView) -> Vec<String> {
    let tree = &view.tree;
    let id = tree.id();
    let mut wrong = Vec::new();
    let root = &tree.load_balancer;
    let status = view.provisioning_status(id.uuid(), root);
    if status != ProvisioningStatus::Active {
        wrong.push(format!(
            "stuck: {id} is {status:?} at {} with {:?} settled: {:?}",
            tree.generation(),
            view.observed.settled,
            view.observed.errors
        ));
    }
    if !view.observed.errors.is_empty() {
        wrong.push(format!(
            "stuck: {id} has errors: {:?}",
            view.observed.errors
        ));
    }
    for facts in tree.facts().filter(|facts| facts.touch == Touch::Delete) {
        wrong.push(format!(
            "stuck: {:?} of {id} is leaving and still there",
            facts.id
        ));
    }
    wrong
}

/// Its amphora has what is wanted, and nothing else.
fn in_force(system: &System, view: &TreeView, held: Option<SnapshotSpec>) -> Option<String> {
    let id = view.tree.id();
    let Some(held) = held else {
        return Some(format!("{id} is in force nowhere"));
    };
    let wanted = system.wanted(&view.tree)?;
    let held = SnapshotSpec {
        takes_over: wanted.takes_over,
        ..held
    };
    (held != wanted).then(|| {
        format!(
            "{id} is in force at {} and wanted at {}",
            held.generation, wanted.generation
        )
    })
}

/// How it works is what its amphora says of it.
fn working(system: &System, view: &TreeView, carrier: Option<AmphoraId>) -> Option<String> {
    let run = system.ground.amphora(carrier?)?.run()?;
    let report = run.report_of(view.tree.id())?;
    let told = rollup::rollup(&view.tree, &[report]);
    let shown = &view.observed.operating;
    let differs = told
        .iter()
        .find(|(id, status)| shown.get(id) != Some(status));
    let (of, status) = differs?;
    Some(format!(
        "{of} of {} is shown as {:?}, and is {status:?}",
        view.tree.id(),
        shown.get(of)
    ))
}

/// What clients were told is there, and nothing that they did not ask for.
fn kept(book: &Book, views: &[TreeView]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut there = BTreeSet::new();
    let mut once = BTreeMap::new();
    for view in views {
        wrong.extend(book.compare(view, None));
        for (id, name) in names(view) {
            there.insert(id);
            if !book.entries.contains_key(&id) && !book.ghosts.contains(&name) {
                wrong.push(format!(
                    "{id} named {name:?} is there, and nobody asked for it"
                ));
            }
        }
        let name = view.tree.load_balancer.value.name.to_string();
        if let Some(other) = once.insert(name.clone(), view.tree.id()) {
            wrong.push(format!(
                "{name} is there twice: {other} and {}",
                view.tree.id()
            ));
        }
    }
    for (id, entry) in book.living(|entry| entry.kind == Kind::LoadBalancer) {
        if !there.contains(&id) {
            wrong.push(format!("lost: {:?} {id} is not there", entry.kind));
        }
    }
    wrong
}

/// How long everything may take to be as it should once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);
