//! Whether the gateway really calls fsync: strace on the thread that writes the event log, and only on it, because every
//! system call of a traced thread stops it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use super::stretch::LOG_THREAD;
use crate::usage;

/// Calls that were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// `fsync` and `fdatasync`.
    pub syncs: u64,
    /// `pwrite64`, `write` and their relatives.
    pub writes: u64,
}

/// A running strace.
pub struct Strace {
    child: Child,
    /// Kept open: strace says there that it lets go, before it writes the table.
    _said: BufReader<ChildStderr>,
    summary: PathBuf,
    _folder: tempfile::TempDir,
}

impl Strace {
    /// Attaches to the thread of process `pid` that writes.
    ///
    /// # Errors
    /// strace is not installed, or may not attach; the process has no such thread.
    pub fn attach(pid: u32) -> anyhow::Result<Self> {
        let thread = usage::thread(pid, LOG_THREAD)?;
        let folder = tempfile::tempdir()?;
        let summary = folder.path().join("strace");
        let mut child = Command::new("strace")
            .args(["-c", "-e"])
            .arg("trace=fsync,fdatasync,pwrite64,pwritev,pwritev2,write,writev")
            .arg("-o")
            .arg(&summary)
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting strace (Debian: apt-get install strace)")?;
        let mut said = BufReader::new(child.stderr.take().context("strace says nothing")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        if !line.contains("attached") {
            let _ = child.wait();
            bail!("strace cannot attach to the gateway: {}", line.trim());
        }
        Ok(Self {
            child,
            _said: said,
            summary,
            _folder: folder,
        })
    }

    /// Lets go of the thread: what it called.
    ///
    /// # Errors
    /// strace has ended by itself, or wrote nothing.
    pub fn detach(mut self) -> anyhow::Result<Calls> {
        let pid = i32::try_from(self.child.id()).context("a process id out of range")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("strace is gone")?;
        self.child.wait()?;
        let summary = std::fs::read_to_string(&self.summary).context("reading what strace saw")?;
        Ok(parse(&summary))
    }
}

/// The table of `strace -c`: the share of time, seconds, microseconds a call, calls, errors if there were any, the name.
fn parse(summary: &str) -> Calls {
    let mut calls = Calls::default();
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(Ok(count))) =
            (fields.last(), fields.get(3).map(|n| n.parse::<u64>()))
        else {
            continue;
        };
        match *name {
            "fsync" | "fdatasync" => calls.syncs += count,
            "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev" => calls.writes += count,
            _ => {}
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 94.12    0.012000          60       200           fdatasync
  3.00    0.000400           1        17         2 fsync
  2.88    0.000367           0       901           pwrite64
------ ----------- ----------- --------- --------- ----------------
100.00    0.012767          11      1118         2 total
";
        let expected = Calls {
            syncs: 217,
            writes: 901,
        };
        assert_eq!(parse(summary), expected);
        assert_eq!(parse(""), Calls::default());
    }
}
