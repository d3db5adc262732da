//! What of each connection's token matters once it is in: which one it is, and when it was issued. Beside the slab, because
//! nothing reads it but a purge. Chunks never move, as in the slab.

use std::num::NonZeroU64;

use super::slab::CHUNK;

/// A token's id, as a keyed hash of 64 bits. None: it has no id.
pub type TokenHash = Option<NonZeroU64>;

/// What of a token is kept: 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Two halves: 8 bytes would be aligned to 8.
    token: [u32; 2],
    issued_s: u32,
}

impl Pass {
    /// Of a token with this id, issued at this second of the Unix epoch; none counts as 1970.
    pub fn new(token: TokenHash, issued_unix: Option<u64>) -> Pass {
        let hash = token.map_or(0, NonZeroU64::get);
        Pass {
            token: [hash as u32, (hash >> 32) as u32],
            issued_s: u32::try_from(issued_unix.unwrap_or(0)).unwrap_or(u32::MAX),
        }
    }

    /// The token's id.
    pub fn token(self) -> TokenHash {
        NonZeroU64::new(u64::from(self.token[0]) | u64::from(self.token[1]) << 32)
    }

    /// When it was issued, in seconds since the Unix epoch.
    pub fn issued_unix(self) -> u64 {
        u64::from(self.issued_s)
    }
}

/// What a slot weighs.
pub const PASS_BYTES: usize = size_of::<Pass>();
const _: () = assert!(
    PASS_BYTES == 12,
    "memory per connection is part of the budget"
);

/// A pass for each slot of the slab.
#[derive(Debug, Default)]
pub struct Passes {
    chunks: Vec<Box<[Pass; CHUNK]>>,
}

impl Passes {
    /// The pass of a slot; an empty one if none was ever set.
    pub fn get(&self, slot: u32) -> Pass {
        let slot = slot as usize;
        let chunk = self.chunks.get(slot / CHUNK);
        chunk.map_or_else(Pass::default, |chunk| chunk[slot % CHUNK])
    }

    /// Sets it.
    pub fn set(&mut self, slot: u32, pass: Pass) {
        let slot = slot as usize;
        while self.chunks.len() <= slot / CHUNK {
            self.chunks.push(Box::new([Pass::default(); CHUNK]));
        }
        self.chunks[slot / CHUNK][slot % CHUNK] = pass;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_what_was_set() {
        let mut passes = Passes::default();
        let token = NonZeroU64::new(0xFEDC_BA98_7654_3210);
        let pass = Pass::new(token, Some(1_800_000_000));
        assert_eq!((pass.token(), pass.issued_unix()), (token, 1_800_000_000));
        passes.set(3 * CHUNK as u32 + 1, pass);
        assert_eq!(passes.get(3 * CHUNK as u32 + 1), pass);
        for other in [0, 3 * CHUNK as u32, 9 * CHUNK as u32] {
            assert_eq!(passes.get(other), Pass::default());
        }
        assert_eq!(Pass::new(None, None), Pass::default());
        assert_eq!(Pass::default().token(), None);
        assert_eq!(
            Pass::new(None, Some(u64::MAX)).issued_unix(),
            u64::from(u32::MAX)
        );
    }
}
