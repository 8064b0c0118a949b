//! What tenants keep in their secret store: PEM or PKCS#12 as it comes, or certificate and key in parts with a byte `\xff`
//! between them. Refused with a sentence, or good for its purpose.

use krater_controller_core::secret::Purpose;
use krater_driver::{Parts, RawSecret, Secret};
use zeroize::Zeroizing;

pub(super) fn take(bytes: &[u8]) {
    let whole = RawSecret::Whole(Zeroizing::new(bytes.to_vec()));
    let mut parts = bytes.split(|byte| *byte == 0xff).map(<[u8]>::to_vec);
    let (certificate, key) = (parts.next(), parts.next());
    let parts = RawSecret::Parts(Box::new(Parts {
        certificate: certificate.unwrap_or_default(),
        key: Zeroizing::new(key.unwrap_or_default()),
        intermediates: parts.next(),
        passphrase: parts.next().map(Zeroizing::new),
    }));
    for raw in [&whole, &parts] {
        for purpose in [
            Purpose::Certificate,
            Purpose::Authorities,
            Purpose::Revocations,
        ] {
            match Secret::read(purpose, raw) {
                Ok(secret) => assert!(secret.bytes() > 0),
                Err(unusable) => assert!(!unusable.to_string().is_empty()),
            }
        }
    }
}
