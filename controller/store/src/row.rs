//! How values rest in columns: ids and documents as text, times as microseconds, generations as numbers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use krater_amphora_api::{
    Generation, HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId, MemberId, PoolId,
};
use krater_controller_core::{
    model::{HealthMonitor, L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool},
    network::Located,
    query::ResourceId,
    quota::Counted,
    status::{OperatingStatus, Reason},
    tree::{LoadBalancerTree, Observed, Row, Touch, TreeView},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Any, Decode, Row as _, Type, any::AnyRow};
use uuid::Uuid;

use crate::StoreError;

/// The columns a tree is read from, in the order [`Trees::push`] expects them.
macro_rules! tree_columns {
    () => {
        "r.kind, r.touch, r.generation, r.created_us, r.updated_us, r.document"
    };
}
pub(crate) use tree_columns;

/// The column `index` of a row.
pub(crate) fn column<'r, T>(row: &'r AnyRow, index: usize, what: &str) -> Result<T, StoreError>
where
    T: Decode<'r, Any> + Type<Any>,
{
    row.try_get(index)
        .map_err(|error| StoreError::unreadable(what, &error))
}

/// A document as it is stored.
pub(crate) fn document<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Defect(format!("could not encode a document: {error}")))
}

/// Reads a document back.
pub(crate) fn read_document<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::unreadable(what, &error))
}

/// An id as it is stored.
pub(crate) fn id_text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// Reads an id back.
pub(crate) fn read_id(row: &AnyRow, index: usize, what: &str) -> Result<Uuid, StoreError> {
    let text: &str = column(row, index, what)?;
    Uuid::parse_str(text).map_err(|error| StoreError::unreadable(what, &error))
}

/// Reads the address that is a row's first column, and its network, which is the second.
pub(crate) fn read_located(row: &AnyRow) -> Result<Located, StoreError> {
    let text: &str = column(row, 0, "an address")?;
    let address = text
        .parse()
        .map_err(|error| StoreError::unreadable("an address", &error))?;
    Ok((address, read_id(row, 1, "a network id")?))
}

/// A time as it is stored.
pub(crate) fn time_us(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// Reads a time back.
pub(crate) fn read_time(us: i64, what: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(us).map_err(|error| StoreError::unreadable(what, &error))
}

/// A generation as it is stored. Beyond the column's range it stays at the end: 300 years of a change per nanosecond.
pub(crate) fn generation_number(generation: Generation) -> i64 {
    i64::try_from(generation.number()).unwrap_or(i64::MAX)
}

/// Reads a generation back.
pub(crate) fn read_generation(number: i64, what: &str) -> Result<Generation, StoreError> {
    u64::try_from(number)
        .ok()
        .and_then(Generation::from_number)
        .ok_or_else(|| StoreError::unreadable(what, &format_args!("{number} is not a generation")))
}

/// What a resource is called in the `kind` column.
pub(crate) const fn kind_name(id: ResourceId) -> &'static str {
    counted_name(Counted::of(id))
}

/// What resources of a kind are called there.
pub(crate) const fn counted_name(kind: Counted) -> &'static str {
    match kind {
        Counted::LoadBalancer => "load_balancer",
        Counted::Listener => "listener",
        Counted::Pool => "pool",
        Counted::Member => "member",
        Counted::HealthMonitor => "health_monitor",
        Counted::L7Policy => "l7_policy",
        Counted::L7Rule => "l7_rule",
    }
}

/// The resource of a kind as it is called there; `None` for any other word.
pub(crate) fn read_resource(kind: &str, id: Uuid) -> Option<ResourceId> {
    Some(match kind {
        "load_balancer" => ResourceId::LoadBalancer(LoadBalancerId::new(id)),
        "listener" => ResourceId::Listener(ListenerId::new(id)),
        "pool" => ResourceId::Pool(PoolId::new(id)),
        "member" => ResourceId::Member(MemberId::new(id)),
        "health_monitor" => ResourceId::HealthMonitor(HealthMonitorId::new(id)),
        "l7_policy" => ResourceId::L7Policy(L7PolicyId::new(id)),
        "l7_rule" => ResourceId::L7Rule(L7RuleId::new(id)),
        _ => return None,
    })
}

/// What a touch is called in its column.
pub(crate) const fn touch_name(touch: Touch) -> &'static str {
    match touch {
        Touch::Create => "create",
        Touch::Update => "update",
        Touch::Delete => "delete",
    }
}

/// Operating statuses as they are stored.
pub(crate) fn operating_document(
    statuses: &BTreeMap<Uuid, OperatingStatus>,
) -> Result<String, StoreError> {
    document(
        &statuses
            .iter()
            .map(|(id, status)| (*id, status.name()))
            .collect::<BTreeMap<_, _>>(),
    )
}

