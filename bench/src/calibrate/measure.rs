//! The runs that `calibrate` makes of the other subcommands.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::fit::Rates;
use crate::audience::Watch;
use crate::cli::{
    Calibrate, Fanout, GatewayArgs, GeneratorArgs, Idle, IdleRole, OutsideArgs, ResultArgs, Tls,
};
use crate::gateway::{Gateway, Spawn};
use crate::idle::{self, IdleReport};
use crate::run::Interrupted;
use crate::{fanout, tls, usage};

/// Of the runs that measure CPU: what shards cost each other is in it.
pub const SHARDS: u16 = 2;
/// Of the gateway that is only started, to see what a shard takes.
const SHARDS_EMPTY: usize = 5;
/// Vehicles in the filters of idle dashboards.
const WATCHES: [u32; 2] = [50, 200];
/// Vehicles of a load.
const VEHICLES: u32 = 2_000;
/// How far runs may be apart in what they say of the kernel's memory.
const STEADY: f64 = 0.2;
/// Milliseconds of silence until a ping, where pings are measured.
const HEARTBEAT_MS: u64 = 1_000;

/// Idle connections.
#[derive(Debug, Serialize)]
pub struct Held {
    pub what: String,
    pub connections: f64,
    /// Vehicles in the filter of each.
    pub watch: f64,
    /// Resident, over the baseline.
    pub gateway_bytes: f64,
    pub gateway_bytes_before: f64,
    /// Of the gateway's end of each.
    pub kernel_bytes: f64,
    pub cpu_us_per_connect: f64,
    /// A second, while idle.
    pub cpu_us: f64,
    /// A second.
    pub pings: f64,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Resident bytes without a connection.
    pub one_shard: f64,
    pub more_shards: f64,
    /// How many that were.
    pub shards: usize,
    /// Of the gateway's end of an idle connection, the middle of what all idle runs say.
    pub kernel_bytes: f64,
    pub vehicles: Held,
    pub dashboards: Held,
    /// The same with wider filters.
    pub dashboards_wide: Held,
    /// With a ping every second.
    pub pinged: Held,
    /// Nobody watches: slow, fast.
    pub receiving: [Rates; 2],
    /// Few updates in each frame, many.
    pub sending: [Rates; 2],
    /// Bytes of an idle connection, CPU time of a handshake in microseconds.
    pub tls: Option<(f64, f64)>,
    /// Why not to believe it.
    pub remarks: Vec<String>,
}

/// Updates a second of the loads.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Nobody watches.
    slow: u32,
    fast: u32,
    /// Dashboards watch.
    sending: u32,
    /// Vehicles in the filters of many dashboards, so that each gets a hundred updates a second.
    narrow: u32,
}

/// What is run.
pub struct Runs<'a> {
    interrupted: &'a Interrupted,
    binary: Option<PathBuf>,
    /// Idle connections, at most.
    pub connections: u32,
    /// Whether TLS is measured too.
    pub tls: bool,
    pace: Pace,
    seconds: f64,
    settle: f64,
}

impl<'a> Runs<'a> {
    /// As the arguments say.
    pub fn new(args: &Calibrate, interrupted: &'a Interrupted) -> Self {
        let pace = |slow, fast, sending| Pace {
            slow,
            fast,
            sending,
            narrow: 100 * VEHICLES / sending,
        };
        let (connections, seconds, settle, pace) = if args.quick {
            (4_000, 2.0, 0.5, pace(5_000, 20_000, 10_000))
        } else {
            (12_000, 10.0, 10.0, pace(5_000, 40_000, 20_000))
        };
        Self {
            interrupted,
            binary: args.gateway.clone(),
            connections: args.connections.unwrap_or(connections),
            tls: !args.quick,
            pace,
            seconds,
            settle,
        }
    }

