//! HTTP/2 toward a member: many requests at once over one connection, which a task of its own drives.

use std::{
    cell::Cell,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request, response,
    uri::{Authority, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use tokio::task::spawn_local;

use super::{Broken, Outgoing, Seal, progress::Interim};
use crate::{
    connect::Link,
    h1::{Fault, fault_of},
    limits::{
        HTTP_HEAD_BYTES_MAX, MEMBER_STREAM_WINDOW_BYTES, MEMBER_STREAMS_MAX, STREAM_SEND_BYTES_MAX,
    },
    tap::{Flow, Tap},
    tls::Connector,
    wire::Wire,
};

/// A connection that carries many requests at once, to be had by whoever may use it.
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    pub(super) link: Rc<Link>,
    sealed: (Arc<Connector>, Option<Box<str>>),
    state: Rc<State>,
}

/// What the connection, its driver and its requests tell each other.
struct State {
    /// No further request may be made.
    closed: Cell<bool>,
    /// Bytes that came from the member, in all.
    received: Cell<u64>,
    /// Requests under way.
    calls: Cell<usize>,
    /// It has carried a request.
    used: Cell<bool>,
    idle_since: Cell<Instant>,
}

impl Shared {
    /// Speaks HTTP/2 over a fresh connection.
    pub(super) async fn start(wire: Wire, link: Link, seal: Seal<'_>) -> Result<Self, h2::Error> {
        let (tap, flow) = Tap::new(wire);
        let streams = u32::try_from(MEMBER_STREAMS_MAX).unwrap_or(u32::MAX);
        let head = u32::try_from(HTTP_HEAD_BYTES_MAX).unwrap_or(u32::MAX);
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(MEMBER_STREAMS_MAX)
            .initial_window_size(MEMBER_STREAM_WINDOW_BYTES)
            // Who does not take an answer must not hold up anybody else's.
            .initial_connection_window_size(MEMBER_STREAM_WINDOW_BYTES * streams)
            .max_header_list_size(head)
            .max_send_buffer_size(STREAM_SEND_BYTES_MAX)
            .handshake(tap)
            .await?;
        let link = Rc::new(link);
        let state = Rc::new(State {
            closed: Cell::new(false),
            received: Cell::new(0),
            calls: Cell::new(0),
            used: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
        });
        spawn_local(drive(connection, flow, Rc::clone(&link), Rc::clone(&state)));
        Ok(Self {
            sender,
            link,
            sealed: (Arc::clone(seal.connector), seal.name.map(Into::into)),
            state,
        })
    }

    /// Whether another request may be made over it now, under that seal.
    pub(super) fn is_open_to(&self, seal: Seal<'_>) -> bool {
        let (connector, name) = &self.sealed;
        let most = self.sender.current_max_send_streams();
        self.is_alive()
            && Arc::ptr_eq(connector, seal.connector)
            && name.as_deref() == seal.name
            && self.state.calls.get() < most.min(MEMBER_STREAMS_MAX)
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.state.closed.get()
    }

    /// Since when nobody uses it.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.state.calls.get() == 0).then(|| self.state.idle_since.get())
    }

    /// A place for one request. Says whether there was one before.
    pub(super) fn call(&self) -> (Http2, bool) {
        let state = Rc::clone(&self.state);
        state.calls.set(state.calls.get() + 1);
        let used = state.used.replace(true);
        let call = Http2 {
            sender: self.sender.clone(),
            received_before: state.received.get(),
            state,
            upload: Upload::Done,
            answer: None,
            body: None,
            left: None,
            answered: false,
            sent: false,
            bodiless: false,
            unsent: None,
            moved: false,
            delivered: 0,
            interim: Interim::default(),
        };
        (call, used)
    }
}

/// Moves what is to be moved over a connection until it ends: when the member ends it, or when nobody has it any more.
async fn drive(mut connection: Connection<Tap>, flow: Rc<Flow>, link: Rc<Link>, state: Rc<State>) {
    let ended = std::future::poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        let (received, sent) = flow.take();
        state.received.set(state.received.get() + received);
        link.lane().bytes_in.add(received);
        link.lane().bytes_out.add(sent);
        polled
    })
    .await;
    state.closed.set(true);
    if let Err(error) = ended {
        tracing::debug!(member = %link.member.id, %error, "a connection with a member has ended");
    }
}

