//! What is noted of one request, connection or session.

use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use krater_amphora_api::{Cause, ListenerId, LoadBalancerId, MemberId, PoolId};

use crate::limits::{LOGGED_NAME_BYTES_MAX, LOGGED_PATH_BYTES_MAX};

/// What a record is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An HTTP request, or a connection that came to none.
    #[default]
    Http,
    /// A TCP connection.
    Tcp,
    /// A UDP session.
    Udp,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One record. Texts are as the client sent them, cut to their bound; they keep their room from use to use.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) began: Option<Instant>,
    pub(super) ended: Option<SystemTime>,
    /// From the beginning to the end.
    pub(super) total: Duration,
    /// Whose it is.
    pub(crate) of: Option<(LoadBalancerId, ListenerId)>,
    pub(crate) client: Option<SocketAddr>,
    /// Where the client connected to.
    pub(crate) vip: Option<SocketAddr>,
    pub(super) method: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) host: Vec<u8>,
    pub(crate) version: Option<&'static str>,
    pub(crate) status: Option<u16>,
    /// Of HTTP those of bodies.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) pool: Option<PoolId>,
    pub(crate) member: Option<(MemberId, SocketAddr)>,
    /// Members that were tried.
    pub(crate) tries: u8,
    /// From the beginning until a member was reached.
    pub(crate) connected: Option<Duration>,
    /// … until the head of its answer had come.
    pub(crate) answered: Option<Duration>,
    pub(crate) cause: Option<Cause>,
    pub(super) trace_id: Vec<u8>,
    pub(super) request_id: Vec<u8>,
}

impl Record {
    /// Notes what was asked for. No query: it may hold what lets whoever reads it in.
    pub(crate) fn ask(&mut self, method: &str, path: &str, host: &[u8]) {
        keep(&mut self.method, method.as_bytes(), LOGGED_NAME_BYTES_MAX);
        keep(&mut self.path, path.as_bytes(), LOGGED_PATH_BYTES_MAX);
        keep(&mut self.host, host, LOGGED_NAME_BYTES_MAX);
    }

    /// Notes which trace a request is part of.
    pub(crate) fn trace(&mut self, id: &[u8]) {
        keep(&mut self.trace_id, id, LOGGED_NAME_BYTES_MAX);
    }

    /// Notes what the client calls its request.
    pub(crate) fn name(&mut self, id: &[u8]) {
        keep(&mut self.request_id, id, LOGGED_NAME_BYTES_MAX);
    }

    /// How long it has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.map(|began| began.elapsed()).unwrap_or_default()
    }

    /// Forgets everything but the room for texts.
    pub(super) fn clear(&mut self) {
        let Self {
            method,
            path,
            host,
            trace_id,
            request_id,
            ..
        } = std::mem::take(self);
        *self = Self {
            method: emptied(method),
            path: emptied(path),
            host: emptied(host),
            trace_id: emptied(trace_id),
            request_id: emptied(request_id),
            ..Self::default()
        };
    }
}

/// Takes over at most `most` bytes of a text.
fn keep(place: &mut Vec<u8>, text: &[u8], most: usize) {
    place.clear();
    place.extend_from_slice(text.get(..most).unwrap_or(text));
}

fn emptied(mut text: Vec<u8>) -> Vec<u8> {
    text.clear();
    text
}
