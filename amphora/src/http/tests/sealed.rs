//! Listeners that end TLS.

use std::{collections::BTreeMap, io::ErrorKind, net::Shutdown};

use krater_amphora_api::{
    Cause, CertificateSpec, CipherSuite, ClientCertificatesSpec, Comparison, L7PolicyId,
    ListenerTlsSpec, PolicyAction, PolicySpec, RuleSpec, RuleSubject, TlsVersion,
};
use krater_amphora_core::snapshot::Snapshot;
use rcgen::date_time_ymd;
use rustls::{
    AlertDescription, HandshakeKind,
    version::{TLS12, TLS13},
};

use super::*;
use crate::testbed::authority::{Authority, tls};
use client::{Client, der, shown};

pub(super) mod client;

fn bed(members: &[SocketAddr], spec: ListenerTlsSpec) -> Bed {
    Bed::http(members).with(|balancer| balancer.listeners[0].tls = Some(spec))
}

/// What failed at the listener, by cause.
fn failures(bed: &Bed) -> BTreeMap<String, u64> {
    let world = bed.plane.world();
    let listener = world.listeners.values().next().unwrap();
    listener.shared.meter.failures().named()
}

/// Waits for so many failures of a kind and no others than were waited for: a client may hear of its own before it is
/// counted.
fn counted(bed: &Bed, expected: &[(Cause, u64)]) {
    let expected = expected.iter();
    let expected = expected.map(|(cause, times)| (cause.name().to_owned(), *times));
    let expected: BTreeMap<_, _> = expected.collect();
    eventually("the failures are counted", || failures(bed) == expected);
}

#[test]
fn requests_inside_tls_are_served_and_told_as_such() {
    let authority = Authority::new("authority");
    let mut bed = bed(
        &[http_member(|request| ok(&show(request)))],
        tls(authority.issue(&["a.example"])),
    );
    bed.edit(|spec| spec.listeners[0].insert_headers.x_forwarded_proto = true);
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&[version], &authority, None, |_| {});
        let mut talk = client.call(bed.vip, "a.example").unwrap();
        for path in ["/a", "/b"] {
            let answer = talk.get(path);
            assert_eq!(answer.status(), 200);
            assert!(answer.text().starts_with(&format!("GET {path} HTTP/1.1")));
            assert!(answer.text().contains("x-forwarded-proto: https\n"));
        }
        let session = &talk.stream.get_ref().conn;
        assert_eq!(session.protocol_version(), Some(version.version));
        // The last answer is followed by the word that it was the last.
        talk.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(talk.read(Expect::Answer).status(), 200);
        assert_eq!(talk.stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(failures(&bed), BTreeMap::new());
}

#[test]
fn large_bodies_arrive_intact_both_ways_inside_tls() {
    let authority = Authority::new("authority");
    let body = pattern(6 << 20);
    let address = member(|stream| {
        let mut talk = Talk::over(stream);
        let request = talk.read(Expect::Request);
        let length = request.body.len();
        talk.send(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ));
        talk.stream.get_mut().write_all(&request.body).unwrap();
    });
    let bed = bed(&[address], tls(authority.issue(&["a.example"])));
    let mut talk = Client::of(&authority).call(bed.vip, "a.example").unwrap();
    let length = body.len();
    talk.send(&format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
    ));
    talk.stream.get_mut().write_all(&body).unwrap();
    let answer = talk.read(Expect::Answer);
    assert_eq!(answer.status(), 200);
    assert!(answer.body == body, "the body came back changed");
    // What is counted is what was said, not how it was sealed. A client may have its answer before that is counted.
    let expected = length as u64..length as u64 + 1_000;
    eventually("the bytes are counted", || {
        let counters = bed.listener().counters;
        expected.contains(&counters.bytes_in) && expected.contains(&counters.bytes_out)
    });
}

