//! Members that speak HTTP/2.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::runtime;
use tokio_rustls::TlsAcceptor;

use super::{
    resealed::{pool_tls, server},
    streams::{ask, text, to, with_client},
    *,
};
use crate::testbed::authority::Authority;

/// What a member makes of a request: its number on the connection, the request, how to answer.
type Serve = fn(u32, Request<RecvStream>, SendResponse<Bytes>) -> Fate;

/// What becomes of the connection after a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It takes no further request.
    Ends,
}

/// A member that speaks HTTP/2 inside TLS; counts its connections.
fn member_of_http2(serve: Serve) -> (SocketAddr, Arc<AtomicUsize>) {
    let mut config = server(&Authority::new("authority").issue(&["m"]), None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(socket).await else {
                        return;
                    };
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                        return;
                    }
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    let mut number = 0;
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        number += 1;
                        if serve(number, request, respond) == Fate::Ends {
                            connection.graceful_shutdown();
                        }
                    }
                });
            }
        });
    });
    (address, connections)
}

/// Answers with the request, its body and, after that, how long it was.
fn echo(_: u32, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Fate {
    tokio::spawn(async move {
        let (parts, mut body) = request.into_parts();
        let mut seen: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
            .collect();
        seen.sort();
        let head = format!("{} {}\n{}\n", parts.method, parts.uri, seen.concat());
        let mut sender = respond.send_response(Response::new(()), false).unwrap();
        let mut piece = Bytes::from(head);
        let mut length = 0;
        loop {
            while !piece.is_empty() {
                sender.reserve_capacity(piece.len());
                if poll_fn(|cx| sender.poll_capacity(cx)).await.is_none() {
                    return;
                }
                let room = sender.capacity().min(piece.len());
                sender.send_data(piece.split_to(room), false).unwrap();
            }
            match body.data().await {
                Some(Ok(data)) => {
                    length += data.len();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    piece = data;
                }
                _ => break,
            }
        }
        let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
        trailers.insert("x-length", length.to_string().parse().unwrap());
        sender.send_trailers(trailers).unwrap();
    });
    Fate::Stays
}

/// Answers with the number of the request on its connection.
fn number(number: u32, _: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Fate {
    let mut sender = respond.send_response(Response::new(()), false).unwrap();
    sender.send_data(number.to_string().into(), true).unwrap();
    Fate::Stays
}

fn bed(member: SocketAddr) -> Bed {
    Bed::http(&[member]).with(|spec| spec.pools[0].tls = Some(pool_tls()))
}

#[test]
fn many_requests_share_one_connection_to_a_member() {
    let (address, connections) = member_of_http2(number);
    let bed = bed(address);
    with_client(bed.vip, async |client| {
        let asked = (0..200).map(|_| ask(&client, to("GET", "/"), b"", None));
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.unwrap().0.status(), 200);
        }
    });
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // Clients that speak HTTP/1 share it as well, one connection for each worker.
    for _ in 0..10 {
        let mut client = Talk::to(bed.vip);
        for _ in 0..3 {
            assert_eq!(client.get("/").status(), 200);
        }
    }
    assert!(connections.load(Ordering::SeqCst) <= 2);
}

#[test]
fn what_grpc_needs_passes_from_end_to_end() {
    let (address, _) = member_of_http2(echo);
    let bed = bed(address);
    with_client(bed.vip, async |client| {
        let request = to("POST", "/package.Service/Method")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "1S");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-after", "all".parse().unwrap());
        let (_, body, trailers) = ask(&client, request, b"message", Some(trailers))
            .await
            .unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "POST https://example/package.Service/Method\ncontent-type: application/grpc\n\
             grpc-timeout: 1S\nte: trailers\n\nmessage"
        );
        assert_eq!(
            (&trailers["x-length"], &trailers["x-after"]),
            (&"7".parse().unwrap(), &"all".parse().unwrap())
        );
        let large = pattern(3 << 20);
        let asked = (0..4).map(|_| ask(&client, to("POST", "/"), &large, None));
        for answer in futures_util::future::join_all(asked).await {
            let (_, body, trailers) = answer.unwrap();
            assert!(body.ends_with(&large));
            assert_eq!(trailers["x-length"], large.len().to_string());
        }
    });
}

