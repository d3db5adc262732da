//! A load second by second: its time line, and the log of its latencies that HdrHistogram's tools read.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::Serialize;

use crate::job::{Progress, add_pairs};
use crate::view::SPAN_MIN_SECONDS;

/// Microseconds in the log's column of maxima become milliseconds; histograms stay in microseconds.
const MAX_DIVISOR: f64 = 1_000.0;
/// Steps of the exported percentiles towards the next half of what is left: HdrHistogram's own default.
const STEPS_PER_HALF: u32 = 5;

/// A second of a load, or nearly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Second {
    /// Since the start of the load, at the end of this one.
    pub seconds: f64,
    /// Updates sent.
    pub inbound_per_second: f64,
    /// Updates that reached dashboards.
    pub delivered_per_second: f64,
    /// Of what was delivered in this second, from due to received; none if there was nothing.
    pub p50_us: Option<u64>,
    /// The same.
    pub p99_us: Option<u64>,
    /// Cores that the gateway used.
    pub gateway_cores: Option<f64>,
    /// The gateway's resident memory.
    pub gateway_rss_bytes: Option<u64>,
}

/// Latencies for other programs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LatencyLog {
    /// Share of deliveries (0 to 1), microseconds within which it came, deliveries up to there.
    pub percentiles: Vec<(f64, u64, u64)>,
    /// One histogram of microseconds a second, in HdrHistogram's interval log format (V2, deflated): each line of it is
    /// one here.
    pub hdr_log: Vec<String>,
}

/// Collects them while a load runs.
#[derive(Debug)]
pub struct Seconds {
    timeline: Vec<Second>,
    window: Histogram<u64>,
    began: Duration,
    inbound: u64,
    delivered: u64,
    cpu: Option<(u64, u64)>,
    log: Vec<u8>,
}

