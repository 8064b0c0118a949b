//! The header that some connections begin with: read all or nothing, and as it was written.

use krater_amphora_core::proxy_protocol::{Header, Origin, Parsed, parse};

pub(super) fn take(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Parsed::Header {
            version,
            origin,
            length,
        }) => {
            assert!(length <= bytes.len());
            // What follows it is not looked at, and nothing less is a header.
            assert_eq!(parse(&bytes[..length]), parse(bytes));
            for shorter in 0..length {
                assert_eq!(
                    parse(&bytes[..shorter]),
                    Ok(Parsed::Incomplete),
                    "{shorter}"
                );
            }
            // What it says can be said again.
            if let Origin::Relayed { .. } = origin {
                let again = Header::new(version, origin);
                assert!(matches!(
                    parse(again.as_bytes()),
                    Ok(Parsed::Header { origin: said, .. }) if said == origin
                ));
            }
        }
        Ok(Parsed::Incomplete) => {}
        Err(fault) => {
            // Nothing that can still come makes a header of it.
            let mut longer = bytes.to_vec();
            longer.extend_from_slice(b"\r\n");
            assert!(parse(&longer).is_err(), "{fault:?}");
        }
    }
}
