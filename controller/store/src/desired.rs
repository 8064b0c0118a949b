//! What tenants asked for. [`Store::apply`] is the only writer of it (I5); rows go in `observed` when the data plane
//! has let go of them.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use krater_amphora_api::{Generation, LoadBalancerId};
use krater_controller_core::{
    audit::Entry,
    change::Change,
    envelope::Once,
    model::ProjectId,
    network::Located,
    query::{ResourceId, TreeFilter},
    quota::{Counted, Limits},
    tree::{LoadBalancerTree, Row, Touch, TreeView},
};
use serde::Serialize;
use sqlx::{AssertSqlSafe, any::AnyRow};
use uuid::Uuid;

use crate::{
    Store, StoreError, audit, batch,
    engine::{Statement, Transaction, retried},
    once, quota,
    row::{self, Trees, tree_columns},
};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// It is stored and survives everything.
    Done,
    /// The tree is not at the generation any more against which the change was admitted: load and admit again.
    LostRace,
    /// Another load balancer has this address on the same network: allocate again.
    AddressTaken(IpAddr),
    /// Another load balancer has the port.
    PortTaken,
    /// The project would have more of a kind than it may.
    QuotaMet(Counted),
    /// A flavor or zone that a new load balancer was to be made of is gone: look again.
    OfferGone,
    /// Something was created under the same name before.
    Repeated,
}

/// On which terms a change is stored, beside that nothing came between.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'a> {
    /// What projects may have for which nothing was set; `None` when quotas do not bind the change.
    pub limits: Option<&'a Limits>,
    /// The name under which what the change creates is created once.
    pub once: Option<&'a Once>,
    /// What is written into the audit trail.
    pub record: Option<&'a Entry>,
}

