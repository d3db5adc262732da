//! How often the threads of a process were taken off their cores.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// Context switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switched {
    /// The thread waited for something.
    pub voluntary: u64,
    /// Another one was to run.
    pub involuntary: u64,
}

/// The context switches of each thread of a process so far, by thread id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches(BTreeMap<u32, Switched>);

impl Switches {
    /// Those of a process.
    ///
    /// # Errors
    /// No such process, or its threads cannot be read.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        Self::below(Path::new(&format!("/proc/{pid}/task")))
    }

    fn below(tasks: &Path) -> anyhow::Result<Self> {
        let shown = tasks.display();
        let threads = fs::read_dir(tasks)
            .with_context(|| format!("reading {shown}"))?
            .filter_map(|task| {
                let task = task.ok()?;
                let thread = task.file_name().to_str()?.parse().ok()?;
                // One that ends meanwhile is not counted.
                let status = fs::read_to_string(task.path().join("status")).ok()?;
                Some((thread, parse(&status)?))
            });
        let threads: BTreeMap<u32, Switched> = threads.collect();
        ensure!(
            !threads.is_empty(),
            "no thread in {shown} says how often it was switched"
        );
        Ok(Self(threads))
    }

    /// How many there are since `before`, of the threads that there are now; those of a thread that has ended are not
    /// known any more.
    pub fn since(&self, before: &Self) -> Switched {
        let mut sum = Switched::default();
        for (thread, now) in &self.0 {
            let then = before.0.get(thread).copied().unwrap_or_default();
            sum.voluntary += now.voluntary.saturating_sub(then.voluntary);
            sum.involuntary += now.involuntary.saturating_sub(then.involuntary);
        }
        sum
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.0.len()
    }
}

/// The last two lines of `/proc/PID/task/TID/status`.
fn parse(status: &str) -> Option<Switched> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some(Switched {
        voluntary: field("voluntary_ctxt_switches:")?,
        involuntary: field("nonvoluntary_ctxt_switches:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Name:\tshard-0
Umask:\t0022
State:\tS (sleeping)
Tgid:\t4711
Pid:\t4713
VmRSS:\t   31408 kB
Cpus_allowed_list:\t0-1
x86_Thread_features:\t
voluntary_ctxt_switches:\t150
nonvoluntary_ctxt_switches:\t27
";

    #[test]
    fn a_threads_switches_are_read() {
        let expected = Switched {
            voluntary: 150,
            involuntary: 27,
        };
        assert_eq!(parse(STATUS), Some(expected));
        assert_eq!(parse("Name:\tx\nvoluntary_ctxt_switches:\t1\n"), None);
        assert_eq!(parse(&STATUS.replace("150", "many")), None);
    }

    #[test]
    fn what_each_thread_did_is_added() {
        let of = |threads: &[(u32, u64, u64)]| {
            let switched = |&(thread, voluntary, involuntary)| {
                let switched = Switched {
                    voluntary,
                    involuntary,
                };
                (thread, switched)
            };
            Switches(threads.iter().map(switched).collect())
        };
        // 1 goes on, 2 ends, 3 is new, and 4 is another thread of the same number.
        let before = of(&[(1, 100, 10), (2, 50, 5), (4, 900, 900)]);
        let after = of(&[(1, 130, 11), (3, 7, 2), (4, 3, 0)]);
        let expected = Switched {
            voluntary: 37,
            involuntary: 3,
        };
        assert_eq!(after.since(&before), expected);
    }

    #[test]
    fn all_threads_of_this_process_are_counted() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || receiver.recv());
        let before = Switches::of(std::process::id()).unwrap();
        assert!(before.threads() >= 2);
        std::thread::sleep(std::time::Duration::from_millis(5));
        let after = Switches::of(std::process::id()).unwrap();
        assert!(after.since(&before).voluntary >= 1);
        drop(sender);
        assert!(thread.join().unwrap().is_err());
        assert!(Switches::below(Path::new("/proc/none")).is_err());
    }
}
