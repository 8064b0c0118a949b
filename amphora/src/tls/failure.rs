//! Why handshakes fail (D41).

use std::io;

use krater_amphora_api::Cause;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a handshake with a client failed.
pub(super) fn of_client(error: &io::Error) -> Cause {
    match tls(error) {
        None => Cause::ClientTlsGone,
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => Cause::ClientNotTls,
        Some(Error::NoApplicationProtocol) => Cause::ClientTlsAlpn,
        Some(Error::NoCertificatesPresented) => Cause::ClientCertificateMissing,
        Some(Error::InvalidCertificate(flaw)) => match Flaw::of(flaw) {
            Flaw::Time => Cause::ClientCertificateExpired,
            Flaw::Revoked => Cause::ClientCertificateRevoked,
            Flaw::Name | Flaw::Other => Cause::ClientCertificateUntrusted,
        },
        Some(Error::AlertReceived(_)) => Cause::ClientTlsRefused,
        Some(Error::PeerIncompatible(why)) => match why {
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13 => Cause::ClientTlsVersion,
            _ => Cause::ClientTlsCipher,
        },
        Some(_) => Cause::ClientTlsMalformed,
    }
}

/// Why a handshake with a member failed.
pub(crate) fn of_member(error: &io::Error) -> Cause {
    match tls(error) {
        None | Some(Error::AlertReceived(_)) => Cause::MemberTlsRefused,
        Some(Error::InvalidCertificate(flaw)) => match Flaw::of(flaw) {
            Flaw::Time => Cause::MemberTlsExpired,
            Flaw::Revoked => Cause::MemberTlsRevoked,
            Flaw::Name => Cause::MemberTlsName,
            Flaw::Other => Cause::MemberTlsUntrusted,
        },
        Some(_) => Cause::MemberTls,
    }
}

/// Whether a connection to a member has ended with an alert. With TLS 1.3 a member judges what it was shown when its side
/// of the handshake is over already.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    let Some(Error::AlertReceived(alert)) = tls(error) else {
        return false;
    };
    !matches!(
        alert,
        AlertDescription::CloseNotify | AlertDescription::UserCanceled
    )
}

/// What is wrong with a certificate.
enum Flaw {
    /// It has ended, or has not begun.
    Time,
    /// It was revoked, or no list that is up to date says that it was not.
    Revoked,
    /// It is somebody else's.
    Name,
    /// Nobody vouches for it.
    Other,
}

impl Flaw {
    const fn of(flaw: &CertificateError) -> Self {
        match flaw {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Time,
            CertificateError::Revoked
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::Revoked,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::Name
            }
            _ => Self::Other,
        }
    }
}

fn tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
