//! Conduct of members through real sockets, of streams and of HTTP alike.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    time::Duration,
};

use krater_amphora_api::PassiveHealthSpec;
use socket2::SockRef;

use super::*;
use crate::testbed::{Bed, connect, eventually, member, member_on, nobody};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Tcp, Self::Http];

    fn bed(self, members: &[SocketAddr]) -> Bed {
        match self {
            Self::Tcp => Bed::tcp(members),
            Self::Http => Bed::http(members),
        }
    }

    /// What a member that says its name says, and how.
    fn answer(self, name: &str) -> String {
        match self {
            Self::Tcp => name.to_owned(),
            Self::Http => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{name}")
            }
        }
    }

    /// A member that says its name once it was asked.
    fn named(self, name: &'static str) -> SocketAddr {
        self.named_on("127.0.0.1:0".parse().unwrap(), name)
    }

    fn named_on(self, address: SocketAddr, name: &'static str) -> SocketAddr {
        member_on(address, move |mut stream| {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(self.answer(name).as_bytes());
        })
    }

    /// Asks for a name; whatever else the client gets is "".
    fn ask(self, bed: &Bed) -> String {
        let mut text = String::new();
        // It may be broken off.
        let _ = self.begin(bed).read_to_string(&mut text);
        text.chars()
            .next_back()
            .filter(|last| last.is_ascii_lowercase())
            .map_or_else(String::new, String::from)
    }

    /// Connects and asks.
    fn begin(self, bed: &Bed) -> TcpStream {
        let mut stream = bed.connect();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream
    }
}

fn passive(failures: u32, out_ms: u32) -> Option<PassiveHealthSpec> {
    Some(PassiveHealthSpec {
        failures,
        out_ms,
        out_max_ms: 3_600_000,
        share_percent: 100,
    })
}

fn state(bed: &Bed, position: usize) -> Arc<MemberState> {
    let world = bed.plane.world();
    let pool = world.pools.values().next().unwrap();
    Arc::clone(&pool.members[position])
}

fn is_out(bed: &Bed, position: usize) -> bool {
    let report = bed.plane.report(bed.spec.load_balancer).unwrap();
    report.pools[0].members[position].out
}

/// Asks until a member raises the alarm, and heeds it.
fn until_alarm(kind: Kind, bed: &mut Bed, alarms: &mut mpsc_alarms::Receiver) -> MemberId {
    let mut heard = None;
    eventually("an alarm", || {
        kind.ask(bed);
        heard = alarms.try_recv().ok();
        heard.is_some()
    });
    let alarm = heard.unwrap();
    bed.plane.handle_alarm(alarm);
    alarm.member
}

mod mpsc_alarms {
    pub(super) type Receiver = tokio::sync::mpsc::UnboundedReceiver<crate::world::Alarm>;
}

#[test]
fn who_refuses_is_taken_out_and_comes_back_on_probation() {
    for kind in Kind::ALL {
        let dead = nobody();
        let mut bed = kind
            .bed(&[kind.named("a"), dead])
            .with(|spec| spec.pools[0].passive_health = passive(3, 3_600_000));
        let mut alarms = bed.plane.alarms().unwrap();
        assert_eq!(until_alarm(kind, &mut bed, &mut alarms), state(&bed, 1).id);
        assert!(is_out(&bed, 1) && !is_out(&bed, 0));
        let failures = || state(&bed, 1).meter.sum(|lane| &lane.connect_failures);
        let before = failures();
        assert!((0..8).all(|_| kind.ask(&bed) == "a"));
        assert_eq!(failures(), before, "nobody is sent there");
        // A probe that succeeds takes it back; its next failure is one too many.
        let (pool, id) = (bed.spec.pools[0].id, state(&bed, 1).id);
        bed.plane.handle_probe_success(pool, id);
        assert!(!is_out(&bed, 1));
        until_alarm(kind, &mut bed, &mut alarms);
        assert_eq!(
            state(&bed, 1).meter.sum(|lane| &lane.connect_failures),
            before + 1
        );
        assert!(is_out(&bed, 1));
        // When it works again, it stays.
        kind.named_on(dead, "b");
        bed.plane.handle_probe_success(pool, id);
        let answers: String = (0..8).map(|_| kind.ask(&bed)).collect();
        assert_eq!(answers.matches('b').count(), 4, "{answers}");
        assert!(alarms.try_recv().is_err());
        let ejections = state(&bed, 1).meter.sum(|lane| &lane.ejections);
        assert_eq!(ejections, 2);
    }
}

#[test]
fn who_resets_before_saying_anything_is_taken_out_and_comes_back_by_itself() {
    for kind in Kind::ALL {
        let reset = member(|stream| {
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        });
        let mut bed = kind
            .bed(&[kind.named("a"), reset])
            .with(|spec| spec.pools[0].passive_health = passive(2, 1));
        let mut alarms = bed.plane.alarms().unwrap();
        until_alarm(kind, &mut bed, &mut alarms);
        assert!(is_out(&bed, 1));
        eventually("it comes back", || {
            bed.plane.handle_time();
            !is_out(&bed, 1)
        });
    }
}