    /// All runs, in turn. `None`: the user gave up.
    ///
    /// # Errors
    /// A gateway or a generator that fails, or a run that went wrong.
    pub fn measure(&self) -> anyhow::Result<Option<Measured>> {
        let (all, half) = (self.connections, self.connections / 2);
        let (vehicle, dashboard) = (IdleRole::Vehicle, IdleRole::Dashboard);
        let mut remarks = Vec::new();
        let one_shard = self.empty(1)?;
        let more_shards = self.empty(SHARDS_EMPTY)?;
        let vehicles = self.idle(vehicle, all, 0, true, None)?;
        let pinged = self.idle(vehicle, half, 0, false, Some(HEARTBEAT_MS))?;
        let dashboards = self.idle(dashboard, half, WATCHES[0], false, None)?;
        let dashboards_wide = self.idle(dashboard, half, WATCHES[1], false, None)?;
        let mut load = |rate, dashboards, watch| self.load(rate, dashboards, watch, &mut remarks);
        let Pace {
            slow,
            fast,
            sending,
            narrow,
        } = self.pace;
        let Some(slow) = load(slow, 0, Watch::Count(0))? else {
            return Ok(None);
        };
        let Some(fast) = load(fast, 0, Watch::Count(0))? else {
            return Ok(None);
        };
        // As many frames a second both times, about a thousand for each of the few dashboards, and as many updates from
        // vehicles; many times as many in each frame.
        let Some(few) = load(sending, 200, Watch::Count(narrow))? else {
            return Ok(None);
        };
        let Some(many) = load(sending, 20, Watch::Count(VEHICLES / 2))? else {
            return Ok(None);
        };
        let each_end =
            [&vehicles, &pinged, &dashboards, &dashboards_wide].map(|held| held.kernel_bytes);
        let (kernel_bytes, steady) = middle(each_end);
        if !steady {
            remarks.push(
                "the kernel's memory changed for other reasons meanwhile: what a connection takes of it is rough".to_owned(),
            );
        }
        Ok(Some(Measured {
            kernel_bytes,
            one_shard,
            more_shards,
            shards: SHARDS_EMPTY,
            vehicles,
            dashboards,
            dashboards_wide,
            pinged,
            receiving: [slow, fast],
            sending: [few, many],
            tls: if self.tls { Some(self.of_tls()?) } else { None },
            remarks,
        }))
    }

    /// Resident bytes of a gateway that was only started.
    fn empty(&self, shards: usize) -> anyhow::Result<f64> {
        let gateway = Gateway::spawn(&Spawn {
            binary: self.binary.clone(),
            shards,
            config: None,
            tls: false,
            arguments: Vec::new(),
        })?;
        let pid = gateway.pid.context("the gateway was not started here")?;
        Ok(usage::resident(pid)?.total as f64)
    }

    fn idle(
        &self,
        role: IdleRole,
        connections: u32,
        watch: u32,
        bare: bool,
        heartbeat_ms: Option<u64>,
    ) -> anyhow::Result<Held> {
        let what = match role {
            IdleRole::Vehicle => "vehicles".to_owned(),
            IdleRole::Dashboard => format!("dashboards of {watch}"),
        };
        eprintln!("\n{connections} idle {what}");
        let report = idle::measure(
            &Idle {
                rate: 0,
                vehicles: 1,
                dashboards: 0,
                load_seconds: 1.0,
                connections,
                role,
                watch: Watch::Count(watch),
                universe: 10_000,
                bare,
                settle: Some(self.settle),
                seconds: self.seconds.min(5.0),
                quiet_after_ms: 1_000,
                heartbeat_ms,
                gateway: self.gateway(1),
                outside: OutsideArgs::default(),
                seed: 1,
                json: None,
            },
            self.interrupted,
        )?;
        held(&report, what, watch)
    }

    fn load(
        &self,
        rate: u32,
        dashboards: u32,
        watch: Watch,
        remarks: &mut Vec<String>,
    ) -> anyhow::Result<Option<Rates>> {
        let what = format!("{rate} updates a second to {dashboards} dashboards of {watch}");
        eprintln!("\n{what}");
        let args = Fanout {
            vehicles: VEHICLES,
            rate,
            dashboards,
            watch,
            seconds: self.seconds,
            gateway: self.gateway(SHARDS),
            generator: GeneratorArgs::default(),
            outside: OutsideArgs::default(),
            result: ResultArgs {
                json: None,
                no_check: true,
            },
        };
        let Some(report) = fanout::run(&args, self.interrupted)? else {
            return Ok(None);
        };
        if !report.passed {
            remarks.push(format!("{what}: it failed its own checks"));
        }
        if report.generator_limited {
            remarks.push(format!("{what}: the generator was the limit"));
        }
        let percent = report
            .gateway_cpu_percent
            .context("the gateway's CPU time is not known")?;
        let per_second = |count: u64| count as f64 / report.seconds;
        Ok(Some(Rates {
            inbound: per_second(report.inbound),
            frames: per_second(report.frames),
            deliveries: per_second(report.delivered),
            bytes: per_second(report.bytes_out),
            cpu_us: percent * 1e4,
        }))
    }

