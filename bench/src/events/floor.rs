//! What the disk itself costs: a bare loop of append and fdatasync in the folder where the event log is. No log can make
//! anything durable faster, but for sharing an fdatasync among events.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::job::Percentiles;
use crate::report::grouped;

/// What such a loop found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Floor {
    /// Bytes of one append.
    pub bytes: usize,
    /// How many there were.
    pub appends: u64,
    /// The write included.
    pub appends_per_second: f64,
    /// Of fdatasync alone.
    pub fdatasync_us: Percentiles,
}

impl Floor {
    /// Appends `bytes` and waits for the disk, for this `time`. The file is removed.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn measure(folder: &Path, bytes: usize, time: Duration) -> anyhow::Result<Self> {
        let path = folder.join("floor");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let found = Self::append(&mut file, bytes, time);
        std::fs::remove_file(&path)?;
        found
    }

    fn append(file: &mut std::fs::File, bytes: usize, time: Duration) -> anyhow::Result<Self> {
        let record: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
        let mut took_us = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let mut longest = Duration::ZERO;
        let began = Instant::now();
        while began.elapsed() < time {
            file.write_all(&record)?;
            let written = Instant::now();
            file.sync_data()?;
            let took = written.elapsed();
            longest = longest.max(took);
            took_us.saturating_record(took.as_micros() as u64);
        }
        Ok(Self {
            bytes,
            appends: took_us.len(),
            appends_per_second: took_us.len() as f64 / began.elapsed().as_secs_f64(),
            fdatasync_us: Percentiles::of(&took_us, longest.as_nanos() as u64),
        })
    }

    /// For people.
    pub fn line(&self) -> String {
        let ms = |us: u64| us as f64 / 1_000.0;
        let Percentiles { p50, p99, max, .. } = self.fdatasync_us;
        format!(
            "{} appends/s of {} bytes; fdatasync p50 {:.2}  p99 {:.2}  max {:.2} ms",
            grouped(self.appends_per_second as u64),
            grouped(self.bytes as u64),
            ms(p50),
            ms(p99),
            ms(max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let floor = Floor::measure(folder.path(), 200, Duration::from_millis(20)).unwrap();
        assert!(floor.appends > 0 && floor.appends_per_second > 0.0);
        assert!(floor.fdatasync_us.p50 <= floor.fdatasync_us.max);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
