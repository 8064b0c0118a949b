//! Speaks to the controllers as a host: to whichever of them answers, over a connection that is kept.

use std::{cell::RefCell, io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use krater_amphora_api::{AmphoraId, CertificateRequest, Certified, HostRefusal};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tracing::debug;

use super::keys::Key;
use crate::{
    config::{Controller, parse_controller},
    heartbeat::authority,
    identity::Identity,
    limits::{HOST_ANSWER_BYTES_MAX, HOST_ASK_TIME_MAX, HOST_FIRST_WORD_TIME_MAX},
};

/// The controllers, as a host that has joined speaks to them.
pub(crate) struct Controllers {
    identity: Rc<RefCell<Identity>>,
    all: RefCell<Vec<Controller>>,
    /// As they are written.
    names: RefCell<Vec<String>>,
    current: RefCell<Current>,
}

/// Who answered last, and the connection to it.
#[derive(Default)]
struct Current {
    index: usize,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// Why a controller did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody answers.
    #[error("no controller answers: {0}")]
    Silent(String),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// This host is none any more.
    #[error("{0}")]
    Gone(String),
    /// There is no key to ask for.
    #[error("no key can be made")]
    Key(#[source] rcgen::Error),
}

impl Controllers {
    pub(crate) fn new(identity: Rc<RefCell<Identity>>, names: Vec<String>) -> Self {
        let all = names.iter().filter_map(|text| parse_controller(text).ok());
        Self {
            identity,
            all: RefCell::new(all.collect()),
            names: RefCell::new(names),
            current: RefCell::default(),
        }
    }

    /// From now on these.
    pub(crate) fn direct(&self, controllers: Vec<Controller>) {
        *self.names.borrow_mut() = controllers.iter().map(authority).collect();
        *self.all.borrow_mut() = controllers;
        self.hang_up();
    }

    /// As they are written, `host:port`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.borrow().clone()
    }

    /// The next question goes over a new connection.
    pub(crate) fn hang_up(&self) {
        *self.current.borrow_mut() = Current::default();
    }

    /// Has a key certified: an amphora's, or this host's own.
    pub(crate) async fn certify(
        &self,
        amphora: Option<AmphoraId>,
        key: &Key,
    ) -> Result<Certified, AskError> {
        let request = CertificateRequest {
            amphora,
            request_pem: key.request_pem().map_err(AskError::Key)?,
        };
        self.post("/v1/hosts/certificates", &request).await
    }

    /// Asks the first controller that answers.
    pub(crate) async fn post<T: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        question: &T,
    ) -> Result<A, AskError> {
        let body = Bytes::from(serde_json::to_vec(question).unwrap_or_default());
        let all = self.all.borrow().clone();
        let first = self.current.borrow().index;
        let mut reasons = Vec::new();
        for offset in 0..all.len() {
            let index = (first + offset) % all.len();
            let Some(controller) = all.get(index) else {
                continue;
            };
            let asked = self.ask(index, controller, path, body.clone());
            match timeout(HOST_ASK_TIME_MAX, asked).await {
                Ok(Ok((status, answer))) if !status.is_server_error() => {
                    return understand(status, &answer);
                }
                Ok(Ok((status, _))) => {
                    reasons.push(format!("{} answers {status}", authority(controller)))
                }
                Ok(Err(reason)) => reasons.push(format!("{}: {reason}", authority(controller))),
                Err(_) => reasons.push(format!("{} takes too long", authority(controller))),
            }
        }
        Err(AskError::Silent(reasons.join("; ")))
    }

    /// Asks all controllers at once: one that hangs must not keep the word of another from being heard in time.
    pub(crate) async fn post_to_all<T: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        question: &T,
    ) -> Result<A, AskError> {
        let body = Bytes::from(serde_json::to_vec(question).unwrap_or_default());
        let all = self.all.borrow().clone();
        let asks = all.iter().enumerate().map(|(index, controller)| {
            let asked = self.ask(index, controller, path, body.clone());
            async move { (authority(controller), asked.await) }
        });
        let (status, answer) = first_word(asks, HOST_FIRST_WORD_TIME_MAX).await?;
        understand(status, &answer)
    }

    async fn ask(
        &self,
        index: usize,
        controller: &Controller,
        path: &'static str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let kept = {
            let mut current = self.current.borrow_mut();
            if current.index == index {
                current.sender.take()
            } else {
                None
            }
        };
        if let Some(mut sender) = kept.filter(|sender| !sender.is_closed())
            && let Ok(answer) = exchange(&mut sender, controller, path, body.clone()).await
        {
            self.keep(index, sender);
            return Ok(answer);
        }
        let config = self.identity.borrow().client();
        let (mut sender, _) = connect(controller, config).await?;
        let answer = exchange(&mut sender, controller, path, body).await?;
        self.keep(index, sender);
        Ok(answer)
    }

    fn keep(&self, index: usize, sender: SendRequest<Full<Bytes>>) {
        *self.current.borrow_mut() = Current {
            index,
            sender: Some(sender),
        };
    }
}

