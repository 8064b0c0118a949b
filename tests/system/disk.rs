//! A full disk: writes are refused with a clear error, nothing acknowledged is lost, and room heals it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use krater_tests::{HttpMember, Krater, Namespace, fetch};
use serde_json::json;

use crate::scene::{SETTLE_MAX, Scene, member_json};

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_heals() {
    let network = Namespace::enter_new();
    let mut krater = Krater::prepare("up", &[]);
    let disk = SmallDisk::mount(&krater.state_folder());
    krater.resume();
    let mut scene = Scene {
        api: krater.api(),
        krater,
        network,
    };
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let path = format!("pools/{}/members", tree.pool);
    let filler = disk.fill();

    let mut created = 0;
    let refused = loop {
        let body = json!({"member": member_json(([127, 0, 0, 9], 1000 + created).into())});
        let reply = scene.api.call("POST", &path, Some(&body));
        if reply.status != 201 {
            break reply;
        }
        created += 1;
        assert!(created < 5000, "the disk is never full");
    };
    assert!(
        refused.status >= 500,
        "{}: {}",
        refused.status,
        refused.body
    );
    assert!(!refused.fault().is_empty(), "{}", refused.body);
    assert_eq!(
        fetch(tree.at(80), "/").map(|answer| answer.status).ok(),
        Some(200),
        "traffic goes on"
    );
    let members = scene.api.get(&path);
    assert_eq!(
        members["members"].as_array().map(Vec::len),
        Some(usize::from(created) + 1),
        "what was acknowledged is there"
    );

    fs::remove_file(filler).expect("the filler can be removed");
    scene.api.post(
        &path,
        &json!({"member": member_json(([127, 0, 0, 8], 80).into())}),
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
}

/// A file system of a few megabytes in memory.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("the folder can be made");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"])
            .arg(folder)
            .status();
        assert!(
            done.expect("mount runs").success(),
            "a small file system is needed"
        );
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Leaves no room; gives the file that takes it.
    fn fill(&self) -> PathBuf {
        let filler = self.folder.join("filler");
        let rest = vec![0; 16 * 1024 * 1024];
        assert!(
            fs::write(&filler, &rest).is_err(),
            "the disk is larger than it should be"
        );
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.folder)
            .status();
    }
}
