//! Files that are not what was written.

use std::{fs, ops::ControlFlow, path::PathBuf};

use super::{super::StoreError, *};

fn filled(folder: &Path) -> PathBuf {
    let (mut store, _) = open(folder);
    for step in 0..20 {
        commit(&mut store, step * 100 + 1..=step * 100 + 100);
    }
    folder.join("events.redb")
}

#[test]
fn a_damaged_store_is_set_aside() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("the head", |file| file[..512].fill(0xaa)),
        ("everything but the head", |file| file[4096..].fill(0xaa)),
        ("half of it is gone", |file| file.truncate(file.len() / 2)),
        ("it is empty", Vec::clear),
        ("it is something else", |file| *file = b"hello".repeat(9999)),
    ];
    for (what, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let path = filled(folder.path());
        let mut file = fs::read(&path).unwrap();
        damage(&mut file);
        fs::write(&path, &file).unwrap();

        let (mut store, recovered) = Store::open(folder.path(), options(), 5).unwrap();
        assert_eq!(
            recovered.epoch,
            START_MS + 1,
            "{what}: the clock was set back"
        );
        assert!(recovered.fleets.is_empty());
        let aside = recovered.set_aside.expect(what);
        assert_eq!(aside, folder.path().join("damaged-5"));
        assert!(
            fs::read(aside.join("events.redb")).unwrap() == file,
            "{what}"
        );
        commit(&mut store, 1..=10);
        drop(store);

        // Again, at the same time by the clock.
        fs::write(&path, b"").unwrap();
        let (mut store, recovered) = Store::open(folder.path(), options(), 5).unwrap();
        assert_eq!(recovered.epoch, START_MS + 2, "{what}");
        assert_eq!(recovered.set_aside, Some(folder.path().join("damaged-6")));
        commit(&mut store, 1..=10);
        drop(store);
        let (store, recovered) = Store::open(folder.path(), options(), 5).unwrap();
        assert_eq!((recovered.epoch, recovered.set_aside), (START_MS + 2, None));
        assert_eq!(verify(&store.reader(), FLEET, 10), (1, 10));
    }
}

#[test]
fn a_folder_whose_store_was_just_set_aside_goes_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let aside = folder.path().join("damaged-1");
    fs::create_dir(&aside).unwrap();
    for name in ["events.redb", "epoch"] {
        fs::rename(folder.path().join(name), aside.join(name)).unwrap();
    }
    let (_, recovered) = Store::open(folder.path(), options(), 5).unwrap();
    assert_eq!(recovered.epoch, START_MS + 1);
}

#[test]
fn a_damaged_record_is_told_and_can_be_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path());
    let mut file = fs::read(&path).unwrap();
    let lost = (901..).find(|at| record(FLEET, *at).len() > 100).unwrap();
    let bytes = record(FLEET, lost);
    let places: Vec<usize> = file
        .windows(bytes.len())
        .enumerate()
        .filter_map(|(at, window)| (window == bytes).then_some(at))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        file[at + 50] ^= 1;
    }
    fs::write(&path, &file).unwrap();

    let (store, recovered) = open(folder.path());
    assert_eq!(recovered.set_aside, None);
    let reader = store.reader();
    let mut given = Vec::new();
    let mut next = 1;
    let mut damaged = 0;
    while next <= 2000 {
        let outcome = reader.read(
            FLEET,
            next,
            2000,
            5000,
            usize::MAX,
            &mut |sequence, _, bytes| {
                assert!(bytes == record(FLEET, sequence));
                given.push(sequence);
                ControlFlow::Continue(())
            },
        );
        match outcome {
            Ok(outcome) => next = outcome.last + 1,
            Err(StoreError::Corrupt { resume, .. }) => {
                damaged += 1;
                next = resume.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(damaged, 1);
    assert!(given.is_sorted() && !given.contains(&lost));
    assert!(given.len() > 1800 && given.first() == Some(&1) && given.last() == Some(&2000));
}

#[test]
fn a_start_that_ended_the_process_is_followed_by_a_thorough_one() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    fs::write(folder.path().join("opening"), b"").unwrap();
    let (store, recovered) = open(folder.path());
    assert_eq!(recovered.set_aside, None);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, 2000));
    assert!(!folder.path().join("opening").exists());
    drop(store);

    // A block in the middle is not looked at by an ordinary start, see above, but by a thorough one.
    let path = folder.path().join("events.redb");
    let mut file = fs::read(&path).unwrap();
    let bytes = record(FLEET, 1000);
    for at in 0..file.len() - bytes.len() {
        if file[at..].starts_with(&bytes) {
            file[at] ^= 1;
        }
    }
    fs::write(&path, &file).unwrap();
    fs::write(folder.path().join("opening"), b"").unwrap();
    let (_, recovered) = open(folder.path());
    assert!(recovered.set_aside.is_some());
}
