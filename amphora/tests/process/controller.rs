//! A controller as an amphora sees it: an authority, commands over mutual TLS, and an intake of reports.

use std::{
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use krater_amphora_api::{AmphoraId, Report};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::rig::PATIENCE;

/// The fleet's authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(crate) struct Credentials {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, uri: &str, dns: &str) -> Credentials {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        Credentials {
            certificate: params.signed_by(&key, &self.0).unwrap(),
            key,
        }
    }

    pub(crate) fn controller(&self) -> Credentials {
        self.issue("krater:controller", "controller.krater")
    }

    pub(crate) fn amphora(&self, id: AmphoraId) -> Credentials {
        self.issue(
            &format!("krater:amphora:{id}"),
            &format!("{id}.amphora.krater"),
        )
    }

    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.0.pem()).unwrap();
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }
}

impl Credentials {
    pub(crate) fn write(&self, certificate: &Path, key: &Path) {
        fs::write(certificate, self.certificate.pem()).unwrap();
        fs::write(key, self.key.serialize_pem()).unwrap();
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        (vec![self.certificate.der().clone()], key)
    }
}

/// How a controller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
    /// As amphorae do among themselves.
    Sessions,
}

/// Sends commands to one agent.
pub(crate) struct Commander {
    tls: Arc<ClientConfig>,
    address: SocketAddr,
    name: String,
    version: Version,
}

impl Commander {
    pub(crate) fn new(
        authority: &Authority,
        who: &Credentials,
        id: AmphoraId,
        port: u16,
        version: Version,
    ) -> Self {
        let (chain, key) = who.parts();
        let mut tls = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
        tls.alpn_protocols = match version {
            Version::Http1 => vec![b"http/1.1".to_vec()],
            Version::Http2 => vec![b"h2".to_vec()],
            Version::Sessions => vec![b"krater-sessions/1".to_vec()],
        };
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self {
            tls: Arc::new(tls),
            address,
            name: format!("{id}.amphora.krater"),
            version,
        }
    }

    /// One command over a connection of its own: status and body; or why there was no answer.
    pub(crate) fn send(
        &self,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Result<(u16, Value), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.exchange(method, path, body))
                .await
                .map_err(|error| error.to_string())?
        })
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: &str,
    ) -> Result<(u16, Value), String> {
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|error| error.to_string())?;
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let io = TokioIo::new(
            connector
                .connect(name, stream)
                .await
                .map_err(|error| error.to_string())?,
        );
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.name));
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = match self.version {
            Version::Http1 | Version::Sessions => {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
                    .await
                    .map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                sender.send_request(request).await
            }
            Version::Http2 => {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                        .await
                        .map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                sender.send_request(request).await
            }
        }
        .map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        Ok((
            status,
            serde_json::from_slice(&body).map_err(|error| error.to_string())?,
        ))
    }
}

/// Takes reports.
pub(crate) struct Intake {
    pub(crate) port: u16,
    reports: mpsc::Receiver<Report>,
}

impl Intake {
    pub(crate) fn start(authority: &Authority, who: &Credentials) -> Self {
        let (chain, key) = who.parts();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(authority.roots(), Arc::clone(&provider))
                .build();
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                take(
                    TcpListener::from_std(listener).unwrap(),
                    TlsAcceptor::from(Arc::new(tls)),
                    sender,
                )
                .await;
            });
        });
        Self { port, reports }
    }

    /// The next report, if one comes within `time`.
    pub(crate) fn next(&self, time: Duration) -> Option<Report> {
        self.reports.recv_timeout(time).ok()
    }

    /// Waits for a report that `fits`.
    pub(crate) fn wait_for(&self, what: &str, mut fits: impl FnMut(&Report) -> bool) -> Report {
        loop {
            let report = self
                .next(PATIENCE)
                .unwrap_or_else(|| panic!("waited in vain for a report: {what}"));
            if fits(&report) {
                return report;
            }
        }
    }
}

async fn take(listener: TcpListener, acceptor: TlsAcceptor, reports: mpsc::Sender<Report>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, reports) = (acceptor.clone(), reports.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let reports = reports.clone();
                async move {
                    assert_eq!(
                        (request.method(), request.uri().path()),
                        (&Method::POST, "/v1/reports")
                    );
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let report: Report = serde_json::from_slice(&body).unwrap();
                    // The first report of a boot is answered with a wish for another.
                    let again = report.sequence == 1;
                    let _ = reports.send(report);
                    let text = format!("{{\"again\":{again},\"unheard_of\":1}}");
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
