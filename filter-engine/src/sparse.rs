//! An array by dense number whose empty stretches cost nothing.
//!
//! Slab keys are shared with vehicles' connections, vehicle numbers with other shards' vehicles: what is
//! stored here is dense only in places. Numbers fall into leaves of 64; a leaf exists while something is in
//! it, and the directory over them costs one pointer per 64 numbers. A lookup is two loads, the first of
//! which is nearly always in cache, and growing never moves what is stored.

/// Numbers per leaf.
pub(crate) const LEAF: usize = 64;

/// A leaf, and its entry in the directory.
pub(crate) const fn leaf_bytes<T>() -> u64 {
    (size_of::<Leaf<T>>() + size_of::<Option<Box<Leaf<T>>>>()) as u64
}

#[derive(Debug)]
pub(crate) struct Sparse<T> {
    leaves: Vec<Option<Box<Leaf<T>>>>,
    leaf_count: usize,
}

#[derive(Debug)]
struct Leaf<T> {
    live: u32,
    slots: [Option<T>; LEAF],
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self {
            leaves: Vec::new(),
            leaf_count: 0,
        }
    }
}

impl<T> Sparse<T> {
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let (leaf, slot) = locate(number);
        self.leaves.get(leaf)?.as_ref()?.slots[slot].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (leaf, slot) = locate(number);
        self.leaves.get_mut(leaf)?.as_mut()?.slots[slot].as_mut()
    }

    /// What is stored at `number`, which is first filled if it is empty.
    pub(crate) fn get_or_insert_with(&mut self, number: u32, value: impl FnOnce() -> T) -> &mut T {
        let (leaf, slot) = locate(number);
        if leaf >= self.leaves.len() {
            self.leaves.resize_with(leaf + 1, || None);
        }
        let leaf = self.leaves[leaf].get_or_insert_with(|| {
            self.leaf_count += 1;
            Box::new(Leaf {
                live: 0,
                slots: [const { None }; LEAF],
            })
        });
        if leaf.slots[slot].is_none() {
            leaf.live += 1;
        }
        leaf.slots[slot].get_or_insert_with(value)
    }

    pub(crate) fn insert(&mut self, number: u32, value: T) {
        let mut value = Some(value);
        let slot = self.get_or_insert_with(number, || value.take().expect("taken once"));
        if let Some(value) = value {
            *slot = value;
        }
    }

    /// Takes out what is stored at `number`, and gives back memory that holds nothing any more.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let (leaf_number, slot) = locate(number);
        let place = self.leaves.get_mut(leaf_number)?;
        let leaf = place.as_mut()?;
        let value = leaf.slots[slot].take()?;
        leaf.live -= 1;
        if leaf.live == 0 {
            *place = None;
            self.leaf_count -= 1;
            let used = self
                .leaves
                .iter()
                .rposition(Option::is_some)
                .map_or(0, |last| last + 1);
            self.leaves.truncate(used);
            if self.leaves.capacity() > 4 * used {
                self.leaves.shrink_to(2 * used);
            }
        }
        Some(value)
    }

    /// Bytes on the heap, without what the values themselves own.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.leaves.capacity() * size_of::<Option<Box<Leaf<T>>>>()
            + self.leaf_count * size_of::<Leaf<T>>()
    }
}

#[inline]
fn locate(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / LEAF, number % LEAF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_by_number_and_gives_memory_back() {
        let mut sparse = Sparse::default();
        for number in [0, 63, 64, 5_000, 1_000_000] {
            assert_eq!(sparse.get(number), None);
            sparse.insert(number, number);
            sparse.insert(number, number + 1);
            *sparse.get_or_insert_with(number, || unreachable!()) += 1;
            assert_eq!(sparse.get(number), Some(&(number + 2)));
        }
        assert_eq!(sparse.leaf_count, 4);
        assert_eq!(sparse.get(65), None);
        assert_eq!(sparse.get(u32::MAX), None);
        assert_eq!(sparse.remove(u32::MAX), None);
        for number in [1_000_000, 0, 63, 5_000, 64] {
            assert_eq!(sparse.remove(number), Some(number + 2));
            assert_eq!(sparse.remove(number), None);
        }
        assert_eq!(sparse.heap_bytes(), 0);
    }
}
