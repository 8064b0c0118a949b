//! Two processes without their network: what is learned on one side, and what the other one makes of it.

use std::{net::SocketAddr, time::Duration};

use krater_amphora_api::{MemberId, SnapshotSpec};
use krater_amphora_core::{
    limits::PEER_MESSAGE_BYTES_MAX,
    peers::{HEADER_BYTES, Message, Placed, Told, read_header},
    snapshot::Snapshot,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::{LocalSet, spawn_local},
};
use uuid::Uuid;

use super::*;
use crate::world::PoolState;

/// One process.
struct Side {
    peers: Rc<Peers>,
    world: Arc<World>,
}

fn id(number: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{number:02}")
}

fn amphora(number: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(number))
}

/// A pool of sources, 10, and one of cookies, 20, each with three members.
fn spec(peers: &[u128]) -> SnapshotSpec {
    let members = |first: u8| -> Vec<_> {
        let numbers = first..first + 3;
        let member = |number| json!({"id": id(number), "address": "192.0.2.1", "port": number});
        numbers.map(member).collect()
    };
    let peers = peers.iter().map(|peer| json!({"amphora": amphora(*peer)}));
    let spec = json!({
        "load_balancer": id(1), "generation": 1, "vips": [{"address": "127.0.0.1"}], "listeners": [],
        "pools": [
            {"id": id(10), "protocol": "tcp", "members": members(11), "persistence": {"type": "source_ip"}},
            {"id": id(20), "protocol": "http", "members": members(21),
                "persistence": {"type": "app_cookie", "name": "sid"}},
        ],
        "session_peers": peers.collect::<Vec<_>>(),
    });
    serde_json::from_value(spec).unwrap()
}

impl Side {
    fn new(own: u128, spec: SnapshotSpec) -> Self {
        let peers = Rc::new(Peers::new(Arc::default()));
        peers.take_part(amphora(own));
        let mut side = Self {
            peers,
            world: Arc::default(),
        };
        side.apply(spec);
        spawn_local(Rc::clone(&side.peers).tell());
        side
    }

    fn apply(&mut self, spec: SnapshotSpec) {
        let snapshot = Snapshot::parse(spec).unwrap();
        let id = snapshot.load_balancer();
        let prepared = self.world.prepare(snapshot).unwrap();
        self.world = Arc::new(self.world.with(id, Some(prepared), 1));
        self.peers.follow(&self.world, Some(id));
    }

    fn pool(&self, number: u8) -> Arc<PoolState> {
        let id = id(number).parse().unwrap();
        Arc::clone(self.world.pools.get(&id).unwrap())
    }

    /// The member that a client comes to.
    fn home(&self, client: u8) -> MemberId {
        let pool = self.pool(10);
        let at = pool.choose(source(client), &[]).unwrap();
        pool.members[at].id
    }

    /// Whether the client is known, and so would come to the member of that name again.
    fn knows(&self, client: u8, home: MemberId) -> bool {
        // Whoever is not known goes round.
        (0..4).all(|_| self.home(client) == home)
    }

    fn learn(&self, session: &[u8], member: u8) {
        let pool = self.pool(20);
        let member = id(member).parse().unwrap();
        pool.app_cookie().unwrap().learn(session, member);
    }

    fn session(&self, session: &[u8]) -> Option<MemberId> {
        let pool = self.pool(20);
        let at = pool.app_cookie().unwrap().find(session)?;
        Some(pool.members[at].id)
    }

    fn taken(&self) -> u64 {
        self.peers.tallies.sessions.taken.read()
    }
}

fn source(client: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, client], 1))
}

fn connect(a: (&Side, u128), b: (&Side, u128)) {
    let (here, there) = duplex(64 * 1024);
    for (side, other, stream) in [(a.0, b.1, here), (b.0, a.1, there)] {
        let peers = Rc::clone(&side.peers);
        spawn_local(async move { peers.converse(amphora(other), stream).await });
    }
}

