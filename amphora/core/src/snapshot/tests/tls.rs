//! Limits and rules of TLS.

use krater_amphora_api::{
    CertificateSpec, CipherSuite, ClientCertificatesSpec, HstsSpec, PrivateKeyPem, TlsVersion,
};

use super::*;

pub(super) fn certificate(chain: usize, key: usize) -> CertificateSpec {
    CertificateSpec {
        chain: "c".repeat(chain),
        key: PrivateKeyPem::new("k".repeat(key)),
    }
}

pub(super) fn ended_tls() -> ListenerTlsSpec {
    ListenerTlsSpec {
        default_certificate: Some(certificate(1, 1)),
        sni_certificates: vec![],
        clients: None,
        versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        cipher_suites: CipherSuite::ALL.to_vec(),
        alpn: vec![],
    }
}

pub(super) fn spoken_tls() -> PoolTlsSpec {
    PoolTlsSpec {
        certificate: None,
        authorities: None,
        revoked: None,
        versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        cipher_suites: CipherSuite::ALL.to_vec(),
        alpn: vec![],
    }
}

/// The first listener ends TLS, as changed.
fn ended(change: impl FnOnce(&mut ListenerTlsSpec)) -> impl FnOnce(&mut SnapshotSpec) {
    |spec| {
        let mut tls = ended_tls();
        change(&mut tls);
        let listener = &mut spec.listeners[0];
        *listener = ListenerSpec {
            default_pool: None,
            tls: Some(tls),
            ..sample::listener(1, ListenerProtocol::Http, 443)
        };
    }
}

/// The members of a pool of its own are spoken to by TLS, as changed.
fn spoken(change: impl FnOnce(&mut PoolTlsSpec)) -> impl FnOnce(&mut SnapshotSpec) {
    |spec| {
        let mut tls = spoken_tls();
        change(&mut tls);
        spec.pools.push(PoolSpec {
            tls: Some(tls),
            ..pool(7, PoolProtocol::Http, vec![])
        });
    }
}

const SEALED: Subject = Subject::Pool(pool_id(7));
const WHOLE: Subject = Subject::LoadBalancer;

fn clients(authorities: usize, revoked: usize) -> ClientCertificatesSpec {
    ClientCertificatesSpec {
        required: true,
        authorities: "a".repeat(authorities),
        revoked: Some("r".repeat(revoked)),
    }
}

#[test]
fn certificates_of_a_listener_are_at_least_one_and_bounded() {
    let many = |count: usize| {
        ended(move |tls| {
            tls.default_certificate = None;
            tls.sni_certificates = vec![certificate(1, 1); count];
        })
    };
    refused(LISTENER, "at least one is needed", many(0));
    accepted(many(limits::CERTIFICATES_PER_LISTENER_MAX));
    refused(
        LISTENER,
        "1001 certificates, at most 1000",
        many(limits::CERTIFICATES_PER_LISTENER_MAX + 1),
    );
    // The default one counts.
    refused(
        LISTENER,
        "1001 certificates",
        ended(|tls| {
            tls.sni_certificates = vec![certificate(1, 1); limits::CERTIFICATES_PER_LISTENER_MAX];
        }),
    );
    let in_all = |last: usize| {
        move |spec: &mut SnapshotSpec| {
            let counts = [1_000, limits::CERTIFICATES_MAX - 1_000, last];
            spec.listeners = counts
                .into_iter()
                .zip(1_u16..)
                .filter(|(count, _)| *count > 0)
                .map(|(count, number)| ListenerSpec {
                    tls: Some(ListenerTlsSpec {
                        default_certificate: None,
                        sni_certificates: vec![certificate(1, 1); count],
                        ..ended_tls()
                    }),
                    ..listener(u128::from(number), ListenerProtocol::Http, number)
                })
                .collect();
        }
    };
    accepted(in_all(0));
    refused(WHOLE, "2001 certificates in all", in_all(1));
}

