//! Everything that is stored as lines of text, the same from every engine and for every engine: for backups, and for
//! moving from one to another.
//!
//! The first line says what it is, each further one is a row (`{"t": table, "r": [values]}`), the last one says how many
//! there were, so that what is cut short is noticed. Leases are not part of it.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{AssertSqlSafe, any::AnyRow};

use crate::{
    Store, StoreError,
    engine::{Statement, Transaction},
    migrate::SCHEMA,
    row::column,
};

/// A table: its columns, numbers marked by `#`, in the order in which rows may be inserted, and how many of the first
/// of them tell rows apart.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    key: usize,
}

/// Why lines cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file.
    #[error("the file cannot be read or written")]
    File(#[from] std::io::Error),
    /// The file is not what it should be; a sentence.
    #[error("{0}")]
    Malformed(String),
}

/// How far a transfer has come: rows so far, and the table they are of.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, &'static str) + Send);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    krater: String,
    schema: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    t: String,
    r: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    rows: u64,
}

impl Store {
    /// Writes all rows, all of the same moment, while others go on. Answers how many.
    ///
    /// # Errors
    /// [`TransferError`]
    pub async fn dump(
        &self,
        out: &mut (dyn Write + Send),
        progress: Progress<'_>,
    ) -> Result<u64, TransferError> {
        let mut rows = 0;
        let head = Head {
            krater: DUMP.to_owned(),
            schema: SCHEMA,
        };
        put(out, &head)?;
        let mut reading = self.reading(DUMPING).await?;
        for table in TABLES {
            let mut after: Option<Vec<Value>> = None;
            loop {
                let statement = table.part(after.as_deref());
                let found = reading.all(DUMPING, statement).await?;
                for row in &found {
                    let values = table.read(row)?;
                    after = Some(values.iter().take(table.key).cloned().collect());
                    let line = Line {
                        t: table.name.to_owned(),
                        r: values,
                    };
                    put(out, &line)?;
                    rows += 1;
                }
                progress(rows, table.name);
                if found.len() < PART {
                    break;
                }
            }
        }
        reading.end(DUMPING).await?;
        put(out, &Tail { rows })?;
        out.flush()?;
        Ok(rows)
    }

    /// Reads rows that [`Store::dump`] wrote into a database that is empty, all or none. Amphorae that were one
    /// controller's alone become those of `host`. Answers how many rows there were.
    ///
    /// # Errors
    /// [`TransferError`]; nothing is stored then.
    pub async fn load(
        &self,
        lines: &mut (dyn BufRead + Send),
        host: &str,
        progress: Progress<'_>,
    ) -> Result<u64, TransferError> {
        let malformed = |line: u64, why: &dyn std::fmt::Display| {
            TransferError::Malformed(format!("line {line}: {why}"))
        };
        let mut text = String::new();
        lines.read_line(&mut text)?;
        let head: Head = serde_json::from_str(&text)
            .map_err(|_| TransferError::Malformed("this is no dump of krater's".to_owned()))?;
        if head.krater != DUMP || head.schema != SCHEMA {
            return Err(TransferError::Malformed(format!(
                "the dump is of schema {}, this release has {SCHEMA}: load it with the release that wrote it, then start this one",
                head.schema
            )));
        }
        let mut transaction = self.begin(LOADING).await?;
        require_empty(&mut transaction).await?;
        transaction
            .run(LOADING, sqlx::query("DELETE FROM catalogue"))
            .await?;
        let mut rows = 0;
        loop {
            text.clear();
            if lines.read_line(&mut text)? == 0 {
                return Err(TransferError::Malformed(format!(
                    "the dump ends in the middle, after {rows} rows"
                )));
            }
            let number = rows + 2;
            if let Ok(tail) = serde_json::from_str::<Tail>(&text) {
                if tail.rows != rows {
                    let why = format!("{rows} rows were read, {} were written", tail.rows);
                    return Err(TransferError::Malformed(why));
                }
                break;
            }
            let line: Line =
                serde_json::from_str(&text).map_err(|error| malformed(number, &error))?;
            let table = TABLES
                .iter()
                .find(|table| table.name == line.t)
                .ok_or_else(|| malformed(number, &format_args!("{} is no table", line.t)))?;
            let statement = table
                .insert(line.r, host)
                .ok_or_else(|| malformed(number, &"its values do not fit its table"))?;
            transaction.run(LOADING, statement).await?;
            rows += 1;
            if rows % PART as u64 == 0 {
                progress(rows, table.name);
            }
        }
        transaction.commit(LOADING).await?;
        self.doubt_addresses();
        Ok(rows)
    }
}

async fn require_empty(transaction: &mut Transaction) -> Result<(), TransferError> {
    for table in TABLES.iter().filter(|table| table.name != "catalogue") {
        let text = format!("SELECT COUNT(*) FROM {}", table.name);
        let statement = sqlx::query(AssertSqlSafe(text));
        let found = transaction.one(LOADING, statement).await?;
        let count: i64 = column(&found, 0, "a count")?;
        if count > 0 {
            return Err(TransferError::Malformed(format!(
                "the database is not empty: {count} rows of {}; a dump is read into an empty one",
                table.name
            )));
        }
    }
    Ok(())
}

