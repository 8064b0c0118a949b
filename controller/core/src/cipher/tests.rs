use alloc::vec;

use super::*;
use crate::rules::Rules;

fn list(text: &str) -> Ciphers {
    Ciphers::parse(text.to_string()).unwrap()
}

fn names(text: &str) -> Vec<&'static str> {
    select(&list(text)).into_iter().map(openssl_name).collect()
}

fn terms(ciphers: Option<&str>, versions: &[TlsVersion]) -> TlsTerms {
    TlsTerms {
        ciphers: ciphers.map(list),
        versions: Some(versions.to_vec()),
        alpn: None,
    }
}

/// What `openssl ciphers -tls1_2 -s LIST` of OpenSSL 3 gives, as far as amphorae speak it.
#[test]
fn lists_select_what_openssl_selects() {
    const E256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
    const R256: &str = "ECDHE-RSA-AES256-GCM-SHA384";
    const EC: &str = "ECDHE-ECDSA-CHACHA20-POLY1305";
    const RC: &str = "ECDHE-RSA-CHACHA20-POLY1305";
    const E128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
    const R128: &str = "ECDHE-RSA-AES128-GCM-SHA256";
    let table: &[(&str, &[&str])] = &[
        ("HIGH:!aNULL:!MD5", &[E256, R256, EC, RC, E128, R128]),
        ("DEFAULT", &[E256, R256, EC, RC, E128, R128]),
        ("DEFAULT@SECLEVEL=2", &[E256, R256, EC, RC, E128, R128]),
        ("ALL:@SECLEVEL=4", &[E256, R256, EC, RC]),
        ("ECDHE+AESGCM", &[E256, R256, E128, R128]),
        (
            "ECDHE+AESGCM:ECDHE+CHACHA20",
            &[E256, R256, E128, R128, EC, RC],
        ),
        ("EECDH+AESGCM:EDH+AESGCM", &[E256, R256, E128, R128]),
        ("ECDHE+aRSA+AESGCM+AES128", &[R128]),
        ("AES128:AES256", &[E128, R128, E256, R256]),
        ("AES128:AES256:@STRENGTH", &[E256, R256, E128, R128]),
        ("ALL:!ECDSA", &[R256, RC, R128]),
        ("ALL:-ECDSA:AES128", &[R256, RC, R128, E128]),
        ("ALL:!ECDSA:ECDSA", &[R256, RC, R128]),
        ("ALL:+AES256", &[EC, RC, E128, R128, E256, R256]),
        ("ECDHE-RSA-AES128-GCM-SHA256:NONSENSE:AES256-SHA", &[R128]),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", &[R128]),
        ("TLS_AES_128_GCM_SHA256", &[]),
        ("DHE-RSA-AES128-GCM-SHA256:kRSA:RSA:3DES", &[]),
        ("SUITEB128", &[E128, E256]),
        ("SUITEB192:HIGH", &[E256]),
        ("NONSENSE+AESGCM", &[]),
        ("MEDIUM:LOW:eNULL:SHA256:SHA384", &[]),
        ("@", &[]),
        ("@x", &[]),
        ("!@x@", &[]),
        ("ALL:@x", &[]),
        ("ALL:@SECLEVEL=9", &[]),
        ("AES128:AES256@STRENGTH@SECLEVEL=4", &[E256, R256]),
        ("AES256+AESGCM@STRENGTH:@SECLEVEL", &[]),
    ];
    for (text, selected) in table {
        assert_eq!(names(text), *selected, "{text}");
    }
}

#[test]
fn the_default_list_comes_to_all_suites_in_its_own_order() {
    let rules = Rules::default();
    let agreed = agree(&rules.listener_terms, &BTreeSet::new()).unwrap();
    assert_eq!(agreed.versions, [Spoken::Tls12, Spoken::Tls13]);
    assert_eq!(agreed.suites, CipherSuite::ALL);
    assert_eq!(agree(&TlsTerms::default(), &BTreeSet::new()), Ok(agreed));
}

#[test]
fn what_cannot_be_had_is_named() {
    let none = BTreeSet::new();
    let old = terms(
        None,
        &[TlsVersion::Tls10, TlsVersion::Tls12, TlsVersion::Ssl3],
    );
    let sentence = agree(&old, &none).unwrap_err();
    assert!(
        sentence.starts_with("TLSv1, SSLv3 cannot be had"),
        "{sentence}"
    );
    let weak = terms(
        Some("AES256-SHA:DHE-RSA-AES128-GCM-SHA256"),
        &[TlsVersion::Tls12],
    );
    let sentence = agree(&weak, &none).unwrap_err();
    assert_eq!(
        sentence,
        "No cipher that can be had is left for TLSv1.2. Possible are: ECDHE-ECDSA-AES128-GCM-SHA256, \
         ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, \
         ECDHE-ECDSA-CHACHA20-POLY1305, ECDHE-RSA-CHACHA20-POLY1305"
    );
    // The list is no concern of TLS 1.3's.
    let newest = TlsTerms {
        versions: Some(vec![TlsVersion::Tls13]),
        ..weak
    };
    let agreed = agree(&newest, &none).unwrap();
    assert_eq!(agreed.suites.len(), 3);
    assert_eq!(agreed.versions, [Spoken::Tls13]);
}

#[test]
fn what_is_prohibited_is_found_behind_words_and_spoken_by_nobody() {
    let prohibited = BTreeSet::from(
        [
            "ECDHE-RSA-AES128-GCM-SHA256",
            "TLS_AES_128_GCM_SHA256",
            "HIGH",
        ]
        .map(String::from),
    );
    let found = |text| prohibited_in(&list(text), &prohibited);
    assert_eq!(found("AESGCM+AES256"), [""; 0]);
    assert_eq!(found("AESGCM"), ["ECDHE-RSA-AES128-GCM-SHA256"]);
    assert_eq!(found("HIGH"), ["HIGH", "ECDHE-RSA-AES128-GCM-SHA256"]);
    assert_eq!(found("TLS_AES_128_GCM_SHA256"), ["TLS_AES_128_GCM_SHA256"]);
    let agreed = agree(&TlsTerms::default(), &prohibited).unwrap();
    assert_eq!(agreed.suites.len(), 7);
    assert!(!agreed.suites.contains(&CipherSuite::Aes128Gcm));
    assert!(!agreed.suites.contains(&CipherSuite::RsaAes128Gcm));
}
