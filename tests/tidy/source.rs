//! The files of the repository, and Rust source with comments and strings blanked out.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"))
        .canonicalize()
        .expect("the tests folder is there");
    tests
        .parent()
        .expect("the tests folder has a parent")
        .to_owned()
}

/// Text of a file by its path from the root; panics when it is missing.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// Paths, from the root, of every file that is not ignored, sorted.
pub(crate) fn files() -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found.sort();
    found
}

/// A Rust file.
pub(crate) struct Rust {
    /// Path from the root.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// The same lines and columns with comments and the inside of strings blanked.
    pub(crate) code: String,
}

impl Rust {
    /// Whether it holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.starts_with("tests/")
    }

    /// Name of the file without its extension.
    pub(crate) fn stem(&self) -> &str {
        Path::new(&self.path)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
    }

    /// Code outside of the inline test module, which by our order of a file comes last.
    pub(crate) fn product_code(&self) -> &str {
        let end = self
            .code
            .find("#[cfg(test)]\nmod ")
            .unwrap_or(self.code.len());
        &self.code[..end]
    }
}

/// Every Rust file.
pub(crate) fn rust_files() -> Vec<Rust> {
    let paths = files().into_iter().filter(|path| path.ends_with(".rs"));
    let read_one = |path: String| {
        let text = read(&path);
        let code = blank(&text);
        Rust { path, text, code }
    };
    paths.map(read_one).collect()
}

/// `line 3` of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Folders of the workspace's crates.
pub(crate) fn crates() -> Vec<String> {
    let manifest: toml::Table = read("Cargo.toml")
        .parse()
        .expect("the workspace manifest is TOML");
    let members = manifest["workspace"]["members"]
        .as_array()
        .expect("the workspace has members");
    members
        .iter()
        .filter_map(|member| member.as_str().map(str::to_owned))
        .collect()
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push(path);
        }
    }
}

/// Replaces comments, and what stands inside string and character literals, by spaces; line feeds stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut blanked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            [b'/', b'/', ..] => {
                at + rest
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .unwrap_or(rest.len())
            }
            [b'/', b'*', ..] => at + block_comment(rest),
            [b'"', ..] => at + string(rest),
            [b'r', b'"' | b'#', ..] if !follows_name(bytes, at) => at + raw_string(rest),
            [b'\'', b'\\', ..] => {
                at + 2
                    + rest[2..]
                        .iter()
                        .skip(1)
                        .position(|byte| *byte == b'\'')
                        .unwrap_or(0)
                    + 2
            }
            [b'\'', _, b'\'', ..] => at + 3,
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut blanked[at..end.min(bytes.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&blanked).into_owned()
}

fn follows_name(bytes: &[u8], at: usize) -> bool {
    // `br"…"` is a raw string too; any other name that ends in `r` is a name.
    let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
    before != b'b' && (before.is_ascii_alphanumeric() || before == b'_')
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 1;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = &rest[2 + hashes..];
    let end = body
        .windows(close.len())
        .position(|window| window == close)
        .unwrap_or(body.len());
    2 + hashes + end + close.len()
}

/// What `.gitignore` names, and the repository's own records.
const IGNORED: &[&str] = &[".git", "target", ".venv", "__pycache__"];

#[test]
fn comments_and_strings_are_blanked_and_code_stays() {
    let text = "let a = \"x // y\"; // crate::no\nlet b = 'c'; /* crate::no */ let c: &'static str = r#\"std::\"#; use z;";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("crate") && !code.contains("std::"), "{code}");
    assert!(
        code.contains("&'static str") && code.ends_with("use z;"),
        "{code}"
    );
}