/// One request over a shared connection.
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    upload: Upload,
    answer: Option<ResponseFuture>,
    body: Option<RecvStream>,
    /// What is still to come of the answer's body, if that is known.
    left: Option<u64>,
    answered: bool,
    sent: bool,
    /// There is no body to send.
    bodiless: bool,
    /// The body of a request that could not be begun.
    unsent: Option<Outgoing>,
    /// What the connection had received when the request began.
    received_before: u64,
    /// Something has moved, and so many bytes went to the member, since somebody last asked.
    moved: bool,
    delivered: usize,
    /// Interim answers.
    pub(super) interim: Interim,
}

/// What is left to be done about a request.
enum Upload {
    /// It waits for its turn.
    Waiting(Box<Request<()>>, Outgoing),
    /// Its body is being sent.
    Open {
        sender: SendStream<Bytes>,
        body: Outgoing,
        piece: Bytes,
        /// Some of the body was taken from the client.
        begun: bool,
    },
    Done,
}

impl Http2 {
    /// Begins with a request. Nothing is sent yet.
    pub(super) fn begin(&mut self, head: &request::Parts, body: Outgoing, member: SocketAddr) {
        self.upload = Upload::Waiting(Box::new(translated(head, member)), body);
    }

    /// Whether the member may have begun to work on the request.
    pub(super) const fn has_sent(&self) -> bool {
        self.sent
    }

    /// Whether nothing has come from the member since the request began.
    pub(super) fn is_silent(&self) -> bool {
        self.body.is_none() && self.state.received.get() == self.received_before
    }

    /// Takes back the body of a request of which nothing was sent.
    pub(super) fn take_back(&mut self) -> Outgoing {
        match std::mem::replace(&mut self.upload, Upload::Done) {
            Upload::Waiting(_, body) | Upload::Open { body, .. } => body,
            Upload::Done => self.unsent.take().unwrap_or(Outgoing::Empty),
        }
    }

    /// The member has not answered in time. If it says nothing to anybody, nobody else is to wait for it.
    pub(super) fn give_up(&self) {
        if self.state.received.get() == self.received_before {
            self.state.closed.set(true);
        }
    }

