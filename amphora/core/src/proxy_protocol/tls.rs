//! What version 2 says of TLS between the client and whoever sends the header, as HAProxy's `send-proxy-v2-ssl-cn` does,
//! and the cipher (section 2.2 of the specification, "PP2_TYPE_ALPN" to "PP2_TYPE_SSL").

use alloc::vec::Vec;

use super::{Header, Origin, SIGNATURE, Version};

/// TLS that a client has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls<'a> {
    /// The version: `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite, as OpenSSL names it.
    pub cipher: &'a str,
    /// The host asked for.
    pub server_name: Option<&'a str>,
    /// What is spoken inside, if that was agreed on.
    pub alpn: Option<&'a [u8]>,
    /// The certificate that the client showed. It was judged well.
    pub certificate: Option<Certificate<'a>>,
}

/// A client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The common name in its subject.
    pub common_name: Option<&'a str>,
    /// Whether it was shown over this connection, not over an earlier one of the same session.
    pub shown_now: bool,
}

/// The header of version 2 for a stream of that origin whose client spoke that TLS.
#[must_use]
pub fn header_with_tls(origin: Origin, tls: &Tls<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(Header::new(Version::V2, origin).as_bytes());
    if let Some(alpn) = tls.alpn {
        push(&mut bytes, ALPN, alpn);
    }
    if let Some(name) = tls.server_name {
        push(&mut bytes, AUTHORITY, name.as_bytes());
    }
    let mut inner = Vec::with_capacity(64);
    let client = match tls.certificate {
        None => CLIENT_SSL,
        Some(Certificate {
            shown_now: true, ..
        }) => CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS,
        Some(_) => CLIENT_SSL | CLIENT_CERT_SESS,
    };
    // Zero if the client showed a certificate that was found good, and anything else if not.
    let verify: u32 = tls.certificate.is_none().into();
    inner.push(client);
    inner.extend_from_slice(&verify.to_be_bytes());
    push(&mut inner, SSL_VERSION, tls.version.as_bytes());
    if let Some(name) = tls.certificate.and_then(|shown| shown.common_name) {
        push(&mut inner, SSL_CN, name.as_bytes());
    }
    push(&mut inner, SSL_CIPHER, tls.cipher.as_bytes());
    push(&mut bytes, SSL, &inner);
    let length = bytes.len().saturating_sub(SIGNATURE.len() + 4);
    let field = bytes.get_mut(SIGNATURE.len() + 2..SIGNATURE.len() + 4);
    // All values together are far below 64 KiB: see `VALUE_BYTES_MAX`.
    if let (Some(field), Ok(length)) = (field, u16::try_from(length)) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// Appends a value, unless it is too long to be one.
fn push(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len())
        && length <= VALUE_BYTES_MAX
    {
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
    }
}

/// Names are of 255 bytes at most; a common name that is longer is left out rather than cut into another one.
const VALUE_BYTES_MAX: u16 = 2_048;

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;

const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

#[cfg(test)]
mod tests {
    use std::{string::String, vec};

    use super::*;
    use crate::proxy_protocol::{Parsed, parse};

    fn origin() -> Origin {
        Origin::between(
            "192.0.2.1:1000".parse().unwrap(),
            "192.0.2.2:443".parse().unwrap(),
        )
    }

    const PLAIN: Tls<'_> = Tls {
        version: "TLSv1.3",
        cipher: "C",
        server_name: None,
        alpn: None,
        certificate: None,
    };

    #[test]
    fn what_is_known_of_tls_follows_the_addresses() {
        let full = Tls {
            server_name: Some("a.b"),
            alpn: Some(b"h2"),
            certificate: Some(Certificate {
                common_name: Some("me"),
                shown_now: true,
            }),
            ..PLAIN
        };
        let bytes = header_with_tls(origin(), &full);
        let told = vec![
            1, 0, 2, b'h', b'2', // ALPN
            2, 0, 3, b'a', b'.', b'b', // the host
            0x20, 0, 24, 7, 0, 0, 0, 0, // TLS, a good certificate shown now
            0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3', // the version
            0x22, 0, 2, b'm', b'e', // who
            0x23, 0, 1, b'C', // the cipher
        ];
        assert_eq!(bytes[28..], told);
        for (tls, length) in [(full, 28 + told.len()), (PLAIN, 28 + 3 + 5 + 10 + 4)] {
            let bytes = header_with_tls(origin(), &tls);
            assert_eq!(
                parse(&bytes),
                Ok(Parsed::Header {
                    version: Version::V2,
                    origin: origin(),
                    length
                })
            );
            assert_eq!(bytes.len(), length);
        }
        assert_eq!(header_with_tls(origin(), &PLAIN)[31..36], [1, 0, 0, 0, 1]);
    }

    #[test]
    fn a_name_that_is_too_long_is_left_out() {
        let name: String = "x".repeat(2_049);
        let long = Tls {
            certificate: Some(Certificate {
                common_name: Some(&name),
                shown_now: false,
            }),
            ..PLAIN
        };
        let bytes = header_with_tls(origin(), &long);
        assert_eq!(bytes.len(), 28 + 3 + 5 + 10 + 4);
        assert_eq!(bytes[31..36], [5, 0, 0, 0, 0]);
    }
}
