//! The shard's own io_uring: every socket operation, and all of their `unsafe`.
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN` (kernel 6.1): the kernel does a completion's work only when this thread enters the
//! ring, so the shard decides when. What the kernel may touch after a call returns is owned here: receive buffers by
//! [`buffers::BufferPool`], frames being sent by `in_flight`. Callers name connections by [`Key`] and descriptors by
//! number; they never see a pointer.

pub mod buffers;
pub mod sys;

use std::{collections::VecDeque, io, net::Shutdown, os::fd::RawFd};

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use self::buffers::BufferPool;
use super::frame::Frame;
use crate::limits::RECEIVED_PER_TICK_MAX;

/// Submission entries; more than a tick needs is kept in `backlog`.
const SUBMISSIONS: u32 = 4_096;
/// Completion entries. The kernel keeps what does not fit (`IORING_FEAT_NODROP`), at a cost.
pub const COMPLETIONS: u32 = 32_768;
/// What the two queues weigh: each submission with its place in an array of indexes.
pub const QUEUES_BYTES: usize = SUBMISSIONS as usize
    * (size_of::<squeue::Entry>() + size_of::<u32>())
    + COMPLETIONS as usize * size_of::<cqueue::Entry>();
/// `IORING_ENTER_GETEVENTS`: run deferred task work and flush overflowed completions.
const GET_EVENTS: u32 = 1;
/// Enters in a row that bring nothing before the kernel's word is not believed any more. Some work completes nothing.
const FRUITLESS_MAX: u32 = 4;

/// Why a shard has no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel forbids io_uring.
    #[error(
        "io_uring is blocked ({0}): a container's seccomp profile or the sysctl kernel.io_uring_disabled forbids it; \
         allow io_uring_setup, io_uring_enter and io_uring_register, or set kernel.io_uring_disabled=0"
    )]
    Blocked(io::Error),
    /// The kernel is too old.
    #[error("this kernel's io_uring lacks {0}; Longhaul needs Linux 6.1 or newer")]
    TooOld(&'static str),
    /// Anything else.
    #[error("io_uring: {doing}: {error}")]
    Io {
        /// What was being set up.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// What an operation was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Accept: `result` is a new descriptor.
    Accept = 1,
    /// Multishot receive: `result` bytes lie in a provided buffer.
    Receive = 2,
    /// One-shot readability of a quiet connection.
    Poll = 3,
    /// A send; its frame is done with.
    Send = 4,
    /// Cancel, shutdown, close: nobody waits for them.
    Forget = 5,
}

/// A connection: its slot in the slab and the slot's generation, so that a late completion finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index in the slab.
    pub slot: u32,
    /// How often the slot was used before, modulo 2^24.
    pub generation: u32,
}

impl Key {
    /// For operations that belong to no connection.
    pub const NOBODY: Key = Key {
        slot: u32::MAX,
        generation: 0,
    };

    fn tag(self, op: Op) -> u64 {
        (op as u64) << 56 | u64::from(self.generation & 0xFF_FFFF) << 32 | u64::from(self.slot)
    }
}

/// One completion, copied out of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    tag: u64,
    /// Bytes, a descriptor, or a negative errno.
    pub result: i32,
    flags: u32,
}

impl Completion {
    /// What it completes.
    pub fn op(&self) -> Op {
        match self.tag >> 56 {
            1 => Op::Accept,
            2 => Op::Receive,
            3 => Op::Poll,
            4 => Op::Send,
            _ => Op::Forget,
        }
    }

    /// Whose it is.
    pub fn key(&self) -> Key {
        Key {
            slot: self.tag as u32,
            generation: (self.tag >> 32) as u32 & 0xFF_FFFF,
        }
    }

    /// Whether a multishot operation goes on.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }
}

/// Receive-buffer shape.
#[derive(Debug, Clone, Copy)]
pub struct RingConfig {
    /// How many receive buffers; a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes in each.
    pub buffer_bytes: usize,
    /// Completions that one tick takes; more are left to the next, so that a flood cannot make a tick endless.
    pub collect_max: usize,
}

/// The ring and everything that the kernel may read or write through it.
pub struct Ring {
    ring: IoUring,
    buffers: BufferPool,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Frames being sent, by slot: the kernel reads them until the send completes.
    in_flight: Vec<Option<Frame>>,
    collect_max: usize,
    /// See [`Ring::is_behind`].
    is_behind: bool,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Sets up a ring that signals `doorbell` (an eventfd) on completions.
    ///
    /// # Errors
    /// Says whether io_uring is blocked, too old, or out of some resource.
    pub fn new(config: RingConfig, doorbell: RawFd) -> Result<Ring, RingError> {
        let ring = set_up(SUBMISSIONS, COMPLETIONS)?;
        let io = |doing| move |error| RingError::Io { doing, error };
        ring.submitter()
            .register_eventfd(doorbell)
            .map_err(io("registering the doorbell eventfd"))?;
        let buffers = BufferPool::register(&ring, config.buffers, config.buffer_bytes).map_err(
            io("registering receive buffers (receive.buffers must be a power of two)"),
        )?;
        Ok(Ring {
            ring,
            buffers,
            backlog: VecDeque::new(),
            in_flight: Vec::new(),
            // What is taken in a tick keeps its buffer until the tick has handled it.
            collect_max: config.collect_max.min(usize::from(config.buffers)),
            is_behind: false,
        })
    }

    fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: entries come from this module only. Those with a pointer are sends, whose frame `in_flight`
            // keeps until their completion is taken; receives write into registered buffers alone.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Accepts one connection. Not multishot: that would take all that are queued, 4,096 in a storm, in one go, and
    /// those who are connected would wait for as long as that takes.
    pub fn accept(&mut self, listener: RawFd) {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let entry = opcode::Accept::new(types::Fd(listener), no_address, no_length)
            .flags(flags)
            .build();
        self.push(entry.user_data(Key::NOBODY.tag(Op::Accept)));
    }

    /// Arms multishot receive. It ends with `ENOBUFS` when the buffers run dry and must be armed again.
    pub fn receive(&mut self, fd: RawFd, key: Key) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), buffers::GROUP).build();
        self.push(entry.user_data(key.tag(Op::Receive)));
    }

    /// Receives once: for a connection that a poll has found readable.
    pub fn receive_once(&mut self, fd: RawFd, key: Key) {
        let entry = opcode::Recv::new(types::Fd(fd), std::ptr::null_mut(), 0)
            .buf_group(buffers::GROUP)
            .build();
        self.push(
            entry
                .flags(squeue::Flags::BUFFER_SELECT)
                .user_data(key.tag(Op::Receive)),
        );
    }

    /// Ends multishot receive; its last completion says `ECANCELED`.
    pub fn cancel_receive(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.tag(Op::Receive)).build();
        self.push(entry.user_data(key.tag(Op::Forget)));
    }

    /// Asks for one completion when bytes or an end come: a third of the kernel memory of an armed receive.
    pub fn poll(&mut self, fd: RawFd, key: Key) {
        let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
        self.push(
            opcode::PollAdd::new(types::Fd(fd), events)
                .build()
                .user_data(key.tag(Op::Poll)),
        );
    }

    /// Sends the whole frame (`MSG_WAITALL`: one completion, after its last byte or an error).
    ///
    /// One send at a time per slot: returns false and does nothing while one is in flight.
    pub fn send(&mut self, fd: RawFd, key: Key, frame: Frame) -> bool {
        let slot = key.slot as usize;
        if slot >= self.in_flight.len() {
            self.in_flight.resize(slot + 1, None);
        }
        if self.in_flight[slot].is_some() {
            return false;
        }
        let bytes = frame.bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(key.tag(Op::Send));
        self.in_flight[slot] = Some(frame);
        self.push(entry);
        true
    }

    /// How many completions are a full batch: all receive buffers are in use, so bytes wait that no buffer was left for.
    pub fn full_batch(&self) -> usize {
        self.buffers.count()
    }

    /// Whether the last tick left received bytes to the next, because it had enough of them.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Ends one or both directions; armed operations then complete.
    ///
    /// A plain system call: the kernel hands `IORING_OP_SHUTDOWN` to a worker thread, which looks the descriptor up
    /// later, when it may be closed and be somebody else's.
    pub fn shutdown(&mut self, fd: RawFd, how: Shutdown) {
        sys::shutdown(fd, how);
    }

    /// Ends all accepts, which keep a closed listener alive.
    pub fn cancel_accepts(&mut self) {
        let all = types::CancelBuilder::user_data(Key::NOBODY.tag(Op::Accept)).all();
        let entry = opcode::AsyncCancel2::new(all).build();
        self.push(entry.user_data(Key::NOBODY.tag(Op::Forget)));
    }

    /// Bytes of the frame that this connection is being sent.
    pub fn sending_bytes(&self, key: Key) -> usize {
        let frame = self
            .in_flight
            .get(key.slot as usize)
            .and_then(Option::as_ref);
        frame.map_or(0, Frame::len)
    }

    /// Closes a descriptor that nothing is armed on any more.
    pub fn close(&mut self, fd: RawFd) {
        self.push(
            opcode::Close::new(types::Fd(fd))
                .build()
                .user_data(Key::NOBODY.tag(Op::Forget)),
        );
    }

    /// Whether entries wait to be submitted.
    pub fn has_submissions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.submission().is_empty()
    }

    /// Submits what is queued.
    ///
    /// # Errors
    /// What `io_uring_enter` says, other than a passing shortage (then the entries stay queued).
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// Submits what is queued, runs the ring's deferred work, and copies completions to `out`: all that there are, or
    /// enough for a tick.
    ///
    /// # Errors
    /// As [`Ring::submit`].
    pub fn collect(&mut self, out: &mut Vec<Completion>) -> io::Result<()> {
        let max = self.collect_max;
        let mut bytes = 0;
        repeat(|| {
            let before = out.len();
            self.enter(GET_EVENTS)?;
            bytes += self.drain(out);
            let is_enough = out.len() >= max || bytes >= RECEIVED_PER_TICK_MAX;
            let pending = self.ring.submission().taskrun();
            self.is_behind = pending && bytes >= RECEIVED_PER_TICK_MAX;
            Ok(Round {
                taken: out.len() - before,
                more: !is_enough && pending,
            })
        })
    }

    /// Returns how many bytes were received.
    fn drain(&mut self, out: &mut Vec<Completion>) -> usize {
        let in_flight = &mut self.in_flight;
        let mut bytes = 0;
        out.extend(self.ring.completion().map(|entry| {
            let completion = Completion {
                tag: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            };
            if completion.op() == Op::Receive {
                bytes += usize::try_from(completion.result).unwrap_or(0);
            }
            if completion.op() == Op::Send
                && let Some(frame) = in_flight.get_mut(completion.key().slot as usize)
            {
                *frame = None;
            }
            completion
        }));
        bytes
    }

    fn enter(&mut self, flags: u32) -> io::Result<()> {
        let mut flags = flags;
        loop {
            let queued = self.ring.submission().len() as u32;
            // SAFETY: no argument pointer is passed; entries are sound as said at `push`.
            match unsafe {
                self.ring
                    .submitter()
                    .enter::<libc::sigset_t>(queued, 0, flags, None)
            } {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN | libc::EBUSY) => return Ok(()),
                    _ => return Err(error),
                },
            }
            if self.backlog.is_empty() {
                return Ok(());
            }
            flags = 0;
            let mut submission = self.ring.submission();
            while let Some(entry) = self.backlog.front() {
                // SAFETY: as at `push`.
                if unsafe { submission.push(entry) }.is_err() {
                    break;
                }
                self.backlog.pop_front();
            }
        }
    }

    /// Lets `handle` see (and change: unmasking is in place) the bytes of a receive, then gives the buffer back.
    /// Without a buffer, which is so for an error or an end, `handle` is not called.
    pub fn with_received<R>(
        &mut self,
        completion: &Completion,
        handle: impl FnOnce(&mut [u8]) -> R,
    ) -> Option<R> {
        let id = cqueue::buffer_select(completion.flags)?;
        let length = usize::try_from(completion.result).unwrap_or(0);
        let handled = handle(self.buffers.bytes(id, length));
        self.buffers.give_back(id);
        Some(handled)
    }
}

/// What one enter brought.
struct Round {
    /// Completions.
    taken: usize,
    /// The kernel says that there is more, and there is room for it.
    more: bool,
}

/// Enters as often as it takes. One enter runs about 20 pieces of deferred work (IO_LOCAL_TW_DEFAULT_MAX, since 6.13) and
/// leaves the rest for the next: without this loop a tick would serve 20 sockets and the others would lag behind.
///
/// The kernel's word that there is more may be wrong: it sets IORING_SQ_TASKRUN after it has queued the work, and if this
/// thread has run that work in between, the flag stays until other work comes. Then the next tick is soon enough.
fn repeat(mut round: impl FnMut() -> io::Result<Round>) -> io::Result<()> {
    let mut fruitless = 0;
    while fruitless < FRUITLESS_MAX {
        let Round { taken, more } = round()?;
        if !more {
            break;
        }
        fruitless = if taken == 0 { fruitless + 1 } else { 0 };
    }
    Ok(())
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel winds a closed ring up in the background and may still read a frame: such frames are leaked.
        // (The buffer pool is never unmapped, for the same reason.)
        self.in_flight.drain(..).for_each(std::mem::forget);
    }
}

/// Whether a shard could have its ring: sets a small one up, and gives it back.
///
/// # Errors
/// As [`Ring::new`].
pub fn is_available() -> Result<(), RingError> {
    set_up(8, 16).map(drop)
}

/// A ring with all that a shard needs of the kernel.
fn set_up(submissions: u32, completions: u32) -> Result<IoUring, RingError> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(completions)
        .build(submissions)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => RingError::Blocked(error),
            Some(libc::EINVAL) => RingError::TooOld("IORING_SETUP_DEFER_TASKRUN (6.1)"),
            _ => RingError::Io {
                doing: "io_uring_setup",
                error,
            },
        })?;
    probe(&ring)?;
    Ok(ring)
}

fn probe(ring: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| RingError::Io {
            doing: "probing operations",
            error,
        })?;
    let needed = [
        (opcode::Accept::CODE, "accept"),
        (opcode::RecvMulti::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel::CODE, "cancel"),
        (opcode::Close::CODE, "close"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(RingError::TooOld(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs rounds that take what `taken` says, as long as `more` does; how many there were.
    fn rounds(taken: impl Fn(usize) -> usize, more: impl Fn(usize) -> bool) -> usize {
        let mut count = 0;
        repeat(|| {
            count += 1;
            Ok(Round {
                taken: taken(count),
                more: more(count),
            })
        })
        .expect("no round fails");
        count
    }

    #[test]
    fn it_enters_until_there_is_no_more() {
        assert_eq!(rounds(|_| 20, |round| round < 100), 100);
        assert_eq!(rounds(|_| 0, |_| false), 1);
        let now_and_then = |round| usize::from(round % 3 == 0);
        assert_eq!(rounds(now_and_then, |round| round < 100), 100);
    }

    /// A shard that believed it for ever served nobody any more, until some client sent something.
    #[test]
    fn it_does_not_wait_for_completions_that_never_come() {
        assert_eq!(rounds(|_| 0, |_| true), FRUITLESS_MAX as usize);
        let first = |round| if round == 1 { 20 } else { 0 };
        assert_eq!(rounds(first, |_| true), 1 + FRUITLESS_MAX as usize);
    }
}
