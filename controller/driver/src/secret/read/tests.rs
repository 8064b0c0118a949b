//! What is good for its purpose and what is not.

use pkcs8::{
    der::Encode as _,
    pkcs5::pbes2::{Pbkdf2Params, Pbkdf2Prf, Salt, ScryptParams},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::*;

struct House {
    root: String,
    intermediate: String,
    leaf: String,
    key: KeyPair,
    other_key: String,
    list: String,
    foreign_list: String,
}

fn authority(name: &str, over: Option<&Issuer<'_, KeyPair>>) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = match over {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate.pem(), Issuer::new(params, key))
}

fn revoked_by(issuer: &Issuer<'_, KeyPair>) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2035, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(7_u64),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

fn house() -> House {
    let (root, root_issuer) = authority("root", None);
    let (intermediate, issuer) = authority("middle", Some(&root_issuer));
    let key = KeyPair::generate().unwrap();
    let names = vec!["web.test".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "web");
    params.not_after = date_time_ymd(2031, 2, 3);
    let leaf = params.signed_by(&key, &issuer).unwrap().pem();
    // Of the same name and another key.
    let (_, stranger) = authority("root", None);
    House {
        list: revoked_by(&root_issuer),
        foreign_list: revoked_by(&stranger),
        root,
        intermediate,
        leaf,
        key,
        other_key: KeyPair::generate().unwrap().serialize_pem(),
    }
}

fn whole(text: &str) -> RawSecret {
    RawSecret::Whole(Zeroizing::new(text.as_bytes().to_vec()))
}

fn read(purpose: Purpose, text: &str) -> Result<Secret, String> {
    Secret::read(purpose, &whole(text)).map_err(|unusable| unusable.to_string())
}

fn refused(purpose: Purpose, text: &str) -> String {
    match read(purpose, text) {
        Ok(_) => panic!("it is good"),
        Err(sentence) => sentence,
    }
}

fn certificate_of(secret: Result<Secret, String>) -> super::Certificate {
    match secret.unwrap_or_else(|sentence| panic!("{sentence}")) {
        Secret::Certificate(certificate) => certificate,
        _ => panic!("no certificate"),
    }
}

#[test]
fn a_chain_is_shown_from_the_leaf_up_in_whichever_order_it_was_given() {
    let house = house();
    let House {
        root,
        intermediate,
        leaf,
        ..
    } = &house;
    let key = house.key.serialize_pem();
    let straight = certificate_of(read(
        Purpose::Certificate,
        &format!("{leaf}{intermediate}{root}{key}"),
    ));
    assert!(!straight.facts.reordered && straight.facts.linked);
    let mixed = certificate_of(read(
        Purpose::Certificate,
        &format!("{key}{root}{leaf}\n# what follows is between them\n{intermediate}"),
    ));
    assert!(mixed.facts.reordered);
    assert_eq!(mixed.spec, straight.spec);
    let facts = straight.facts;
    assert_eq!(facts.names, ["web.test", "127.0.0.1"]);
    assert!(facts.subject.contains("CN=web"), "{}", facts.subject);
    assert_eq!(facts.issuer, "CN=middle");
    assert_eq!(facts.not_after.to_string(), "2031-02-03T00:00:00Z");
    assert_eq!((facts.chain, facts.fingerprint.len()), (3, 64));
    // What is not linked is told, and left where it was.
    let gap = certificate_of(read(Purpose::Certificate, &format!("{leaf}{root}{key}")));
    assert!(!gap.facts.linked);
}

#[test]
fn what_is_no_certificate_with_its_key_is_told_apart() {
    let house = house();
    let House {
        leaf,
        other_key,
        list,
        ..
    } = &house;
    let key = house.key.serialize_pem();
    let many = leaf.repeat(17);
    let broken = leaf.replace("MII", "AII");
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (text, sentence) in [
        (format!("{leaf}{other_key}"), "does not fit"),
        (leaf.clone(), "one private key"),
        (format!("{leaf}{key}{other_key}"), "one private key"),
        (key.clone(), "no certificate in it"),
        (list.clone(), "no certificate in it"),
        (format!("{many}{key}"), "more than 16"),
        (format!("{broken}{key}"), "cannot be read"),
        (format!("{leaf}{legacy}"), "in an old way"),
        (format!("{leaf}{encrypted}"), "there is no passphrase"),
        ("no".to_owned(), "PKCS#12 bundle cannot be opened"),
        (String::new(), "PKCS#12 bundle cannot be opened"),
        (
            "-----BEGIN CERTIFICATE-----\n!".to_owned(),
            "no certificate in it",
        ),
    ] {
        let told = refused(Purpose::Certificate, &text);
        assert!(told.contains(sentence), "{told:?} instead of {sentence:?}");
    }
    let huge = RawSecret::Whole(Zeroizing::new(vec![0; SECRET_BYTES_MAX + 1]));
    let told = Secret::read(Purpose::Certificate, &huge).err().unwrap();
    assert!(told.to_string().contains("more than 4194304 bytes"));
}

#[test]
fn authorities_and_lists_are_pem_of_their_kind() {
    let house = house();
    let both = format!("{}{}", house.root, house.intermediate);
    let Ok(Secret::Authorities(pem)) = read(Purpose::Authorities, &both) else {
        panic!("they are not good");
    };
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(read(Purpose::Revocations, &house.list).is_ok());
    for (purpose, text, sentence) in [
        (Purpose::Authorities, "no", "there is none in it"),
        (
            Purpose::Authorities,
            house.list.as_str(),
            "there is none in it",
        ),
        (
            Purpose::Revocations,
            house.root.as_str(),
            "there is none in it",
        ),
        (Purpose::Revocations, "", "there is none in it"),
    ] {
        let told = refused(purpose, text);
        assert!(told.contains(sentence), "{told:?} instead of {sentence:?}");
        assert!(told.contains("as PEM are needed"), "{told:?}");
    }
}

#[test]
fn a_list_is_believed_of_who_issued_it_only() {
    let house = house();
    let authorities = format!("{}{}", house.intermediate, house.root);
    let authorities = read(Purpose::Authorities, &authorities).ok().unwrap();
    let only_middle = read(Purpose::Authorities, &house.intermediate)
        .ok()
        .unwrap();
    let list = read(Purpose::Revocations, &house.list).ok().unwrap();
    let foreign = read(Purpose::Revocations, &house.foreign_list)
        .ok()
        .unwrap();
    assert_eq!(check_issued(&list, &authorities), Ok(()));
    for (list, authorities) in [(&list, &only_middle), (&foreign, &authorities)] {
        let told = check_issued(list, authorities).unwrap_err().to_string();
        assert!(told.contains("by CN=root was not issued"), "{told}");
    }
}

#[test]
fn parts_are_put_together_and_an_encrypted_key_is_opened() {
    let house = house();
    let plain = RawSecret::Parts(Box::new(Parts {
        certificate: house.leaf.clone().into_bytes(),
        intermediates: Some(format!("{}{}", house.root, house.intermediate).into_bytes()),
        key: Zeroizing::new(house.key.serialize_pem().into_bytes()),
        passphrase: None,
    }));
    let Ok(Secret::Certificate(certificate)) = Secret::read(Purpose::Certificate, &plain) else {
        panic!("it is not good");
    };
    assert_eq!(certificate.facts.chain, 3);
    assert!(certificate.facts.linked);
    assert!(Secret::read(Purpose::Authorities, &plain).is_ok());
    assert!(Secret::read(Purpose::Revocations, &plain).is_err());

    // Made by `openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:hush` and `openssl req -x509`.
    let parts = |passphrase: Option<&str>| {
        RawSecret::Parts(Box::new(Parts {
            certificate: include_bytes!("samples/encrypted.crt").to_vec(),
            intermediates: None,
            key: Zeroizing::new(include_bytes!("samples/encrypted.key").to_vec()),
            passphrase: passphrase.map(|text| Zeroizing::new(text.as_bytes().to_vec())),
        }))
    };
    assert!(Secret::read(Purpose::Certificate, &parts(Some("hush"))).is_ok());
    for wrong in [None, Some("hash")] {
        assert!(Secret::read(Purpose::Certificate, &parts(wrong)).is_err());
    }
}

/// Parts with the key of the sample, encrypted in another way: it cannot be opened, and is not tried.
fn encrypted_by(kdf: impl FnOnce(Salt) -> Kdf) -> RawSecret {
    let der = ::pem::parse(include_str!("samples/encrypted.key")).unwrap();
    let mut info = EncryptedPrivateKeyInfoRef::try_from(der.contents()).unwrap();
    let EncryptionScheme::Pbes2(parameters) = &mut info.encryption_algorithm else {
        panic!("it is encrypted in an old way");
    };
    parameters.kdf = kdf(Salt::new(b"12345678").unwrap());
    let key = ::pem::Pem::new("ENCRYPTED PRIVATE KEY", info.to_der().unwrap());
    RawSecret::Parts(Box::new(Parts {
        certificate: include_bytes!("samples/encrypted.crt").to_vec(),
        intermediates: None,
        key: Zeroizing::new(::pem::encode(&key).into_bytes()),
        passphrase: Some(Zeroizing::new(b"hush".to_vec())),
    }))
}

#[test]
fn a_key_that_would_take_hours_or_all_memory_to_open_is_refused() {
    let rounds = |iteration_count| {
        encrypted_by(|salt| {
            Kdf::Pbkdf2(Pbkdf2Params {
                salt,
                iteration_count,
                key_length: None,
                prf: Pbkdf2Prf::HmacWithSha256,
            })
        })
    };
    let scrypt = |cost_parameter, block_size, parallelization| {
        encrypted_by(|salt| {
            Kdf::Scrypt(ScryptParams {
                salt,
                cost_parameter,
                block_size,
                parallelization,
                key_length: None,
            })
        })
    };
    for endless in [
        rounds(u32::MAX),
        rounds(KEY_ROUNDS_MAX + 1),
        scrypt(1 << 40, 8, 1),
        scrypt(1 << 14, u16::MAX, 1),
        scrypt(1 << 14, 8, u16::MAX),
        scrypt(1 << 63, 8, 1),
    ] {
        let told = Secret::read(Purpose::Certificate, &endless).err().unwrap();
        assert!(told.to_string().contains("take too long"), "{told}");
    }
    for usual in [rounds(2048), scrypt(1 << 8, 8, 1)] {
        let told = Secret::read(Purpose::Certificate, &usual).err().unwrap();
        assert!(!told.to_string().contains("take too long"), "{told}");
    }
}

#[test]
fn intermediates_may_be_bundled_as_pkcs7() {
    // Made by `openssl crl2pkcs7 -nocrl -certfile`, the root ahead of the one below it.
    let bundle = include_str!("samples/chain.p7b");
    let der = ::pem::parse(bundle).unwrap().into_contents();
    let read = |intermediates: &[u8]| {
        let raw = RawSecret::Parts(Box::new(Parts {
            certificate: include_bytes!("samples/sent.crt").to_vec(),
            intermediates: Some(intermediates.to_vec()),
            key: Zeroizing::new(include_bytes!("samples/sent.key").to_vec()),
            passphrase: None,
        }));
        Secret::read(Purpose::Certificate, &raw)
    };
    for intermediates in [
        bundle.as_bytes(),
        bundle.replace("PKCS7", "CMS").as_bytes(),
        &der,
    ] {
        let Ok(Secret::Certificate(certificate)) = read(intermediates) else {
            panic!("it is not good");
        };
        let facts = certificate.facts;
        assert_eq!((facts.chain, facts.linked), (3, true));
        assert_eq!(facts.subject, "CN=leaf");
    }
    for (wrong, reason) in [
        (
            &der[..der.len() - 1],
            "the intermediate certificates: it is not PEM, and it is no PKCS#7 with certificates",
        ),
        (
            b"-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n",
            "the intermediate certificates: it is no PKCS#7 with certificates",
        ),
    ] {
        let Err(told) = read(wrong) else {
            panic!("it is good");
        };
        assert_eq!(told.to_string(), reason);
    }
}

/// A sample as it is, from the text it is kept as.
fn binary(text: &str) -> RawSecret {
    RawSecret::Whole(Zeroizing::new(::pem::parse(text).unwrap().into_contents()))
}

#[test]
fn bundles_of_openssl_are_opened_without_a_passphrase_only() {
    // Made by `openssl pkcs12 -export -passout pass:`, once as it is and once with -legacy.
    for bundle in [
        include_str!("samples/open.pem"),
        include_str!("samples/legacy.pem"),
        include_str!("samples/bare.pem"),
    ] {
        let raw = binary(bundle);
        let secret = Secret::read(Purpose::Certificate, &raw).map_err(|error| error.to_string());
        assert_eq!(certificate_of(secret).facts.chain, 2);
    }
    let locked = include_str!("samples/locked.pem");
    let raw = binary(locked);
    let told = Secret::read(Purpose::Certificate, &raw).err().unwrap();
    assert!(matches!(told, Unusable::Bundle(_)), "{told}");
}

#[test]
fn another_content_has_another_digest_and_the_key_is_never_in_it() {
    let (one, two) = (house(), house());
    let digest = |house: &House| {
        let text = format!("{}{}", house.leaf, house.key.serialize_pem());
        read(Purpose::Certificate, &text).ok().unwrap().digest()
    };
    assert_eq!(digest(&one), digest(&one));
    assert_ne!(digest(&one), digest(&two));
}