impl Store {
    /// The tree that holds the resource.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tree(&self, id: ResourceId) -> Result<Option<LoadBalancerTree>, StoreError> {
        let statement = sqlx::query(TREE)
            .bind(row::id_text(id.uuid()))
            .bind(row::kind_name(id));
        let mut trees = Trees::default();
        for found in &self.all("load a load balancer", statement).await? {
            trees.push(found)?;
        }
        Ok(trees.finish().pop().map(|view| view.tree))
    }

    /// The tree that holds the resource, with what is known of it, both of the same moment.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn view(&self, id: ResourceId) -> Result<Option<TreeView>, StoreError> {
        let statement = sqlx::query(VIEW)
            .bind(row::id_text(id.uuid()))
            .bind(row::kind_name(id));
        Ok(self.views_of(statement).await?.pop())
    }

    /// The trees that pass the filter, in creation order, all of the same moment.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn views(&self, filter: &TreeFilter) -> Result<Vec<TreeView>, StoreError> {
        // One statement per way in, the narrowest wins; the rest of the filter is applied to what it finds.
        let statement = if let Some(id) = filter.load_balancer {
            sqlx::query(VIEWS_BY_ID).bind(row::id_text(id.uuid()))
        } else if let Some(id) = filter.holds {
            sqlx::query(VIEWS_HOLDING).bind(row::id_text(id))
        } else if let Some(name) = &filter.name {
            sqlx::query(VIEWS_BY_NAME).bind(name.clone())
        } else if let Some(project) = &filter.project {
            sqlx::query(VIEWS_BY_PROJECT).bind(project.as_str().to_owned())
        } else {
            sqlx::query(VIEWS_ALL)
        };
        let mut views = self.views_of(statement).await?;
        views.retain(|view| {
            let root = &view.tree.load_balancer.value;
            filter
                .project
                .as_ref()
                .is_none_or(|project| root.project == *project)
                && filter
                    .name
                    .as_ref()
                    .is_none_or(|name| root.name.as_str() == name)
        });
        Ok(views)
    }

    /// The trees of these load balancers, as far as there are any, with what is known of them.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn views_among(&self, ids: &[LoadBalancerId]) -> Result<Vec<TreeView>, StoreError> {
        let mut views = Vec::with_capacity(ids.len());
        for some in batch::pieces(ids) {
            let sql = VIEWS_AMONG.replace("()", &batch::rows(some.len(), 1));
            let mut statement = sqlx::query(AssertSqlSafe(sql));
            for id in some {
                statement = statement.bind(row::id_text(id.uuid()));
            }
            views.append(&mut self.views_of(statement).await?);
        }
        Ok(views)
    }

    /// [`Store::apply_under`] on no terms.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the change is stored then.
    pub async fn apply(&self, change: &Change) -> Result<Committed, StoreError> {
        self.apply_under(change, Terms::default()).await
    }

    /// Stores an admitted change if the tree is still at the generation it was admitted against. With a new load
    /// balancer its port and addresses are claimed in the same transaction, in which also the terms are seen to.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the change is stored then.
    pub async fn apply_under(
        &self,
        change: &Change,
        terms: Terms<'_>,
    ) -> Result<Committed, StoreError> {
        let (root, children) = lines_of(change)?;
        let committed = retried!(self.try_apply(change, &root, &children, terms))?;
        if let Committed::AddressTaken(address) = committed {
            let network = change.tree.load_balancer.value.vip.network_id;
            self.note_taken((address, network));
        }
        Ok(committed)
    }

    async fn try_apply(
        &self,
        change: &Change,
        root: &Line,
        children: &[Line],
        terms: Terms<'_>,
    ) -> Result<Committed, StoreError> {
        let mut transaction = self.begin(APPLYING).await?;
        // Counted before anything is written, judged after the race: only then the growth is that of what is stored.
        let met = match terms.limits {
            None => None,
            Some(limits) => {
                let project = change.tree.project();
                if change.growth.more().next().is_some() {
                    quota::lock(&mut transaction, project).await?;
                }
                quota::first_met(&mut transaction, project, &change.growth, limits).await?
            }
        };
        let written = match change.basis {
            None => transaction.run(APPLYING, root.insert(&root.id)).await?,
            Some(basis) => transaction.run(APPLYING, root.swap(basis)).await?,
        };
        if written == 0 {
            transaction.rollback().await?;
            return Ok(Committed::LostRace);
        }
        if let Some(once) = terms.once
            && !claim_name(&mut transaction, change, once).await?
        {
            transaction.rollback().await?;
            return Ok(Committed::Repeated);
        }
        if let Some(kind) = met {
            transaction.rollback().await?;
            return Ok(Committed::QuotaMet(kind));
        }
        let claimed = match change.basis {
            None => addresses_of(change),
            Some(_) => Vec::new(),
        };
        if let Some(refused) = claim(&mut transaction, change, &claimed).await? {
            transaction.rollback().await?;
            return Ok(refused);
        }
        for offer in &change.offers {
            let statement = sqlx::query(CHOOSE)
                .bind(root.id.clone())
                .bind(row::id_text(offer.uuid()));
            if transaction.run(APPLYING, statement).await? == 0 {
                transaction.rollback().await?;
                return Ok(Committed::OfferGone);
            }
        }
        for child in children {
            // A deleted row may be gone already: the data plane let go of it between load and now. It stays gone.
            let (statement, absent_is_fine) = match child.touch {
                Touch::Delete => (child.update(&root.id), true),
                Touch::Create | Touch::Update => (child.insert(&root.id), false),
            };
            if transaction.run(APPLYING, statement).await? == 0 && !absent_is_fine {
                return Err(StoreError::Defect(format!(
                    "{} {} is of another load balancer",
                    child.kind, child.id
                )));
            }
        }
        if let Some(entry) = terms.record {
            audit::write(&mut transaction, entry).await?;
        }
        transaction
            .commit_addresses(APPLYING, claimed, Vec::new())
            .await?;
        Ok(Committed::Done)
    }

    /// All addresses that load balancers have, each with its network.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn taken_addresses(&self) -> Result<Arc<BTreeSet<Located>>, StoreError> {
        let statement = sqlx::query("SELECT address, network_id FROM vip");
        self.addresses("list the addresses in use", statement, row::read_located)
            .await
    }

    /// The load balancer that has the port, and its project.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn port_holder(
        &self,
        port: Uuid,
    ) -> Result<Option<(LoadBalancerId, ProjectId)>, StoreError> {
        let statement = sqlx::query(PORT_HOLDER).bind(row::id_text(port));
        self.holder("look for the holder of a port", statement)
            .await
    }

    /// The load balancer that a resource is or belongs to, and its project.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn owner(
        &self,
        resource: Uuid,
    ) -> Result<Option<(LoadBalancerId, ProjectId)>, StoreError> {
        let statement = sqlx::query(OWNER).bind(row::id_text(resource));
        self.holder("look for the owner of a resource", statement)
            .await
    }

    async fn holder(
        &self,
        doing: &'static str,
        statement: Statement,
    ) -> Result<Option<(LoadBalancerId, ProjectId)>, StoreError> {
        let what = "a load balancer and its project";
        let rows = self.all(doing, statement).await?;
        let read = |found: &AnyRow| {
            let id = row::read_id(found, 0, what)?;
            let project: &str = row::column(found, 1, what)?;
            let project = ProjectId::parse(project)
                .ok_or_else(|| StoreError::unreadable(what, &"it has no project"))?;
            Ok((LoadBalancerId::new(id), project))
        };
        rows.first().map(read).transpose()
    }

    async fn views_of(&self, statement: Statement) -> Result<Vec<TreeView>, StoreError> {
        let mut trees = Trees::default();
        for found in &self.all("load load balancers", statement).await? {
            trees.push_with_observed(found)?;
        }
        Ok(trees.finish())
    }
}

