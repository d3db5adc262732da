//! What the gateway costs, seen from outside: its process as `/proc` shows it, and what the kernel holds. [`agreement`]
//! holds what the gateway says of itself against it, [`syscalls`] counts system calls.

pub mod agreement;
pub mod syscalls;

use std::time::Instant;

use serde::Serialize;

use crate::usage::switches::Switches;
use crate::usage::{self, CpuTime, sockets};

/// What the gateway's process cost in a stretch of time, and what it held at its end.
#[derive(Clone, Debug, Serialize)]
pub struct Outside {
    /// The stretch.
    pub seconds: f64,
    /// CPU time in the gateway's own code, to 10 ms.
    pub cpu_user_seconds: f64,
    /// CPU time in the kernel on its behalf, to 10 ms.
    pub cpu_system_seconds: f64,
    /// How often its threads waited for something.
    pub context_switches_voluntary: u64,
    /// How often they had to make way for others.
    pub context_switches_involuntary: u64,
    /// At the end.
    pub threads: usize,
    /// Resident memory at the end.
    pub rss_bytes: Option<u64>,
    /// The same, where pages that it shares with other processes are divided among them.
    pub pss_bytes: Option<u64>,
    /// When the stretch began.
    pub system_before: System,
    /// When it ended.
    pub system_after: System,
}

/// What the kernel holds, of the whole system: the generator's ends of the connections are in it too if they are on this
/// machine, and whatever else runs there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// TCP sockets, in whatever state.
    pub tcp_sockets: u64,
    /// Data in them that waits to be sent or read.
    pub tcp_memory_bytes: u64,
    /// Slab: sockets, files and everything else that the kernel has small objects for.
    pub slab_bytes: u64,
    /// Slab without caches of files, which other programs fill and empty.
    pub slab_unreclaimable_bytes: u64,
}

impl System {
    fn now() -> anyhow::Result<Self> {
        let (tcp, slab) = (sockets::tcp()?, usage::slab()?);
        Ok(Self {
            tcp_sockets: tcp.allocated,
            tcp_memory_bytes: tcp.memory_bytes,
            slab_bytes: slab.total,
            slab_unreclaimable_bytes: slab.unreclaimable,
        })
    }
}

/// One look at a process: a stretch of time lies between two.
#[derive(Clone, Debug)]
pub struct Look {
    at: Instant,
    pid: u32,
    cpu: CpuTime,
    switches: Switches,
    system: System,
}

impl Look {
    /// Looks at the process `pid`.
    ///
    /// # Errors
    /// It is gone.
    pub fn at(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            pid,
            cpu: usage::cpu_time(pid)?,
            switches: Switches::of(pid)?,
            system: System::now()?,
        })
    }

    /// What there was from this look until now.
    ///
    /// # Errors
    /// The process is gone.
    pub fn until_now(&self) -> anyhow::Result<Outside> {
        let now = Self::at(self.pid)?;
        let switched = now.switches.since(&self.switches);
        let seconds = |now: u64, then: u64| now.saturating_sub(then) as f64 / 1e6;
        Ok(Outside {
            seconds: now.at.duration_since(self.at).as_secs_f64(),
            cpu_user_seconds: seconds(now.cpu.user_us, self.cpu.user_us),
            cpu_system_seconds: seconds(now.cpu.system_us, self.cpu.system_us),
            context_switches_voluntary: switched.voluntary,
            context_switches_involuntary: switched.involuntary,
            threads: now.switches.threads(),
            rss_bytes: usage::resident(self.pid).ok().map(|memory| memory.total),
            // Somebody else's process does not show it.
            pss_bytes: usage::proportional(self.pid).ok(),
            system_before: self.system,
            system_after: now.system,
        })
    }
}

impl Outside {
    /// For people, in one line; `messages`: what context switches are counted against.
    pub fn line(&self, messages: Option<u64>) -> String {
        let switches = self.context_switches_voluntary + self.context_switches_involuntary;
        let each = messages
            .filter(|&messages| messages > 0)
            .map_or_else(String::new, |messages| {
                format!(" ({:.3} each inbound)", switches as f64 / messages as f64)
            });
        let mebibytes = |bytes: u64| bytes as f64 / 1_048_576.0;
        let pss = self.pss_bytes.map_or_else(
            || "unknown".to_owned(),
            |bytes| format!("{:.1} MiB", mebibytes(bytes)),
        );
        format!(
            "user {:.2} s, system {:.2} s, {switches} context switches{each}, PSS {pss}, system's TCP buffers {:.1} MiB",
            self.cpu_user_seconds,
            self.cpu_system_seconds,
            mebibytes(self.system_after.tcp_memory_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_between_two_looks_is_seen() {
        let pid = std::process::id();
        let look = Look::at(pid).unwrap();
        let before = usage::cpu_us(pid).unwrap();
        while usage::cpu_us(pid).unwrap() < before + 30_000 {}
        let outside = look.until_now().unwrap();
        assert!(outside.cpu_user_seconds + outside.cpu_system_seconds >= 0.03);
        assert!(outside.threads >= 1 && outside.seconds > 0.0);
        assert!(outside.rss_bytes > Some(0) && outside.pss_bytes > Some(0));
        assert!(outside.system_after.slab_bytes > outside.system_after.slab_unreclaimable_bytes);
        assert!(outside.line(Some(7)).contains("each inbound"));
        assert!(!outside.line(None).contains("each inbound"));
    }

    #[test]
    fn a_process_that_is_gone_cannot_be_looked_at() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(Look::at(pid).is_err());
    }
}
