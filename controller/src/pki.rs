//! The authority of the fleet: makes itself once, and issues the certificates by which controllers and amphorae
//! know each other.
//!
//! A controller shows the URI name `krater:controller` (as a server also the DNS name `controller.krater`), an
//! amphora `krater:amphora:<id>` (and `<id>.amphora.krater`), a host `krater:host:<id>` (and `<id>.host.krater`).
//! Hosts, and amphorae that run there, keep their keys to themselves and send requests ([`request`]). Everything rests in one folder, one file of mode 0600
//! per identity with certificate and key together, written under another name and renamed: whatever moment the
//! process dies at, what is found is whole.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, HostId};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};
use zeroize::Zeroizing;

use self::succession::Succession;

pub(crate) mod request;
pub(crate) mod succession;
pub(crate) mod tls;

/// The certificate authority of one deployment. While it is being replaced two are trusted ([`succession`]).
pub(crate) struct Authority {
    directory: PathBuf,
    present: RwLock<Arc<Succession>>,
}

/// A certificate with its key. The key is a secret: it has no `Debug` (I13).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Why certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// A file or folder cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written there.
    #[error(
        "{} cannot be used: {reason}; restore it from a backup, or remove it to have a new one made",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// One sentence.
        reason: String,
    },
    /// The certificate library refused.
    #[error("cannot make a certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// What was sent to be certified is no request for a certificate.
    #[error("the request for a certificate cannot be used")]
    Request(#[source] rcgen::Error),
    /// The TLS library refused.
    #[error("cannot use the certificates of this deployment")]
    Unusable(#[source] rustls::Error),
}

impl Authority {
    /// Opens the authority that rests in `directory`, or makes it there the first time.
    pub(crate) fn open(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let path = directory.join(AUTHORITY_FILE);
        let text = own(directory, now)?;
        Self::of(directory, &path, &text)
    }

    /// The authority that rests in `directory`, made there the first time, as it can be shared with others.
    pub(crate) fn to_share(
        directory: &Path,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, PkiError> {
        own(directory, now)
    }

    /// Takes an authority that is shared; what it issues rests in `directory`.
    pub(crate) fn shared(directory: &Path, text: &str) -> Result<Self, PkiError> {
        make_folder(directory)?;
        Self::of(directory, Path::new(SHARED), text)
    }

    fn of(directory: &Path, path: &Path, text: &str) -> Result<Self, PkiError> {
        let present = Succession::parse(text, path)?;
        Ok(Self {
            directory: directory.to_owned(),
            present: RwLock::new(Arc::new(present)),
        })
    }

    /// Goes on as `text` says. What was issued stays good as long as its issuer is trusted.
    pub(crate) fn take(&self, text: &str) -> Result<(), PkiError> {
        let found = Succession::parse(text, Path::new(SHARED))?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        Ok(())
    }

    /// Writes `text` where the authority rests that is not shared.
    pub(crate) fn keep(&self, text: &str) -> Result<(), PkiError> {
        write_text(&self.directory.join(AUTHORITY_FILE), text)
    }

    /// Who signs and who is trusted at present.
    pub(crate) fn present(&self) -> Arc<Succession> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&present)
    }

    /// The certificates that everything of this deployment trusts, PEM.
    pub(crate) fn certificate_pem(&self) -> String {
        self.present().trusted_pem()
    }

    /// When the certificate of the authority that signs ends.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.present().signing.not_after
    }

    /// The controller's identity: the one issued before, or a new one when a third of its time or less is left.
    pub(crate) fn controller(&self, now: Timestamp) -> Result<Identity, PkiError> {
        self.identity("controller", "krater:controller", "controller.krater", now)
    }

    /// The identity of an amphora, renewed like the controller's.
    pub(crate) fn amphora(&self, id: AmphoraId, now: Timestamp) -> Result<Identity, PkiError> {
        self.identity(
            &format!("amphora-{id}"),
            &format!("{AMPHORA_URI}{id}"),
            &amphora_dns(id),
            now,
        )
    }

    /// Forgets the identity of an amphora that is no more.
    pub(crate) fn forget(&self, id: AmphoraId) -> Result<(), PkiError> {
        let path = self.directory.join(format!("amphora-{id}.pem"));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PkiError::File {
                action: "remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }

    fn identity(
        &self,
        file: &str,
        uri: &str,
        dns: &str,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        let path = self.directory.join(format!("{file}.pem"));
        // An identity that cannot be read is no loss: another is issued in its place.
        if let Ok(Some(identity)) = read(&path)
            && !identity.is_due(now)
            && self.present().has_signed(&identity.certificate_pem)
        {
            return Ok(identity);
        }
        let identity = self.issue(uri, dns, now)?;
        write_text(&path, &identity.text())?;
        Ok(identity)
    }

    fn issue(&self, uri: &str, dns: &str, now: Timestamp) -> Result<Identity, PkiError> {
        let failed = |source| PkiError::Issue {
            subject: uri.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let validity = Validity::starting(now, IDENTITY_LIFETIME);
        let params = identity_params(uri, dns, validity).map_err(failed)?;
        let certificate = params.signed_by(&key, &self.present().issuer);
        let certificate = certificate.map_err(failed)?;
        Ok(Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_before: validity.not_before,
            not_after: validity.not_after,
        })
    }
}

impl Identity {
    /// As it rests: certificate and key.
    fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}{}", self.certificate_pem, self.key_pem))
    }

    /// Whether a third of its time or less is left, so that another should be issued.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let lifetime = self.not_after.duration_since(self.not_before).as_secs();
        let left = self.not_after.duration_since(now).as_secs();
        left.saturating_mul(3) <= lifetime
    }
}

