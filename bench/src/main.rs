//! Load generator and correctness checker for the Longhaul gateway.
//!
//! The main process starts the gateway if asked to, shows progress and writes the report. The load itself comes from
//! generator processes: this binary again, told what to do on standard input ([`worker`], [`job`], [`crew`]).
//!
//! - What is sent, and when: [`schedule`] (open loop, synthetic), [`timeline`] (a [`trace`]). Who watches: [`audience`].
//! - A generator: [`load`] (its loop), [`clients`] (what its connections say), [`hold`] (idle connections),
//!   [`storm::herd`] (all at once), [`churn::crowd`] (random lives), [`mixed::fleet`] (a day), [`events::publish`] and
//!   [`events::consume`] (events with QoS 1), on [`pool`], [`connection`], [`handshake`], [`frames`], [`position`], [`subscribe`] and [`token`].
//! - What other servers want around the same messages: [`dialect`].
//! - What arrived: [`checker`] on [`seen`], [`resume`] after a stop. What it cost: [`usage`], [`metrics`], [`outside`].
//!   What became of it: [`report`], [`checks`], on standard output by [`out`].
//! - The subcommands: [`fanout`], [`replay`], [`slow`], [`storm`], [`events`], [`mixed`] (through [`run`] and [`desk`]),
//!   [`idle`], [`curve`], [`churn`], [`attack`], [`tls`], [`peers`]; what the user sees: [`view`], [`live`].
//! - What becomes of results: [`provenance`] and [`seconds`] are in each of them; [`page`] and [`compare`] read them back,
//!   by [`results`] and [`figures`]. What they say of other sizes: [`calibrate`], [`capacity`].
#![forbid(unsafe_code)]
// `out!`, which bears a reader that goes away.
#![deny(clippy::print_stdout)]

mod attack;
mod audience;
mod calibrate;
mod capacity;
mod checker;
mod checks;
mod churn;
mod cli;
mod clients;
mod clock;
mod compare;
mod connection;
mod crew;
mod curve;
mod desk;
mod dialect;
mod events;
mod fanout;
mod figures;
mod frames;
mod gateway;
mod handshake;
mod hold;
mod idle;
mod job;
mod live;
mod load;
mod metrics;
mod mixed;
mod out;
mod outside;
mod page;
mod peers;
mod pool;
mod position;
mod process;
mod provenance;
mod replay;
mod report;
mod results;
mod resume;
mod run;
mod schedule;
mod seconds;
mod seen;
mod slow;
mod storm;
mod subscribe;
mod timeline;
mod tls;
mod token;
mod trace;
mod usage;
mod view;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::report::Report;

/// Ended by the user before there was anything to report, as shells put it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Worker => worker::run().map(|()| ExitCode::SUCCESS),
        Command::Accept => worker::accept().map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => with_signals(|interrupted| {
            Ok(conclude(
                replay::run(&args, interrupted)?,
                args.result.no_check,
            ))
        }),
        Command::Fanout(args) => with_signals(|interrupted| {
            Ok(conclude(
                fanout::run(&args, interrupted)?,
                args.result.no_check,
            ))
        }),
        Command::Idle(args) => with_signals(|interrupted| idle::run(&args, interrupted)),
        Command::Curve(args) => with_signals(|interrupted| curve::run(&args, interrupted)),
        Command::Churn(args) => with_signals(|interrupted| churn::run(&args, interrupted)),
        Command::Storm(args) => with_signals(|interrupted| storm::run(&args, interrupted)),
        Command::Slow(args) => with_signals(|interrupted| slow::run(&args, interrupted)),
        Command::Attack(args) => with_signals(|interrupted| attack::run(&args, interrupted)),
        Command::Tls(args) => with_signals(|interrupted| tls::run(&args, interrupted)),
        Command::Peers(args) => with_signals(|interrupted| peers::run(&args, interrupted)),
        Command::Events(args) => with_signals(|interrupted| events::run(&args, interrupted)),
        Command::Mixed(args) => with_signals(|interrupted| mixed::run(&args, interrupted)),
        Command::Calibrate(args) => with_signals(|interrupted| calibrate::run(&args, interrupted)),
        Command::Plan(args) => capacity::run(&args),
        Command::Report(args) => page::run(&args),
        Command::Compare(args) => compare::run(&args),
    };
    let written = out::finish();
    result
        .and_then(|code| written.map(|()| code))
        .unwrap_or_else(|error| {
            eprintln!("longhaul-bench: {error:#}");
            if error.is::<run::EndedByUser>() {
                ExitCode::from(INTERRUPTED)
            } else {
                ExitCode::FAILURE
            }
        })
}

fn with_signals(
    subcommand: impl FnOnce(&run::Interrupted) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    subcommand(&run::watch_signals()?)
}

fn conclude(report: Option<Report>, no_check: bool) -> ExitCode {
    let Some(report) = report else {
        return ExitCode::from(INTERRUPTED);
    };
    report.print();
    if report.passed || no_check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
