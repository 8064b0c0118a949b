//! HTTP toward the services of a cloud: connections that are kept, TLS, and bounds on time and size.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;
use tokio::time::timeout;

use crate::limits::{CONNECT_TIME_MAX, IDLE_CONNECTIONS_MAX, IDLE_TIME_MAX};

/// Why there can be no client. Each is a sentence for people.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The address is none.
    #[error(transparent)]
    Url(#[from] crate::settings::UrlError),
    /// The file of authorities cannot be used.
    #[error("the certificate authorities in {path} cannot be used: {reason}")]
    Authorities {
        /// Where they should be.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// This host has no authorities.
    #[error("this host has no certificate authorities ({0}); name a file of them")]
    NoAuthorities(String),
    /// TLS cannot be had at all.
    #[error("TLS cannot be used: {0}")]
    Tls(rustls::Error),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoAnswer {
    /// Nobody is there, or it takes too long.
    #[error("{0}")]
    Unreachable(String),
    /// The connection broke in the middle.
    #[error("{0}")]
    Broken(String),
    /// It is too large.
    #[error("its answer is too large")]
    TooLarge,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A client with its pool of connections.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    answer_bytes_max: usize,
}

impl HttpClient {
    /// A client that trusts the authorities of `cafile`, or of this host; connects to nobody yet. `tls` is whether
    /// TLS is needed at all: a host that talks plainly may have no authorities.
    pub(crate) fn new(
        cafile: Option<&Path>,
        tls: bool,
        answer_time_max: Duration,
        answer_bytes_max: usize,
    ) -> Result<Self, SetupError> {
        let roots = match cafile {
            Some(path) => roots_of(path)?,
            None if tls => roots_of_host()?,
            None => RootCertStore::empty(),
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIME_MAX.min(answer_time_max)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Ok(Self {
            client,
            timeout: answer_time_max,
            answer_bytes_max,
        })
    }

    /// Asks. A kept connection may have ended meanwhile, so what broke is asked once more: a login twice does no harm.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        match self.ask_once(request.clone()).await {
            Err(NoAnswer::Broken(_)) => self.ask_once(request).await,
            outcome => outcome,
        }
    }

    async fn ask_once(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let reason = chain(&error);
                if error.is_connect() {
                    NoAnswer::Unreachable(reason)
                } else {
                    NoAnswer::Broken(reason)
                }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, self.answer_bytes_max)
                .collect()
                .await
                .map_err(|error| {
                    if error.is::<LengthLimitError>() {
                        NoAnswer::TooLarge
                    } else {
                        NoAnswer::Broken(error.to_string())
                    }
                })?
                .to_bytes();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(NoAnswer::Unreachable("it takes too long to answer".into())))
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, SetupError> {
    let wrong = |reason: String| SetupError::Authorities {
        path: path.display().to_string(),
        reason,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it has no certificate".into()));
    }
    Ok(roots)
}

fn roots_of_host() -> Result<RootCertStore, SetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(SetupError::NoAuthorities(reasons.join("; ")));
    }
    Ok(roots)
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !text.ends_with(&sentence) {
            text = format!("{text}: {sentence}");
        }
        cause = error.source();
    }
    text
}
