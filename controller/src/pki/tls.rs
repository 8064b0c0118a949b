//! The identities of [`super`] as TLS configurations, replaced in place when they are renewed.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{Authority, Identity, PkiError};

/// The controller's own TLS configurations as they are at present.
pub(crate) struct Credentials {
    current: RwLock<Pair>,
}

#[derive(Clone)]
struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    identity: Identity,
    /// The authorities that are trusted, PEM.
    trusted: String,
}

impl Credentials {
    /// Takes the controller's identity from the authority.
    pub(crate) fn load(authority: &Authority, now: Timestamp) -> Result<Self, PkiError> {
        Self::of(authority, authority.controller(now)?)
    }

    /// Takes an identity of the authority.
    pub(crate) fn of(authority: &Authority, identity: Identity) -> Result<Self, PkiError> {
        Ok(Self {
            current: RwLock::new(Pair::build(authority, identity)?),
        })
    }

    /// Takes a new identity when the present one nears its end. Connections that exist are not touched.
    pub(crate) fn renew(&self, authority: &Authority, now: Timestamp) -> Result<(), PkiError> {
        let current = self.current();
        if !current.identity.is_due(now) && current.trusted == authority.certificate_pem() {
            return Ok(());
        }
        let pair = Pair::build(authority, authority.controller(now)?)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// How the intake serves: certificates of this authority are known, whoever shows none is nobody.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.current().server
    }

    /// How agents are connected to.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.current().client
    }

    fn current(&self) -> Pair {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Pair {
    fn build(authority: &Authority, identity: Identity) -> Result<Self, PkiError> {
        let roots = Arc::new(roots(authority)?);
        let server = server_config(authority, &roots, &identity).map_err(PkiError::Unusable)?;
        let client = client_config(&roots, &identity).map_err(PkiError::Unusable)?;
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
            identity,
            trusted: authority.certificate_pem(),
        })
    }
}

fn roots(authority: &Authority) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    let trusted = authority.certificate_pem();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        let certificate = certificate.map_err(|error| general(&error))?;
        roots.add(certificate).map_err(PkiError::Unusable)?;
    }
    Ok(roots)
}

fn server_config(
    authority: &Authority,
    roots: &Arc<RootCertStore>,
    identity: &Identity,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(&provider))
            // A host that is to join has none yet.
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let (mut chain, key) = material(identity)?;
    // With the authority itself: a host that is to join knows no more of it than its fingerprint.
    let trusted = authority.certificate_pem();
    for own in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        chain.push(own.map_err(|error| rustls::Error::General(error.to_string()))?);
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_config(
    roots: &Arc<RootCertStore>,
    identity: &Identity,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = material(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn material(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rustls::Error> {
    let unreadable =
        |error: rustls_pki_types::pem::Error| rustls::Error::General(error.to_string());
    let chain = vec![
        CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).map_err(unreadable)?,
    ];
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(unreadable)?;
    Ok((chain, key))
}

fn general(error: &rustls_pki_types::pem::Error) -> PkiError {
    PkiError::Unusable(rustls::Error::General(error.to_string()))
}
