//! A host that joins, or joins again.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;

use super::*;

const HOST: &str = "00000000-0000-4000-8000-000000000007";

fn join(folder: &TempDir, again: bool) -> Join {
    let (secret, fingerprint) = ("a1".repeat(32), "0f".repeat(32));
    Join {
        state_dir: folder.path().to_owned(),
        controllers: Vec::new(),
        token: format!("krater1.{secret}.{fingerprint}").parse().unwrap(),
        address: None,
        port: 9880,
        name: None,
        workers: None,
        underlay: None,
        again,
    }
}

/// Has the folder be of a host whose certificate ends in so many days.
fn write_host(folder: &Folder, days: i64) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let uri = format!("krater:host:{HOST}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let end = clock::wall_seconds() + days * 86_400;
    params.not_before = epoch;
    params.not_after = epoch + Duration::from_secs(end.unsigned_abs());
    let key = KeyPair::generate().unwrap();
    let papers = Papers {
        certificate_pem: params.signed_by(&key, &authority).unwrap().pem(),
        key_pem: key.serialize_pem(),
    };
    let kept = Kept {
        host: HOST.parse().unwrap(),
        name: "h".to_owned(),
        agent: SocketAddr::from(([127, 0, 0, 1], 9880)),
        controllers: Vec::new(),
        workers: None,
        underlay: None,
    };
    folder
        .write_joined(&kept, &papers, &authority.pem())
        .unwrap();
}

#[test]
fn a_host_joins_again_when_nobody_can_believe_it_any_more_or_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::new(directory.path().to_owned());
    let standing = |again| join(&directory, again).standing(&folder).unwrap();
    assert_eq!(standing(false), Standing::Stranger);
    write_host(&folder, 30);
    assert_eq!(standing(false), Standing::Good);
    assert!(matches!(standing(true), Standing::Over(_)));
    write_host(&folder, -1);
    let Standing::Over(reason) = standing(false) else {
        panic!("nobody believes it");
    };
    assert!(reason.contains("has ended"), "{reason}");
    // It goes on serving what it ran.
    assert!(Host::open(directory.path().to_owned(), None).is_ok());
    write_host(&folder, 30);
    std::fs::write(directory.path().join("certificate.pem"), "x").unwrap();
    assert!(matches!(standing(false), Standing::Over(_)));
}

#[test]
fn a_host_that_joins_again_keeps_who_it_was_until_it_is_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let folder = Folder::new(directory.path().to_owned());
    write_host(&folder, 30);
    let before = folder.identity().unwrap();
    let key = folder.key_to_join().unwrap();
    assert_eq!(key.pem(), folder.key_to_join().unwrap().pem());
    assert!(folder.identity().unwrap() == before);
    // No controller answers, and nothing is lost.
    assert!(join(&directory, true).run().is_err());
    assert!(folder.identity().unwrap() == before);
    assert_eq!(
        join(&directory, false).standing(&folder).unwrap(),
        Standing::Good
    );
}
