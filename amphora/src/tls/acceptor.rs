//! What one listener ends TLS with, and the handshakes of its clients.

use std::{sync::Arc, time::Duration};

use krater_amphora_api::{Cause, ClientCertificatesSpec, ListenerTlsSpec};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    server::{
        Acceptor as Greeter, ClientHello, NoServerSessionStorage, ResolvesServerCert,
        WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsStream};

use super::{
    failure,
    heard::Heard,
    material::{self, Reason},
    names::Names,
    peer::Peer,
};
use crate::limits::TLS_BUFFER_BYTES_MAX;

/// What a listener ends TLS with, made ready from its spec. Made anew when anything in that changes, and with it the keys
/// of its tickets: a session goes on only where it began, so nobody is let in by what another listener, other
/// authorities or an older list of revoked certificates thought of them.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    names: Arc<Names>,
}

impl Acceptor {
    /// Makes ready what the spec says.
    ///
    /// # Errors
    ///
    /// Every reason why it cannot be used.
    pub fn prepare(spec: &ListenerTlsSpec) -> Result<Self, Vec<String>> {
        let mut reasons = Vec::new();
        let mut note = |outcome: Result<_, Reason>, which: &str| {
            outcome
                .map_err(|reason| reasons.push(format!("{which}: {reason}")))
                .ok()
        };
        let default = spec
            .default_certificate
            .as_ref()
            .and_then(|spec| note(material::certified_key(spec), "default certificate"));
        let mut others = Vec::with_capacity(spec.sni_certificates.len());
        for (index, spec) in spec.sni_certificates.iter().enumerate() {
            let which = format!("SNI certificate {}", index + 1);
            others.extend(note(material::certified_key(spec), &which));
        }
        let provider = material::provider(&spec.cipher_suites);
        let verifier = match &spec.clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(clients) => match verifier(clients, &provider) {
                Ok(verifier) => verifier,
                Err(reason) => {
                    reasons.push(format!("client authentication: {reason}"));
                    return Err(reasons);
                }
            },
        };
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let names = Arc::new(Names::new(others, default));
        match config(spec, provider, verifier, &names) {
            Ok(config) => Ok(Self {
                config: Arc::new(config),
                names,
            }),
            Err(error) => Err(vec![format!("TLS cannot be set up: {error}")]),
        }
    }

    /// Shakes hands with a client that just connected, in at most that time.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
        allowed: Duration,
    ) -> Result<(Box<TlsStream<TcpStream>>, Peer), Failed> {
        let deadline = Instant::now() + allowed;
        let mut greeting = LazyConfigAcceptor::new(Greeter::default(), Heard::nothing(socket));
        let cause = match timeout_at(deadline, &mut greeting).await {
            Ok(Ok(start)) => return self.go_on(start, deadline).await,
            Ok(Err(error)) => failure::of_client(&error),
            Err(_) => Cause::ClientTlsTimeout,
        };
        let greeting = greeting.take_io();
        if greeting.as_ref().is_some_and(Heard::is_nothing) {
            // Whoever only looks whether somebody is there has not failed.
            return Err(Failed::SILENTLY);
        }
        Err(Failed::new(cause, greeting.map(Heard::into_inner)))
    }

    /// Shakes hands with a client that said hello.
    async fn go_on(
        &self,
        start: StartHandshake<Heard>,
        deadline: Instant,
    ) -> Result<(Box<TlsStream<TcpStream>>, Peer), Failed> {
        let mut start = StartHandshake::from_parts(start.accepted, start.io.into_inner());
        if self.names.choose(&start.client_hello()).is_none() {
            // The first thing said on the connection: if that does not fit, nothing does.
            let _ = timeout_at(deadline, start.io.write_all(UNRECOGNIZED_NAME)).await;
            return Err(Failed::new(Cause::ClientTlsName, Some(start.io)));
        }
        let rest = start.into_stream_with(Arc::clone(&self.config), |session| {
            session.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
        });
        let stream = timeout_at(deadline, rest.into_fallible())
            .await
            .map_err(|_| Failed::new(Cause::ClientTlsTimeout, None))?
            .map_err(|(error, socket)| Failed::new(failure::of_client(&error), Some(socket)))?;
        let (_, session) = stream.get_ref();
        let peer = Peer::new(session);
        if peer.is_outdated() {
            return Err(Failed::new(Cause::ClientCertificateExpired, None));
        }
        Ok((Box::new(TlsStream::Server(stream)), peer))
    }
}

/// A handshake that failed.
pub(crate) struct Failed {
    /// `None` when the client did not say a word.
    pub(crate) cause: Option<Cause>,
    /// The connection, if the client is to be left the time to read what it was told.
    pub(crate) socket: Option<TcpStream>,
}

impl Failed {
    const SILENTLY: Self = Self {
        cause: None,
        socket: None,
    };

    fn new(cause: Cause, socket: Option<TcpStream>) -> Self {
        let told = !matches!(cause, Cause::ClientTlsGone | Cause::ClientTlsTimeout);
        Self {
            cause: Some(cause),
            socket: socket.filter(|_| told),
        }
    }
}

fn config(
    spec: &ListenerTlsSpec,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    names: &Arc<Names>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&material::versions(&spec.versions))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Chosen(Arc::clone(names))));
    config.ignore_client_order = true;
    config.alpn_protocols = spec
        .alpn
        .iter()
        .map(|protocol| material::alpn(*protocol).to_vec())
        .collect();
    // What a session is stays with the client, sealed; nothing is kept here, and all threads can open it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Judges clients as OpenSSL does where it is given a list of revoked certificates: each certificate of a chain must be
/// on no list, for each there must be one, and none may be out of date.
fn verifier(
    spec: &ClientCertificatesSpec,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Reason> {
    let roots: Arc<RootCertStore> = material::authorities(&spec.authorities)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(revoked) = &spec.revoked {
        builder = builder
            .with_crls(material::revocations(revoked)?)
            .enforce_revocation_expiration();
    }
    if !spec.required {
        builder = builder.allow_unauthenticated();
    }
    builder
        .build()
        .map_err(|error| format!("the revocation list cannot be used: {error}"))
}

/// The certificate for whoever says hello. That there is one is found out before.
#[derive(Debug)]
struct Chosen(Arc<Names>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.choose(&hello).map(Arc::clone)
    }
}

impl Names {
    fn choose(&self, hello: &ClientHello<'_>) -> Option<&Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}

/// An alert of its own record: fatal, unrecognized_name (RFC 6066 section 3). The library knows no way to refuse a name
/// by that word.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

#[cfg(test)]
mod tests;
