//! Many write at once on a real file: how often the log is committed, who is told what, and what is there afterwards.

use std::{future::Future, path::Path, pin::Pin, task::Poll};

use krater_controller_core::query::{ResourceId, TreeFilter};
use tempfile::{TempDir, tempdir};

use super::{super::super::Durability, *};
use crate::{Committed, Store, fixture::*};

type Answer = Result<Committed, StoreError>;
type Writing = Pin<Box<dyn Future<Output = Answer> + Send>>;

async fn store() -> (TempDir, Store) {
    let dir = tempdir().unwrap();
    let store = Store::open(&dir.path().join("krater.db")).await.unwrap();
    // All of the log since it was opened is to be there.
    raw(&store, "PRAGMA wal_autocheckpoint = 0").await;
    (dir, store)
}

async fn raw(store: &Store, text: &'static str) {
    let mut connection = store.embedded().link().await.unwrap();
    connection.batch("prepare a test", text).await.unwrap();
}

/// Commits in the log: its frames that say how large the database is (<https://sqlite.org/fileformat.html#walformat>).
fn commits(dir: &Path) -> usize {
    let log = std::fs::read(dir.join("krater.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[32..].chunks_exact(24 + page);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

fn write(store: &Store, lb: u32, members: u32) -> Writing {
    let store = store.clone();
    Box::pin(async move { store.apply(&creation(tree(lb, members))).await })
}

async fn put(store: &Store, lb: u32, members: u32) {
    let done = write(store, lb, members).await.unwrap();
    assert_eq!(done, Committed::Done);
}

/// Has all of them wait in this order, and only then lets them go on.
async fn at_once(store: &Store, mut writing: Vec<Writing>) -> Vec<tokio::task::JoinHandle<Answer>> {
    let held = store.begin("hold the connection").await.unwrap();
    for (number, one) in writing.iter_mut().enumerate() {
        std::future::poll_fn(|context| {
            assert!(one.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(
            store.embedded().inner.waiting.load(Ordering::Relaxed),
            number + 1
        );
    }
    held.rollback().await.unwrap();
    writing.into_iter().map(tokio::spawn).collect()
}

async fn stored(store: &Store) -> Vec<u32> {
    let views = store.views(&TreeFilter::default()).await.unwrap();
    let ids: Vec<_> = views.iter().map(|view| view.tree.id()).collect();
    (0..100).filter(|lb| ids.contains(&lb_id(*lb))).collect()
}

#[tokio::test]
async fn those_who_wait_together_are_committed_together() {
    let (dir, store) = store().await;
    let before = commits(dir.path());
    put(&store, 50, 2).await;
    assert_eq!(commits(dir.path()), before + 1, "alone it waits for nobody");
    let writing = (0..8).map(|lb| write(&store, lb, 2)).collect();
    for answer in at_once(&store, writing).await {
        assert_eq!(answer.await.unwrap().unwrap(), Committed::Done);
    }
    assert_eq!(commits(dir.path()), before + 2);
    assert_eq!(stored(&store).await, [0, 1, 2, 3, 4, 5, 6, 7, 50]);
    assert_eq!(store.taken_addresses().await.unwrap().len(), 9);
}

#[tokio::test]
async fn one_that_is_refused_takes_nobody_along() {
    let (dir, store) = store().await;
    let before = commits(dir.path());
    // The third, and the last, want what the first has.
    let writing = [0, 1, 0, 2, 0].map(|lb| write(&store, lb, 2)).into();
    let mut answers = Vec::new();
    for answer in at_once(&store, writing).await {
        answers.push(answer.await.unwrap().unwrap());
    }
    let done = Committed::Done;
    let lost = Committed::LostRace;
    assert_eq!(answers, [done, done, lost, done, lost]);
    assert_eq!(stored(&store).await, [0, 1, 2]);
    assert!(commits(dir.path()) <= before + 2);
    // Nothing is left open.
    put(&store, 3, 0).await;
    assert_eq!(stored(&store).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn one_that_is_dropped_at_any_moment_takes_nobody_along() {
    for patience in 0..40 {
        let (_dir, store) = store().await;
        let writing = (0..4).map(|lb| write(&store, lb, 1)).collect();
        let answers = at_once(&store, writing).await;
        for _ in 0..patience {
            tokio::task::yield_now().await;
        }
        answers[0].abort();
        answers[2].abort();
        for (lb, answer) in (0..).zip(answers) {
            match answer.await {
                Ok(answer) => assert_eq!(answer.unwrap(), Committed::Done, "{lb}"),
                Err(error) => assert!(error.is_cancelled() && lb % 2 == 0),
            }
        }
        // Whoever was dropped late may be stored, but whole, and nothing stays open.
        put(&store, 9, 0).await;
        let there = stored(&store).await;
        assert!([1, 3, 9].iter().all(|lb| there.contains(lb)), "{there:?}");
        for lb in there.iter().copied().filter(|lb| *lb < 4) {
            let id = ResourceId::LoadBalancer(lb_id(lb));
            assert_eq!(store.tree(id).await.unwrap(), Some(tree(lb, 1)));
        }
        assert_eq!(store.taken_addresses().await.unwrap().len(), there.len());
    }
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_is_told_to_those_whom_it_befell() {
    let (_dir, store) = store().await;
    put(&store, 50, 1).await;
    raw(&store, "PRAGMA max_page_count = 60").await;
    // Each fits alone, some of them together, and one never.
    let writing = (0..8).map(|lb| write(&store, lb, if lb == 5 { 900 } else { 12 }));
    let mut done = vec![50];
    for (lb, answer) in (0..).zip(at_once(&store, writing.collect()).await) {
        match answer.await.unwrap() {
            Ok(Committed::Done) => done.push(lb),
            Err(StoreError::DiskFull { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    done.sort_unstable();
    assert!(!done.contains(&5));
    assert_eq!(stored(&store).await, done);
    assert_eq!(store.taken_addresses().await.unwrap().len(), done.len());
    raw(&store, "PRAGMA max_page_count = 100000").await;
    put(&store, 9, 12).await;
    assert!(stored(&store).await.contains(&9));
}

#[tokio::test]
async fn what_is_promised_is_never_part_of_what_may_be_forgotten() {
    let (_dir, store) = store().await;
    let learning = store.begin_as(Durability::Learned, "learn").await.unwrap();
    let mut promising = write(&store, 0, 1);
    std::future::poll_fn(|context| {
        assert!(promising.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    // It is wanted, so it waits to be committed with others; whoever promises does not join it.
    let learned = tokio::spawn(learning.commit("learn"));
    assert_eq!(promising.await.unwrap(), Committed::Done);
    learned.await.unwrap().unwrap();
    let link = store.embedded().link().await.unwrap();
    assert_eq!(
        link.guard.as_ref().unwrap().durability,
        Durability::Promised
    );
}

#[tokio::test]
async fn closing_commits_what_waits() {
    let (dir, store) = store().await;
    let writing = (0..3).map(|lb| write(&store, lb, 1)).collect();
    let answers = at_once(&store, writing).await;
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    let mut done = 0;
    for answer in answers {
        match answer.await.unwrap() {
            Ok(committed) => {
                assert_eq!(committed, Committed::Done);
                done += 1;
            }
            Err(error) => assert!(matches!(error, StoreError::Closed), "{error:?}"),
        }
    }
    closing.await.unwrap();
    let store = Store::open(&dir.path().join("krater.db")).await.unwrap();
    assert_eq!(stored(&store).await.len(), done);
}