async fn a_while() {
    sleep(Duration::from_millis(500)).await;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn all_that_is_known_is_told_at_first_and_then_what_is_learned_on_either_side() {
    run(async {
        let (a, b) = (Side::new(1, spec(&[2])), Side::new(2, spec(&[1])));
        let homes: Vec<_> = (0..50).map(|client| a.home(client)).collect();
        a.learn(b"one", 22);
        connect((&a, 1), (&b, 2));
        a_while().await;
        for (client, home) in (0..50).zip(&homes) {
            assert_eq!(b.home(client), *home);
        }
        assert_eq!(b.session(b"one"), id(22).parse().ok());
        assert_eq!(b.session(b"two"), None);
        assert_eq!(b.taken(), 51);
        // From then on, each what the other one learns.
        a.learn(b"two", 23);
        b.learn(b"three", 21);
        let home = b.home(99);
        a_while().await;
        assert_eq!(b.session(b"two"), id(23).parse().ok());
        assert_eq!(a.session(b"three"), id(21).parse().ok());
        assert!(a.knows(99, home));
        assert_eq!(a.peers.connections(), [(amphora(2), true)]);
    });
}

#[test]
fn a_process_that_knows_nobody_goes_on_with_the_memory_of_the_one_that_does() {
    run(async {
        // The one that is older knows nobody.
        let a = Side::new(1, spec(&[2]));
        let b = Side::new(2, spec(&[1]));
        b.learn(b"one", 22);
        connect((&a, 1), (&b, 2));
        a_while().await;
        assert_eq!(a.session(b"one"), id(22).parse().ok());
        let key = |side: &Side| side.pool(20).learned().unwrap().key();
        assert_eq!(key(&a), key(&b));
    });
}

#[test]
fn members_and_pools_that_are_not_there_are_ignored_and_asked_for_when_they_come() {
    run(async {
        let a = Side::new(1, spec(&[2]));
        a.learn(b"one", 23);
        a.learn(b"two", 21);
        let mut fewer = spec(&[1]);
        fewer.pools[1].members.pop();
        let sources = fewer.pools.remove(0);
        let mut b = Side::new(2, fewer.clone());
        let home = a.home(7);
        connect((&a, 1), (&b, 2));
        a_while().await;
        assert_eq!(b.session(b"one"), None, "its member is not there");
        assert_eq!(b.session(b"two"), id(21).parse().ok());
        assert!(b.peers.tallies.sessions.ignored.read() > 0);
        let mut all = spec(&[1]);
        all.pools[0] = sources;
        all.pools[1].members.reverse();
        b.apply(all);
        a_while().await;
        assert_eq!(b.session(b"one"), id(23).parse().ok());
        assert!(b.knows(7, home));
        // A member that leaves takes its sessions along.
        b.apply(fewer);
        assert_eq!(b.session(b"one"), None);
    });
}

#[test]
fn pools_that_tell_other_clients_apart_tell_each_other_nothing() {
    run(async {
        let a = Side::new(1, spec(&[2]));
        let mut other = spec(&[1]);
        other.pools[1].persistence = Some(krater_amphora_api::PersistenceSpec::AppCookie {
            name: "other".into(),
        });
        let mut b = Side::new(2, other);
        a.learn(b"one", 23);
        connect((&a, 1), (&b, 2));
        a_while().await;
        assert_eq!((b.session(b"one"), b.taken()), (None, 0));
        // Once they do, all is told.
        b.apply(spec(&[1]));
        a_while().await;
        assert_eq!(b.session(b"one"), id(23).parse().ok());
    });
}

#[test]
fn whoever_carried_it_until_now_may_tell_what_it_learned_last() {
    run(async {
        let (a, mut b) = (Side::new(1, spec(&[2])), Side::new(2, spec(&[1])));
        connect((&a, 1), (&b, 2));
        a_while().await;
        b.apply(spec(&[3]));
        a.learn(b"one", 23);
        a.peers.flush().await;
        a_while().await;
        assert_eq!(b.session(b"one"), id(23).parse().ok());
        // Not for ever, and not when the load balancer is gone.
        sleep(SESSIONS_GRACE).await;
        b.peers.follow(&b.world, None);
        assert_eq!(b.peers.connections(), [(amphora(3), false)]);
        a_while().await;
        assert_eq!(a.peers.connections(), [(amphora(2), false)]);
    });
}

#[test]
fn who_comes_back_is_told_all_and_the_connection_before_it_ends() {
    run(async {
        let a = Side::new(1, spec(&[2]));
        let b = Side::new(2, spec(&[1]));
        a.learn(b"one", 22);
        connect((&a, 1), (&b, 2));
        a_while().await;
        let again = Side::new(2, spec(&[1]));
        connect((&a, 1), (&again, 2));
        a_while().await;
        assert_eq!(again.session(b"one"), id(22).parse().ok());
        assert_eq!(a.peers.state.borrow().lines.len(), 1);
        assert_eq!(b.peers.connections(), [(amphora(1), false)]);
        b.peers.end(false).await;
        again.peers.end(false).await;
        a_while().await;
        assert_eq!(a.peers.connections(), [(amphora(2), false)]);
    });
}

#[test]
fn the_next_process_goes_on_where_the_one_before_ended() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let a = Side::new(1, spec(&[]));
        a.peers.keep_in(folder.path());
        a.learn(b"one", 22);
        a.learn(b"two", 23);
        let homes: Vec<_> = (0..20).map(|client| a.home(client)).collect();
        a.peers.end(true).await;
        let file = folder.path().join("sessions");
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let mut fewer = spec(&[]);
        fewer.pools[1].members.pop();
        let b = Side::new(1, fewer);
        b.peers.keep_in(folder.path());
        for (client, home) in (0..20).zip(homes) {
            assert!(b.knows(client, home));
        }
        assert_eq!(b.session(b"one"), id(22).parse().ok());
        assert_eq!(b.session(b"two"), None, "its member is gone");
        // It is read once, and what is none does no harm.
        assert!(!file.exists());
        for bad in [
            &b""[..],
            b"x",
            b"01234567\x03\x00\x00\x00\x09short",
            &[0xff; 99],
        ] {
            std::fs::write(&file, bad).unwrap();
            let c = Side::new(1, spec(&[]));
            c.peers.keep_in(folder.path());
            assert_eq!(c.session(b"one"), None);
        }
        // Who hands over writes it before, and takes it back if nobody comes.
        b.peers.note().await;
        b.peers.take_back();
        assert!(!file.exists());
        b.peers.end(false).await;
        assert!(!file.exists());
    });
}

