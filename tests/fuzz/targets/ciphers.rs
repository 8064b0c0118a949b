//! Lists of ciphers in OpenSSL's language: what they select is there, once, and refused if nothing is left.

use std::collections::BTreeSet;

use krater_controller_core::{
    cipher::{agree, openssl_name, select},
    model::{Ciphers, TlsTerms},
};

pub(super) fn take(bytes: &[u8]) {
    let Ok(text) = String::from_utf8(bytes.to_vec()) else {
        return;
    };
    let Some(list) = Ciphers::parse(text) else {
        return;
    };
    let selected = select(&list);
    let names: BTreeSet<_> = selected.iter().map(|suite| openssl_name(*suite)).collect();
    assert_eq!(names.len(), selected.len(), "{selected:?}");
    let terms = TlsTerms {
        ciphers: Some(list),
        ..TlsTerms::default()
    };
    match agree(&terms, &BTreeSet::new()) {
        Ok(agreed) => assert!(!selected.is_empty() && !agreed.suites.is_empty()),
        Err(sentence) => assert!(selected.is_empty() && !sentence.is_empty()),
    }
}