/// Claims port and addresses of a new load balancer; answers why not when somebody has one of them.
async fn claim(
    transaction: &mut Transaction,
    change: &Change,
    addresses: &[Located],
) -> Result<Option<Committed>, StoreError> {
    if change.basis.is_some() {
        return Ok(None);
    }
    let vip = &change.tree.load_balancer.value.vip;
    let load_balancer = row::id_text(change.tree.id().uuid());
    let statement = sqlx::query(CLAIM_PORT)
        .bind(row::id_text(vip.port_id))
        .bind(load_balancer.clone());
    if transaction.run(APPLYING, statement).await? == 0 {
        return Ok(Some(Committed::PortTaken));
    }
    for (address, network) in addresses {
        let statement = sqlx::query(CLAIM_ADDRESS)
            .bind(row::id_text(*network))
            .bind(address.to_string())
            .bind(load_balancer.clone());
        if transaction.run(APPLYING, statement).await? == 0 {
            return Ok(Some(Committed::AddressTaken(*address)));
        }
    }
    Ok(None)
}

async fn claim_name(
    transaction: &mut Transaction,
    change: &Change,
    once: &Once,
) -> Result<bool, StoreError> {
    let tree = &change.tree;
    let row = tree.facts().find(|facts| facts.id == change.subject);
    let now = row.map_or(tree.load_balancer.created_at, |facts| facts.changed_at);
    once::claim(transaction, tree.project(), once, change.subject, now).await
}

fn addresses_of(change: &Change) -> Vec<Located> {
    let root = &change.tree.load_balancer.value;
    let additional = root.additional_vips.iter().map(|vip| vip.address);
    std::iter::once(root.vip.address)
        .chain(additional)
        .map(|address| (address, root.vip.network_id))
        .collect()
}

/// A row as it is written.
struct Line {
    id: String,
    kind: &'static str,
    project: String,
    name: String,
    seq: i64,
    generation: Generation,
    touch: Touch,
    created_at: Timestamp,
    updated_at: Option<Timestamp>,
    document: String,
}

