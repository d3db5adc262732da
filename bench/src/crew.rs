//! The generator processes, seen from the main process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::job::{Job, Notice, Order};

/// Most connections of one process: 20,000 descriptors is a common hard limit.
pub const CONNECTIONS_PER_PROCESS: usize = 19_000;

/// Running generator processes. Dropping it ends them.
pub struct Crew {
    members: Vec<Member>,
    notices: Receiver<(usize, Option<Notice>)>,
}

struct Member {
    child: Child,
    orders: Option<ChildStdin>,
}

impl Crew {
    /// Starts one process per job.
    ///
    /// # Errors
    /// This binary cannot be started again.
    pub fn start(jobs: &[Job]) -> anyhow::Result<Self> {
        let (sender, notices) = channel();
        let mut crew = Self {
            members: Vec::new(),
            notices,
        };
        for (number, job) in jobs.iter().enumerate() {
            let mut child = again("worker")?
                .spawn()
                .context("starting a generator process")?;
            let mut orders = child
                .stdin
                .take()
                .ok_or_else(|| anyhow!("no pipe to a generator"))?;
            let stdout = child
                .stdout
                .take()
                .ok_or_else(|| anyhow!("no pipe from a generator"))?;
            let mut line = serde_json::to_vec(job)?;
            line.push(b'\n');
            let written = orders.write_all(&line);
            crew.members.push(Member {
                child,
                orders: Some(orders),
            });
            written.context("telling a generator process its job")?;
            let sender = sender.clone();
            std::thread::spawn(move || forward(number, BufReader::new(stdout), &sender));
        }
        Ok(crew)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The next notice and whose it is; `None` after `timeout`.
    ///
    /// # Errors
    /// A process failed, and why.
    pub fn notice(&self, timeout: Duration) -> anyhow::Result<Option<(usize, Notice)>> {
        match self.notices.recv_timeout(timeout) {
            Ok((_, Some(Notice::Failed(why)))) => bail!("{why}"),
            Ok((number, Some(notice))) => Ok(Some((number, notice))),
            Ok((number, None)) => bail!("generator process {number} ended unexpectedly"),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all generator processes ended"),
        }
    }

    /// Stops all of them (SIGSTOP), as a client stops whose machine hangs: its sockets stay open and are not read.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets paused ones go on.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        for member in &self.members {
            let pid = i32::try_from(member.child.id()).context("a process id out of range")?;
            kill(Pid::from_raw(pid), signal).context("a generator process is gone")?;
        }
        Ok(())
    }

    /// Ends the input of all of them, which tells those that have not ended yet to do so.
    pub fn dismiss(&mut self) {
        for member in &mut self.members {
            member.orders = None;
        }
    }

    /// Tells all of them.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn order(&mut self, order: Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        for member in &mut self.members {
            if let Some(orders) = &mut member.orders {
                orders
                    .write_all(&line)
                    .context("a generator process is gone")?;
            }
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // One that is gone needs no more, and one that is paused could not end.
        let _ = self.resume();
        self.dismiss();
        for member in &mut self.members {
            reap(&mut member.child);
        }
    }
}

fn forward(number: usize, stdout: impl BufRead, sender: &Sender<(usize, Option<Notice>)>) {
    for line in stdout.lines() {
        let notice = match line {
            Ok(line) => serde_json::from_str(&line).unwrap_or_else(|error| {
                Notice::Failed(format!("a generator said {line:?}: {error}"))
            }),
            Err(_) => break,
        };
        let last = matches!(
            notice,
            Notice::Done(_)
                | Notice::Held { .. }
                | Notice::Churned(_)
                | Notice::Published(_)
                | Notice::Consumed(_)
                | Notice::Failed(_)
        );
        if sender.send((number, Some(notice))).is_err() || last {
            return;
        }
    }
    // The receiver may be gone already: then nobody asks.
    let _ = sender.send((number, None));
}

/// Waits for a process that has been told to end, and ends it if it does not.
fn reap(child: &mut Child) {
    for _ in 0..100 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Both fail only if it is gone, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

fn again(subcommand: &str) -> anyhow::Result<Command> {
    let this = std::env::current_exe().context("finding this binary")?;
    let mut command = Command::new(this);
    // A group of its own: Ctrl-C reaches the main process only, which then ends the others in order.
    command
        .arg(subcommand)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0);
    Ok(command)
}

/// A listener in a process of its own that accepts and does nothing else: the kernel's floor.
pub struct BareListener {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl BareListener {
    /// Starts it.
    ///
    /// # Errors
    /// The process cannot be started or does not say its port.
    pub fn start() -> anyhow::Result<Self> {
        let mut child = again("accept")?
            .spawn()
            .context("starting the bare listener")?;
        let mut line = String::new();
        let read = child
            .stdout
            .take()
            .map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let port = line.trim().parse().ok();
        let mut this = Self {
            child,
            port: port.unwrap_or(0),
        };
        if read.is_none() || port.is_none() {
            reap(&mut this.child);
            bail!("the bare listener did not say its port, but {line:?}");
        }
        Ok(this)
    }
}

impl Drop for BareListener {
    fn drop(&mut self) {
        self.child.stdin = None;
        reap(&mut self.child);
    }
}
