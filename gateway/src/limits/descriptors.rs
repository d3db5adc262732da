//! The descriptors that the kernel allows.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a process or shard that are no client connections: listeners, rings, doorbells, logs, control plane.
pub const DESCRIPTORS_RESERVED: u64 = 256;

/// Raises the soft descriptor limit to the hard one, and says what it is now.
///
/// # Errors
/// The kernel's refusal; the limit is then as it was.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )?;
    }
    // None stands for "no limit", which the kernel grants to no one for descriptors but may report elsewhere.
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_the_descriptor_limit_reaches_the_hard_one() {
        let raised = raise_descriptor_limit().expect("a process may raise its soft limit");
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            raised
        );
    }
}