impl Line {
    fn insert(&self, load_balancer: &str) -> Statement {
        let sql = if self.kind == "load_balancer" {
            INSERT_NEW
        } else {
            INSERT_OR_UPDATE
        };
        sqlx::query(sql)
            .bind(self.id.clone())
            .bind(self.kind)
            .bind(load_balancer.to_owned())
            .bind(self.project.clone())
            .bind(self.name.clone())
            .bind(self.seq)
            .bind(row::generation_number(self.generation))
            .bind(row::touch_name(self.touch))
            .bind(row::time_us(self.created_at))
            .bind(self.updated_at.map(row::time_us))
            .bind(self.document.clone())
    }

    fn update(&self, load_balancer: &str) -> Statement {
        self.bind_update(sqlx::query(UPDATE_CHILD))
            .bind(load_balancer.to_owned())
    }

    /// Writes the load balancer's row if it is still of the generation `basis`.
    fn swap(&self, basis: Generation) -> Statement {
        self.bind_update(sqlx::query(COMPARE_AND_SWAP))
            .bind(row::generation_number(basis))
    }

    fn bind_update(&self, statement: Statement) -> Statement {
        statement
            .bind(self.id.clone())
            .bind(self.name.clone())
            .bind(row::generation_number(self.generation))
            .bind(row::touch_name(self.touch))
            .bind(self.updated_at.map(row::time_us))
            .bind(self.document.clone())
    }
}

/// The rows a change writes: the load balancer's, and the touched children's.
fn lines_of(change: &Change) -> Result<(Line, Vec<Line>), StoreError> {
    let tree = &change.tree;
    let root_id = tree.load_balancer.value.id;
    let root = ResourceId::LoadBalancer(root_id);
    let project = tree.load_balancer.value.project.as_str();
    if change
        .basis
        .is_some_and(|basis| basis >= tree.load_balancer.generation)
        || !change.touched.contains(&root)
    {
        return Err(StoreError::Defect(format!(
            "a change of load balancer {root_id} does not advance its generation"
        )));
    }
    let touched: BTreeSet<Uuid> = change.touched.iter().map(|id| id.uuid()).collect();
    let mut seq = Sequence::of(tree.load_balancer.generation);
    let first = line(
        root,
        &tree.load_balancer,
        tree.load_balancer.value.name.as_str(),
        project,
        0,
    )?;
    let mut lines = Vec::with_capacity(touched.len());
    macro_rules! children {
        ($child:ident in $rows:expr, $kind:path, $name:expr) => {
            for $child in &$rows {
                let place = seq.next();
                if touched.contains(&$child.value.id.uuid()) {
                    lines.push(line($kind($child.value.id), $child, $name, project, place)?);
                }
            }
        };
    }
    children!(row in tree.listeners, ResourceId::Listener, row.value.name.as_str());
    children!(row in tree.pools, ResourceId::Pool, row.value.name.as_str());
    children!(row in tree.members, ResourceId::Member, row.value.name.as_str());
    children!(row in tree.health_monitors, ResourceId::HealthMonitor, row.value.name.as_str());
    children!(row in tree.l7_policies, ResourceId::L7Policy, row.value.name.as_str());
    // Rules are the only resources without a name.
    children!(row in tree.l7_rules, ResourceId::L7Rule, "");
    if lines.len().saturating_add(1) != touched.len() {
        return Err(StoreError::Defect(format!(
            "a change of load balancer {root_id} touches what is not in it"
        )));
    }
    Ok((first, lines))
}

fn line<T: Serialize>(
    id: ResourceId,
    value: &Row<T>,
    name: &str,
    project: &str,
    seq: i64,
) -> Result<Line, StoreError> {
    Ok(Line {
        id: row::id_text(id.uuid()),
        kind: row::kind_name(id),
        project: project.to_owned(),
        name: name.to_owned(),
        seq,
        generation: value.generation,
        touch: value.touch,
        created_at: value.created_at,
        updated_at: value.updated_at,
        document: row::document(&value.value)?,
    })
}

/// Places of new rows in creation order: later generations after earlier ones, within one as in the tree. Rows keep
/// the place they were created with.
struct Sequence {
    next: i64,
}

impl Sequence {
    /// More rows than the domain allows in one tree, many times over.
    const ROWS_PER_GENERATION: i64 = 1 << 20;

