//! Handshakes that failed.

use super::Counter;
use crate::tls::Failure;

/// TLS handshakes that failed, by why.
#[derive(Debug, Default)]
pub struct HandshakeFailures([Counter; Failure::ALL.len()]);

impl HandshakeFailures {
    /// The counter of one reason.
    #[must_use]
    pub fn of(&self, why: Failure) -> &Counter {
        let [
            not_tls,
            version,
            cipher,
            name,
            alpn,
            client_certificate,
            refused,
            closed,
            timeout,
            malformed,
        ] = &self.0;
        match why {
            Failure::NotTls => not_tls,
            Failure::Version => version,
            Failure::Cipher => cipher,
            Failure::Name => name,
            Failure::Alpn => alpn,
            Failure::ClientCertificate => client_certificate,
            Failure::Refused => refused,
            Failure::Closed => closed,
            Failure::Timeout => timeout,
            Failure::Malformed => malformed,
        }
    }
}
