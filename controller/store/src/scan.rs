//! Parts of lists, found along an index, with no more of each tree than is shown.

use std::{collections::BTreeMap, mem::take};

use krater_controller_core::{
    limits,
    model::{
        HealthMonitor, HealthMonitorId, L7Policy, L7Rule, Listener, ListenerId, LoadBalancer,
        MemberId, Pool, PoolId,
    },
    query::ResourceId,
    scan::{Among, Collection, Direction, Excerpt, Key, Order, Position, Related, Scan},
    tree::{LoadBalancerTree, Row, Touch, TreeView},
};
use serde::{Deserialize, de::DeserializeOwned};
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    engine::Statement,
    row::{
        self, column, read_document, read_id, read_observed, read_row, read_touch, tree_columns,
    },
};

impl Store {
    /// What the scan finds, in its order, all of the same moment.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn scan(&self, scan: &Scan) -> Result<Vec<Excerpt>, StoreError> {
        let texts = texts(scan);
        let items = match scan.collection {
            Collection::LoadBalancers => texts.balancers,
            _ => texts.children,
        };
        let mut reading = self.reading(SCANNING).await?;
        let rows = reading.all(SCANNING, bind(items, scan)).await?;
        // Nothing is shown of a monitor but itself.
        let shown_alone = scan.collection == Collection::HealthMonitors;
        let relatives = if rows.is_empty() || shown_alone {
            Vec::new()
        } else {
            reading.all(SCANNING, bind(texts.related, scan)).await?
        };
        reading.end(SCANNING).await?;
        let mut related = Relatives::default();
        // A monitor that is being deleted counts only where there is no other.
        for leaving in [false, true] {
            for found in &relatives {
                if is_leaving_monitor(found)? == leaving {
                    related.note(scan.collection, found)?;
                }
            }
        }
        let mut excerpts = rows
            .iter()
            .map(|found| read_excerpt(scan.collection, found, &mut related))
            .collect::<Result<Vec<_>, _>>()?;
        excerpts.sort_by(|left, right| scan.order.compare(&left.position, &right.position));
        Ok(excerpts)
    }
}

/// The statements of one way through the index.
struct Texts {
    /// Load balancers, with what is known of them.
    balancers: &'static str,
    /// Their children, with their load balancers and what is known of those.
    children: &'static str,
    /// What these are shown with.
    related: &'static str,
}

/// The ids on a page. `$1` is the kind and `$2` the count; `$3` and `$4` are moment and id of the place it begins
/// after. Members are listed by their tree, so the indexes leave them out.
macro_rules! page {
    ($kind:literal, $($condition:literal),+; $order:literal) => {
        concat!(
            "SELECT id, load_balancer_id FROM resource WHERE ", $kind, " = $1 AND kind <> 'member'",
            $(" AND ", $condition,)+ " ORDER BY ", $order, " LIMIT $2"
        )
    };
}

macro_rules! texts {
    ($($page:tt)+) => {
        Texts {
            balancers: concat!(
                "SELECT ", tree_columns!(), ", o.settled, o.errors, o.operating FROM (", page!($($page)+),
                ") p JOIN resource r ON r.id = p.id LEFT JOIN observed o ON o.load_balancer_id = r.id"
            ),
            children: concat!(
                "SELECT ", tree_columns!(), ", o.settled, o.errors, o.operating,
                    l.touch, l.generation, l.created_us, l.updated_us, l.document
                FROM (", page!($($page)+), ") p JOIN resource r ON r.id = p.id
                    JOIN resource l ON l.id = r.load_balancer_id
                    LEFT JOIN observed o ON o.load_balancer_id = l.id"
            ),
            // Of a load balancer's children the ids are enough.
            related: concat!(
                "SELECT c.kind, c.id, c.load_balancer_id, c.touch, c.generation, c.created_us, c.updated_us,
                    CASE $1 WHEN 'load_balancer' THEN '' ELSE c.document END
                FROM resource c WHERE c.load_balancer_id IN (SELECT p.load_balancer_id FROM (", page!($($page)+), ") p)
                    AND (($1 = 'load_balancer' AND c.kind IN ('listener', 'pool'))
                        OR ($1 = 'listener' AND c.kind = 'l7_policy')
                        OR ($1 = 'pool' AND c.kind IN ('listener', 'member', 'health_monitor', 'l7_policy', 'l7_rule'))
                        OR ($1 = 'l7_policy' AND c.kind IN ('listener', 'l7_policy', 'l7_rule')))
                ORDER BY c.load_balancer_id, c.seq"
            ),
        }
    };
}