#[test]
fn what_is_spoken_after_an_upgrade_goes_both_ways_inside_tls() {
    let authority = Authority::new("authority");
    let address = member(|stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n",
        );
        let mut sink = talk.stream.get_ref().try_clone().unwrap();
        std::io::copy(&mut talk.stream, &mut sink).unwrap();
        let _ = sink.shutdown(Shutdown::Write);
    });
    let bed = bed(&[address], tls(authority.issue(&["a.example"])));
    let mut talk = Client::of(&authority).call(bed.vip, "a.example").unwrap();
    talk.send("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
    assert_eq!(talk.read(Expect::Answer).status(), 101);
    let mut said = 0;
    for piece in pattern(1 << 20).chunks(40_000) {
        talk.stream.get_mut().write_all(piece).unwrap();
        let mut heard = vec![0; piece.len()];
        talk.stream.read_exact(&mut heard).unwrap();
        assert!(heard == piece, "after {said} bytes");
        said += piece.len();
    }
    let stream = talk.stream.get_mut();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_certificate_is_that_of_the_name_asked_for() {
    let authority = Authority::new("authority");
    let [default, exact, wild] = [
        &["default.example"][..],
        &["www.example.org", "www.example.net"],
        &["*.example.org"],
    ]
    .map(|names| authority.issue(names));
    let mut spec = tls(default.clone());
    spec.sni_certificates = vec![wild.clone(), exact.clone()];
    let mut bed = bed(&[http_member(|_| ok("here"))], spec);
    let client = Client::of(&authority);
    for (name, expected) in [
        ("www.example.org", &exact),
        ("WWW.Example.Net", &exact),
        ("other.example.org", &wild),
        ("default.example", &default),
    ] {
        let mut talk = client.call(bed.vip, name).unwrap();
        assert_eq!(shown(&talk), der(expected), "{name}");
        assert_eq!(talk.get("/").text(), "here");
    }
    bed.edit(|spec| spec.listeners[0].tls.as_mut().unwrap().default_certificate = None);
    let mut talk = client.call(bed.vip, "other.example.org").unwrap();
    assert_eq!(talk.get("/").text(), "here");
    assert_eq!(
        client.alert(bed.vip, "default.example"),
        AlertDescription::UnrecognisedName
    );
    let nameless = Client::with(&authority, None, |config| config.enable_sni = false);
    assert_eq!(
        nameless.alert(bed.vip, "www.example.org"),
        AlertDescription::UnrecognisedName
    );
    counted(&bed, &[(Cause::ClientTlsName, 2)]);
}

#[test]
fn only_versions_suites_and_protocols_of_the_listener_are_spoken_by_its_preference() {
    let authority = Authority::new("authority");
    let mut spec = tls(authority.issue(&["a.example"]));
    spec.versions = vec![TlsVersion::Tls12];
    spec.cipher_suites = vec![CipherSuite::EcdsaChaCha20, CipherSuite::EcdsaAes128Gcm];
    let mut bed = bed(&[http_member(|_| ok("here"))], spec);
    let client = Client::of(&authority);
    let mut talk = client.call(bed.vip, "a.example").unwrap();
    assert_eq!(talk.get("/").text(), "here");
    let suite = talk
        .stream
        .get_ref()
        .conn
        .negotiated_cipher_suite()
        .unwrap();
    // The client prefers AES.
    assert!(
        format!("{suite:?}").contains("ECDHE_ECDSA_WITH_CHACHA20"),
        "{suite:?}"
    );
    let newer = Client::speaking(&[&TLS13], &authority, None, |_| {});
    assert_eq!(
        newer.alert(bed.vip, "a.example"),
        AlertDescription::ProtocolVersion
    );
    counted(&bed, &[(Cause::ClientTlsVersion, 1)]);
    bed.edit(|spec| {
        let tls = spec.listeners[0].tls.as_mut().unwrap();
        tls.cipher_suites = vec![CipherSuite::RsaAes128Gcm];
    });
    assert_eq!(
        client.alert(bed.vip, "a.example"),
        AlertDescription::HandshakeFailure
    );
    let mut expected = vec![(Cause::ClientTlsVersion, 1), (Cause::ClientTlsCipher, 1)];
    counted(&bed, &expected);
    bed.edit(|spec| spec.listeners[0].tls = Some(tls(authority.issue(&["a.example"]))));
    for (offered, spoken) in [
        (&["http/1.0", "http/1.1"][..], Some("http/1.1")),
        (&["h3", "http/1.0"], Some("http/1.0")),
        (&[], None),
    ] {
        let client = Client::with(&authority, None, |config| {
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().into()).collect();
        });
        let mut talk = client.call(bed.vip, "a.example").unwrap();
        let agreed = talk.stream.get_ref().conn.alpn_protocol();
        assert_eq!(agreed, spoken.map(str::as_bytes));
        assert_eq!(talk.get("/").text(), "here");
    }
    let stranger = Client::with(&authority, None, |config| {
        config.alpn_protocols = vec![b"gopher".to_vec()];
    });
    assert_eq!(
        stranger.alert(bed.vip, "a.example"),
        AlertDescription::NoApplicationProtocol
    );
    expected.push((Cause::ClientTlsAlpn, 1));
    counted(&bed, &expected);
}

