//! The system calls around the ring that have no safe wrapper among our dependencies.

use std::{
    io,
    net::{IpAddr, Shutdown},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use glommio::io::BufferedFile;
use socket2::SockRef;

/// An eventfd that wakes a shard: rung by its ring, by other shards, by the control plane.
///
/// All doorbells are made before any shard unshares its descriptor table, so that the number means the same
/// everywhere.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// A silent doorbell.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: eventfd takes no pointer; the descriptor that it returns is fresh and owned by nobody else.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
            if fd < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(Doorbell(OwnedFd::from_raw_fd(fd)))
            }
        }
    }

    /// Wakes the shard if it sleeps; otherwise its next sleep ends at once.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a live local. The counter would have to hold 2^64 - 2 rings to block.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// The descriptor, for the ring to signal.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// A glommio view of it, to await. It has a descriptor of its own.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn listener(&self) -> io::Result<BufferedFile> {
        // SAFETY: dup returns a fresh descriptor, which the BufferedFile then owns and closes.
        unsafe {
            let fd = libc::fcntl(self.0.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0);
            if fd < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(BufferedFile::from_raw_fd(fd))
            }
        }
    }
}

/// Ends one or both directions of a socket (`shutdown(2)`), at once. A socket that has no peer any more is none to end.
pub fn shutdown(socket: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: takes numbers only. The caller owns the descriptor and has not closed it.
    unsafe { libc::shutdown(socket, how) };
}

/// Who is at the other end of a socket.
///
/// # Errors
/// When it has gone again.
pub fn peer_address(socket: RawFd) -> io::Result<IpAddr> {
    // SAFETY: the caller owns the descriptor and does not close it during the call.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let address = SockRef::from(&socket).peer_addr()?;
    address
        .as_socket()
        .map(|address| address.ip())
        .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// How many bytes the peer of a socket has acknowledged so far: the kernel's `tcpi_bytes_acked` (Linux 4.1).
pub fn bytes_acked(socket: RawFd) -> Option<u64> {
    /// Where it lies in `struct tcp_info` (include/uapi/linux/tcp.h): 8 bytes of flags, 24 numbers of 4 bytes, and two
    /// of 8 come before it. The libc crate's struct ends earlier.
    const AT: usize = 8 + 24 * 4 + 2 * 8;
    let mut info = [0u8; AT + 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that long. The caller owns the descriptor.
    let got = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let acked = info.last_chunk()?;
    (got == 0 && length as usize == info.len()).then(|| u64::from_ne_bytes(*acked))
}

/// Lets the kernel take what is left of the frame that a stalled peer is being sent, and the close frame behind it, so
/// that a peer that wakes up learns why it was cut off. Setting either option wakes a waiting send.
pub fn widen(socket: RawFd, bytes: usize) {
    // SAFETY: the caller owns the descriptor and does not close it during the call.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let socket = SockRef::from(&socket);
    // What cannot be widened stays as it is: the peer is then cut off without a word.
    let _ = socket.set_send_buffer_size(bytes);
    let _ = socket.set_tcp_notsent_lowat(u32::MAX);
}

/// Gives the calling thread a descriptor table of its own (`unshare(2)`, `CLONE_FILES`): accept and close contend with
/// nobody, and `RLIMIT_NOFILE` bounds this thread alone.
///
/// # Errors
/// When the kernel or a seccomp profile refuses.
pub fn unshare_descriptors() -> io::Result<()> {
    // SAFETY: no pointers. Descriptors that others made stay valid here as copies; those made from now on are ours,
    // and nothing passes descriptor numbers between threads except the doorbells, made before.
    if unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