impl Table {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|name| name.trim_start_matches('#'))
    }

    /// The next rows after the one with this key.
    fn part(&self, after: Option<&[Value]>) -> Statement {
        let names: Vec<_> = self.names().collect();
        let key = names
            .iter()
            .take(self.key)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let condition = match after {
            None => String::new(),
            Some(after) => {
                let places: Vec<String> = (1..=after.len()).map(|n| format!("${n}")).collect();
                format!("WHERE ({key}) > ({})", places.join(", "))
            }
        };
        let text = format!(
            "SELECT {} FROM {} {condition} ORDER BY {key} LIMIT {PART}",
            names.join(", "),
            self.name
        );
        let mut statement = sqlx::query(AssertSqlSafe(text));
        for value in after.unwrap_or_default() {
            statement = match value {
                Value::Number(number) => statement.bind(number.as_i64()),
                other => statement.bind(other.as_str().map(str::to_owned)),
            };
        }
        statement
    }

    fn read(&self, row: &AnyRow) -> Result<Vec<Value>, StoreError> {
        let mut values = Vec::with_capacity(self.columns.len());
        for (place, name) in self.columns.iter().enumerate() {
            values.push(if name.starts_with('#') {
                column::<Option<i64>>(row, place, name)?.map_or(Value::Null, Value::from)
            } else {
                column::<Option<String>>(row, place, name)?.map_or(Value::Null, Value::from)
            });
        }
        Ok(values)
    }

    /// None when the values are not those of a row.
    fn insert(&self, values: Vec<Value>, host: &str) -> Option<Statement> {
        if values.len() != self.columns.len() {
            return None;
        }
        let names: Vec<_> = self.names().collect();
        let places: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
        let text = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.name,
            names.join(", "),
            places.join(", ")
        );
        let mut statement = sqlx::query(AssertSqlSafe(text));
        for (name, value) in self.columns.iter().zip(values) {
            statement = match (name.starts_with('#'), value) {
                (true, Value::Null) => statement.bind(None::<i64>),
                (true, Value::Number(number)) => statement.bind(number.as_i64()?),
                (false, Value::Null) => statement.bind(None::<String>),
                (false, Value::String(_)) if *name == "host" && host.is_empty() => {
                    statement.bind(String::new())
                }
                (false, Value::String(text)) if *name == "host" && text.is_empty() => {
                    statement.bind(host.to_owned())
                }
                (false, Value::String(text)) => statement.bind(text),
                _ => return None,
            };
        }
        Some(statement)
    }
}

fn put(out: &mut (dyn Write + Send), value: &impl Serialize) -> Result<(), TransferError> {
    let text = serde_json::to_string(value)
        .map_err(|error| TransferError::Malformed(error.to_string()))?;
    Ok(writeln!(out, "{text}")?)
}

const DUMP: &str = "dump";
const DUMPING: &str = "write a dump";
const LOADING: &str = "read a dump";
/// Rows read at once.
const PART: usize = 1_000;

