//! A body on its way out: nothing of it is asked for before there is room for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header::TRAILER};
use http_body::Body;

use super::Channel;
use crate::h1::{Place, Sender, harmless};

/// A body that is sent over a [`Channel`].
pub(crate) struct Outflow<B> {
    body: B,
    sender: Sender,
    /// All of it was put to what waits to be sent.
    ended: bool,
    /// Fields that may follow it.
    trailers: Option<Box<[HeaderName]>>,
}

/// Who has a channel. It may be taken for a moment only, since bodies are polled in between.
pub(crate) trait Outlet {
    /// Has `use_it` have the channel.
    fn with<T>(&mut self, use_it: impl FnOnce(&mut Channel) -> T) -> T;
}

impl Outlet for Channel {
    fn with<T>(&mut self, use_it: impl FnOnce(&mut Self) -> T) -> T {
        use_it(self)
    }
}

/// Why a body cannot be sent to its end.
#[derive(Debug)]
pub(crate) enum Unsendable<E> {
    /// It has broken off.
    Broken(E),
    /// It is not as long as was said.
    Length,
}

impl<B: Body<Data = Bytes> + Unpin> Outflow<B> {
    /// A body of which nothing was sent. `announced` are the fields of its head, if whoever receives it takes trailers.
    pub(crate) fn new(body: B, sender: Sender, announced: Option<&HeaderMap>) -> Self {
        let trailers = announced
            .filter(|fields| sender == Sender::Chunked && fields.contains_key(TRAILER))
            .map(names);
        Self {
            body,
            sender,
            ended: sender == Sender::None,
            trailers,
        }
    }

    /// Puts the next piece to what waits to be sent, if there is room for it. Ready when there is none, or when the body
    /// has ended.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        outlet: &mut impl Outlet,
    ) -> Poll<Result<Option<Bytes>, Unsendable<B::Error>>> {
        loop {
            if self.ended || !outlet.with(|channel| channel.has_room()) {
                return Poll::Ready(Ok(None));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Unsendable::Broken(error)));
                }
                Poll::Ready(None) => return Poll::Ready(self.end(outlet, &HeaderMap::new())),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(self.put(outlet, data).map(Some)),
                    Err(frame) => {
                        let fields = frame.into_trailers().unwrap_or_default();
                        let fields = self.announced(fields);
                        return Poll::Ready(self.end(outlet, &fields));
                    }
                },
            }
        }
    }

    /// Whether all of it was put to what waits to be sent.
    pub(crate) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// The body.
    pub(crate) fn into_body(self) -> B {
        self.body
    }

    fn put(
        &mut self,
        outlet: &mut impl Outlet,
        data: Bytes,
    ) -> Result<Bytes, Unsendable<B::Error>> {
        self.ended = self.body.is_end_stream();
        let place = if self.ended {
            Place::Last
        } else {
            Place::Within
        };
        outlet.with(|channel| {
            let room = self.sender.begin(channel.text(), data.len());
            channel.push(data.clone(), self.sender.behind(place));
            room.filter(|()| !self.ended || self.sender.may_end())
                .map(|()| data)
                .ok_or(Unsendable::Length)
        })
    }

    fn end<T>(
        &mut self,
        outlet: &mut impl Outlet,
        trailers: &HeaderMap,
    ) -> Result<Option<T>, Unsendable<B::Error>> {
        if !self.sender.may_end() {
            return Err(Unsendable::Length);
        }
        self.ended = true;
        if self.sender == Sender::Chunked {
            outlet.with(|channel| self.sender.end(channel.text(), trailers));
        }
        Ok(None)
    }

    /// Those of `fields` that were announced ahead of the body (RFC 9110 section 6.6.2).
    fn announced(&self, fields: HeaderMap) -> HeaderMap {
        let Some(names) = &self.trailers else {
            return HeaderMap::new();
        };
        let mut announced = HeaderMap::new();
        for name in names {
            for value in fields.get_all(name) {
                announced.append(name.clone(), value.clone());
            }
        }
        // What came by HTTP/2 was not looked through yet.
        harmless(announced)
    }
}

/// The names that `Trailer` lists, each once.
fn names(fields: &HeaderMap) -> Box<[HeaderName]> {
    let mut names = Vec::new();
    for line in fields.get_all(TRAILER) {
        for name in line.as_bytes().split(|byte| *byte == b',') {
            if let Ok(name) = HeaderName::from_bytes(name.trim_ascii())
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
    }
    names.into_boxed_slice()
}
