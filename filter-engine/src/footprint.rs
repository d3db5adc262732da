//! What subscribers will hold on the heap, from the sizes of what they are made of: for a memory budget that is drawn
//! up before anybody subscribes. A test holds it against [`Stats`](crate::Stats).

use crate::engine::Seat;
use crate::filter::{LISTED_MAX, listed_bytes};
use crate::groups;
use crate::page::{PAGE, Page};
use crate::route::{MATCHES_PER_BATCH_MAX, SCRATCH_BYTES_PER_MATCH};
use crate::set::{BITSET_BYTES, CONTAINER_BYTES};
use crate::sparse::{LEAF, leaf_bytes};

/// Seats lie by subscriber number, in leaves of so many. A leaf exists while one of its numbers subscribes.
pub const SEATS_PER_LEAF: u64 = LEAF as u64;
/// A leaf of seats, and its entry in the directory.
pub const SEAT_LEAF_BYTES: u64 = leaf_bytes::<Seat>();
/// Neighbouring vehicles whose watchers lie in one page of the index. A page exists while one of them is watched.
pub const VEHICLES_PER_PAGE: u64 = PAGE as u64;
/// A page with its share of the leaf that it lies in, and the room for entries that it keeps: half a chunk.
pub const PAGE_BYTES: u64 = leaf_bytes::<Page>() / SEATS_PER_LEAF + 32 * ENTRY_BYTES;
/// Groups whose entries share a page.
pub const GROUPS_PER_BANK: u64 = 1 << 16;
/// Scratch space of routing, of a shard whose ticks are as busy as can be.
pub const SCRATCH_BYTES_MAX: u64 = MATCHES_PER_BATCH_MAX as u64 * SCRATCH_BYTES_PER_MATCH;

/// A (group, vehicle) pair in the index.
const ENTRY_BYTES: u64 = size_of::<u16>() as u64;

/// A group with a filter of its own, of `watched` vehicles with numbers below `vehicles`, and its entries in the index.
#[must_use]
pub fn group(watched: u64, vehicles: u64) -> u64 {
    // And an eighth for pointers to chunks of entries.
    let entries = watched.saturating_mul(ENTRY_BYTES);
    groups::BYTES_EACH
        .saturating_add(filter(watched, vehicles))
        .saturating_add(entries)
        .saturating_add(entries / 8)
}

/// A filter of so many vehicles: a list or a bitmap, whichever takes less.
fn filter(watched: u64, vehicles: u64) -> u64 {
    let bitmap = bitmap(watched, vehicles);
    if watched > LISTED_MAX {
        return bitmap;
    }
    bitmap.min(listed_bytes(
        watched,
        watched.min(vehicles.div_ceil(1 << 16)),
    ))
}

/// A set of `members` numbers below `span`, spread as widely as can be.
#[must_use]
pub const fn bitmap(members: u64, span: u64) -> u64 {
    let spans = span.div_ceil(1 << 16);
    let containers = if members < spans { members } else { spans };
    let values = members.saturating_mul(2);
    let most = containers.saturating_mul(BITSET_BYTES);
    containers
        .saturating_mul(CONTAINER_BYTES)
        .saturating_add(if values < most { values } else { most })
}
