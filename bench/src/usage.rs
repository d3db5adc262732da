//! What processes and the kernel use, read from `/proc`: time and memory here, what threads did in [`switches`], what
//! sockets hold in [`sockets`].

pub mod sockets;
pub mod switches;

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
    Ok(cpu_us_in(&format!("/proc/{pid}/stat"), 2)?.iter().sum())
}

/// CPU time of a process so far, in microseconds. The kernel counts it in steps of 10 ms, and splits it by where the
/// process was at the ticks of its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the process's own code.
    pub user_us: u64,
    /// In the kernel, on its behalf.
    pub system_us: u64,
}

/// CPU time of a process, by where it went.
///
/// # Errors
/// No such process.
pub fn cpu_time(pid: u32) -> anyhow::Result<CpuTime> {
    let times = cpu_us_in(&format!("/proc/{pid}/stat"), 2)?;
    Ok(CpuTime {
        user_us: times[0],
        system_us: times[1],
    })
}

/// User and system time of a process and all processes under it, in microseconds; of those that ended, too, if they were
/// waited for.
///
/// # Errors
/// No such process.
pub fn family_cpu_us(pid: u32) -> anyhow::Result<u64> {
    let own: u64 = cpu_us_in(&format!("/proc/{pid}/stat"), 4)?.iter().sum();
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
    Ok(cpu_us_in(&format!("/proc/{pid}/task/{thread}/stat"), 2)?
        .iter()
        .sum())
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

/// The first `fields` of user time, system time, and both of children that have ended, in microseconds.
fn cpu_us_in(path: &str, fields: usize) -> anyhow::Result<Vec<u64>> {
    let stat = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let ticks = ticks(&stat, fields).ok_or_else(|| anyhow!("{path} has an unknown form"))?;
    Ok(ticks
        .into_iter()
        .map(|ticks| ticks * 1_000_000 / TICKS_PER_SECOND)
        .collect())
}

/// So many fields from the 14th on, counted after the command's closing parenthesis (the command may contain anything).
fn ticks(stat: &str, fields: usize) -> Option<Vec<u64>> {
    let rest = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let values: Vec<u64> = rest
        .take(fields)
        .map_while(|field| field.parse().ok())
        .collect();
    (values.len() == fields).then_some(values)
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
    let mut sum = held(pid)?;
    for child in children(pid) {
        // One that ends meanwhile holds nothing.
        let held = family_memory(child).unwrap_or_default();
        sum.rss += held.rss;
        sum.pss += held.pss;
    }
    Ok(sum)
}

/// Resident memory of a process, where what several processes share is divided among them, in bytes. The kernel walks all
/// of it to find out.
///
/// # Errors
/// No such process, or somebody else's.
pub fn proportional(pid: u32) -> anyhow::Result<u64> {
    Ok(held(pid)?.pss)
}

/// Memory of one process.
fn held(pid: u32) -> anyhow::Result<Held> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    parse_rollup(&rollup).ok_or_else(|| anyhow!("{path} has an unknown form"))
}

fn parse_rollup(rollup: &str) -> Option<Held> {
    Some(Held {
        rss: kilobytes(rollup, "Rss:")?,
        pss: kilobytes(rollup, "Pss:")?,
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
mod tests;
