//! HTTP/2 frame by frame, written by hand: what no library would send.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Kinds of frames.
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or trailers.
    pub const HEADERS: u8 = 1;
    /// The end of one stream.
    pub const RST_STREAM: u8 = 3;
    /// What one side wants of the other.
    pub const SETTINGS: u8 = 4;
    /// Whether somebody is there.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// Room for more.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// The last of its stream.
    pub const END_STREAM: u8 = 1;
    /// An answer to such a frame.
    pub const ACK: u8 = 1;
    /// The head is whole.
    pub const END_HEADERS: u8 = 4;
}

/// `ENHANCE_YOUR_CALM`.
pub const CALM: u32 = 0xb;

/// A frame as it was read.
#[derive(Clone, Debug)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// Whose it is; 0: the connection's.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether nothing follows it on its stream.
    pub const fn ends(&self) -> bool {
        let may_end = matches!(self.kind, kind::DATA | kind::HEADERS);
        may_end && self.flags & flag::END_STREAM != 0 || self.kind == kind::RST_STREAM
    }

    /// The code of a reset or a goodbye.
    pub fn code(&self) -> u32 {
        let from = if self.kind == kind::GOAWAY { 4 } else { 0 };
        let code = self.payload[from..from + 4].try_into();
        u32::from_be_bytes(code.expect("four bytes"))
    }

    /// The status that a head begins with: from HPACK's static table, or spelled out with a name from there.
    pub fn status(&self) -> u16 {
        // What the table's size is said to be goes ahead (RFC 7541 section 6.3).
        let said = self.payload.iter().take_while(|byte| **byte & 0xe0 == 0x20);
        let head = &self.payload[said.count()..];
        let (first, rest) = head.split_first().expect("a head");
        let known = [200, 204, 206, 304, 400, 404, 500];
        let at = first.checked_sub(0x88).map(usize::from);
        if let Some(status) = at.and_then(|at| known.get(at)) {
            return *status;
        }
        let (length, text) = rest.split_first().expect("a value");
        let text = &text[..usize::from(length & 0x7f)];
        if length & 0x80 == 0 {
            let text = std::str::from_utf8(text).expect("digits");
            return text.parse().expect("a status");
        }
        // Huffman codes of digits (RFC 7541 appendix B): five bits up to `2`, six from `3` on.
        let bits = text
            .iter()
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
        let (mut left, mut status) = (text.len() * 8, 0);
        for _ in 0..3 {
            let next = |count: usize| bits >> (left - count) & ((1 << count) - 1);
            let (digit, used) = match next(5) {
                digit @ 0..3 => (digit, 5),
                _ => (next(6) - 0x19 + 3, 6),
            };
            status = status * 10 + digit;
            left -= used;
        }
        u16::try_from(status).expect("a status")
    }
}

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a length")
        .to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK writes them who knows no table: literal, never indexed.
pub fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            number(&mut block, text.len());
            block.extend(text);
        }
    }
    block
}

/// A number behind a bit of zero (RFC 7541 section 5.1).
fn number(block: &mut Vec<u8>, number: usize) {
    let byte = |number: usize| u8::try_from(number).expect("a byte");
    if number < 127 {
        return block.push(byte(number));
    }
    block.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        block.push(byte(rest % 128) | 0x80);
        rest /= 128;
    }
    block.push(byte(rest));
}

/// Fields from text.
pub fn fields(all: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    all.iter()
        .map(|(name, value)| (bytes(name), bytes(value)))
        .collect()
}

/// What each request begins with.
pub fn request(method: &str, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields(&[
        (":method", method),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", path),
    ])
}

/// A GET.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let block = block(&request("GET", path));
    let flags = flag::END_STREAM | flag::END_HEADERS;
    frame(kind::HEADERS, flags, stream, &block)
}

/// A client's end of a connection.
#[derive(Debug)]
pub struct Framed {
    stream: TcpStream,
}

impl Framed {
    /// Connects and says the preface, with these settings.
    pub fn to(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut framed = Self { stream };
        let settings = frame(kind::SETTINGS, 0, 0, &payload);
        framed.send(&[PREFACE, &settings].concat());
        framed
    }

    /// Sends; `false` if the other side has hung up.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` when the connection has ended.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut head) {
            let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!waited, "nothing came");
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = head[5..9].try_into().expect("four bytes");
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            payload,
        })
    }

    /// Frames of that stream until it has ended in whatever way, or the goodbye that came instead; fewer when the
    /// connection ends.
    pub fn answer(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read() {
            let own = frame.stream == stream
                && matches!(frame.kind, kind::DATA | kind::HEADERS | kind::RST_STREAM);
            if own || frame.kind == kind::GOAWAY {
                let over = frame.ends() || frame.kind == kind::GOAWAY;
                frames.push(frame);
                if over {
                    break;
                }
            }
        }
        frames
    }

    /// The code of the goodbye, once it comes.
    pub fn goodbye(&mut self) -> Option<u32> {
        loop {
            let frame = self.read()?;
            if frame.kind == kind::GOAWAY {
                return Some(frame.code());
            }
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The end of waiting for what never comes.
const PATIENCE: Duration = Duration::from_secs(20);
