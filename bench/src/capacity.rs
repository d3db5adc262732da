//! `longhaul-bench plan`: how many nodes a fleet takes, and what each of them must have.
//!
//! [`coefficients`] are what was measured, [`region`] multiplies them into a [`model::Plan`], [`tuning`] says what must be set for it, [`print`]
//! shows it. Only this file reads arguments and files.

pub mod coefficients;
mod model;
mod print;
#[cfg(test)]
mod properties;
mod region;
mod tuning;

use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::PlanArgs;
use crate::out;
use crate::report::write_json;
use crate::results::ResultFile;
use coefficients::Coefficients;
use model::{Fleet, NodeKind, Plan};
use tuning::Setting;

/// The result of `plan`.
#[derive(Debug, Serialize)]
struct PlanReport {
    command: &'static str,
    parameters: Value,
    plan: Plan,
    tuning: Vec<Setting>,
    coefficients: Coefficients,
    /// Where the coefficients are from.
    coefficients_of: Value,
}

/// Runs the subcommand.
///
/// # Errors
/// Coefficients that cannot be read, or a fleet that no number of such nodes holds.
pub fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let (coefficients, file) = match &args.from {
        None => Coefficients::built_in()?,
        Some(path) => {
            let file = ResultFile::read(path)?;
            (Coefficients::read(&file)?, file)
        }
    };
    let (fleet, node) = (args.fleet(), args.node());
    let plan = region::plan(&fleet, &node, &coefficients)?;
    let report = PlanReport {
        command: "plan",
        parameters: json!({"fleet": fleet, "node": node}),
        tuning: tuning::of(&plan, &node),
        plan,
        coefficients,
        coefficients_of: file.value["provenance"].clone(),
    };
    out::text(&print::text(&report, &fleet, &node, &file));
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl PlanArgs {
    fn fleet(&self) -> Fleet {
        Fleet {
            vehicles: self.vehicles,
            interval_seconds: self.interval.as_secs_f64(),
            dashboards: self.dashboards,
            watch: self.watch,
            min_interval_seconds: self.min_interval.as_secs_f64(),
            away: self.away,
            session_seconds: self.session.as_secs_f64(),
            regions: self.regions,
            tls: !self.no_tls,
        }
    }

    fn node(&self) -> NodeKind {
        NodeKind {
            cores: self.node_cores,
            memory_bytes: self.node_memory_gib * (1u64 << 30) as f64,
            nic_bits_per_second: self.node_nic_gbit * 1e9,
            headroom: self.headroom,
            spares: self.spares,
        }
    }
}
