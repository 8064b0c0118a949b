//! Who is let in by a file, what is wrong with one, and that it is read again.

use std::{fs, os::unix::fs::PermissionsExt as _};

use krater_controller_core::caller::Persona;
use krater_driver::kit::check_authenticator;
use tempfile::TempDir;

use super::*;

fn row(token: &str, rest: &str) -> String {
    let hash = TokenFile::hash(token);
    format!("[[token]]\nsha256 = \"{hash}\"\nuser = \"ann\"\n{rest}\n")
}

fn member(token: &str) -> String {
    row(token, "project = \"alpha\"\nroles = [\"Member\"]")
}

fn write(folder: &TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("tokens.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn token(text: &str) -> Credentials {
    Credentials {
        token: Some(text.to_owned()),
        ..Credentials::default()
    }
}

#[test]
fn a_hash_is_the_one_everybody_knows() {
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(TokenFile::hash("abc"), expected);
    assert_eq!(parse_hash(expected), Some(digest("abc")));
}

#[tokio::test]
async fn it_passes_the_conformance_kit() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &member("secret"));
    let tokens = TokenFile::open(&path, RoleSet::KeystoneDefault).unwrap();
    let bad = [
        Credentials::default(),
        token(""),
        token("Secret"),
        token(&TokenFile::hash("secret")),
    ];
    check_authenticator(&tokens, &token("secret"), &bad)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_caller_is_who_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let text = member("a") + &row("b", "system = true\nroles = [\"admin\"]");
    let tokens = TokenFile::open(&write(&folder, &text), RoleSet::Both).unwrap();
    let ann = Caller::new("ann", ProjectId::parse("alpha"), Persona::Member);
    assert_eq!(tokens.authenticate(&token("a")).await, Ok(ann));
    let admin = Caller::new("ann", None, Persona::Admin);
    assert_eq!(tokens.authenticate(&token("b")).await, Ok(admin));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let good = "roles = []\nproject = \"p\"";
    for (text, reason) in [
        (
            row("a", good) + &row("a", good),
            "token 2, of \"ann\": the same token",
        ),
        (row("a", "roles = []"), "needs either"),
        (
            row("a", "roles = []\nproject = \"p\"\nsystem = true"),
            "needs either",
        ),
        (row("a", "roles = []\nproject = \"\""), "1 to 36"),
        (row("a", "roles = [\"\"]\nproject = \"p\""), "a role must"),
        (row("a", "project = \"p\""), "roles"),
        (row("a", &format!("{good}\ntoken = \"a\"")), "unknown field"),
        (row("a", good).replace("\"ann\"", "\"\""), "1 to 255"),
        (
            row("a", good).replace("sha256 = \"", "sha256 = \"x"),
            "64 hexa",
        ),
        ("[[token]]\nsha256 = 1".to_owned(), "invalid type"),
        ("tokens = []".to_owned(), "unknown field"),
    ] {
        let found = parse(&text, RoleSet::Both).unwrap_err();
        assert!(found.contains(reason), "{reason:?} is not in {found:?}");
    }
    let text = row("a", &format!("{good}\ntoken = \"hush\""));
    let found = parse(&text, RoleSet::Both).unwrap_err();
    assert!(
        found.starts_with("line 6: ") && !found.contains("hush"),
        "{found}"
    );
    assert!(parse("", RoleSet::Both).unwrap().is_empty());
    assert_eq!(parse(&row("a", good), RoleSet::Both).unwrap().len(), 1);
}

#[test]
fn a_file_that_others_can_write_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &member("a"));
    for (mode, fine) in [(0o600, true), (0o644, true), (0o660, false), (0o602, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = TokenFile::open(&path, RoleSet::Both);
        assert_eq!(opened.is_ok(), fine, "{mode:o}");
    }
    let absent = folder.path().join("absent.toml");
    assert!(TokenFile::open(&absent, RoleSet::Both).is_err());
    assert!(TokenFile::open(folder.path(), RoleSet::Both).is_err());
}

#[tokio::test]
async fn a_changed_file_counts_soon_and_a_broken_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &member("a"));
    let tokens = TokenFile::open(&path, RoleSet::Both).unwrap();
    let is_let_in = async |text| tokens.authenticate(&token(text)).await.is_ok();
    // As if the last look were long ago.
    let look = async || {
        tokens.watch.lock().await.looked -= LOOK_INTERVAL;
        tokens.refresh().await;
    };
    write(&folder, "broken");
    look().await;
    assert!(is_let_in("a").await);
    fs::remove_file(&path).unwrap();
    look().await;
    assert!(is_let_in("a").await);
    write(&folder, &(member("b") + "\n# another length"));
    look().await;
    assert!(!is_let_in("a").await);
    assert!(is_let_in("b").await);
}
