//! Answers of our own: why a request was not served.

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
};

use krater_amphora_api::Cause;

use super::body::Reply;
use crate::h1::Fault;

/// Why a request was not answered by a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The listener has no pool, or the pool nobody who may be chosen (reference 19.8).
    NoMember,
    /// No member could be connected to; why not the last one.
    ConnectFailed(Cause),
    /// The member closed or broke the connection before its answer's head was complete, or sent something else.
    MemberBroke(Cause),
    /// The member has as many requests as it may, and went on having them.
    MemberBusy,
    /// The member did not answer in time.
    MemberTimeout,
    /// The client did not send the rest of its request in time.
    ClientTimeout,
    /// What the client sent is no HTTP.
    Malformed(Fault),
    /// An HTTP/1.1 request without exactly one `Host` (RFC 9112 section 3.2).
    BadHost,
    /// A target that cannot be sent on.
    BadTarget,
    /// A header whose name some take for one that says where a message ends.
    BadName,
    /// An expectation that nobody knows (RFC 9110 section 10.1.1).
    BadExpectation,
    /// The body of the request is malformed, or breaks off.
    BadBody(Cause),
    /// `CONNECT`: this is no forward proxy.
    Connect,
    /// An L7 policy says so.
    Rejected,
}

impl Refusal {
    /// The status code.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NoMember | Self::MemberBusy => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed(_) | Self::MemberBroke(_) => StatusCode::BAD_GATEWAY,
            Self::MemberTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BadHost | Self::BadTarget | Self::BadName | Self::BadBody(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::BadExpectation => StatusCode::EXPECTATION_FAILED,
            Self::Malformed(fault) => match fault.status() {
                414 => StatusCode::URI_TOO_LONG,
                431 => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                505 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                _ => StatusCode::BAD_REQUEST,
            },
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Rejected => StatusCode::FORBIDDEN,
        }
    }

    /// The same among all causes of failures; its name is the value of the [`CAUSE`] header.
    pub(super) const fn cause(self) -> Cause {
        match self {
            Self::NoMember => Cause::LbNoMember,
            Self::ConnectFailed(cause) | Self::MemberBroke(cause) | Self::BadBody(cause) => cause,
            Self::MemberBusy => Cause::MemberBusy,
            Self::MemberTimeout => Cause::MemberTimeout,
            Self::ClientTimeout => Cause::ClientTimeoutBody,
            Self::Malformed(fault) => match fault.status() {
                414 | 431 => Cause::ClientHeadTooLarge,
                _ => Cause::ClientBadRequest,
            },
            Self::BadHost | Self::BadTarget | Self::BadName | Self::BadExpectation => {
                Cause::ClientBadRequest
            }
            Self::Connect => Cause::ClientMethodRefused,
            Self::Rejected => Cause::LbPolicyRejected,
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::NoMember => "No member can take the request.\n",
            Self::ConnectFailed(_) => "No member could be reached.\n",
            Self::MemberBroke(_) => "The member broke off before it had answered.\n",
            Self::MemberBusy => "Too many requests are waiting for the member.\n",
            Self::MemberTimeout => "The member did not answer in time.\n",
            Self::ClientTimeout => "The request did not arrive in time.\n",
            Self::Malformed(_) => "The request is malformed",
            Self::BadHost => "The request must have one Host header, with a host.\n",
            Self::BadTarget => "The request target cannot be sent on.\n",
            Self::BadName => "A header has a name that could be taken for another one.\n",
            Self::BadExpectation => "What is expected cannot be met.\n",
            Self::BadBody(_) => "The body of the request is malformed.\n",
            Self::Connect => "CONNECT is not served here.\n",
            Self::Rejected => "The request is not allowed here.\n",
        }
    }

    /// Whether the client is to blame. One whom a policy turns away has made no mistake.
    pub(super) fn blames_client(self) -> bool {
        self.status().is_client_error() && self != Self::Rejected
    }

    /// The answer as it is sent.
    pub(super) fn response(self) -> Response<Reply> {
        let sentence = self.sentence();
        let text = match self {
            Self::Malformed(fault) => format!("{sentence}: {}.\n", fault.reason()).into(),
            _ => sentence.as_bytes().into(),
        };
        let mut response = Response::new(Reply::Text(text));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CAUSE, HeaderValue::from_static(self.cause().name()));
        match self {
            // Who is wrong about one request may be wrong about where it ends.
            Self::ClientTimeout
            | Self::BadHost
            | Self::BadTarget
            | Self::BadName
            | Self::BadExpectation
            | Self::BadBody(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // RFC 9110 section 15.5.6: a 405 names what is allowed; which methods a member allows is its own affair.
            Self::Connect => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
                headers.insert(
                    ALLOW,
                    HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
                );
            }
            _ => {}
        }
        response
    }
}

/// Tells operators which of the causes behind one status code it was.
pub(super) const CAUSE: HeaderName = HeaderName::from_static("x-krater-cause");

/// What a client is sent that began a request and did not finish its head in time, and what it is to be told besides if
/// it is a browser. Written by hand, since there is no request yet.
pub(super) fn head_timeout(hsts: Option<&HeaderValue>) -> Vec<u8> {
    let mut text = HEAD_TIMEOUT.to_vec();
    if let Some(value) = hsts {
        text.extend_from_slice(b"strict-transport-security: ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\nThe request did not arrive in time.\n");
    text
}

const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    cache-control: no-cache\r\n\
    x-krater-cause: client_timeout_head\r\n\
    connection: close\r\n\
    content-length: 36\r\n";
