use alloc::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::limits;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn relayed(source: &str, destination: &str) -> Origin {
    Origin::Relayed {
        source: at(source),
        destination: at(destination),
    }
}

/// What a header says, if the bytes are one and nothing follows.
fn said(bytes: &[u8]) -> Result<Origin, Fault> {
    match parse(bytes)? {
        Parsed::Header { origin, .. } => Ok(origin),
        Parsed::Incomplete => panic!("not a whole header: {}", bytes.escape_ascii()),
    }
}

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [
        &SIGNATURE[..],
        &[command, family],
        &length.to_be_bytes(),
        body,
    ]
    .concat()
}

const V4_BODY: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x04, 0x57, 0x08, 0xae];

fn v6_body() -> Vec<u8> {
    let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    [&address(1)[..], &address(2), &V4_BODY[8..]].concat()
}

#[test]
fn headers_are_as_the_specification_prints_them() {
    let line =
        |origin| String::from_utf8(Header::new(Version::V1, origin).as_bytes().to_vec()).unwrap();
    let four = Origin::between(at("192.0.2.1:1111"), at("198.51.100.2:2222"));
    let six = Origin::between(at("[2001:db8::1]:1111"), at("[2001:db8::2]:2222"));
    assert_eq!(
        line(four),
        "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n"
    );
    assert_eq!(
        line(six),
        "PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n"
    );
    assert_eq!(line(Origin::Own), "PROXY UNKNOWN\r\n");
    let bytes = |origin| Header::new(Version::V2, origin).as_bytes().to_vec();
    assert_eq!(bytes(four), binary(0x21, 0x11, &V4_BODY));
    assert_eq!(bytes(six), binary(0x21, 0x21, &v6_body()));
    assert_eq!(bytes(Origin::Own), binary(0x20, 0x00, &[]));
    assert_eq!(
        format!("{:?}", Header::new(Version::V1, Origin::Own)),
        r"PROXY UNKNOWN\r\n"
    );
}

#[test]
fn addresses_of_two_families_are_not_told() {
    let mapped = Origin::between(at("[::ffff:192.0.2.1]:1"), at("198.51.100.2:2"));
    assert_eq!(mapped, relayed("192.0.2.1:1", "198.51.100.2:2"));
    for (source, destination) in [
        ("192.0.2.1:1", "[2001:db8::1]:2"),
        ("[2001:db8::1]:1", "[::ffff:192.0.2.1]:2"),
    ] {
        assert_eq!(Origin::between(at(source), at(destination)), Origin::Own);
        let mixed = relayed(source, "[2001:db8::1]:2");
        if source.starts_with('1') {
            // Even if somebody builds one by hand.
            assert_eq!(
                Header::new(Version::V1, mixed).as_bytes(),
                b"PROXY UNKNOWN\r\n"
            );
            assert_eq!(
                Header::new(Version::V2, mixed).as_bytes(),
                binary(0x20, 0x00, &[])
            );
        }
    }
}

#[test]
fn lines_that_receivers_must_take() {
    let four = Ok(relayed("192.0.2.1:1111", "198.51.100.2:2222"));
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n", four),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 1111 2222\r\n",
            Ok(relayed("[2001:db8::1]:1111", "[2001:db8::2]:2222")),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n",
            Ok(relayed("255.255.255.255:65535", "255.255.255.255:0")),
        ),
        ("PROXY UNKNOWN\r\n", Ok(Origin::Own)),
        (
            "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            Ok(Origin::Own),
        ),
        (
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Ok(Origin::Own),
        ),
        // A second header is the stream's own business.
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\r\nPROXY TCP4 9.9.9.9 9.9.9.9 9 9\r\n",
            four,
        ),
    ] {
        assert_eq!(said(line.as_bytes()), expected, "{line}");
    }
}

/// Lines that begin as they should and go on otherwise.
const BAD_LINES: &[&str] = &[
    "PROXY \r\n",
    "PROXY TCP4\r\n",
    "PROXY  TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n",
    "PROXY TCP4  192.0.2.1 198.51.100.2 1111 2222\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222 \r\n",
    "PROXY TCP4 192.0.2.256 198.51.100.2 1111 2222\r\n",
    "PROXY TCP4 192.0.02.1 198.51.100.2 1111 2222\r\n",
    "PROXY TCP4 2001:db8::1 2001:db8::2 1111 2222\r\n",
    "PROXY TCP6 192.0.2.1 198.51.100.2 1111 2222\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2222\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2222\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2222\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 01111 2222\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 1111 \r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 1111\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222 3\r\n",
    "PROXY UNIX a b 1 2\r\n",
    "PROXY unknown\r\n",
    "PROXY UNKNOWNS\r\n",
];

#[test]
fn lines_that_receivers_must_refuse() {
    for line in BAD_LINES {
        assert_eq!(parse(line.as_bytes()), Err(Fault::BadLine), "{line}");
    }
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(120));
    for (line, fault) in [
        (long.as_str(), Fault::TooLong),
        (
            "PROXY UNKNOWN fff1:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 655350\r\n",
            Fault::TooLong,
        ),
        (
            "proxy TCP4 192.0.2.1 198.51.100.2 1111 2222\r\n",
            Fault::NoHeader,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::NoHeader),
        ("PROXY\r\n", Fault::NoHeader),
        (
            "PROXYTCP4 192.0.2.1 198.51.100.2 1111 2222\r\n",
            Fault::NoHeader,
        ),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(fault), "{line}");
    }
    assert_eq!(parse(b"PROXY TCP4 \xff\r\n"), Err(Fault::BadLine));
    // A line feed alone ends no line, and is in none; but for what is to be ignored.
    let bare = b"PROXY TCP4 192.0.2.1 198.51.100.2 1111 2222\n";
    assert_eq!(parse(bare), Err(Fault::BadLine));
    assert_eq!(parse(b"PROXY UNKNOWN\nx"), Ok(Parsed::Incomplete));
    assert_eq!(said(b"PROXY UNKNOWN \n\r\n"), Ok(Origin::Own));
}

