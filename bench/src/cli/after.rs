//! What is done with results, and for other sizes than were run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::positive;
use crate::audience::Watch;

/// Beyond, nodes are there to do nothing.
const HEADROOM_MAX: f64 = 0.95;

/// `calibrate`.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The file to write, which `plan --from` takes.
    #[arg(long, value_name = "FILE")]
    pub json: PathBuf,
    /// Idle vehicles to hold, and half as many dashboards [default: 12000,
    /// with --quick 4000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(400..=18_000))]
    pub connections: Option<u32>,
    /// Seconds instead of minutes, without TLS: good enough to see that it works.
    #[arg(long)]
    pub quick: bool,
    /// The gateway binary to start [default: longhaul, beside this binary].
    #[arg(long)]
    pub gateway: Option<PathBuf>,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Vehicles of all regions.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub vehicles: u64,
    /// How often each reports, such as 5s or 500ms.
    #[arg(long, value_parser = time)]
    pub interval: Duration,
    /// Dashboards of all regions.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000_000_000))]
    pub dashboards: u64,
    /// How many vehicles each of them watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// How often a dashboard wants frames at most; 0s: as soon as anything changes.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub min_interval: Duration,
    /// Share of the watched vehicles that connect in other regions, such as 10%.
    #[arg(long, default_value = "0%", value_parser = share)]
    pub away: f64,
    /// How long a connection lasts until its client connects anew.
    #[arg(long, default_value = "1h", value_parser = time)]
    pub session: Duration,
    /// Regions, all alike.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub regions: u32,
    /// Share of each node that stays free, such as 40%.
    #[arg(long, default_value = "40%", value_parser = headroom)]
    pub headroom: f64,
    /// Nodes of each region that may be away at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=1_000))]
    pub spares: u64,
    /// Cores of a node.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub node_cores: u32,
    /// Memory of a node.
    #[arg(long, default_value_t = 64.0, value_parser = positive, value_name = "GIB")]
    pub node_memory_gib: f64,
    /// Network of a node, each way.
    #[arg(long, default_value_t = 10.0, value_parser = positive, value_name = "GBIT")]
    pub node_nic_gbit: f64,
    /// Connections are not TLS.
    #[arg(long)]
    pub no_tls: bool,
    /// Coefficients from `calibrate` [default: built in].
    #[arg(long, value_name = "RESULT.json")]
    pub from: Option<PathBuf>,
    /// Write the plan as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// `report`.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// Results, as the other subcommands write them with --json.
    #[arg(required = true, value_name = "RESULT.json")]
    pub results: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Two results.
    #[arg(num_args = 2, value_names = ["A.json", "B.json"], required_unless_present_any = ["a", "b"])]
    pub results: Vec<PathBuf>,
    /// Repeated runs of the one side.
    #[arg(long, num_args = 1.., value_name = "RESULT.json", requires = "b", conflicts_with = "results")]
    pub a: Vec<PathBuf>,
    /// Repeated runs of the other.
    #[arg(long, num_args = 1.., value_name = "RESULT.json", requires = "a", conflicts_with = "results")]
    pub b: Vec<PathBuf>,
    /// Compare results of different commands or parameters too.
    #[arg(long)]
    pub anyway: bool,
    /// Write the comparison as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl CompareArgs {
    /// The files of both sides.
    pub fn sides(&self) -> (&[PathBuf], &[PathBuf]) {
        match &self.results[..] {
            [a, b] => (std::slice::from_ref(a), std::slice::from_ref(b)),
            _ => (&self.a, &self.b),
        }
    }
}

/// "5s", "1m 30s"; more than nothing.
fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() {
        return Err("it must be more than nothing".to_owned());
    }
    Ok(time)
}

/// "40%", "40 %" or "0.4", as 0.4.
fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("\"{text}\" is no share: write 40% or 0.4"))?;
    let share = number / divisor;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("it must be from 0% to 100%".to_owned())
    }
}

/// A share that leaves something.
fn headroom(text: &str) -> Result<f64, String> {
    share(text).and_then(|share| {
        if share <= HEADROOM_MAX {
            Ok(share)
        } else {
            Err("at most 95% can stay free".to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn shares_are_percent_or_plain() {
        for (text, expected) in [
            ("40%", 0.4),
            ("40 %", 0.4),
            ("0.4", 0.4),
            ("0%", 0.0),
            ("100%", 1.0),
        ] {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for wrong in ["", "%", "x%", "-1%", "1.1", "inf"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sides_are_two_files_or_two_lists() {
        for (line, a, b) in [
            ("compare x y", 1, 1),
            ("compare --a x y --b z", 2, 1),
            ("compare --b z --anyway --a x y", 2, 1),
        ] {
            let line = format!("longhaul-bench {line}");
            let Command::Compare(args) = Cli::parse_from(line.split(' ')).command else {
                panic!()
            };
            let (of_a, of_b) = args.sides();
            assert_eq!((of_a.len(), of_b.len()), (a, b), "{line}");
        }
    }
}
