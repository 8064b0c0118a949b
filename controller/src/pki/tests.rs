//! The authority: what it issues is trusted, kept, renewed in time, and survives a restart.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use rustls::{ClientConnection, ServerConnection};
use uuid::Uuid;

use super::*;

const NOW: i64 = 1_900_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

fn id(number: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(number))
}

#[test]
fn the_authority_is_made_once_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = Authority::open(&folder.path().join("pki"), at(0)).unwrap();
    let second = Authority::open(&folder.path().join("pki"), at(10)).unwrap();
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    let mode = fs::metadata(folder.path().join("pki/authority.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_identity_is_kept_until_a_third_of_its_time_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), at(0)).unwrap();
    let first = authority.amphora(id(1), at(0)).unwrap();
    assert!(authority.amphora(id(1), at(86_400 * 19)).unwrap() == first);
    let renewed = authority.amphora(id(1), at(86_400 * 21)).unwrap();
    assert!(renewed != first);
    assert!(!renewed.is_due(at(86_400 * 21)));
}

#[test]
fn an_amphora_certificate_names_its_amphora_and_a_controllers_names_none() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), at(0)).unwrap();
    let amphora = authority.amphora(id(7), at(0)).unwrap();
    let controller = authority.controller(at(0)).unwrap();
    let der = |identity: &Identity| {
        CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()
    };
    assert_eq!(bearer_of(&der(&amphora)), Some(Bearer::Amphora(id(7))));
    assert_eq!(bearer_of(&der(&controller)), None);
}

#[test]
fn an_identity_of_an_authority_that_was_replaced_is_issued_anew() {
    let folder = tempfile::tempdir().unwrap();
    let old = Authority::open(folder.path(), at(0))
        .unwrap()
        .amphora(id(1), at(0))
        .unwrap();
    fs::remove_file(folder.path().join(AUTHORITY_FILE)).unwrap();
    let authority = Authority::open(folder.path(), at(0)).unwrap();
    assert!(authority.amphora(id(1), at(0)).unwrap() != old);
}

#[test]
fn a_damaged_authority_is_reported_with_its_path_and_a_damaged_identity_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), at(0)).unwrap();
    let first = authority.controller(at(0)).unwrap();
    fs::write(folder.path().join("controller.pem"), "nothing").unwrap();
    assert!(authority.controller(at(0)).unwrap() != first);
    fs::write(folder.path().join(AUTHORITY_FILE), "nothing").unwrap();
    let error = Authority::open(folder.path(), at(0))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("authority.pem"), "{error}");
    assert!(error.contains("remove it"), "it says what to do: {error}");
}

/// Both ends in memory: bytes are carried over until the handshake ends or one side refuses.
fn shake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

#[test]
fn controllers_and_amphorae_of_one_authority_trust_each_other_and_no_other() {
    let (home, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = crate::clock::now();
    let authority = Authority::open(home.path(), now).unwrap();
    let stranger = Authority::open(foreign.path(), now).unwrap();
    let own = tls::Credentials::load(&authority, now).unwrap();
    let other = tls::Credentials::load(&stranger, now).unwrap();
    let connect = |client: Arc<rustls::ClientConfig>| {
        let name = rustls_pki_types::ServerName::try_from("controller.krater").unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(own.server()).unwrap();
        shake(&mut client, &mut server)
    };
    assert!(connect(own.client()).is_ok());
    assert!(connect(other.client()).is_err());
}

#[test]
fn the_controllers_configuration_changes_only_when_its_certificate_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), at(0)).unwrap();
    let credentials = tls::Credentials::load(&authority, at(0)).unwrap();
    let before = credentials.server();
    credentials.renew(&authority, at(86_400)).unwrap();
    assert!(Arc::ptr_eq(&before, &credentials.server()));
    credentials.renew(&authority, at(86_400 * 25)).unwrap();
    assert!(!Arc::ptr_eq(&before, &credentials.server()));
}