    fn of_tls(&self) -> anyhow::Result<(f64, f64)> {
        let report = tls::measure(
            &Tls {
                connections: self.connections / 2,
                seconds: self.seconds.min(3.0),
                clients: 8,
                settle: Some(self.settle),
                gateway: self.binary.clone(),
                json: None,
            },
            self.interrupted,
        )?;
        let full = report.handshakes.iter().find(|made| made.kind == "full");
        let full = full.context("no full handshakes were made")?;
        let bytes = report
            .gateway_bytes_of_tls
            .context("the gateway's memory is not known")?;
        Ok((bytes, full.gateway.cpu_us_each))
    }

    fn gateway(&self, shards: u16) -> GatewayArgs {
        GatewayArgs {
            spawn: true,
            url: None,
            key: None,
            pid: None,
            gateway: self.binary.clone(),
            shards: Some(shards),
            tls: false,
            gateway_arg: Vec::new(),
        }
    }
}

fn held(report: &IdleReport, what: String, watch: u32) -> anyhow::Result<Held> {
    ensure!(
        report.failed == 0 && report.dropped == 0,
        "{} of the idle {what} failed and {} were dropped: {}",
        report.failed,
        report.dropped,
        report.reasons.join("; ")
    );
    let connections = report.connections as f64;
    let known = |value: Option<f64>| value.context("the gateway's costs are not known");
    Ok(Held {
        what,
        connections,
        watch: f64::from(watch),
        gateway_bytes: known(report.gateway_rss_bytes_per_connection)? * connections,
        gateway_bytes_before: known(report.gateway_rss_bytes_before.map(|bytes| bytes as f64))?,
        kernel_bytes: gateways_end(
            report.kernel_bytes_per_connection,
            report.kernel_bytes_per_connection_bare,
        ),
        cpu_us_per_connect: known(report.gateway_cpu_us_per_connect)?,
        cpu_us: known(report.gateway_cpu_percent)? * 1e4,
        pings: report.heartbeats_per_second.unwrap_or(0.0),
    })
}

/// The mean of the middle two, and whether all are near each other: runs that something else disturbed are the outer ones.
fn middle(mut of: [f64; 4]) -> (f64, bool) {
    of.sort_by(f64::total_cmp);
    let [least, low, high, most] = of;
    let middle = f64::midpoint(low, high).max(0.0);
    (middle, middle > 0.0 && most - least <= middle * STEADY)
}

/// Both ends of a bare pair are alike; what a connection takes over that is the gateway's. Without a bare pair, half.
fn gateways_end(both: f64, bare: Option<f64>) -> f64 {
    match bare {
        Some(bare) => bare / 2.0 + (both - bare).max(0.0),
        None => both / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbed_runs_are_left_out() {
        let (kept, steady) = middle([10_724.0, 4_116.0, -5_779.0, 4_048.0]);
        assert_eq!((kept, steady), (4_082.0, false));
        let (kept, steady) = middle([4_300.0, 4_100.0, 4_200.0, 4_000.0]);
        assert_eq!((kept, steady), (4_150.0, true));
        assert!(!middle([9_000.0, 4_000.0, 8_000.0, 3_000.0]).1);
        assert_eq!(middle([-1.0; 4]), (0.0, false));
    }

    #[test]
    fn the_gateways_end_is_half_a_pair_and_its_own() {
        assert_eq!(gateways_end(8_400.0, Some(8_000.0)), 4_400.0);
        assert_eq!(gateways_end(7_900.0, Some(8_000.0)), 4_000.0);
        assert_eq!(gateways_end(8_000.0, None), 4_000.0);
    }
}
