//! `longhaul-bench tls`: what TLS costs the gateway, beside what plain rustls costs on this machine in the same run.
//!
//! - [`trust`]: certificates, and who trusts them. [`wire`]: a client's socket with or without TLS, for every subcommand.
//! - [`handshakes`]: clients that do nothing else. [`bare`]: servers of plain rustls. [`report`]: what came of it.

mod bare;
mod handshakes;
mod report;
mod trust;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::audience::Watch;
use crate::cli::{GatewayArgs, Idle, IdleRole, OutsideArgs, Tls, duration};
use crate::gateway::Gateway;
use crate::idle::{self, IdleReport};
use crate::report::write_json;
use crate::run::{self, Interrupted};
use crate::usage;
use handshakes::{Clients, Made};
use report::{Handshakes, Memory, Rate, TlsReport};

pub use trust::{Certificate, Secure};
pub use wire::Wire;

/// Before each measurement: first times cost more.
const WARM_UP: Duration = Duration::from_millis(500);

/// Runs the subcommand.
///
/// # Errors
/// A gateway that does not start, handshakes that fail, or the user gave up.
pub fn run(args: &Tls, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    let report = measure(args, interrupted)?;
    report.print();
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(if report.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures, and shows nothing.
///
/// # Errors
/// As [`run`].
pub fn measure(args: &Tls, interrupted: &Interrupted) -> anyhow::Result<TlsReport> {
    let memory = match args.connections {
        0 => None,
        _ => Some(Memory {
            plain: idle(args, false, interrupted)?,
            tls: idle(args, true, interrupted)?,
        }),
    };
    let handshakes = match args.seconds {
        0.0 => Vec::new(),
        _ => [false, true]
            .into_iter()
            .map(|resumes| handshakes(args, resumes, interrupted))
            .collect::<anyhow::Result<_>>()?,
    };
    Ok(TlsReport::new(memory, handshakes))
}

/// What an idle vehicle costs.
fn idle(args: &Tls, tls: bool, interrupted: &Interrupted) -> anyhow::Result<IdleReport> {
    eprintln!("idle connections, {}", if tls { "TLS" } else { "plain" });
    let idle = Idle {
        rate: 0,
        vehicles: 1,
        dashboards: 0,
        load_seconds: 1.0,
        connections: args.connections,
        role: IdleRole::Vehicle,
        watch: Watch::Count(0),
        universe: 1,
        bare: false,
        settle: args.settle,
        seconds: 2.0,
        quiet_after_ms: 3_000,
        heartbeat_ms: None,
        gateway: gateway(args, None, tls),
        outside: OutsideArgs::default(),
        seed: 1,
        json: None,
    };
    idle::measure(&idle, interrupted)
}

/// What a handshake costs: the gateway with one shard, a server that is a socket and rustls, and rustls alone.
fn handshakes(args: &Tls, resumes: bool, interrupted: &Interrupted) -> anyhow::Result<Handshakes> {
    let kind = if resumes { "resumed" } else { "full" };
    eprintln!("{kind} handshakes");
    let time = duration(args.seconds);
    let gateway = run::gateway(
        &gateway(args, Some(1), true),
        usize::from(args.clients),
        Some(run::ALL_AT_ONCE.to_owned()),
    )?;
    let gateway_rate = of_gateway(&gateway, args, resumes, interrupted)?;
    drop(gateway);
    let folder = tempfile::TempDir::new()?;
    let certificate = Certificate::make(folder.path())?;
    let server = bare::Server::start(certificate.server()?)?;
    let clients = Clients {
        target: server.address,
        certificate: certificate.chain.clone(),
        resumes,
        count: args.clients,
    };
    clients.run(WARM_UP, interrupted)?;
    let (before, began) = (server.spent(), Instant::now());
    let made = clients.run(time, interrupted)?;
    let after = server.spent();
    let bare_socket = Rate::new(
        made.made(resumes)?,
        after.cpu_us - before.cpu_us,
        began.elapsed(),
    );
    drop(server);
    bare::in_memory(&certificate, resumes, WARM_UP)?;
    let in_memory = bare::in_memory(&certificate, resumes, time)?;
    Ok(Handshakes {
        kind,
        clients: args.clients,
        gateway: gateway_rate,
        bare_socket,
        in_memory,
    })
}

fn of_gateway(
    gateway: &Gateway,
    args: &Tls,
    resumes: bool,
    interrupted: &Interrupted,
) -> anyhow::Result<Rate> {
    let (Some(pid), Some(certificate)) = (gateway.pid, gateway.certificate.clone()) else {
        anyhow::bail!("the gateway was not started here");
    };
    let clients = Clients {
        target: gateway.target,
        certificate,
        resumes,
        count: args.clients,
    };
    clients.run(WARM_UP, interrupted)?;
    let (before, began) = (usage::cpu_us(pid)?, Instant::now());
    let made = clients.run(time_of(args), interrupted)?;
    let spent = usage::cpu_us(pid)? - before;
    let count = made.made(resumes)?;
    ensure!(spent > 0, "too few handshakes to measure");
    Ok(Rate::new(count, spent as f64, began.elapsed()))
}

fn time_of(args: &Tls) -> Duration {
    duration(args.seconds)
}

impl Made {
    /// How many of the wanted kind there were; all must be, but for the first of each client.
    fn made(&self, resumes: bool) -> anyhow::Result<u64> {
        ensure!(
            self.failed == 0,
            "{} handshakes failed: {}",
            self.failed,
            self.reasons.join("; ")
        );
        let (wanted, other) = if resumes {
            (self.resumed, self.full)
        } else {
            (self.full, self.resumed)
        };
        ensure!(
            other * 20 <= wanted,
            "{other} handshakes of {} were of the other kind",
            wanted + other
        );
        Ok(wanted + other)
    }
}

fn gateway(args: &Tls, shards: Option<u16>, tls: bool) -> GatewayArgs {
    GatewayArgs {
        spawn: true,
        url: None,
        key: None,
        pid: None,
        gateway: args.gateway.clone(),
        shards,
        tls,
        gateway_arg: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
