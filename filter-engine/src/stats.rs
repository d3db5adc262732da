//! Figures for metrics and for the memory budget.

/// What an engine holds at this moment. Cheap to take: nothing is walked but running sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Subscribers, those with an empty filter included.
    pub subscribers: usize,
    /// Distinct (fleet, filter) pairs.
    pub groups: usize,
    /// (group, vehicle) pairs in the inverse index.
    pub index_entries: usize,
    /// Bytes on the heap for all of the above.
    pub heap_bytes: usize,
    /// Bytes on the heap for the routing scratch space, which follows the busiest tick and is bounded.
    pub scratch_bytes: usize,
}