/// The other end of a connection, which says what it likes.
async fn stranger(side: &Side, as_peer: u128) -> DuplexStream {
    let (here, there) = duplex(1024 * 1024);
    let peers = Rc::clone(&side.peers);
    spawn_local(async move { peers.converse(amphora(as_peer), here).await });
    a_while().await;
    there
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    bytes
}

async fn next(stream: &mut DuplexStream) -> Message {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.unwrap();
    let (kind, length) = read_header(header).unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Message::read(kind, &body).unwrap()
}

fn told(pool: u8, check: u64, member: u8, clients: u32) -> Message {
    Message::Told(Told {
        pool: id(pool).parse().unwrap(),
        check,
        is_active: true,
        members: vec![id(member).parse().unwrap()],
        clients: (0..clients)
            .map(|set| Placed {
                place: krater_amphora_core::affinity::Place { set, tag: 1 },
                member: 0,
                age: 0,
            })
            .collect(),
    })
}

#[test]
fn what_is_no_message_ends_the_connection() {
    run(async {
        let too_long = u32::try_from(PEER_MESSAGE_BYTES_MAX + 1).unwrap();
        let mut header = vec![3];
        header.extend(too_long.to_be_bytes());
        let mut half = bytes_of(&told(10, 1, 11, 3));
        let last = half.len() - 1;
        half[4] -= 1;
        half.truncate(last);
        for bad in [header, half] {
            let a = Side::new(1, spec(&[2]));
            let mut stream = stranger(&a, 2).await;
            stream.write_all(&bad).await.unwrap();
            a_while().await;
            assert_eq!(a.peers.connections(), [(amphora(2), false)]);
            assert_eq!(a.peers.tallies.sessions.refused.read(), 1);
        }
    });
}

