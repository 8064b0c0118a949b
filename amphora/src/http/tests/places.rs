//! Members that may have so many requests at once, and those that wait for them.

use std::sync::{Condvar, Mutex};

use futures_util::future::join_all;

use super::{
    streams::{ask, text, to, with_client},
    *,
};
use crate::world::MemberState;

/// Lets members answer.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().unwrap();
        let waited = self
            .opened
            .wait_timeout_while(open, PATIENCE, |open| !*open);
        assert!(!waited.unwrap().1.timed_out(), "the gate stays closed");
    }
}

/// A member that counts the requests it has at once, and answers when the gate is open.
struct Busy {
    address: SocketAddr,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    gate: Arc<Gate>,
}

impl Busy {
    fn start() -> Self {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Gate::default());
        let serve = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&gate));
        let address = http_member(move |request| {
            let (now, most, gate) = &serve;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.pass();
            now.fetch_sub(1, Ordering::SeqCst);
            ok(&request.start)
        });
        Self {
            address,
            now,
            most,
            gate,
        }
    }

    fn has(&self, requests: usize) {
        eventually("the member has them", || {
            self.now.load(Ordering::SeqCst) == requests
        });
    }
}

fn limited(members: &[SocketAddr], limit: u32) -> Bed {
    Bed::http(members).with(|spec| spec.pools[0].member_requests = Some(limit))
}

fn first_member(bed: &Bed) -> Arc<MemberState> {
    let world = bed.plane.world();
    Arc::clone(&world.pools.values().next().unwrap().members[0])
}

fn begin(bed: &Bed) -> Talk {
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client
}

#[test]
fn a_member_never_has_more_requests_than_it_may_and_all_are_answered() {
    let busy = Busy::start();
    let bed = limited(&[busy.address], 2);
    let member = first_member(&bed);
    let mut clients: Vec<_> = (0..8).map(|_| begin(&bed)).collect();
    busy.has(2);
    eventually("the others wait", || member.places.waiting() == 6);
    assert_eq!(member.meter.sum(|lane| &lane.queued), 6);
    busy.gate.open();
    for client in &mut clients {
        assert_eq!(client.read(Expect::Answer).status(), 200);
    }
    assert_eq!(busy.most.load(Ordering::SeqCst), 2);
    assert_eq!(member.places.waiting(), 0);
    // They come one after another over and over, and nobody is left behind.
    for _ in 0..10 {
        for client in &mut clients {
            assert_eq!(client.get("/again").status(), 200);
        }
    }
    assert_eq!(busy.most.load(Ordering::SeqCst), 2);
}

#[test]
fn requests_of_one_connection_wait_like_those_of_many() {
    let busy = Busy::start();
    let bed = limited(&[busy.address], 3);
    let member = first_member(&bed);
    with_client(bed.vip, async |client| {
        let asked = (0..60).map(|_| ask(&client, to("GET", "/"), b"", None));
        let open = async {
            while busy.now.load(Ordering::SeqCst) < 3 || member.places.waiting() < 57 {
                tokio::task::yield_now().await;
            }
            busy.gate.open();
        };
        let (answers, ()) = tokio::join!(join_all(asked), open);
        for answer in answers {
            assert_eq!(text(&answer.unwrap()), "GET / HTTP/1.1");
        }
    });
    assert_eq!(busy.most.load(Ordering::SeqCst), 3);
    assert!(member.meter.totals().connected <= 3);
}

