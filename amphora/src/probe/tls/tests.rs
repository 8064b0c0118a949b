//! TLS probes against servers of all sorts.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::mpsc,
    thread,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use super::*;
use crate::probe::tests::perform;

/// A certificate of its own make for a name that nobody asks for.
fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["elsewhere.example".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (certificate, key)
}

fn server_config(
    version: &'static rustls::SupportedProtocolVersion,
    client: Option<CertificateDer<'static>>,
) -> Arc<ServerConfig> {
    let (certificate, key) = certificate();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[version])
        .unwrap();
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root).unwrap();
            let roots = Arc::new(roots);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

/// Serves one connection over TLS; hands out the name that was asked for, and the request.
fn server(
    config: Arc<ServerConfig>,
    answer: &'static [u8],
) -> (SocketAddr, mpsc::Receiver<(Option<String>, String)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (told, tells) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(config).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let (mut asked, mut byte) = (Vec::new(), [0]);
        while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            asked.push(byte[0]);
        }
        let _ = stream.write_all(answer);
        let _ = stream.flush();
        let name = stream.conn.server_name().map(str::to_owned);
        let _ = told.send((name, String::from_utf8(asked).unwrap()));
    });
    (address, tells)
}

fn https(version: &str, domain: Option<&str>) -> serde_json::Value {
    json!({
        "type": "https", "method": "HEAD", "path": "/ready", "version": version, "domain_name": domain,
        "expected_codes": [{"first": 200, "last": 200}],
    })
}

#[test]
fn a_request_is_made_inside_tls_whatever_the_certificate() {
    for version in [&TLS12, &TLS13] {
        let config = server_config(version, None);
        let (address, tells) = server(Arc::clone(&config), b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(perform(https("1.0", None), address), Ok(()));
        let request = "HEAD /ready HTTP/1.0\r\nConnection: close\r\n\r\n";
        assert_eq!(tells.recv().unwrap(), (None, request.to_owned()));
        let (address, tells) = server(config, b"HTTP/1.1 503 No\r\n\r\n");
        let named = https("1.1", Some("www.example.com:8443"));
        assert_eq!(perform(named, address), Err(ProbeFailure::Status(503)));
        let (name, request) = tells.recv().unwrap();
        assert_eq!(name.as_deref(), Some("www.example.com"));
        assert!(
            request.contains("Host: www.example.com:8443\r\n"),
            "{request}"
        );
    }
}

#[test]
fn a_hello_is_enough_even_of_a_server_that_wants_to_know_its_clients() {
    for version in [&TLS12, &TLS13] {
        for client in [None, Some(certificate().0)] {
            let hello = |name: Option<&str>| json!({"type": "tls_hello", "server_name": name});
            let config = server_config(version, client);
            let (address, tells) = server(Arc::clone(&config), b"");
            assert_eq!(perform(hello(None), address), Ok(()));
            let _ = tells.recv();
            let (address, tells) = server(config, b"");
            assert_eq!(perform(hello(Some("a.example")), address), Ok(()));
            let (name, _) = tells.recv().unwrap();
            assert_eq!(name.as_deref(), Some("a.example"));
        }
    }
}

#[test]
fn who_speaks_no_tls_fails_with_its_own_reason() {
    let hello = || json!({"type": "tls_hello"});
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let answers = [
            &b"SSH-2.0-OpenSSH\r\n"[..],
            b"",
            b"HTTP/1.1 400 Bad\r\n\r\n",
        ];
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        // Takes connections and says nothing.
        let _held: Vec<_> = listener.incoming().take(1).collect();
        thread::sleep(std::time::Duration::from_secs(5));
    });
    let first = perform(hello(), address);
    assert!(matches!(first, Err(ProbeFailure::Tls(_))), "{first:?}");
    assert_eq!(perform(hello(), address), Err(ProbeFailure::Closed));
    let third = perform(https("1.0", None), address);
    assert!(matches!(third, Err(ProbeFailure::Tls(_))), "{third:?}");
    let silent = perform(hello(), address);
    let reason = silent.unwrap_err();
    assert_eq!(reason.to_string(), "no TLS handshake within 300ms");
}

#[test]
fn only_names_are_asked_for() {
    for (given, asked) in [
        (None, None),
        (Some("a.example"), Some("a.example")),
        (Some("a.example:8443"), Some("a.example")),
        (Some("192.0.2.1"), None),
        (Some("192.0.2.1:80"), None),
        (Some("[2001:db8::1]:80"), None),
        (Some("-"), None),
    ] {
        let name = sni(given).map(|name| name.to_str().into_owned());
        assert_eq!(name.as_deref(), asked, "{given:?}");
    }
}
