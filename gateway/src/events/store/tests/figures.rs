//! How fast it is, in a release build; without one, how slow the library's unoptimized generic code is.
//!
//! `cargo test --release -p longhaul-gateway store::tests::figures -- --ignored --nocapture`

use std::time::{Duration, Instant};

use super::*;

const FLEETS: u64 = 10;
const RECORD: [u8; 200] = [7; 200];

/// Commits so many batches of so many records over ten fleets, and says how long they took.
fn write(store: &mut Store, next: &mut u64, batches: u64, records: u64) -> Vec<Duration> {
    let mut batch = Batch::default();
    let mut took: Vec<Duration> = (0..batches)
        .map(|_| {
            batch.clear();
            for at in *next..*next + records {
                let fleet = LogFleet(u32::try_from(at % FLEETS).unwrap());
                if at < FLEETS {
                    batch.fleet(fleet, "figures");
                }
                batch.append(fleet, at / FLEETS + 1, START_MS + at, &RECORD);
            }
            *next += records;
            let begun = Instant::now();
            store.commit(&batch).unwrap();
            begun.elapsed()
        })
        .collect();
    took.sort();
    took
}

#[test]
#[ignore = "it measures, and writes a gigabyte"]
fn figures() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::default();
    let (mut store, _) = Store::open(folder.path(), options.clone(), START_MS).unwrap();
    let mut next = 0;
    for (batches, records) in [(300, 20), (300, 200), (300, 2000), (2200, 2000)] {
        let took = write(&mut store, &mut next, batches, records);
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        println!(
            "{records}: p50 {:?} p99 {:?} most {:?}",
            at(50),
            at(99),
            at(100)
        );
    }
    let length = std::fs::metadata(folder.path().join("events.redb"))
        .unwrap()
        .len();
    println!("{next} records, {} MB", length >> 20);
    drop(store);
    let begun = Instant::now();
    let (mut store, _) = Store::open(folder.path(), options, START_MS).unwrap();
    println!("opened in {:?}", begun.elapsed());
    let mut most = Duration::ZERO;
    let begun = Instant::now();
    for fleet in 0..10 {
        loop {
            let step = Instant::now();
            let retained = store
                .retain(LogFleet(fleet), START_MS + next / 2, u64::MAX)
                .unwrap();
            most = most.max(step.elapsed());
            if !retained.more {
                break;
            }
        }
    }
    println!(
        "removed half in {:?}, a step {most:?} at most",
        begun.elapsed()
    );
}
