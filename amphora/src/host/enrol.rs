//! Joining: the first contact with a deployment, of which only the fingerprint of its authority is known.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use krater_amphora_api::{EnrolRequest, Enrolled};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;
use tracing::info;

use super::{
    Join,
    controllers::{AskError, connect, exchange, understand},
    facts,
    folder::{Kept, system_name},
    keys::{Key, fingerprint},
};
use crate::{
    config::Controller, heartbeat::authority, identity::require_controller,
    limits::HOST_ASK_TIME_MAX,
};

/// What a host has once it was let in.
pub(crate) struct Joined {
    pub(crate) kept: Kept,
    pub(crate) certificate_pem: String,
    pub(crate) authority_pem: String,
}

/// Why a host was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// No controller could be asked.
    #[error("no controller could be asked: {0}")]
    Unreachable(String),
    /// A controller was asked, and said no.
    #[error("the controller refuses: {0}")]
    Ask(#[source] AskError),
    /// There is no key.
    #[error("no key can be made")]
    Key(#[source] rcgen::Error),
    /// TLS cannot be used.
    #[error("TLS cannot be used")]
    Tls(#[source] rustls::Error),
    /// Where controllers are to reach the host.
    #[error("{0} is no address that controllers reach this host at: say which with --address")]
    Address(std::net::IpAddr),
}

/// Asks the first controller that answers to let this host in.
pub(crate) async fn enrol(
    join: &Join,
    key: &Key,
    pinned: Arc<Pinned>,
) -> Result<Joined, EnrolError> {
    let config = client_config(pinned).map_err(EnrolError::Tls)?;
    let mut reasons = Vec::new();
    for controller in &join.controllers {
        let asked = ask(join, key, controller, Arc::clone(&config));
        match timeout(HOST_ASK_TIME_MAX, asked).await {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(EnrolError::Unreachable(reason))) => {
                reasons.push(format!("{}: {reason}", authority(controller)));
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => reasons.push(format!("{} takes too long", authority(controller))),
        }
    }
    Err(EnrolError::Unreachable(reasons.join("; ")))
}

async fn ask(
    join: &Join,
    key: &Key,
    controller: &Controller,
    config: Arc<ClientConfig>,
) -> Result<Joined, EnrolError> {
    let connected = connect(controller, config).await;
    let (mut sender, own) = connected.map_err(EnrolError::Unreachable)?;
    let address = join.address.unwrap_or(own);
    if address.is_unspecified() || address.is_multicast() {
        return Err(EnrolError::Address(address));
    }
    let mut kept = Kept {
        // Told by the answer.
        host: krater_amphora_api::HostId::new(uuid::Uuid::nil()),
        name: join.name.clone().unwrap_or_else(system_name),
        agent: SocketAddr::new(address, join.port),
        controllers: join.controllers.iter().map(authority).collect(),
        workers: join.workers,
        underlay: join.underlay,
    };
    let request = EnrolRequest {
        token: join.token.secret.clone(),
        request_pem: key.request_pem().map_err(EnrolError::Key)?,
        facts: facts(&kept),
    };
    info!(controller = authority(controller), agent = %kept.agent, "asking to be let in");
    let body = Bytes::from(serde_json::to_vec(&request).unwrap_or_default());
    let answered = exchange(&mut sender, controller, "/v1/hosts/enrol", body).await;
    let (status, answer) = answered.map_err(EnrolError::Unreachable)?;
    if status.is_server_error() {
        return Err(EnrolError::Unreachable(format!("it answers {status}")));
    }
    let enrolled: Enrolled = understand(status, &answer).map_err(EnrolError::Ask)?;
    kept.host = enrolled.host;
    if !enrolled.controllers.is_empty() {
        kept.controllers = enrolled.controllers;
    }
    Ok(Joined {
        kept,
        certificate_pem: enrolled.certificate_pem,
        authority_pem: enrolled.authority_pem,
    })
}

fn client_config(pinned: Arc<Pinned>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&pinned.provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Believes whom an authority of this fingerprint vouches for. The authority itself comes along with the chain.
#[derive(Debug)]
pub(crate) struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(crate) fn new(fingerprint: String) -> Arc<Self> {
        Arc::new(Self {
            fingerprint,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        })
    }

    fn is_authority(&self, certificate: &CertificateDer<'_>) -> bool {
        fingerprint(certificate) == self.fingerprint
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates
            .iter()
            .find(|certificate| self.is_authority(certificate))
            .ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|_| unknown())?;
        let verified =
            verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)?;
        require_controller(end_entity).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

    use super::*;

    fn authority_of() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn shown(by: &CertifiedIssuer<'static, KeyPair>, uri: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["controller.krater".to_owned()]).unwrap();
        let uri = SanType::URI(uri.try_into().unwrap());
        params.subject_alt_names.push(uri);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, by).unwrap().der().clone()
    }

    #[test]
    fn only_a_controller_of_the_authority_with_the_fingerprint_is_believed() {
        let (ours, foreign) = (authority_of(), authority_of());
        let pinned = Pinned::new(fingerprint(ours.der()));
        let name = ServerName::try_from("controller.krater").unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let check = |leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]| {
            pinned
                .verify_server_cert(leaf, chain, &name, &[], now)
                .is_ok()
        };
        let controller = shown(&ours, "krater:controller");
        assert!(check(&controller, &[ours.der().clone()]));
        assert!(!check(&controller, &[]), "the authority did not come along");
        assert!(!check(
            &shown(&ours, "krater:amphora:7"),
            &[ours.der().clone()]
        ));
        let stranger = shown(&foreign, "krater:controller");
        assert!(!check(&stranger, &[foreign.der().clone()]));
        assert!(!check(&stranger, &[ours.der().clone()]));
    }
}