impl Seconds {
    /// Of a load that has not begun.
    ///
    /// # Errors
    /// The histogram cannot be made (never, with these bounds).
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            timeline: Vec::new(),
            window: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            began: Duration::ZERO,
            inbound: 0,
            delivered: 0,
            cpu: None,
            log: Vec::new(),
        })
    }

    /// Latencies of one process, in microseconds, since it last told some.
    pub fn latencies(&mut self, pairs: &[(u64, u64)]) {
        add_pairs(&mut self.window, pairs);
    }

    /// Ends a second. `cpu`: the gateway's CPU time in microseconds, at a monotonic instant in nanoseconds.
    pub fn end(&mut self, progress: &Progress, cpu: Option<(u64, u64)>, rss_bytes: Option<u64>) {
        let span = progress.elapsed.saturating_sub(self.began).as_secs_f64();
        if span < SPAN_MIN_SECONDS {
            return;
        }
        let some = !self.window.is_empty();
        let at = |quantile| some.then(|| self.window.value_at_quantile(quantile));
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
        self.timeline.push(Second {
            seconds: progress.elapsed.as_secs_f64(),
            inbound_per_second: rate(progress.inbound, self.inbound),
            delivered_per_second: rate(progress.counts.delivered, self.delivered),
            p50_us: at(0.5),
            p99_us: at(0.99),
            gateway_cores: self.cpu.zip(cpu).and_then(|((then, before), (now, used))| {
                (now > then).then(|| used.saturating_sub(before) as f64 * 1e3 / (now - then) as f64)
            }),
            gateway_rss_bytes: rss_bytes,
        });
        self.inbound = progress.inbound;
        self.delivered = progress.counts.delivered;
        self.cpu = cpu.or(self.cpu);
        self.write(progress.elapsed);
    }

    /// The gateway's CPU time when the load began, as in [`Self::end`].
    pub fn begin(&mut self, cpu: Option<(u64, u64)>) {
        self.cpu = cpu;
    }

    /// What was collected, with the percentiles of `whole`, the histogram of all latencies.
    pub fn finish(mut self, whole: &Histogram<u64>) -> (Vec<Second>, LatencyLog) {
        // What came since the last second ended.
        self.write(self.began);
        let mut reached = 0;
        let percentiles = whole
            .iter_quantiles(STEPS_PER_HALF)
            .map(|step| {
                reached += step.count_since_last_iteration();
                (
                    step.quantile_iterated_to(),
                    step.value_iterated_to(),
                    reached,
                )
            })
            .collect();
        let log = LatencyLog {
            percentiles,
            hdr_log: String::from_utf8_lossy(&self.log)
                .lines()
                .map(str::to_owned)
                .collect(),
        };
        (self.timeline, log)
    }

    fn write(&mut self, until: Duration) {
        let began = std::mem::replace(&mut self.began, until);
        if self.window.is_empty() {
            return;
        }
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.with_max_value_divisor(MAX_DIVISOR);
        let mut line = Vec::new();
        let written = builder
            .begin_log_with(&mut line, &mut serializer)
            .is_ok_and(|mut writer| {
                let length = until.saturating_sub(began);
                writer
                    .write_histogram(&self.window, began, length, None)
                    .is_ok()
            });
        self.window.reset();
        // Writing to memory cannot fail; a histogram that could not be written would leave out its second.
        if written {
            let header = line
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(0, |at| at + 1);
            let from = if self.log.is_empty() { 0 } else { header };
            self.log.extend_from_slice(&line[from..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Counts;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn progress(ms: u64, inbound: u64) -> Progress {
        Progress {
            elapsed: Duration::from_millis(ms),
            inbound,
            counts: Counts {
                delivered: inbound * 2,
                ..Counts::default()
            },
            ..Progress::default()
        }
    }

    fn collected() -> (Vec<Second>, LatencyLog) {
        let mut seconds = Seconds::new().unwrap();
        seconds.begin(Some((0, 1_000)));
        seconds.latencies(&[(500, 90), (2_000, 10)]);
        seconds.end(
            &progress(1_000, 100),
            Some((1_000_000_000, 251_000)),
            Some(7),
        );
        // The end of a run, a moment after a second: no second of its own.
        seconds.latencies(&[(3_000, 1)]);
        seconds.end(&progress(1_100, 150), None, None);
        seconds.end(&progress(2_000, 200), Some((2_000_000_000, 251_000)), None);
        seconds.latencies(&[(4_000, 1)]);
        let mut whole = Histogram::new_with_bounds(1, 600_000_000, 3).unwrap();
        add_pairs(
            &mut whole,
            &[(500, 90), (2_000, 10), (3_000, 1), (4_000, 1)],
        );
        seconds.finish(&whole)
    }

    #[test]
    fn each_second_has_its_own_figures() {
        let (timeline, _) = collected();
        assert_eq!(timeline.len(), 2);
        let [first, second] = &timeline[..] else {
            unreachable!()
        };
        assert_eq!(
            (first.inbound_per_second, first.delivered_per_second),
            (100.0, 200.0)
        );
        assert_eq!(
            (first.p50_us, first.gateway_rss_bytes),
            (Some(500), Some(7))
        );
        assert_eq!(first.gateway_cores, Some(0.25));
        assert_eq!((second.seconds, second.inbound_per_second), (2.0, 100.0));
        assert_eq!(
            (second.p50_us.map(|us| us / 10), second.gateway_cores),
            (Some(300), Some(0.0))
        );
    }

    #[test]
    fn the_log_is_read_back_by_the_library_with_nothing_missing() {
        let (_, log) = collected();
        let text = log.hdr_log.join("\n") + "\n";
        let intervals: Vec<_> = IntervalLogIterator::new(text.as_bytes())
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        let starts: Vec<_> = intervals
            .iter()
            .map(|i| i.start_timestamp().as_secs())
            .collect();
        assert_eq!(starts, [0, 1, 2]);
        let count: u64 = intervals
            .iter()
            .map(|interval| {
                let bytes = data_encoding::BASE64
                    .decode(interval.encoded_histogram().as_bytes())
                    .unwrap();
                let histogram: Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
                    .deserialize(&mut &bytes[..])
                    .unwrap();
                histogram.len()
            })
            .sum();
        assert_eq!(count, 102);
    }

    #[test]
    fn percentiles_end_with_everything() {
        let (_, log) = collected();
        let (share, us, count) = *log.percentiles.last().unwrap();
        assert_eq!((share, count), (1.0, 102));
        assert!((4_000..4_010).contains(&us));
        assert!(
            log.percentiles
                .is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2)
        );
        // Half of all came within half a millisecond.
        assert!(
            log.percentiles
                .iter()
                .any(|&(share, us, _)| share >= 0.5 && us <= 501)
        );
    }
}
