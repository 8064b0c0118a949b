//! The folder of secrets as operators deal with it: lay in, look through, take out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use krater_controller_core::{model::ProjectId, secret::Purpose};
use rustix::{
    fs::{Gid, Uid, fchown},
    process::geteuid,
};
use thiserror::Error;

use super::{Form, forms, is_name};

/// Who may use a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawer {
    /// One project.
    Of(ProjectId),
    /// All of them.
    Shared,
}

impl Drawer {
    /// Its folder; none for a project whose id is no name of a folder.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        match self {
            Self::Shared => Some(SHARED),
            Self::Of(project) => {
                let id = project.as_str();
                (is_name(id) && id != SHARED).then_some(id)
            }
        }
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Shelf {
    root: PathBuf,
}

/// A secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// Its name.
    pub name: String,
    /// Who may use it: the id of a project, or `shared`.
    pub drawer: String,
    /// Whether others of this host can read a file of it.
    pub exposed: bool,
}

/// Why something could not be done with the folder.
#[derive(Debug, Error)]
pub enum ShelfError {
    /// No name of a secret.
    #[error(
        "{0:?} is not the name of a secret: letters, digits, \".\", \"_\" and \"-\", at most 128, not first \".\" or \"-\""
    )]
    Name(String),
    /// No id of a project that can have a folder.
    #[error("a project of that id can have no folder")]
    Project,
    /// It is there as something that is not ours to replace.
    #[error(
        "{name} is there already as {path}, which was not written by this command: remove it first"
    )]
    OtherForm {
        /// Its name.
        name: String,
        /// What is there.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no secret {0}")]
    Absent(String),
    /// The file system does not let us.
    #[error("{path} cannot be {doing}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// What was to be done with it.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Shelf {
    /// The folder at `root`, which need not be there yet.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Lays a secret in, in place of one of that name, at once or not at all. Only the owner of the folder can read it.
    ///
    /// # Errors
    /// [`ShelfError`]
    pub fn put(&self, drawer: &Drawer, name: &str, pem: &[u8]) -> Result<PathBuf, ShelfError> {
        let folder = self.folder(drawer)?;
        check_name(name)?;
        let others = pieces(&folder, name);
        let path = folder.join(format!("{name}.pem"));
        if let Some(other) = others.into_iter().find(|piece| *piece != path) {
            let name = name.to_owned();
            return Err(ShelfError::OtherForm { name, path: other });
        }
        for folder in [&self.root, &folder] {
            make(folder, &self.root)?;
        }
        let draft = folder.join(format!(".{name}.{}", std::process::id()));
        let written = write(&draft, pem, &self.root)
            .and_then(|()| fs::rename(&draft, &path))
            .and_then(|()| File::open(&folder)?.sync_all());
        written.map_err(|source| {
            let _ = fs::remove_file(&draft);
            failed(&path, "written")(source)
        })?;
        Ok(path)
    }

    /// All secrets, by drawer and name.
    ///
    /// # Errors
    /// [`ShelfError::Io`]
    pub fn list(&self) -> Result<Vec<Shelved>, ShelfError> {
        let mut all = Vec::new();
        for drawer in names(&self.root)? {
            let folder = self.root.join(&drawer);
            if !folder.is_dir() {
                continue;
            }
            let mut found: Vec<String> = names(&folder)?
                .iter()
                .filter_map(|entry| stem(&folder, entry))
                .collect();
            found.sort_unstable();
            found.dedup();
            all.extend(found.into_iter().map(|name| {
                let pieces = pieces(&folder, &name);
                let exposed = pieces.iter().any(|path| {
                    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
                });
                Shelved {
                    drawer: drawer.clone(),
                    exposed,
                    name,
                }
            }));
        }
        all.sort_by(|one, other| (&one.drawer, &one.name).cmp(&(&other.drawer, &other.name)));
        Ok(all)
    }

    /// Takes a secret out, in whatever form it is there.
    ///
    /// # Errors
    /// [`ShelfError`]
    pub fn remove(&self, drawer: &Drawer, name: &str) -> Result<(), ShelfError> {
        let folder = self.folder(drawer)?;
        check_name(name)?;
        let pieces = pieces(&folder, name);
        if pieces.is_empty() {
            return Err(ShelfError::Absent(name.to_owned()));
        }
        for piece in pieces {
            fs::remove_file(&piece).map_err(failed(&piece, "removed"))?;
        }
        // A folder of its own, unless somebody keeps other things there.
        let _ = fs::remove_dir(folder.join(name));
        Ok(())
    }

    fn folder(&self, drawer: &Drawer) -> Result<PathBuf, ShelfError> {
        let folder = drawer.folder().ok_or(ShelfError::Project)?;
        Ok(self.root.join(folder))
    }
}

fn check_name(name: &str) -> Result<(), ShelfError> {
    if is_name(name) {
        return Ok(());
    }
    Err(ShelfError::Name(name.to_owned()))
}

/// The files a secret is made of.
fn pieces(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut endings: Vec<&str> = endings().collect();
    endings.sort_unstable();
    endings.dedup();
    let paths = endings
        .into_iter()
        .map(|ending| folder.join(format!("{name}{ending}")));
    paths
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

fn endings() -> impl Iterator<Item = &'static str> {
    let purposes = [
        Purpose::Certificate,
        Purpose::Authorities,
        Purpose::Revocations,
    ];
    let forms = purposes.into_iter().flat_map(forms);
    forms
        .flat_map(|form| match form {
            Form::Whole(ending) => [Some(*ending), None],
            Form::Pair(certificate, key) => [Some(*certificate), Some(*key)],
        })
        .flatten()
}

/// The secret that an entry of a folder belongs to.
fn stem(folder: &Path, entry: &str) -> Option<String> {
    let name = if folder.join(entry).is_dir() {
        let is_one = endings()
            .filter(|ending| ending.starts_with('/'))
            .any(|ending| folder.join(format!("{entry}{ending}")).exists());
        is_one.then_some(entry)?
    } else {
        endings().find_map(|ending| entry.strip_suffix(ending))?
    };
    is_name(name).then(|| name.to_owned())
}

fn names(folder: &Path) -> Result<Vec<String>, ShelfError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, "read")(error)),
    };
    let names = entries.flatten();
    Ok(names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

fn make(folder: &Path, root: &Path) -> Result<(), ShelfError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => File::open(folder)
            .and_then(|made| give(&made, folder.parent().unwrap_or(root)))
            .map_err(failed(folder, "made")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(folder, "made")(error)),
    }
}

fn write(path: &Path, bytes: &[u8], root: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    give(&file, root)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file to whoever has the folder: what root lays in, krater has to be able to read.
fn give(file: &File, owner: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let metadata = fs::metadata(owner)?;
    let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    Ok(fchown(file, Some(user), Some(group))?)
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> ShelfError {
    let path = path.to_owned();
    move |source| ShelfError::Io {
        path,
        doing,
        source,
    }
}

const SHARED: &str = "shared";
