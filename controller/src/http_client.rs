//! Asks a krater API over HTTP: for the command line, and for the demonstration.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

/// One API, by where it is.
#[derive(Clone)]
pub(crate) struct HttpClient {
    authority: String,
    base: String,
    token: Option<String>,
}

/// Why there is no answer to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The address makes no sense.
    #[error("{0:?} is not an address like http://127.0.0.1:9876")]
    Endpoint(String),
    /// Nobody answers there.
    #[error("no krater answers at {endpoint}: {reason}; is it running? (krater up)")]
    Silent {
        /// Where.
        endpoint: String,
        /// Why, as a sentence.
        reason: String,
    },
    /// It said no.
    #[error("{message} ({status})")]
    Refused {
        /// With which status.
        status: StatusCode,
        /// In its words.
        message: String,
    },
    /// It said something else than a krater would.
    #[error("{endpoint} does not answer like a krater: {reason}")]
    Strange {
        /// Where.
        endpoint: String,
        /// Why, as a sentence.
        reason: String,
    },
}

impl HttpClient {
    /// A client of the API at `endpoint`, e.g. `http://127.0.0.1:9876`.
    pub(crate) fn new(endpoint: &str) -> Result<Self, AskError> {
        let wrong = || AskError::Endpoint(endpoint.to_owned());
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        let authority = uri
            .authority()
            .filter(|_| uri.scheme_str() == Some("http"))
            .ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self {
            authority: format!("{}:{port}", authority.host()),
            base: uri.path().trim_end_matches('/').to_owned(),
            token: None,
        })
    }

    /// The same API, asked as the one whose token this is.
    pub(crate) fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// What is at `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, AskError> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks; answers with the document, or [`Value::Null`] when there is none.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, AskError> {
        let silent = |reason: String| AskError::Silent {
            endpoint: self.endpoint(),
            reason,
        };
        let exchanged = timeout(ANSWER_TIME_MAX, self.exchange(method, path, body)).await;
        let (status, body) = exchanged
            .map_err(|_| silent("it takes too long".to_owned()))?
            .map_err(|error| silent(error.to_string()))?;
        let document = if body.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&body)
        };
        if !status.is_success() {
            let fault = document.as_ref().ok();
            let message = ["/faultstring", "/message", "/error/message"]
                .iter()
                .find_map(|field| fault?.pointer(field)?.as_str());
            let mut message = message.unwrap_or("the request was refused").to_owned();
            if status == StatusCode::UNAUTHORIZED {
                message += " (--token, or KRATER_TOKEN in the environment)";
            }
            return Err(AskError::Refused { status, message });
        }
        document.map_err(|error| AskError::Strange {
            endpoint: self.endpoint(),
            reason: error.to_string(),
        })
    }

    fn endpoint(&self) -> String {
        format!("http://{}{}", self.authority, self.base)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let body = body
            .map(serde_json::to_vec)
            .transpose()?
            .unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        driver.abort();
        let body = collected.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((status, body.to_bytes()))
    }
}

const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// A page of a thousand load balancers with many children.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_taken_apart_or_refused() {
        let client = HttpClient::new("http://127.0.0.1:9876/").unwrap();
        assert_eq!(client.endpoint(), "http://127.0.0.1:9876");
        assert_eq!(
            HttpClient::new("http://host/lb/").unwrap().endpoint(),
            "http://host:80/lb"
        );
        for wrong in [
            "",
            "127.0.0.1:9876",
            "https://host",
            "ftp://host",
            "http://",
        ] {
            assert!(HttpClient::new(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn nobody_at_home_is_told_with_what_to_do() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = HttpClient::new(&format!("http://{free}"))
            .unwrap()
            .get("/")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("krater up"), "{error}");
    }
}
