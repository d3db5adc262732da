//! Consecutive records of one fleet, stored as one value.
//!
//! ```text
//! crc32 (4) | received_ms (8) | length (4) | bytes | received_ms ...
//! ```
//!
//! Numbers are little endian. The checksum covers the key as well, so a block that turns up in a wrong place is
//! noticed. One value for many records costs a hundredth of the inserts, and fills pages to the end.

use super::error::Trouble;

/// A block of this many bytes takes four pages together with what the library adds.
pub const BLOCK_BYTES: usize = 4 * PAGE_BYTES - ADDED_BYTES;
/// The library's page, in bytes.
const PAGE_BYTES: usize = 4096;
/// What a key and the page around it take, in bytes, and a little more.
const ADDED_BYTES: usize = 64;
const CHECKSUM: usize = 4;
const HEAD: usize = 12;

/// Builds blocks, in memory that is used again.
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    records: u64,
    newest_ms: u64,
}

impl Builder {
    /// Whether another record of so many bytes belongs into the next block.
    pub fn is_full_for(&self, record: usize) -> bool {
        self.records > 0 && self.bytes.len() + HEAD + record > BLOCK_BYTES
    }

    pub fn push(&mut self, received_ms: u64, record: &[u8]) -> Result<(), Trouble> {
        let length = u32::try_from(record.len())
            .map_err(|_| Trouble::Misuse("a record of 4 GiB or more".to_owned()))?;
        if self.records == 0 {
            self.bytes.clear();
            self.bytes.extend_from_slice(&[0; CHECKSUM]);
            self.newest_ms = 0;
        }
        self.bytes.extend_from_slice(&received_ms.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.records += 1;
        self.newest_ms = self.newest_ms.max(received_ms);
        Ok(())
    }

    /// Ends the block, and says what is in it. `None`: nothing.
    pub fn finish(&mut self, fleet: u32, first: u64) -> Option<Finished<'_>> {
        let records = std::mem::take(&mut self.records);
        if records == 0 {
            return None;
        }
        let checksum = checksum(fleet, first, &self.bytes[CHECKSUM..]);
        self.bytes[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        Some(Finished {
            bytes: &self.bytes,
            records,
            newest_ms: self.newest_ms,
        })
    }
}

/// A block to be stored.
#[derive(Debug)]
pub struct Finished<'a> {
    pub bytes: &'a [u8],
    pub records: u64,
    pub newest_ms: u64,
}

/// What a stored block takes of the disk: a small one shares a page, a large one has a power of two of pages.
pub fn stored_bytes(block: usize) -> u64 {
    let bytes = block + ADDED_BYTES;
    if bytes <= PAGE_BYTES {
        return bytes as u64;
    }
    (bytes.div_ceil(PAGE_BYTES).next_power_of_two() * PAGE_BYTES) as u64
}

/// A record: sequence, when it was received, and its bytes.
pub type Stored<'a> = (u64, u64, &'a [u8]);

/// The records of a block, in order, once its checksum is right.
pub fn records(
    fleet: u32,
    first: u64,
    block: &[u8],
) -> Result<impl Iterator<Item = Result<Stored<'_>, Trouble>>, Trouble> {
    let damaged = move || Trouble::damaged(format!("the records from {first} on of a fleet"));
    let (stored, mut rest) = block.split_first_chunk::<CHECKSUM>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*stored) != checksum(fleet, first, rest) {
        return Err(damaged());
    }
    let mut sequence = first;
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take(rest).ok_or_else(damaged);
        let (received_ms, record, behind) = match taken {
            Ok(taken) => taken,
            Err(trouble) => {
                rest = &[];
                return Some(Err(trouble));
            }
        };
        rest = behind;
        sequence += 1;
        Some(Ok((sequence - 1, received_ms, record)))
    }))
}

fn take(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (received_ms, bytes) = bytes.split_first_chunk::<8>()?;
    let (length, bytes) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (record, behind) = bytes.split_at_checked(length)?;
    Some((u64::from_le_bytes(*received_ms), record, behind))
}

fn checksum(fleet: u32, first: u64, records: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&fleet.to_le_bytes());
    hasher.update(&first.to_le_bytes());
    hasher.update(records);
    hasher.finalize()
}
