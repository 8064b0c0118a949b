//! Tests with real files: what survives, and what is said when something is wrong.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, path::Path};

use krater_amphora_api::Generation;
use krater_controller_core::query::{ResourceId, TreeFilter};
use tempfile::tempdir;

use super::url_of;
use crate::{Committed, Outcome, Settled, Settlement, Store, StoreError, fixture::*};

async fn names(store: &Store) -> Vec<String> {
    let views = store.views(&TreeFilter::default()).await.unwrap();
    views
        .iter()
        .map(|view| view.tree.load_balancer.value.name.to_string())
        .collect()
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening_and_only_the_owner_may_read_it() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("krater.db");
    let store = Store::open(&path).await.unwrap();
    assert_eq!(
        store.apply(&creation(tree(0, 3))).await.unwrap(),
        Committed::Done
    );
    store.close().await;
    assert!(matches!(
        store.tree(ResourceId::LoadBalancer(lb_id(0))).await,
        Err(StoreError::Closed)
    ));
    let store = Store::open(&path).await.unwrap();
    assert_eq!(
        store
            .tree(ResourceId::LoadBalancer(lb_id(0)))
            .await
            .unwrap(),
        Some(tree(0, 3))
    );
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_copy_of_the_files_taken_at_any_moment_opens_with_all_that_was_answered() {
    // What a SIGKILL leaves: the files as they are, nobody having closed anything.
    let dir = tempdir().unwrap();
    let path = dir.path().join("krater.db");
    let store = Store::open(&path).await.unwrap();
    for lb in 0..20 {
        assert_eq!(
            store.apply(&creation(tree(lb, 1))).await.unwrap(),
            Committed::Done
        );
        let copy = tempdir().unwrap();
        for name in ["krater.db", "krater.db-wal"] {
            std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let found = names(&Store::open(&copy.path().join("krater.db")).await.unwrap()).await;
        assert_eq!(found.len(), lb as usize + 1);
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_in_the_middle_of_writing() {
    use std::io::BufRead as _;
    let dir = tempdir().unwrap();
    let path = dir.path().join("krater.db");
    for round in 1..=3_usize {
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "engine::embedded::tests::writer_to_be_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(DATABASE, &path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines();
        let answered = lines
            .map(Result::unwrap)
            .filter(|line| line.ends_with("stored"));
        assert_eq!(answered.take(20).count(), 20);
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store = Store::open(&path).await.unwrap();
        let views = store.views(&TreeFilter::default()).await.unwrap();
        assert!(
            views.len() >= round * 20,
            "{} in round {round}",
            views.len()
        );
        assert!(
            views.iter().all(|view| view.tree.members.len() == 10),
            "each is whole"
        );
        assert_eq!(store.taken_addresses().await.unwrap().len(), views.len());
        store.close().await;
    }
}

#[tokio::test]
#[ignore = "it writes until it is killed, by the test above"]
async fn writer_to_be_killed() {
    let store = Store::open(Path::new(&std::env::var_os(DATABASE).unwrap()))
        .await
        .unwrap();
    let first = u32::try_from(names(&store).await.len()).unwrap();
    for lb in first.. {
        assert_eq!(
            store.apply(&creation(tree(lb, 10))).await.unwrap(),
            Committed::Done
        );
        println!("{lb} stored");
    }
}

const DATABASE: &str = "KRATER_TEST_DATABASE";

#[tokio::test]
async fn a_path_may_have_any_characters() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("state of ?mode=ro#%41 {x}:ü.db");
    let store = Store::open(&path).await.unwrap();
    assert_eq!(
        store.apply(&creation(tree(0, 0))).await.unwrap(),
        Committed::Done
    );
    store.close().await;
    assert!(path.metadata().unwrap().len() > 0);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no other file was made"
    );
    assert!(
        url_of(Path::new("relative.db"))
            .unwrap()
            .starts_with("sqlite:/")
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("krater.db");
    let text = "this is a letter to my aunt\n".repeat(200);
    std::fs::write(&path, &text).unwrap();
    let refused = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NotADatabase { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("move it away"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_alone() {
    use sqlx::Connection as _;
    let dir = tempdir().unwrap();
    let path = dir.path().join("other.db");
    std::fs::write(&path, "").unwrap();
    sqlx::any::install_default_drivers();
    let mut other = sqlx::AnyConnection::connect(&url_of(&path).unwrap())
        .await
        .unwrap();
    sqlx::raw_sql("CREATE TABLE theirs (x BIGINT)")
        .execute(&mut other)
        .await
        .unwrap();
    other.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NotADatabase { .. }),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_database_is_refused_with_advice() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("krater.db");
    let store = Store::open(&path).await.unwrap();
    for lb in 0..50 {
        assert_eq!(
            store.apply(&creation(tree(lb, 20))).await.unwrap(),
            Committed::Done
        );
    }
    store.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3 * 4096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let refused = Store::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("restore it from a backup"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_schema_of_a_newer_release_is_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("krater.db");
    let store = Store::open(&path).await.unwrap();
    store
        .run(
            "",
            sqlx::query("INSERT INTO schema_version (version) VALUES (7007)"),
        )
        .await
        .unwrap();
    store.close().await;
    let refused = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 7007, known } if known < 7007),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("start the newer release"),
        "{refused}"
    );
}

#[tokio::test]
async fn without_space_nothing_is_lost_and_with_space_again_all_goes_on() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("krater.db")).await.unwrap();
    assert_eq!(
        store.apply(&creation(tree(0, 3))).await.unwrap(),
        Committed::Done
    );
    limit_pages(&store, "PRAGMA max_page_count = 40").await;
    let mut stored = 1;
    let refused = loop {
        match store.apply(&creation(tree(stored, 50))).await {
            Ok(Committed::Done) => stored += 1,
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, StoreError::DiskFull { .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("no space is left"),
        "{refused}"
    );
    assert!(refused.to_string().contains("free some"), "{refused}");
    assert_eq!(
        names(&store).await.len(),
        stored as usize,
        "reading goes on"
    );
    for _ in 0..3 {
        assert!(matches!(
            store.apply(&creation(tree(stored, 50))).await,
            Err(StoreError::DiskFull { .. })
        ));
    }
    limit_pages(&store, "PRAGMA max_page_count = 100000").await;
    assert_eq!(
        store.apply(&creation(tree(stored, 50))).await.unwrap(),
        Committed::Done
    );
    assert_eq!(names(&store).await.len(), stored as usize + 1);
}

#[tokio::test]
async fn a_read_only_database_says_so() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("krater.db")).await.unwrap();
    limit_pages(&store, "PRAGMA query_only = ON").await;
    let refused = store.apply(&creation(tree(0, 0))).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::ReadOnly { .. }),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("cannot be written"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_directory_that_is_missing_or_cannot_hold_files_is_named() {
    let dir = tempdir().unwrap();
    for path in [
        dir.path().join("missing/krater.db"),
        Path::new("/proc/krater.db").to_owned(),
        dir.path().to_owned(),
    ] {
        let refused = Store::open(&path).await.unwrap_err();
        let named = matches!(
            refused,
            StoreError::Unopenable { .. } | StoreError::ReadOnly { .. }
        );
        assert!(
            named && refused.to_string().contains(path.to_str().unwrap()),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_directory_of_somebody_else_says_so() {
    if modes_do_not_bind_us() {
        // Modes do not bind root.
        return;
    }
    let dir = tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let refused = Store::open(&dir.path().join("krater.db"))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, StoreError::ReadOnly { .. }),
        "{refused:?}"
    );
}

fn modes_do_not_bind_us() -> bool {
    let dir = tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    std::fs::write(dir.path().join("x"), "").is_ok()
}

async fn limit_pages(store: &Store, pragma: &'static str) {
    let mut guard = store.embedded().inner.link.lock().await;
    sqlx::raw_sql(pragma)
        .execute(&mut guard.as_mut().unwrap().connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn who_asks_does_not_wait_for_who_writes_and_sees_all_that_was_committed() {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("krater.db")).await.unwrap();
    for stored in 0..12 {
        let done = store.apply(&creation(tree(stored, 1))).await.unwrap();
        assert_eq!(done, Committed::Done);
        let writing = store.begin("hold the connection").await.unwrap();
        // More of them than there are connections.
        let ask = async || names(&store).await.len();
        let all = tokio::join!(ask(), ask(), ask(), ask(), ask(), ask());
        let expected = usize::try_from(stored).unwrap() + 1;
        assert_eq!(
            all,
            (expected, expected, expected, expected, expected, expected)
        );
        writing.rollback().await.unwrap();
    }
    // Nor does one of these write.
    let text = "DELETE FROM resource";
    assert!(store.all("write", sqlx::query(text)).await.is_err());
    assert_eq!(names(&store).await.len(), 12);
}

#[tokio::test]
async fn what_was_promised_waits_for_the_disk_and_what_was_learned_does_not() {
    const NORMAL: i64 = 1;
    const FULL: i64 = 2;
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("krater.db")).await.unwrap();
    let synchronous = async || -> i64 {
        let mut guard = store.embedded().inner.link.lock().await;
        let connection = &mut guard.as_mut().unwrap().connection;
        let statement = sqlx::query("PRAGMA synchronous");
        let row = statement.fetch_one(connection).await.unwrap();
        sqlx::Row::get(&row, 0)
    };
    let settlement = Settlement {
        load_balancer: lb_id(0),
        generation: Generation::FIRST,
        outcome: Outcome::Applied,
        errors: BTreeMap::new(),
        due_at: None,
        attempts: 0,
    };
    assert_eq!(synchronous().await, FULL);
    for lb in 0..2 {
        let done = store.apply(&creation(tree(lb, 1))).await.unwrap();
        assert_eq!((done, synchronous().await), (Committed::Done, FULL));
        let settled = store.settle(&settlement).await.unwrap();
        assert_eq!((settled, synchronous().await), (Settled::Done, NORMAL));
        store
            .put_operating(lb_id(0), &BTreeMap::new(), at(1), at(1))
            .await
            .unwrap();
        assert_eq!(synchronous().await, NORMAL);
    }
    store.forget(lb_id(1)).await.unwrap();
    assert_eq!(synchronous().await, FULL);
}