/// The first answer of several that were asked.
async fn first_word<F>(
    asks: impl Iterator<Item = F>,
    within: Duration,
) -> Result<(StatusCode, Bytes), AskError>
where
    F: Future<Output = (String, Result<(StatusCode, Bytes), String>)>,
{
    let mut asks: FuturesUnordered<F> = asks.collect();
    let mut reasons = Vec::new();
    let heard = async {
        while let Some((name, answered)) = asks.next().await {
            match answered {
                Ok((status, answer)) if !status.is_server_error() => {
                    return Some((status, answer));
                }
                Ok((status, _)) => reasons.push(format!("{name} answers {status}")),
                Err(reason) => reasons.push(format!("{name}: {reason}")),
            }
        }
        None
    };
    match timeout(within, heard).await {
        Ok(Some(heard)) => Ok(heard),
        Ok(None) => Err(AskError::Silent(reasons.join("; "))),
        Err(_) => {
            reasons.push("the others take too long".to_owned());
            Err(AskError::Silent(reasons.join("; ")))
        }
    }
}

/// Connects to a controller, and says by which address of ours.
pub(crate) async fn connect(
    controller: &Controller,
    config: Arc<ClientConfig>,
) -> Result<(SendRequest<Full<Bytes>>, IpAddr), String> {
    let failed = |error: io::Error| error.to_string();
    let stream = TcpStream::connect((controller.host.as_str(), controller.port))
        .await
        .map_err(failed)?;
    // Best effort: without it a question may wait for the last one's acknowledgement.
    let _ = stream.set_nodelay(true);
    let own = stream.local_addr().map_err(failed)?.ip();
    let name =
        ServerName::try_from(Identity::controller_name()).map_err(|error| error.to_string())?;
    let stream: TlsStream<TcpStream> = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| format!("it is not a controller of this deployment: {error}"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "the connection to a controller failed");
        }
    });
    Ok((sender, own))
}

/// Asks over a connection.
pub(crate) async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    controller: &Controller,
    path: &'static str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), String> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    let host = HeaderValue::from_str(&authority(controller)).map_err(|error| error.to_string())?;
    request.headers_mut().insert(header::HOST, host);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    let broke = |error: hyper::Error| format!("the connection broke: {error}");
    sender.ready().await.map_err(broke)?;
    let response = sender.send_request(request).await.map_err(broke)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), HOST_ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| format!("the answer cannot be read: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// An answer, or the words by which it was refused.
pub(crate) fn understand<A: DeserializeOwned>(
    status: StatusCode,
    answer: &[u8],
) -> Result<A, AskError> {
    if status.is_success() {
        return serde_json::from_slice(answer).map_err(|error| {
            AskError::Silent(format!("the answer cannot be understood: {error}"))
        });
    }
    let refusal: Result<HostRefusal, _> = serde_json::from_slice(answer);
    let words = refusal.map_or_else(|_| format!("it answered {status}"), |said| said.message);
    Err(match status {
        StatusCode::GONE => AskError::Gone(words),
        _ => AskError::Refused(words),
    })
}

/// `https://HOST:PORT`, or without the scheme.
pub(crate) fn parse_url(text: &str) -> Result<Controller, String> {
    let bare = text.strip_prefix("https://").unwrap_or(text);
    parse_controller(bare.trim_end_matches('/'))
        .map_err(|_| format!("{text:?} is no address like https://controller.example:9877"))
}

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, pending, ready};

    use super::*;

    type Answer = (String, Result<(StatusCode, Bytes), String>);

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_hangs_does_not_keep_the_word_of_another_from_being_heard() {
        let said = |status| {
            let answer: Answer = ("b".to_owned(), Ok((status, Bytes::new())));
            Box::pin(ready(answer)) as BoxFuture<'static, Answer>
        };
        let hangs = || Box::pin(pending()) as BoxFuture<'static, Answer>;
        let within = HOST_FIRST_WORD_TIME_MAX;
        let heard = first_word([hangs(), said(StatusCode::GONE)].into_iter(), within).await;
        assert_eq!(heard.unwrap().0, StatusCode::GONE);
        let asks = [hangs(), said(StatusCode::SERVICE_UNAVAILABLE)];
        let silent = first_word(asks.into_iter(), within).await.unwrap_err();
        let words = silent.to_string();
        assert!(
            words.contains("b answers 503") && words.contains("too long"),
            "{words}"
        );
    }

    #[test]
    fn a_controller_is_named_by_an_address_with_or_without_a_scheme() {
        let wanted = Controller {
            host: "c.example".to_owned(),
            port: 9877,
        };
        for text in [
            "https://c.example:9877",
            "https://c.example:9877/",
            "c.example:9877",
        ] {
            assert_eq!(parse_url(text), Ok(wanted.clone()), "{text}");
        }
        for wrong in [
            "",
            "http://c.example:9877",
            "https://c.example",
            "c.example:0",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
