//! HTTP/2 frame by frame, written by hand: what no library would send.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::testbed::connect;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it was read.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) const fn ends(&self) -> bool {
        self.flags & END_STREAM != 0 && matches!(self.kind, DATA | HEADERS)
    }

    /// The status that a head begins with: from HPACK's static table, or spelled out.
    pub(super) fn status(&self) -> u16 {
        assert_eq!(self.kind, HEADERS);
        let (first, rest) = self.payload.split_first().unwrap();
        let known = [200, 204, 206, 304, 400, 404, 500];
        if let Some(status) = first
            .checked_sub(0x88)
            .and_then(|at| known.get(usize::from(at)))
        {
            return *status;
        }
        let (length, text) = rest.split_first().unwrap();
        let text = &text[..usize::from(length & 0x7f)];
        if length & 0x80 == 0 {
            return std::str::from_utf8(text).unwrap().parse().unwrap();
        }
        // Huffman codes of digits (RFC 7541 appendix B): five bits up to `2`, six from `3` on.
        let bits = text
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let (mut left, mut status) = (text.len() * 8, 0);
        for _ in 0..3 {
            let next =
                |count: usize| u16::try_from(bits >> (left - count) & ((1 << count) - 1)).unwrap();
            let (digit, used) = if next(5) < 3 {
                (next(5), 5)
            } else {
                (next(6) - 0x19 + 3, 6)
            };
            status = status * 10 + digit;
            left -= used;
        }
        status
    }

    /// The error code of a reset or a goodbye.
    pub(super) fn code(&self) -> u32 {
        let from = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[from..from + 4].try_into().unwrap())
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Header fields as HPACK writes them who knows no table: literal, never indexed.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for text in fields
        .iter()
        .flat_map(|(name, value)| [(true, name), (false, value)])
    {
        let (is_name, text) = text;
        if is_name {
            block.push(0x10);
        }
        let length = text.len();
        if length < 127 {
            block.push(u8::try_from(length).unwrap());
        } else {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
        block.extend(text.as_bytes());
    }
    block
}

/// What each request begins with.
pub(super) fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "example"),
        (":path", path),
    ]
}

pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    let block = block(&request("GET", path));
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

/// A client's end of a connection.
pub(super) struct Framed {
    pub(super) stream: TcpStream,
}

impl Framed {
    /// Connects and says the preface, with these settings.
    pub(super) fn to(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut framed = Self {
            stream: connect(address),
        };
        framed.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        framed
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends to somebody who may have hung up.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` when the connection has ended.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut head) {
            assert!(
                !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "nothing came"
            );
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff,
            payload,
        })
    }

    /// The next frame of one of these kinds.
    pub(super) fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The code of the goodbye, once it comes.
    pub(super) fn goodbye(&mut self) -> Option<u32> {
        self.next_of(&[GOAWAY]).map(|frame| frame.code())
    }

    /// Frames of that stream until it has ended, in whatever way.
    pub(super) fn answer(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().expect("the connection was closed instead");
            if frame.stream == stream && matches!(frame.kind, DATA | HEADERS | RST_STREAM) {
                let over = frame.ends() || frame.kind == RST_STREAM;
                frames.push(frame);
                if over {
                    return frames;
                }
            }
        }
    }
}
