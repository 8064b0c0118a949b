//! Frames as they are on the wire (RFC 9113 sections 4 and 6).

/// What goes ahead of each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes that follow.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Whose it is; 0: the connection's.
    pub(super) stream: u32,
}

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reason(u32);

impl Reason {
    pub(crate) const NO_ERROR: Self = Self(0x0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x1);
    pub(crate) const INTERNAL_ERROR: Self = Self(0x2);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub(crate) const STREAM_CLOSED: Self = Self(0x5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub(crate) const REFUSED_STREAM: Self = Self(0x7);
    pub(crate) const CANCEL: Self = Self(0x8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(0x9);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(0xb);

    /// Its number.
    pub(crate) const fn code(self) -> u32 {
        self.0
    }
}

impl Head {
    /// The head that `bytes` begin with, once all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let [high, middle, low, kind, flags, stream @ ..] = *head;
        Some(Self {
            length: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & STREAM_BITS,
        })
    }

    /// Whether it has that flag.
    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether a frame of this kind may be of this size. Those of unknown kinds are of any size up to the largest.
    pub(super) const fn has_right_size(self) -> bool {
        self.length <= FRAME_BYTES_MAX
            && match self.kind {
                PRIORITY => self.length == PRIORITY_BYTES,
                RST_STREAM | WINDOW_UPDATE => self.length == 4,
                SETTINGS => {
                    self.length.is_multiple_of(SETTING_BYTES)
                        && (self.flags & ACK == 0 || self.length == 0)
                }
                PING => self.length == PING_BYTES,
                GOAWAY => self.length >= 8,
                _ => true,
            }
    }
}

/// The head of a frame as it is sent.
pub(super) fn head_bytes(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD_BYTES] {
    // No frame of ours is larger than what 24 bits tell.
    let [_, high, middle, low] = u32::try_from(length).unwrap_or_default().to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    [high, middle, low, kind, flags, a, b, c, d]
}

/// Writes the head of a frame.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&head_bytes(length, kind, flags, stream));
}

/// Writes what we want of the client.
pub(super) fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    head(out, settings.len() * SETTING_BYTES, SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes that the client's settings are in force.
pub(super) fn settings_ack(out: &mut Vec<u8>) {
    head(out, 0, SETTINGS, ACK, 0);
}

/// Writes a question whether the client is there, or with [`ACK`] the answer to one.
pub(super) fn ping(out: &mut Vec<u8>, flags: u8, payload: [u8; PING_BYTES]) {
    head(out, PING_BYTES, PING, flags, 0);
    out.extend_from_slice(&payload);
}

/// Writes that no stream beyond `last` is served, and why.
pub(super) fn goaway(out: &mut Vec<u8>, last: u32, reason: Reason) {
    head(out, 8, GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&reason.code().to_be_bytes());
}

/// Writes the end of a stream.
pub(super) fn reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    head(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&reason.code().to_be_bytes());
}

/// Writes that there is room for more.
pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&more.to_be_bytes());
}

/// The number that a payload of four bytes is.
pub(super) fn number(payload: &[u8]) -> u32 {
    payload
        .first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The settings that a payload lists.
pub(super) fn listed(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(SETTING_BYTES).filter_map(|setting| {
        let (id, value) = setting.split_first_chunk()?;
        Some((u16::from_be_bytes(*id), number(value)))
    })
}

/// What clients begin with (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const HEAD_BYTES: usize = 9;
pub(super) const PING_BYTES: usize = 8;
pub(super) const PRIORITY_BYTES: usize = 5;
const SETTING_BYTES: usize = 6;
/// The largest frame that either side may send before it is told otherwise (RFC 9113 section 4.2); we never tell.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;
/// What of four bytes is the number of a stream, or a size of a window.
pub(super) const STREAM_BITS: u32 = 0x7fff_ffff;

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PUSH_PROMISE: u8 = 0x5;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const WITH_PRIORITY: u8 = 0x20;

// RFC 9113 section 6.5.2.
pub(super) const HEADER_TABLE_SIZE: u16 = 0x1;
pub(super) const ENABLE_PUSH: u16 = 0x2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub(super) const MAX_FRAME_SIZE: u16 = 0x5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 0x6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let mut out = Vec::new();
        settings(&mut out, &[(3, 100), (4, 7)]);
        let read = Head::parse(&out).unwrap();
        assert_eq!((read.length, read.kind, read.flags), (12, SETTINGS, 0));
        let all: Vec<_> = listed(&out[HEAD_BYTES..]).collect();
        assert_eq!(all, [(3, 100), (4, 7)]);
        out.clear();
        reset(&mut out, 7, Reason::CANCEL);
        let read = Head::parse(&out).unwrap();
        assert_eq!((read.kind, read.stream, read.length), (RST_STREAM, 7, 4));
        assert_eq!(number(&out[HEAD_BYTES..]), 8);
        out.clear();
        goaway(&mut out, 9, Reason::ENHANCE_YOUR_CALM);
        assert_eq!(out[HEAD_BYTES..], [0, 0, 0, 9, 0, 0, 0, 0xb]);
        assert_eq!(Head::parse(&out[..8]), None);
    }

    #[test]
    fn sizes_are_those_of_the_kind() {
        let sized = |kind, flags, length| {
            let head = Head {
                length,
                kind,
                flags,
                stream: 0,
            };
            head.has_right_size()
        };
        for kind in 0..=CONTINUATION {
            assert!(!sized(kind, 0, FRAME_BYTES_MAX + 1), "{kind}");
        }
        assert!(sized(DATA, 0, FRAME_BYTES_MAX) && sized(0xfa, 0, 0));
        for (kind, right, wrong) in [
            (PRIORITY, 5, 4),
            (RST_STREAM, 4, 5),
            (SETTINGS, 12, 7),
            (PING, 8, 0),
            (GOAWAY, 9, 7),
            (WINDOW_UPDATE, 4, 3),
        ] {
            assert!(sized(kind, 0, right) && !sized(kind, 0, wrong), "{kind}");
        }
        assert!(sized(SETTINGS, ACK, 0) && !sized(SETTINGS, ACK, 6));
    }
}
