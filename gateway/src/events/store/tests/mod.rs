use std::{ops::ControlFlow, path::Path, sync::Arc};

use super::{
    Batch, LogFleet, Reader, Recovered, Store, StoreOptions, faults::Faults, reader::ReadOutcome,
};

mod damage;
mod failure;
mod figures;
mod full;
mod keep;
mod kill;
mod overlay;
mod round;

/// When tests begin, in milliseconds since the Unix epoch.
const START_MS: u64 = 1_800_000_000_000;
const FLEET: LogFleet = LogFleet(7);

fn options() -> StoreOptions {
    StoreOptions {
        cache_bytes: 4 << 20,
        free_bytes_min: 0,
        faults: None,
    }
}

fn faulty(faults: &Arc<Faults>) -> StoreOptions {
    StoreOptions {
        faults: Some(faults.clone()),
        ..options()
    }
}

fn open(path: &Path) -> (Store, Recovered) {
    Store::open(path, options(), START_MS).unwrap()
}

/// What record number `sequence` of a fleet is: of many lengths, and of no other record.
fn record(fleet: LogFleet, sequence: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(sequence.wrapping_mul(31) + u64::from(fleet.0));
    let length = match random.u8(0..20) {
        0 => 0,
        1 => random.usize(4000..20_000),
        _ => random.usize(20..400),
    };
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn received(sequence: u64) -> u64 {
    START_MS + sequence
}

/// Adds records to a batch, and names the fleet if they are its first.
fn add(batch: &mut Batch, fleet: LogFleet, sequences: std::ops::RangeInclusive<u64>) {
    if *sequences.start() == 1 {
        batch.fleet(fleet, &format!("fleet-{}", fleet.0));
    }
    for sequence in sequences {
        batch.append(
            fleet,
            sequence,
            received(sequence),
            &record(fleet, sequence),
        );
    }
}

fn commit(store: &mut Store, sequences: std::ops::RangeInclusive<u64>) {
    let mut batch = Batch::default();
    add(&mut batch, FLEET, sequences);
    store.commit(&batch).unwrap();
}

/// Reads all of it in bites, and holds every record against what it has to be. Returns first and last.
fn verify(reader: &Reader, fleet: LogFleet, through: u64) -> (u64, u64) {
    let mut next = 1;
    let mut first = None;
    loop {
        let mut given = 0;
        let outcome: ReadOutcome = reader
            .read(
                fleet,
                next,
                through,
                37,
                50_000,
                &mut |sequence, ms, bytes| {
                    next = next.max(*first.get_or_insert(sequence));
                    assert_eq!(sequence, next, "in order, each once");
                    assert_eq!(ms, received(sequence));
                    assert!(bytes == record(fleet, sequence), "record {sequence}");
                    next += 1;
                    given += 1;
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
        assert_eq!(outcome.first, first.unwrap_or(outcome.first));
        if given == 0 {
            return (outcome.first, outcome.last);
        }
        assert_eq!(outcome.last, next - 1);
    }
}

fn last_of(recovered: &Recovered) -> u64 {
    recovered
        .fleets
        .iter()
        .find(|fleet| fleet.number == FLEET)
        .map_or(0, |fleet| fleet.last)
}
