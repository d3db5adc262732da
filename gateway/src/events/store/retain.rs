//! Removes the oldest records, a chunk at a time.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};

use super::{
    error::Trouble,
    handle::Handle,
    tables::{self, CHUNKS, Chunk, FleetRow, LOG},
    write::put_rows,
};

/// What a step has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// The first sequence that is kept.
    pub first: u64,
    /// How many records are gone.
    pub removed: u64,
    /// What they took of the disk.
    pub removed_bytes: u64,
    /// Whether there is more to do: call again, when other work has had its turn.
    pub more: bool,
}

/// What is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    pub older_than_ms: u64,
    pub bytes_max: u64,
}

impl Keep {
    fn is_due(self, row: &FleetRow, oldest: &Chunk) -> bool {
        !oldest.is_empty()
            && (oldest.newest_ms < self.older_than_ms
                || row.bytes.saturating_sub(oldest.bytes) >= self.bytes_max)
    }
}

/// Removes the oldest chunk of a fleet if it is due. `row` is brought up to date; if this fails, it is not.
pub fn step(
    handle: &Handle,
    fleet: u32,
    row: &mut FleetRow,
    keep: Keep,
) -> Result<Retained, Trouble> {
    let mut after = *row;
    let mut retained = Retained {
        first: row.first,
        ..Retained::default()
    };
    let txn = handle.write()?;
    let oldest = oldest(&txn, fleet, row)?;
    if !keep.is_due(row, &oldest) {
        txn.abort()?;
        return Ok(retained);
    }
    txn.open_table(LOG)?
        .retain_in((fleet, oldest.first)..=(fleet, oldest.last), |_, _| false)?;
    if oldest.first == row.open.first {
        after.open = Chunk::empty_after(row.last);
    } else {
        txn.open_table(CHUNKS)?.remove((fleet, oldest.first))?;
    }
    after.first = oldest.last + 1;
    after.bytes = row.bytes.saturating_sub(oldest.bytes);
    put_rows(&txn, &BTreeMap::from([(fleet, after)]))?;
    let next = self::oldest(&txn, fleet, &after)?;
    txn.commit()?;
    *row = after;
    retained.first = after.first;
    retained.removed = oldest.records();
    retained.removed_bytes = oldest.bytes;
    retained.more = keep.is_due(&after, &next);
    Ok(retained)
}

/// The chunk that goes next: the oldest closed one, or the one that is being written.
fn oldest(txn: &WriteTransaction, fleet: u32, row: &FleetRow) -> Result<Chunk, Trouble> {
    let chunks = txn.open_table(CHUNKS)?;
    let mut of_fleet = chunks.range((fleet, 0)..=(fleet, u64::MAX))?;
    match of_fleet.next().transpose()? {
        Some((key, sealed)) => tables::decode("chunks", &key.value(), sealed.value()),
        None => Ok(row.open),
    }
}
