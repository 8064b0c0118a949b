//! How amphorae know each other: by the certificates that controllers know them by, and under a protocol name of its own
//! in the handshake, so that no word of one of them is ever taken for a controller's.

use std::sync::Arc;

use krater_amphora_api::AmphoraId;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::CryptoProvider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

/// What they speak, in the handshake.
pub(crate) const SESSIONS_PROTOCOL: &[u8] = b"krater-sessions/1";

/// What certificates of amphorae name them by (URI SAN).
const AMPHORA: &str = "krater:amphora:";

/// How others are accepted. Who they are is looked at once they have shown it: [`amphora_of`].
pub(super) fn server_config(
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
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.to_vec(), key)?;
    config.alpn_protocols = vec![SESSIONS_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// How others are connected to.
pub(super) fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain.to_vec(), key)?;
    config.alpn_protocols = vec![SESSIONS_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// The name that an amphora's certificate is for as that of a server.
pub(crate) fn name_of(id: AmphoraId) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(format!("{id}.amphora.krater"))
}

/// Which amphora shows this chain, which was verified.
pub(crate) fn amphora_of(chain: Option<&[CertificateDer<'_>]>) -> Option<AmphoraId> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(chain?.first()?).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(AMPHORA)?.parse().ok(),
            _ => None,
        })
}
