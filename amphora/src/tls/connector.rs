//! What the members of one pool are spoken to by TLS with (reference 19.10).

use std::{io, net::IpAddr, sync::Arc};

use krater_amphora_api::{AlpnProtocol, PoolTlsSpec};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::{
    anybody::Anybody,
    material::{self, Reason},
};
use crate::limits::{MEMBER_SESSIONS_MAX, TLS_BUFFER_BYTES_MAX};

/// What members are spoken to with, made ready from a pool's spec. Made anew when anything in that changes, and with it
/// what is remembered of sessions: none goes on that was begun under other authorities.
#[derive(Debug)]
pub struct Connector {
    /// With everything that the pool offers to be spoken inside.
    any: Arc<ClientConfig>,
    /// With what of it is HTTP/1.
    http1: Arc<ClientConfig>,
}

/// What is offered to be spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// All that the pool says.
    Any,
    /// HTTP/1 alone.
    Http1,
}

impl Connector {
    /// Makes ready what the spec says.
    ///
    /// # Errors
    ///
    /// Every reason why it cannot be used.
    pub fn prepare(spec: &PoolTlsSpec) -> Result<Self, Vec<String>> {
        let mut reasons = Vec::new();
        let provider = material::provider(&spec.cipher_suites);
        let certificate = spec.certificate.as_ref().map(material::certified_key);
        let certificate = certificate.transpose().map_err(|reason| {
            reasons.push(format!("certificate for members: {reason}"));
        });
        let verifier = verifier(spec, &provider).map_err(|reason| {
            reasons.push(format!("members: {reason}"));
        });
        let (Ok(certificate), Ok(verifier)) = (certificate, verifier) else {
            return Err(reasons);
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&material::versions(&spec.versions))
            .map_err(|error| vec![format!("TLS cannot be set up: {error}")])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match certificate {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(MEMBER_SESSIONS_MAX);
        let offering = |offer: Offer| {
            let spoken = spec
                .alpn
                .iter()
                .filter(|protocol| offer == Offer::Any || **protocol != AlpnProtocol::H2);
            let mut config = config.clone();
            config.alpn_protocols = spoken
                .map(|protocol| material::alpn(*protocol).to_vec())
                .collect();
            Arc::new(config)
        };
        Ok(Self {
            any: offering(Offer::Any),
            http1: offering(Offer::Http1),
        })
    }

    /// Shakes hands with a member over a connection that was just made. It is asked for `name`, and has to be called so
    /// where anybody vouches for members; without one nobody is asked for.
    pub(crate) async fn connect(
        &self,
        socket: TcpStream,
        member: IpAddr,
        name: Option<&str>,
        offer: Offer,
    ) -> io::Result<Box<TlsStream<TcpStream>>> {
        let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        // An address is not sent (RFC 6066 section 3).
        let name = name.unwrap_or_else(|| ServerName::from(member));
        let connector = TlsConnector::from(Arc::clone(self.config(offer)));
        let stream = connector
            .connect_with(name, socket, |session| {
                session.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
            })
            .await?;
        Ok(Box::new(TlsStream::Client(stream)))
    }

    /// Whether members may choose to speak HTTP/2.
    pub(crate) fn offers_http2(&self) -> bool {
        let http2 = material::alpn(AlpnProtocol::H2);
        self.any.alpn_protocols.iter().any(|name| name == http2)
    }

    /// What is offered, as the handshake names it.
    pub(crate) fn alpn(&self, offer: Offer) -> &[Vec<u8>] {
        &self.config(offer).alpn_protocols
    }

    const fn config(&self, offer: Offer) -> &Arc<ClientConfig> {
        match offer {
            Offer::Any => &self.any,
            Offer::Http1 => &self.http1,
        }
    }
}

fn verifier(
    spec: &PoolTlsSpec,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Reason> {
    let Some(authorities) = &spec.authorities else {
        return Ok(Arc::new(Anybody::new(Arc::clone(provider))));
    };
    let roots = material::authorities(authorities)?;
    let mut builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(revoked) = &spec.revoked {
        builder = builder
            .with_crls(material::revocations(revoked)?)
            .enforce_revocation_expiration();
    }
    let chain = builder
        .build()
        .map_err(|error| format!("the revocation list cannot be used: {error}"))?;
    Ok(Arc::new(Vouched(chain)))
}

/// Members that somebody has to vouch for. Their name counts if they were asked for one.
#[derive(Debug)]
struct Vouched(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match (server_name, verdict) {
            // The chain is judged first, the name last. An address was asked for by nobody.
            (
                ServerName::IpAddress(_),
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )),
            ) => Ok(ServerCertVerified::assertion()),
            (_, verdict) => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
