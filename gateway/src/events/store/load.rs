//! What is read when the store is opened: all but the records, and whether it fits together.

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    LogFleet, Recovered, RecoveredFleet, block,
    error::{Trouble, guarded},
    handle::Handle,
    tables::{self, CHUNKS, COMMANDS, CURSORS, Chunk, FLEETS, FleetRow, LOG, Meta, NAMES},
};

/// What the writer keeps in memory, and what it tells.
#[derive(Debug)]
pub struct Loaded {
    pub rows: HashMap<u32, FleetRow>,
    pub meta: Meta,
    pub recovered: Recovered,
}

pub fn load(handle: &Handle) -> Result<Loaded, Trouble> {
    guarded(|| {
        let txn = handle.database.begin_read()?;
        let meta = tables::meta(&txn)?;
        let names = names(&txn)?;
        let mut rows = HashMap::new();
        let mut fleets = Vec::new();
        for entry in txn.open_table(FLEETS)?.iter()? {
            let (key, sealed) = entry?;
            let number = key.value();
            let row: FleetRow = tables::decode("fleets", &number, sealed.value())?;
            check(&txn, number, &row)?;
            let name = names
                .get(&number)
                .ok_or_else(|| Trouble::damaged("a fleet has no name"))?;
            fleets.push(RecoveredFleet {
                number: LogFleet(number),
                name: name.clone(),
                first: row.first,
                last: row.last,
                bytes: row.bytes,
            });
            rows.insert(number, row);
        }
        let recovered = Recovered {
            lost: None,
            epoch: meta.epoch,
            set_aside: None,
            fleets,
            cursors: pairs(&txn, CURSORS, "cursors")?,
            commands: pairs(&txn, COMMANDS, "commands")?,
        };
        Ok(Loaded {
            rows,
            meta,
            recovered,
        })
    })
}

fn names(txn: &ReadTransaction) -> Result<HashMap<u32, String>, Trouble> {
    let mut names = HashMap::new();
    for entry in txn.open_table(NAMES)?.iter()? {
        let (key, sealed) = entry?;
        let name = tables::unseal("names", &key.value(), sealed.value())?;
        let name = std::str::from_utf8(name).map_err(|_| Trouble::damaged("a fleet's name"))?;
        names.insert(key.value(), name.to_owned());
    }
    Ok(names)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(
    txn: &ReadTransaction,
    table: TableDefinition<'_, &[u8], &[u8]>,
    name: &str,
) -> Result<Pairs, Trouble> {
    let mut pairs = Vec::new();
    for entry in txn.open_table(table)?.iter()? {
        let (key, sealed) = entry?;
        let value = tables::unseal(name, &key.value(), sealed.value())?;
        pairs.push((key.value().to_vec(), value.to_vec()));
    }
    Ok(pairs)
}

/// Looks at both ends of a fleet's log: chunks and blocks begin and end where its row says. What lies between is
/// looked at when it is read.
fn check(txn: &ReadTransaction, fleet: u32, row: &FleetRow) -> Result<(), Trouble> {
    let broken = || Trouble::damaged("a fleet's log does not fit its summary");
    if row.first > row.last + 1 || row.open.last != row.last || row.open.first < row.first {
        return Err(broken());
    }
    let chunks = txn.open_table(CHUNKS)?;
    let mut of_fleet = chunks.range((fleet, 0)..=(fleet, u64::MAX))?;
    let oldest = of_fleet.next().transpose()?;
    let newest = of_fleet.next_back().transpose()?;
    let begins = oldest
        .as_ref()
        .map_or(row.open.first, |(key, _)| key.value().1);
    let newest = newest.as_ref().or(oldest.as_ref());
    let ends = match newest {
        Some((key, sealed)) => {
            let chunk: Chunk = tables::decode("chunks", &key.value(), sealed.value())?;
            chunk.last
        }
        None => row.open.first - 1,
    };
    if begins != row.first || ends + 1 != row.open.first {
        return Err(broken());
    }
    let log = txn.open_table(LOG)?;
    let mut blocks = log.range((fleet, 0)..=(fleet, u64::MAX))?;
    let Some(oldest) = blocks.next().transpose()? else {
        return if row.first > row.last {
            Ok(())
        } else {
            Err(broken())
        };
    };
    let newest = blocks.next_back().transpose()?;
    let (key, block) = newest.as_ref().unwrap_or(&oldest);
    let mut last = None;
    for record in block::records(fleet, key.value().1, block.value())? {
        last = Some(record?.0);
    }
    if oldest.0.value().1 != row.first || last != Some(row.last) {
        return Err(broken());
    }
    Ok(())
}
