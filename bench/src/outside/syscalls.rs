//! How many system calls the gateway makes: `perf stat` on a tracepoint, which stops nobody, unlike strace. Counting costs
//! something all the same, so it has a stretch of its own, apart from what is measured.

use std::io::Read;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::cli::GeneratorArgs;
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Load, Order, Share};
use crate::metrics::Metrics;
use crate::run::{Interrupted, Run};
use crate::view::Lines;

const ALL: &str = "raw_syscalls:sys_enter";
const RING: &str = "syscalls:sys_enter_io_uring_enter";
const POSITIONS_IN: &str = "longhaul_positions_in_total";
const POSITIONS_OUT: &str = "longhaul_positions_out_total";
/// From the start of the load to the counting.
const WARM_UP: Duration = Duration::from_secs(1);
/// For how long is counted.
const WINDOW_SECONDS: u64 = 2;
/// How long the load may go on, before it is told to stop.
const LOAD_SECONDS: f64 = 12.0;
/// How long perf may take to begin and to end.
const PERF_TIMEOUT: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(50);

/// What came of counting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SystemCalls {
    /// They were counted.
    Counted(Calls),
    /// They could not be.
    Unknown {
        /// Why.
        not_available: String,
    },
}

/// System calls of the gateway, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Calls {
    /// For so long.
    pub seconds: f64,
    /// All of them.
    pub calls: u64,
    /// `io_uring_enter` among them.
    pub io_uring_enters: u64,
    /// All of them, a second.
    pub calls_per_second: f64,
    /// All of them for each update that vehicles sent, if there was a load.
    pub calls_per_inbound: Option<f64>,
    /// The same, for each update that dashboards were sent.
    pub calls_per_delivery: Option<f64>,
}

impl SystemCalls {
    /// Of a gateway under `run`, which is done once more for this, for some seconds.
    pub fn under(
        run: &Run,
        gateway: &mut Gateway,
        args: &GeneratorArgs,
        interrupted: &Interrupted,
    ) -> Self {
        eprintln!("counting system calls, with some seconds of the same load");
        Self::of(under(run, gateway, args, interrupted))
    }

    /// Of a gateway that is left as it is meanwhile.
    pub fn at_rest(pid: Option<u32>) -> Self {
        Self::of(at_rest(pid))
    }

    fn of(counted: anyhow::Result<Calls>) -> Self {
        match counted {
            Ok(calls) => Self::Counted(calls),
            Err(error) => Self::Unknown {
                not_available: format!("{error:#}"),
            },
        }
    }

    /// For people, in one line.
    pub fn line(&self) -> String {
        let calls = match self {
            Self::Counted(calls) => calls,
            Self::Unknown { not_available } => return format!("not available: {not_available}"),
        };
        let each = |count: Option<f64>, what: &str| {
            count.map_or_else(String::new, |count| format!(", {count:.3} per {what}"))
        };
        format!(
            "{:.0}/s ({} of {} io_uring_enter){}{}",
            calls.calls_per_second,
            calls.io_uring_enters,
            calls.calls,
            each(calls.calls_per_inbound, "inbound"),
            each(calls.calls_per_delivery, "delivery"),
        )
    }
}

fn at_rest(pid: Option<u32>) -> anyhow::Result<Calls> {
    let mut perf = Perf::start(pid.context("the gateway's process is not known (--pid)")?)?;
    while !perf.has_ended()? {
        std::thread::sleep(LOOK);
    }
    perf.calls()
}

fn under(
    run: &Run,
    gateway: &mut Gateway,
    args: &GeneratorArgs,
    interrupted: &Interrupted,
) -> anyhow::Result<Calls> {
    let pid = gateway
        .pid
        .context("the gateway's process is not known (--pid)")?;
    let control = gateway
        .control
        .context("it is not known where the gateway's metrics are (--control)")?;
    let run = Run {
        load: long_enough(&run.load),
        ..run.clone()
    };
    let share = Share::vehicles_and(0..run.audience.dashboards());
    let mut view = Lines::new();
    let desk = Desk::open(&run, share, gateway, args, &mut view, interrupted)?;
    let mut desk = desk.context("ended by the user")?;
    desk.start()?;
    desk.attend(WARM_UP)?;
    let (began, before) = (Instant::now(), Metrics::scrape(control)?);
    let mut perf = Perf::start(pid)?;
    while !perf.has_ended()? {
        desk.attend(LOOK)?;
        if !desk.is_on() {
            bail!("the load ended while system calls were counted");
        }
    }
    let (took, after) = (began.elapsed(), Metrics::scrape(control)?);
    desk.order(Order::Stop)?;
    desk.finish()?;
    let per_second =
        |metric: &str| (after.value(metric) - before.value(metric)) / took.as_secs_f64();
    let calls = perf.calls()?;
    let each = |per_second: f64| (per_second > 0.0).then(|| calls.calls_per_second / per_second);
    Ok(Calls {
        calls_per_inbound: each(per_second(POSITIONS_IN)),
        calls_per_delivery: each(per_second(POSITIONS_OUT)),
        ..calls
    })
}

