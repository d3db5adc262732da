//! Writes a batch.

use std::collections::{BTreeMap, HashMap};

use redb::{Table, WriteTransaction};

use super::{
    batch::{Batch, Span},
    block::{self, Builder},
    error::Trouble,
    handle::Handle,
    tables::{self, CHUNKS, COMMANDS, CURSORS, Chunk, FLEETS, FleetRow, LOG, Meta, NAMES, SENDERS},
};

/// A chunk is closed when it has this many records, or bytes: see [`super::Store::retain`].
pub const CHUNK_RECORDS_MAX: u64 = 4096;
/// See [`CHUNK_RECORDS_MAX`].
pub const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// What a row of `senders` takes besides its key and value, in bytes.
const SENDER_ADDED_BYTES: u64 = 24;

/// Memory that commits use again.
#[derive(Debug, Default)]
pub struct Scratch {
    order: Vec<usize>,
    builder: Builder,
}

/// What has changed once the batch is on the disk.
#[derive(Debug)]
pub struct Changed {
    pub rows: BTreeMap<u32, FleetRow>,
    pub meta: Meta,
}

impl Scratch {
    /// Puts the records of a batch in order, and finds the caller's mistakes before anything is written.
    pub fn arrange(&mut self, batch: &Batch, rows: &HashMap<u32, FleetRow>) -> Result<(), Trouble> {
        let records = &batch.records;
        self.order.clear();
        self.order.extend(0..records.len());
        self.order
            .sort_unstable_by_key(|&at| (records[at].fleet, records[at].sequence));
        let mut before: Option<(u32, u64)> = None;
        for record in self.order.iter().map(|&at| &records[at]) {
            let fleet = record.fleet;
            let last = match before {
                Some((same, last)) if same == fleet => last,
                _ => match rows.get(&fleet) {
                    Some(row) => row.last,
                    None if batch.fleets.iter().any(|(new, _)| *new == fleet) => 0,
                    None => {
                        return Err(Trouble::Misuse(format!("fleet {fleet} has no name")));
                    }
                },
            };
            if record.sequence != last + 1 {
                return Err(Trouble::Misuse(format!(
                    "fleet {fleet} has sequence {} after {last}",
                    record.sequence
                )));
            }
            before = Some((fleet, record.sequence));
        }
        Ok(())
    }

    /// Writes an arranged batch and waits until the disk has it.
    pub fn write(
        &mut self,
        handle: &Handle,
        batch: &Batch,
        rows: &HashMap<u32, FleetRow>,
        meta: Meta,
    ) -> Result<Changed, Trouble> {
        let txn = handle.write()?;
        let mut changed = Changed {
            rows: BTreeMap::new(),
            meta,
        };
        put_names(&txn, batch, rows, &mut changed)?;
        self.put_records(&txn, batch, rows, &mut changed)?;
        put_rows(&txn, &changed.rows)?;
        put_senders(&txn, batch, &mut changed.meta)?;
        put_pairs(txn.open_table(CURSORS)?, "cursors", batch, &batch.cursors)?;
        put_pairs(
            txn.open_table(COMMANDS)?,
            "commands",
            batch,
            &batch.commands,
        )?;
        if changed.meta != meta {
            tables::put_meta(&txn, &changed.meta)?;
        }
        txn.commit()?;
        Ok(changed)
    }

    fn put_records(
        &mut self,
        txn: &WriteTransaction,
        batch: &Batch,
        rows: &HashMap<u32, FleetRow>,
        changed: &mut Changed,
    ) -> Result<(), Trouble> {
        let mut log = txn.open_table(LOG)?;
        let mut chunks = txn.open_table(CHUNKS)?;
        let Scratch { order, builder } = self;
        // What a commit that failed has left.
        builder.finish(0, 0);
        let records = &batch.records;
        for of_fleet in order.chunk_by(|&a, &b| records[a].fleet == records[b].fleet) {
            let fleet = records[of_fleet[0]].fleet;
            let row = changed
                .rows
                .entry(fleet)
                .or_insert_with(|| rows.get(&fleet).copied().unwrap_or_default());
            for &at in of_fleet {
                let record = &records[at];
                if builder.is_full_for(record.bytes.len()) {
                    put_block(builder, fleet, row, &mut log, &mut chunks)?;
                }
                builder.push(record.received_ms, batch.part(&record.bytes))?;
            }
            put_block(builder, fleet, row, &mut log, &mut chunks)?;
        }
        Ok(())
    }
}