/// A way along an index, for all projects and for one, whose id is `$project`.
macro_rules! ways {
    ($condition:literal; $order:literal; $project:literal) => {
        (
            texts!("kind", $condition; $order),
            texts!("kind", $project, $condition; $order),
        )
    };
}

/// A way to few resources, whatever project they are of unless it is `$6`. The kind is hidden from the planner, which
/// would else walk through all there are of it.
macro_rules! few {
    ($condition:literal) => {
        texts!("kind || ''", $condition, "($6 = '' OR project_id = $6)", "(created_us, id) > ($3, $4)"; "created_us, id")
    };
}

fn texts(scan: &Scan) -> &'static Texts {
    match &scan.among {
        Among::All => {
            let (all, of_project) = along(scan.order);
            match scan.project {
                None => all,
                Some(_) => of_project,
            }
        }
        Among::Named(_) => &NAMED,
        Among::Tree(_) => &TREE,
        Among::Holder(_) => &HOLDER,
        Among::One(_) => &ONE,
    }
}

fn along(order: Order) -> (&'static Texts, &'static Texts) {
    use Direction::{Ascending, Descending};
    let (all, of_project) = match (order.key, order.direction, order.ties) {
        (Key::Creation, Ascending, Ascending) => &CREATION_UP_UP,
        (Key::Creation, Ascending, Descending) => &CREATION_UP_DOWN,
        (Key::Creation, Descending, Ascending) => &CREATION_DOWN_UP,
        (Key::Creation, Descending, Descending) => &CREATION_DOWN_DOWN,
        (Key::Name, Ascending, Ascending) => &NAME_UP_UP,
        (Key::Name, Ascending, Descending) => &NAME_UP_DOWN,
        (Key::Name, Descending, Ascending) => &NAME_DOWN_UP,
        (Key::Name, Descending, Descending) => &NAME_DOWN_DOWN,
    };
    (all, of_project)
}

static CREATION_UP_UP: (Texts, Texts) =
    ways!("(created_us, id) > ($3, $4)"; "created_us, id"; "project_id = $5");
static CREATION_UP_DOWN: (Texts, Texts) = ways!(
    "created_us >= $3 AND (created_us > $3 OR id < $4)"; "created_us, id DESC"; "project_id = $5");
static CREATION_DOWN_UP: (Texts, Texts) = ways!(
    "created_us <= $3 AND (created_us < $3 OR id > $4)"; "created_us DESC, id"; "project_id = $5");
static CREATION_DOWN_DOWN: (Texts, Texts) =
    ways!("(created_us, id) < ($3, $4)"; "created_us DESC, id DESC"; "project_id = $5");
static NAME_UP_UP: (Texts, Texts) =
    ways!("(name, created_us, id) > ($5, $3, $4)"; "name, created_us, id"; "project_id = $6");
static NAME_UP_DOWN: (Texts, Texts) = ways!(
    "name >= $5 AND (name > $5 OR (created_us, id) < ($3, $4))"; "name, created_us DESC, id DESC"; "project_id = $6");
static NAME_DOWN_UP: (Texts, Texts) = ways!(
    "name <= $5 AND (name < $5 OR (created_us, id) > ($3, $4))"; "name DESC, created_us, id"; "project_id = $6");
static NAME_DOWN_DOWN: (Texts, Texts) = ways!(
    "(name, created_us, id) < ($5, $3, $4)"; "name DESC, created_us DESC, id DESC"; "project_id = $6");

static NAMED: Texts = texts!(
    "kind", "name = $5", "($6 = '' OR project_id = $6)", "(created_us, id) > ($3, $4)"; "created_us, id");
static TREE: Texts = few!("load_balancer_id = $5");
static HOLDER: Texts =
    few!("load_balancer_id = (SELECT h.load_balancer_id FROM resource h WHERE h.id = $5)");
static ONE: Texts = few!("id = $5");