/// The same load, for as long as counting may take: it is told to stop then.
fn long_enough(load: &Load) -> Load {
    match load.clone() {
        Load::Fanout {
            vehicles,
            rate,
            seconds,
        } => Load::Fanout {
            vehicles,
            rate,
            seconds: seconds.max(LOAD_SECONDS),
        },
        other @ (Load::Replay { .. } | Load::Day(_)) => other,
    }
}

/// A running `perf stat`. Dropping it ends it.
struct Perf {
    child: Child,
    said: ChildStderr,
    began: Instant,
}

impl Perf {
    fn start(pid: u32) -> anyhow::Result<Self> {
        let mut child = Command::new("perf")
            .env("LC_ALL", "C")
            .args(["stat", "-x", ",", "-e", ALL, "-e", RING])
            .args(["-p", &pid.to_string()])
            .args(["--", "sleep", &WINDOW_SECONDS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting perf (Debian: apt-get install linux-perf)")?;
        let said = child.stderr.take().context("perf says nothing")?;
        Ok(Self {
            child,
            said,
            began: Instant::now(),
        })
    }

    fn has_ended(&mut self) -> anyhow::Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(true);
        }
        if self.began.elapsed() > PERF_TIMEOUT {
            bail!("perf does not end");
        }
        Ok(false)
    }

    /// What it counted, once it has ended.
    fn calls(mut self) -> anyhow::Result<Calls> {
        let mut said = String::new();
        self.said.read_to_string(&mut said)?;
        parse(&said, WINDOW_SECONDS as f64)
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        // Both fail only if it is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `perf stat -x ,` writes: one line for each event, its count first, its name third.
fn parse(said: &str, seconds: f64) -> anyhow::Result<Calls> {
    let count = |event: &str| -> anyhow::Result<u64> {
        let fields = said
            .lines()
            .map(|line| line.split(',').collect::<Vec<_>>())
            .find(|fields| fields.get(2) == Some(&event));
        match fields.as_ref().map(|fields| fields[0]) {
            // No thread of the process ran at all.
            Some("<not counted>") => Ok(0),
            Some(count) => count
                .parse()
                .with_context(|| format!("perf cannot count {event}: {count}")),
            None => bail!("perf cannot count {event}: {}", reason(said)),
        }
    };
    let calls = count(ALL)?;
    Ok(Calls {
        seconds,
        calls,
        io_uring_enters: count(RING)?,
        calls_per_second: calls as f64 / seconds,
        ..Calls::default()
    })
}

/// The first thing that perf says which is no heading.
fn reason(said: &str) -> &str {
    said.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && *line != "Error:")
        .unwrap_or("it says nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfs_counts_are_read() {
        let said = "\
41212,,raw_syscalls:sys_enter,1990311206,100.00,,
3001,,syscalls:sys_enter_io_uring_enter,1990290822,100.00,,
";
        let calls = parse(said, 2.0).unwrap();
        assert_eq!((calls.calls, calls.io_uring_enters), (41_212, 3_001));
        assert_eq!(calls.calls_per_second, 20_606.0);
        let line = SystemCalls::Counted(Calls {
            calls_per_inbound: Some(0.5),
            ..calls
        })
        .line();
        assert_eq!(
            line,
            "20606/s (3001 of 41212 io_uring_enter), 0.500 per inbound"
        );
        let idle = said.replace("3001", "<not counted>");
        assert_eq!(parse(&idle, 2.0).unwrap().io_uring_enters, 0);
    }

    #[test]
    fn why_perf_cannot_count_is_said() {
        let refused = "\
Error:
Access to performance monitoring and observability operations is limited.
Consider adjusting /proc/sys/kernel/perf_event_paranoid setting to open
";
        for (said, says) in [
            (
                "<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n",
                "<not supported>",
            ),
            (refused, "Access to performance monitoring"),
            (
                "event syntax error: 'raw_syscalls:sys_enter'\n",
                "event syntax error",
            ),
            ("", "it says nothing"),
        ] {
            let error = SystemCalls::of(parse(said, 2.0)).line();
            assert!(
                error.starts_with("not available: ") && error.contains(says),
                "{error}"
            );
        }
        assert!(SystemCalls::at_rest(None).line().contains("--pid"));
    }

    #[test]
    fn the_load_goes_on_for_as_long_as_is_counted() {
        let load = |seconds| Load::Fanout {
            vehicles: 10,
            rate: 5,
            seconds,
        };
        for (seconds, expected) in [(0.5, LOAD_SECONDS), (60.0, 60.0)] {
            let Load::Fanout { seconds, .. } = long_enough(&load(seconds)) else {
                panic!("it is another load");
            };
            assert_eq!(seconds, expected);
        }
    }
}
