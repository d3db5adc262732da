//! Receive buffers that the kernel picks from only when bytes arrive (`IORING_REGISTER_PBUF_RING`, kernel 5.19):
//! an idle connection holds none.

use std::{
    io, ptr,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{IoUring, types::BufRingEntry};

/// The buffer group's id on its ring.
pub const GROUP: u16 = 7;
/// What the kernel is told of a buffer.
pub const ENTRY_BYTES: usize = size_of::<BufRingEntry>();

/// A ring of buffers shared with the kernel. Lives as long as the process: the kernel may write into it until its
/// io_uring is gone, which happens in the background.
pub struct BufferPool {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl BufferPool {
    /// Maps and registers `count` (a power of two) buffers, all of them ready, and touches their pages now rather
    /// than under traffic.
    pub fn register(ring: &IoUring, count: u16, buffer_bytes: usize) -> io::Result<BufferPool> {
        if !count.is_power_of_two() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let memory = map(usize::from(count) * buffer_bytes)?;
        let entries: *mut BufRingEntry =
            map(usize::from(count) * size_of::<BufRingEntry>())?.cast();
        // SAFETY: `entries` is a page-aligned mapping that holds `count` entries and is never unmapped.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries as u64, count, GROUP, 0)
        }?;
        let mut pool = BufferPool {
            entries,
            memory,
            count,
            buffer_bytes,
            tail: 0,
        };
        (0..count).for_each(|id| pool.give_back(id));
        Ok(pool)
    }

    /// How many buffers there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The first `length` bytes of a buffer that the kernel has handed over with a completion.
    pub fn bytes(&mut self, id: u16, length: usize) -> &mut [u8] {
        assert!(
            id < self.count && length <= self.buffer_bytes,
            "the kernel names our own buffers"
        );
        // SAFETY: inside the mapping (asserted). The kernel gave this buffer up with the completion and gets it back
        // only through `give_back`, which needs `&mut self` and so ends this borrow. mmap zeroed it: initialised.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.add(usize::from(id) * self.buffer_bytes),
                length,
            )
        }
    }

    /// Makes a buffer available to the kernel again.
    pub fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "the kernel names our own buffers");
        // SAFETY: the index is masked to the ring's size, so inside the mapping; the kernel reads an entry only below
        // `tail`, which is published after the entry is written (release).
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(self.memory.add(usize::from(id) * self.buffer_bytes) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

fn map(bytes: usize) -> io::Result<*mut u8> {
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_POPULATE,
    );
    // SAFETY: a fresh anonymous mapping; no existing memory is touched.
    let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, prot, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(memory.cast())
    }
}
