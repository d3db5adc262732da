//! The tables of the store, and what their rows look like.
//!
//! | table | key | value |
//! |---|---|---|
//! | `log` | fleet, first sequence | a block, see `block` |
//! | `chunks` | fleet, first sequence | [`Chunk`]: some thousand records that go together |
//! | `fleets` | fleet | [`FleetRow`]: where its log begins and ends; written with every batch |
//! | `names` | fleet | its name |
//! | `senders` | fleet, vehicle | the caller's |
//! | `cursors`, `commands` | the caller's | the caller's |
//! | `meta` | a word | format, epoch, and how much is in `senders` |
//!
//! The library checks its pages only when it repairs, so each row carries a checksum over its key and itself.

use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::error::Trouble;

pub const LOG: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("log");
pub const CHUNKS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("chunks");
pub const FLEETS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("fleets");
pub const NAMES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("names");
pub const SENDERS: TableDefinition<'_, (u32, &str), &[u8]> = TableDefinition::new("senders");
pub const CURSORS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("cursors");
pub const COMMANDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("commands");
pub const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// What this release writes.
pub const FORMAT: u32 = 1;
const CHECKSUM: usize = 4;

/// Some thousand records of one fleet, which are removed together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub first: u64,
    pub last: u64,
    pub newest_ms: u64,
    /// What it takes of the disk.
    pub bytes: u64,
}

/// Where the log of a fleet begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRow {
    /// The first record that is kept; one more than `last` if there is none.
    pub first: u64,
    /// The highest sequence that was ever given.
    pub last: u64,
    /// What its records take of the disk.
    pub bytes: u64,
    /// The chunk that is being written. It has no row of its own yet. Empty: `last` is before `first`.
    pub open: Chunk,
}

impl Default for FleetRow {
    fn default() -> FleetRow {
        FleetRow {
            first: 1,
            last: 0,
            bytes: 0,
            open: Chunk::empty_after(0),
        }
    }
}

impl Chunk {
    pub fn empty_after(last: u64) -> Chunk {
        Chunk {
            first: last + 1,
            last,
            newest_ms: 0,
            bytes: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }

    pub fn records(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }
}

/// What is known of the whole store. One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub epoch: u64,
    /// How often it was opened; written so that opening proves that the disk takes what is written.
    pub openings: u64,
    /// What `senders` takes, to tell how much of the file is in use.
    pub sender_bytes: u64,
}

pub const META_FORMAT: &str = "format";
pub const META_STORE: &str = "store";

/// What a checksum covers besides the row: its table, and its key.
pub trait RowKey {
    fn feed(&self, hasher: &mut crc32fast::Hasher);
}

impl RowKey for u32 {
    fn feed(&self, hasher: &mut crc32fast::Hasher) {
        hasher.update(&self.to_le_bytes());
    }
}

impl RowKey for (u32, u64) {
    fn feed(&self, hasher: &mut crc32fast::Hasher) {
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&self.1.to_le_bytes());
    }
}

impl RowKey for (u32, &str) {
    fn feed(&self, hasher: &mut crc32fast::Hasher) {
        hasher.update(&self.0.to_le_bytes());
        hasher.update(self.1.as_bytes());
    }
}

impl RowKey for &str {
    fn feed(&self, hasher: &mut crc32fast::Hasher) {
        hasher.update(self.as_bytes());
    }
}

impl RowKey for &[u8] {
    fn feed(&self, hasher: &mut crc32fast::Hasher) {
        hasher.update(self);
    }
}

fn checksum(table: &str, key: &impl RowKey, row: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.as_bytes());
    key.feed(&mut hasher);
    hasher.update(row);
    hasher.finalize().to_le_bytes()
}

/// A row as it is stored.
pub fn seal(table: &str, key: &impl RowKey, row: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(CHECKSUM + row.len());
    sealed.extend_from_slice(&checksum(table, key, row));
    sealed.extend_from_slice(row);
    sealed
}

/// The row that was stored, if it is still that.
pub fn unseal<'a>(table: &str, key: &impl RowKey, sealed: &'a [u8]) -> Result<&'a [u8], Trouble> {
    let (stored, row) = sealed
        .split_first_chunk::<CHECKSUM>()
        .ok_or_else(|| wrong(table))?;
    if *stored != checksum(table, key, row) {
        return Err(wrong(table));
    }
    Ok(row)
}

/// A row of ours as it is stored.
pub fn encode(table: &str, key: &impl RowKey, row: &impl Serialize) -> Result<Vec<u8>, Trouble> {
    let row = postcard::to_extend(row, Vec::new()).map_err(|_| wrong(table))?;
    Ok(seal(table, key, &row))
}

/// A row of ours that was stored.
pub fn decode<T: DeserializeOwned>(
    table: &str,
    key: &impl RowKey,
    sealed: &[u8],
) -> Result<T, Trouble> {
    postcard::from_bytes(unseal(table, key, sealed)?).map_err(|_| wrong(table))
}

fn wrong(table: &str) -> Trouble {
    Trouble::damaged(format!("a row of table {table}"))
}

/// Makes the tables of a new store.
pub fn create(txn: &WriteTransaction, epoch: u64) -> Result<(), Trouble> {
    txn.open_table(LOG)?;
    txn.open_table(CHUNKS)?;
    txn.open_table(FLEETS)?;
    txn.open_table(NAMES)?;
    txn.open_table(SENDERS)?;
    txn.open_table(CURSORS)?;
    txn.open_table(COMMANDS)?;
    let meta = Meta {
        epoch,
        openings: 0,
        sender_bytes: 0,
    };
    let mut table = txn.open_table(META)?;
    let format = encode("meta", &META_FORMAT, &FORMAT)?;
    table.insert(META_FORMAT, format.as_slice())?;
    let store = encode("meta", &META_STORE, &meta)?;
    table.insert(META_STORE, store.as_slice())?;
    Ok(())
}

/// What is known of the whole store, if this release can read it.
pub fn meta(txn: &ReadTransaction) -> Result<Meta, Trouble> {
    let table = txn.open_table(META)?;
    let missing = || Trouble::damaged("it has no description");
    let format = table.get(META_FORMAT)?.ok_or_else(missing)?;
    let found: u32 = decode("meta", &META_FORMAT, format.value())?;
    if found != FORMAT {
        return Err(Trouble::Version(found));
    }
    let store = table.get(META_STORE)?.ok_or_else(missing)?;
    decode("meta", &META_STORE, store.value())
}

/// Writes what is known of the whole store.
pub fn put_meta(txn: &WriteTransaction, meta: &Meta) -> Result<(), Trouble> {
    let row = encode("meta", &META_STORE, meta)?;
    txn.open_table(META)?.insert(META_STORE, row.as_slice())?;
    Ok(())
}
