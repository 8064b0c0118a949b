//! What is shown with: a certificate and its key, in files of which whatever moment a crash comes at leaves a pair that
//! fits.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// A certificate with its key. The key is a secret: it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Papers {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
}

impl Papers {
    /// Writes them to a folder. The file of the certificate holds the key too, so that one step replaces both; the one of
    /// the key is there for whoever reads two files.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let Self {
            certificate_pem,
            key_pem,
        } = self;
        write_whole(&folder.join(KEY), key_pem)?;
        let line = if certificate_pem.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let both = format!("{certificate_pem}{line}{key_pem}");
        write_whole(&folder.join(CERTIFICATE), &both)
    }

    /// Reads them from a folder; `None` when they are not there. Those of an earlier release rest in two files, which may
    /// not fit each other.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let Some(certificate) = read_text(&folder.join(CERTIFICATE))? else {
            return Ok(None);
        };
        if let Some((certificate_pem, key_pem)) = split(&certificate) {
            return Ok(Some(Self {
                certificate_pem: certificate_pem.to_owned(),
                key_pem: key_pem.to_owned(),
            }));
        }
        let key = read_text(&folder.join(KEY))?;
        Ok(key.map(|key_pem| Self {
            certificate_pem: certificate,
            key_pem,
        }))
    }
}

/// The certificates before a key, and the key.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut starts = text.match_indices(BEGIN).map(|(at, _)| at);
    let at = starts.find(|at| {
        let line = text.get(*at..).and_then(|rest| rest.lines().next());
        line.is_some_and(|line| line.trim_end().ends_with(KEY_END))
    })?;
    text.split_at_checked(at)
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// What the system says.
pub fn read_text(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file, unless it says the same already: whole or not at all, readable by us only, on the disk when this
/// returns.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const BEGIN: &str = "-----BEGIN ";
const KEY_END: &str = "PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn papers(which: &str) -> Papers {
        Papers {
            certificate_pem: format!(
                "-----BEGIN CERTIFICATE-----\n{which}\n-----END CERTIFICATE-----\n"
            ),
            key_pem: format!(
                "-----BEGIN EC PRIVATE KEY-----\n{which}\n-----END EC PRIVATE KEY-----\n"
            ),
        }
    }

    #[test]
    fn what_a_crash_leaves_between_two_files_is_the_pair_from_before() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Papers::read(folder.path()).unwrap().is_none());
        let (before, after) = (papers("before"), papers("after"));
        before.write(folder.path()).unwrap();
        // The key of the next pair is written first, and then the power goes.
        write_whole(&folder.path().join(KEY), &after.key_pem).unwrap();
        assert!(Papers::read(folder.path()).unwrap() == Some(before));
        after.write(folder.path()).unwrap();
        assert!(Papers::read(folder.path()).unwrap() == Some(after));
        for name in [KEY, CERTIFICATE] {
            let mode = fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn two_files_of_an_earlier_release_are_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let papers = papers("x");
        fs::write(folder.path().join(CERTIFICATE), &papers.certificate_pem).unwrap();
        assert!(Papers::read(folder.path()).unwrap().is_none());
        fs::write(folder.path().join(KEY), &papers.key_pem).unwrap();
        assert!(Papers::read(folder.path()).unwrap() == Some(papers));
    }
}
