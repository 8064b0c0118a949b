//! CIDRs.

use super::mask;

#[test]
fn host_bits_are_cleared() {
    for (cidr, masked) in [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("255.255.255.255/0", "0.0.0.0/0"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("2001:DB8:0:0::1", "2001:db8::1/128"),
        ("ffff::/0", "::/0"),
    ] {
        assert_eq!(mask(cidr).as_deref(), Some(masked), "{cidr}");
    }
}

#[test]
fn what_is_no_cidr_is_refused() {
    for text in [
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0/8",
        "::/129",
        "x/8",
    ] {
        assert_eq!(mask(text), None, "{text}");
    }
}
