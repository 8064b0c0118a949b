//! One load balancer and those who work on it, as the controller does: admitted, stored, settled.

use jiff::Timestamp;
use krater_amphora_api::{
    CertificateSpec, Generation, LoadBalancerId, PrivateKeyPem, SnapshotSpec,
};
use krater_amphora_core::snapshot::Snapshot;
use krater_controller_core::{
    admit,
    carried::Carried,
    change::Change,
    command::{Command, NewLoadBalancer},
    compile::{Defaults, compile},
    model::{AdditionalVip, ProjectId, Vip},
    refusal::Refusal,
    rules::Rules,
    secret::{Purpose, Secrets, needs},
    tree::{LoadBalancerTree, Observed, TreeView},
};
use uuid::Uuid;

/// A load balancer, what of it is in force, and the source of ids for what comes to it.
#[derive(Clone, Debug)]
pub(crate) struct House {
    pub(crate) tree: LoadBalancerTree,
    pub(crate) settled: Option<Generation>,
    carried: Carried,
    ids: u128,
    seconds: i64,
}

impl House {
    /// A load balancer of `new` at these addresses, with nothing in force.
    pub(crate) fn build(
        new: NewLoadBalancer,
        vip: Vip,
        additional: Vec<AdditionalVip>,
    ) -> Result<(Self, Change), Refusal> {
        Self::build_on(Carried::release(), new, vip, additional)
    }

    fn build_on(
        carried: Carried,
        new: NewLoadBalancer,
        vip: Vip,
        additional: Vec<AdditionalVip>,
    ) -> Result<(Self, Change), Refusal> {
        admit::check_new(&new, &Rules::default())?;
        let mut ids = FIRST_ID;
        let id = LoadBalancerId::new(uuid(ids));
        let project = new.project.clone().unwrap_or_else(project);
        let now = moment(0);
        let change = admit::create(
            new,
            project,
            (vip, additional),
            id,
            &Rules::default(),
            &mut || next(&mut ids),
            now,
        )?;
        carried.check(&change)?;
        let house = Self {
            tree: change.tree.clone(),
            settled: None,
            carried,
            ids,
            seconds: 0,
        };
        Ok((house, change))
    }

    /// A load balancer of `new`, or without its children where they are refused.
    pub(crate) fn found(
        new: NewLoadBalancer,
        vip: Vip,
        additional: Vec<AdditionalVip>,
    ) -> (Self, Change) {
        Self::found_on(Carried::release(), new, vip, additional)
    }

    /// The same on a data plane that carries what `carried` says.
    pub(crate) fn found_on(
        carried: Carried,
        new: NewLoadBalancer,
        vip: Vip,
        additional: Vec<AdditionalVip>,
    ) -> (Self, Change) {
        let alone = NewLoadBalancer {
            listeners: Vec::new(),
            pools: Vec::new(),
            ..new.clone()
        };
        Self::build_on(carried.clone(), new, vip.clone(), additional.clone())
            .or_else(|_| Self::build_on(carried, alone, vip, additional))
            .expect("nothing is wrong about the load balancer itself")
    }

    /// Has the command done, or refused and nothing changed.
    pub(crate) fn run(&mut self, command: Command) -> Result<Change, Refusal> {
        self.seconds += 1;
        let ids = &mut self.ids;
        let tree = self.tree.clone();
        let now = moment(self.seconds);
        let change = admit::admit(
            tree,
            self.settled,
            command,
            &Rules::default(),
            &mut || next(ids),
            now,
        )?;
        self.carried.check(&change)?;
        self.tree = change.tree.clone();
        Ok(change)
    }

    /// The data plane follows up to `generation`, and lets go of what was deleted until then.
    pub(crate) fn settle(&mut self, generation: Generation) {
        self.settled = self.settled.max(Some(generation));
        let settled = self.settled;
        let tree = &mut self.tree;
        tree.listeners
            .retain(|row| !row.is_leaving() || row.is_pending(settled));
        tree.pools
            .retain(|row| !row.is_leaving() || row.is_pending(settled));
        tree.members
            .retain(|row| !row.is_leaving() || row.is_pending(settled));
        tree.health_monitors
            .retain(|row| !row.is_leaving() || row.is_pending(settled));
        tree.l7_policies
            .retain(|row| !row.is_leaving() || row.is_pending(settled));
        tree.l7_rules
            .retain(|row| !row.is_leaving() || row.is_pending(settled));
    }

    /// As queries see it.
    pub(crate) fn view(&self) -> TreeView {
        TreeView {
            tree: self.tree.clone(),
            observed: Observed {
                settled: self.settled,
                ..Observed::default()
            },
        }
    }

    /// What an amphora is sent, after everything an amphora does to what it is sent.
    pub(crate) fn snapshot(&self) -> Snapshot {
        parsed(&self.tree)
    }
}

/// All that a tree needs of the secret store. What secrets hold is read by nobody who decides.
pub(crate) fn vault(tree: &LoadBalancerTree) -> Secrets {
    let mut secrets = Secrets::default();
    for (need, _) in needs(tree) {
        let text = need.reference.as_str().to_owned();
        match need.purpose {
            Purpose::Certificate => {
                let key = PrivateKeyPem::new(text.clone());
                secrets.add_certificate(need.reference, CertificateSpec { chain: text, key });
            }
            Purpose::Authorities | Purpose::Revocations => secrets.add_text(need, text),
        }
    }
    secrets
}

/// Compiles a tree, sends it and parses it.
///
/// Panics when the way changes it, or when an amphora would refuse it.
pub(crate) fn parsed(tree: &LoadBalancerTree) -> Snapshot {
    let spec = compile(tree, &Defaults::default(), &vault(tree));
    let sent = serde_json::to_vec(&spec).expect("a spec can be written");
    let received: SnapshotSpec = serde_json::from_slice(&sent).expect("a spec can be read");
    assert_eq!(received, spec, "the way changes the spec");
    Snapshot::parse(received).unwrap_or_else(|reasons| {
        let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        panic!("an amphora refuses what was admitted: {reasons:?}\n{spec:#?}")
    })
}

/// Whose everything is.
pub(crate) fn project() -> ProjectId {
    ProjectId::parse("6b726174657200000000000000000001").expect("a project id")
}

/// A UUID made of a number.
pub(crate) fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 | number)
}

fn next(ids: &mut u128) -> Uuid {
    *ids += 1;
    uuid(*ids)
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).expect("a moment")
}

const FIRST_ID: u128 = 1_000;
