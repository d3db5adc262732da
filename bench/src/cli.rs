//! The command line.

use clap::{Parser, Subcommand};

use crate::peers::Peers;

mod after;
mod common;
mod curve;
mod loads;
mod misbehaving;
mod outside;

pub use after::{Calibrate, CompareArgs, PageArgs, PlanArgs};
pub use common::{
    ControlArgs, GatewayArgs, GeneratorArgs, ResultArgs, duration, not_negative, positive,
};
pub use curve::Curve;
pub use loads::{Events, Fanout, Idle, IdleRole, Mixed, Replay, Tls};
pub use misbehaving::{Attack, Churn, Slow, Storm};
pub use outside::OutsideArgs;

/// Load generator and correctness checker for the Longhaul gateway.
#[derive(Debug, Parser)]
#[command(name = "longhaul-bench", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// See each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay a trace with one WebSocket per vehicle, and check every delivery.
    Replay(Replay),
    /// Send updates of synthetic vehicles at a fixed rate, and check every delivery.
    Fanout(Fanout),
    /// Hold idle connections, and measure what they cost.
    Idle(Idle),
    /// Hold more and more connections, and see whether each costs the same.
    Curve(Curve),
    /// Stop some dashboards' processes, and see what they cost the others and the gateway.
    Slow(Slow),
    /// Connect many vehicles at once, several times, beside a load that must not notice.
    Storm(Storm),
    /// Let a fleet's clients come, go and misbehave, and see whether the gateway forgets them.
    Churn(Churn),
    /// Attack the gateway in every way that it knows bounds for, beside good clients that must not notice.
    Attack(Attack),
    /// Publish events that must arrive: how fast, how late, really on the disk, and replayed after a night.
    Events(Events),
    /// Let a fleet live a day in a minute: commuting peaks, tunnels, an outage, shifts, events; and check every delivery.
    Mixed(Mixed),
    /// What TLS costs: memory of idle connections, and handshakes, beside plain rustls.
    Tls(Tls),
    /// Measure what one of each thing costs on this machine, for `plan`.
    Calibrate(Calibrate),
    /// Say how many nodes a fleet takes, and what each must have, term by term.
    Plan(PlanArgs),
    /// Make one page of results, with plots, that needs nothing but a browser.
    Report(PageArgs),
    /// Show two results, or two sets of repeated runs, with ratios, and say which differences exceed the runs' noise.
    Compare(CompareArgs),
    /// Measure the gateway beside the servers that a user would pick instead.
    Peers(Peers),
    /// A generator process (started by the others).
    #[command(hide = true)]
    Worker,
    /// A listener that only accepts (started by `idle`).
    #[command(hide = true)]
    Accept,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_gateway_must_be_named() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("longhaul-bench fanout --spawn").is_ok());
        assert!(parse("longhaul-bench fanout --url ws://h:1 --key k").is_ok());
        assert!(
            parse("longhaul-bench slow --url ws://h:1 --key k --control 127.0.0.1:9401").is_ok()
        );
        for wrong in [
            "longhaul-bench fanout",
            "longhaul-bench fanout --url ws://h:1",
            "longhaul-bench fanout --spawn --url ws://h:1 --key k",
            "longhaul-bench fanout --spawn --seconds -1",
            "longhaul-bench fanout --spawn --seconds NaN",
            "longhaul-bench replay --spawn",
            "longhaul-bench fanout --spawn --watch some",
            "longhaul-bench churn --spawn --control 127.0.0.1:1",
            "longhaul-bench churn --url ws://h:1 --key k --control nowhere",
            "longhaul-bench storm --spawn --rounds 0",
            "longhaul-bench mixed --spawn --rate 0",
            "longhaul-bench plan --vehicles 10",
            "longhaul-bench plan --vehicles 0 --interval 5s",
            "longhaul-bench plan --vehicles 10 --interval 0s",
            "longhaul-bench plan --vehicles 10 --interval 5",
            "longhaul-bench plan --vehicles 10 --interval 5s --headroom 96%",
            "longhaul-bench plan --vehicles 10 --interval 5s --away 101%",
            "longhaul-bench plan --vehicles 10 --interval 5s --away NaN",
            "longhaul-bench calibrate",
            "longhaul-bench calibrate --json c.json --connections 20000",
            "longhaul-bench report r.json",
            "longhaul-bench report --html p.html",
            "longhaul-bench compare a.json",
            "longhaul-bench compare a.json b.json c.json",
            "longhaul-bench compare --a a.json",
            "longhaul-bench compare x.json y.json --a a.json --b b.json",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