/// How many bytes there may be of something, what has that many, and what is said of more.
type Bound<T> = (usize, fn(&mut T, usize), &'static str);

#[test]
fn what_certificates_and_lists_hold_is_bounded() {
    let (chain, key) = (limits::CHAIN_BYTES_MAX, limits::PRIVATE_KEY_BYTES_MAX);
    let (authorities, lists) = (limits::AUTHORITIES_BYTES_MAX, limits::REVOCATIONS_BYTES_MAX);
    let of_listeners: [Bound<ListenerTlsSpec>; 4] = [
        (
            chain,
            |tls, bytes| tls.default_certificate = Some(certificate(bytes, 1)),
            "bytes in a chain",
        ),
        (
            key,
            |tls, bytes| tls.sni_certificates = vec![certificate(1, bytes)],
            "bytes in a private key",
        ),
        (
            authorities,
            |tls, bytes| tls.clients = Some(clients(bytes, 1)),
            "bytes of authorities",
        ),
        (
            lists,
            |tls, bytes| tls.clients = Some(clients(1, bytes)),
            "bytes in a list of revoked",
        ),
    ];
    for (most, fill, text) in of_listeners {
        accepted(ended(|tls| fill(tls, most)));
        let text = format!("{} {text}", most + 1);
        refused(LISTENER, &text, ended(|tls| fill(tls, most + 1)));
    }
    let of_pools: [Bound<PoolTlsSpec>; 4] = [
        (
            chain,
            |tls, bytes| tls.certificate = Some(certificate(bytes, 1)),
            "bytes in a chain",
        ),
        (
            key,
            |tls, bytes| tls.certificate = Some(certificate(1, bytes)),
            "bytes in a private key",
        ),
        (
            authorities,
            |tls, bytes| tls.authorities = Some("a".repeat(bytes)),
            "bytes of authorities",
        ),
        (
            lists,
            |tls, bytes| tls.revoked = Some("r".repeat(bytes)),
            "bytes in a list of revoked",
        ),
    ];
    for (most, fill, text) in of_pools {
        let filled = |bytes: usize| {
            spoken(move |tls| {
                tls.authorities = Some(String::new());
                fill(tls, bytes);
            })
        };
        accepted(filled(most));
        let text = format!("{} {text}", most + 1);
        refused(SEALED, &text, filled(most + 1));
    }
}

#[test]
fn all_of_it_together_is_bounded_so_that_a_spec_fits_its_body() {
    // A list of the largest size for each of three pools, and a listener's for what is left.
    let filled = |more: usize| {
        move |spec: &mut SnapshotSpec| {
            let list = limits::REVOCATIONS_BYTES_MAX;
            for number in 10..13 {
                spec.pools.push(PoolSpec {
                    tls: Some(PoolTlsSpec {
                        authorities: Some(String::new()),
                        revoked: Some("r".repeat(list)),
                        ..spoken_tls()
                    }),
                    ..pool(number, PoolProtocol::Http, vec![])
                });
            }
            // Two bytes are those of the certificate.
            let left = limits::TLS_BYTES_TOTAL_MAX - 3 * list - 2;
            let lists = left - limits::AUTHORITIES_BYTES_MAX;
            ended(|tls| tls.clients = Some(clients(limits::AUTHORITIES_BYTES_MAX, lists)))(spec);
            spec.pools.push(PoolSpec {
                tls: Some(PoolTlsSpec {
                    authorities: Some("a".repeat(more)),
                    ..spoken_tls()
                }),
                ..pool(13, PoolProtocol::Http, vec![])
            });
        }
    };
    accepted(filled(0));
    refused(
        WHOLE,
        "bytes of certificates, keys and lists in all",
        filled(1),
    );
}

#[test]
fn versions_and_suites_are_some_of_each_and_go_together() {
    let terms = |versions: &'static [TlsVersion], suites: &'static [CipherSuite]| {
        (
            ended(|tls| (tls.versions, tls.cipher_suites) = (versions.to_vec(), suites.to_vec())),
            spoken(|tls| (tls.versions, tls.cipher_suites) = (versions.to_vec(), suites.to_vec())),
        )
    };
    let good: [(&'static [TlsVersion], &'static [CipherSuite]); 3] = [
        (&[TlsVersion::Tls12], &[CipherSuite::EcdsaAes128Gcm]),
        // A suite that no version speaks has no effect.
        (
            &[TlsVersion::Tls13],
            &[CipherSuite::EcdsaAes128Gcm, CipherSuite::Aes128Gcm],
        ),
        (&[TlsVersion::Tls12, TlsVersion::Tls13], &CipherSuite::ALL),
    ];
    for (versions, suites) in good {
        let (listener, pool) = terms(versions, suites);
        accepted(listener);
        accepted(pool);
    }
    let bad: [(&'static [TlsVersion], &'static [CipherSuite], &str); 6] = [
        (&[], &CipherSuite::ALL, "TLS has no version"),
        (&[TlsVersion::Tls12], &[], "no cipher suite for TLS 1.2"),
        (
            &[TlsVersion::Tls12],
            &[CipherSuite::Aes128Gcm],
            "no cipher suite for TLS 1.2",
        ),
        (
            &[TlsVersion::Tls12, TlsVersion::Tls13],
            &[CipherSuite::EcdsaAes128Gcm],
            "no cipher suite for TLS 1.3",
        ),
        (
            &[TlsVersion::Tls13, TlsVersion::Tls13],
            &CipherSuite::ALL,
            "listed twice",
        ),
        (
            &[TlsVersion::Tls13],
            &[CipherSuite::Aes128Gcm, CipherSuite::Aes128Gcm],
            "listed twice",
        ),
    ];
    for (versions, suites, text) in bad {
        let (listener, pool) = terms(versions, suites);
        refused(LISTENER, text, listener);
        refused(SEALED, text, pool);
    }
}

#[test]
fn tls_is_for_http_and_what_goes_with_it_needs_it() {
    for protocol in [ListenerProtocol::Tcp, ListenerProtocol::Udp] {
        refused(
            LISTENER,
            "only an http or a metrics listener can end TLS",
            |spec| {
                ended(|_| {})(spec);
                spec.listeners[0].protocol = protocol;
            },
        );
    }
    for protocol in [PoolProtocol::Tcp, PoolProtocol::Udp] {
        refused(SEALED, "only members of http and proxy pools", |spec| {
            spoken(|_| {})(spec);
            spec.pools[1].protocol = protocol;
        });
    }
    refused(
        SEALED,
        "means nothing without authorities",
        spoken(|tls| tls.revoked = Some("r".into())),
    );
    for protocol in [PoolProtocol::Proxy, PoolProtocol::ProxyV2] {
        let below = |listener: ListenerProtocol| {
            move |spec: &mut SnapshotSpec| {
                spoken(|_| {})(spec);
                spec.pools[1].protocol = protocol;
                spec.listeners[0] = ListenerSpec {
                    default_pool: Some(pool_id(7)),
                    ..sample::listener(1, listener, 443)
                };
            }
        };
        accepted(below(ListenerProtocol::Http));
        let text = "cannot send to a proxy pool by TLS";
        refused(LISTENER, text, below(ListenerProtocol::Tcp));
    }
    let hsts = HstsSpec {
        max_age_seconds: 1,
        include_subdomains: false,
        preload: false,
    };
    let snapshot = accepted(|spec| {
        ended(|_| {})(spec);
        spec.listeners[0].hsts = Some(hsts);
    });
    let told = snapshot.listeners()[0].hsts.as_ref();
    assert_eq!(told.map(crate::hsts::Hsts::value), Some("max-age=1"));
    refused(LISTENER, "without TLS browsers cannot be told", |spec| {
        spec.listeners[0].hsts = Some(hsts);
    });
    refused(LISTENER, "nothing about certificates of clients", |spec| {
        spec.listeners[0].insert_headers.x_ssl_client_cn = true;
    });
}
