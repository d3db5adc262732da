//! `longhaul-bench calibrate`: what one of each thing costs on this machine, by small runs of the other subcommands. `plan`
//! multiplies it.
//!
//! [`fit`] is the arithmetic, [`measure`] the runs.

mod fit;
mod measure;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use crate::INTERRUPTED;
use crate::capacity::coefficients::{Coefficient, Coefficients, Key};
use crate::cli::Calibrate;
use crate::figures;
use crate::out::out;
use crate::position::PositionFrame;
use crate::report::write_json;
use crate::run::Interrupted;
use fit::two_costs;
use measure::{Held, Measured, Runs, SHARDS};

/// The result of `calibrate`.
#[derive(Debug, Serialize)]
struct CalibrateReport {
    command: &'static str,
    parameters: Value,
    coefficients: Coefficients,
    /// What they were computed from.
    measured: Measured,
}

/// Runs the subcommand.
///
/// # Errors
/// A gateway or a generator that fails, a run that went wrong, or the user gave up.
pub fn run(args: &Calibrate, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    let runs = Runs::new(args, interrupted);
    let Some(measured) = runs.measure()? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let report = CalibrateReport {
        command: "calibrate",
        parameters: json!({"connections": runs.connections, "quick": args.quick, "tls": runs.tls}),
        coefficients: coefficients(&measured)?,
        measured,
    };
    report.print();
    write_json(&args.json, &report)?;
    Ok(ExitCode::SUCCESS)
}

impl CalibrateReport {
    fn print(&self) {
        out!("\ncoefficients");
        for key in Key::ALL {
            if let Some(Coefficient { value, unit, from }) = self.coefficients.get(key) {
                out!(
                    "  {:<30} {:>12} {unit:<6} {from}",
                    key.name(),
                    figures::shown(*value)
                );
            }
        }
        for remark in &self.measured.remarks {
            out!("  ! {remark}");
        }
    }
}

/// What was measured, divided.
fn coefficients(measured: &Measured) -> anyhow::Result<Coefficients> {
    let mut found = BTreeMap::new();
    let mut note = |key: Key, value: f64, from: String| {
        let unit = key.unit().to_owned();
        found.insert(key, Coefficient { value, unit, from });
    };
    let Measured {
        one_shard,
        more_shards,
        shards,
        vehicles,
        dashboards,
        dashboards_wide,
        pinged,
        ..
    } = measured;

    let per_shard = ((more_shards - one_shard) / (*shards as f64 - 1.0)).max(0.0);
    note(
        Key::GatewayBytesPerShard,
        per_shard,
        format!("resident, {shards} shards less 1, without connections"),
    );
    note(
        Key::GatewayBytes,
        (vehicles.gateway_bytes_before - per_shard).max(0.0),
        "resident after a first connection, without the shard".to_owned(),
    );
    let idle = |held: &Held| format!("idle, {} {}", held.connections, held.what);
    note(
        Key::GatewayBytesPerVehicle,
        vehicles.gateway_bytes / vehicles.connections,
        idle(vehicles),
    );
    let narrow = dashboards.gateway_bytes / dashboards.connections;
    let wide = dashboards_wide.gateway_bytes / dashboards_wide.connections;
    let further = dashboards_wide.watch - dashboards.watch;
    let per_watched = ((wide - narrow) / further).clamp(0.0, narrow / dashboards.watch);
    note(
        Key::GatewayBytesPerWatched,
        per_watched,
        format!("{}, less {}", idle(dashboards_wide), dashboards.what),
    );
    note(
        Key::GatewayBytesPerDashboard,
        narrow - per_watched * dashboards.watch,
        format!("{}, less their filters", idle(dashboards)),
    );
    note(
        Key::KernelBytesPerConnection,
        measured.kernel_bytes,
        "idle, the middle of four runs: half of a loopback pair, and what the gateway's end takes over a bare one"
            .to_owned(),
    );
    note(
        Key::CpuUsPerConnect,
        vehicles.cpu_us_per_connect,
        idle(vehicles),
    );

    let [slow, fast] = measured.receiving;
    let awake = SHARDS as f64;
    let (per_shard_second, per_inbound) = two_costs([
        (awake, slow.inbound, slow.cpu_us),
        (awake, fast.inbound, fast.cpu_us),
    ]);
    let received = format!(
        "fanout, {:.0} and {:.0} updates a second to nobody, {SHARDS} shards",
        slow.inbound, fast.inbound
    );
    note(Key::CpuUsPerShardSecond, per_shard_second, received.clone());
    note(Key::CpuUsPerInbound, per_inbound, received);
    // One shard, which the pings keep awake.
    let per_ping = (pinged.cpu_us - per_shard_second) / pinged.pings.max(1.0);
    note(
        Key::CpuUsPerHeartbeat,
        per_ping.max(0.0),
        format!(
            "idle, {} vehicles, {:.0} pings a second, less a shard that is awake",
            pinged.connections, pinged.pings
        ),
    );
    let [few, many] = measured.sending;
    let rest = |run: fit::Rates| {
        (run.cpu_us - awake * per_shard_second - run.inbound * per_inbound).max(0.0)
    };
    let (per_frame, per_delivery) = two_costs([
        (few.frames, few.deliveries, rest(few)),
        (many.frames, many.deliveries, rest(many)),
    ]);
    let fullness = |run: fit::Rates| run.deliveries / run.frames.max(1.0);
    let sent = format!(
        "fanout, frames of {:.1} and of {:.1} updates, {SHARDS} shards",
        fullness(few),
        fullness(many)
    );
    note(Key::CpuUsPerFrame, per_frame, sent.clone());
    let noise = if per_delivery > 0.0 {
        ""
    } else {
        "; too little to be told from noise"
    };
    note(
        Key::CpuUsPerDelivery,
        per_delivery,
        format!("{sent}{noise}"),
    );
    let (frame, update) = two_costs([
        (few.frames, few.deliveries, few.bytes),
        (many.frames, many.deliveries, many.bytes),
    ]);
    note(Key::WireBytesPerFrame, frame, sent.clone());
    note(Key::WireBytesPerDelivery, update, sent);
    let bytes = PositionFrame::new(true)?.bytes();
    note(
        Key::WireBytesPerInbound,
        bytes as f64,
        "a Position as the generator sends it".to_owned(),
    );
    if let Some((bytes, cpu_us)) = measured.tls {
        note(
            Key::TlsBytesPerConnection,
            bytes.max(0.0),
            "tls, idle vehicles".to_owned(),
        );
        note(
            Key::TlsCpuUsPerHandshake,
            cpu_us,
            "tls, full handshakes, ECDSA P-256".to_owned(),
        );
    }
    Coefficients::new(found)
}
