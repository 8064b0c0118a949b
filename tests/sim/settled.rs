//! What must be so when nothing has gone wrong for a while: everything is as it was asked for, and nobody is stuck.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use krater_amphora_api::{AmphoraId, LoadBalancerId, SnapshotSpec};
use krater_controller_core::{
    model::ProjectId,
    plan::Desired,
    query::TreeFilter,
    quota::{Counted, Growth, Limit, Limits},
    rollup,
    status::ProvisioningStatus,
    tree::{Touch, TreeView},
};
use krater_controller_store::{AmphoraRecord, Fate, Store, StoreError};
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
    wrong.extend(agents(system, &records));
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
        let places = placements.iter().filter(|(placed, _)| *placed == id);
        let places: Vec<AmphoraId> = places.map(|(_, placement)| placement.amphora).collect();
        wrong.extend(apart(system, view, &places));
        for amphora in &places {
            let held = holding.remove(&(*amphora, id));
            wrong.extend(in_force(system, view, *amphora, held));
        }
        wrong.extend(working(system, view, &places));
    }
    for (amphora, id) in holding.into_keys() {
        wrong.push(format!("amphora {amphora} holds {id}, which is not for it"));
    }
    for (id, amphora) in departures {
        wrong.push(format!("{id} has not left {amphora}"));
    }
    wrong.extend(quotas(store, &views).await?);
    wrong.extend(kept(&ledger.open(), &views));
    let checked = store.check(&mut |_| ()).await?;
    wrong.extend(checked.findings.into_iter().map(|finding| finding.what));
    Ok(wrong)
}

/// Hosts run what is on record there, and nothing else.
fn agents(system: &System, records: &[AmphoraRecord]) -> Vec<String> {
    let mut wrong = Vec::new();
    for agent in system.ground.agents() {
        let host = agent.id.to_string();
        let recorded = records.iter().filter(|record| record.host == host);
        let recorded: BTreeSet<_> = recorded.map(|record| record.id).collect();
        let ordered: BTreeSet<_> = agent.orders().into_iter().collect();
        if ordered != recorded {
            wrong.push(format!(
                "host {host} is to run {ordered:?}, and {recorded:?} are on record there"
            ));
        }
    }
    wrong
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

/// It is on as many hosts as it has amphorae, and it has as many as it is to have.
fn apart(system: &System, view: &TreeView, places: &[AmphoraId]) -> Option<String> {
    let machine = |id: &AmphoraId| Some(system.ground.amphora(*id)?.host);
    let machines: BTreeSet<_> = places.iter().filter_map(machine).collect();
    let seats = Desired::of(&view.tree).seats.len();
    (places.len() != seats || machines.len() != seats).then(|| {
        format!(
            "{} is on amphorae {places:?} of machines {machines:?}, and is to be on {seats}",
            view.tree.id()
        )
    })
}

/// An amphora of it has what is wanted, and nothing else.
fn in_force(
    system: &System,
    view: &TreeView,
    on: AmphoraId,
    held: Option<SnapshotSpec>,
) -> Option<String> {
    let id = view.tree.id();
    let Some(held) = held else {
        return Some(format!("{id} is not in force on amphora {on}"));
    };
    let wanted = system.wanted(&view.tree, on)?;
    let held = SnapshotSpec {
        takes_over: wanted.takes_over,
        session_peers: wanted.session_peers.clone(),
        ..held
    };
    (held != wanted).then(|| {
        format!(
            "{id} is in force on amphora {on} at {} and wanted at {}",
            held.generation, wanted.generation
        )
    })
}

/// How it works is what its amphorae say of it.
fn working(system: &System, view: &TreeView, places: &[AmphoraId]) -> Option<String> {
    let report = |id: &AmphoraId| {
        let run = system.ground.amphora(*id)?.run()?;
        run.report_of(view.tree.id())
    };
    let reports: Vec<_> = places.iter().filter_map(report).collect();
    if reports.len() < places.len() {
        return None;
    }
    let told = rollup::rollup(&view.tree, &reports);
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

/// What counts against the quota of a project is what is there: neither more nor less.
async fn quotas(store: &Store, views: &[TreeView]) -> Result<Vec<String>, StoreError> {
    let mut rows: BTreeMap<ProjectId, Growth> = BTreeMap::new();
    for view in views {
        let (sum, more) = (
            rows.entry(view.tree.project().clone()).or_default(),
            Growth::staying(&view.tree),
        );
        *sum = Growth::of(|kind| sum.get(kind) + more.get(kind));
    }
    let mut wrong = Vec::new();
    for (project, rows) in rows {
        for kind in Counted::ALL {
            let (one, has) = (Growth::of(|of| (of == kind).into()), *rows.get(kind));
            for (most, is_met) in [(has, true), (has + 1, false)] {
                let mut limits = Limits::default();
                *limits.get_mut(kind) = Limit::from_number(most).unwrap();
                let met = store.quota_met(&project, &one, &limits).await?;
                if met.is_some() != is_met {
                    wrong.push(format!(
                        "project {project} has {has} of {kind:?}: with a quota of {most} one more is answered with {met:?}"
                    ));
                }
            }
        }
    }
    Ok(wrong)
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
