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

/// User and system time of a process and all processes under it, in microseconds; of those that ended, too, if they were
/// waited for.
///
/// # Errors
/// No such process.
pub fn family_cpu_us(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = parse_family_ticks(&stat).ok_or_else(|| anyhow!("{path} has an unknown form"))?;
    let own = ticks * 1_000_000 / TICKS_PER_SECOND;
    // A child that ends meanwhile is not counted now, and next time in its parent.
    let children = children(pid)
        .into_iter()
        .filter_map(|child| family_cpu_us(child).ok());
    Ok(own + children.sum::<u64>())
}

/// Time that a core has not been idle, in microseconds.
///
/// # Errors
/// There is no such core.
pub fn core_busy_us(core: usize) -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    parse_busy_ticks(&stat, core)
        .map(|ticks| ticks * 1_000_000 / TICKS_PER_SECOND)
        .ok_or_else(|| anyhow!("/proc/stat does not say how busy core {core} is"))
}

/// User, nice and system time, interrupts and what a hypervisor took; not idle time and waiting for disks.
fn parse_busy_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    match ticks[..] {
        [user, nice, system, _, _, irq, softirq, steal, ..] => {
            Some(user + nice + system + irq + softirq + steal)
        }
        _ => None,
    }
}

/// The processes that the threads of a process have started.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|child| child.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
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

/// Fields 14 and 15: user and system time.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    sum_of_ticks(stat, 2)
}

/// The same with fields 16 and 17: those of children that have ended.
fn parse_family_ticks(stat: &str) -> Option<u64> {
    sum_of_ticks(stat, 4)
}

/// The sum of so many fields from the 14th on, counted after the command's closing parenthesis (the command may contain
/// anything).
fn sum_of_ticks(stat: &str, fields: usize) -> Option<u64> {
    let rest = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let values: Vec<u64> = rest
        .take(fields)
        .map_while(|field| field.parse().ok())
        .collect();
    (values.len() == fields).then(|| values.iter().sum())
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

/// Memory of a process and all processes under it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Resident: what several processes share counts for each.
    pub rss: u64,
    /// What several processes share is divided among them.
    pub pss: u64,
}

/// Memory of a process and all processes under it.
///
/// # Errors
/// No such process, or somebody else's.
pub fn family_memory(pid: u32) -> anyhow::Result<Held> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field =
        |name| kilobytes(&rollup, name).ok_or_else(|| anyhow!("{path} does not say {name}"));
    let mut sum = Held {
        rss: field("Rss:")?,
        pss: field("Pss:")?,
    };
    for child in children(pid) {
        // One that ends meanwhile holds nothing.
        let held = family_memory(child).unwrap_or_default();
        sum.rss += held.rss;
        sum.pss += held.pss;
    }
    Ok(sum)
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
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    #[test]
    fn cpu_time_is_found_behind_any_command_name() {
        let stat = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20 0 1 0 100";
        assert_eq!(parse_cpu_ticks(stat), Some(150));
        assert_eq!(parse_cpu_ticks("nonsense"), None);
        let stat = "7 (a) S 1 2 3 4 5 6 7 8 9 10 120 30 5 6 20 0 1 0 100";
        assert_eq!(parse_family_ticks(stat), Some(161));
        assert_eq!(
            parse_family_ticks("7 (a) S 1 2 3 4 5 6 7 8 9 10 120 30 5"),
            None
        );
    }

    /// A shell whose child burns time.
    #[test]
    fn children_are_counted_with_their_parent() {
        // Should this test fail, the limit ends them.
        let script = "ulimit -t 20; ( while :; do :; done ) & read ready";
        let mut shell = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = shell.id();
        while family_cpu_us(pid).unwrap() < 50_000 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(cpu_us(pid).unwrap() < 50_000);
        let child = children(pid)[0];
        let held = family_memory(pid).unwrap();
        assert!(held.rss > family_memory(child).unwrap().rss && held.rss >= held.pss);
        let child = Pid::from_raw(i32::try_from(child).unwrap());
        kill(child, Signal::SIGKILL).unwrap();
        shell.kill().unwrap();
        shell.wait().unwrap();
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
    fn a_core_is_busy_with_all_but_waiting() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 100 200 8 16 32 7 7\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_busy_ticks(stat, 0), Some(63));
        assert_eq!(parse_busy_ticks(stat, 10), Some(6));
        assert_eq!(parse_busy_ticks(stat, 1), None);
        assert!(core_busy_us(0).unwrap() > 0);
    }

    #[test]
    fn kilobytes_are_read_by_name() {
        let text = "VmRSS:\t    12 kB\nRssAnon:\t 3 kB\n";
        assert_eq!(kilobytes(text, "RssAnon:"), Some(3 << 10));
        assert_eq!(kilobytes(text, "Slab:"), None);
    }
}
