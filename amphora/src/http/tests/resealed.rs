//! Members that are spoken to by TLS.

use std::sync::Mutex;

use krater_amphora_api::{
    AlpnProtocol, CertificateSpec, CipherSuite, PoolProtocol, PoolTlsSpec, Subject, TlsVersion,
};
use krater_amphora_core::{proxy_protocol::Version, snapshot::Snapshot};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{sealed::client::Client, *};
use crate::testbed::{
    authority::{Authority, tls},
    read_header,
};

/// TLS to members that speaks all there is and trusts everybody.
pub(super) fn pool_tls() -> PoolTlsSpec {
    PoolTlsSpec {
        certificate: None,
        authorities: None,
        revoked: None,
        versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        cipher_suites: CipherSuite::ALL.to_vec(),
        alpn: vec![AlpnProtocol::H2, AlpnProtocol::Http11],
    }
}

/// What a member ends TLS with; `clients` vouches for who may come.
pub(super) fn server(certificate: &CertificateSpec, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.pem.as_bytes());
            roots.add(root.unwrap()).unwrap();
            let roots = Arc::new(roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes());
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.expose().as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

/// A member that ends TLS and answers each request with how it came: the number of its connection, the name asked for,
/// whether the session was resumed, what was chosen by ALPN, and the request. One that expects PROXY headers says what
/// they said as well.
fn telling(config: ServerConfig, proxied: bool) -> SocketAddr {
    let config = Arc::new(config);
    let connections = Arc::new(Mutex::new(0));
    member(move |mut stream| {
        let number = {
            let mut connections = connections.lock().unwrap();
            *connections += 1;
            *connections
        };
        let header = proxied.then(|| read_header(&mut stream));
        let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
        while session.is_handshaking() {
            if session.complete_io(&mut stream).is_err() {
                // What is left unread would take back the word that was just said.
                let _ = stream.read_to_end(&mut Vec::new());
                return;
            }
        }
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let alpn = session
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned());
        let how = format!(
            "{number} {:?} {resumed} {alpn:?} {:?}\n",
            session.server_name(),
            header.map(|header| header.0)
        );
        let mut talk = Talk::over(StreamOwned::new(session, stream));
        while let Some(request) = talk.try_read(Expect::Request) {
            talk.send(&ok(&format!("{how}{}", show(&request))));
        }
    })
}

fn bed(member: SocketAddr, tls: PoolTlsSpec) -> Bed {
    Bed::http(&[member]).with(|spec| spec.pools[0].tls = Some(tls))
}

/// The first line that a member tells, over a connection of its own.
fn told(bed: &Bed) -> String {
    let answer = Talk::to(bed.vip).get("/");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text().lines().next().unwrap().to_owned()
}

fn status(bed: &Bed) -> u16 {
    Talk::to(bed.vip).get("/").status()
}

#[test]
fn members_are_spoken_to_by_tls_and_nobody_is_asked_for_without_a_name() {
    let authority = Authority::new("nobody knows");
    let bed = bed(
        telling(server(&authority.issue(&["m"]), None), false),
        pool_tls(),
    );
    let mut client = Talk::to(bed.vip);
    for path in ["/a", "/b"] {
        let answer = client.get(path);
        let seen = format!("1 None false None None\nGET {path} HTTP/1.1\nhost: example\n\n");
        assert_eq!(answer.text(), seen);
    }
}

