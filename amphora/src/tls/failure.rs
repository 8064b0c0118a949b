//! Why handshakes fail.

use std::io;

use rustls::{Error, PeerIncompatible};

/// Why a handshake with a client failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client did not speak TLS.
    NotTls,
    /// It speaks no version that the listener does.
    Version,
    /// It speaks no cipher suite that the listener does, or none that fits the certificate.
    Cipher,
    /// It asked for a name that there is no certificate for.
    Name,
    /// It wants to speak something inside that the listener does not.
    Alpn,
    /// It showed no certificate and had to, or one that is not good.
    ClientCertificate,
    /// It broke off with an alert: our certificate was not to its liking, mostly.
    Refused,
    /// It went away.
    Closed,
    /// It took too long.
    Timeout,
    /// What it sent makes no sense.
    Malformed,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NotTls,
        Self::Version,
        Self::Cipher,
        Self::Name,
        Self::Alpn,
        Self::ClientCertificate,
        Self::Refused,
        Self::Closed,
        Self::Timeout,
        Self::Malformed,
    ];

    /// What it is called in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Name => "name",
            Self::Alpn => "alpn",
            Self::ClientCertificate => "client_certificate",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }

    /// What an error of a handshake comes to.
    pub(super) fn of(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            None => Self::Closed,
            Some(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(Error::NoApplicationProtocol) => Self::Alpn,
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
                Self::ClientCertificate
            }
            Some(Error::AlertReceived(_)) => Self::Refused,
            Some(Error::PeerIncompatible(why)) => match why {
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13 => Self::Version,
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
                    Self::ClientCertificate
                }
                _ => Self::Cipher,
            },
            Some(_) => Self::Malformed,
        }
    }
}
