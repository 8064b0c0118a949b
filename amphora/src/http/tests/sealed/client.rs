//! A client that speaks TLS.

use krater_amphora_api::CertificateSpec;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::super::*;
use crate::testbed::authority::Authority;

/// What a client believes, shows and speaks.
pub(in crate::http::tests) struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    pub(in crate::http::tests) fn of(authority: &Authority) -> Self {
        Self::with(authority, None, |_| {})
    }

    pub(in crate::http::tests) fn with(
        authority: &Authority,
        certificate: Option<&CertificateSpec>,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Self {
        Self::speaking(&[&TLS13, &TLS12], authority, certificate, change)
    }

    pub(in crate::http::tests) fn speaking(
        versions: &[&'static rustls::SupportedProtocolVersion],
        authority: &Authority,
        certificate: Option<&CertificateSpec>,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => config.with_no_client_auth(),
            Some(spec) => {
                let chain = CertificateDer::pem_slice_iter(spec.chain.as_bytes())
                    .collect::<Result<_, _>>()
                    .unwrap();
                let key = PrivateKeyDer::from_pem_slice(spec.key.expose().as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        change(&mut config);
        let config = Arc::new(config);
        Self { config }
    }

    /// Connects and shakes hands.
    pub(in crate::http::tests) fn call(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<Talk<StreamOwned<ClientConnection, TcpStream>>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        let mut stream = crate::testbed::connect(address);
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Talk::over(StreamOwned::new(session, stream)))
    }

    /// The alert that the handshake, or the first request, ends with.
    pub(in crate::http::tests) fn alert(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> AlertDescription {
        let error = self.call(address, name).and_then(|mut talk| {
            // With TLS 1.3 a client learns what is thought of its certificate only when it reads.
            let stream = talk.stream.get_mut();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            stream.read(&mut [0]).map(drop)
        });
        let error = error.expect_err("it ended well");
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::AlertReceived(alert)) => *alert,
            _ => panic!("no alert but {error}"),
        }
    }
}

/// The certificate that was shown.
pub(in crate::http::tests) fn shown(
    talk: &Talk<StreamOwned<ClientConnection, TcpStream>>,
) -> Vec<u8> {
    let session = &talk.stream.get_ref().conn;
    session.peer_certificates().unwrap()[0].to_vec()
}

pub(in crate::http::tests) fn der(spec: &CertificateSpec) -> Vec<u8> {
    let certificate = CertificateDer::from_pem_slice(spec.chain.as_bytes());
    certificate.unwrap().to_vec()
}
