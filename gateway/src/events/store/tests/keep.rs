//! What is removed, and what is not.

use super::{
    super::{Retained, write::CHUNK_BYTES_MAX},
    *,
};

fn filled(folder: &Path) -> Store {
    let (mut store, _) = open(folder);
    for step in 0..20 {
        commit(&mut store, step * 1000 + 1..=step * 1000 + 1000);
    }
    store
}

fn all(store: &mut Store, older_than_ms: u64, bytes_max: u64) -> Retained {
    loop {
        let retained = store.retain(FLEET, older_than_ms, bytes_max).unwrap();
        assert!(retained.removed <= 8192, "one chunk a step");
        if !retained.more {
            return retained;
        }
    }
}

fn bytes(store: &mut Store) -> u64 {
    store.reopen(START_MS).unwrap().fleets[0].bytes
}

#[test]
fn what_is_over_age_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    assert_eq!(
        all(&mut store, received(1), u64::MAX),
        Retained {
            first: 1,
            ..Retained::default()
        }
    );
    let before = bytes(&mut store);
    let first = all(&mut store, received(10_000), u64::MAX).first;
    // Not one record too many, and at most a chunk too few.
    assert!((4000..=10_000).contains(&first), "{first}");
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (first, 20_000));
    assert!(bytes(&mut store) < before);
    drop(store);
    let (mut store, recovered) = open(folder.path());
    assert_eq!(recovered.fleets[0].first, first);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (first, 20_000));
    assert_eq!(all(&mut store, received(10_000), u64::MAX).first, first);
}

#[test]
fn what_is_over_size_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    let max = 3 * CHUNK_BYTES_MAX;
    assert!(bytes(&mut store) > 2 * max);
    let first = all(&mut store, 0, max).first;
    let left = bytes(&mut store);
    assert!(
        (max..max + CHUNK_BYTES_MAX + (1 << 18)).contains(&left),
        "{left}"
    );
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (first, 20_000));
}

#[test]
fn sequences_go_on_when_every_record_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    let retained = all(&mut store, u64::MAX, u64::MAX);
    assert_eq!(retained.first, 20_001);
    assert_eq!(bytes(&mut store), 0);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (20_001, 20_000));
    drop(store);
    let (mut store, recovered) = open(folder.path());
    let fleet = &recovered.fleets[0];
    assert_eq!((fleet.first, fleet.last, fleet.bytes), (20_001, 20_000, 0));
    commit(&mut store, 20_001..=20_003);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (20_001, 20_003));
}

#[test]
fn what_is_removed_makes_room_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    let length = || {
        std::fs::metadata(folder.path().join("events.redb"))
            .unwrap()
            .len()
    };
    let mut last = 20_000;
    let mut longest = 0;
    for round in 0..10 {
        for _ in 0..10 {
            commit(&mut store, last + 1..=last + 200);
            last += 200;
        }
        all(&mut store, 0, 2 << 20);
        if round == 4 {
            longest = length();
        }
    }
    assert!(length() <= longest, "{} after {longest}", length());
    assert_eq!(store.retain(LogFleet(1), u64::MAX, 0).unwrap().first, 1);
}
