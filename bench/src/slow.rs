//! `longhaul-bench slow`: dashboards whose machines hang, beside healthy ones that must not notice.
//!
//! The dashboards that hang are in processes of their own, which are really stopped (SIGSTOP): their sockets stay open,
//! the kernel takes what fits their buffers, and nothing reads.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::INTERRUPTED;
use crate::audience::Audience;
use crate::cli::{Slow, duration};
use crate::crew::Crew;
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Done, Job, Load, Notice, Order, Share};
use crate::metrics::Metrics;
use crate::report::conclude;
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::usage;
use crate::view::{Lines, View};

mod report;

use report::{Findings, SlowReport};

/// A generator takes a shorter time than half of this for a hiccup of the machine.
const SHORT_STALL_SECONDS_MIN: f64 = 2.0;
/// How often the gateway's memory and metrics are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long those that hung get to read what waits for them.
const RECOVERY: Duration = Duration::from_secs(3);
/// How long a close frame may take to get through: TCP probes a window that was shut for long only every few seconds.
const FAREWELL_MAX: Duration = Duration::from_secs(20);
const EVICTED: &str = "longhaul_connections_closed_total{cause=\"slow_consumer\"}";

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Slow, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    ensure!(
        args.short_stall == 0.0 || args.short_stall >= SHORT_STALL_SECONDS_MIN,
        "--short-stall must be 0 or at least {SHORT_STALL_SECONDS_MIN}: it could not be told from a busy machine"
    );
    let phases = args.quiet_seconds + args.short_stall + args.stall_seconds;
    // The load is told to stop when all phases are over; this is only the most that it could take.
    let seconds = phases + 60.0 + FAREWELL_MAX.as_secs_f64();
    Synthetic::new(args.vehicles, args.rate, seconds)?;
    let mut audience = Audience::new(
        args.vehicles,
        args.healthy,
        args.watch,
        0,
        args.generator.seed,
    );
    let stalled = std::iter::repeat_n(args.stalled_watch, args.stalled as usize);
    audience.watches.extend(stalled);
    let load = Run {
        command: "slow",
        parameters: json!({
            "stalled": args.stalled, "healthy": args.healthy, "vehicles": args.vehicles,
            "rate": args.rate, "watch": args.watch.to_string(),
            "stalled_watch": args.stalled_watch.to_string(),
            "stalled_min_interval_ms": args.stalled_min_interval_ms,
            "stalled_receive_buffer_bytes": args.stalled_receive_buffer,
            "quiet_seconds": args.quiet_seconds, "short_stall": args.short_stall,
            "stall_seconds": args.stall_seconds, "seed": args.generator.seed,
        }),
        load: Load::Fanout {
            vehicles: args.vehicles,
            rate: args.rate,
            seconds,
        },
        audience,
    };
    let mut gateway = run::gateway(
        &args.gateway,
        load.connections(),
        Some(run::ALL_AT_ONCE.to_owned()),
    )?;
    gateway.control = args.control.or_known(gateway.control);
    let Some(findings) = measure(args, &load, &mut gateway, interrupted)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let report = SlowReport::new(load.parameters.clone(), args.stalled, findings)?;
    conclude(&report, &args.result)
}