    fn of(generation: Generation) -> Self {
        Self {
            next: row::generation_number(generation).saturating_mul(Self::ROWS_PER_GENERATION),
        }
    }

    fn next(&mut self) -> i64 {
        self.next = self.next.saturating_add(1);
        self.next
    }
}

const APPLYING: &str = "store a change";

const TREE: &str = concat!(
    "SELECT ",
    tree_columns!(),
    " FROM resource r WHERE r.load_balancer_id = (SELECT load_balancer_id FROM resource WHERE id = $1 AND kind = $2)
    ORDER BY r.seq"
);

/// Trees with what is known of them. Only the load balancer's own row meets a row of `observed`.
macro_rules! views_where {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            tree_columns!(),
            ", o.settled, o.errors, o.operating FROM resource r LEFT JOIN observed o ON o.load_balancer_id = r.id ",
            $condition,
            " ORDER BY r.load_balancer_id, r.seq"
        )
    };
}

const VIEW: &str = views_where!(
    "WHERE r.load_balancer_id = (SELECT load_balancer_id FROM resource WHERE id = $1 AND kind = $2)"
);
const VIEWS_ALL: &str = views_where!("");
const VIEWS_BY_ID: &str = views_where!("WHERE r.load_balancer_id = $1");
/// With their ids in the brackets.
const VIEWS_AMONG: &str = views_where!("WHERE r.load_balancer_id IN ()");
const VIEWS_HOLDING: &str = views_where!(
    "WHERE r.load_balancer_id = (SELECT load_balancer_id FROM resource WHERE id = $1)"
);
const VIEWS_BY_NAME: &str = views_where!(
    "WHERE r.load_balancer_id IN (SELECT id FROM resource WHERE kind = 'load_balancer' AND kind <> 'member' AND name = $1)"
);
const VIEWS_BY_PROJECT: &str = views_where!(
    "WHERE r.load_balancer_id IN (SELECT id FROM resource WHERE kind = 'load_balancer' AND kind <> 'member' AND project_id = $1)"
);

const INSERT_NEW: &str = "INSERT INTO resource
    (id, kind, load_balancer_id, project_id, name, seq, generation, touch, created_us, updated_us, document)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING";

/// A child that was created and changed again before it settled comes as created a second time.
const INSERT_OR_UPDATE: &str = "INSERT INTO resource
    (id, kind, load_balancer_id, project_id, name, seq, generation, touch, created_us, updated_us, document)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, generation = excluded.generation, touch = excluded.touch,
        updated_us = excluded.updated_us, document = excluded.document
    WHERE resource.load_balancer_id = excluded.load_balancer_id AND resource.kind = excluded.kind";

const UPDATE_CHILD: &str = "UPDATE resource
    SET name = $2, generation = $3, touch = $4, updated_us = $5, document = $6
    WHERE id = $1 AND load_balancer_id = $7";

const COMPARE_AND_SWAP: &str = "UPDATE resource
    SET name = $2, generation = $3, touch = $4, updated_us = $5, document = $6
    WHERE id = $1 AND generation = $7";

const CLAIM_PORT: &str = "INSERT INTO vip_port (port_id, load_balancer_id) VALUES ($1, $2)
    ON CONFLICT (port_id) DO NOTHING";

const PORT_HOLDER: &str = "SELECT p.load_balancer_id, r.project_id
    FROM vip_port p JOIN resource r ON r.id = p.load_balancer_id WHERE p.port_id = $1";

const OWNER: &str = "SELECT load_balancer_id, project_id FROM resource WHERE id = $1";

const CLAIM_ADDRESS: &str =
    "INSERT INTO vip (network_id, address, load_balancer_id) VALUES ($1, $2, $3)
    ON CONFLICT (network_id, address) DO NOTHING";

/// Notes what a load balancer is made of, if that is still there.
const CHOOSE: &str = "INSERT INTO chosen (load_balancer_id, offer_id)
    SELECT CAST($1 AS TEXT), id FROM offer WHERE id = $2";

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "desired/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
