//! Connections by slot. Chunks never move, so a growing slab copies nothing and hands back what it used.

use super::ring::Key;

/// Slots per chunk.
pub const CHUNK: usize = 512;
/// Generations are what fits beside a slot in a completion's tag.
const GENERATION_MASK: u32 = 0xFF_FFFF;

/// A slab of `T` whose keys go stale when their slot is freed.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    used: u32,
    live: usize,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// What a slot weighs, used or not.
    pub const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Empty; never holds more than `slots_max`.
    pub fn new(slots_max: usize) -> Slab<T> {
        Slab {
            chunks: Vec::new(),
            free: Vec::new(),
            used: 0,
            live: 0,
            slots_max,
        }
    }

    /// Stores a value; gives it back if the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.live >= self.slots_max {
            return Err(value);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.used;
            self.used += 1;
            slot
        });
        if self.chunks.len() <= slot as usize / CHUNK {
            self.chunks.push(
                (0..CHUNK)
                    .map(|_| Slot {
                        generation: 0,
                        value: None,
                    })
                    .collect(),
            );
        }
        let entry = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
        entry.value = Some(value);
        self.live += 1;
        Ok(Key {
            slot,
            generation: entry.generation,
        })
    }

    /// The value of a key that is not stale.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entry(key.slot)?;
        if entry.generation == key.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// The value in a slot, with its current key.
    #[inline]
    pub fn slot_mut(&mut self, slot: u32) -> Option<(Key, &mut T)> {
        let entry = self.entry(slot)?;
        let key = Key {
            slot,
            generation: entry.generation,
        };
        entry.value.as_mut().map(|value| (key, value))
    }

    /// Frees the slot: all keys to it go stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry(key.slot)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1) & GENERATION_MASK;
        self.live -= 1;
        self.free.push(key.slot);
        Some(value)
    }

    /// How many slots were ever used: the sweep's range.
    pub fn slots(&self) -> u32 {
        self.used
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.live
    }

    fn entry(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut(slot as usize / CHUNK)?
            .get_mut(slot as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_forgets_its_old_keys() {
        let mut slab = Slab::new(2);
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!(slab.insert('c'), Err('c'), "full");
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert('c').unwrap();
        assert_eq!(c.slot, a.slot);
        assert_eq!(slab.get_mut(a), None, "stale");
        assert_eq!(slab.get_mut(c), Some(&mut 'c'));
        assert_eq!(slab.slot_mut(b.slot), Some((b, &mut 'b')));
        assert_eq!((slab.len(), slab.slots()), (2, 2));
        assert_eq!(slab.get_mut(Key::NOBODY), None);
    }

    #[test]
    fn generations_wrap_where_the_ring_cuts_them() {
        let mut slab = Slab::new(1);
        let first = slab.insert(0).unwrap();
        slab.slot_mut(0).unwrap();
        slab.entry(0).unwrap().generation = GENERATION_MASK;
        let last = Key {
            generation: GENERATION_MASK,
            ..first
        };
        assert_eq!(slab.remove(last), Some(0));
        assert_eq!(slab.insert(1).unwrap().generation, 0);
    }
}
