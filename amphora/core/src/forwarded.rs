//! The headers that tell a member who the client was: `X-Forwarded-For`, `-Port`, `-Proto` and the client's address
//! under other names (reference 19.5).

use core::{fmt, fmt::Write, net::IpAddr};

/// Which of the headers a listener adds to each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsertHeaders {
    /// Append the client's address.
    pub x_forwarded_for: bool,
    /// Set the listener's port.
    pub x_forwarded_port: bool,
    /// Set the scheme the client used.
    pub x_forwarded_proto: bool,
    /// Set the client's address.
    pub x_forwarded_ip: bool,
    /// The same under another name.
    pub x_client_ip: bool,
    /// The same under another name.
    pub x_real_ip: bool,
}

/// A header to add to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// What becomes of lines of that name which the client sent.
    pub existing: Existing,
}

/// What becomes of lines of the same name that the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They stay, and the new line is appended after them: addresses accumulate along the way.
    Keep,
    /// They go: a member must be able to believe the value.
    Replace,
}

/// The scheme by which the client reached the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS that ends at the listener.
    Https,
}

/// The headers that `insert` asks for, for a request of `client` to `listener_port`. Allocates nothing.
///
/// An IPv4 client that reached an IPv6 socket is shown by its IPv4 address.
pub fn headers(
    insert: InsertHeaders,
    client: IpAddr,
    listener_port: u16,
    scheme: Scheme,
) -> impl Iterator<Item = Header> {
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let client = client.to_canonical();
    let address = |wanted: bool, name, existing| {
        wanted.then(|| Header {
            name,
            value: Value::of(format_args!("{client}")),
            existing,
        })
    };
    let port = insert.x_forwarded_port.then(|| Header {
        name: "x-forwarded-port",
        value: Value::of(format_args!("{listener_port}")),
        existing: Existing::Replace,
    });
    let proto = insert.x_forwarded_proto.then(|| Header {
        name: "x-forwarded-proto",
        value: Value::of(format_args!("{scheme}")),
        existing: Existing::Replace,
    });
    [
        address(insert.x_forwarded_for, "x-forwarded-for", Existing::Keep),
        port,
        proto,
        address(insert.x_forwarded_ip, "x-forwarded-ip", Existing::Replace),
        address(insert.x_client_ip, "x-client-ip", Existing::Replace),
        address(insert.x_real_ip, "x-real-ip", Existing::Replace),
    ]
    .into_iter()
    .flatten()
}

/// Whether `name`, in lower case, could be taken for one of `names`, whose words are set apart by hyphens: many
/// applications know headers by names in which hyphens and underscores are one.
#[must_use]
pub fn resembles(name: &str, names: &[&str]) -> bool {
    name.contains('_')
        && names.iter().any(|known| {
            known.len() == name.len()
                && known
                    .bytes()
                    .zip(name.bytes())
                    .all(|(known, byte)| known == byte || (known == b'-' && byte == b'_'))
        })
}

/// All names that a listener may set, in lower case. No client can have them taken out by `Connection`.
pub const NAMES: [&str; 14] = [
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-ip",
    "x-client-ip",
    "x-real-ip",
    "x-ssl-client-verify",
    "x-ssl-client-has-cert",
    "x-ssl-client-dn",
    "x-ssl-client-cn",
    "x-ssl-issuer",
    "x-ssl-client-sha1",
    "x-ssl-client-not-before",
    "x-ssl-client-not-after",
];

/// A header value that lives on the stack: this is made once per request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value {
    bytes: [u8; Self::BYTES_MAX],
    length: u8,
}

impl Value {
    /// The longest IPv6 address as text, with its four-part ending.
    const BYTES_MAX: usize = 45;

    fn of(text: fmt::Arguments<'_>) -> Self {
        let mut value = Self {
            bytes: [0; Self::BYTES_MAX],
            length: 0,
        };
        // Everything written here fits: addresses by the constant above, ports and schemes by far.
        let fits = value.write_fmt(text).is_ok();
        debug_assert!(fits, "{text} does not fit a forwarded header");
        value
    }

    /// The value as bytes: visible ASCII, fit for a header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Write for Value {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = usize::from(self.length);
        let end = start + text.len();
        let room = self.bytes.get_mut(start..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = u8::try_from(end).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const ALL: InsertHeaders = InsertHeaders {
        x_forwarded_for: true,
        x_forwarded_port: true,
        x_forwarded_proto: true,
        x_forwarded_ip: true,
        x_client_ip: true,
        x_real_ip: true,
    };

    #[test]
    fn every_header_asked_for_is_made_and_no_other() {
        let client = "203.0.113.9".parse().unwrap();
        let made: Vec<_> = headers(ALL, client, 8080, Scheme::Http).collect();
        let lines: Vec<_> = made
            .iter()
            .map(|header| (header.name, header.value.as_str(), header.existing))
            .collect();
        assert_eq!(
            lines,
            [
                ("x-forwarded-for", "203.0.113.9", Existing::Keep),
                ("x-forwarded-port", "8080", Existing::Replace),
                ("x-forwarded-proto", "http", Existing::Replace),
                ("x-forwarded-ip", "203.0.113.9", Existing::Replace),
                ("x-client-ip", "203.0.113.9", Existing::Replace),
                ("x-real-ip", "203.0.113.9", Existing::Replace),
            ]
        );
        assert!(made.iter().all(|header| NAMES.contains(&header.name)));
        assert_eq!(
            headers(InsertHeaders::default(), client, 80, Scheme::Https).count(),
            0
        );
        let only = InsertHeaders {
            x_forwarded_proto: true,
            ..InsertHeaders::default()
        };
        let made: Vec<_> = headers(only, client, 80, Scheme::Https).collect();
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].value.as_bytes(), b"https");
    }

    #[test]
    fn a_name_with_underscores_resembles_the_one_with_hyphens() {
        for (name, resembling) in [
            ("x_forwarded_port", true),
            ("x-forwarded_port", true),
            ("x-forwarded-port", false),
            ("x_forwarded_ports", false),
            ("xxforwarded_port", false),
            ("x_unknown", false),
        ] {
            assert_eq!(resembles(name, &NAMES), resembling, "{name}");
        }
    }

    #[test]
    fn a_mapped_client_is_shown_by_its_ipv4_address() {
        let client = "::ffff:192.0.2.1".parse().unwrap();
        let made: Vec<_> = headers(ALL, client, 1, Scheme::Http).collect();
        assert_eq!(made[0].value.as_str(), "192.0.2.1");
    }

    #[test]
    fn the_longest_values_fit() {
        let client = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let made: Vec<_> = headers(ALL, client, 65_535, Scheme::Https).collect();
        assert_eq!(
            made[0].value.as_str(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
        assert_eq!(made[1].value.as_str(), "65535");
    }
}
