use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    task::yield_now,
    time::{Instant, timeout},
};

use super::*;

/// Far longer than anything here takes.
fn patience() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn no_more_places_are_given_than_there_are_whoever_keeps_them() {
    let places = Places::new(Some(2), 3);
    let first = places.take(0).unwrap();
    let second = places.take(1).unwrap();
    assert!(places.take(0).is_none() && places.take(2).is_none());
    assert!(!places.has_room(0));
    drop(first);
    // The worker keeps it for the next request, and for as many connections.
    assert_eq!((places.room(0), places.room(1)), (1, 0));
    assert!(places.has_room(0) && places.has_room(2));
    let again = places.take(0).unwrap();
    drop(again);
    // Another one needs it more.
    let third = places.take(2).unwrap();
    assert_eq!(places.room(0), 0);
    assert!(places.take(0).is_none());
    drop((second, third));
    assert_eq!(places.given.load(SeqCst), 2);
}

#[test]
fn any_number_of_places_costs_nothing_and_is_never_full() {
    let places = Places::new(None, 1);
    let held: Vec<_> = (0..100).map(|_| places.take(0).unwrap()).collect();
    assert!(held.into_iter().all(|held| !held.pass_on()));
    assert_eq!(places.room(0), usize::MAX);
}

#[tokio::test]
async fn who_waits_is_served_in_order_and_before_those_who_come_later() {
    let places = Places::new(Some(1), 2);
    let held = places.take(0).unwrap();
    let order = std::cell::RefCell::new(Vec::new());
    let wait = async |name: usize| {
        let place = places.wait(name % 2, patience()).await.unwrap();
        order.borrow_mut().push(name);
        yield_now().await;
        drop(place);
    };
    let free = async {
        while places.waiting() < 4 {
            yield_now().await;
        }
        drop(held);
        // Whoever comes now is behind them.
        assert!(places.take(0).is_none() && places.take(1).is_none());
        assert!(!places.has_room(0));
    };
    tokio::join!(wait(0), wait(1), wait(2), wait(3), free);
    assert_eq!(order.into_inner(), [0, 1, 2, 3]);
    assert_eq!(places.waiting(), 0);
    assert!(places.take(1).is_some());
}

#[tokio::test]
async fn nobody_waits_beyond_the_deadline_and_only_so_many_wait() {
    let places = Places::new(Some(1), 1);
    let held = places.take(0).unwrap();
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(matches!(places.wait(0, soon).await, Err(Busy)));
    assert!(Instant::now() >= soon);
    assert_eq!(places.waiting(), 0);
    places.waiting.fetch_add(MEMBER_QUEUE_MAX, SeqCst);
    assert!(matches!(places.wait(0, patience()).await, Err(Busy)));
    places.waiting.store(0, SeqCst);
    drop(held);
    assert!(places.wait(0, patience()).await.is_ok());
}

#[tokio::test]
async fn who_goes_away_waits_no_longer_and_keeps_nobody_waiting() {
    let places = Places::new(Some(1), 1);
    let held = places.take(0).unwrap();
    let mut gone = Box::pin(places.wait(0, patience()));
    let mut stays = Box::pin(places.wait(0, patience()));
    assert!(timeout(Duration::ZERO, gone.as_mut()).await.is_err());
    assert!(timeout(Duration::ZERO, stays.as_mut()).await.is_err());
    assert_eq!(places.waiting(), 2);
    // It was to be the next, and was told so.
    drop(held);
    drop(gone);
    assert!(stays.await.is_ok());
    assert_eq!(places.waiting(), 0);
}

#[tokio::test]
async fn a_change_of_their_number_is_felt_at_once() {
    let places = Places::new(Some(1), 2);
    let held = places.take(0).unwrap();
    let mut waiting = Box::pin(places.wait(1, patience()));
    assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
    places.set(Some(2));
    let second = waiting.await.unwrap();
    assert!(places.take(0).is_none());
    // Those beyond a lower number go on, and none follows them.
    places.set(Some(1));
    drop(held);
    assert!(places.take(0).is_none());
    drop(second);
    let one = places.take(1).unwrap();
    assert!(places.take(0).is_none());
    let mut waiting = Box::pin(places.wait(0, patience()));
    assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
    places.set(None);
    assert!(!waiting.await.unwrap().pass_on());
    drop(one);
}

#[test]
fn workers_that_compete_never_have_more_and_none_waits_for_ever() {
    const WORKERS: usize = 4;
    const LIMIT: u32 = 3;
    let places = Arc::new(Places::new(Some(LIMIT), WORKERS));
    let busy = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (places, busy) = (Arc::clone(&places), Arc::clone(&busy));
            thread::spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_time().build();
                runtime.unwrap().block_on(async {
                    let request = async || {
                        for round in 0..2_000_u32 {
                            let place = match places.take(worker) {
                                Some(place) => place,
                                None => places.wait(worker, patience()).await.unwrap(),
                            };
                            assert!(busy.fetch_add(1, SeqCst) < LIMIT);
                            if round % 3 == 0 {
                                yield_now().await;
                            }
                            busy.fetch_sub(1, SeqCst);
                            drop(place);
                        }
                    };
                    tokio::join!(request(), request(), request());
                });
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert_eq!(places.waiting(), 0);
    assert_eq!(places.given.load(SeqCst), LIMIT);
}
