//! PEM (RFC 7468) in and out, without leaving keys behind.

use pem::{EncodeConfig, LineEnding, Pem};
use zeroize::{Zeroize as _, Zeroizing};

use super::pkcs7;

/// What a text of PEM holds, by kind, in its order.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) keys: Vec<Key>,
    pub(super) revocations: Vec<Vec<u8>>,
    /// Of other kinds, by label.
    pub(super) others: Vec<String>,
}

/// A private key.
pub(super) struct Key {
    pub(super) format: Format,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// PKCS#8
    Pkcs8,
    /// PKCS#1, RSA only.
    Pkcs1,
    /// SEC 1, elliptic curves only.
    Sec1,
    /// PKCS#8, encrypted.
    Encrypted,
    /// Encrypted as OpenSSL once did (RFC 1421): what MD5 makes of a passphrase protects nothing.
    Legacy,
}

impl Format {
    const fn label(self) -> &'static str {
        match self {
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
            Self::Encrypted | Self::Legacy => "ENCRYPTED PRIVATE KEY",
        }
    }
}

/// Whether it is PEM at all.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let mark = b"-----BEGIN ";
    bytes.windows(mark.len()).any(|window| window == mark)
}

/// Takes a text of PEM apart.
pub(super) fn parse(bytes: &[u8]) -> Result<Contents, String> {
    let all = pem::parse_many(bytes).map_err(|error| format!("it is not PEM: {error}"))?;
    let mut contents = Contents::default();
    for one in all {
        let legacy = one
            .headers()
            .get("Proc-Type")
            .is_some_and(|kind| kind.contains("ENCRYPTED"));
        let format = match one.tag() {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                contents.certificates.push(one.into_contents());
                continue;
            }
            // How RFC 7468 calls what OpenSSL calls by its older name.
            "PKCS7" | "CMS" => {
                contents
                    .certificates
                    .extend(pkcs7::certificates(one.contents())?);
                continue;
            }
            "X509 CRL" => {
                contents.revocations.push(one.into_contents());
                continue;
            }
            // Named in the key too.
            "EC PARAMETERS" | "DH PARAMETERS" => continue,
            _ if legacy => Format::Legacy,
            "PRIVATE KEY" => Format::Pkcs8,
            "RSA PRIVATE KEY" => Format::Pkcs1,
            "EC PRIVATE KEY" => Format::Sec1,
            "ENCRYPTED PRIVATE KEY" => Format::Encrypted,
            other => {
                contents.others.push(other.to_owned());
                one.into_contents().zeroize();
                continue;
            }
        };
        let der = Zeroizing::new(one.into_contents());
        contents.keys.push(Key { format, der });
    }
    Ok(contents)
}

/// Certificates as one text.
pub(super) fn certificates<'a>(all: impl Iterator<Item = &'a [u8]>) -> String {
    all.map(|der| encode("CERTIFICATE", der)).collect()
}

/// Lists of revoked certificates as one text.
pub(super) fn revocations<'a>(all: impl Iterator<Item = &'a [u8]>) -> String {
    all.map(|der| encode("X509 CRL", der)).collect()
}

/// A key as text.
pub(super) fn key(key: &Key) -> String {
    encode(key.format.label(), &key.der)
}

fn encode(label: &str, der: &[u8]) -> String {
    let one = Pem::new(label, der);
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let text = pem::encode_config(&one, config);
    one.into_contents().zeroize();
    text
}
