//! A server that was started here: its log, whether it still runs, and its end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);
const LOG: &str = "server.log";
/// How much of the log is shown when it does not start.
const LOG_BYTES_SHOWN: usize = 2_000;

/// A running server. Dropping it ends it.
pub struct Process {
    /// What it is, for messages.
    what: &'static str,
    child: Child,
    /// Lives as long as the process: its configuration, log and whatever else it keeps there.
    directory: TempDir,
}

impl Process {
    /// Starts `command`, which may use files in `directory`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        what: &'static str,
        mut command: Command,
        directory: TempDir,
    ) -> anyhow::Result<Self> {
        let output = File::create(directory.path().join(LOG))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own: Ctrl-C reaches the main process only, which then ends the others in order.
            .process_group(0)
            .spawn()
            .with_context(|| {
                let program = Path::new(command.get_program());
                format!("starting {}", program.display())
            })?;
        Ok(Self {
            what,
            child,
            directory,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `is_ready`.
    ///
    /// # Errors
    /// It ended, or takes too long; the error shows the end of its log.
    pub fn await_ready(&mut self, is_ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended at once ({status}):\n{}",
                    self.what,
                    self.log_tail()
                );
            }
            if is_ready() {
                return Ok(());
            }
            if began.elapsed() > START_TIMEOUT {
                bail!(
                    "{} was not ready after {} s:\n{}",
                    self.what,
                    START_TIMEOUT.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.directory.path().join(LOG)).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_BYTES_SHOWN);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Fails only if it is gone, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > STOP_TIMEOUT {
                eprintln!(
                    "{} did not stop within {} s",
                    self.what,
                    STOP_TIMEOUT.as_secs()
                );
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
