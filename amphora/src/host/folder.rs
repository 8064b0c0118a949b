//! The state folder of a host: who it is, whom it reports to, its key and certificates, the folders of its amphorae.

use std::{
    env, fs,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use krater_amphora_api::HostId;
use krater_amphora_process::{Papers, read_text, write_whole};
use serde::{Deserialize, Serialize};

use super::keys::Key;

/// The state folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// What a host knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) host: HostId,
    pub(crate) name: String,
    /// Where its agent is reached.
    pub(crate) agent: SocketAddr,
    /// `host:port`.
    pub(crate) controllers: Vec<String>,
    /// Worker threads of each amphora.
    #[serde(default)]
    pub(crate) workers: Option<usize>,
    /// Where tunnels of other hosts reach it, if not where its agent is.
    #[serde(default)]
    pub(crate) underlay: Option<IpAddr>,
}

impl Kept {
    /// Where tunnels of other hosts reach it.
    pub(crate) fn underlay(&self) -> IpAddr {
        self.underlay.unwrap_or_else(|| self.agent.ip())
    }
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// The system refuses.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written there.
    #[error("{} cannot be understood: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Folder {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its amphorae have their folders.
    pub(crate) fn amphorae(&self) -> PathBuf {
        self.path.join("amphorae")
    }

    /// Certificate, key, authorities.
    pub(crate) fn identity_files(&self) -> [PathBuf; 3] {
        [CERTIFICATE, KEY, AUTHORITY].map(|name| self.path.join(name))
    }

    /// What was kept; `None` before it has joined.
    pub(crate) fn read(&self) -> Result<Option<Kept>, FolderError> {
        let path = self.path.join(HOST);
        let Some(text) = read(&path)? else {
            return Ok(None);
        };
        let kept = serde_json::from_str(&text);
        kept.map(Some).map_err(|error| FolderError::Malformed {
            path,
            reason: error.to_string(),
        })
    }

    pub(crate) fn write(&self, kept: &Kept) -> Result<(), FolderError> {
        // Plain data with string keys always serializes.
        let text = serde_json::to_string_pretty(kept).unwrap_or_default();
        write(&self.path.join(HOST), &text)
    }

    /// The key to join with, made if there is none. It is written down before it is used, beside what the host is until
    /// it was let in.
    pub(crate) fn key_to_join(&self) -> Result<Key, FolderError> {
        let path = self.path.join(JOINING);
        let malformed = |error: rcgen::Error| FolderError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        };
        if let Some(pem) = read(&path)? {
            return Key::read(&pem).map_err(malformed);
        }
        let key = Key::make().map_err(malformed)?;
        write(&path, key.pem())?;
        Ok(key)
    }

    /// Writes who the host is from now on: it was let in.
    pub(crate) fn write_joined(
        &self,
        kept: &Kept,
        papers: &Papers,
        authority_pem: &str,
    ) -> Result<(), FolderError> {
        self.write_identity(papers, authority_pem)?;
        self.write(kept)?;
        remove(&self.path.join(JOINING))
    }

    /// Writes a key with its certificate, and who is trusted.
    pub(crate) fn write_identity(
        &self,
        papers: &Papers,
        authority_pem: &str,
    ) -> Result<(), FolderError> {
        write(&self.path.join(AUTHORITY), authority_pem)?;
        papers
            .write(&self.path)
            .map_err(|source| FolderError::File {
                action: "write the identity in",
                path: self.path.clone(),
                source,
            })
    }

    /// What the host shows and trusts: its papers, and authorities as PEM.
    pub(crate) fn identity(&self) -> Result<Option<(Papers, String)>, FolderError> {
        identity_in(&self.path)
    }

    /// Writes the authorities if they differ; answers whether they did.
    pub(crate) fn note_authority(&self, authority_pem: &str) -> Result<bool, FolderError> {
        let path = self.path.join(AUTHORITY);
        if read(&path)?.as_deref() == Some(authority_pem) {
            return Ok(false);
        }
        write(&path, authority_pem)?;
        Ok(true)
    }

    /// Forgets who it was.
    pub(crate) fn forget(&self) -> Result<(), FolderError> {
        for name in [HOST, CERTIFICATE, KEY, AUTHORITY, JOINING] {
            remove(&self.path.join(name))?;
        }
        Ok(())
    }
}

/// What is shown and trusted by whoever has this folder, if all of it is there.
pub(crate) fn identity_in(folder: &Path) -> Result<Option<(Papers, String)>, FolderError> {
    let papers = Papers::read(folder).map_err(|source| FolderError::File {
        action: "read the identity in",
        path: folder.to_owned(),
        source,
    })?;
    let authority = read(&folder.join(AUTHORITY))?;
    Ok(papers.zip(authority))
}

fn remove(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(FolderError::File {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Reads a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, FolderError> {
    read_text(path).map_err(|source| FolderError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes a file, whole or not at all, readable by us only.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), FolderError> {
    write_whole(path, text).map_err(|source| FolderError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// This program, to be started as an amphora.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    // The link and not its target: a binary that was replaced is the one to be started.
    let program = env::current_exe()?;
    let replaced = program
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"))
        .map(PathBuf::from);
    Ok(replaced.unwrap_or(program))
}

/// The name of this system, for people.
pub(crate) fn system_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "host".to_owned(),
        name => name.to_owned(),
    }
}

/// The memory of this system.
pub(crate) fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes: Option<u64> =
        total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}

const HOST: &str = "host.json";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
/// Of amphorae too.
pub(crate) const AUTHORITY: &str = "authority.pem";
/// The key of a host that is about to join.
const JOINING: &str = "joining.pem";