fn bind(text: &'static str, scan: &Scan) -> Statement {
    let count = scan.count.min(limits::SCAN_MAX);
    let place = Place::after(scan);
    let statement = sqlx::query(text)
        .bind(kind_name(scan.collection))
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .bind(place.created_us)
        .bind(place.id);
    let project = || {
        scan.project
            .as_ref()
            .map(|project| project.as_str().to_owned())
    };
    let few = match &scan.among {
        Among::Named(name) => name.clone(),
        Among::Tree(id) => row::id_text(id.uuid()),
        Among::Holder(id) | Among::One(id) => row::id_text(*id),
        Among::All => {
            let statement = match scan.order.key {
                Key::Creation => statement,
                Key::Name => statement.bind(place.name),
            };
            return match project() {
                None => statement,
                Some(project) => statement.bind(project),
            };
        }
    };
    statement.bind(few).bind(project().unwrap_or_default())
}

/// A place as statements compare it; where a scan has none, one before all others.
struct Place {
    name: String,
    created_us: i64,
    id: String,
}

impl Place {
    fn after(scan: &Scan) -> Self {
        if let Some(Position {
            name,
            created_at,
            id,
        }) = &scan.after
        {
            return Self {
                name: name.clone(),
                created_us: row::time_us(*created_at),
                id: row::id_text(*id),
            };
        }
        let Order {
            key,
            direction,
            ties,
        } = scan.order;
        let created = match key {
            Key::Creation => direction,
            Key::Name => ties,
        };
        Self {
            name: match direction {
                Direction::Ascending => String::new(),
                // Longer than any name, of the last character there is.
                Direction::Descending => char::MAX
                    .to_string()
                    .repeat(limits::TEXT_CHARACTERS_MAX + 1),
            },
            created_us: match created {
                Direction::Ascending => i64::MIN,
                Direction::Descending => i64::MAX,
            },
            id: match ties {
                Direction::Ascending => String::new(),
                // After all digits and letters.
                Direction::Descending => "~".to_owned(),
            },
        }
    }
}

const fn kind_name(collection: Collection) -> &'static str {
    match collection {
        Collection::LoadBalancers => "load_balancer",
        Collection::Listeners => "listener",
        Collection::Pools => "pool",
        Collection::HealthMonitors => "health_monitor",
        Collection::L7Policies => "l7_policy",
    }
}

/// What the items are shown with, as far as it was read.
#[derive(Default)]
struct Relatives {
    /// Ids that their owners' documents need not be asked for, by owner.
    noted: BTreeMap<Uuid, Related>,
    /// Listeners, L7 policies and rules, by load balancer: who uses what takes all three to tell.
    kin: BTreeMap<Uuid, Kin>,
}

#[derive(Default)]
struct Kin {
    listeners: Vec<Row<Listener>>,
    l7_policies: Vec<Row<L7Policy>>,
    l7_rules: Vec<Row<L7Rule>>,
    /// All of it as a tree, once the load balancer is known.
    tree: Option<LoadBalancerTree>,
}

impl Relatives {
    /// Notes a row of what the items are shown with.
    fn note(&mut self, collection: Collection, found: &AnyRow) -> Result<(), StoreError> {
        let kind: &str = column(found, 0, "a kind")?;
        let id = read_id(found, 1, "an id")?;
        let balancer = read_id(found, 2, "an id")?;
        if collection == Collection::LoadBalancers {
            let owner = self.noted.entry(balancer).or_default();
            match kind {
                "listener" => owner.listeners.push(ListenerId::new(id)),
                _ => owner.pools.push(PoolId::new(id)),
            }
            return Ok(());
        }
        let kin = self.kin.entry(balancer).or_default();
        match kind {
            "listener" => kin.listeners.push(read_row(found, 3, kind)?),
            "l7_policy" => kin.l7_policies.push(read_row(found, 3, kind)?),
            "l7_rule" => kin.l7_rules.push(read_row(found, 3, kind)?),
            _ => {
                let links: Links = read_document(column(found, 7, "a document")?, kind)?;
                let owner = self.noted.entry(links.pool).or_default();
                if kind == "member" {
                    owner.members.push(MemberId::new(id));
                } else {
                    let id = HealthMonitorId::new(id);
                    owner.health_monitor.get_or_insert(id);
                }
            }
        }
        Ok(())
    }

