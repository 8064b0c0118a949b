//! Keeping: what is written comes back, what is damaged stands aside, two processes never share a folder.

use std::os::unix::fs::PermissionsExt;

use krater_amphora_api::{Generation, VipSpec};
use uuid::Uuid;

use super::*;

fn spec(number: u128) -> SnapshotSpec {
    SnapshotSpec {
        load_balancer: LoadBalancerId::new(Uuid::from_u128(number)),
        name: format!("lb-{number}"),
        generation: Generation::FIRST,
        enabled: true,
        vips: vec![VipSpec {
            address: "127.0.0.1".parse().unwrap(),
        }],
        listeners: Vec::new(),
        pools: Vec::new(),
        takes_over: false,
        member_drain_ms: None,
        announcement: None,
        session_peers: Vec::new(),
    }
}

fn load(keep: &Keep) -> Vec<SnapshotSpec> {
    keep.load()
        .unwrap()
        .iter()
        .map(|snapshot| snapshot.spec().clone())
        .collect()
}

fn store(keep: &Keep, spec: &SnapshotSpec) {
    keep.store(spec.load_balancer, &serde_json::to_vec(spec).unwrap())
        .unwrap();
}

fn file(keep: &Keep, extension: &str) -> PathBuf {
    keep.path_of(spec(1).load_balancer, extension)
}

#[test]
fn what_is_stored_comes_back_settled_or_not_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    store(&keep, &spec(1));
    store(&keep, &spec(2));
    keep.settle(spec(1).load_balancer).unwrap();
    assert!(file(&keep, "json").exists() && !file(&keep, "next").exists());
    let mut newer = spec(1);
    newer.generation = Generation::FIRST.next();
    store(&keep, &newer);
    assert_eq!(
        load(&Keep::open(folder.path()).unwrap()),
        vec![newer.clone(), spec(2)]
    );
    for extension in ["json", "next"] {
        let mode = fs::metadata(file(&keep, extension))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    keep.settle(newer.load_balancer).unwrap();
    keep.settle(newer.load_balancer).unwrap();
    assert_eq!(load(&keep), vec![newer, spec(2)]);
}

#[test]
fn a_discarded_spec_is_gone_and_discarding_twice_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    store(&keep, &spec(1));
    keep.settle(spec(1).load_balancer).unwrap();
    store(&keep, &spec(1));
    keep.discard(spec(1).load_balancer).unwrap();
    keep.discard(spec(1).load_balancer).unwrap();
    keep.settle(spec(1).load_balancer).unwrap();
    assert!(load(&keep).is_empty() && keep.is_empty().unwrap());
}

#[test]
fn a_damaged_file_is_set_aside_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    store(&keep, &spec(1));
    store(&keep, &spec(2));
    fs::write(file(&keep, "next"), b"{\"load_balancer\":").unwrap();
    assert_eq!(load(&keep), vec![spec(2)]);
    assert!(!file(&keep, "next").exists());
    assert!(file(&keep, "corrupt").exists());
}

#[test]
fn a_turned_bit_that_leaves_a_valid_spec_is_noticed_and_the_spec_before_serves() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    store(&keep, &spec(1));
    keep.settle(spec(1).load_balancer).unwrap();
    let mut newer = spec(1);
    newer.generation = Generation::FIRST.next();
    store(&keep, &newer);
    let written = fs::read_to_string(file(&keep, "next")).unwrap();
    fs::write(file(&keep, "next"), written.replace("lb-1", "lb-3")).unwrap();
    assert_eq!(load(&keep), vec![spec(1)]);
    let aside = fs::metadata(file(&keep, ASIDE)).unwrap();
    assert_eq!(aside.permissions().mode() & 0o777, 0o600);
    // Whoever kept it knew of no checksums.
    fs::write(file(&keep, "next"), serde_json::to_vec(&newer).unwrap()).unwrap();
    assert_eq!(load(&keep), vec![newer]);
    keep.discard(spec(1).load_balancer).unwrap();
    assert!(!file(&keep, ASIDE).exists());
}

#[test]
fn power_lost_between_write_and_settling_leaves_the_spec_before() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    store(&keep, &spec(1));
    keep.settle(spec(1).load_balancer).unwrap();
    fs::write(file(&keep, "next"), b"").unwrap();
    assert_eq!(load(&keep), vec![spec(1)]);
}

#[test]
fn a_spec_that_can_no_longer_be_served_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    let mut invalid = spec(1);
    invalid.vips.clear();
    store(&keep, &invalid);
    assert!(load(&keep).is_empty());
    assert!(file(&keep, "corrupt").exists());
}

#[test]
fn an_unfinished_write_is_cleared_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    let unfinished = file(&keep, "tmp");
    fs::write(&unfinished, b"{").unwrap();
    assert_eq!(load(&Keep::open(folder.path()).unwrap()), Vec::new());
    assert!(!unfinished.exists());
}

#[test]
fn a_failed_write_leaves_the_spec_before() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::open(folder.path()).unwrap();
    store(&keep, &spec(1));
    // A folder in the way of the temporary file stands for a disk that takes nothing.
    fs::create_dir(file(&keep, "tmp")).unwrap();
    assert!(keep.store(spec(1).load_balancer, b"{}").is_err());
    assert_eq!(load(&keep), vec![spec(1)]);
}

#[test]
fn a_second_holder_of_the_lock_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let lock = StateLock::acquire(folder.path()).unwrap();
    let error = StateLock::acquire(folder.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
    let ours = i32::try_from(std::process::id()).unwrap();
    assert_eq!(
        StateLock::holder(folder.path()).unwrap(),
        Holder::Process(Some(ours))
    );
    drop(lock);
    assert_eq!(StateLock::holder(folder.path()).unwrap(), Holder::Nobody);
    StateLock::acquire(folder.path()).unwrap();
}