/// The DNS name an amphora's agent answers to.
pub(crate) fn amphora_dns(id: AmphoraId) -> String {
    format!("{id}.amphora.krater")
}

/// The DNS name a host's agent answers to.
pub(crate) fn host_dns(id: HostId) -> String {
    format!("{id}.host.krater")
}

/// Whose certificate one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// An amphora's.
    Amphora(AmphoraId),
    /// A host's.
    Host(HostId),
}

/// Whose a certificate is, or `None` when it is neither an amphora's nor a host's.
pub(crate) fn bearer_of(certificate: &CertificateDer<'_>) -> Option<Bearer> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let bearer = |name: &GeneralName<'_>| {
        let GeneralName::URI(uri) = name else {
            return None;
        };
        match uri.strip_prefix(AMPHORA_URI) {
            Some(id) => id.parse().ok().map(Bearer::Amphora),
            None => uri.strip_prefix(HOST_URI)?.parse().ok().map(Bearer::Host),
        }
    };
    names.value.general_names.iter().find_map(bearer)
}

/// A certificate for whoever bears these names.
fn identity_params(
    uri: &str,
    dns: &str,
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(dns);
    params.subject_alt_names = vec![
        SanType::URI(uri.try_into()?),
        SanType::DnsName(dns.try_into()?),
    ];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    validity.stamp(&mut params);
    Ok(params)
}

#[derive(Clone, Copy)]
struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Validity {
    /// Begins a little in the past: clocks of two machines differ.
    fn starting(now: Timestamp, lifetime: Duration) -> Self {
        Self {
            not_before: now.checked_sub(CLOCK_DIFFERENCE).unwrap_or(now),
            not_after: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
        }
    }

    fn stamp(self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let seconds =
            |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
        params.not_before = epoch + seconds(self.not_before);
        params.not_after = epoch + seconds(self.not_after);
    }
}

fn make_folder(directory: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| PkiError::File {
            action: "create",
            path: directory.to_owned(),
            source,
        })
}

/// The authority as it rests in a folder, made there the first time.
fn own(directory: &Path, now: Timestamp) -> Result<Zeroizing<String>, PkiError> {
    make_folder(directory)?;
    let path = directory.join(AUTHORITY_FILE);
    if let Some(text) = read_text(&path)? {
        return Ok(text);
    }
    let text = make_authority(now)?.text();
    write_text(&path, &text)?;
    Ok(text)
}

fn make_authority(now: Timestamp) -> Result<Identity, PkiError> {
    let failed = |source| PkiError::Issue {
        subject: "the authority".to_owned(),
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name("krater fleet authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let validity = Validity::starting(now, AUTHORITY_LIFETIME);
    validity.stamp(&mut params);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        not_before: validity.not_before,
        not_after: validity.not_after,
    })
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "krater");
    name.push(DnType::CommonName, common_name);
    name
}

/// Reads an identity; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<Identity>, PkiError> {
    let text = read_text(path)?;
    text.map(|text| parse(&text, path)).transpose()
}

fn read_text(path: &Path) -> Result<Option<Zeroizing<String>>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads an identity from text that was found at `path`.
fn parse(text: &str, path: &Path) -> Result<Identity, PkiError> {
    let malformed = |reason: &str| PkiError::Malformed {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let (certificate_pem, key_pem) = text
        .find(KEY_HEADER)
        .and_then(|at| text.split_at_checked(at))
        .ok_or_else(|| malformed("it holds no private key"))?;
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|_| malformed("it holds no certificate"))?;
    let (_, parsed) =
        X509Certificate::from_der(&der).map_err(|_| malformed("its certificate cannot be read"))?;
    let at = |seconds: i64| {
        Timestamp::from_second(seconds).map_err(|_| malformed("its certificate has no valid time"))
    };
    let not_before = at(parsed.validity().not_before.timestamp())?;
    let not_after = at(parsed.validity().not_after.timestamp())?;
    Ok(Identity {
        certificate_pem: certificate_pem.to_owned(),
        key_pem: key_pem.to_owned(),
        not_before,
        not_after,
    })
}

fn write_text(path: &Path, text: &str) -> Result<(), PkiError> {
    let draft = path.with_extension("new");
    let failed = |action| {
        let path = path.to_owned();
        move |source| PkiError::File {
            action,
            path,
            source,
        }
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed("create"))?;
    file.write_all(text.as_bytes()).map_err(failed("write"))?;
    file.sync_all().map_err(failed("write"))?;
    fs::rename(&draft, path).map_err(failed("write"))
}

/// How errors call what is shared.
const SHARED: &str = "the authority in the database";
const AUTHORITY_FILE: &str = "authority.pem";
const AMPHORA_URI: &str = "krater:amphora:";
const HOST_URI: &str = "krater:host:";
const KEY_HEADER: &str = "-----BEGIN PRIVATE KEY-----";
const DAY: Duration = Duration::from_secs(86_400);
/// Long, because everything of a deployment trusts it; what it signs is short-lived.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(86_400 * 3_652);
/// Short enough that a lost key is soon worthless, long enough to outlast an outage of the controller.
pub(crate) const IDENTITY_LIFETIME: Duration = Duration::from_secs(86_400 * 30);
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(3_600);
/// When operators are warned about the authority's own end.
pub(crate) const AUTHORITY_WARNING: Duration = Duration::from_secs(DAY.as_secs() * 90);

#[cfg(test)]
mod tests;
