use std::ops::ControlFlow;

use super::{super::StoreError, *};

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let other = LogFleet(8);
    let (mut store, recovered) = open(folder.path());
    assert_eq!(recovered.epoch, START_MS);
    assert!(recovered.fleets.is_empty() && recovered.set_aside.is_none());
    let mut batch = Batch::default();
    for step in 0..40 {
        batch.clear();
        add(&mut batch, FLEET, step * 100 + 1..=step * 100 + 100);
        add(&mut batch, other, step * 3 + 1..=step * 3 + 3);
        batch.sender(FLEET, "truck", &[step as u8]);
        batch.cursor(b"a", Some(&[step as u8]));
        batch.cursor(b"b", (step % 2 == 0).then_some(b"b"));
        batch.command(b"c", Some(b"c"));
        store.commit(&batch).unwrap();
    }
    let reader = store.reader();
    assert_eq!(verify(&reader, FLEET, u64::MAX), (1, 4000));
    assert_eq!(verify(&reader, other, 100), (1, 100));
    assert_eq!(store.sender(FLEET, "truck").unwrap(), Some(vec![39]));
    assert_eq!(store.sender(other, "truck").unwrap(), None);
    let told = store.reopen(START_MS).unwrap();
    drop(store);

    let (mut store, recovered) = Store::open(folder.path(), options(), START_MS + 9).unwrap();
    assert_eq!(recovered, told);
    assert_eq!(recovered.epoch, START_MS);
    assert_eq!(recovered.cursors, [(b"a".to_vec(), vec![39])]);
    assert_eq!(recovered.commands, [(b"c".to_vec(), b"c".to_vec())]);
    let fleet = &recovered.fleets[0];
    assert_eq!((fleet.first, fleet.last), (1, 4000));
    assert_eq!(fleet.name, "fleet-7");
    assert!(fleet.bytes > 1_000_000);
    commit(&mut store, 4001..=4001);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, 4001));
    assert_eq!(store.sender(FLEET, "truck").unwrap(), Some(vec![39]));
    // The store is gone, and with it the folder's lock.
    drop(store);
    let gone = reader.read(FLEET, 1, 1, 1, 1, &mut |_, _, _| ControlFlow::Continue(()));
    assert!(matches!(gone, Err(StoreError::Failed { .. })));
}

#[test]
fn a_read_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    commit(&mut store, 1..=500);
    let reader = store.reader();
    let read = |from, through, records, bytes, stop_at| {
        let mut given = Vec::new();
        let outcome = reader
            .read(
                FLEET,
                from,
                through,
                records,
                bytes,
                &mut |sequence, _, _| {
                    given.push(sequence);
                    if sequence == stop_at {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            )
            .unwrap();
        assert_eq!(outcome.first, 1);
        (given, outcome.last)
    };
    assert_eq!(read(10, 13, 100, usize::MAX, 0), ((10..=13).collect(), 13));
    assert_eq!(read(10, 400, 5, usize::MAX, 0), ((10..=14).collect(), 14));
    assert_eq!(read(10, 400, 100, 1, 0), (vec![10], 10));
    assert_eq!(read(10, 400, 0, 0, 0), (vec![10], 10));
    assert_eq!(
        read(10, 400, 100, usize::MAX, 20),
        ((10..=20).collect(), 20)
    );
    assert_eq!(read(501, 900, 100, usize::MAX, 0), (vec![], 500));
    assert_eq!(read(20, 10, 100, usize::MAX, 0), (vec![], 19));
    let nobody = reader
        .read(LogFleet(99), 1, 9, 9, 9, &mut |_, _, _| {
            panic!("there is no such fleet")
        })
        .unwrap();
    assert_eq!(nobody, ReadOutcome { first: 1, last: 0 });
}

#[test]
fn a_wrong_batch_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    commit(&mut store, 1..=10);
    for wrong in [vec![10], vec![12], vec![11, 11], vec![11, 13]] {
        let mut batch = Batch::default();
        for sequence in &wrong {
            batch.append(FLEET, *sequence, 0, b"");
        }
        let refused = store.commit(&batch);
        assert!(
            matches!(refused, Err(StoreError::Misuse { .. })),
            "{wrong:?}"
        );
    }
    let mut batch = Batch::default();
    batch.append(LogFleet(1), 1, 0, b"nameless");
    assert!(matches!(
        store.commit(&batch),
        Err(StoreError::Misuse { .. })
    ));
    assert!(!store.is_failed());
    commit(&mut store, 11..=11);
    assert_eq!(verify(&store.reader(), FLEET, u64::MAX), (1, 11));
}

#[test]
fn a_folder_is_one_process_s() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let second = Store::open(folder.path(), options(), START_MS).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }));
    assert!(
        second.to_string().contains("in use by another process"),
        "{second}"
    );
    drop(store);
    open(folder.path());
}

#[test]
fn readers_read_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path());
    commit(&mut store, 1..=100);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let reader = store.reader();
            std::thread::spawn(move || {
                let mut last = 0;
                while last < 1000 {
                    let (first, now) = verify(&reader, FLEET, 1000);
                    assert!(first == 1 && now >= last.max(100));
                    last = now;
                }
            })
        })
        .collect();
    for at in 1..=90 {
        commit(&mut store, at * 10 + 91..=at * 10 + 100);
    }
    for reader in readers {
        reader.join().unwrap();
    }
}