/// All tables but `lease` and `schema_version`; what others refer to comes before them.
const TABLES: &[Table] = &[
    Table {
        name: "resource",
        columns: &[
            "load_balancer_id",
            "#seq",
            "id",
            "kind",
            "project_id",
            "name",
            "#generation",
            "touch",
            "#created_us",
            "#updated_us",
            "document",
        ],
        key: 3,
    },
    Table {
        name: "vip_port",
        columns: &["port_id", "load_balancer_id"],
        key: 1,
    },
    Table {
        name: "observed",
        columns: &[
            "load_balancer_id",
            "#settled",
            "errors",
            "operating",
            "#due_us",
            "#attempts",
            "#as_of_us",
        ],
        key: 1,
    },
    Table {
        name: "amphora",
        columns: &[
            "id",
            "#created_us",
            "agent",
            "metrics",
            "boot",
            "version",
            "#pid",
            "#last_seen_us",
            "zone",
            "tenancy",
            "#retiring",
            "#updated_us",
            "host",
            "network",
        ],
        key: 1,
    },
    Table {
        name: "vip",
        columns: &["network_id", "address", "load_balancer_id", "amphora_id"],
        key: 2,
    },
    Table {
        name: "host",
        columns: &[
            "id",
            "name",
            "zone",
            "agent",
            "facts",
            "state",
            "key_digest",
            "#load_balancers_max",
            "#amphorae_max",
            "#enrolled_us",
            "#last_seen_us",
        ],
        key: 1,
    },
    Table {
        name: "host_token",
        columns: &[
            "hash",
            "zone",
            "#load_balancers_max",
            "#amphorae_max",
            "#created_us",
            "#expires_us",
            "host_id",
        ],
        key: 1,
    },
    Table {
        name: "placement",
        columns: &["load_balancer_id", "amphora_id", "#load_balancers_max"],
        key: 1,
    },
    Table {
        name: "companion",
        columns: &["load_balancer_id", "amphora_id", "#load_balancers_max"],
        key: 1,
    },
    Table {
        name: "departure",
        columns: &["load_balancer_id", "amphora_id"],
        key: 2,
    },
    Table {
        name: "tally",
        columns: &["listener_id", "amphora_id", "document", "#weight"],
        key: 2,
    },
    Table {
        name: "quota",
        columns: &[
            "project_id",
            "#load_balancer",
            "#listener",
            "#pool",
            "#member",
            "#health_monitor",
            "#l7_policy",
            "#l7_rule",
        ],
        key: 1,
    },
    Table {
        name: "catalogue",
        columns: &["#version"],
        key: 1,
    },
    Table {
        name: "profile",
        columns: &[
            "id",
            "family",
            "name",
            "provider",
            "data",
            "terms",
            "#created_us",
        ],
        key: 1,
    },
    Table {
        name: "offer",
        columns: &[
            "id",
            "family",
            "name",
            "description",
            "#enabled",
            "profile_id",
            "#created_us",
        ],
        key: 1,
    },
    Table {
        name: "chosen",
        columns: &["load_balancer_id", "offer_id"],
        key: 2,
    },
    Table {
        name: "audit",
        columns: &[
            "mark",
            "#at_us",
            "request_id",
            "global_request_id",
            "user_id",
            "caller_project_id",
            "roles",
            "deed",
            "kind",
            "resource_id",
            "load_balancer_id",
            "project_id",
            "#status",
            "sentence",
        ],
        key: 1,
    },
    Table {
        name: "once",
        columns: &[
            "project_id",
            "scope",
            "name",
            "digest",
            "kind",
            "resource_id",
            "#created_us",
        ],
        key: 3,
    },
    Table {
        name: "sealed",
        columns: &["name", "document"],
        key: 1,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        Committed, Placement,
        fixture::{creation, lb_id, new_database, tree},
    };

    async fn dump(store: &Store) -> String {
        let mut out = Vec::new();
        store.dump(&mut out, &mut |_, _| ()).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn load(store: &Store, text: &str, host: &str) -> Result<u64, TransferError> {
        store.load(&mut text.as_bytes(), host, &mut |_, _| ()).await
    }

    #[tokio::test]
    async fn what_is_dumped_from_one_engine_loads_into_the_other_and_back() {
        let embedded = Store::in_memory().await.unwrap();
        for lb in 0..3 {
            let done = embedded.apply(&creation(tree(lb, 400))).await.unwrap();
            assert_eq!(done, Committed::Done);
        }
        let text = dump(&embedded).await;
        let shared = Store::connect(&new_database()).await.unwrap();
        assert_eq!(
            load(&shared, &text, "here").await.unwrap() + 2,
            text.lines().count() as u64
        );
        assert_eq!(dump(&shared).await, text, "the same lines from both");
        let refused = load(&shared, &text, "here").await.unwrap_err();
        assert!(refused.to_string().contains("not empty"), "{refused}");
        let again = Store::in_memory().await.unwrap();
        load(&again, &dump(&shared).await, "").await.unwrap();
        assert_eq!(
            again.views(&Default::default()).await.unwrap(),
            embedded.views(&Default::default()).await.unwrap()
        );
        assert_eq!(again.taken_addresses().await.unwrap().len(), 3);
        let places: Vec<Placement> = again.whereabouts(lb_id(0)).await.unwrap().placements;
        assert_eq!(places, []);
    }

    #[tokio::test]
    async fn what_is_cut_short_or_of_others_loads_nothing() {
        let store = Store::in_memory().await.unwrap();
        let done = store.apply(&creation(tree(0, 3))).await.unwrap();
        assert_eq!(done, Committed::Done);
        let text = dump(&store).await;
        let short = text.rsplit_once("{\"rows\"").unwrap().0;
        let line = text.lines().nth(1).unwrap();
        for broken in [
            short.to_owned(),
            short.replacen(line, "", 1) + "{\"rows\":1}\n",
            text.replacen("\"t\":\"vip\"", "\"t\":\"vips\"", 1),
            text.replacen("\"schema\":", "\"schema\":9", 1),
            "SQLite format 3".to_owned(),
            String::new(),
        ] {
            let empty = Store::in_memory().await.unwrap();
            let refused = load(&empty, &broken, "").await;
            assert!(refused.is_err());
            assert_eq!(empty.views(&Default::default()).await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn every_table_and_column_there_is_is_part_of_a_dump() {
        let store = Store::in_memory().await.unwrap();
        let names =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
            AND name NOT IN ('lease', 'schema_version')";
        let mut there = BTreeSet::new();
        for row in store.all("look", sqlx::query(names)).await.unwrap() {
            let table: String = column(&row, 0, "a name").unwrap();
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            for row in store
                .all("look", sqlx::query(AssertSqlSafe(columns)))
                .await
                .unwrap()
            {
                there.insert((table.clone(), column::<String>(&row, 0, "a name").unwrap()));
            }
        }
        let known: BTreeSet<_> = TABLES
            .iter()
            .flat_map(|table| {
                table
                    .names()
                    .map(|name| (table.name.to_owned(), name.to_owned()))
            })
            .collect();
        assert_eq!(known, there);
    }
}
