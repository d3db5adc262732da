//! The subscribers of a group: nearly always one, sometimes thousands.

use std::slice;

use crate::SubscriberId;

/// Never empty; 16 bytes inline, and nothing on the heap for one member.
#[derive(Debug)]
pub(crate) enum Members {
    One(SubscriberId),
    /// Boxed so that the common case stays small.
    #[expect(clippy::box_collection)]
    Many(Box<Vec<SubscriberId>>),
}

impl Members {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[SubscriberId] {
        match self {
            Self::One(member) => slice::from_ref(member),
            Self::Many(members) => members,
        }
    }

    /// Appends a member and tells its position.
    pub(crate) fn push(&mut self, member: SubscriberId) -> u32 {
        match self {
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, member])),
            Self::Many(members) => members.push(member),
        }
        self.as_slice().len() as u32 - 1
    }

    /// Removes the member at `position`; the last one takes its place. Of a single member nothing can be
    /// removed: the group goes with it.
    pub(crate) fn swap_remove(&mut self, position: u32) {
        let Self::Many(members) = self else { return };
        members.swap_remove(position as usize);
        if let [last] = members[..] {
            *self = Self::One(last);
        } else if members.capacity() > 4 * members.len() {
            members.shrink_to(2 * members.len());
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(members) => {
                size_of::<Vec<SubscriberId>>() + members.capacity() * size_of::<SubscriberId>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_becomes_many_and_one_again() {
        let mut members = Members::One(SubscriberId(7));
        assert_eq!(size_of::<Members>(), 16);
        for next in 8..100 {
            assert_eq!(members.push(SubscriberId(next)), next - 7);
        }
        members.swap_remove(0);
        assert_eq!(members.as_slice()[0], SubscriberId(99));
        for _ in 0..91 {
            members.swap_remove(0);
        }
        assert_eq!(members.as_slice().len(), 1);
        assert_eq!(members.heap_bytes(), 0);
        members.swap_remove(0);
        assert_eq!(members.as_slice().len(), 1);
    }
}