#[test]
fn who_is_silent_or_takes_nothing_is_let_go_of() {
    run(async {
        let a = Side::new(1, spec(&[2]));
        let _silent = stranger(&a, 2).await;
        assert_eq!(a.peers.connections(), [(amphora(2), true)]);
        sleep(Duration::from_secs(11)).await;
        assert_eq!(a.peers.connections(), [(amphora(2), false)]);
    });
}

#[test]
fn nothing_is_taken_before_both_have_agreed_nor_of_what_is_not_carried_together() {
    run(async {
        let mut a = Side::new(1, spec(&[2]));
        let mut other = spec(&[3]);
        other.load_balancer = id(2).parse().unwrap();
        other.pools.remove(0);
        other.pools[0].id = id(30).parse().unwrap();
        a.apply(other);
        let mut stream = stranger(&a, 2).await;
        let mut offers = std::collections::BTreeMap::new();
        for _ in 0..2 {
            if let Message::Offer(pool, offer) = next(&mut stream).await {
                offers.insert(pool.to_string(), offer);
            }
        }
        // It hears of nothing that it does not carry.
        assert_eq!(offers.keys().cloned().collect::<Vec<_>>(), [id(10), id(20)]);
        let offer = offers[&id(10)];
        let check = offer.key.check();
        stream
            .write_all(&bytes_of(&told(10, check, 11, 4)))
            .await
            .unwrap();
        a_while().await;
        assert_eq!((a.taken(), a.peers.tallies.sessions.ignored.read()), (0, 4));
        for pool in [10, 30] {
            let agreed = Message::Offer(id(pool).parse().unwrap(), offer);
            stream.write_all(&bytes_of(&agreed)).await.unwrap();
            for check in [check, check + 1] {
                let told = told(pool, check, 11, 4);
                stream.write_all(&bytes_of(&told)).await.unwrap();
            }
        }
        a_while().await;
        assert_eq!(a.taken(), 4, "of the pool and the key that both agreed on");
        assert_eq!(a.peers.tallies.sessions.ignored.read(), 16);
    });
}

#[test]
fn what_there_is_no_room_for_is_told_with_all_the_rest() {
    run(async {
        let a = Side::new(1, spec(&[2]));
        let mut stream = stranger(&a, 2).await;
        let mut agreed = None;
        while agreed.is_none() {
            if let Message::Offer(pool, offer) = next(&mut stream).await
                && pool.to_string() == id(20)
            {
                agreed = Some(Message::Offer(pool, offer));
            }
        }
        stream.write_all(&bytes_of(&agreed.unwrap())).await.unwrap();
        a_while().await;
        // It takes nothing for a while.
        for round in 0..1_000_u32 {
            for number in 0..200_u32 {
                a.learn(&(round * 200 + number).to_be_bytes(), 21);
            }
            a.peers.tell_now();
        }
        assert!(a.peers.tallies.sessions.deferred.read() > 0);
        let mut clients = std::collections::BTreeSet::new();
        let drained = async {
            loop {
                if let Message::Told(told) = next(&mut stream).await {
                    clients.extend(told.clients.iter().map(|client| client.place));
                }
            }
        };
        let _ = timeout(Duration::from_secs(3), drained).await;
        let learned = a.pool(20);
        let learned = learned.learned().unwrap();
        let known = (0..krater_amphora_core::affinity::Memory::PARTS)
            .flat_map(|part| learned.part(part, true))
            .flat_map(|told| told.clients);
        let missed = known.filter(|client| !clients.contains(&client.place));
        assert_eq!(missed.count(), 0);
    });
}
