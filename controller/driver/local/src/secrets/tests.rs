//! A folder of secrets: what is found in it, what is not, and when it changes.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    time::Duration,
};

use krater_driver::{
    Secret,
    secret_kit::{Holdings, check_secrets},
};
use tempfile::TempDir;
use tokio::time::timeout;

use rustix::fs::CWD;

use super::*;

const WEB: &str = concat!(
    include_str!("samples/web.crt"),
    include_str!("samples/web.key")
);
const CA: &str = include_str!("samples/web.crt");

struct Folder {
    _top: TempDir,
    root: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let root = top.path().join("secrets");
        fs::create_dir(&root).unwrap();
        Self { _top: top, root }
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn project(id: &str) -> ProjectId {
    ProjectId::parse(id).unwrap()
}

fn need(purpose: Purpose, reference: &str) -> Need {
    Need {
        purpose,
        reference: SecretRef::parse(reference.to_owned()).unwrap(),
    }
}

fn certificate(reference: &str) -> Need {
    need(Purpose::Certificate, reference)
}

#[tokio::test]
async fn a_folder_does_what_every_secret_store_does() {
    let folder = Folder::new();
    folder.put("p1/whole.pem", WEB);
    folder.put("p1/pair.crt", CA);
    folder.put("p1/pair.key", include_str!("samples/web.key"));
    folder.put("p1/mounted/..data-1/tls.crt", CA);
    folder.put(
        "p1/mounted/..data-1/tls.key",
        include_str!("samples/web.key"),
    );
    symlink("..data-1", folder.root.join("p1/mounted/..data")).unwrap();
    symlink("..data/tls.crt", folder.root.join("p1/mounted/tls.crt")).unwrap();
    symlink("..data/tls.key", folder.root.join("p1/mounted/tls.key")).unwrap();
    folder.put("p1/odd.pem", "no");
    let (owner, stranger) = (project("p1"), project("p2"));
    let store = FileSecrets::new(folder.root.clone());
    let good = [
        certificate("whole"),
        certificate("file:///whole"),
        certificate("pair"),
        certificate("mounted"),
        need(Purpose::Authorities, "pair"),
    ];
    let absent = [
        "absent",
        "../p1/whole",
        "p1/whole",
        "/etc/passwd",
        "file:///etc/passwd",
        "file:whole",
        "file://p1/whole",
        "https://keys.test/v1/secrets/whole",
        ".whole",
        "-whole",
        "whole.pem/",
        "who\u{0}le",
        "..",
        ".",
    ];
    let holds = Holdings {
        good: &good,
        unusable: &[certificate("odd")],
        absent: &absent.map(certificate),
        owner: &owner,
        stranger: Some(&stranger),
    };
    check_secrets(&store, &holds).await.unwrap();
    store.check_access(None, &good[0]).await.unwrap();
}

#[tokio::test]
async fn what_is_shared_is_for_everybody_and_gives_way_to_ones_own() {
    let folder = Folder::new();
    folder.put("shared/web.pem", WEB);
    let store = FileSecrets::new(folder.root.clone());
    let read = async |id: &str| {
        let raw = store.fetch(&project(id), &certificate("web")).await;
        raw.map(|raw| Secret::read(Purpose::Certificate, &raw).is_ok())
    };
    assert_eq!(read("p1").await, Ok(true));
    folder.put("p1/web.pem", "another one");
    assert_eq!(read("p1").await, Ok(false));
    // Projects whose ids are no names of folders have what is shared, and no other way out.
    for id in ["..", "../secrets/p1", "shared", "."] {
        assert_eq!(read(id).await, Ok(true), "{id}");
    }
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_read_and_nothing_that_is_no_file() {
    let folder = Folder::new();
    let outside = folder.root.parent().unwrap().join("outside.pem");
    fs::write(&outside, WEB).unwrap();
    fs::create_dir(folder.root.join("shared")).unwrap();
    let shared = folder.root.join("shared");
    symlink(&outside, shared.join("absolute.pem")).unwrap();
    symlink("../../outside.pem", shared.join("relative.pem")).unwrap();
    symlink("loop.pem", shared.join("loop.pem")).unwrap();
    fs::create_dir(shared.join("folder.pem")).unwrap();
    rustix::fs::mknodat(
        CWD,
        shared.join("pipe.pem"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let large = fs::File::create(shared.join("large.pem")).unwrap();
    large.set_len(SECRET_BYTES_MAX as u64 + 1).unwrap();
    folder.put("shared/twice.pem", WEB);
    folder.put("shared/twice.p12", "x");
    let store = FileSecrets::new(folder.root.clone());
    for (name, sentence) in [
        ("absolute", "leads out of the folder"),
        ("relative", "leads out of the folder"),
        ("loop", "leads out of the folder"),
        ("folder", "is not a file"),
        ("pipe", "is not a file"),
        ("large", "more than 4194304 bytes"),
        ("twice", "in two forms"),
    ] {
        let error = store.fetch(&project("p1"), &certificate(name)).await;
        let Err(DriverError::Permanent(told)) = error else {
            panic!("{name} is read");
        };
        assert!(told.contains(sentence), "{name}: {told}");
    }
}

#[tokio::test]
async fn a_change_is_noticed_wherever_it_is() {
    let folder = Folder::new();
    folder.put("p1/web.pem", WEB);
    folder.put("p1/mounted/..data-1/tls.crt", CA);
    symlink("..data-1", folder.root.join("p1/mounted/..data")).unwrap();
    let store = FileSecrets::new(folder.root.clone());
    let data = folder.root.join("p1/mounted/..data");
    let swap = || {
        symlink("..data-2", folder.root.join("p1/mounted/..data_tmp")).unwrap();
        fs::rename(folder.root.join("p1/mounted/..data_tmp"), &data).unwrap();
    };
    let steps: [(&str, &dyn Fn()); 5] = [
        ("a file is written", &|| folder.put("p1/web.pem", "x")),
        ("a file comes", &|| folder.put("p1/other.pem", WEB)),
        ("a folder comes", &|| folder.put("p2/web.pem", WEB)),
        ("a file comes in a folder that came", &|| {
            folder.put("p2/two.pem", WEB)
        }),
        ("what is mounted changes", &swap),
    ];
    // What is there to begin with is looked at by whoever asks for the first time.
    let mut watching = Box::pin(store.changed());
    assert!(
        timeout(Duration::from_millis(1), &mut watching)
            .await
            .is_err()
    );
    for (what, step) in steps {
        step();
        // Less than the time after which everything is looked at anyway.
        let noticed = timeout(Duration::from_secs(20), &mut watching).await;
        assert!(noticed.is_ok(), "{what}");
        watching = Box::pin(store.changed());
        // Several files of one step may be told in two parts.
        while timeout(Duration::from_millis(100), &mut watching)
            .await
            .is_ok()
        {
            watching = Box::pin(store.changed());
        }
    }
}

#[test]
fn what_is_laid_in_is_read_by_its_owner_only_and_replaced_at_once() {
    let folder = Folder::new();
    let shelf = Shelf::new(folder.root.join("new"));
    let own = Drawer::Of(project("p1"));
    assert_eq!(shelf.list().unwrap(), []);
    let path = shelf.put(&own, "web", WEB.as_bytes()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    shelf.put(&own, "web", b"other").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"other");
    shelf.put(&Drawer::Shared, "all", WEB.as_bytes()).unwrap();
    let root = folder.root.join("new");
    fs::write(root.join("p1/pair.crt"), CA).unwrap();
    fs::write(root.join("p1/.hidden.pem"), CA).unwrap();
    fs::write(root.join("p1/notes.txt"), "x").unwrap();
    fs::create_dir_all(root.join("p1/mounted")).unwrap();
    fs::write(root.join("p1/mounted/ca.crt"), CA).unwrap();
    let listed: Vec<_> = shelf
        .list()
        .unwrap()
        .into_iter()
        .map(|one| (one.drawer, one.name, one.exposed))
        .collect();
    let row = |drawer: &str, name: &str, exposed| (drawer.to_owned(), name.to_owned(), exposed);
    assert_eq!(
        listed,
        [
            row("p1", "mounted", true),
            row("p1", "pair", true),
            row("p1", "web", false),
            row("shared", "all", false)
        ]
    );
    let error = shelf.put(&own, "pair", b"x").unwrap_err();
    assert!(matches!(error, ShelfError::OtherForm { .. }), "{error}");
    for name in ["pair", "web", "mounted"] {
        shelf.remove(&own, name).unwrap();
        let error = shelf.remove(&own, name).unwrap_err();
        assert!(matches!(error, ShelfError::Absent(_)), "{error}");
    }
    assert_eq!(shelf.list().unwrap().len(), 1);
    for wrong in ["", "../x", "a/b", ".x", "-x", "\u{e9}"] {
        let error = shelf.put(&own, wrong, b"x").unwrap_err();
        assert!(matches!(error, ShelfError::Name(_)), "{error}");
        assert!(shelf.remove(&own, wrong).is_err());
    }
    for wrong in ["..", "a/b", "shared"] {
        let error = shelf
            .put(&Drawer::Of(project(wrong)), "x", b"x")
            .unwrap_err();
        assert!(matches!(error, ShelfError::Project), "{error}");
    }
}