#[test]
fn who_waits_in_vain_is_told_why_and_the_member_is_not_blamed() {
    let busy = Busy::start();
    let bed = Bed::http(&[busy.address]).with(|spec| {
        spec.pools[0].member_requests = Some(1);
        spec.listeners[0].timeouts.member_connect_ms = 50;
    });
    let member = first_member(&bed);
    let mut first = begin(&bed);
    busy.has(1);
    let mut second = begin(&bed);
    let answer = second.read(Expect::Answer);
    assert_eq!(
        (answer.status(), answer.header("x-krater-cause")),
        (503, Some("member_busy"))
    );
    assert_eq!(member.places.waiting(), 0);
    let failed = member.meter.failures().named();
    assert_eq!(failed.get("member_busy"), Some(&1));
    eventually("the listener counts it", || {
        bed.listener().failures.get("member_busy") == Some(&1)
    });
    assert_eq!(member.meter.totals().connect_failures, 0);
    // The connection goes on, and so does the member.
    busy.gate.open();
    assert_eq!(first.read(Expect::Answer).status(), 200);
    assert_eq!(second.get("/").status(), 200);
}

#[test]
fn who_goes_away_waits_no_longer() {
    let busy = Busy::start();
    let bed = limited(&[busy.address], 1);
    let member = first_member(&bed);
    let mut first = begin(&bed);
    busy.has(1);
    let waiting: Vec<_> = (0..3).map(|_| begin(&bed)).collect();
    eventually("they wait", || member.places.waiting() == 3);
    drop(waiting);
    eventually("they do not", || member.places.waiting() == 0);
    busy.gate.open();
    assert_eq!(first.read(Expect::Answer).status(), 200);
    assert_eq!(first.get("/").status(), 200);
    assert_eq!(member.meter.totals().requests, 2);
}

#[test]
fn a_request_goes_to_a_member_that_may_have_more() {
    let busy = [Busy::start(), Busy::start()];
    let bed = limited(&[busy[0].address, busy[1].address], 2);
    let mut clients: Vec<_> = (0..4).map(|_| begin(&bed)).collect();
    busy.iter().for_each(|busy| busy.has(2));
    // One of them has room again, and whoever comes finds it, whosever turn it is.
    busy[1].gate.open();
    let world = bed.plane.world();
    let relieved = &world.pools.values().next().unwrap().members[1];
    eventually("it has room", || relieved.places.has_room(0));
    for _ in 0..10 {
        let mut client = begin(&bed);
        assert_eq!(client.read(Expect::Answer).status(), 200);
    }
    assert_eq!(busy[0].now.load(Ordering::SeqCst), 2);
    assert_eq!(first_member(&bed).meter.sum(|lane| &lane.queued), 0);
    busy[0].gate.open();
    for client in &mut clients {
        assert_eq!(client.read(Expect::Answer).status(), 200);
    }
}

#[test]
fn a_tunnel_keeps_its_place_until_it_ends() {
    let bed = limited(
        &[member(|stream| {
            let mut talk = Talk::over(stream);
            while let Some(request) = talk.try_read(Expect::Request) {
                if request.header("upgrade").is_none() {
                    talk.send(&ok("plain"));
                    continue;
                }
                talk.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
                );
                let _ = talk.stream.read_to_end(&mut vec![]);
                return;
            }
        })],
        1,
    );
    let member = first_member(&bed);
    let mut tunnel = Talk::to(bed.vip);
    tunnel.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(tunnel.read(Expect::Answer).status(), 101);
    let mut other = begin(&bed);
    eventually("the other waits", || member.places.waiting() == 1);
    drop(tunnel);
    assert_eq!(other.read(Expect::Answer).text(), "plain");
}

#[test]
fn connections_that_wait_for_clients_of_one_thread_keep_out_no_others() {
    let (address, connections) = counting(paths);
    let bed = limited(&[address], 2);
    // Whichever threads they come to: each finds a place, though others keep idle connections.
    for _ in 0..30 {
        let mut clients: Vec<_> = (0..2).map(|_| begin(&bed)).collect();
        for client in &mut clients {
            assert_eq!(client.read(Expect::Answer).status(), 200);
        }
    }
    assert!(connections.load(Ordering::SeqCst) >= 2);
    let member = first_member(&bed);
    eventually("no more connections wait than may be used", || {
        member.meter.active() <= 2
    });
}
