use std::{net::TcpListener, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::{
    testbed::{Bed, named},
    worker::Common,
};

#[test]
fn a_panic_ends_one_connection_gives_its_place_back_and_is_counted() {
    let bed = Bed::tcp(&[named("a")]).with(|spec| spec.listeners[0].connection_limit = 1);
    let state = bed
        .plane
        .world()
        .listeners
        .values()
        .next()
        .cloned()
        .unwrap();
    let common = Common {
        world: Arc::new(ArcSwap::new(bed.plane.world())),
        bugs: Arc::default(),
        exhaustions: Arc::default(),
        drain: Duration::from_secs(1),
    };
    let bugs = Arc::clone(&common.bugs);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async move {
        let worker = Worker::new(0, common);
        let seat = worker.seat(state.listener.id).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || async {
            let client = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let peer = client.local_addr().unwrap();
            drop(listener.accept().unwrap());
            (client, peer)
        };
        let guest = || {
            assert!(seat.state.shared.limit.take());
            Guest {
                worker: Rc::clone(&worker),
                seat: Rc::clone(&seat),
                ticket: worker.roll(seat.state.listener.id).enter(),
            }
        };
        let (stream, peer) = pair().await;
        let broken = spawn_local(attended(guest(), stream, peer, |_, _, _| async {
            panic!("an invariant was broken");
        }));
        assert!(broken.await.unwrap_err().is_panic());
        worker.roll(seat.state.listener.id).emptied().await;
        let (stream, peer) = pair().await;
        spawn_local(attended(guest(), stream, peer, tcp::serve))
            .await
            .unwrap();
    });
    assert_eq!(bugs.load(Ordering::Relaxed), 1);
}
