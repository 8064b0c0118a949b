//! Members that expect a PROXY header ahead of the stream.

use std::net::IpAddr;

use krater_amphora_api::{ListenerProtocol, PoolProtocol, VipSpec};
use krater_amphora_core::proxy_protocol::{Origin, Version};

use super::*;
use crate::testbed::{free_address, read_header};

const FORMS: [(PoolProtocol, Version); 2] = [
    (PoolProtocol::Proxy, Version::V1),
    (PoolProtocol::ProxyV2, Version::V2),
];

/// A member that reads a header, then everything to its end, and answers with what followed the header.
fn proxied() -> (SocketAddr, mpsc::Receiver<(Version, Origin)>) {
    let (told, tells) = mpsc::channel();
    let address = member(move |mut stream| {
        told.send(read_header(&mut stream)).unwrap();
        let said = read_all(&mut stream);
        stream.write_all(said.as_bytes()).unwrap();
    });
    (address, tells)
}

fn bed(protocol: PoolProtocol, members: &[SocketAddr]) -> Bed {
    Bed::new(ListenerProtocol::Tcp, protocol, members)
}

#[test]
fn a_header_comes_first_and_all_that_the_client_said_after_it() {
    for (protocol, form) in FORMS {
        let (address, tells) = proxied();
        let bed = bed(protocol, &[address]).started();
        // Sent before and after the member is connected to; and nothing at all.
        for pieces in [&["early", "late"][..], &["whole"], &[]] {
            let mut client = bed.connect();
            for (number, piece) in pieces.iter().enumerate() {
                client.write_all(piece.as_bytes()).unwrap();
                if number == 0 && pieces.len() > 1 {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            client.shutdown(Shutdown::Write).unwrap();
            let origin = Origin::between(client.local_addr().unwrap(), bed.vip);
            assert_eq!(tells.recv().unwrap(), (form, origin));
            assert_eq!(read_all(&mut client), pieces.concat());
        }
    }
}

#[test]
fn a_client_that_waits_to_be_spoken_to_is_introduced_at_once() {
    let bed = bed(
        PoolProtocol::ProxyV2,
        &[member(|mut stream| {
            read_header(&mut stream);
            stream.write_all(b"welcome").unwrap();
        })],
    )
    .started();
    assert_eq!(read_all(&mut bed.connect()), "welcome");
}

#[test]
fn large_streams_follow_their_header_unchanged() {
    let (address, _tells) = proxied();
    let bed = bed(PoolProtocol::Proxy, &[address]).started();
    let mut client = bed.connect();
    let sent = "0123456789abcdef".repeat(500_000);
    let copy = sent.clone();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(copy.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_all(&mut client) == sent);
    writing.join().unwrap();
}

#[test]
fn the_member_that_is_tried_next_gets_a_header_of_its_own() {
    let (address, tells) = proxied();
    let bed = bed(PoolProtocol::Proxy, &[nobody(), nobody(), address]).started();
    for _ in 0..3 {
        let mut client = bed.connect();
        client.write_all(b"x").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let origin = Origin::between(client.local_addr().unwrap(), bed.vip);
        assert_eq!(tells.recv().unwrap(), (Version::V1, origin));
        assert_eq!(read_all(&mut client), "x");
    }
}

#[test]
fn clients_are_told_of_in_their_own_family_wherever_the_member_is() {
    for (protocol, form) in FORMS {
        let (address, tells) = proxied();
        let vip = free_address(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        let six = bed(protocol, &[address]).with(|spec| {
            spec.vips = vec![VipSpec { address: vip.ip() }];
            spec.listeners[0].port = vip.port();
        });
        let mut client = connect(vip);
        client.shutdown(Shutdown::Write).unwrap();
        let (said, origin) = tells.recv().unwrap();
        assert_eq!(said, form);
        let Origin::Relayed {
            source,
            destination,
        } = origin
        else {
            panic!("nobody was told of");
        };
        assert_eq!((source, destination), (client.local_addr().unwrap(), vip));
        assert_eq!(read_all(&mut client), "");
        drop(six);
    }
}

#[test]
fn a_listener_on_every_address_tells_which_one_it_was() {
    let (address, tells) = proxied();
    let bed = bed(PoolProtocol::ProxyV2, &[address]);
    let port = bed.vip.port();
    let bed = bed.with(|spec| {
        spec.vips = vec![VipSpec {
            address: IpAddr::from([0, 0, 0, 0]),
        }];
    });
    let reached = SocketAddr::new(bed.vip.ip(), port);
    let client = connect(reached);
    client.shutdown(Shutdown::Write).unwrap();
    let origin = Origin::between(client.local_addr().unwrap(), reached);
    assert_eq!(tells.recv().unwrap(), (Version::V2, origin));
}
