//! The system calls around the ring that have no safe wrapper among our dependencies.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use glommio::io::BufferedFile;

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
