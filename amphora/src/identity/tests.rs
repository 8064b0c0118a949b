//! Identity: only what fits is used, and what is renewed is noticed.

use krater_amphora_api::AmphoraId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

struct Fleet {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Fleet {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let fleet = Self {
            folder: tempfile::tempdir().unwrap(),
            authority,
        };
        fs::write(fleet.file("authority"), fleet.authority.pem()).unwrap();
        fleet
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, uri: &str) -> (String, CertificateDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.file("certificate"), certificate.pem()).unwrap();
        fs::write(self.file("key"), key.serialize_pem()).unwrap();
        (certificate.pem(), certificate.der().clone())
    }

    fn load(&self) -> Result<Identity, IdentityError> {
        Identity::read(
            own_name(),
            [
                self.file("certificate"),
                self.file("key"),
                self.file("authority"),
            ],
        )
    }
}

fn id() -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(7))
}

fn own_name() -> String {
    format!("krater:amphora:{}", id())
}

#[test]
fn a_certificate_of_another_amphora_is_refused() {
    let fleet = Fleet::new();
    fleet.issue(&own_name());
    assert!(fleet.load().unwrap().expiry() > Duration::from_secs(1_700_000_000));
    fleet.issue("krater:amphora:00000000-0000-4000-8000-000000000008");
    let error = fleet.load().unwrap_err();
    assert!(error.to_string().contains("lacks the URI name"), "{error}");
}

#[test]
fn files_that_do_not_fit_each_other_are_refused() {
    let fleet = Fleet::new();
    fleet.issue(&own_name());
    fs::write(
        fleet.file("key"),
        KeyPair::generate().unwrap().serialize_pem(),
    )
    .unwrap();
    assert!(matches!(fleet.load(), Err(IdentityError::Unfit { .. })));
    fs::write(fleet.file("key"), "nothing").unwrap();
    assert!(matches!(fleet.load(), Err(IdentityError::Malformed { .. })));
    fs::remove_file(fleet.file("key")).unwrap();
    assert!(matches!(
        fleet.load(),
        Err(IdentityError::Unreadable { .. })
    ));
}

#[test]
fn a_key_beside_its_certificate_counts_whatever_the_other_file_holds() {
    let fleet = Fleet::new();
    let (certificate, _) = fleet.issue(&own_name());
    let key = fs::read_to_string(fleet.file("key")).unwrap();
    fs::write(fleet.file("certificate"), format!("{certificate}{key}")).unwrap();
    // What a crash leaves: the key of the next pair without its certificate.
    let next = KeyPair::generate().unwrap().serialize_pem();
    fs::write(fleet.file("key"), next).unwrap();
    assert!(fleet.load().is_ok());
}

#[test]
fn a_renewal_is_noticed_and_a_broken_one_leaves_what_was_in_use() {
    let fleet = Fleet::new();
    fleet.issue(&own_name());
    let mut identity = fleet.load().unwrap();
    let first = identity.server();
    assert_eq!(identity.refresh().unwrap(), Refresh::Unchanged);
    fs::write(fleet.file("certificate"), "half a file").unwrap();
    assert!(identity.refresh().is_err());
    assert!(Arc::ptr_eq(&first, &identity.server()));
    fleet.issue(&own_name());
    assert_eq!(identity.refresh().unwrap(), Refresh::Renewed);
    assert!(!Arc::ptr_eq(&first, &identity.server()));
}

#[test]
fn an_amphora_is_known_by_its_certificate() {
    let fleet = Fleet::new();
    let (_, amphora) = fleet.issue(&own_name());
    assert_eq!(amphora_of(Some(&[amphora])), Some(id()));
    for other in [
        CONTROLLER,
        "krater:host:00000000-0000-4000-8000-000000000007",
        "krater:amphora:7",
    ] {
        let (_, other) = fleet.issue(other);
        assert_eq!(amphora_of(Some(&[other])), None);
    }
    assert_eq!(amphora_of(None), None);
}

#[test]
fn only_a_controller_may_command() {
    let fleet = Fleet::new();
    let (_, controller) = fleet.issue(CONTROLLER);
    assert_eq!(require_controller(&controller), Ok(()));
    let (_, amphora) = fleet.issue(&own_name());
    assert!(require_controller(&amphora).is_err());
    let (_, almost) = fleet.issue("krater:controller:x");
    assert!(require_controller(&almost).is_err());
}
