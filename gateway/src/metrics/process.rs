//! CPU, memory and descriptors of the process, under the names that every Prometheus client uses, read from `/proc` when
//! scraped. What cannot be read is left out.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::thread::gettid;

use super::encode_one;

/// What the kernel knows about this process.
#[derive(Debug, Default)]
pub struct ProcessMetrics {
    /// Threads with a descriptor table of their own, by thread id: `/proc/self/fd` is the main thread's only.
    descriptor_tables: Mutex<Vec<i32>>,
}

impl ProcessMetrics {
    /// Says that the calling thread has a descriptor table of its own (`unshare(CLONE_FILES)`), so that
    /// `process_open_fds` counts it too. Call it once per such thread.
    pub fn own_descriptor_table(&self) {
        let mut tables = self
            .descriptor_tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tables.push(gettid().as_raw_nonzero().get());
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder) -> std::fmt::Result {
        if let Some(stat) = Stat::read() {
            encode_one(
                encoder,
                "process_cpu_seconds",
                "User and system CPU time",
                &ConstCounter::new(stat.cpu_seconds),
            )?;
            let resident = ConstGauge::new(stat.resident_bytes);
            encode_one(
                encoder,
                "process_resident_memory_bytes",
                "Resident memory",
                &resident,
            )?;
            encode_one(
                encoder,
                "process_threads",
                "Threads",
                &ConstGauge::new(stat.threads),
            )?;
            if let Some(boot) = boot_unix() {
                let started = ConstGauge::new(boot + stat.started_after_boot_seconds);
                let help = "When the process started, in seconds since the Unix epoch";
                encode_one(encoder, "process_start_time_seconds", help, &started)?;
            }
        }
        if let Some(open) = self.open_descriptors() {
            let help = "Open descriptors, over the descriptor tables of all shards";
            encode_one(encoder, "process_open_fds", help, &ConstGauge::new(open))?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let help = "Most descriptors that one descriptor table may hold";
            encode_one(encoder, "process_max_fds", help, &ConstGauge::new(most))?;
        }
        Ok(())
    }

    fn open_descriptors(&self) -> Option<u64> {
        let tables = self
            .descriptor_tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_main = count_descriptors(Path::new("/proc/self/fd"))?;
        let of_shards = tables.iter().filter_map(|thread| {
            count_descriptors(Path::new(&format!("/proc/self/task/{thread}/fd")))
        });
        Some(of_main + of_shards.sum::<u64>())
    }
}

/// Since Linux 6.2 the folder's size is the count; a million entries are not listed to count them. Before, it is 0.
fn count_descriptors(folder: &Path) -> Option<u64> {
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}

/// The fields of `/proc/self/stat` (proc_pid_stat(5)) that matter here.
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    started_after_boot_seconds: f64,
    resident_bytes: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(
            &fs::read_to_string("/proc/self/stat").ok()?,
            rustix::param::clock_ticks_per_second(),
            rustix::param::page_size() as u64,
        )
    }

    fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        // The second field is the command in parentheses, which may hold spaces and parentheses itself.
        let (_, after_command) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = after_command.split(' ').collect();
        // Fields are numbered from 1 in the manual page, and the third is the first one here.
        let field = |number: usize| fields.get(number - 3)?.trim_end().parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
        Some(Self {
            cpu_seconds: seconds(field(14)? + field(15)?),
            threads: field(20)?,
            started_after_boot_seconds: seconds(field(22)?),
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

/// When the machine booted: seconds since the Unix epoch.
fn boot_unix() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn stat_is_read_by_the_manual_pages_numbers() {
        let line = "812 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 150 13 14 20 0 42 0 1000 4096000 55 18446744073709551615 1\n";
        let stat = Stat::parse(line, 100, 4096).expect("it is complete");
        assert_eq!(stat.cpu_seconds, 4.0);
        assert_eq!(stat.threads, 42);
        assert_eq!(stat.started_after_boot_seconds, 10.0);
        assert_eq!(stat.resident_bytes, 55 * 4096);
        assert!(Stat::parse("812 (x) S 1 2", 100, 4096).is_none());
        assert!(Stat::parse("", 100, 4096).is_none());
    }

    #[test]
    fn a_shards_own_descriptors_are_counted() {
        let metrics = Arc::new(ProcessMetrics::default());
        let alone = metrics.open_descriptors().expect("/proc is there");
        metrics.own_descriptor_table();
        let _more: Vec<File> = (0..100)
            .map(|_| File::open("/dev/null").expect("a file"))
            .collect();
        assert!(metrics.open_descriptors().expect("/proc is there") >= alone + 100);
    }
}