    /// Sends what can be sent, and waits for the head of the answer.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, Broken>> {
        self.poll_upload(cx)?;
        let Some(answer) = &mut self.answer else {
            return Poll::Pending;
        };
        // What is wrong with the stream is told of the answer.
        while let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
            let (parts, ()) = interim.into_parts();
            self.moved = true;
            // There is no such answer in HTTP/2 (RFC 9113 section 8.6), and a client of HTTP/1.1 would believe it.
            let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
            let fault = fault_of(&parts.headers).or_else(|| switches.then_some(Fault::StartLine));
            if let Some(fault) = fault {
                return Poll::Ready(Err(Broken::Malformed(fault)));
            }
            if self.interim.take_in(parts.status, parts.headers).is_none() {
                return Poll::Ready(Err(Broken::Endless));
            }
        }
        let answer = match ready!(Pin::new(answer).poll(cx)) {
            Ok(answer) => answer,
            Err(error) => return Poll::Ready(Err(self.judge(error))),
        };
        let (mut parts, body) = answer.into_parts();
        if let Some(fault) = fault_of(&parts.headers) {
            return Poll::Ready(Err(Broken::Malformed(fault)));
        }
        parts.version = Version::HTTP_11;
        let length = parts.headers.get(CONTENT_LENGTH);
        self.left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.answered = body.is_end_stream();
        self.body = Some(body);
        self.moved = true;
        Poll::Ready(Ok(parts))
    }

    /// The next frame of the answer's body; the rest of the request is sent meanwhile.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Err(broken) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(broken)));
        }
        let Some(body) = self.body.as_mut().filter(|_| !self.answered) else {
            return Poll::Ready(None);
        };
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) => {
                // It is asked for when there is room for it, so what was taken is as good as gone. Fails for too much only.
                let _ = body.flow_control().release_capacity(data.len());
                self.answered = body.is_end_stream();
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                self.moved = true;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(Broken::Http2(error)))),
            None => {
                let trailers = ready!(body.poll_trailers(cx));
                self.answered = true;
                self.moved = true;
                let frame = trailers.map(|trailers| trailers.map(Frame::trailers));
                Poll::Ready(frame.map_err(Broken::Http2).transpose())
            }
        }
    }

    pub(super) const fn is_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.answered => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }

    /// Whether something has moved since the last call, and how much has gone to the member.
    pub(super) fn take_moved(&mut self) -> (bool, usize) {
        (
            std::mem::take(&mut self.moved),
            std::mem::take(&mut self.delivered),
        )
    }

    /// Sends what there is of the request. Only what is wrong with its body, or keeps it from being begun, is an error: a
    /// member that takes no more may have answered all the same.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        if let Upload::Waiting(..) = self.upload {
            match self.sender.poll_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(self.judge(error)),
                Poll::Ready(Ok(())) => self.open()?,
            }
        }
        let Upload::Open {
            sender,
            body,
            piece,
            begun,
        } = &mut self.upload
        else {
            return Ok(());
        };
        loop {
            if !piece.is_empty() {
                sender.reserve_capacity(piece.len());
                let room = match sender.capacity() {
                    0 => match sender.poll_capacity(cx) {
                        Poll::Pending => return Ok(()),
                        Poll::Ready(Some(Ok(room))) => room,
                        Poll::Ready(_) => break,
                    },
                    room => room,
                };
                let part = piece.split_to(room.min(piece.len()));
                self.delivered += part.len();
                self.moved = true;
                let last = piece.is_empty() && body.is_end_stream();
                if sender.send_data(part, last).is_err() || last {
                    break;
                }
                continue;
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => {
                    let _ = sender.send_data(Bytes::new(), true);
                    break;
                }
                Poll::Ready(Some(Err(error))) => {
                    sender.send_reset(Reason::CANCEL);
                    self.upload = Upload::Done;
                    return Err(Broken::Body(error));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    *begun = true;
                    match frame.into_data() {
                        Ok(data) => *piece = data,
                        Err(frame) => {
                            if let Ok(trailers) = frame.into_trailers() {
                                let _ = sender.send_trailers(trailers);
                            }
                            break;
                        }
                    }
                }
            }
        }
        self.upload = Upload::Done;
        Ok(())
    }

    /// Sends the head of the request.
    fn open(&mut self) -> Result<(), Broken> {
        let Upload::Waiting(head, body) = std::mem::replace(&mut self.upload, Upload::Done) else {
            return Ok(());
        };
        let over = body.is_end_stream();
        self.bodiless = over;
        match self.sender.send_request(*head, over) {
            Ok((answer, sender)) => {
                self.sent = true;
                self.moved = true;
                self.answer = Some(answer);
                if !over {
                    self.upload = Upload::Open {
                        sender,
                        body,
                        piece: Bytes::new(),
                        begun: false,
                    };
                }
                Ok(())
            }
            Err(error) => {
                // The connection takes no more; the body is still whole.
                self.state.closed.set(true);
                self.unsent = Some(body);
                Err(Broken::Http2(error))
            }
        }
    }

    /// Why there will be no answer. A member that says that it has not begun with the request, or will not
    /// (RFC 9113 section 8.7), leaves it to be made elsewhere.
    fn judge(&mut self, error: h2::Error) -> Broken {
        if !error.is_reset() {
            self.state.closed.set(true);
        }
        let refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        let untouched = match &self.upload {
            Upload::Open { begun, .. } => !begun,
            Upload::Waiting(..) => true,
            // There was no body, or all of it is gone.
            Upload::Done => self.bodiless,
        };
        if refused && untouched {
            self.sent = false;
        }
        Broken::Http2(error)
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        let calls = self.state.calls.get().saturating_sub(1);
        self.state.calls.set(calls);
        if calls == 0 {
            self.state.idle_since.set(Instant::now());
        }
    }
}

/// Whom a request is for.
fn authority_of(headers: &HeaderMap, member: SocketAddr) -> Option<Authority> {
    let host = headers.get(HOST).filter(|host| !host.is_empty());
    let host = host.and_then(|host| host.to_str().ok()?.parse().ok());
    // A request of HTTP/1.0 may name nobody.
    host.or_else(|| member.to_string().parse().ok())
}

/// A request as HTTP/2 has it.
fn translated(head: &request::Parts, member: SocketAddr) -> Request<()> {
    let mut headers = head.headers.clone();
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = authority_of(&headers, member);
    uri.path_and_query = head.uri.path_and_query().cloned();
    for name in [
        HOST,
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        headers.remove(name);
    }
    // Whatever follows an answer is passed on.
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_else(|_| head.uri.clone());
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    request
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
