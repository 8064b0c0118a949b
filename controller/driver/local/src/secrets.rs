//! Secrets in a folder of this host.
//!
//! The folder has one for each project, by id, and one named `shared` for all of them. In these a secret of the name
//! `web` is the file `web.pem`, `web.p12` or `web.pfx`, or the files `web.crt` and `web.key`, or a folder `web` with
//! `tls.crt` and `tls.key` as Kubernetes mounts them; what a project has goes before what is shared. References are
//! `web` or `file:///web`.

use std::{
    fmt,
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use krater_controller_core::{
    model::{ProjectId, SecretRef},
    secret::{Need, Purpose},
};
use krater_driver::{DriverError, Parts, RawSecret, SECRET_BYTES_MAX, SecretStore};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};
use zeroize::Zeroizing;

mod shelf;
mod watch;

pub use shelf::{Drawer, Shelf, ShelfError, Shelved};
use watch::Watch;

/// A secret store that is a folder.
pub struct FileSecrets {
    root: Arc<PathBuf>,
    watch: tokio::sync::Mutex<Watch>,
}

impl fmt::Debug for FileSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSecrets")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl FileSecrets {
    /// A store over that folder, which need not be there yet.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            watch: tokio::sync::Mutex::new(Watch::new(root.clone())),
            root: Arc::new(root),
        }
    }
}

#[async_trait]
impl SecretStore for FileSecrets {
    async fn fetch(&self, project: &ProjectId, need: &Need) -> Result<RawSecret, DriverError> {
        let name = name_of(&need.reference).ok_or_else(|| {
            DriverError::Permanent(
                "it is not the name of a secret: letters, digits, \".\", \"_\" and \"-\", at most 128, as NAME or \
                 file:///NAME"
                    .into(),
            )
        })?;
        let drawers = [Drawer::Of(project.clone()), Drawer::Shared];
        let folders = drawers.iter().filter_map(Drawer::folder).map(str::to_owned);
        let folders: Vec<String> = folders.collect();
        let (root, name, purpose) = (Arc::clone(&self.root), name.to_owned(), need.purpose);
        let find = move || find(&root, &folders, &name, purpose);
        tokio::task::spawn_blocking(find)
            .await
            .map_err(|error| DriverError::Transient(error.to_string()))?
    }

    /// Whatever a project finds it may use.
    async fn check_access(&self, _token: Option<&str>, _need: &Need) -> Result<(), DriverError> {
        Ok(())
    }

    async fn changed(&self) {
        self.watch.lock().await.changed().await;
    }
}

/// The name that a reference is for, if it is one. A name is no path: it has no slash and does not begin with a dot.
#[must_use]
pub fn name_of(reference: &SecretRef) -> Option<&str> {
    let text = reference.as_str();
    let name = text.strip_prefix("file:///").unwrap_or(text);
    is_name(name).then_some(name)
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_CHARACTERS_MAX).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(fits)
}

/// How a secret may lie in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Whole, behind the name and this.
    Whole(&'static str),
    /// A certificate and its key, behind the name and these.
    Pair(&'static str, &'static str),
}

const fn forms(purpose: Purpose) -> &'static [Form] {
    match purpose {
        Purpose::Certificate => &[
            Form::Whole(".pem"),
            Form::Whole(".p12"),
            Form::Whole(".pfx"),
            Form::Pair(".crt", ".key"),
            Form::Pair("/tls.crt", "/tls.key"),
        ],
        Purpose::Authorities => &[
            Form::Whole(".pem"),
            Form::Whole(".crt"),
            Form::Whole("/ca.crt"),
        ],
        Purpose::Revocations => &[
            Form::Whole(".pem"),
            Form::Whole(".crl"),
            Form::Whole("/ca.crl"),
        ],
    }
}

fn find(
    root: &Path,
    folders: &[String],
    name: &str,
    purpose: Purpose,
) -> Result<RawSecret, DriverError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match open(root, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Err(absent(name)),
        Err(error) => {
            let sentence = format!("the folder of secrets cannot be opened: {error}");
            return Err(DriverError::Transient(sentence));
        }
    };
    for folder in folders {
        let mut found = None;
        for form in forms(purpose) {
            let Some(secret) = read(&root, folder, name, *form)? else {
                continue;
            };
            if found.replace(secret).is_some() {
                let sentence = format!("{name} is there in two forms: one of them has to go");
                return Err(DriverError::Permanent(sentence));
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(absent(name))
}

fn read(
    root: &OwnedFd,
    folder: &str,
    name: &str,
    form: Form,
) -> Result<Option<RawSecret>, DriverError> {
    let part = |ending: &str| read_file(root, &format!("{folder}/{name}{ending}"));
    Ok(match form {
        Form::Whole(ending) => part(ending)?.map(RawSecret::Whole),
        Form::Pair(certificate, key) => match (part(certificate)?, part(key)?) {
            (Some(certificate), Some(key)) => Some(RawSecret::Parts(Box::new(Parts {
                certificate: certificate.to_vec(),
                intermediates: None,
                key,
                passphrase: None,
            }))),
            // Of a certificate alone others may have a use.
            _ => None,
        },
    })
}

/// Reads a file below the folder. Symbolic links are followed as long as they stay below it, so that what Kubernetes
/// mounts can be read and nothing else.
fn read_file(root: &OwnedFd, path: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DriverError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, path, flags, Mode::empty(), beneath) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV | Errno::LOOP) => {
            let sentence = format!("{path} leads out of the folder of secrets");
            return Err(DriverError::Permanent(sentence));
        }
        Err(error) => {
            return Err(DriverError::Transient(format!(
                "{path} cannot be opened: {error}"
            )));
        }
    };
    let unreadable = |error: &dyn fmt::Display| {
        DriverError::Transient(format!("{path} cannot be read: {error}"))
    };
    let status = fstat(&file).map_err(|error| unreadable(&error))?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(DriverError::Permanent(format!("{path} is not a file")));
    }
    let bytes_max = SECRET_BYTES_MAX as u64;
    if u64::try_from(status.st_size).unwrap_or(u64::MAX) > bytes_max {
        let sentence = format!("{path} has more than {SECRET_BYTES_MAX} bytes");
        return Err(DriverError::Permanent(sentence));
    }
    // One byte more than fits, so that a file that grows meanwhile is refused by whoever looks into it.
    let size = usize::try_from(status.st_size).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    std::fs::File::from(file)
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&error))?;
    Ok(Some(bytes))
}

fn absent(name: &str) -> DriverError {
    DriverError::NotFound(format!("there is no secret {name}"))
}

/// A component of a path of any file system.
const NAME_CHARACTERS_MAX: usize = 128;

#[cfg(test)]
mod tests;