fn checksummed(good: bool) -> Vec<u8> {
    let mut bytes = binary(
        0x21,
        0x11,
        &[&V4_BODY[..], b"\x03\0\x04\0\0\0\0", b"\x04\0\x01x"].concat(),
    );
    let sum = crc(&bytes) ^ u32::from(!good);
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// CRC-32C by its definition, another way than the parser's.
fn crc(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0x82f6_3b78
            } else {
                sum >> 1
            };
        }
    }
    !sum
}

#[test]
fn binary_headers_that_receivers_must_take() {
    assert_eq!(crc(b"123456789"), 0xe306_9283);
    let four = relayed("192.0.2.1:1111", "198.51.100.2:2222");
    let six = relayed("[2001:db8::1]:1111", "[2001:db8::2]:2222");
    let with = |fields: &[u8]| binary(0x21, 0x11, &[&V4_BODY[..], fields].concat());
    let kilobyte = [b"\x04\x03\xe8", &[0; 1000][..]].concat();
    for (bytes, expected) in [
        (with(b""), four),
        (binary(0x21, 0x21, &v6_body()), six),
        (with(b"\x02\0\x06a.test"), four),
        (with(b"\x04\0\x03\0\0\0"), four),
        (with(b"\xe4\0\x02ab\x04\0\0"), four),
        (with(&kilobyte), four),
        (checksummed(true), four),
        (binary(0x20, 0x00, b""), Origin::Own),
        (binary(0x20, 0x11, &V4_BODY), Origin::Own),
        (binary(0x21, 0x00, b"xyz"), Origin::Own),
        (binary(0x21, 0x12, &V4_BODY), Origin::Own),
        (binary(0x21, 0x31, &[0; 216]), Origin::Own),
    ] {
        assert_eq!(said(&bytes), Ok(expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn binary_headers_that_receivers_must_refuse() {
    let with = |fields: &[u8]| binary(0x21, 0x11, &[&V4_BODY[..], fields].concat());
    let mut other = with(b"");
    other[10] = b'X';
    let long = vec![0; limits::PROXY_HEADER_BYTES_MAX - 15];
    for (bytes, fault) in [
        (binary(0x11, 0x11, &V4_BODY), Fault::BadCommand),
        (binary(0x31, 0x11, &V4_BODY), Fault::BadCommand),
        (binary(0x22, 0x11, &V4_BODY), Fault::BadCommand),
        (binary(0x21, 0x41, &V4_BODY), Fault::BadFamily),
        (binary(0x21, 0x71, &V4_BODY), Fault::BadFamily),
        (binary(0x21, 0x13, &V4_BODY), Fault::BadFamily),
        (binary(0x21, 0x11, &V4_BODY[..4]), Fault::BadLength),
        (binary(0x21, 0x21, &V4_BODY), Fault::BadLength),
        (binary(0x21, 0x31, &V4_BODY), Fault::BadLength),
        (with(b"\x02\0\xffab"), Fault::BadLength),
        (with(b"\x02\0"), Fault::BadLength),
        (with(b"\x03\0\x02ab"), Fault::BadLength),
        (checksummed(false), Fault::BadChecksum),
        (other, Fault::NoHeader),
        (binary(0x21, 0x00, &long), Fault::TooLong),
    ] {
        assert_eq!(parse(&bytes), Err(fault), "{}", bytes.escape_ascii());
    }
    let longest = binary(0x21, 0x00, &long[1..]);
    assert_eq!(longest.len(), limits::PROXY_HEADER_BYTES_MAX);
    assert_eq!(said(&longest), Ok(Origin::Own));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(address, port)| v4(address, port)),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(|(address, port)| v6(address, port)),
        (any::<[u16; 2]>(), any::<u16>()).prop_map(|([a, b], port)| {
            SocketAddr::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, a, b).into(), port)
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(source in any_address(), destination in any_address(), text in any::<bool>(), payload in any::<Vec<u8>>()) {
        let origin = Origin::between(source, destination);
        let version = if text { Version::V1 } else { Version::V2 };
        let header = Header::new(version, origin);
        let length = header.as_bytes().len();
        prop_assert!(length <= V1_BYTES_MAX);
        let stream = [header.as_bytes(), &payload].concat();
        prop_assert_eq!(parse(&stream), Ok(Parsed::Header { version, origin, length }));
        for cut in 0..length {
            prop_assert_eq!(parse(&stream[..cut]), Ok(Parsed::Incomplete), "cut at {}", cut);
        }
    }

    #[test]
    fn nothing_that_comes_is_more_than_refused(noise in prop::collection::vec(any::<u8>(), 0..300), start in 0_usize..4) {
        let start: &[u8] = [&b""[..], b"PROXY ", &SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"][start];
        let bytes = [start, &noise].concat();
        if let Ok(Parsed::Header { length, origin, version }) = parse(&bytes) {
            prop_assert!(length <= bytes.len());
            prop_assert_eq!(parse(&bytes[..length]), Ok(Parsed::Header { version, origin, length }), "what follows matters not");
        }
    }
}
