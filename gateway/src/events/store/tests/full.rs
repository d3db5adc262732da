//! A disk that is really full.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
};

use tempfile::TempDir;

use super::{super::StoreError, *};

/// A small file system of its own.
struct Mount(TempDir);

impl Mount {
    fn new(megabytes: u64) -> Option<Mount> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a small file system can be mounted by root only");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        if !status.success() {
            println!("SKIPPED: this machine lets nobody mount a file system");
            return None;
        }
        Some(Mount(folder))
    }

    fn store(&self) -> std::path::PathBuf {
        self.0.path().join("store")
    }

    /// Leaves so many bytes free.
    fn fill(&self, leave: u64) {
        let free = super::super::room::free_bytes(self.0.path()).unwrap();
        let mut ballast = File::create(self.0.path().join("ballast")).unwrap();
        ballast
            .write_all(&vec![
                1;
                usize::try_from(free.saturating_sub(leave)).unwrap()
            ])
            .unwrap();
    }

    fn relieve(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Commits until it is refused. Returns the last sequence that is durable, and why.
fn until_refused(store: &mut Store, mut last: u64) -> (u64, StoreError) {
    let mut batch = Batch::default();
    loop {
        batch.clear();
        add(&mut batch, FLEET, last + 1..=last + 200);
        if let Err(error) = store.commit(&batch) {
            return (last, error);
        }
        last += 200;
    }
}

#[test]
fn a_full_disk_is_survived() {
    let Some(mount) = Mount::new(48) else {
        return;
    };
    let (mut store, _) = Store::open(&mount.store(), options(), START_MS).unwrap();
    let reader = store.reader();
    commit(&mut store, 1..=1000);
    mount.fill(3 << 20);
    let (durable, error) = until_refused(&mut store, 1000);
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(store.is_failed());
    assert_eq!(verify(&reader, FLEET, durable), (1, durable));
    let again = store.reopen(START_MS).unwrap_err();
    assert!(matches!(again, StoreError::DiskFull { .. }), "{again:?}");
    assert_eq!(verify(&reader, FLEET, durable), (1, durable));

    mount.relieve();
    let recovered = store.reopen(START_MS).unwrap();
    let last = last_of(&recovered);
    assert!(last >= durable && recovered.set_aside.is_none());
    assert_eq!(verify(&reader, FLEET, u64::MAX), (1, last));
    commit(&mut store, last + 1..=last + 1000);
    drop(store);
    let (store, recovered) = open(&mount.store());
    assert_eq!(
        (last_of(&recovered), recovered.set_aside),
        (last + 1000, None)
    );
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, last + 1000));
}

#[test]
fn a_disk_that_becomes_full_is_noticed_before_it_is() {
    let Some(mount) = Mount::new(48) else {
        return;
    };
    let options = StoreOptions {
        free_bytes_min: 8 << 20,
        ..options()
    };
    let (mut store, _) = Store::open(&mount.store(), options.clone(), START_MS).unwrap();
    let (durable, error) = until_refused(&mut store, 0);
    assert!(
        matches!(error, StoreError::DiskFull { free: Some(_), .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("free some space"), "{error}");
    assert!(
        !store.is_failed(),
        "it was refused before anything was written"
    );
    assert!(store.free_bytes().unwrap() > 4 << 20);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, durable));

    // What is removed leaves room in the file, though the file system has no more than before.
    while store.retain(FLEET, 0, 4 << 20).unwrap().more {}
    let (last, error) = until_refused(&mut store, durable);
    assert!(last > durable + 1000, "{durable} to {last}: {error}");
    assert!(!store.is_failed(), "{error:?}");
    assert!(store.free_bytes().unwrap() > 0);
    drop(store);
    let (store, recovered) = Store::open(&mount.store(), options, START_MS).unwrap();
    assert_eq!(last_of(&recovered), last);
    let (first, through) = verify(&store.reader(), FLEET, u64::MAX);
    assert!(first > 1 && through == last);
}