fn measure(
    args: &Slow,
    load: &Run,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Option<Findings>> {
    let healthy = args.healthy as usize;
    let mut view = Lines::new();
    let interval = view.interval();
    let share = Share::vehicles_and(0..healthy);
    let Some(mut desk) = Desk::open(
        load,
        share,
        gateway,
        &args.generator,
        &mut view,
        interrupted,
    )?
    else {
        return Ok(None);
    };
    let share = Share {
        vehicles: false,
        dashboards: healthy..load.audience.dashboards(),
        min_interval_ms: args.stalled_min_interval_ms,
        receive_buffer_bytes: Some(args.stalled_receive_buffer),
    };
    let jobs = load.jobs(desk.gateway, &args.generator, &share, interval);
    let mut hanging = Hanging::start(&jobs)?;
    hanging.await_ready(interrupted)?;
    let epoch = desk.start()?;
    hanging.crew.order(Order::Start(epoch))?;

    let mut watch = MemoryWatch::new(&desk);
    eprintln!("everybody reads");
    watch.attend(&mut desk, &mut hanging, duration(args.quiet_seconds))?;
    watch.baseline(&desk);
    if args.short_stall > 0.0 {
        eprintln!(
            "{} dashboards hang for {} s",
            args.stalled, args.short_stall
        );
        desk.order(Order::Phase)?;
        hanging.crew.pause()?;
        watch.attend(&mut desk, &mut hanging, duration(args.short_stall))?;
        hanging.crew.resume()?;
        desk.order(Order::Phase)?;
        watch.attend(&mut desk, &mut hanging, RECOVERY)?;
    }
    eprintln!("{} dashboards hang", args.stalled);
    desk.order(Order::Phase)?;
    hanging.crew.pause()?;
    let eviction = evict(args, &mut desk, &mut hanging, &mut watch)?;
    hanging.crew.resume()?;
    desk.order(Order::Phase)?;
    recover(&mut desk, &mut hanging, eviction)?;
    let rss_after = watch.now(&desk);
    desk.order(Order::Stop)?;
    let (healthy, done) = desk.finish()?;
    let stalled = hanging.dismiss()?;
    Ok(Some(Findings {
        healthy,
        phases: done.into_iter().map(|part| part.phases).collect(),
        short_stall: (args.short_stall > 0.0).then(|| duration(args.short_stall)),
        stalled,
        eviction,
        rss_before: watch.before,
        rss_max: watch.max,
        rss_after,
    }))
}

/// What the gateway's metrics said while the dashboards hung.
#[derive(Clone, Copy, Debug, Default)]
struct Eviction {
    /// Connections closed as slow consumers; unknown without a control listener.
    evicted: Option<u64>,
    /// From the stop to the first of them, to a quarter of a second.
    first_seconds: Option<f64>,
    /// To the last of them, if all were.
    all_seconds: Option<f64>,
}

/// Waits until the gateway has thrown out all that hang, or for as long as the arguments say.
fn evict(
    args: &Slow,
    desk: &mut Desk<'_>,
    hanging: &mut Hanging,
    watch: &mut MemoryWatch,
) -> anyhow::Result<Eviction> {
    let longest = duration(args.stall_seconds);
    let began = Instant::now();
    let Some(control) = desk.gateway.control else {
        watch.attend(desk, hanging, longest)?;
        return Ok(Eviction::default());
    };
    let before = Metrics::scrape(control)?.value(EVICTED);
    let mut eviction = Eviction::default();
    while began.elapsed() < longest && desk.is_on() && eviction.all_seconds.is_none() {
        watch.attend(desk, hanging, LOOK)?;
        let evicted = (Metrics::scrape(control)?.value(EVICTED) - before) as u64;
        let seconds = began.elapsed().as_secs_f64();
        eviction.evicted = Some(evicted);
        if evicted > 0 {
            eviction.first_seconds.get_or_insert(seconds);
        }
        if evicted >= u64::from(args.stalled) {
            eviction.all_seconds = Some(seconds);
        }
    }
    Ok(eviction)
}

/// Gives those that hung time to see what became of them: until all of them saw their connection end, if all should.
fn recover(desk: &mut Desk<'_>, hanging: &mut Hanging, eviction: Eviction) -> anyhow::Result<()> {
    desk.attend(RECOVERY)?;
    let began = Instant::now();
    while eviction.all_seconds.is_some()
        && hanging.done.len() < hanging.crew.len()
        && began.elapsed() < FAREWELL_MAX
        && desk.is_on()
    {
        desk.attend(LOOK)?;
        hanging.hear(Duration::ZERO)?;
    }
    Ok(())
}

/// The gateway's memory: heap and stacks, without mapped files.
struct MemoryWatch {
    before: Option<u64>,
    max: Option<u64>,
}

impl MemoryWatch {
    fn new(desk: &Desk<'_>) -> Self {
        let mut watch = Self {
            before: None,
            max: None,
        };
        watch.max = watch.now(desk);
        watch
    }

    fn now(&self, desk: &Desk<'_>) -> Option<u64> {
        let pid = desk.gateway.pid?;
        Some(usage::resident(pid).ok()?.anonymous)
    }

    /// What follows is compared with now.
    fn baseline(&mut self, desk: &Desk<'_>) {
        self.before = self.now(desk);
        self.max = self.before;
    }

    /// Attends to the load for this long, and looks at the memory meanwhile.
    fn attend(
        &mut self,
        desk: &mut Desk<'_>,
        hanging: &mut Hanging,
        time: Duration,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until && desk.is_on() {
            desk.attend(LOOK.min(until.saturating_duration_since(Instant::now())))?;
            self.max = self.max.max(self.now(desk));
            hanging.hear(Duration::ZERO)?;
        }
        Ok(())
    }
}

/// The processes whose dashboards hang.
struct Hanging {
    crew: Crew,
    ready: usize,
    done: Vec<Done>,
}

impl Hanging {
    fn start(jobs: &[Job]) -> anyhow::Result<Self> {
        Ok(Self {
            crew: Crew::start(jobs)?,
            ready: 0,
            done: Vec::new(),
        })
    }

    /// Takes in what they said, waiting for the first at most this long.
    fn hear(&mut self, mut timeout: Duration) -> anyhow::Result<()> {
        while self.done.len() < self.crew.len()
            && let Some((_, notice)) = self.crew.notice(timeout)?
        {
            timeout = Duration::ZERO;
            match notice {
                Notice::Ready(_) => self.ready += 1,
                Notice::Done(done) => self.done.push(*done),
                _ => {}
            }
        }
        Ok(())
    }

    fn await_ready(&mut self, interrupted: &Interrupted) -> anyhow::Result<()> {
        while self.ready < self.crew.len() {
            self.hear(LOOK)?;
            run::check(interrupted)?;
        }
        Ok(())
    }

    /// Ends them, some of which may have ended already: what each found.
    fn dismiss(mut self) -> anyhow::Result<Vec<Done>> {
        self.crew.dismiss();
        while self.done.len() < self.crew.len() {
            self.hear(LOOK)?;
        }
        Ok(self.done)
    }
}
