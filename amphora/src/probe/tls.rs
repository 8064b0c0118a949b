//! Probes over TLS: a handshake, or a request inside it. Nobody's certificate is judged (reference 19.7): what a probe
//! asks is whether the member serves, not who it is.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use krater_amphora_core::monitor::{HttpProbe, ProbeFailure, Stage};
use rustls::{
    ClientConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{error::Elapsed, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    failure::from_io,
    http,
    tcp::{Allowance, Target, connect},
};
use crate::tls::{Anybody, Connector, Offer};

/// Succeeds when the server has said hello and shown a certificate. That it may ask for one of ours and end the
/// handshake for want of it says nothing against it.
pub(super) async fn probe(
    target: Target,
    asked: Asked<'_>,
    time: Allowance,
) -> Result<(), ProbeFailure> {
    let stream = connect(target, time).await?;
    let greeted = anybody();
    match handshake(stream, target.address, asked, &greeted, time).await {
        Err(ProbeFailure::Tls(_) | ProbeFailure::Closed) if greeted.was_shown_one() => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Succeeds when the answer to a request inside TLS has an expected status.
pub(super) async fn probe_http(
    target: Target,
    request: &HttpProbe,
    offered: &[Vec<u8>],
    time: Allowance,
) -> Result<(), ProbeFailure> {
    let stream = connect(target, time).await?;
    let (asked, any) = ((request.host.as_deref(), offered), anybody());
    let stream = handshake(stream, target.address, asked, &any, time).await?;
    http::ask(stream, request, time).await
}

/// The same inside TLS as requests of clients are made in, down to who vouches for the member.
pub(super) async fn probe_http_by(
    connector: &Connector,
    target: Target,
    request: &HttpProbe,
    time: Allowance,
) -> Result<(), ProbeFailure> {
    let stream = connect(target, time).await?;
    let name = request.host.as_deref().and_then(without_port);
    let handshake = connector.connect(stream, target.address.ip(), name, Offer::Http1);
    let stream = judged(timeout_at(time.until, Box::pin(handshake)).await, time)?;
    http::ask(stream, request, time).await
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    (server_name, offered): Asked<'_>,
    verifier: &Arc<Anybody>,
    time: Allowance,
) -> Result<TlsStream<TcpStream>, ProbeFailure> {
    let mut config = CONFIG
        .as_ref()
        .map_err(|reason| ProbeFailure::Local(reason.clone()))?
        .clone();
    config
        .dangerous()
        .set_certificate_verifier(Arc::clone(verifier) as Arc<dyn ServerCertVerifier>);
    config.alpn_protocols = offered.to_vec();
    let connector = TlsConnector::from(Arc::new(config));
    let name = sni(server_name).unwrap_or_else(|| ServerName::from(address.ip()));
    judged(
        timeout_at(time.until, connector.connect(name, stream)).await,
        time,
    )
}

/// What came of a handshake, in terms of the member's health.
fn judged<T>(outcome: Result<io::Result<T>, Elapsed>, time: Allowance) -> Result<T, ProbeFailure> {
    match outcome {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(reason) => ProbeFailure::Tls(rustls::Error::to_string(reason)),
                None => from_io(&error),
            },
        ),
        Err(_) => Err(ProbeFailure::Timeout {
            after: time.whole,
            stage: Stage::Handshake,
        }),
    }
}

/// What the server is asked for by name: without a port, and never an address (RFC 6066 section 3).
fn sni(name: Option<&str>) -> Option<ServerName<'static>> {
    ServerName::try_from(without_port(name?)?.to_owned()).ok()
}

fn without_port(name: &str) -> Option<&str> {
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    name.parse::<IpAddr>().is_err().then_some(name)
}

/// The server asked for, and what is offered to be spoken inside.
type Asked<'a> = (Option<&'a str>, &'a [Vec<u8>]);

/// Whose certificate is not judged.
fn anybody() -> Arc<Anybody> {
    Arc::new(Anybody::new(Arc::clone(&PROVIDER)))
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// TLS 1.2 and 1.3, each time from the beginning: a resumed session would show no certificate.
static CONFIG: LazyLock<Result<ClientConfig, String>> = LazyLock::new(|| {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(anybody())
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
});

#[cfg(test)]
mod tests;