/// Collects rows into trees. Rows of one tree follow each other, the load balancer first.
#[derive(Default)]
pub(crate) struct Trees {
    done: Vec<TreeView>,
}

impl Trees {
    /// Takes a row that has [`tree_columns`] only.
    pub(crate) fn push(&mut self, row: &AnyRow) -> Result<(), StoreError> {
        let kind: &str = column(row, 0, "a kind")?;
        if kind == "load_balancer" {
            return self.start(row, Observed::default());
        }
        let Some(TreeView { tree, .. }) = self.done.last_mut() else {
            return Err(StoreError::unreadable(
                "a tree",
                &"a child comes without its load balancer",
            ));
        };
        match kind {
            "listener" => tree.listeners.push(read_row::<Listener>(row, 1, kind)?),
            "pool" => tree.pools.push(read_row::<Pool>(row, 1, kind)?),
            "member" => tree.members.push(read_row::<Member>(row, 1, kind)?),
            "health_monitor" => tree
                .health_monitors
                .push(read_row::<HealthMonitor>(row, 1, kind)?),
            "l7_policy" => tree.l7_policies.push(read_row::<L7Policy>(row, 1, kind)?),
            "l7_rule" => tree.l7_rules.push(read_row::<L7Rule>(row, 1, kind)?),
            other => {
                return Err(StoreError::unreadable(
                    "a kind",
                    &format_args!("{other} is not one"),
                ));
            }
        }
        Ok(())
    }

    /// Takes a row that has what is known of the load balancer after [`tree_columns`].
    pub(crate) fn push_with_observed(&mut self, row: &AnyRow) -> Result<(), StoreError> {
        if column::<&str>(row, 0, "a kind")? == "load_balancer" {
            return self.start(row, read_observed(row)?);
        }
        self.push(row)
    }

    /// The trees in creation order.
    pub(crate) fn finish(mut self) -> Vec<TreeView> {
        self.done.sort_by_key(|view| {
            (
                view.tree.load_balancer.created_at,
                view.tree.load_balancer.value.id,
            )
        });
        self.done
    }

    fn start(&mut self, row: &AnyRow, observed: Observed) -> Result<(), StoreError> {
        let root = read_row::<LoadBalancer>(row, 1, "load balancer")?;
        let tree = LoadBalancerTree::bare(root);
        self.done.push(TreeView { tree, observed });
        Ok(())
    }
}

/// Reads a resource whose touch is column `first` and whose document is four columns after it.
pub(crate) fn read_row<T: DeserializeOwned>(
    row: &AnyRow,
    first: usize,
    kind: &str,
) -> Result<Row<T>, StoreError> {
    let updated_us: Option<i64> = column(row, first + 3, "a time")?;
    Ok(Row {
        value: read_document(column(row, first + 4, "a document")?, kind)?,
        touch: read_touch(row, first)?,
        generation: read_generation(column(row, first + 1, "a generation")?, "a generation")?,
        created_at: read_time(column(row, first + 2, "a time")?, "a time")?,
        updated_at: updated_us.map(|us| read_time(us, "a time")).transpose()?,
    })
}

/// Reads a touch back.
pub(crate) fn read_touch(row: &AnyRow, index: usize) -> Result<Touch, StoreError> {
    Ok(match column(row, index, "a touch")? {
        "create" => Touch::Create,
        "update" => Touch::Update,
        "delete" => Touch::Delete,
        other => {
            return Err(StoreError::unreadable(
                "a touch",
                &format_args!("{other} is not one"),
            ));
        }
    })
}

/// Reads what is known of a load balancer, after [`tree_columns`].
pub(crate) fn read_observed(row: &AnyRow) -> Result<Observed, StoreError> {
    let settled: Option<i64> = column(row, 6, "a settled generation")?;
    let errors: Option<&str> = column(row, 7, "errors")?;
    let operating: Option<&str> = column(row, 8, "operating statuses")?;
    Ok(Observed {
        settled: settled
            .map(|number| read_generation(number, "a settled generation"))
            .transpose()?,
        errors: match errors {
            Some(text) => read_document::<BTreeMap<Uuid, Reason>>(text, "errors")?,
            None => BTreeMap::new(),
        },
        operating: match operating {
            Some(text) => read_operating(text)?,
            None => BTreeMap::new(),
        },
    })
}

fn read_operating(text: &str) -> Result<BTreeMap<Uuid, OperatingStatus>, StoreError> {
    let names: BTreeMap<Uuid, &str> = serde_json::from_str(text)
        .map_err(|error| StoreError::unreadable("operating statuses", &error))?;
    // A status of another release is as good as none: the next report replaces it.
    Ok(names
        .into_iter()
        .filter_map(|(id, name)| Some((id, OperatingStatus::from_name(name)?)))
        .collect())
}