#[test]
fn members_are_asked_for_the_name_that_the_client_asked_for() {
    let authority = Authority::new("authority");
    let names = &["a.example", "b.example"];
    let mut config = server(&authority.issue(names), None);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let bed = Bed::http(&[telling(config, false)]).with(|spec| {
        spec.listeners[0].tls = Some(tls(authority.issue(names)));
        spec.pools[0].tls = Some(PoolTlsSpec {
            authorities: Some(authority.pem.clone()),
            ..pool_tls()
        });
    });
    let client = Client::of(&authority);
    for name in ["a.example", "b.example", "a.example"] {
        let mut talk = client.call(bed.vip, name).unwrap();
        let answer = talk.get("/");
        let expected = format!("{:?} ", Some(name));
        assert!(answer.text().contains(&expected), "{}", answer.text());
        assert!(
            answer.text().contains(r#"Some("http/1.1")"#),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn who_vouches_for_members_is_asked_if_anybody_is_named() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let certificate = ours.issue_as(7, &["m.example"], |_| {});
    let address = telling(server(&certificate, None), false);
    let vouched = |authority: &Authority, revoked: Option<String>| PoolTlsSpec {
        authorities: Some(authority.pem.clone()),
        revoked,
        ..pool_tls()
    };
    let mut bed = bed(address, vouched(&ours, None));
    // No name was asked for, so any will do.
    assert_eq!(status(&bed), 200);
    // Connections that were made under other terms are not used on.
    bed.edit(|spec| spec.pools[0].tls = Some(vouched(&other, None)));
    assert_eq!(status(&bed), 502);
    bed.edit(|spec| spec.pools[0].tls = Some(vouched(&ours, Some(ours.revoke(&[8], 2100)))));
    assert_eq!(status(&bed), 200);
    bed.edit(|spec| spec.pools[0].tls = Some(vouched(&ours, Some(ours.revoke(&[7], 2100)))));
    assert_eq!(status(&bed), 502);
    // A name that was asked for has to be the member's.
    bed.edit(|spec| {
        spec.pools[0].tls = Some(vouched(&ours, None));
        spec.listeners[0].tls = Some(tls(ours.issue(&["m.example", "n.example"])));
    });
    let client = Client::of(&ours);
    for (name, expected) in [("m.example", 200), ("n.example", 502)] {
        let mut talk = client.call(bed.vip, name).unwrap();
        assert_eq!(talk.get("/").status(), expected, "{name}");
    }
}

#[test]
fn members_that_ask_for_a_certificate_are_shown_the_pools() {
    let authority = Authority::new("authority");
    let config = server(&authority.issue(&["m"]), Some(&authority));
    let mut bed = bed(telling(config, false), pool_tls());
    // With TLS 1.3 that shows only after the handshake is over here.
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        bed.edit(|spec| spec.pools[0].tls.as_mut().unwrap().versions = vec![version]);
        let answer = Talk::to(bed.vip).get("/");
        assert_eq!(
            (answer.status(), answer.header("x-krater-cause")),
            (502, Some("member_tls_refused")),
            "{version:?}"
        );
    }
    bed.edit(|spec| {
        spec.pools[0].tls.as_mut().unwrap().certificate = Some(authority.issue(&["krater"]));
    });
    assert_eq!(status(&bed), 200);
}

#[test]
fn the_proxy_header_goes_ahead_of_the_handshake() {
    let authority = Authority::new("authority");
    let config = server(&authority.issue(&["m"]), None);
    let bed = Bed::http(&[telling(config, true)]).with(|spec| {
        spec.pools[0].protocol = PoolProtocol::ProxyV2;
        spec.pools[0].tls = Some(pool_tls());
    });
    assert!(told(&bed).ends_with(&format!("{:?}", Some(Version::V2))));
}

#[test]
fn sessions_with_members_are_resumed() {
    let authority = Authority::new("authority");
    let address = telling(server(&authority.issue(&["m"]), None), true);
    let bed = Bed::http(&[address]).with(|spec| {
        // Connections of such a pool are for one client, so each client has one made.
        spec.pools[0].protocol = PoolProtocol::Proxy;
        spec.pools[0].tls = Some(pool_tls());
    });
    assert!(told(&bed).contains(" false "));
    let second = told(&bed);
    assert!(
        second.starts_with("2 ") && second.contains(" true "),
        "{second}"
    );
}

#[test]
fn a_member_that_speaks_no_tls_is_one_that_cannot_be_reached() {
    let says_so = member(|mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    for (address, cause) in [
        (says_so, "member_tls"),
        (http_member(|_| ok("plain")), "member_tls_refused"),
    ] {
        let bed = bed(address, pool_tls());
        let answer = Talk::to(bed.vip).get("/");
        assert_eq!(
            (answer.status(), answer.header("x-krater-cause")),
            (502, Some(cause))
        );
    }
}

#[test]
fn what_cannot_be_used_refuses_the_snapshot_and_names_the_pool() {
    let mut bed = bed(nobody(), pool_tls());
    let pool = Subject::Pool(bed.spec.pools[0].id);
    let changes: [fn(&mut PoolTlsSpec); 3] = [
        |tls| tls.authorities = Some("no PEM".into()),
        |tls| {
            tls.certificate = Some(Authority::new("a").issue(&["a"])).map(|mut spec| {
                spec.chain = String::new();
                spec
            })
        },
        |tls| {
            tls.authorities = Some(Authority::new("a").pem);
            tls.revoked = Some("none".into());
        },
    ];
    for change in changes {
        let mut spec = bed.spec.clone();
        spec.generation = spec.generation.next();
        change(spec.pools[0].tls.as_mut().unwrap());
        let rejections = bed.plane.apply(Snapshot::parse(spec).unwrap()).unwrap_err();
        assert_eq!(rejections.len(), 1);
        assert_eq!(rejections[0].subject, pool, "{rejections:?}");
    }
    bed.spec.pools[0].tls.as_mut().unwrap().revoked = Some(String::new());
    bed.spec.pools[0].protocol = PoolProtocol::Tcp;
    assert!(Snapshot::parse(bed.spec.clone()).is_err());
}
