//! Certificates in PKCS#7 (RFC 2315, RFC 5652): what `openssl crl2pkcs7` and certificate managers bundle them in.

use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};

/// The certificates of signed data, which need not be signed by anybody.
pub(super) fn certificates(der: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    find(der).ok_or_else(|| "it is no PKCS#7 with certificates".to_owned())
}

fn find(der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (content_type, content) = take(sequence(der)?)?;
    if content_type.tag() != Tag::Oid || content_type.data != SIGNED_DATA {
        return None;
    }
    let (explicit, _) = take(content)?;
    if !is_field(&explicit) {
        return None;
    }
    let mut fields = sequence(explicit.data)?;
    loop {
        let (field, rest) = take(fields)?;
        // The version, digest algorithms and what was signed come before it.
        if is_field(&field) {
            return all(field.data);
        }
        fields = rest;
    }
}

/// Certificates one after the other; attribute certificates and the like are passed over.
fn all(mut der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (one, rest) = take(der)?;
        let whole = der.get(..der.len().checked_sub(rest.len())?)?;
        if one.tag() == Tag::Sequence {
            found.push(whole.to_vec());
        }
        der = rest;
    }
    Some(found)
}

/// Whether it is the field with the number 0.
fn is_field(any: &Any<'_>) -> bool {
    any.header.class() == Class::ContextSpecific && any.tag() == Tag(0)
}

/// What is in a sequence.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (any, _) = take(der)?;
    (any.header.class() == Class::Universal && any.tag() == Tag::Sequence).then_some(any.data)
}

fn take(der: &[u8]) -> Option<(Any<'_>, &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    Some((any, rest))
}

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        pem::parse(include_str!("read/samples/chain.p7b"))
            .unwrap()
            .into_contents()
    }

    #[test]
    fn what_openssl_bundles_is_found() {
        assert_eq!(certificates(&sample()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_cut_short_or_changed_is_told_and_nothing_else_happens() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(certificates(&whole[..length]).is_err(), "{length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0x41;
            // What it comes to does not matter here: a certificate is looked at by others.
            let _ = certificates(&changed);
        }
        // Encrypted data is PKCS#7 as well.
        let mut other = whole;
        other[14] = 6;
        assert!(certificates(&other).is_err());
    }
}
