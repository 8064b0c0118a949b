//! Where access logs go.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::format::Framing;

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) to: Target,
    /// A file that has grown to this is put aside.
    pub(crate) file_bytes_max: u64,
    /// So many of those that were put aside are kept.
    pub(crate) files_max: u8,
    /// The facility of syslog messages (RFC 5424 section 6.2.1), 0–23.
    pub(crate) facility: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            to: Target::Stdout,
            file_bytes_max: 100 << 20,
            files_max: 5,
            facility: 16,
        }
    }
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
    /// A syslog collector (RFC 5424).
    Syslog(Transport, SocketAddr),
}

/// How messages travel to a syslog collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One datagram each (RFC 5426).
    Udp,
    /// With their length ahead (RFC 6587 section 3.4.1).
    Tcp,
}

impl Settings {
    pub(super) const fn framing(&self) -> Framing {
        match self.to {
            Target::Stdout | Target::File(_) => Framing::Line,
            Target::Syslog(transport, _) => Framing::Syslog {
                facility: self.facility,
                counted: matches!(transport, Transport::Tcp),
            },
        }
    }
}

impl Target {
    /// Reads `stdout`, `file:/PATH`, `syslog+udp://ADDRESS:PORT` or `syslog+tcp://ADDRESS:PORT`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let collector = |transport, rest: &str| {
            let address = rest.parse().ok();
            let address = address.filter(|address: &SocketAddr| address.port() != 0);
            address.map(|address| Self::Syslog(transport, address))
        };
        let target = if text == "stdout" {
            Some(Self::Stdout)
        } else if let Some(path) = text.strip_prefix("file:") {
            let path = Path::new(path);
            path.is_absolute().then(|| Self::File(path.to_owned()))
        } else if let Some(rest) = text.strip_prefix("syslog+udp://") {
            collector(Transport::Udp, rest)
        } else if let Some(rest) = text.strip_prefix("syslog+tcp://") {
            collector(Transport::Tcp, rest)
        } else {
            None
        };
        target.ok_or_else(|| {
            format!(
                "{text:?} is not stdout, file:/PATH, syslog+udp://ADDRESS:PORT or syslog+tcp://ADDRESS:PORT"
            )
        })
    }
}

/// Reads a number of bytes with its unit in the value: `64KiB`, `100MiB`, `1GiB`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size like 64KiB, 100MiB or 1GiB");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_one_of_four_kinds_and_says_where() {
        let collector = "192.0.2.1:514".parse().unwrap();
        for (text, target) in [
            ("stdout", Target::Stdout),
            ("file:/var/log/a", Target::File("/var/log/a".into())),
            (
                "syslog+udp://192.0.2.1:514",
                Target::Syslog(Transport::Udp, collector),
            ),
            (
                "syslog+tcp://192.0.2.1:514",
                Target::Syslog(Transport::Tcp, collector),
            ),
        ] {
            assert_eq!(Target::parse(text), Ok(target));
        }
        for text in [
            "",
            "stderr",
            "file:",
            "file:access.log",
            "syslog://192.0.2.1:514",
            "syslog+udp://192.0.2.1",
            "syslog+tcp://192.0.2.1:0",
            "syslog+udp://collector:514",
        ] {
            assert!(Target::parse(text).unwrap_err().contains(text));
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("3MiB"), Ok(3 << 20));
        assert_eq!(parse_bytes("0B"), Ok(0));
        for text in ["", "5", "MiB", "5MB", "-1B", "99999999999999GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
