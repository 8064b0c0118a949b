use krater_amphora_api::{Algorithm, MemberHealth, PersistenceSpec, PoolProtocol};

use crate::testbed::{Bed, member_spec, named, nobody};

/// Members `a`, `b` and `c` by turns, and clients that are kept with theirs.
fn bed() -> Bed {
    let members = ["a", "b", "c"].map(named);
    Bed::tcp(&members).with(|spec| {
        spec.pools[0].persistence = Some(PersistenceSpec::SourceIp {
            timeout_seconds: None,
            granularity: None,
        });
    })
}

/// Where the client goes, by several connections, which the kernel spreads over the workers.
fn home(bed: &Bed) -> String {
    let first = bed.ask();
    for _ in 0..12 {
        assert_eq!(bed.ask(), first);
    }
    first
}

fn position(name: &str) -> usize {
    ["a", "b", "c"].iter().position(|one| *one == name).unwrap()
}

#[test]
fn without_persistence_a_client_goes_round() {
    let bed = Bed::tcp(&["a", "b", "c"].map(named)).started();
    assert_ne!(bed.ask(), bed.ask());
}

#[test]
fn a_client_stays_over_all_workers_and_over_changes_of_everybody_else() {
    let mut bed = bed();
    let name = home(&bed);
    let at = position(&name);
    bed.edit(|spec| {
        let members = &mut spec.pools[0].members;
        members.insert(0, member_spec(named("d")));
        members.push(member_spec(named("e")));
    });
    assert_eq!(home(&bed), name, "members that come");
    bed.edit(|spec| {
        for (position, member) in spec.pools[0].members.iter_mut().enumerate() {
            member.weight = if position == at + 1 { 1 } else { 256 };
        }
        spec.pools[0].algorithm = Algorithm::SourceIp;
    });
    assert_eq!(home(&bed), name, "other weights, and another algorithm");
    bed.edit(|spec| {
        for (position, member) in spec.pools[0].members.iter_mut().enumerate() {
            member.weight = u16::from(position == at + 1);
        }
    });
    assert_eq!(home(&bed), name, "others that drain");
    bed.edit(|spec| {
        let own = spec.pools[0].members.remove(at + 1);
        spec.pools[0].members = vec![own, member_spec(named("f"))];
        spec.listeners[0].timeouts.client_data_ms = 1_234;
    });
    assert_eq!(home(&bed), name, "others that leave");
}

#[test]
fn a_member_that_drains_keeps_its_clients_and_a_disabled_one_does_not() {
    let mut bed = bed();
    let name = home(&bed);
    let at = position(&name);
    bed.edit(|spec| spec.pools[0].members[at].weight = 0);
    assert_eq!(home(&bed), name);
    bed.edit(|spec| spec.pools[0].members[at].enabled = false);
    let other = home(&bed);
    assert_ne!(other, name);
    bed.edit(|spec| {
        spec.pools[0].members[at].enabled = true;
        spec.pools[0].members[at].weight = 256;
    });
    assert_eq!(home(&bed), other, "who has moved does not move back");
}

#[test]
fn a_member_that_is_down_or_gone_loses_its_clients() {
    let mut bed = bed();
    let name = home(&bed);
    let at = position(&name);
    let (pool, member) = (bed.spec.pools[0].id, bed.spec.pools[0].members[at].id);
    bed.plane
        .set_member_health(pool, member, MemberHealth::Down, None);
    let second = home(&bed);
    assert_ne!(second, name);
    bed.plane
        .set_member_health(pool, member, MemberHealth::Up, None);
    assert_eq!(home(&bed), second);
    let at = position(&second);
    bed.edit(|spec| {
        spec.pools[0].members.remove(at);
    });
    assert_ne!(home(&bed), second);
    bed.edit(|spec| spec.pools[0].enabled = false);
    assert_eq!(bed.ask(), "", "a disabled pool serves nobody");
}

#[test]
fn a_member_that_cannot_be_reached_hands_its_client_on() {
    let mut bed = bed();
    let name = home(&bed);
    let at = position(&name);
    let mut lost = member_spec(nobody());
    lost.id = bed.spec.pools[0].members[at].id;
    bed.edit(|spec| spec.pools[0].members[at] = lost);
    let other = home(&bed);
    assert_ne!(other, name);
    assert_eq!(
        bed.listener().counters.total_connections,
        2 * 13,
        "each connection was served"
    );
}

#[test]
fn the_requests_of_one_connection_stay_too() {
    use std::io::{BufRead, BufReader, Write};
    let member = |name: &'static str| {
        crate::testbed::member(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut stream, mut line) = (stream, String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                if line == "\r\n" {
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nMember: {name}\r\n\r\n.");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
                line.clear();
            }
        })
    };
    let members = [member("a"), member("b"), member("c")];
    let bed = Bed::http(&members).with(|spec| {
        spec.pools[0].protocol = PoolProtocol::Http;
        spec.pools[0].persistence = Some(PersistenceSpec::SourceIp {
            timeout_seconds: None,
            granularity: None,
        });
    });
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut stream = bed.connect();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..4 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                .unwrap();
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
                if let Some(name) = line.to_lowercase().strip_prefix("member: ") {
                    seen.insert(name.to_owned());
                }
            }
            reader.consume(1);
        }
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}
