//! Who this amphora is to a controller, and how it knows one: certificates, key and authority as TLS configurations.
//!
//! Both directions are mutual. A controller shows the URI name `krater:controller` (and, as a server, the DNS name
//! `controller.krater`); an amphora shows `krater:amphora:<id>`. A certificate of the fleet's authority without
//! the right name is refused in the handshake: an amphora must not be able to command another.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::{config::Config, limits::PEM_BYTES_MAX};

mod peer;

pub(crate) use peer::{SESSIONS_PROTOCOL, amphora_of, name_of};

/// Name that a controller's certificate carries (URI SAN).
const CONTROLLER: &str = "krater:controller";
/// DNS name of every controller's server certificate; controllers are addressed by whatever reaches them.
const CONTROLLER_DNS: &str = "controller.krater";

/// TLS configurations made from the files named in the settings.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The URI name that its certificate has to carry.
    uri: String,
    files: [PathBuf; 3],
    stamp: Stamp,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    peer_server: Arc<ServerConfig>,
    peer_client: Arc<ClientConfig>,
    validity: (i64, i64),
}

impl Identity {
    /// Reads the files and makes sure that they fit each other and the id.
    pub(crate) fn load(config: &Config) -> Result<Self, IdentityError> {
        let files = [
            config.certificate.clone(),
            config.key.clone(),
            config.authority.clone(),
        ];
        Self::read(format!("krater:amphora:{}", config.id), files)
    }

    /// Reads the files again when one changed since. An error leaves what was in use, and the next call tries again:
    /// files that are replaced one after the other do not fit each other for a moment.
    pub(crate) fn refresh(&mut self) -> Result<Refresh, IdentityError> {
        if Stamp::of(&self.files).is_ok_and(|stamp| stamp == self.stamp) {
            return Ok(Refresh::Unchanged);
        }
        *self = Self::read(self.uri.clone(), self.files.clone())?;
        Ok(Refresh::Renewed)
    }

    /// How the agent serves.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// How heartbeats connect.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// How other amphorae are accepted.
    pub(crate) fn peer_server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.peer_server)
    }

    /// How other amphorae are connected to.
    pub(crate) fn peer_client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.peer_client)
    }

    /// The name asked of a controller's server certificate.
    pub(crate) const fn controller_name() -> &'static str {
        CONTROLLER_DNS
    }

    /// From when to when the own certificate is good, in seconds since the epoch.
    pub(crate) const fn validity(&self) -> (i64, i64) {
        self.validity
    }

    /// When the own certificate ends, since the epoch.
    pub(crate) const fn expiry(&self) -> Duration {
        Duration::from_secs(self.validity.1.unsigned_abs())
    }

    /// Reads certificate, key and authority and makes sure that they fit each other and the name.
    pub(crate) fn read(uri: String, files: [PathBuf; 3]) -> Result<Self, IdentityError> {
        // Stamped before reading: a change in between is seen as one next time.
        let stamp = Stamp::of(&files)?;
        let [certificate_file, key_file, authority_file] = &files;
        let chain = read_certificates(certificate_file)?;
        // One that comes along with the certificate fits it, whatever a crash left behind in the other file.
        let key = match key_in(certificate_file)? {
            Some(key) => key,
            None => read_key(key_file)?,
        };
        let roots = read_roots(authority_file)?;
        let validity = check_own_certificate(&uri, &chain, certificate_file)?;
        let unfit = |source| IdentityError::Unfit {
            path: certificate_file.clone(),
            source,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = server_config(&provider, &roots, &chain, key.clone_key()).map_err(unfit)?;
        let client = client_config(&provider, &roots, &chain, key.clone_key()).map_err(unfit)?;
        let peer_server = peer::server_config(&provider, &roots, &chain, key.clone_key());
        let peer_client = peer::client_config(&provider, &roots, &chain, key);
        let (peer_server, peer_client) = (peer_server.map_err(unfit)?, peer_client.map_err(unfit)?);
        Ok(Self {
            uri,
            files,
            stamp,
            server,
            client,
            peer_server,
            peer_client,
            validity,
        })
    }
}

