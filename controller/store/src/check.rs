//! Whether what is stored is what it should be: what no program of ours writes otherwise, but hands and disks may.

use krater_controller_core::query::TreeFilter;
use sqlx::AssertSqlSafe;

use crate::{Store, StoreError, migrate::SCHEMA, row::column};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The schema.
    pub schema: i64,
    /// How many load balancers there are.
    pub load_balancers: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, as a sentence.
    pub what: String,
    /// What to do about it, as a sentence.
    pub advice: &'static str,
}

impl Store {
    /// Looks at everything that is stored.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be looked at.
    pub async fn check(
        &self,
        progress: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Checked, StoreError> {
        let doing = "check what is stored";
        let mut findings = Vec::new();
        for question in QUESTIONS {
            progress(question.what);
            let text = format!(
                "SELECT COUNT(*), COALESCE(MIN({}), '') FROM {}",
                question.example, question.from
            );
            let rows = self.all(doing, sqlx::query(AssertSqlSafe(text))).await?;
            let Some(found) = rows.first() else { continue };
            let count: i64 = column(found, 0, "a count")?;
            if count > 0 {
                let example: String = column(found, 1, "an example")?;
                findings.push(Finding {
                    what: format!("{} ({count} of them, e.g. {example})", question.what),
                    advice: question.advice,
                });
            }
        }
        progress("documents that cannot be read");
        let ids = "SELECT id FROM resource WHERE kind = 'load_balancer' ORDER BY id";
        let mut load_balancers = 0;
        for found in &self.all(doing, sqlx::query(ids)).await? {
            load_balancers += 1;
            let id = crate::row::read_id(found, 0, "an id")?;
            let filter = TreeFilter {
                load_balancer: Some(krater_amphora_api::LoadBalancerId::new(id)),
                ..TreeFilter::default()
            };
            if let Err(error) = readable(self.views(&filter).await)? {
                findings.push(Finding {
                    what: format!("load balancer {id} cannot be read: {error}"),
                    advice: "restore it from a backup, or delete its rows from the table resource",
                });
            }
        }
        let rest = [
            ("statistics", readable(self.all_tallies().await.map(drop))?),
            ("the catalogue", readable(self.catalogue().await.map(drop))?),
            ("quotas", readable(self.quotas().await.map(drop))?),
            ("amphorae", readable(self.amphorae().await.map(drop))?),
        ];
        for (what, outcome) in rest {
            if let Err(error) = outcome {
                findings.push(Finding {
                    what: format!("{what} cannot be read: {error}"),
                    advice: "restore the database from a backup",
                });
            }
        }
        Ok(Checked {
            schema: SCHEMA,
            load_balancers,
            findings,
        })
    }
}

/// Tells what cannot be read from a database that does not answer.
fn readable<T>(result: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match result {
        Err(error @ StoreError::Unreadable { .. }) => Ok(Err(error)),
        Err(error) => Err(error),
        Ok(value) => Ok(Ok(value)),
    }
}

/// A question whose answer should be: none.
struct Question {
    what: &'static str,
    /// What tells which ones, and where they are found.
    example: &'static str,
    from: &'static str,
    advice: &'static str,
}

const REMOVE: &str = "remove these rows: nothing refers to them";
const RESTORE: &str = "restore the database from a backup";

const QUESTIONS: &[Question] = &[
    Question {
        what: "resources without their load balancer",
        example: "r.id",
        from: "resource r LEFT JOIN resource l ON l.id = r.load_balancer_id AND l.kind = 'load_balancer'
            WHERE l.id IS NULL",
        advice: REMOVE,
    },
    Question {
        what: "load balancers that belong to others",
        example: "id",
        from: "resource WHERE kind = 'load_balancer' AND load_balancer_id <> id",
        advice: RESTORE,
    },
    Question {
        what: "resources that are newer than their load balancer",
        example: "r.id",
        from: "resource r JOIN resource l ON l.id = r.load_balancer_id WHERE r.generation > l.generation",
        advice: RESTORE,
    },
    Question {
        what: "load balancers that settled further than they were changed",
        example: "o.load_balancer_id",
        from: "observed o JOIN resource r ON r.id = o.load_balancer_id WHERE o.settled > r.generation",
        advice: "change or fail over the load balancer: its next change settles anew",
    },
    Question {
        what: "load balancers without an address",
        example: "r.id",
        from: "resource r WHERE r.kind = 'load_balancer'
            AND NOT EXISTS (SELECT 1 FROM vip v WHERE v.load_balancer_id = r.id AND v.amphora_id IS NULL)",
        advice: "delete the load balancer and create it again: others may get its address",
    },
    Question {
        what: "load balancers without a port",
        example: "r.id",
        from: "resource r WHERE r.kind = 'load_balancer'
            AND NOT EXISTS (SELECT 1 FROM vip_port v WHERE v.load_balancer_id = r.id)",
        advice: "delete the load balancer and create it again: others may get its port",
    },
    Question {
        what: "addresses of load balancers that are not there",
        example: "v.address",
        from: "vip v LEFT JOIN resource r ON r.id = v.load_balancer_id WHERE r.id IS NULL",
        advice: REMOVE,
    },
    Question {
        what: "placements on amphorae that are not there",
        example: "p.load_balancer_id",
        from: "placement p LEFT JOIN amphora a ON a.id = p.amphora_id WHERE a.id IS NULL",
        advice: "remove these rows: the load balancers are placed anew",
    },
    Question {
        what: "second placements on amphorae that are not there",
        example: "p.load_balancer_id",
        from: "companion p LEFT JOIN amphora a ON a.id = p.amphora_id WHERE a.id IS NULL",
        advice: "remove these rows: the load balancers are placed anew",
    },
    Question {
        what: "load balancers that are on one amphora twice",
        example: "c.load_balancer_id",
        from: "companion c JOIN placement p ON p.load_balancer_id = c.load_balancer_id AND p.amphora_id = c.amphora_id",
        advice: "remove these rows of companion: the load balancers are placed anew",
    },
    Question {
        what: "load balancers that have left the amphora they are on",
        example: "d.load_balancer_id",
        from: "departure d JOIN placement p ON p.load_balancer_id = d.load_balancer_id AND p.amphora_id = d.amphora_id",
        advice: "remove these rows of departure",
    },
    Question {
        what: "statistics of listeners that are not there",
        example: "t.listener_id",
        from: "tally t LEFT JOIN resource r ON r.id = t.listener_id AND r.kind = 'listener' WHERE r.id IS NULL",
        advice: REMOVE,
    },
    Question {
        what: "flavors and zones without their profile",
        example: "o.id",
        from: "offer o LEFT JOIN profile p ON p.id = o.profile_id AND p.family = o.family WHERE p.id IS NULL",
        advice: RESTORE,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Committed,
        fixture::{creation, new_database, tree},
    };

    #[tokio::test]
    async fn what_is_whole_is_found_so_and_what_hands_did_is_told_with_advice() {
        let shared = Store::connect(&new_database()).await.unwrap();
        for store in [Store::in_memory().await.unwrap(), shared] {
            for lb in 0..3 {
                let done = store.apply(&creation(tree(lb, 2))).await.unwrap();
                assert_eq!(done, Committed::Done);
            }
            let checked = store.check(&mut |_| ()).await.unwrap();
            assert_eq!((checked.load_balancers, checked.findings), (3, Vec::new()));
            for (text, what) in [
                (
                    "UPDATE resource SET generation = 7 WHERE kind = 'member'",
                    "newer than their",
                ),
                (
                    "DELETE FROM vip WHERE address LIKE '%.3'",
                    "without an address",
                ),
                (
                    "UPDATE resource SET document = '{' WHERE kind = 'pool'",
                    "cannot be read",
                ),
            ] {
                store.run("break", sqlx::query(text)).await.unwrap();
                let checked = store.check(&mut |_| ()).await.unwrap();
                let found = checked
                    .findings
                    .iter()
                    .any(|finding| finding.what.contains(what));
                assert!(found, "{what}: {:?}", checked.findings);
            }
        }
    }
}
