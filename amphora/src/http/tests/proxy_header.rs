//! Members that expect a PROXY header ahead of the requests.

use std::{collections::BTreeSet, sync::Mutex};

use krater_amphora_core::proxy_protocol::{Origin, Version};

use super::*;
use crate::testbed::read_header;

/// What a member has seen: for each connection its header, and the clients whose requests came over it.
type Seen = Arc<Mutex<Vec<(Version, Origin, BTreeSet<String>)>>>;

/// A member that reads headers, and answers requests with their lines.
fn proxied() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let address = member(move |mut stream| {
        let (version, origin) = read_header(&mut stream);
        let mut talk = Talk::over(stream);
        let mut clients = BTreeSet::new();
        while let Some(request) = talk.try_read(Expect::Request) {
            clients.insert(request.header("client").unwrap_or_default().to_owned());
            let forwarded: Vec<_> = request
                .headers
                .iter()
                .filter(|(name, _)| name.starts_with("x-forwarded"))
                .map(|(name, _)| name.as_str())
                .collect();
            talk.send(&ok(&forwarded.join(" ")));
        }
        noted.lock().unwrap().push((version, origin, clients));
    });
    (address, seen)
}

/// Some requests of a client over one connection; its address.
fn client(bed: &Bed, name: &str, requests: usize) -> SocketAddr {
    let mut talk = Talk::to(bed.vip);
    for _ in 0..requests {
        talk.send(&format!(
            "GET / HTTP/1.1\r\nHost: h\r\nClient: {name}\r\n\r\n"
        ));
        assert_eq!(talk.read(Expect::Answer).status(), 200);
    }
    talk.stream.get_ref().local_addr().unwrap()
}

#[test]
fn a_connection_to_a_member_is_one_clients_and_says_whose() {
    for (protocol, expected) in [
        (PoolProtocol::Proxy, Version::V1),
        (PoolProtocol::ProxyV2, Version::V2),
    ] {
        let (address, seen) = proxied();
        let bed = Bed::new(ListenerProtocol::Http, protocol, &[address]).started();
        let addresses: Vec<_> = (0..6)
            .map(|number| client(&bed, &number.to_string(), 5))
            .collect();
        eventually("the members' connections end with the clients'", || {
            seen.lock().unwrap().len() == addresses.len()
        });
        let mut told: Vec<_> = std::mem::take(&mut *seen.lock().unwrap());
        told.sort_by_key(|(_, _, clients)| clients.first().cloned());
        for (number, (version, origin, clients)) in told.into_iter().enumerate() {
            assert_eq!(version, expected);
            assert_eq!(clients, BTreeSet::from([number.to_string()]));
            assert_eq!(origin, Origin::between(addresses[number], bed.vip));
        }
    }
}

#[test]
fn requests_that_go_round_keep_their_connections() {
    let members = [proxied(), proxied(), proxied()];
    let bed = Bed::new(
        ListenerProtocol::Http,
        PoolProtocol::ProxyV2,
        &members.each_ref().map(|(address, _)| *address),
    )
    .started();
    client(&bed, "a", 30);
    for (_, seen) in &members {
        eventually("the connection ends", || !seen.lock().unwrap().is_empty());
        assert_eq!(
            seen.lock().unwrap().len(),
            1,
            "one connection for ten requests"
        );
    }
}

#[test]
fn a_member_that_is_told_ahead_is_not_told_again_but_for_the_scheme() {
    let (address, _) = proxied();
    let bed = Bed::new(ListenerProtocol::Http, PoolProtocol::Proxy, &[address]).with(|spec| {
        let insert = &mut spec.listeners[0].insert_headers;
        (insert.x_forwarded_for, insert.x_forwarded_port) = (true, true);
        insert.x_forwarded_proto = true;
    });
    assert_eq!(Talk::to(bed.vip).get("/").text(), "x-forwarded-proto");
}

#[test]
fn connections_of_pools_that_do_not_tell_are_not_used_for_those_that_do() {
    let (address, _) = counting(paths);
    let mut bed = Bed::http(&[address]).started();
    let mut talk = Talk::to(bed.vip);
    assert_eq!(talk.get("/a").status(), 200);
    bed.edit(|spec| spec.pools[0].protocol = PoolProtocol::Proxy);
    // The member knows no header, so the answer is not that of its path.
    talk.send("GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let answer = talk.try_read(Expect::Answer);
    assert!(answer.is_none_or(|answer| answer.text() != "/b"));
}