    /// What the item `id` is shown with; `excerpt` has its load balancer and itself.
    fn of(&mut self, excerpt: &LoadBalancerTree, id: ResourceId) -> Related {
        let noted = self.noted.remove(&id.uuid()).unwrap_or_default();
        let needs_kin = matches!(
            id,
            ResourceId::Listener(_) | ResourceId::Pool(_) | ResourceId::L7Policy(_)
        );
        let Some(kin) = self.kin.get_mut(&excerpt.id().uuid()) else {
            return noted;
        };
        if !needs_kin {
            return noted;
        }
        let tree = kin.tree.get_or_insert_with(|| LoadBalancerTree {
            listeners: take(&mut kin.listeners),
            l7_policies: take(&mut kin.l7_policies),
            l7_rules: take(&mut kin.l7_rules),
            ..LoadBalancerTree::bare(excerpt.load_balancer.clone())
        });
        // A listener is not read a second time as its own relative.
        if let (ResourceId::Listener(_), Some(own)) = (id, excerpt.listeners.first()) {
            tree.listeners = vec![own.clone()];
        }
        let Related {
            listeners,
            l7_policies,
            l7_rules,
            position,
            ..
        } = Related::of(tree, id);
        Related {
            listeners,
            l7_policies,
            l7_rules,
            position,
            ..noted
        }
    }
}

fn is_leaving_monitor(found: &AnyRow) -> Result<bool, StoreError> {
    Ok(column::<&str>(found, 0, "a kind")? == "health_monitor"
        && read_touch(found, 3)? == Touch::Delete)
}

/// An item as its row tells it, with what was noted for it.
fn read_excerpt(
    collection: Collection,
    found: &AnyRow,
    related: &mut Relatives,
) -> Result<Excerpt, StoreError> {
    let observed = read_observed(found)?;
    let mut tree = LoadBalancerTree::bare(match collection {
        Collection::LoadBalancers => read_row::<LoadBalancer>(found, 1, "load balancer")?,
        _ => read_row::<LoadBalancer>(found, CHILD_COLUMNS, "load balancer")?,
    });
    let (id, name, created_at) = match collection {
        Collection::LoadBalancers => {
            let row = &tree.load_balancer;
            let id = ResourceId::LoadBalancer(row.value.id);
            (id, row.value.name.clone(), row.created_at)
        }
        Collection::Listeners => {
            let row: Row<Listener> = read_child(found, &mut tree.listeners)?;
            (
                ResourceId::Listener(row.value.id),
                row.value.name,
                row.created_at,
            )
        }
        Collection::Pools => {
            let row: Row<Pool> = read_child(found, &mut tree.pools)?;
            (
                ResourceId::Pool(row.value.id),
                row.value.name,
                row.created_at,
            )
        }
        Collection::HealthMonitors => {
            let row: Row<HealthMonitor> = read_child(found, &mut tree.health_monitors)?;
            (
                ResourceId::HealthMonitor(row.value.id),
                row.value.name,
                row.created_at,
            )
        }
        Collection::L7Policies => {
            let row: Row<L7Policy> = read_child(found, &mut tree.l7_policies)?;
            (
                ResourceId::L7Policy(row.value.id),
                row.value.name,
                row.created_at,
            )
        }
    };
    Ok(Excerpt {
        id,
        position: Position {
            name: name.as_str().to_owned(),
            created_at,
            id: id.uuid(),
        },
        related: related.of(&tree, id),
        view: TreeView { tree, observed },
    })
}

/// Reads a child into the rows of its kind.
fn read_child<T: DeserializeOwned + Clone>(
    found: &AnyRow,
    rows: &mut Vec<Row<T>>,
) -> Result<Row<T>, StoreError> {
    let row: Row<T> = read_row(found, 1, "a child")?;
    rows.push(row.clone());
    Ok(row)
}

/// What of a document says whom its resource is shown with.
#[derive(Deserialize)]
struct Links {
    pool: Uuid,
}

const SCANNING: &str = "list resources";
/// Where a child's row goes on with its load balancer's.
const CHILD_COLUMNS: usize = 9;

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "scan/tests.rs"]
#[expect(clippy::duplicate_mod, reason = "the same tests, on a database server")]
mod tests_on_server;