#[test]
fn answers_of_trailers_only_end_with_their_head() {
    let (address, _) = member_of_http2(|_, _, mut respond| {
        let answer = Response::builder().header("grpc-status", "12").body(());
        respond.send_response(answer.unwrap(), true).unwrap();
        Fate::Stays
    });
    let bed = bed(address);
    with_client(bed.vip, async |client| {
        let (head, body, trailers) = ask(&client, to("POST", "/"), b"x", None).await.unwrap();
        assert_eq!(
            (&head.headers()["grpc-status"], body.len()),
            (&"12".parse().unwrap(), 0)
        );
        assert!(trailers.is_empty());
    });
}

#[test]
fn a_member_that_says_goodbye_is_left_for_a_new_connection() {
    let (address, connections) = member_of_http2(|count, request, respond| {
        number(count, request, respond);
        if count == 3 { Fate::Ends } else { Fate::Stays }
    });
    let bed = bed(address);
    with_client(bed.vip, async |client| {
        for _ in 0..30 {
            let answer = ask(&client, to("POST", "/"), b"", None).await.unwrap();
            assert_eq!(answer.0.status(), 200, "{}", text(&answer));
        }
    });
    assert!(connections.load(Ordering::SeqCst) >= 2);
}

#[test]
fn a_request_that_a_member_has_not_begun_is_made_again() {
    let (address, _) = member_of_http2(|count, request, mut respond| {
        if count % 2 == 1 {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Fate::Stays;
        }
        number(count, request, respond)
    });
    let (stubborn, _) = member_of_http2(|_, _, mut respond| {
        respond.send_reset(Reason::REFUSED_STREAM);
        Fate::Stays
    });
    let (broken, _) = member_of_http2(|_, _, mut respond| {
        respond.send_reset(Reason::INTERNAL_ERROR);
        Fate::Stays
    });
    let mut bed = bed(address);
    for (member, expected) in [(address, 200), (stubborn, 502), (broken, 502)] {
        bed.edit(|spec| spec.pools[0].members[0].port = member.port());
        let mut client = Talk::to(bed.vip);
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.read(Expect::Answer).status(), expected);
    }
}

#[test]
fn a_member_that_does_not_answer_one_request_answers_others() {
    let (address, connections) = member_of_http2(|count, request, respond| {
        if request.uri().path() == "/never" {
            tokio::spawn(async move {
                let _held = respond;
                tokio::time::sleep(PATIENCE).await;
            });
            return Fate::Stays;
        }
        number(count, request, respond)
    });
    let bed = bed(address).with(|spec| spec.listeners[0].timeouts.member_data_ms = 400);
    with_client(bed.vip, async |client| {
        let never = ask(&client, to("GET", "/never"), b"", None);
        let others = async {
            for _ in 0..5 {
                let answer = ask(&client, to("GET", "/"), b"", None).await.unwrap();
                assert_eq!(answer.0.status(), 200);
            }
        };
        let (never, ()) = tokio::join!(never, others);
        assert_eq!(never.unwrap().0.status(), 504);
    });
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// Sends the interim answer whose status the path is, then answers.
fn hint(_: u32, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Fate {
    let status: u16 = request.uri().path()[1..].parse().unwrap();
    let hint = Response::builder().status(status).header("link", "</a>");
    respond.send_informational(hint.body(()).unwrap()).unwrap();
    respond.send_response(Response::new(()), true).unwrap();
    Fate::Stays
}

#[test]
fn interim_answers_come_from_members_of_http2_as_well_but_no_change_of_protocol() {
    let (address, _) = member_of_http2(hint);
    let bed = bed(address);
    let mut client = Talk::to(bed.vip);
    let answer = client.get("/103");
    assert_eq!(
        (answer.status(), answer.header("link")),
        (103, Some("</a>"))
    );
    assert_eq!(client.read(Expect::Answer).status(), 200);
    assert_eq!(client.get("/101").status(), 502);
}
