use std::vec;

use proptest::prelude::*;

use super::*;

fn offer() -> impl Strategy<Value = Message> {
    any::<([u8; 16], u64, [u64; 2], bool, u32)>().prop_map(|it| {
        let (pool, likeness, key, knows_somebody, age) = it;
        let offer = Offer {
            likeness,
            key: Key(key),
            knows_somebody,
            age,
        };
        Message::Offer(PoolId::from_bytes(pool), offer)
    })
}

fn told() -> impl Strategy<Value = Message> {
    let clients = prop::collection::vec((any::<u32>(), 0..1_u32 << 24, any::<u32>()), 0..50);
    let members = prop::collection::vec(any::<[u8; 16]>(), 1..5);
    (any::<([u8; 16], u64, bool)>(), members, clients).prop_map(|(about, members, clients)| {
        let (pool, check, is_active) = about;
        let members = members.into_iter().take(clients.len());
        let members: Vec<_> = members.map(MemberId::from_bytes).collect();
        let client = |(at, (set, tag, age)): (usize, (u32, u32, u32))| Placed {
            place: Place { set, tag },
            member: u16::try_from(at % members.len().max(1)).unwrap(),
            age,
        };
        Message::Told(Told {
            pool: PoolId::from_bytes(pool),
            check,
            is_active,
            clients: clients.into_iter().enumerate().map(client).collect(),
            members,
        })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let want = any::<[u8; 16]>().prop_map(|pool| Message::Want(PoolId::from_bytes(pool)));
    prop_oneof![Just(Message::Alive), want, offer(), told()]
}

fn written(message: &Message) -> (u8, Vec<u8>) {
    let mut bytes = vec![];
    message.write(&mut bytes);
    let (header, body) = bytes.split_first_chunk().unwrap();
    let (kind, length) = read_header(*header).unwrap();
    assert_eq!(length, body.len());
    (kind, body.to_vec())
}

#[test]
fn the_largest_message_is_no_longer_than_may_be_read() {
    let clients = PEER_ENTRIES_MAX;
    let told = Told {
        pool: PoolId::from_bytes([1; 16]),
        check: 2,
        is_active: true,
        members: vec![MemberId::from_bytes([3; 16]); clients],
        clients: vec![
            Placed {
                place: Place { set: 1, tag: 2 },
                member: 1_023,
                age: 3,
            };
            clients
        ],
    };
    let (kind, body) = written(&Message::Told(told.clone()));
    assert_eq!(Message::read(kind, &body), Ok(Message::Told(told.clone())));
    let mut larger = told;
    larger.clients.push(larger.clients[0]);
    let (kind, body) = {
        let mut bytes = vec![];
        Message::Told(larger).write(&mut bytes);
        (bytes[0], bytes.split_off(HEADER_BYTES))
    };
    let too_much = Malformed("it tells too much at once");
    assert_eq!(Message::read(kind, &body), Err(too_much));
}

#[test]
fn what_is_too_long_is_not_even_read() {
    let header = |length: u32| {
        let [a, b, c, d] = length.to_be_bytes();
        [TOLD, a, b, c, d]
    };
    let most = u32::try_from(PEER_MESSAGE_BYTES_MAX).unwrap();
    assert_eq!(
        read_header(header(most)),
        Ok((TOLD, PEER_MESSAGE_BYTES_MAX))
    );
    for longer in [most + 1, u32::MAX] {
        assert_eq!(
            read_header(header(longer)),
            Err(Malformed("it is too long"))
        );
    }
}

#[test]
fn a_later_release_may_say_more() {
    assert_eq!(Message::read(200, b"anything"), Ok(Message::Unknown(200)));
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message()) {
        let (kind, body) = written(&message);
        prop_assert_eq!(Message::read(kind, &body), Ok(message));
    }

    #[test]
    fn what_breaks_off_or_goes_on_is_refused(message in message(), at in any::<prop::sample::Index>()) {
        let (kind, body) = written(&message);
        if !body.is_empty() {
            prop_assert!(Message::read(kind, &body[..at.index(body.len())]).is_err());
        }
        let longer = [&body[..], &[0]].concat();
        prop_assert!(Message::read(kind, &longer).is_err());
    }

    #[test]
    fn nothing_that_comes_panics_or_takes_more_than_it_is_long(
        kind in 0..6_u8,
        body in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        if let Ok(Message::Told(told)) = Message::read(kind, &body) {
            prop_assert!(told.clients.len() * 14 + told.members.len() * 16 <= body.len());
            prop_assert!(told.clients.iter().all(|client| usize::from(client.member) < told.members.len()));
        }
    }
}