#[test]
fn clients_are_let_in_by_their_certificates_as_the_listener_asks_for_them() {
    use AlertDescription::{
        CertificateExpired, CertificateRequired, CertificateRevoked, UnknownCA,
    };

    let [authority, clients, strangers] = ["authority", "clients", "strangers"].map(Authority::new);
    let good = clients.issue_as(2, &["good"], |_| {});
    let revoked = clients.issue_as(3, &["revoked"], |_| {});
    let ended = clients.issue_as(4, &["ended"], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let strange = strangers.issue_as(2, &["strange"], |_| {});
    let mut spec = tls(authority.issue(&["a.example"]));
    spec.clients = Some(ClientCertificatesSpec {
        required: true,
        authorities: clients.pem.clone(),
        revoked: Some(clients.revoke(&[3, 7], 2090)),
    });
    let mut bed = bed(&[http_member(|_| ok("here"))], spec);
    let showing =
        |certificate: Option<&CertificateSpec>| Client::with(&authority, certificate, |_| {});
    for required in [true, false] {
        bed.edit(|spec| {
            let tls = spec.listeners[0].tls.as_mut().unwrap();
            tls.clients.as_mut().unwrap().required = required;
        });
        let mut talk = showing(Some(&good)).call(bed.vip, "a.example").unwrap();
        assert_eq!(talk.get("/").text(), "here");
        for (certificate, alert) in [
            (Some(&revoked), CertificateRevoked),
            (Some(&ended), CertificateExpired),
            (Some(&strange), UnknownCA),
        ] {
            assert_eq!(showing(certificate).alert(bed.vip, "a.example"), alert);
        }
        if required {
            assert_eq!(
                showing(None).alert(bed.vip, "a.example"),
                CertificateRequired
            );
        } else {
            let mut talk = showing(None).call(bed.vip, "a.example").unwrap();
            assert_eq!(talk.get("/").text(), "here");
        }
    }
    let counts = |revoked| {
        [
            (Cause::ClientCertificateRevoked, revoked),
            (Cause::ClientCertificateExpired, 2),
            (Cause::ClientCertificateUntrusted, 2),
            (Cause::ClientCertificateMissing, 1),
        ]
    };
    counted(&bed, &counts(2));
    // A list that is out of date says nothing any more, and nobody is believed without one.
    bed.edit(|spec| {
        let tls = spec.listeners[0].tls.as_mut().unwrap();
        tls.clients.as_mut().unwrap().revoked = Some(clients.revoke(&[3], 2021));
    });
    showing(Some(&good)).alert(bed.vip, "a.example");
    counted(&bed, &counts(3));
}

#[test]
fn members_are_told_of_the_certificates_that_clients_showed_and_policies_look_at_them() {
    let [authority, clients] = ["authority", "clients"].map(Authority::new);
    let mut spec = tls(authority.issue(&["a.example"]));
    spec.clients = Some(ClientCertificatesSpec {
        required: false,
        authorities: clients.pem.clone(),
        revoked: None,
    });
    let mut bed = bed(&[http_member(|request| ok(&show(request)))], spec);
    bed.edit(|spec| {
        let listener = &mut spec.listeners[0];
        let insert = &mut listener.insert_headers;
        (insert.x_ssl_client_verify, insert.x_ssl_client_has_cert) = (true, true);
        (insert.x_ssl_client_dn, insert.x_ssl_client_cn) = (true, true);
        insert.x_ssl_issuer = true;
        listener.policies = vec![PolicySpec {
            id: L7PolicyId::new(crate::testbed::fresh_uuid()),
            action: PolicyAction::Reject,
            rules: vec![RuleSpec {
                subject: RuleSubject::CertificateSubject("CN".into()),
                comparison: Comparison::EqualTo,
                value: "villain".into(),
                invert: false,
            }],
        }];
    });
    let call = |certificate: Option<&CertificateSpec>| {
        let client = Client::with(&authority, certificate, |_| {});
        let mut talk = client.call(bed.vip, "a.example").unwrap();
        talk.send(
            "GET / HTTP/1.1\r\nHost: h\r\nX-SSL-Client-CN: root\r\nx_ssl_client-dn: /CN=root\r\n\
             x-ssl-client-has-cert: 1\r\n\r\n",
        );
        talk.read(Expect::Answer)
    };
    let told = |answer: &Message| -> Vec<String> {
        let lines = answer.text().lines();
        let mut lines: Vec<_> = lines
            .filter(|line| line.starts_with("x-ssl") || line.starts_with("x_ssl"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(
        told(&call(Some(&clients.issue(&["somebody"])))),
        [
            "x-ssl-client-cn: \"somebody\"",
            "x-ssl-client-dn: \"/CN=somebody\"",
            "x-ssl-client-has-cert: 1",
            "x-ssl-client-verify: 0",
            "x-ssl-issuer: \"/CN=clients\"",
        ]
    );
    assert_eq!(
        told(&call(None)),
        [
            "x-ssl-client-cn: \"\"",
            "x-ssl-client-dn: \"\"",
            "x-ssl-client-has-cert: 0",
            "x-ssl-client-verify: 0",
            "x-ssl-issuer: \"\"",
        ]
    );
    assert_eq!(call(Some(&clients.issue(&["villain"]))).status(), 403);
}

#[test]
fn members_of_proxy_pools_are_told_of_tls_ahead_of_the_connection() {
    let [authority, clients] = ["authority", "clients"].map(Authority::new);
    let (told, heard) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let address = member(move |mut stream| {
        let mut head = [0; 16];
        stream.read_exact(&mut head).unwrap();
        let length = u16::from_be_bytes([head[14], head[15]]);
        let mut rest = vec![0; length.into()];
        stream.read_exact(&mut rest).unwrap();
        told.lock().unwrap().send(rest).unwrap();
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send(&ok("here"));
    });
    let mut spec = tls(authority.issue(&["a.example"]));
    spec.clients = Some(ClientCertificatesSpec {
        required: true,
        authorities: clients.pem.clone(),
        revoked: None,
    });
    let bed = Bed::new(ListenerProtocol::Http, PoolProtocol::ProxyV2, &[address])
        .with(|balancer| balancer.listeners[0].tls = Some(spec));
    let shown = clients.issue(&["somebody"]);
    let client = Client::with(&authority, Some(&shown), |config| {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    });
    let mut talk = client.call(bed.vip, "a.example").unwrap();
    assert_eq!(talk.get("/").text(), "here");
    let told = heard.recv_timeout(PATIENCE).unwrap();
    let expected = [
        &b"\x01\0\x08http/1.1\x02\0\x09a.example\x20\0\x33\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x08somebody"[..],
        b"\x23\0\x16TLS_AES_128_GCM_SHA256",
    ]
    .concat();
    assert_eq!(
        told[12..].escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

/// How the handshake of a client went that shook hands before.
fn again(client: &Client, bed: &Bed) -> Option<HandshakeKind> {
    let mut talk = client.call(bed.vip, "a.example").unwrap();
    assert_eq!(talk.get("/").status(), 200);
    talk.stream.get_ref().conn.handshake_kind()
}

#[test]
fn sessions_go_on_over_all_workers_and_over_changes_of_something_else() {
    let authority = Authority::new("authority");
    let spec = tls(authority.issue(&["a.example"]));
    let mut bed = bed(&[http_member(|_| ok("here"))], spec);
    for version in [&TLS12, &TLS13] {
        let client = Client::speaking(&[version], &authority, None, |_| {});
        assert_eq!(again(&client, &bed), Some(HandshakeKind::Full));
        // The kernel chooses the worker anew for each.
        for _ in 0..8 {
            assert_eq!(again(&client, &bed), Some(HandshakeKind::Resumed));
        }
        bed.edit(|spec| spec.listeners[0].connection_limit += 1);
        assert_eq!(again(&client, &bed), Some(HandshakeKind::Resumed));
        bed.edit(|spec| {
            let tls = spec.listeners[0].tls.as_mut().unwrap();
            tls.sni_certificates.push(authority.issue(&["b.example"]));
        });
        assert_eq!(again(&client, &bed), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_session_of_one_listener_lets_nobody_into_another() {
    let [authority, theirs, ours] = ["authority", "theirs", "ours"].map(Authority::new);
    let certificate = authority.issue(&["a.example"]);
    let asking = |clients: &Authority| {
        let mut spec = tls(certificate.clone());
        spec.clients = Some(ClientCertificatesSpec {
            required: true,
            authorities: clients.pem.clone(),
            revoked: None,
        });
        spec
    };
    let bed_of = |clients| bed(&[http_member(|_| ok("here"))], asking(clients));
    let (mut one, other) = (bed_of(&theirs), bed_of(&ours));
    for version in [&TLS12, &TLS13] {
        let member = theirs.issue(&["member"]);
        let client = Client::speaking(&[version], &authority, Some(&member), |_| {});
        assert_eq!(again(&client, &one), Some(HandshakeKind::Full));
        assert_eq!(again(&client, &one), Some(HandshakeKind::Resumed));
        // The session that it has is for the same name, and shown to the other listener.
        assert_eq!(
            client.alert(other.vip, "a.example"),
            AlertDescription::UnknownCA
        );
        // Nor does it go on where it began once somebody else vouches there.
        one.edit(|spec| spec.listeners[0].tls = Some(asking(&ours)));
        assert_eq!(
            client.alert(one.vip, "a.example"),
            AlertDescription::UnknownCA
        );
        one.edit(|spec| spec.listeners[0].tls = Some(asking(&theirs)));
    }
}

#[test]
fn a_certificate_is_replaced_without_a_word_to_those_who_are_there() {
    let authority = Authority::new("authority");
    let (old, new) = (
        authority.issue(&["a.example"]),
        authority.issue(&["a.example"]),
    );
    let mut bed = bed(&[http_member(|_| ok("here"))], tls(old.clone()));
    let client = Client::of(&authority);
    let mut before = client.call(bed.vip, "a.example").unwrap();
    assert_eq!(before.get("/").text(), "here");
    bed.edit(|spec| spec.listeners[0].tls = Some(tls(new.clone())));
    let mut after = client.call(bed.vip, "a.example").unwrap();
    assert_eq!((shown(&before), shown(&after)), (der(&old), der(&new)));
    for talk in [&mut before, &mut after] {
        assert_eq!(talk.get("/").text(), "here");
    }
    // One that cannot be used changes nothing.
    let mut spec = bed.spec.clone();
    spec.generation = spec.generation.next();
    spec.listeners[0].tls.as_mut().unwrap().default_certificate = Some(CertificateSpec {
        chain: new.chain.clone(),
        key: old.key,
    });
    let refused = bed.plane.apply(Snapshot::parse(spec).unwrap()).unwrap_err();
    assert_eq!(
        refused[0].to_string(),
        format!(
            "listener {}: default certificate: the private key is not that of the first certificate of the chain",
            bed.spec.listeners[0].id
        )
    );
    assert_eq!(refused.len(), 1);
    assert_eq!(
        bed.plane.held(bed.spec.load_balancer),
        Some(bed.spec.generation)
    );
    let talk = client.call(bed.vip, "a.example").unwrap();
    assert_eq!(shown(&talk), der(&new));
}

#[test]
fn what_is_no_handshake_is_told_so_and_ended_in_time() {
    let authority = Authority::new("authority");
    let mut bed = bed(
        &[http_member(|_| ok("here"))],
        tls(authority.issue(&["a.example"])),
    );
    let mut plain = bed.connect();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut told = vec![];
    plain.read_to_end(&mut told).unwrap();
    assert_eq!(told[..3], [21, 3, 3], "an alert");
    counted(&bed, &[(Cause::ClientNotTls, 1)]);
    bed.edit(|spec| spec.listeners[0].timeouts.client_data_ms = 300);
    // Whoever goes on sending has no more time than whoever is silent.
    let mut dribbling = bed.connect();
    let mut silent = bed.connect();
    dribbling.write_all(&[22, 3, 1, 1, 0, 1]).unwrap();
    dribbling
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    loop {
        let _ = dribbling.write_all(&[0]);
        match dribbling.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    // Who goes away is no more than counted, and frees its place; who never said a word has not failed.
    drop(bed.connect());
    let mut half = bed.connect();
    half.write_all(&[22, 3, 1, 1, 0, 1]).unwrap();
    drop(half);
    // It trusts somebody else.
    let stranger = Client::of(&Authority::new("stranger"));
    assert!(stranger.call(bed.vip, "a.example").is_err());
    let expected = [
        (Cause::ClientNotTls, 1),
        (Cause::ClientTlsTimeout, 1),
        (Cause::ClientTlsGone, 1),
        (Cause::ClientTlsRefused, 1),
    ];
    counted(&bed, &expected);
    eventually("nobody is left", || {
        bed.listener().counters.active_connections == 0
    });
}
