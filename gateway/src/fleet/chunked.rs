//! A growable array of atomics that never moves: readers need no lock while it grows.

use std::sync::OnceLock;

/// Entries per chunk. A chunk of 24-byte slots is 192 KiB: small enough not to matter, large enough to be rare.
pub const CHUNK: usize = 8_192;

/// An array of `T` whose chunks are made on first use and stay where they are.
#[derive(Debug)]
pub struct Chunked<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default> Chunked<T> {
    /// Room for indexes `0..=index_max`; takes 16 bytes per 8,192 of them until they are used.
    pub fn new(index_max: u32) -> Chunked<T> {
        let chunks = (index_max as usize) / CHUNK + 1;
        Chunked {
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The entry if its chunk was ever used.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// The entry; makes its chunk if need be. `None` beyond the array's end.
    #[inline]
    pub fn get_or_make(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        let make = || (0..CHUNK).map(|_| T::default()).collect();
        self.chunks
            .get(index / CHUNK)?
            .get_or_init(make)
            .get(index % CHUNK)
    }
}