#[test]
fn the_last_one_and_those_not_asked_about_stay() {
    for kind in Kind::ALL {
        let mut bed = kind.bed(&[nobody()]).with(|spec| {
            spec.listeners[0].timeouts.member_connect_ms = 5;
            spec.pools[0].passive_health = passive(1, 1_000);
        });
        let mut alarms = bed.plane.alarms().unwrap();
        until_alarm(kind, &mut bed, &mut alarms);
        assert!(!is_out(&bed, 0), "the only one there is");
        bed.edit(|spec| spec.pools[0].passive_health = None);
        kind.ask(&bed);
        assert!(alarms.try_recv().is_err());
        // A setting that ends ends what it began.
        let mut bed = kind
            .bed(&[kind.named("a"), nobody()])
            .with(|spec| spec.pools[0].passive_health = passive(1, 3_600_000));
        let mut alarms = bed.plane.alarms().unwrap();
        until_alarm(kind, &mut bed, &mut alarms);
        assert!(is_out(&bed, 1));
        bed.edit(|spec| spec.pools[0].passive_health = None);
        assert!(!is_out(&bed, 1));
        assert_eq!(bed.plane.next_time(), None);
    }
}

#[test]
fn who_is_added_gets_a_part_of_its_share() {
    for kind in Kind::ALL {
        let mut bed = kind
            .bed(&[kind.named("a")])
            .with(|spec| spec.pools[0].slow_start_ms = 3_600_000);
        assert_eq!(
            bed.plane.next_time(),
            None,
            "who was there first has all of it"
        );
        let new = crate::testbed::member_spec(kind.named("b"));
        bed.edit(|spec| spec.pools[0].members.push(new));
        assert!(bed.plane.next_time().is_some());
        let answers: String = (0..34).map(|_| kind.ask(&bed)).collect();
        assert_eq!(answers.matches('b').count(), 2, "{answers}");
        bed.edit(|spec| spec.pools[0].slow_start_ms = 0);
        let answers: String = (0..10).map(|_| kind.ask(&bed)).collect();
        assert_eq!(answers.matches('b').count(), 5, "{answers}");
    }
}

#[test]
fn a_source_connects_no_more_often_than_it_may() {
    for kind in Kind::ALL {
        let mut bed = kind
            .bed(&[kind.named("a")])
            .with(|spec| spec.listeners[0].source_rate = Some(1));
        let answers: Vec<_> = (0..5).map(|_| kind.ask(&bed)).collect();
        assert_eq!(answers[0], "a");
        let refused = answers.iter().filter(|answer| answer.is_empty()).count();
        let shared = Arc::clone(&bed.plane.world().listeners.values().next().unwrap().shared);
        // A slow machine may let another second pass.
        assert!(refused >= 1);
        assert_eq!(shared.meter.sum(|lane| &lane.too_often), refused as u64);
        bed.edit(|spec| spec.listeners[0].source_rate = None);
        assert!((0..5).all(|_| kind.ask(&bed) == "a"));
    }
}

/// A member that answers once it is told to, and when its client has gone says so.
fn holding(kind: Kind) -> (SocketAddr, mpsc::Receiver<()>) {
    let (gone, is_gone) = mpsc::channel();
    let address = member(move |mut stream| {
        let head = match kind {
            Kind::Tcp => "x",
            Kind::Http => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        };
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(head.as_bytes());
        while let Ok(1..) = stream.read(&mut [0; 4_096]) {}
        let _ = gone.send(());
    });
    (address, is_gone)
}

/// Reads until the member's first byte.
fn await_answer(stream: &mut TcpStream) {
    let mut byte = [0; 1];
    while byte != *b"x" {
        stream.read_exact(&mut byte).unwrap();
    }
}

#[test]
fn connections_of_members_that_leave_end_when_their_time_is_up() {
    type Edit = fn(&mut krater_amphora_api::SnapshotSpec);
    let leaves: [Edit; 4] = [
        |spec| spec.pools[0].members[0].weight = 0,
        |spec| spec.pools[0].members[0].enabled = false,
        |spec| drop(spec.pools[0].members.remove(0)),
        |spec| spec.pools[0].members[0].port = 1,
    ];
    for (kind, leave) in Kind::ALL
        .into_iter()
        .flat_map(|kind| leaves.map(|leave| (kind, leave)))
    {
        let (address, is_gone) = holding(kind);
        let (other, other_is_gone) = holding(kind);
        let mut bed = kind.bed(&[address, other]).with(|spec| {
            spec.member_drain_ms = Some(0);
        });
        // One for each: they take turns.
        let mut streams = [kind.begin(&bed), kind.begin(&bed)];
        streams.iter_mut().for_each(await_answer);
        bed.edit(leave);
        assert!(bed.plane.next_time().is_some());
        assert!(
            is_gone.try_recv().is_err(),
            "its time is not up before it is looked at"
        );
        bed.plane.handle_time();
        is_gone.recv_timeout(crate::testbed::PATIENCE).unwrap();
        assert!(other_is_gone.try_recv().is_err());
        assert_eq!(bed.plane.next_time(), None);
        let active = || bed.listener().counters.active_connections;
        eventually("the client of the one has gone", || active() == 1);
    }
}

#[test]
fn who_comes_back_in_time_keeps_its_connections_and_without_a_time_all_do() {
    for kind in Kind::ALL {
        let (address, is_gone) = holding(kind);
        let mut bed = kind
            .bed(&[address])
            .with(|spec| spec.member_drain_ms = Some(3_600_000));
        let mut stream = kind.begin(&bed);
        await_answer(&mut stream);
        bed.edit(|spec| spec.pools[0].members[0].weight = 0);
        assert!(bed.plane.next_time().is_some());
        bed.edit(|spec| spec.pools[0].members[0].weight = 1);
        assert_eq!(bed.plane.next_time(), None);
        bed.edit(|spec| {
            spec.member_drain_ms = None;
            spec.pools[0].members.clear();
        });
        assert_eq!(bed.plane.next_time(), None);
        assert!(is_gone.try_recv().is_err());
        stream.shutdown(Shutdown::Both).unwrap();
        is_gone.recv_timeout(crate::testbed::PATIENCE).unwrap();
        drop(connect(bed.vip));
    }
}
