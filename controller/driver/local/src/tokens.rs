//! Callers from a file of static tokens, so that one host can serve several projects safely without an identity
//! service. The file holds hashes, never tokens: whoever reads it cannot use what they read.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use krater_controller_core::{
    caller::{Caller, Identity, RoleSet, Scope},
    model::ProjectId,
};
use krater_driver::{Authenticator, Credentials, Unauthenticated};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A token by its SHA-256.
type Hash = [u8; 32];

/// An authenticator that believes a file. A file that changes is read again without a restart; while what it holds
/// cannot be used, what it held before goes on.
pub struct TokenFile {
    path: PathBuf,
    role_set: RoleSet,
    callers: RwLock<Arc<HashMap<Hash, Caller>>>,
    watch: tokio::sync::Mutex<Watch>,
}

/// When the file was looked at last, and which one it was.
struct Watch {
    looked: Instant,
    stamp: Option<Stamp>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    mode: u32,
}

/// Why a file of tokens cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {reason}")]
pub struct TokenFileError {
    path: String,
    reason: String,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl TokenFile {
    /// An authenticator over the file as it is now.
    ///
    /// # Errors
    /// [`TokenFileError`]
    pub fn open(path: &Path, role_set: RoleSet) -> Result<Self, TokenFileError> {
        let wrong = |reason| TokenFileError {
            path: path.display().to_string(),
            reason,
        };
        let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        check(&metadata).map_err(wrong)?;
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let callers = parse(&text, role_set).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            role_set,
            callers: RwLock::new(Arc::new(callers)),
            watch: tokio::sync::Mutex::new(Watch {
                looked: Instant::now(),
                stamp: Some(Stamp::of(&metadata)),
            }),
        })
    }

    /// What the file holds for a token, for `sha256`.
    #[must_use]
    pub fn hash(token: &str) -> String {
        let mut text = String::with_capacity(64);
        for byte in digest(token) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Reads the file again if it is another one by now. Whoever comes while somebody does goes on with what is held.
    async fn refresh(&self) {
        let Ok(mut watch) = self.watch.try_lock() else {
            return;
        };
        if watch.looked.elapsed() < LOOK_INTERVAL {
            return;
        }
        watch.looked = Instant::now();
        let metadata = tokio::fs::metadata(&self.path).await;
        let stamp = metadata.as_ref().ok().map(Stamp::of);
        if stamp == watch.stamp {
            return;
        }
        watch.stamp = stamp;
        let path = self.path.display();
        match self.read(metadata).await {
            Ok(callers) => {
                tracing::info!(%path, tokens = callers.len(), "the tokens were read again");
                *self.callers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(callers);
            }
            Err(reason) => {
                tracing::error!(%path, %reason, "the tokens cannot be read; those read before go on");
            }
        }
    }

    async fn read(
        &self,
        metadata: std::io::Result<Metadata>,
    ) -> Result<HashMap<Hash, Caller>, String> {
        check(&metadata.map_err(|error| error.to_string())?)?;
        let text = tokio::fs::read_to_string(&self.path)
            .await
            .map_err(|error| error.to_string())?;
        parse(&text, self.role_set)
    }
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Caller, Unauthenticated> {
        self.refresh().await;
        let token = credentials
            .token
            .as_deref()
            .ok_or(Unauthenticated::Required)?;
        let callers = Arc::clone(&self.callers.read().unwrap_or_else(PoisonError::into_inner));
        // Looking a hash up tells nothing about tokens by the time it takes.
        let caller = callers.get(&digest(token));
        caller.cloned().ok_or(Unauthenticated::Required)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
        }
    }
}

fn digest(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// Whoever can write the file can be anybody.
fn check(metadata: &Metadata) -> Result<(), String> {
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(
            "others than its owner can write it; take that away with chmod go-w".to_owned(),
        );
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    sha256: String,
    user: String,
    project: Option<String>,
    #[serde(default)]
    system: bool,
    roles: Vec<String>,
}

fn parse(text: &str, role_set: RoleSet) -> Result<HashMap<Hash, Caller>, String> {
    let document: Document = toml::from_str(text).map_err(|error| flaw(text, &error))?;
    if document.token.len() > TOKENS_MAX {
        return Err(format!("has more than {TOKENS_MAX} tokens"));
    }
    let mut callers = HashMap::new();
    for (number, row) in (1..).zip(document.token) {
        let user = row.user.clone();
        let wrong = |reason: &str| format!("token {number}, of {user:?}: {reason}");
        let hash = parse_hash(&row.sha256)
            .ok_or_else(|| wrong("sha256 must be 64 hexadecimal digits (krater token hash)"))?;
        let caller = parse_caller(row, role_set).map_err(wrong)?;
        if callers.insert(hash, caller).is_some() {
            return Err(wrong("the same token was there before"));
        }
    }
    Ok(callers)
}

/// Where and what, without the line itself: somebody may have put a token there.
fn flaw(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!(
            "line {}: {}",
            before.matches('\n').count() + 1,
            error.message()
        ),
        None => error.message().to_owned(),
    }
}

fn parse_caller(row: Row, role_set: RoleSet) -> Result<Caller, &'static str> {
    if row.user.is_empty() || row.user.chars().count() > NAME_CHARACTERS_MAX {
        return Err("user must have 1 to 255 characters");
    }
    if row.roles.iter().any(String::is_empty) {
        return Err("a role must have a name");
    }
    let scope = match (row.project, row.system) {
        (Some(project), false) => Scope::Project(
            ProjectId::parse(&project).ok_or("project must have 1 to 36 characters")?,
        ),
        (None, true) => Scope::System,
        _ => return Err("needs either a project or system = true"),
    };
    Ok(Caller::of(
        Identity::new(row.user, scope, row.roles),
        role_set,
    ))
}

fn parse_hash(text: &str) -> Option<Hash> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = Hash::default();
    for (at, byte) in hash.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

/// How often a request may cause a look at the file: a change counts within this time.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Ten thousand tokens with long names.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// More than this is work for an identity service.
const TOKENS_MAX: usize = 10_000;
/// As names elsewhere.
const NAME_CHARACTERS_MAX: usize = 255;

#[cfg(test)]
mod tests;
