use std::{net::TcpListener, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    time::timeout,
};

use super::*;
use crate::{
    http,
    testbed::{Bed, PATIENCE, named},
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
    let common = Common::new(1, Duration::from_secs(1));
    common.world.store(bed.plane.world());
    let bugs = Arc::clone(&common.bugs);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async move {
        let local = Local::new(0, common);
        let seat = local.seat(state.listener.id).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || async {
            let client = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let peer = client.local_addr().unwrap();
            drop(listener.accept().unwrap());
            (client, peer)
        };
        let guest = || async {
            // The workers of the bed take the place for the moment of a look at their sockets.
            let free = seat.state.shared.limit.take_when_free();
            timeout(PATIENCE, free).await.unwrap();
            Guest::new(&local, &seat)
        };
        let broken = spawn_local(guest().await.attend(|_| async {
            panic!("an invariant was broken");
        }));
        assert!(broken.await.unwrap_err().is_panic());
        local.roll(seat.state.listener.id).emptied().await;
        let (stream, peer) = pair().await;
        let ends = http::Ends::new(&stream, peer, bed.vip);
        spawn_local(
            guest()
                .await
                .attend(move |guest| http::serve(guest, stream, ends)),
        )
        .await
        .unwrap();
    });
    assert_eq!(bugs.load(Ordering::Relaxed), 1);
}
