//! What is to be written at once.

use std::ops::Range;

use super::LogFleet;

/// Memory that an emptied batch keeps for the next one, in bytes.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Kept by the caller between commits and cleared, so that its memory is reused. Everything in it is written, or
/// nothing.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    pub(super) fleets: Vec<(u32, Span)>,
    pub(super) records: Vec<Record>,
    pub(super) senders: Vec<(u32, Span, Span)>,
    pub(super) cursors: Vec<(Span, Option<Span>)>,
    pub(super) commands: Vec<(Span, Option<Span>)>,
}

/// A part of the batch's bytes.
pub type Span = Range<usize>;

/// One record, by where its bytes are.
#[derive(Debug, Clone)]
pub struct Record {
    pub fleet: u32,
    pub sequence: u64,
    pub received_ms: u64,
    pub bytes: Span,
}

impl Batch {
    /// The first record of a new fleet follows, or its name has changed.
    pub fn fleet(&mut self, number: LogFleet, name: &str) {
        let name = self.keep(name.as_bytes());
        self.fleets.push((number.0, name));
    }

    /// One record. The sequences of a fleet are contiguous, from 1.
    pub fn append(&mut self, fleet: LogFleet, sequence: u64, received_ms: u64, record: &[u8]) {
        let bytes = self.keep(record);
        self.records.push(Record {
            fleet: fleet.0,
            sequence,
            received_ms,
            bytes,
        });
    }

    /// What is kept about a vehicle that sends. The last one in a batch counts.
    pub fn sender(&mut self, fleet: LogFleet, vehicle: &str, state: &[u8]) {
        let vehicle = self.keep(vehicle.as_bytes());
        let state = self.keep(state);
        self.senders.push((fleet.0, vehicle, state));
    }

    /// Sets a cursor, or removes it.
    pub fn cursor(&mut self, key: &[u8], value: Option<&[u8]>) {
        let pair = (self.keep(key), value.map(|value| self.keep(value)));
        self.cursors.push(pair);
    }

    /// Sets what is kept about a command, or removes it.
    pub fn command(&mut self, key: &[u8], value: Option<&[u8]>) {
        let pair = (self.keep(key), value.map(|value| self.keep(value)));
        self.commands.push(pair);
    }

    /// Empties it for the next one.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.fleets.clear();
        self.records.clear();
        self.records.shrink_to(KEPT_BYTES_MAX / size_of::<Record>());
        self.senders.clear();
        self.cursors.clear();
        self.commands.clear();
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.fleets.is_empty()
            && self.records.is_empty()
            && self.senders.is_empty()
            && self.cursors.is_empty()
            && self.commands.is_empty()
    }

    /// About what it takes.
    pub(super) fn len(&self) -> u64 {
        (self.bytes.len() + self.records.len() * 16) as u64
    }

    pub(super) fn part(&self, span: &Span) -> &[u8] {
        &self.bytes[span.clone()]
    }

    /// A part that was given as text.
    pub(super) fn text(&self, span: &Span) -> &str {
        std::str::from_utf8(self.part(span)).unwrap_or_default()
    }

    fn keep(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        start..self.bytes.len()
    }
}