type ByFleet<'t> = Table<'t, (u32, u64), &'static [u8]>;

/// Ends a block, and the chunk that it is in once that is large enough.
fn put_block(
    builder: &mut Builder,
    fleet: u32,
    row: &mut FleetRow,
    log: &mut ByFleet<'_>,
    chunks: &mut ByFleet<'_>,
) -> Result<(), Trouble> {
    let first = row.last + 1;
    let Some(block) = builder.finish(fleet, first) else {
        return Ok(());
    };
    log.insert((fleet, first), block.bytes)?;
    let stored = block::stored_bytes(block.bytes.len());
    row.last += block.records;
    row.bytes += stored;
    row.open.last = row.last;
    row.open.bytes += stored;
    row.open.newest_ms = row.open.newest_ms.max(block.newest_ms);
    if row.open.bytes >= CHUNK_BYTES_MAX || row.open.records() >= CHUNK_RECORDS_MAX {
        let key = (fleet, row.open.first);
        let chunk = tables::encode("chunks", &key, &row.open)?;
        chunks.insert(key, chunk.as_slice())?;
        row.open = Chunk::empty_after(row.last);
    }
    Ok(())
}

fn put_names(
    txn: &WriteTransaction,
    batch: &Batch,
    rows: &HashMap<u32, FleetRow>,
    changed: &mut Changed,
) -> Result<(), Trouble> {
    if batch.fleets.is_empty() {
        return Ok(());
    }
    let mut names = txn.open_table(NAMES)?;
    for (fleet, name) in &batch.fleets {
        let sealed = tables::seal("names", fleet, batch.part(name));
        names.insert(fleet, sealed.as_slice())?;
        let row = rows.get(fleet).copied().unwrap_or_default();
        changed.rows.insert(*fleet, row);
    }
    Ok(())
}

/// Writes where the logs of some fleets begin and end.
pub fn put_rows(txn: &WriteTransaction, rows: &BTreeMap<u32, FleetRow>) -> Result<(), Trouble> {
    let mut table = txn.open_table(FLEETS)?;
    for (fleet, row) in rows {
        let sealed = tables::encode("fleets", fleet, row)?;
        table.insert(fleet, sealed.as_slice())?;
    }
    Ok(())
}

fn put_senders(txn: &WriteTransaction, batch: &Batch, meta: &mut Meta) -> Result<(), Trouble> {
    if batch.senders.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(SENDERS)?;
    for (fleet, vehicle, state) in &batch.senders {
        let key = (*fleet, batch.text(vehicle));
        let sealed = tables::seal("senders", &key, batch.part(state));
        let takes = |value: &[u8]| (value.len() + key.1.len()) as u64 + SENDER_ADDED_BYTES;
        let before = table.insert(key, sealed.as_slice())?;
        let before = before.map_or(0, |before| takes(before.value()));
        meta.sender_bytes = (meta.sender_bytes + takes(&sealed)).saturating_sub(before);
    }
    Ok(())
}

fn put_pairs(
    mut table: Table<'_, &'static [u8], &'static [u8]>,
    name: &str,
    batch: &Batch,
    pairs: &[(Span, Option<Span>)],
) -> Result<(), Trouble> {
    for (key, value) in pairs {
        let key = batch.part(key);
        match value {
            Some(value) => {
                let sealed = tables::seal(name, &key, batch.part(value));
                table.insert(key, sealed.as_slice())?;
            }
            None => {
                table.remove(key)?;
            }
        }
    }
    Ok(())
}
