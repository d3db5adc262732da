//! A disk that fails at every point of a commit, and a power cut at every point.

use std::{fs, ops::ControlFlow};

use super::{super::StoreError, *};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How many operations on the file a few commits take.
fn operations(prepare: impl Fn(&mut Store)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let (mut store, _) = Store::open(folder.path(), faulty(&faults), START_MS).unwrap();
    let before = faults.operations();
    prepare(&mut store);
    faults.operations() - before
}

/// Commits until one fails, or 6 are done. Returns what is durable.
fn commits(store: &mut Store) -> Result<u64, (u64, StoreError)> {
    let mut last = 0;
    for step in 0..6 {
        let mut batch = Batch::default();
        add(&mut batch, FLEET, last + 1..=last + 20 + step);
        store.commit(&batch).map_err(|error| (last, error))?;
        last += 20 + step;
        store.retain(FLEET, START_MS, u64::MAX).unwrap_or_default();
        if store.is_failed() {
            return store
                .commit(&batch)
                .map(|()| last)
                .map_err(|error| (last, error));
        }
    }
    Ok(last)
}

#[test]
fn a_disk_that_fails_loses_nothing_that_was_durable() {
    let total = operations(|store| drop(commits(store)));
    assert!(total > 20, "{total}");
    for (fail_after, errno) in (0..total).zip([EIO, ENOSPC].into_iter().cycle()) {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let (mut store, _) = Store::open(folder.path(), faulty(&faults), START_MS).unwrap();
        let reader = store.reader();
        faults.fail_after(fail_after, errno);
        let Err((durable, error)) = commits(&mut store) else {
            panic!("operation {fail_after} of {total} was not missed");
        };
        let told = match errno {
            ENOSPC => matches!(
                error,
                StoreError::DiskFull { .. } | StoreError::Failed { .. }
            ),
            _ => matches!(error, StoreError::Io { .. } | StoreError::Failed { .. }),
        };
        assert!(told, "{fail_after}: {error:?}");

        // In the failed state nothing is written, and what was readable is.
        assert!(store.is_failed());
        let mut batch = Batch::default();
        add(&mut batch, FLEET, durable + 1..=durable + 1);
        assert!(matches!(
            store.commit(&batch),
            Err(StoreError::Failed { .. })
        ));
        assert!(matches!(
            store.retain(FLEET, 0, 0),
            Err(StoreError::Failed { .. })
        ));
        assert_eq!(verify(&reader, FLEET, durable).1, durable, "{fail_after}");
        for _ in 0..3 {
            store.reopen(START_MS).unwrap_err();
            assert_eq!(verify(&reader, FLEET, durable).1, durable, "{fail_after}");
        }

        faults.heal();
        let recovered = store.reopen(START_MS).unwrap();
        assert_eq!(recovered.set_aside, None);
        let last = last_of(&recovered);
        assert!(last >= durable, "{fail_after}: {last} of {durable}");
        assert_eq!(verify(&reader, FLEET, u64::MAX).1, last);
        commit(&mut store, last + 1..=last + 100);
        drop(store);
        let (store, recovered) = open(folder.path());
        assert_eq!(last_of(&recovered), last + 100, "{fail_after}");
        assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, last + 100));
    }
}

#[test]
fn a_power_cut_tears_off_only_what_was_not_durable() {
    let mut random = fastrand::Rng::with_seed(7);
    let total = operations(|store| drop(commits(store)));
    let mut torn = 0;
    for fail_after in 0..total {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        faults.remember();
        let (mut store, _) = Store::open(folder.path(), faulty(&faults), START_MS).unwrap();
        faults.fail_after(fail_after, EIO);
        let Err((durable, _)) = commits(&mut store) else {
            panic!("operation {fail_after} of {total} was not missed");
        };
        drop(store);
        for _ in 0..3 {
            let after = tempfile::tempdir().unwrap();
            fs::write(
                after.path().join("events.redb"),
                faults.cut_power(&mut random),
            )
            .unwrap();
            let (mut store, recovered) = open(after.path());
            assert_eq!(recovered.set_aside, None, "{fail_after}");
            let last = last_of(&recovered);
            assert!(last >= durable, "{fail_after}: {last} of {durable}");
            torn += u64::from(last == durable);
            assert_eq!(verify(&store.reader(), FLEET, u64::MAX).1, last);
            commit(&mut store, last + 1..=last + 1);
            assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, last + 1));
        }
    }
    assert!(torn > 0, "no power cut has met a commit half done");
}

#[test]
fn readers_do_not_notice_a_failed_commit() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let (mut store, _) = Store::open(folder.path(), faulty(&faults), START_MS).unwrap();
    commit(&mut store, 1..=2000);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (reader, stop) = (store.reader(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(verify(&reader, FLEET, 2000), (1, 2000));
                }
            })
        })
        .collect();
    let mut last = 2000;
    for round in 0..15 {
        faults.fail_after(round, EIO);
        let mut batch = Batch::default();
        add(&mut batch, FLEET, last + 1..=last + 50);
        while store.commit(&batch).is_ok() {
            batch.clear();
            last += 50;
            add(&mut batch, FLEET, last + 1..=last + 50);
        }
        store.reopen(START_MS).unwrap_err();
        faults.heal();
        last = last_of(&store.reopen(START_MS).unwrap());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, last));
    let gone = store
        .reader()
        .read(FLEET, 1, last, 1, 1, &mut |_, _, _| ControlFlow::Break(()));
    assert_eq!(gone.unwrap().last, 1);
}

#[test]
fn what_opening_again_tells_is_on_the_disk() {
    let mut random = fastrand::Rng::with_seed(9);
    let total = operations(|store| drop(commits(store)));
    for fail_after in 0..total {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        faults.remember();
        let (mut store, _) = Store::open(folder.path(), faulty(&faults), START_MS).unwrap();
        faults.fail_after(fail_after, EIO);
        commits(&mut store).unwrap_err();
        faults.heal();
        let told = last_of(&store.reopen(START_MS).unwrap());
        let after = tempfile::tempdir().unwrap();
        let left = faults.cut_power(&mut random);
        fs::write(after.path().join("events.redb"), left).unwrap();
        let (store, recovered) = open(after.path());
        assert_eq!(recovered.set_aside, None, "{fail_after}");
        assert_eq!(last_of(&recovered), told, "{fail_after}");
        assert_eq!(verify(&store.reader(), FLEET, u64::MAX).1, told);
    }
}
