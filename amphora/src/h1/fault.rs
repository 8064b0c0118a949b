//! Why a message is refused.

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A line does not end with CR LF (RFC 9112 section 2.2).
    LineEnd,
    /// The first line is not made of three parts with one space between them (RFC 9112 sections 3 and 4).
    StartLine,
    /// The method is no token.
    Method,
    /// The target holds what no target may hold.
    Target,
    /// The version is not one of HTTP/1 that is known.
    Version,
    /// The target is longer than is served.
    TargetTooLong,
    /// The head is longer than is served.
    HeadTooLong,
    /// There are more fields than are served.
    TooManyFields,
    /// A line begins with white space: it went on with the one before once (RFC 9112 section 5.2).
    Folded,
    /// A field has no name, one that is no token, or no colon right after it (RFC 9112 section 5.1).
    FieldName,
    /// A value holds control characters (RFC 9110 section 5.5).
    FieldValue,
    /// `Content-Length` is no plain number, or given more than once.
    Length,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 section 6.1).
    LengthAndCoding,
    /// `Transfer-Encoding` is something else than `chunked` once, or of an HTTP/1.0 message.
    Coding,
    /// The size of a chunk is no plain hexadecimal number, or too large a one.
    ChunkSize,
    /// A chunk extension is malformed, or there is too much of it (RFC 9112 section 7.1.1).
    ChunkExtension,
    /// A chunk does not end where it said.
    ChunkEnd,
}

impl Fault {
    /// The status that a client is answered with.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLong | Self::TooManyFields => 431,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// It in a few words.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::LineEnd => "a line does not end with CR LF",
            Self::StartLine => "the first line is malformed",
            Self::Method => "the method is malformed",
            Self::Target => "the target is malformed",
            Self::Version => "the version is not served",
            Self::TargetTooLong => "the target is too long",
            Self::HeadTooLong => "the head is too long",
            Self::TooManyFields => "there are too many fields",
            Self::Folded => "a field goes on in a second line",
            Self::FieldName => "the name of a field is malformed",
            Self::FieldValue => "the value of a field is malformed",
            Self::Length => "the length is malformed or given twice",
            Self::LengthAndCoding => "both a length and a transfer coding are given",
            Self::Coding => "the transfer coding is not served",
            Self::ChunkSize => "the size of a chunk is malformed",
            Self::ChunkExtension => "a chunk extension is malformed",
            Self::ChunkEnd => "a chunk does not end where it should",
        }
    }
}
