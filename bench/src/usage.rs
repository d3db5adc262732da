//! What processes and the kernel use, read from `/proc`.

use std::fs;

use anyhow::{Context, anyhow};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

/// Kernel clock ticks per second in `/proc/PID/stat`: 100 on every Linux architecture (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of a process, in microseconds.
///
/// # Errors
/// No such process.
pub fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    cpu_us_in(&format!("/proc/{pid}/stat"))
}

/// User and system time of one thread of a process, in microseconds.
///
/// # Errors
/// No such thread.
pub fn thread_cpu_us(pid: u32, thread: u32) -> anyhow::Result<u64> {
    cpu_us_in(&format!("/proc/{pid}/task/{thread}/stat"))
}

/// The thread of a process with this name.
///
/// # Errors
/// There is none.
pub fn thread(pid: u32, name: &str) -> anyhow::Result<u32> {
    let path = format!("/proc/{pid}/task");
    for task in fs::read_dir(&path).with_context(|| format!("reading {path}"))? {
        let task = task?;
        // One that ends meanwhile is not the one.
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            return Ok(task.file_name().to_string_lossy().parse()?);
        }
    }
    Err(anyhow!("process {pid} has no thread {name}"))
}

fn cpu_us_in(path: &str) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    parse_cpu_ticks(&stat)
        .map(|ticks| ticks * 1_000_000 / TICKS_PER_SECOND)
        .ok_or_else(|| anyhow!("{path} has an unknown form"))
}

/// Fields 14 and 15, counted after the command's closing parenthesis (the command may contain anything).
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Bytes that a process has caused to be written to disks.
///
/// # Errors
/// No such process, or somebody else's.
pub fn written_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/io");
    let io = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
        .ok_or_else(|| anyhow!("{path} does not say write_bytes"))
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All of it.
    pub total: u64,
    /// Heap and stacks, without mapped files.
    pub anonymous: u64,
}

/// Resident memory of a process.
///
/// # Errors
/// No such process.
pub fn resident(pid: u32) -> anyhow::Result<Resident> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field =
        |name| kilobytes(&status, name).ok_or_else(|| anyhow!("{path} does not say {name}"));
    Ok(Resident {
        total: field("VmRSS:")?,
        anonymous: field("RssAnon:")?,
    })
}

/// The kernel's slab memory, of the whole system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slab {
    /// All of it.
    pub total: u64,
    /// Without caches of files, which other processes fill and empty.
    pub unreclaimable: u64,
}

/// The kernel's slab memory.
///
/// # Errors
/// `/proc/meminfo` does not say.
pub fn slab() -> anyhow::Result<Slab> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let field = |name| {
        kilobytes(&meminfo, name).ok_or_else(|| anyhow!("/proc/meminfo does not say {name}"))
    };
    Ok(Slab {
        total: field("Slab:")?,
        unreclaimable: field("SUnreclaim:")?,
    })
}

/// The machine's memory, in bytes.
///
/// # Errors
/// `/proc/meminfo` does not say.
pub fn memory_bytes() -> anyhow::Result<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    kilobytes(&meminfo, "MemTotal:").ok_or_else(|| anyhow!("/proc/meminfo does not say MemTotal"))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes << 10)
}

/// User and system time of this process, in microseconds.
pub fn own_cpu_us() -> u64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        let micros = |time: nix::sys::time::TimeVal| {
            time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
        };
        micros(usage.user_time()) + micros(usage.system_time())
    })
}

/// Raises the limit of open files as far as it goes; what it is then.
///
/// # Errors
/// The limit cannot be read.
pub fn raise_open_files() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_command_name() {
        let stat = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 100";
        assert_eq!(parse_cpu_ticks(stat), Some(150));
        assert_eq!(parse_cpu_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_is_resident() {
        let resident = resident(std::process::id()).unwrap();
        assert!(resident.total >= resident.anonymous && resident.anonymous > 0);
        let slab = slab().unwrap();
        assert!(slab.total > slab.unreclaimable && slab.unreclaimable > 0);
        assert!(cpu_us(std::process::id()).is_ok());
        assert!(written_bytes(std::process::id()).is_ok());
    }

    #[test]
    fn kilobytes_are_read_by_name() {
        let text = "VmRSS:\t    12 kB\nRssAnon:\t 3 kB\n";
        assert_eq!(kilobytes(text, "RssAnon:"), Some(3 << 10));
        assert_eq!(kilobytes(text, "Slab:"), None);
    }
}