/// What [`Identity::refresh`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// The files are as they were.
    Unchanged,
    /// New files are in use.
    Renewed,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// One sentence.
        reason: String,
    },
    /// Certificate, key and authority make no usable configuration.
    #[error("{} cannot be used", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(ControllerOnly(verifier)))
        .with_single_cert(chain.to_vec(), key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ControllerOnly(verifier)))
        .with_client_auth_cert(chain.to_vec(), key)?;
    // One connection, one request at a time: HTTP/1.1 is enough.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A verifier of chains that also asks for the controller's name.
#[derive(Debug)]
struct ControllerOnly<V>(V);

impl ClientCertVerifier for ControllerOnly<Arc<dyn ClientCertVerifier>> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        require_controller(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl ServerCertVerifier for ControllerOnly<Arc<WebPkiServerVerifier>> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        require_controller(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Refuses whoever is no controller.
pub(crate) fn require_controller(certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    if carries_uri(&parsed, CONTROLLER) {
        return Ok(());
    }
    Err(rustls::Error::InvalidCertificate(
        CertificateError::ApplicationVerificationFailure,
    ))
}

/// Makes sure that the certificate carries the name, and says from when to when it is good.
fn check_own_certificate(
    name: &str,
    chain: &[CertificateDer<'static>],
    path: &Path,
) -> Result<(i64, i64), IdentityError> {
    let malformed = |reason: String| IdentityError::Malformed {
        path: path.to_owned(),
        reason,
    };
    let first = chain
        .first()
        .ok_or_else(|| malformed("it holds no certificate".to_owned()))?;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(first)
        .map_err(|error| malformed(format!("the certificate cannot be read: {error}")))?;
    if !carries_uri(&parsed, name) {
        return Err(malformed(format!(
            "the certificate is somebody else's: it lacks the URI name {name}"
        )));
    }
    let validity = parsed.validity();
    Ok((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

fn carries_uri(certificate: &x509_parser::certificate::X509Certificate<'_>, wanted: &str) -> bool {
    certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .is_some_and(|names| {
            names
                .value
                .general_names
                .iter()
                .any(|name| matches!(name, GeneralName::URI(uri) if *uri == wanted))
        })
}

/// The certificates of a PEM file, at least one.
pub(crate) fn read_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let malformed = |reason: String| IdentityError::Malformed {
        path: path.to_owned(),
        reason,
    };
    let chain = CertificateDer::pem_slice_iter(&read_file(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(format!("it is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(malformed("it holds no certificate".to_owned()));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(&read_file(path)?).map_err(|error| IdentityError::Malformed {
        path: path.to_owned(),
        reason: format!("it holds no private key: {error}"),
    })
}

/// The private key that a file of certificates holds, if it does.
fn key_in(path: &Path) -> Result<Option<PrivateKeyDer<'static>>, IdentityError> {
    match PrivateKeyDer::from_pem_slice(&read_file(path)?) {
        Ok(key) => Ok(Some(key)),
        Err(pem::Error::NoItemsFound) => Ok(None),
        Err(error) => Err(IdentityError::Malformed {
            path: path.to_owned(),
            reason: format!("its private key cannot be read: {error}"),
        }),
    }
}

fn read_roots(path: &Path) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| IdentityError::Unfit {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(Arc::new(roots))
}

fn read_file(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(PEM_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

/// What tells one version of the files from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp([(u64, u64, i64, i64); 3]);

impl Stamp {
    fn of(files: &[PathBuf; 3]) -> Result<Self, IdentityError> {
        let mut stamps = [(0, 0, 0, 0); 3];
        for (stamp, path) in stamps.iter_mut().zip(files) {
            let metadata = fs::metadata(path).map_err(|source| IdentityError::Unreadable {
                path: path.clone(),
                source,
            })?;
            *stamp = (
                metadata.ino(),
                metadata.len(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            );
        }
        Ok(Self(stamps))
    }
}

#[cfg(test)]
mod tests;
