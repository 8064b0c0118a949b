//! What an error of the system says about a member, and what it only says about us.

use std::io::{self, ErrorKind};

use krater_amphora_core::monitor::ProbeFailure;
use rustix::io::Errno;

/// Tells the member's failures from our own: running out of descriptors must not take a pool out.
pub(super) fn from_io(error: &io::Error) -> ProbeFailure {
    match Errno::from_io_error(error) {
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRNOTAVAIL
            | Errno::AGAIN,
        ) => ProbeFailure::Local(describe(error)),
        _ => match error.kind() {
            ErrorKind::ConnectionRefused => ProbeFailure::Refused,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => ProbeFailure::Closed,
            _ => ProbeFailure::Unreachable(describe(error)),
        },
    }
}

/// The system's words without its number, which says nothing to a tenant.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text
        .split_once(" (os error")
        .map_or(text.as_str(), |(words, _)| words);
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_troubles_are_not_the_members() {
        let error = io::Error::from(Errno::MFILE);
        assert!(matches!(from_io(&error), ProbeFailure::Local(_)));
    }

    #[test]
    fn reasons_are_words_without_numbers() {
        let error = io::Error::from(Errno::HOSTUNREACH);
        assert_eq!(from_io(&error).to_string(), "unreachable: no route to host");
        assert_eq!(
            from_io(&io::Error::from(Errno::CONNREFUSED)),
            ProbeFailure::Refused
        );
    }
}
